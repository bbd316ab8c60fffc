//! Outcomes that are entered in a row.
//!
//! What it is: what [`Table::answer`] does, for plain outcomes of one worker, with the sums kept aside
//! until the end. What it is not: for a table with a journal.
//!
//! Invariant: an entry is changed, and counted, or neither.

use std::collections::VecDeque;

use super::super::entry::{Entry, Given, State, Times};
use super::super::ring::Ring;
use super::{Counts, Order, Table};
use crate::frame::{Outcome, Status};
use crate::time::Time;

/// A row that has begun.
pub(in crate::scheduler) struct Row<'t> {
    worker: u32,
    now: Time,
    ring: &'t mut Ring,
    /// Where a run without order notes what is to be delivered.
    answered: Option<&'t mut VecDeque<u64>>,
    counts: &'t mut Counts,
    held_bytes: &'t mut usize,
    sums: Sums,
}

/// What the outcomes of a row come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// How many they are.
    pub tasks: u32,
    /// The bytes that their inputs had.
    pub input_bytes: usize,
    /// The bytes of their outputs.
    pub output_bytes: usize,
    /// How long their kernels ran, in microseconds.
    pub run_us: u64,
}

impl Table {
    /// Begins a row of outcomes of `worker`.
    #[inline(always)]
    pub fn begin_row(&mut self, worker: u32, now: Time) -> Row<'_> {
        debug_assert!(
            self.journal.is_none(),
            "each outcome is recorded for itself"
        );
        Row {
            worker,
            now,
            ring: &mut self.ring,
            answered: match &mut self.order {
                Order::Input => None,
                Order::Arrival { answered, .. } => Some(answered),
            },
            counts: &mut self.counts,
            held_bytes: &mut self.held_bytes,
            sums: Sums::default(),
        }
    }
}

impl Row<'_> {
    /// Gives a task its outcome; false, and nothing is done, if there is more to be said of it.
    #[inline(always)]
    pub fn answer(&mut self, outcome: &Outcome<'_>) -> bool {
        let task = outcome.attempt.task;
        let Some(entry) = self.ring.get_mut(task) else {
            return false;
        };
        let is_latest = entry.attempt == outcome.attempt.number && is_plain(entry);
        let Some(sent_at) = entry.sent_to(self.worker).filter(|_| is_latest) else {
            return false;
        };
        self.sums.tasks += 1;
        self.sums.input_bytes += entry.payload.len();
        self.sums.output_bytes += outcome.output.len();
        self.sums.run_us += u64::from(outcome.run_us);
        entry.state = State::Answered(Given {
            worker: self.worker,
            status: Status::Done,
            losses: 0,
            times: Times::new(sent_at, outcome.run_us, self.now),
        });
        entry.payload.set(outcome.output);
        if let Some(answered) = &mut self.answered {
            answered.push_back(task);
        }
        true
    }

    /// Enters the sums, and returns them.
    #[inline(always)]
    pub fn end(self) -> Sums {
        let sums = self.sums;
        self.counts.in_flight -= sums.tasks as usize;
        self.counts.answered += sums.tasks as usize;
        *self.held_bytes = *self.held_bytes - sums.input_bytes + sums.output_bytes;
        sums
    }
}

/// Whether nothing was ever held against the task, nor asked for its latest attempt.
#[inline(always)]
fn is_plain(entry: &Entry) -> bool {
    !entry.is_careful && !entry.is_recalled && !entry.blame.is_any()
}
