//! The end of a run is not decided by its slowest part.
//!
//! What it is: what the head does while workers are idle and no task is left to be sent: it has
//! attempts that wait elsewhere handed back, and runs late ones twice. What it is not: the choice of
//! the attempt; that is the scheduler's.
//!
//! An attempt is late if it has run for half as long again as one usually does, or if its worker does
//! not even answer a `Ping`: so the last task on a machine that stopped is not waited for until that
//! machine counts as lost. A wrong guess costs only time that nobody needed.
//!
//! Invariant: no task runs twice here if that is not wanted (`--no-duplicates`, and any `map`).

use log::info;

use super::link::State;
use super::{Head, Relief, Timer};
use crate::frame::{Frame, Task};
use crate::kernel::Workload;
use crate::limits::{LATE_AFTER_MIN, PING_AFTER, PROBE_WAIT_MIN};
use crate::role::Sink;
use crate::time::{Duration, Time};

impl<W: Workload> Head<W> {
    /// Tells workers which attempts they need not run.
    pub(super) fn cancel(&mut self, out: &mut impl Sink) {
        while let Some((index, attempt)) = self.scheduler.next_cancel() {
            // It is a courtesy: where there is no room for it the attempt just runs to its end.
            if let State::Up(session) = &mut self.links[index as usize].state
                && session.has_room(1, 0, 0)
            {
                let running = true;
                session.send(Frame::Cancel { attempt, running }, out);
            }
        }
    }

    /// Gives idle workers what others hold.
    pub(super) fn relieve(&mut self, now: Time, out: &mut impl Sink) {
        if std::mem::take(&mut self.is_tail) {
            self.timers.cancel(Timer::Tail);
        }
        let counts = self.scheduler.counts();
        let is_more_to_send = counts.ready > 0 || self.has_next();
        let is_alone = self.links.len() == 1;
        let relief = self.config.relief;
        if relief == Relief::None || is_alone || is_more_to_send || counts.in_flight == 0 {
            return;
        }
        self.scheduler.prune_long();
        let probe_at = self.probe(now, out);
        self.recall(now, out);
        let indices = 0..self.links.len() as u32;
        let late_at = match relief {
            Relief::Duplicate => self.duplicate_late(now, out),
            Relief::None | Relief::HandBack => {
                let askable_at = (indices.clone()).filter_map(|index| self.askable_at(index));
                askable_at.filter(|&at| at > now).min()
            }
        };
        // Until somebody is idle nobody could take over what is late, and whatever makes one idle is
        // an event: there is nothing to wake up for.
        let is_idle = |index| self.idle_slots(index, now) > 0;
        let late_at = late_at.filter(|_| indices.clone().any(is_idle));
        let recalled_at = indices.filter_map(|index| self.recalled_until(index));
        let recalled_at = recalled_at.filter(|&at| at > now).min();
        if let Some(at) = [probe_at, late_at, recalled_at].into_iter().flatten().min() {
            self.is_tail = true;
            self.timers.set(Timer::Tail, at);
        }
    }

    /// How long an attempt may run before it is late; `None` while nobody knows.
    fn late_after(&self) -> Option<Duration> {
        let typical = self.scheduler.typical_run();
        typical.map(|run| (run * 3 / 2).max(LATE_AFTER_MIN))
    }

    /// How long a worker may take to answer a probe.
    fn probe_wait(&self) -> Duration {
        let typical = self.scheduler.typical_run();
        typical.map_or(PING_AFTER, |run| {
            (run / 4).clamp(PROBE_WAIT_MIN, PING_AFTER)
        })
    }

    /// Asks the workers that hold what is not late yet for a sign of life; says when to look again.
    /// For what runs for hours nobody is asked oftener than otherwise.
    fn probe(&mut self, now: Time, out: &mut impl Sink) -> Option<Time> {
        let wait = self.probe_wait();
        let late_after = self.late_after()?;
        let mut next: Option<Time> = None;
        for (index, link) in self.links.iter_mut().enumerate() {
            let State::Up(session) = &mut link.state else {
                continue;
            };
            let held = self.scheduler.longest_held(index as u32);
            let is_early = held.is_some_and(|(.., since)| now < since + late_after);
            if !is_early || session.silence.is_lost() {
                continue;
            }
            if session.probed_at.is_none()
                && session.silence.since() + wait <= now
                && session.has_room(1, 0, 0)
            {
                session.probed_at = Some(now);
                session.send(Frame::Ping, out);
            }
            let at = session.probed_at.unwrap_or(session.silence.since()) + wait;
            if at > now {
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        }
        next
    }

    /// Whether a worker has not answered its probe.
    fn is_mute(&self, index: u32, now: Time) -> bool {
        let session = self.links[index as usize].session();
        let probed_at = session.and_then(|session| session.probed_at);
        probed_at.is_some_and(|at| at + self.probe_wait() <= now)
    }

    /// Slots of a worker that have nothing to do.
    fn idle_slots(&self, index: u32, now: Time) -> u32 {
        if !self.may_send(index) || self.is_mute(index, now) {
            return 0;
        }
        let slots = u32::from(self.links[index as usize].slots);
        let slots = self.scheduler.depth(index, slots, slots);
        slots.saturating_sub(self.scheduler.held_tasks(index))
    }

    /// Idle slots for which nothing is on its way back.
    fn spare_slots(&self, now: Time) -> u32 {
        let indices = 0..self.links.len() as u32;
        let idle: u32 = (indices.clone())
            .map(|index| self.idle_slots(index, now))
            .sum();
        let coming = indices.filter(|&index| self.recalled_until(index).is_some_and(|at| at > now));
        let coming: u32 = coming.map(|index| self.scheduler.recalled(index)).sum();
        idle.saturating_sub(coming)
    }

    /// Until when a worker is expected to hand back what it was asked for.
    fn recalled_until(&self, index: u32) -> Option<Time> {
        let session = self.links[index as usize].session()?;
        let is_asked = self.scheduler.recalled(index) > 0;
        is_asked.then_some(session.recalled_at + LATE_AFTER_MIN)
    }

    /// Has attempts handed back that have not started, one for each idle slot, first by the worker
    /// with most of them per slot.
    fn recall(&mut self, now: Time, out: &mut impl Sink) {
        for _ in 0..self.spare_slots(now) {
            let indices = 0..self.links.len() as u32;
            let waiting = indices.filter_map(|index| Some((index, self.recallable(index, now)?)));
            let Some((index, task)) = waiting.max_by_key(|&(index, _)| self.load(index)) else {
                return;
            };
            let attempt = self.scheduler.recall(task, index);
            let State::Up(session) = &mut self.links[index as usize].state else {
                unreachable!("it was asked for what it holds");
            };
            session.recalled_at = now;
            let running = false;
            session.send(Frame::Cancel { attempt, running }, out);
        }
    }

    /// A task that waits at a worker which can be told to hand it back, and that an idle one has
    /// room for.
    fn recallable(&self, index: u32, now: Time) -> Option<u64> {
        let link = &self.links[index as usize];
        if !link.session()?.has_room(1, 0, 0) || self.is_mute(index, now) {
            return None;
        }
        let running = match self.askable_at(index) {
            Some(at) if at <= now => 0,
            _ => link.slots.into(),
        };
        let (task, input_bytes) = self.scheduler.recallable(index, running)?;
        self.idle_worker(index, input_bytes, now).map(|_| task)
    }

    /// When to ask a worker also for what its slots should have begun: they may be busy for another
    /// head. What runs is not given up for being asked for. (Where it may run twice, it does instead.)
    fn askable_at(&self, index: u32) -> Option<Time> {
        if self.config.relief != Relief::HandBack {
            return None;
        }
        let (.., since) = self.scheduler.longest_held(index)?;
        Some(since + self.late_after().unwrap_or(LATE_AFTER_MIN))
    }

    /// What a worker holds per slot, in 65,536ths of an attempt.
    fn load(&self, index: u32) -> u64 {
        let held = self.scheduler.held_tasks(index) - self.scheduler.recalled(index);
        (u64::from(held) << 16) / u64::from(self.links[index as usize].slots.max(1))
    }

    /// Runs late attempts a second time, as far as there are spare slots; says when to look again.
    /// A task that takes long wherever it runs takes two slots then: as long as the job has others,
    /// which a full window holds up, only what a mute worker holds is late.
    fn duplicate_late(&mut self, now: Time, out: &mut impl Sink) -> Option<Time> {
        let mut next: Option<Time> = None;
        let late_after = self.late_after().filter(|_| self.exhausted);
        for from in 0..self.links.len() as u32 {
            let is_mute = self.is_mute(from, now);
            while let Some((task, input_bytes, since)) = self.scheduler.longest_held(from) {
                let late_at = match (is_mute, late_after) {
                    (true, _) => now,
                    (false, Some(late_after)) => since + late_after,
                    (false, None) => break,
                };
                if late_at > now {
                    next = Some(next.map_or(late_at, |next| next.min(late_at)));
                    break;
                }
                let to = self.idle_worker(from, input_bytes, now);
                let Some(to) = to.filter(|_| self.spare_slots(now) > 0) else {
                    break;
                };
                self.duplicate(task, from, to, now, out);
            }
        }
        next
    }

    fn duplicate(&mut self, task: u64, from: u32, to: u32, now: Time, out: &mut impl Sink) {
        info!(
            "task {task} is late at worker {}; worker {} tries it, too",
            self.links[from as usize].name, self.links[to as usize].name
        );
        let (attempt, input) = self.scheduler.duplicate(task, to, now);
        let State::Up(session) = &mut self.links[to as usize].state else {
            unreachable!("an idle worker is up");
        };
        session.send(Frame::Task(Task { attempt, input }), out);
    }

    /// A worker other than `from` with an idle slot and room for such an input.
    fn idle_worker(&self, from: u32, input_bytes: usize, now: Time) -> Option<u32> {
        let count = self.links.len();
        (0..count)
            .map(|i| ((self.first_link + i) % count) as u32)
            .find(|&to| {
                let held = self.scheduler.held_tasks(to);
                let held_bytes = self.scheduler.held_bytes(to);
                let session = self.links[to as usize].session();
                to != from
                    && self.idle_slots(to, now) > 0
                    && session.is_some_and(|session| {
                        held < session.credit_tasks
                            && session.has_room(held, held_bytes, input_bytes)
                    })
            })
    }
}
