//! What idle workers take over from busy ones.
//!
//! What it is: which attempt a worker is asked to hand back before it starts, which one is run twice
//! because it is late, and who is told that his was in vain. What it is not: a clock that decides
//! when; the head asks, once nothing is left to be sent.
//!
//! A second attempt of a task that was ever blamed for a loss would only kill a second worker: there
//! is none. (Dean and Ghemawat, *MapReduce*, 2004, §3.6 has the idea of backup tasks.)
//!
//! An attempt that fails while another runs is not counted, so there must be an end to the others:
//! where answers take longer than lateness allows, a task that always fails would be tried for ever.
//!
//! Invariant: a task has at most two attempts for its lateness at a time, and a third only after it
//! was ready again or the older one's worker was lost. The older is the twin in `twins`, and both are
//! on the account of whoever holds them.

use super::entry::State;
use super::{Attempt, Scheduler};
use crate::payload::Bytes;
use crate::time::{Duration, Time};

/// A running median of how long attempts take: a mean would follow the very stragglers that it is to
/// find.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Typical {
    run_us: Option<u32>,
}

impl Typical {
    /// Moves a sixteenth of the way towards an attempt's time, whatever its distance.
    #[inline(always)]
    pub fn note(&mut self, run_us: u32) {
        let typical_us = *self.run_us.get_or_insert(run_us);
        let step_us = (typical_us / 16).max(1);
        self.run_us = Some(match run_us.cmp(&typical_us) {
            std::cmp::Ordering::Less => typical_us - step_us.min(typical_us),
            std::cmp::Ordering::Equal => typical_us,
            std::cmp::Ordering::Greater => typical_us.saturating_add(step_us),
        });
    }
}

impl Scheduler {
    /// How long an attempt usually runs; `None` before the first was done.
    pub fn typical_run(&self) -> Option<Duration> {
        let run_us = self.typical.run_us?;
        Some(Duration::from_micros(run_us.into()))
    }

    /// Attempts that `worker` was asked to hand back and has not answered.
    pub fn recalled(&self, worker: u32) -> u32 {
        self.seats[worker as usize].recalled
    }

    /// Whether `worker` was told that it need not run an attempt.
    pub fn is_unwanted(&self, worker: u32, attempt: Attempt) -> bool {
        let Attempt { task, number } = attempt;
        if let Some(orphan) = self.seats[worker as usize].orphans.get(&attempt) {
            return orphan.is_cancelled;
        }
        let entry = self.table.get(task);
        entry.is_some_and(|entry| entry.attempt == number && entry.is_recalled)
    }

    /// The youngest task that waits at `worker` behind those its `slots` run, and could wait
    /// elsewhere, with the length of its input.
    pub fn recallable(&self, worker: u32, slots: u32) -> Option<(u64, usize)> {
        let seat = &self.seats[worker as usize];
        if seat.tasks <= slots + seat.recalled {
            return None;
        }
        seat.sent.iter().rev().find_map(|task| {
            let entry = self.table.get(task)?;
            let is_candidate = entry.is_at(worker) && !entry.is_recalled && !entry.is_careful;
            is_candidate.then_some((task, entry.payload.len()))
        })
    }

    /// `worker` is asked to hand back the latest attempt of such a task.
    pub fn recall(&mut self, task: u64, worker: u32) -> Attempt {
        assert!(self.table.is_at(task, worker), "it is recallable");
        let entry = self.table.get_mut(task).expect("it is in flight");
        entry.is_recalled = true;
        self.seats[worker as usize].recalled += 1;
        let number = entry.attempt;
        Attempt { task, number }
    }

    /// The task that `worker` has had longest, of those that may be run elsewhere, too, with the
    /// length of its input and the time since when it must have been running.
    pub fn longest_held(&self, worker: u32) -> Option<(u64, usize, Time)> {
        let seat = &self.seats[worker as usize];
        seat.sent.iter().find_map(|task| {
            let entry = self.table.get(task)?;
            let sent_at = entry.sent_to(worker)?;
            let is_candidate = !entry.is_careful
                && !entry.blame.is_any()
                && !entry.is_doubled
                && !self.twins.contains_key(&task);
            let since = sent_at.max(seat.answered_at);
            is_candidate.then_some((task, entry.payload.len(), since))
        })
    }

    /// Makes a second attempt of a task in flight and gives it to `worker`. The first outcome counts.
    pub fn duplicate(&mut self, task: u64, worker: u32, now: Time) -> (Attempt, Bytes<'_>) {
        let entry = self.table.get(task).expect("it is in flight");
        let State::InFlight { worker: first, .. } = entry.state else {
            unreachable!("only what is in flight is late");
        };
        assert_ne!(first, worker, "another worker may be faster");
        let seat = &mut self.seats[first as usize];
        let older = seat.make_orphan(task, entry);
        seat.forget(task);
        let is_only = self.twins.insert(task, (first, older)).is_none();
        assert!(is_only, "two at a time");
        let entry = self.table.get_mut(task).expect("it is in flight");
        entry.is_doubled = true;
        self.send(task, worker, now)
    }

    /// The next attempt that is held in vain, and who holds it.
    pub fn next_cancel(&mut self) -> Option<(u32, Attempt)> {
        self.cancels.pop()
    }

    /// A task has its outcome: the older of two attempts, if it is still held, was in vain.
    #[inline(always)]
    pub(super) fn cancel_twin(&mut self, task: u64) {
        if !self.twins.is_empty()
            && let Some((worker, attempt)) = self.twins.remove(&task)
        {
            self.cancel(worker, attempt);
        }
    }

    /// An attempt that no longer stands for its task is not needed.
    pub(super) fn cancel(&mut self, worker: u32, attempt: Attempt) {
        let orphans = &mut self.seats[worker as usize].orphans;
        if let Some(orphan) = orphans.get_mut(&attempt) {
            orphan.is_cancelled = true;
            self.cancels.push((worker, attempt));
        }
    }

    /// The older of two attempts came to nothing; there may be another.
    pub(super) fn forget_twin(&mut self, worker: u32, attempt: Attempt) {
        if self.twins.get(&attempt.task) == Some(&(worker, attempt)) {
            self.twins.remove(&attempt.task);
        }
    }

    /// `worker` is not counted on for its older attempts any more; returns whose they were.
    pub(super) fn end_twins(&mut self, worker: u32) -> Vec<u64> {
        let mut tasks = Vec::new();
        self.twins.retain(|&task, &mut (holder, _)| {
            if holder == worker {
                tasks.push(task);
            }
            holder != worker
        });
        for &task in &tasks {
            self.table.get_mut(task).expect("it is undone").is_doubled = false;
        }
        tasks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Status;
    use crate::scheduler::{Loss, Pick, Verdict};

    const NOW: Time = Time::ZERO;
    const SLOTS: u32 = 2;

    /// Two workers and so many tasks, of which worker 0 holds all.
    fn scheduler(tasks: u8) -> Scheduler {
        let mut scheduler = Scheduler::new(2, true, 3);
        for task in 0..tasks {
            scheduler.add(&[task]);
            scheduler.assign(task.into(), 0, NOW);
        }
        scheduler
    }

    fn attempt(task: u64, number: u32) -> Attempt {
        Attempt { task, number }
    }

    fn answer(scheduler: &mut Scheduler, worker: u32, attempt: Attempt) -> Verdict {
        let verdict = scheduler.answer(worker, attempt, Status::Done, b"!".into(), 1000, NOW);
        scheduler.check();
        verdict
    }

    #[test]
    fn what_is_typical_does_not_follow_stragglers() {
        let mut typical = Typical::default();
        for round in 0..100 {
            typical.note(if round % 10 == 9 {
                u32::MAX
            } else {
                1000 + round
            });
        }
        let run_us = typical.run_us.unwrap();
        assert!((900..1300).contains(&run_us), "{run_us}");
    }

    #[test]
    fn only_what_waits_is_recalled_and_the_youngest_first() {
        let mut scheduler = scheduler(4);
        for task in [3, 2] {
            assert_eq!(scheduler.recallable(0, SLOTS), Some((task, 1)));
            assert!(!scheduler.is_unwanted(0, attempt(task, 1)));
            assert_eq!(scheduler.recall(task, 0), attempt(task, 1));
            assert!(scheduler.is_unwanted(0, attempt(task, 1)));
            scheduler.check();
        }
        assert_eq!(scheduler.recallable(0, SLOTS), None, "two run");
        assert_eq!(scheduler.recalled(0), 2);
        assert_eq!(scheduler.put_back(0, attempt(3, 1)), Verdict::Counted);
        assert_eq!(answer(&mut scheduler, 0, attempt(2, 1)), Verdict::Counted);
        assert_eq!(scheduler.recalled(0), 0);
        assert!(matches!(
            scheduler.pick(1, SLOTS, true),
            Pick::Task { task: 3, .. }
        ));
        assert_eq!(scheduler.assign(3, 1, NOW).0, attempt(3, 2));
        assert!(!scheduler.is_unwanted(1, attempt(3, 2)));
        scheduler.check();
    }

    #[test]
    fn of_two_attempts_the_first_outcome_counts_and_the_other_is_cancelled() {
        for (winner, loser) in [((0, 1), (1, 2)), ((1, 2), (0, 1))] {
            let mut scheduler = scheduler(1);
            assert_eq!(scheduler.longest_held(0), Some((0, 1, NOW)));
            assert_eq!(scheduler.duplicate(0, 1, NOW).0, attempt(0, 2));
            scheduler.check();
            assert_eq!(scheduler.longest_held(1), None, "two at a time");
            let verdict = answer(&mut scheduler, winner.0, attempt(0, winner.1));
            assert_eq!(verdict, Verdict::Counted);
            let cancelled = (loser.0, attempt(0, loser.1));
            assert_eq!(scheduler.next_cancel(), Some(cancelled));
            assert_eq!(scheduler.next_cancel(), None);
            assert!(scheduler.is_unwanted(loser.0, cancelled.1));
            assert_eq!(scheduler.put_back(loser.0, cancelled.1), Verdict::Late);
            scheduler.check();
            assert_eq!(scheduler.held_tasks(0) + scheduler.held_tasks(1), 0);
            assert_eq!(scheduler.next_answer().unwrap().worker, winner.0);
        }
    }

    #[test]
    fn both_holders_count_as_losses_and_none_gives_it_up_beside_others() {
        let loss = |cause| Loss::Unplanned {
            slots: SLOTS,
            cause,
        };
        let mut scheduler = Scheduler::new(2, true, 2);
        (0..2).for_each(|task| scheduler.add(&[task]));
        scheduler.assign(0, 0, NOW);
        scheduler.assign(1, 1, NOW);
        scheduler.duplicate(0, 1, NOW);
        scheduler.end_session(0, &loss("a"));
        scheduler.check();
        assert_eq!(
            scheduler.longest_held(1).unwrap().0,
            1,
            "not what was blamed"
        );
        scheduler.end_session(1, &loss("b"));
        scheduler.check();
        assert_eq!(
            scheduler.counts().ready,
            2,
            "task 1 may have killed the second"
        );
        assert!(matches!(
            scheduler.pick(0, SLOTS, true),
            Pick::Task { task: 0, .. }
        ));
        scheduler.assign(0, 0, NOW);
        scheduler.end_session(0, &loss("c"));
        let reason = String::from_utf8(scheduler.next_answer().unwrap().output.to_vec()).unwrap();
        assert!(reason.contains("(a; b; c)"), "{reason}");
    }

    #[test]
    fn who_holds_both_attempts_counts_as_one_loss() {
        let loss = |cause| Loss::Unplanned {
            slots: SLOTS,
            cause,
        };
        let mut scheduler = scheduler(1);
        scheduler.duplicate(0, 1, NOW);
        scheduler.end_session(1, &loss("a"));
        assert_eq!(scheduler.assign(0, 0, NOW).0, attempt(0, 3));
        scheduler.end_session(0, &loss("b"));
        scheduler.check();
        assert!(matches!(
            scheduler.pick(1, SLOTS, true),
            Pick::Task { task: 0, .. }
        ));
        scheduler.assign(0, 1, NOW);
        scheduler.end_session(1, &loss("c"));
        let reason = String::from_utf8(scheduler.next_answer().unwrap().output.to_vec()).unwrap();
        assert!(
            reason.contains("3 workers") && reason.contains("(a; b; c)"),
            "{reason}"
        );
    }

    #[test]
    fn a_worker_that_answers_is_not_late() {
        let mut scheduler = scheduler(3);
        let later = Time::from_micros(5_000);
        scheduler.answer(0, attempt(0, 1), Status::Done, b"!".into(), 1000, later);
        assert_eq!(scheduler.longest_held(0), Some((1, 1, later)));
    }
}
