//! Outcomes in a row.
//!
//! What it is: the way of what nearly every outcome is: done, at the worker where its task's latest
//! attempt is, while nothing is doubted, tried again or tried twice. What it is not: another rule; it
//! does what [`Scheduler::answer`] does, and leaves to it what is not so plain.
//!
//! Invariant: at its end every sum is what `answer` would have left.

use super::{Scheduler, Status, Sums};
use crate::frame::Outcome;
use crate::time::Time;

impl Scheduler {
    /// Takes outcomes from `worker` as long as they are plain; returns what they came to, and the
    /// first that is not plain, of which nothing is taken.
    #[inline(always)]
    pub fn answer_row<'a>(
        &mut self,
        worker: u32,
        outcomes: &mut impl Iterator<Item = Outcome<'a>>,
        now: Time,
    ) -> (Sums, Option<Outcome<'a>>) {
        let has_trials = !self.twins.is_empty() || !self.retries.is_empty();
        if has_trials || !self.doubts.is_empty() || self.table.has_journal() {
            return (Sums::default(), outcomes.next());
        }
        let seat = &mut self.seats[worker as usize];
        let mut row = self.table.begin_row(worker, now);
        let mut oldest = seat.sent.oldest();
        let (mut typical, mut output_bytes_mean) = (self.typical, self.output_bytes_mean);
        let other = loop {
            match outcomes.next() {
                Some(outcome) if outcome.status == Status::Done && row.answer(&outcome) => {
                    // Most are answered in the order sent: then nothing has to be pruned.
                    if outcome.attempt.task == oldest.start {
                        oldest.start += 1;
                        if oldest.is_empty() {
                            seat.sent.drop_before(oldest.start);
                            oldest = seat.sent.oldest();
                        }
                    }
                    typical.note(outcome.run_us);
                    output_bytes_mean = (output_bytes_mean * 15 + outcome.output.len()) / 16;
                }
                other => break other,
            }
        };
        let sums = row.end();
        if sums.tasks > 0 {
            seat.sent.drop_before(oldest.start);
            seat.tasks -= sums.tasks;
            seat.bytes -= sums.input_bytes;
            seat.answered_at = now;
            (self.typical, self.output_bytes_mean) = (typical, output_bytes_mean);
        }
        (sums, other)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::payload::Bytes;
    use crate::role::Attempt;

    const NOW: Time = Time::ZERO;

    pub fn outcome(task: u64, number: u32, status: Status) -> Outcome<'static> {
        Outcome {
            attempt: Attempt { task, number },
            status,
            run_us: task as u32,
            output: Bytes::from(&b"output"[..]),
        }
    }

    /// Two workers that hold four tasks each, all sent at once.
    fn scheduler(ordered: bool) -> Scheduler {
        let mut scheduler = Scheduler::new(2, ordered, 3);
        for task in 0..8 {
            let input = vec![0; task as usize];
            let mut row = scheduler.begin_fresh(task % 2, NOW);
            let attempt = row.send(&input, |_, _| true);
            row.end();
            assert_eq!(attempt, Some(outcome(task.into(), 1, Status::Done).attempt));
        }
        scheduler.check();
        scheduler
    }

    /// What is left of it, and what it delivers.
    fn state(scheduler: &mut Scheduler) -> String {
        scheduler.check();
        let held = [0, 1].map(|w| (scheduler.held_tasks(w), scheduler.held_bytes(w)));
        let longest = [0, 1].map(|w| scheduler.longest_held(w));
        let mean = scheduler.output_bytes_mean;
        let mut state = format!(
            "{:?} {held:?} {longest:?} {mean} {:?}",
            scheduler.counts(),
            scheduler.typical
        );
        while let Some(answer) = scheduler.due() {
            state += &format!("\n{answer:?}");
            scheduler.delivered();
        }
        scheduler.check();
        state
    }

    #[test]
    fn a_row_comes_to_the_same_as_its_outcomes_one_by_one() {
        let now = Time::from_micros(5_000);
        for ordered in [true, false] {
            for tasks in [vec![0, 2, 4, 6], vec![2, 0], vec![6], vec![]] {
                let row = tasks.iter().map(|&task| outcome(task, 1, Status::Done));
                let (mut one, mut other) = (scheduler(ordered), scheduler(ordered));
                let sums = Sums {
                    tasks: tasks.len() as u32,
                    input_bytes: tasks.iter().sum::<u64>() as usize,
                    output_bytes: tasks.len() * b"output".len(),
                    run_us: tasks.iter().sum(),
                };
                assert_eq!(one.answer_row(0, &mut row.clone(), now), (sums, None));
                for outcome in row {
                    let (attempt, status) = (outcome.attempt, outcome.status);
                    other.answer(0, attempt, status, outcome.output, outcome.run_us, now);
                }
                assert_eq!(state(&mut one), state(&mut other));
            }
        }
    }

    #[test]
    fn what_is_not_plain_ends_a_row_and_is_left() {
        let left = [
            ("failed", outcome(2, 1, Status::Failed)),
            ("another worker's", outcome(1, 1, Status::Done)),
            ("another attempt", outcome(2, 2, Status::Done)),
            ("answered before", outcome(0, 1, Status::Done)),
            ("no task", outcome(8, 1, Status::Done)),
        ];
        for (what, odd) in left {
            let mut scheduler = scheduler(true);
            let mut row = [
                outcome(0, 1, Status::Done),
                odd,
                outcome(4, 1, Status::Done),
            ]
            .into_iter();
            let (sums, other) = scheduler.answer_row(0, &mut row, NOW);
            assert_eq!((sums.tasks, other), (1, Some(odd)), "{what}");
            assert_eq!(row.len(), 1);
            assert_eq!(
                (scheduler.held_tasks(0), scheduler.held_tasks(1)),
                (3, 4),
                "{what}"
            );
            scheduler.check();
        }
    }

    #[test]
    fn a_task_that_is_asked_back_is_not_plain() {
        let mut scheduler = scheduler(true);
        scheduler.recall(6, 0);
        let odd = outcome(6, 1, Status::Done);
        let (_, other) = scheduler.answer_row(0, &mut [odd].into_iter(), NOW);
        assert_eq!(other, Some(odd));
    }

    #[test]
    fn while_a_task_is_doubted_or_run_twice_or_tried_again_nothing_is_in_a_row() {
        let done = outcome(4, 1, Status::Done);
        let failed = outcome(0, 1, Status::Failed).attempt;
        for trouble in 0..3 {
            let mut scheduler = scheduler(true).retrying(1);
            match trouble {
                0 => _ = scheduler.doubt(0, failed, b"", 0, NOW),
                1 => _ = scheduler.duplicate(0, 1, NOW),
                _ => _ = scheduler.retry(0, failed),
            }
            let (_, other) = scheduler.answer_row(0, &mut [done].into_iter(), NOW);
            assert_eq!(other, Some(done), "{trouble}");
            scheduler.check();
        }
    }

    #[test]
    fn with_a_journal_nothing_is_in_a_row() {
        let mut scheduler = Scheduler::new(1, true, 3).journalled();
        scheduler.add(b"");
        scheduler.assign_fresh(0, NOW, |_, _, _| true).unwrap();
        let done = outcome(0, 1, Status::Done);
        let (_, other) = scheduler.answer_row(0, &mut [done].into_iter(), NOW);
        assert_eq!(other, Some(done));
    }
}
