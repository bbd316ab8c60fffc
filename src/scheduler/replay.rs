//! What a journal says of a run that began before.
//!
//! What it is: how the table comes to be as it was: tasks are added as the job names them, and given
//! the outcomes that were recorded. What it is not: a reader of journals.
//!
//! Records stand in the order in which outcomes came, so at each of them only tasks that were open
//! together are: reading takes no more memory than the run did, whatever the journal's length.
//!
//! Invariant: after it every task without a record waits to be sent, before any fresh one.

use std::fmt;

use super::entry::{State, Times};
use super::{Blame, NO_WORKER, Scheduler};
use crate::frame::Status;
use crate::journal::{Outcome, input_hash};
use crate::limits::WINDOW_TASKS;
use crate::payload::Bytes;

/// Why a record does not belong to this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// The job has no such task.
    NoTask(u64),
    /// That task has another input now.
    OtherInput(u64),
    /// That task has a record already.
    Twice(u64),
    /// It is further ahead of the oldest open task than any run goes.
    FarAhead(u64),
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Misfit::NoTask(task) => write!(f, "it has task {task}, which this job has not"),
            Misfit::OtherInput(task) => write!(f, "task {task} has another input now"),
            Misfit::Twice(task) => write!(f, "it has two outcomes of task {task}"),
            Misfit::FarAhead(task) => {
                write!(
                    f,
                    "task {task} is too far ahead of the first without an outcome"
                )
            }
        }
    }
}

impl Scheduler {
    /// The number of the task that is added next.
    pub fn end(&self) -> u64 {
        self.table.end()
    }

    /// Adds the next task, of which the journal may have the outcome.
    ///
    /// # Errors
    /// If so many are open that the journal cannot be of this job.
    pub fn add_replayed(&mut self, input: &[u8]) -> Result<(), Misfit> {
        if self.table.window_tasks() >= WINDOW_TASKS {
            return Err(Misfit::FarAhead(self.end()));
        }
        let task = self.table.end();
        self.add(input);
        self.table.get_mut(task).expect("it was added").is_replayed = true;
        self.fresh = task + 1;
        self.waiting.add(task, &Blame::default(), self.attempts_max);
        Ok(())
    }

    /// Gives a task that was added the outcome that the journal has of it.
    ///
    /// # Errors
    /// If that is another task's, or a second one.
    pub fn restore(&mut self, worker: u32, outcome: &Outcome<'_>) -> Result<(), Misfit> {
        let task = outcome.task;
        let entry = match self.table.get(task) {
            Some(entry) if entry.state == State::Ready => entry,
            _ => return Err(Misfit::Twice(task)),
        };
        if input_hash(&entry.payload) != outcome.input_hash {
            return Err(Misfit::OtherInput(task));
        }
        self.waiting.remove(task);
        self.table.restore(worker, outcome);
        Ok(())
    }

    /// Fails what has no outcome and can never be sent: the tasks for whose input there is a `reason`.
    pub fn fail_unsendable(&mut self, reason: impl Fn(&[u8]) -> Option<String>) {
        for task in self.waiting.all() {
            let entry = self.table.get(task).expect("it waits");
            if let Some(reason) = reason(&entry.payload) {
                self.waiting.remove(task);
                let (reason, times) = (Bytes::from(&reason), Times::default());
                self.settle(task, NO_WORKER, Status::Failed, reason, times);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::role::Attempt;
    use crate::scheduler::Pick;
    use crate::time::Time;

    fn outcome(task: u64, input: &[u8]) -> Outcome<'static> {
        Outcome {
            task,
            input_hash: input_hash(input),
            status: Status::Done,
            losses: 2,
            queue_us: 3,
            run_us: 4,
            worker: "w",
            output: b"output",
        }
    }

    /// A scheduler that was added so many tasks from the journal, whose inputs are their numbers.
    fn scheduler(ordered: bool, tasks: u8) -> Scheduler {
        let mut scheduler = Scheduler::new(1, ordered, 3).journalled();
        (0..tasks).for_each(|task| scheduler.add_replayed(&[task]).unwrap());
        scheduler
    }

    #[test]
    fn what_was_recorded_is_delivered_and_the_rest_is_sent() {
        for (ordered, early) in [(true, vec![]), (false, vec![2, 1])] {
            let mut scheduler = scheduler(ordered, 4);
            for task in [2, 1] {
                scheduler.restore(7, &outcome(task, &[task as u8])).unwrap();
                scheduler.check();
            }
            let answers = std::iter::from_fn(|| scheduler.next_answer());
            assert_eq!(answers.map(|answer| answer.task).collect::<Vec<_>>(), early);
            for task in [0, 3] {
                let Pick::Task { task: picked, .. } = scheduler.pick(0, 2, true) else {
                    panic!("task {task} is ready");
                };
                assert_eq!(picked, task);
                scheduler.assign(task, 0, Time::ZERO);
            }
            assert_eq!(scheduler.pick(0, 2, true), Pick::Nothing);
            assert!(
                scheduler.next_to_record(|_| "").is_none(),
                "it is there already"
            );
            scheduler.check();
        }
    }

    #[test]
    fn an_answer_is_as_it_was_recorded() {
        let mut scheduler = scheduler(true, 1);
        scheduler.restore(7, &outcome(0, &[0])).unwrap();
        let answer = scheduler.next_answer().unwrap();
        assert_eq!((answer.worker, answer.losses), (7, 2));
        assert_eq!((answer.queue_us, answer.run_us), (3, 4));
        assert_eq!(&answer.output[..], b"output");
    }

    #[test]
    fn another_input_and_a_second_outcome_do_not_fit() {
        let mut scheduler = scheduler(true, 2);
        let misfit = scheduler.restore(0, &outcome(1, b"other"));
        assert_eq!(misfit, Err(Misfit::OtherInput(1)));
        scheduler.restore(0, &outcome(1, &[1])).unwrap();
        assert_eq!(
            scheduler.restore(0, &outcome(1, &[1])),
            Err(Misfit::Twice(1))
        );
        scheduler.restore(0, &outcome(0, &[0])).unwrap();
        while scheduler.next_answer().is_some() {}
        assert_eq!(
            scheduler.restore(0, &outcome(0, &[0])),
            Err(Misfit::Twice(0))
        );
    }

    #[test]
    fn a_straggler_without_a_record_holds_none_of_the_others() {
        let mut scheduler = scheduler(false, 0);
        let count = 3 * WINDOW_TASKS as u64;
        for task in 0..count {
            scheduler.add_replayed(&[]).unwrap();
            if task > 0 {
                scheduler.restore(0, &outcome(task, &[])).unwrap();
                assert_eq!(scheduler.next_answer().unwrap().task, task);
            }
            assert!(scheduler.table.ring_len() <= WINDOW_TASKS);
        }
        scheduler.check();
        assert_eq!(
            scheduler.pick(0, 1, true),
            Pick::Task {
                task: 0,
                input_bytes: 0
            }
        );
    }

    #[test]
    fn no_more_are_added_than_a_run_has_open() {
        let mut scheduler = scheduler(true, 0);
        for _ in 0..WINDOW_TASKS {
            scheduler.add_replayed(&[]).unwrap();
        }
        let misfit = scheduler.add_replayed(&[]);
        assert_eq!(misfit, Err(Misfit::FarAhead(WINDOW_TASKS as u64)));
    }

    #[test]
    fn outcomes_are_delivered_once_they_are_recorded() {
        for ordered in [true, false] {
            let mut scheduler = Scheduler::new(1, ordered, 3).journalled();
            (0..2).for_each(|task| scheduler.add(&[task]));
            for task in 0..2 {
                let (attempt, _) = scheduler.assign(task, 0, Time::ZERO);
                scheduler.answer(0, attempt, Status::Done, b"!".into(), 5, Time::ZERO);
            }
            let late = scheduler.answer(
                0,
                Attempt { task: 0, number: 1 },
                Status::Done,
                b"?".into(),
                5,
                Time::ZERO,
            );
            assert_eq!(late, crate::scheduler::Verdict::Stranger);
            let record = scheduler.next_to_record(|_| "name").unwrap();
            assert_eq!((record.task, record.input_hash), (0, input_hash(&[0])));
            assert_eq!((record.worker, record.output), ("name", &b"!"[..]));
            assert!(scheduler.next_answer().is_none(), "not durable yet");
            assert_eq!(scheduler.next_to_record(|_| "").unwrap().task, 1);
            assert!(scheduler.next_to_record(|_| "").is_none());
            scheduler.recorded(1);
            scheduler.check();
            assert_eq!(scheduler.next_answer().unwrap().task, 0);
            assert!(scheduler.next_answer().is_none());
            scheduler.recorded(1);
            assert_eq!(scheduler.next_answer().unwrap().task, 1);
            scheduler.check();
        }
    }

    #[test]
    fn what_can_never_be_sent_fails_and_is_recorded() {
        let mut scheduler = scheduler(true, 2);
        let is_odd = |input: &[u8]| (input[0] == 1).then(|| "odd".to_owned());
        scheduler.fail_unsendable(is_odd);
        scheduler.check();
        let record = scheduler.next_to_record(|_| "-").unwrap();
        assert_eq!((record.task, record.status), (1, Status::Failed));
        assert_eq!(scheduler.counts().ready, 1);
    }
}
