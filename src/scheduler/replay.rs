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

use super::table::State;
use super::{Blame, NO_WORKER, Scheduler};
use crate::frame::Status;
use crate::journal::Outcome;
use crate::limits::WINDOW_TASKS;
use crate::payload::Payload;

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
        let task = self.table.push(Payload::from(input));
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
        if entry.input_hash != outcome.input_hash {
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
                let reason = Payload::from(reason.as_bytes());
                self.table.answer(task, NO_WORKER, Status::Failed, reason);
            }
        }
    }
}
