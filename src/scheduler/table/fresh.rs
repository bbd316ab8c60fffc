//! Tasks that are added and sent in a row.
//!
//! What it is: what [`Table::push`] and [`Table::send`] do, for tasks of which the first attempt is
//! made at once, with the sums kept aside until the end. What it is not: a look at the window, or at
//! the worker.
//!
//! Invariant: at its end the sums are right.

use super::super::entry::State;
use super::super::ring::Ring;
use super::{Counts, Table};
use crate::time::Time;

/// A row that has begun.
pub(in crate::scheduler) struct Fresh<'t> {
    ring: &'t mut Ring,
    counts: &'t mut Counts,
    held_bytes: &'t mut usize,
    state: State,
    tasks: usize,
    bytes: usize,
}

impl Table {
    /// Begins a row of tasks for `worker`.
    pub fn begin_fresh(&mut self, worker: u32, sent_at: Time) -> Fresh<'_> {
        Fresh {
            ring: &mut self.ring,
            counts: &mut self.counts,
            held_bytes: &mut self.held_bytes,
            state: State::InFlight { worker, sent_at },
            tasks: 0,
            bytes: 0,
        }
    }
}

impl Fresh<'_> {
    /// How many it has, and their bytes.
    #[inline(always)]
    pub fn sums(&self) -> (usize, usize) {
        (self.tasks, self.bytes)
    }

    /// Adds one.
    #[inline(always)]
    pub fn push(&mut self, input: &[u8]) {
        self.tasks += 1;
        self.bytes += input.len();
        let entry = self.ring.push();
        entry.state = self.state;
        entry.attempt = 1;
        entry.payload.set(input);
    }

    /// Enters the sums.
    pub fn end(self) {
        self.counts.in_flight += self.tasks;
        *self.held_bytes += self.bytes;
    }
}
