//! Whether a worker's failures are believed.
//!
//! What it is: the strikes against one worker, and for how long it is set aside. What it is not: the
//! doubted failures; those are in the scheduler's table until they are confirmed or overruled.
//!
//! A machine with a full disk or without a program answers every task with an error in no time, and
//! so gets more tasks than any other: it would eat the job. Therefore a failure that comes fast counts
//! only when its worker has shown that it can also succeed, or that nobody else can.
//!
//! Invariant: a worker is set aside only while others succeed, or for what it says of itself.

use crate::limits::{ASIDE_MAX, ASIDE_MIN, STRIKES_MAX};
use crate::time::{Duration, Time};

/// The strikes against one worker.
#[derive(Debug)]
pub(super) struct Trust {
    /// Fast failures since it last showed that it can work.
    failures: u32,
    /// How many tasks the other workers had done when those began.
    done_elsewhere: u64,
    /// Attempts it said it could not run, since then.
    faults: u32,
    is_aside: bool,
    next_wait: Duration,
}

impl Trust {
    pub const fn new() -> Trust {
        Trust {
            failures: 0,
            done_elsewhere: 0,
            faults: 0,
            is_aside: false,
            next_wait: ASIDE_MIN,
        }
    }

    /// It ran a task: to an output, or long enough to have tried.
    pub fn worked(&mut self) {
        *self = Trust::new();
    }

    /// It failed a task in no time.
    pub fn failed_fast(&mut self, done_elsewhere: u64) {
        if self.failures == 0 {
            self.done_elsewhere = done_elsewhere;
        }
        self.failures += 1;
    }

    /// It could not run a task.
    pub fn could_not_run(&mut self) {
        self.faults += 1;
    }

    /// Whether it should be set aside.
    pub fn is_broken(&self, done_elsewhere: u64) -> bool {
        let others_succeed = done_elsewhere > self.done_elsewhere;
        self.faults >= STRIKES_MAX || (self.failures >= STRIKES_MAX && others_succeed)
    }

    /// Whether its latest answers were fast failures.
    pub fn is_suspected(&self) -> bool {
        self.failures > 0
    }

    /// Whether it is set aside now.
    pub fn is_aside(&self) -> bool {
        self.is_aside
    }

    /// Sets it aside; returns until when.
    pub fn set_aside(&mut self, now: Time) -> Time {
        let until = now + self.next_wait;
        self.is_aside = true;
        self.next_wait = (self.next_wait * 2).min(ASIDE_MAX);
        until
    }

    /// It gets another chance: one strike and it is out again.
    pub fn try_again(&mut self, done_elsewhere: u64) {
        self.is_aside = false;
        self.failures = STRIKES_MAX - 1;
        self.faults = STRIKES_MAX - 1;
        self.done_elsewhere = done_elsewhere;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_aside_only_while_others_succeed() {
        let mut trust = Trust::new();
        for _ in 0..10 {
            trust.failed_fast(5);
        }
        assert!(!trust.is_broken(5), "all fail: the job is bad");
        assert!(trust.is_broken(6));
        let now = Time::ZERO;
        assert_eq!(trust.set_aside(now), now + ASIDE_MIN);
        trust.try_again(9);
        assert!(!trust.is_broken(20));
        trust.failed_fast(9);
        assert!(trust.is_broken(20));
        assert_eq!(trust.set_aside(now), now + ASIDE_MIN * 2);
        trust.worked();
        assert_eq!(trust.set_aside(now), now + ASIDE_MIN);
    }

    #[test]
    fn set_aside_for_what_it_says_of_itself() {
        let mut trust = Trust::new();
        (0..STRIKES_MAX).for_each(|_| trust.could_not_run());
        assert!(trust.is_broken(0));
    }
}
