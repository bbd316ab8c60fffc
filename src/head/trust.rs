//! Whether a worker's failures are believed.
//!
//! What it is: the strikes against one worker, and for how long it is set aside. What it is not: the
//! doubted failures; those are in the scheduler's table until they are confirmed or overruled.
//!
//! A machine with a full disk or without a program answers every task with an error in no time, and
//! so gets more tasks than any other: it would eat the job. But many a job has tasks that fail,
//! quickly and rightly, and those are nobody's fault. So a fast failure is held back until its worker
//! has succeeded again; and only a long unbroken row of them, while most of what the others answer is
//! done, sets a worker aside. (If half of all tasks fail, a row of 16 is one in 65,536.)
//!
//! Invariant: a worker is set aside only while others succeed, or for what it says of itself.

use std::ops::Sub;

use crate::frame::Status;
use crate::limits::{ASIDE_MAX, ASIDE_MIN, FAULTS_MAX, STRIKES_MAX};
use crate::time::{Duration, Time};

/// Outcomes, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcomes {
    pub done: u64,
    pub failed: u64,
}

impl Outcomes {
    pub fn count(&mut self, status: Status) {
        match status {
            Status::Done => self.done += 1,
            Status::Failed | Status::TimedOut => self.failed += 1,
            Status::Returned => {}
        }
    }
}

impl Sub for Outcomes {
    type Output = Outcomes;

    fn sub(self, other: Outcomes) -> Outcomes {
        Outcomes {
            done: self.done - other.done,
            failed: self.failed - other.failed,
        }
    }
}

/// The strikes against one worker.
#[derive(Debug)]
pub(super) struct Trust {
    /// Fast failures since it last showed that it can work.
    failures: u32,
    /// What the other workers had answered when those began.
    elsewhere: Outcomes,
    /// Attempts it said it could not run, since then.
    faults: u32,
    /// It has shown that it can work, and was not set aside since.
    has_worked: bool,
    is_aside: bool,
    next_wait: Duration,
}

impl Trust {
    pub const fn new() -> Trust {
        Trust {
            failures: 0,
            elsewhere: Outcomes { done: 0, failed: 0 },
            faults: 0,
            has_worked: false,
            is_aside: false,
            next_wait: ASIDE_MIN,
        }
    }

    /// It ran a task: to an output, or long enough to have tried.
    #[inline(always)]
    pub fn worked(&mut self) {
        if !self.is_sound() {
            *self = Trust::new();
            self.has_worked = true;
        }
    }

    /// Whether it has shown that it can work and nothing else since.
    #[inline(always)]
    pub fn is_sound(&self) -> bool {
        self.has_worked && self.failures == 0 && self.faults == 0
    }

    /// It failed a task in no time.
    pub fn failed_fast(&mut self, elsewhere: Outcomes) {
        if self.failures == 0 {
            self.elsewhere = elsewhere;
        }
        self.failures += 1;
    }

    /// It could not run a task.
    pub fn could_not_run(&mut self) {
        self.faults += 1;
    }

    /// Whether it should be set aside.
    pub fn is_broken(&self, elsewhere: Outcomes) -> bool {
        let since = elsewhere - self.elsewhere;
        let others_succeed = since.done > 0 && since.done >= since.failed;
        self.faults >= FAULTS_MAX || (self.failures >= STRIKES_MAX && others_succeed)
    }

    /// Whether its latest answers were fast failures.
    pub fn is_suspected(&self) -> bool {
        self.failures > 0
    }

    /// Whether its latest answers were too few failures to doubt what it has shown before.
    pub fn is_credible(&self) -> bool {
        self.has_worked && self.failures < STRIKES_MAX / 2
    }

    /// Whether it is set aside now.
    pub fn is_aside(&self) -> bool {
        self.is_aside
    }

    /// Sets it aside; returns until when.
    pub fn set_aside(&mut self, now: Time) -> Time {
        let until = now + self.next_wait;
        self.is_aside = true;
        self.has_worked = false;
        self.next_wait = (self.next_wait * 2).min(ASIDE_MAX);
        until
    }

    /// It gets another chance: one strike and it is out again.
    pub fn try_again(&mut self, elsewhere: Outcomes) {
        self.is_aside = false;
        self.failures = STRIKES_MAX - 1;
        self.faults = FAULTS_MAX - 1;
        self.elsewhere = elsewhere;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(done: u64, failed: u64) -> Outcomes {
        Outcomes { done, failed }
    }

    #[test]
    fn set_aside_only_while_others_succeed() {
        let mut trust = Trust::new();
        for _ in 1..STRIKES_MAX {
            trust.failed_fast(outcomes(5, 9));
        }
        assert!(!trust.is_broken(outcomes(99, 9)), "not yet");
        trust.failed_fast(outcomes(50, 9));
        assert!(!trust.is_broken(outcomes(5, 9)), "the others do nothing");
        assert!(!trust.is_broken(outcomes(8, 13)), "the others fail, too");
        assert!(trust.is_broken(outcomes(8, 10)));
        let now = Time::ZERO;
        assert_eq!(trust.set_aside(now), now + ASIDE_MIN);
        trust.try_again(outcomes(9, 9));
        assert!(!trust.is_broken(outcomes(20, 9)));
        trust.failed_fast(outcomes(9, 9));
        assert!(trust.is_broken(outcomes(20, 9)));
        assert_eq!(trust.set_aside(now), now + ASIDE_MIN * 2);
        trust.worked();
        assert_eq!(trust.set_aside(now), now + ASIDE_MIN);
    }

    #[test]
    fn set_aside_for_what_it_says_of_itself() {
        let mut trust = Trust::new();
        (0..FAULTS_MAX).for_each(|_| trust.could_not_run());
        assert!(trust.is_broken(outcomes(0, 0)));
    }

    #[test]
    fn a_few_failures_after_success_are_believed() {
        let mut trust = Trust::new();
        trust.failed_fast(outcomes(0, 0));
        assert!(!trust.is_credible(), "it has shown nothing yet");
        trust.worked();
        for _ in 1..STRIKES_MAX / 2 {
            trust.failed_fast(outcomes(0, 0));
        }
        assert!(trust.is_credible());
        trust.failed_fast(outcomes(0, 0));
        assert!(!trust.is_credible());
    }
}
