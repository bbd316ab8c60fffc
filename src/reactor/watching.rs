//! Telling others how the run stands.
//!
//! What it is: the part of the reactor that asks the role for an overview while a progress line is
//! wanted. What it is not: the line.
//!
//! Invariant: where none is wanted there is no deadline.

use super::{Deadline, Reactor};
use crate::progress::Progress;
use crate::role::Role;
use crate::time::Time;

impl Reactor {
    /// Has the run's progress told from its beginning on.
    pub fn set_progress(&mut self, progress: Progress) {
        let first = Time::ZERO + progress.first();
        self.timers.set(Deadline::Redraw, first);
        self.progress = Some(progress);
    }

    /// What the time is for the role.
    pub fn now(&self) -> Time {
        Time::ZERO + self.start.elapsed()
    }

    pub(super) fn tell_progress(&mut self, role: &impl Role, now: Time) {
        if let (Some(progress), Some(overview)) = (&self.progress, role.overview(now)) {
            let wait = progress.tell(&overview);
            self.timers.set(Deadline::Redraw, now + wait);
        }
    }
}
