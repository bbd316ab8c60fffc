//! What has failed and is tried again.
//!
//! What it is: how often each open task has failed, and what becomes of a failure that is not the
//! last. What it is not: a loss of a worker; that is nobody's answer (`loss.rs`).
//!
//! Only the latest attempt of a task uses up a retry: while another is under way, that one is it.
//!
//! Invariant: a task that is recorded as failed by a worker has failed once more than it may be
//! retried.

use std::collections::BTreeMap;

use super::entry::Times;
use super::{Scheduler, Verdict};
use crate::frame::Status;
use crate::payload::Payload;
use crate::role::Attempt;

/// How often tasks have failed.
#[derive(Debug, Default)]
pub(super) struct Retries {
    /// So often one may fail and is tried again (`--retries`).
    max: u32,
    /// By task, of those that are open and have failed.
    failures: BTreeMap<u64, u32>,
}

impl Retries {
    fn are_left(&self, task: u64) -> bool {
        self.max > self.failures.get(&task).copied().unwrap_or(0)
    }

    /// Whether no open task has failed.
    pub fn is_empty(&self) -> bool {
        self.failures.is_empty()
    }

    /// A task has its outcome.
    #[inline(always)]
    pub fn forget(&mut self, task: u64) {
        if !self.failures.is_empty() {
            self.failures.remove(&task);
        }
    }
}

impl Scheduler {
    /// From now on a task that fails is tried again, up to `max` times.
    pub fn retrying(mut self, max: u32) -> Scheduler {
        self.retries.max = max;
        self
    }

    /// An attempt has failed: has the task tried again, if it may be. Else `None`, and nothing is
    /// done.
    #[cold]
    pub(super) fn retry(&mut self, worker: u32, attempt: Attempt) -> Option<Verdict> {
        if !self.retries.are_left(attempt.task) {
            return None;
        }
        let left = self.leave_unanswered(worker, attempt);
        Some(match left {
            Ok(_) => {
                self.fail_once_more(attempt.task);
                Verdict::Counted
            }
            Err(verdict) => verdict,
        })
    }

    /// A failure that was doubted is the task's own.
    pub(super) fn confirm_one(&mut self, task: u64, worker: u32, reason: &Payload, times: Times) {
        match self.retries.are_left(task) {
            true => self.fail_once_more(task),
            false => self.settle(task, worker, Status::Failed, reason.lend(), times),
        }
    }

    fn fail_once_more(&mut self, task: u64) {
        *self.retries.failures.entry(task).or_default() += 1;
        self.make_ready(task);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Time;

    const NOW: Time = Time::ZERO;

    fn scheduler(workers: usize, retries: u32) -> Scheduler {
        let mut scheduler = Scheduler::new(workers, true, 3).retrying(retries);
        scheduler.add(b"input");
        scheduler
    }

    fn answer(
        scheduler: &mut Scheduler,
        worker: u32,
        number: u32,
        status: Status,
        output: &[u8],
    ) -> Verdict {
        let attempt = Attempt { task: 0, number };
        let verdict = scheduler.answer(worker, attempt, status, output.into(), 0, NOW);
        scheduler.check();
        verdict
    }

    #[test]
    fn the_last_failure_is_the_answer() {
        for (retries, status) in [
            (0, Status::Failed),
            (1, Status::TimedOut),
            (2, Status::Failed),
        ] {
            let mut scheduler = scheduler(1, retries);
            for number in 1..=retries + 1 {
                assert!(scheduler.next_answer().is_none());
                assert_eq!(scheduler.assign(0, 0, NOW).0.number, number);
                let reason = number.to_string();
                let verdict = answer(&mut scheduler, 0, number, status, reason.as_bytes());
                assert_eq!(verdict, Verdict::Counted);
            }
            let reason = (retries + 1).to_string();
            assert_eq!(
                &scheduler.next_answer().unwrap().output[..],
                reason.as_bytes()
            );
            assert_eq!(scheduler.failed(), 1);
            assert!(scheduler.retries.failures.is_empty());
        }
    }

    #[test]
    fn a_success_after_a_failure_is_the_answer() {
        let mut scheduler = scheduler(1, 1);
        scheduler.assign(0, 0, NOW);
        answer(&mut scheduler, 0, 1, Status::Failed, b"no");
        scheduler.assign(0, 0, NOW);
        answer(&mut scheduler, 0, 2, Status::Done, b"yes");
        assert_eq!(&scheduler.next_answer().unwrap().output[..], b"yes");
        assert_eq!(scheduler.failed(), 0);
        assert!(scheduler.retries.failures.is_empty());
    }

    #[test]
    fn what_was_doubted_is_tried_again_once_it_is_believed() {
        let mut scheduler = scheduler(1, 1);
        for number in 1..=2 {
            scheduler.assign(0, 0, NOW);
            let attempt = Attempt { task: 0, number };
            scheduler.doubt(0, attempt, b"no", 0, NOW);
            assert_eq!(scheduler.confirm(0), 1);
            scheduler.check();
        }
        assert_eq!(&scheduler.next_answer().unwrap().output[..], b"no");
    }

    #[test]
    fn while_another_attempt_is_under_way_a_failure_is_late() {
        let mut scheduler = scheduler(2, 1);
        scheduler.assign(0, 0, NOW);
        scheduler.duplicate(0, 1, NOW);
        assert_eq!(
            answer(&mut scheduler, 0, 1, Status::Failed, b"no"),
            Verdict::Late
        );
        assert_eq!(
            answer(&mut scheduler, 1, 2, Status::Failed, b"no"),
            Verdict::Counted
        );
        assert_eq!(scheduler.counts().ready, 1);
        assert_eq!(scheduler.assign(0, 1, NOW).0.number, 3);
        assert_eq!(
            answer(&mut scheduler, 1, 3, Status::Failed, b"end"),
            Verdict::Counted
        );
        assert_eq!(&scheduler.next_answer().unwrap().output[..], b"end");
    }
}
