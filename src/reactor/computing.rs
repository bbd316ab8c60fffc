//! What stands between the loop and the pool.
//!
//! What it is: the turn's commands on their way to the pool, its reports on their way to the role,
//! and the time from one to the other. What it is not: the pool.
//!
//! Invariant: the pool's lock is taken twice a turn, once for all reports and once for all commands
//! (and a third time if writing made the role say something).

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::Reactor;
use crate::gauge::Gauge;
use crate::limits::{USAGE_INTERVAL, USAGE_PART, USAGE_PAUSE};
use crate::pool::Pool;
use crate::role::{Event, Role};
use crate::time::{Duration, Time};

impl Reactor {
    /// Starts a pool for the role's submissions.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn start_pool(&mut self, slots: u16) -> io::Result<()> {
        self.pool = Some(Pool::new(slots, Arc::clone(&self.waker))?);
        Ok(())
    }

    /// When the pool must be asked for reports, whether or not it says that it has any.
    pub(super) fn next_check(&self) -> Option<Time> {
        let at = self.pool.as_ref()?.next_check()?;
        Some(Time::ZERO + at.saturating_duration_since(self.start))
    }

    pub(super) fn take_reports(&mut self, role: &mut impl Role, now: Time) {
        let at = self.instant(now);
        if let Some(pool) = &mut self.pool {
            pool.take(&mut self.reports, at);
            self.measure(role, now);
        }
        let mut reports = std::mem::take(&mut self.reports);
        role.handle_completed(reports.finished.as_slice(), now, &mut self.outlet());
        reports.finished.clear();
        for (count, hung) in reports.slots.drain(..) {
            role.handle(Event::Slots { count, hung }, now, &mut self.outlet());
        }
        self.reports = reports;
    }

    /// Has this process look at what it has of its machine from now on.
    pub fn set_gauge(&mut self, gauge: Option<Gauge>) {
        self.gauge = gauge;
    }

    /// Processor time of this process since its gauge was made, if the system tells it.
    pub fn cpu(&self) -> Option<Duration> {
        self.gauge.as_ref()?.cpu()
    }

    /// When the role is to be told next of what this process has had; never while it is idle.
    pub(super) fn next_measure(&self, role: &impl Role) -> Option<Time> {
        let is_wanted = self.gauge.is_some() && role.awaited() > 0;
        is_wanted.then_some(self.measured_at + USAGE_INTERVAL)
    }

    /// Tells the role of it if it is time to, before the reports are told: who has got its last
    /// outcome may read nothing that comes behind it.
    fn measure(&mut self, role: &mut impl Role, now: Time) {
        let awaited = role.awaited();
        let wait = match self.reports.finished.len() < awaited {
            true => USAGE_INTERVAL,
            false => self.measure_pause,
        };
        if awaited > 0
            && now >= self.measured_at + wait
            && let Some(gauge) = &mut self.gauge
        {
            let begun = Instant::now();
            let usage = gauge.read();
            self.measured_at = now;
            self.measure_pause = USAGE_PAUSE.max(begun.elapsed() * USAGE_PART);
            role.handle(Event::Measured(usage), now, &mut self.outlet());
        }
    }

    /// Gives the pool the turn's commands, under one lock.
    pub(super) fn submit(&mut self, now: Time) {
        let at = self.instant(now);
        if let Some(pool) = &mut self.pool {
            pool.apply(&mut self.notes.pool, &mut self.notes.spare, at);
        }
    }

    fn instant(&self, now: Time) -> Instant {
        self.start + now.since(Time::ZERO)
    }
}
