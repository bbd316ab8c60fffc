//! New tasks in a row.
//!
//! What it is: the way of nearly every task: taken from the job and given to a worker at once, while
//! nothing waits. What it is not: another rule; what does not fit is left to [`Scheduler::add`] and
//! [`Scheduler::assign_fresh`].
//!
//! Invariant: at its end every sum is what those would have left.

use super::seat::Seat;
use super::{Scheduler, table};
use crate::buffer::Buffer;
use crate::limits::{WINDOW_BYTES, WINDOW_TASKS};
use crate::role::Attempt;
use crate::time::Time;

/// A row that has begun.
pub struct Fresh<'s> {
    table: table::Fresh<'s>,
    seat: &'s mut Seat,
    /// The first task that was never sent.
    next: &'s mut u64,
    first: u64,
    /// How many more the window has room for, and how much of it the row may take; see
    /// [`Scheduler::has_room`].
    window_tasks: usize,
    window_bytes: usize,
    /// What an outcome is expected to bring.
    output_bytes: usize,
}

impl Scheduler {
    /// Begins a row for `worker`.
    ///
    /// # Panics
    /// If a task was added that was never sent: those go first.
    pub fn begin_fresh(&mut self, worker: u32, now: Time) -> Fresh<'_> {
        assert!(!self.has_fresh(), "tasks are sent in order");
        if self.seats[worker as usize].sent.is_full() {
            self.prune(worker);
        }
        let expected_bytes = self.output_bytes_mean * self.table.counts().in_flight;
        let window_bytes = WINDOW_BYTES.saturating_sub(self.table.held_bytes() + expected_bytes);
        let window_tasks = WINDOW_TASKS.saturating_sub(self.table.window_tasks());
        Fresh {
            window_tasks,
            window_bytes,
            output_bytes: self.output_bytes_mean,
            first: self.fresh,
            next: &mut self.fresh,
            table: self.table.begin_fresh(worker, now),
            seat: &mut self.seats[worker as usize],
        }
    }
}

impl Fresh<'_> {
    /// How many it has.
    #[inline(always)]
    pub fn tasks(&self) -> usize {
        self.table.sums().0
    }

    /// Whether the window has room for another.
    #[inline(always)]
    pub fn has_room(&self) -> bool {
        let (tasks, bytes) = self.table.sums();
        tasks < self.window_tasks && bytes + tasks * self.output_bytes < self.window_bytes
    }

    /// Adds the next task and gives it to the worker, if its input is little and `fits` says so, which
    /// is told the tasks and bytes that the worker holds; else does nothing.
    #[inline(always)]
    pub fn send(&mut self, input: &[u8], fits: impl FnOnce(u32, usize) -> bool) -> Option<Attempt> {
        let (tasks, bytes) = self.table.sums();
        let is_little = input.len() < Buffer::LARGE_BYTES;
        if !is_little || !fits(self.seat.tasks + tasks as u32, self.seat.bytes + bytes) {
            return None;
        }
        self.table.push(input);
        let task = self.first + tasks as u64;
        Some(Attempt { task, number: 1 })
    }

    /// Enters the sums.
    pub fn end(self) {
        let (tasks, bytes) = self.table.sums();
        self.table.end();
        self.seat.tasks += tasks as u32;
        self.seat.bytes += bytes;
        *self.next += tasks as u64;
        self.seat.sent.push_row(self.first..*self.next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Status;
    use crate::payload::Bytes;

    const NOW: Time = Time::ZERO;

    /// With an outcome that lasts in the mean of their lengths.
    fn scheduler(output_bytes: usize) -> Scheduler {
        let mut scheduler = Scheduler::new(2, true, 3);
        scheduler.add(&[]);
        let sent = scheduler.assign_fresh(0, NOW, |_, _, _| true);
        let (attempt, _) = sent.unwrap();
        let output = vec![0; output_bytes];
        scheduler.answer(0, attempt, Status::Done, Bytes::from(&output), 0, NOW);
        scheduler
    }

    #[test]
    fn a_row_comes_to_the_same_as_its_tasks_one_by_one() {
        let (mut one, mut other) = (scheduler(9), scheduler(9));
        for (worker, lengths) in [(0, 0..50), (1, 7..8), (0, 0..0), (0, 90..190)] {
            let mut row = one.begin_fresh(worker, NOW);
            for length in lengths {
                let input = vec![7; length];
                other.add(&input);
                let mut told = None;
                let alone = other.assign_fresh(worker, NOW, |tasks, bytes, _| {
                    told = Some((tasks, bytes));
                    true
                });
                let fits = |tasks, bytes| Some((tasks, bytes)) == told;
                let attempt = row.send(&input, fits);
                assert_eq!(attempt, alone.map(|(attempt, _)| attempt));
            }
            row.end();
            for scheduler in [&one, &other] {
                scheduler.check();
            }
            assert_eq!(one.counts(), other.counts());
            assert_eq!(one.table.held_bytes(), other.table.held_bytes());
            for worker in [0, 1] {
                assert!(one.held(worker).eq(other.held(worker)));
                assert_eq!(one.held_bytes(worker), other.held_bytes(worker));
            }
        }
    }

    #[test]
    fn a_row_ends_where_the_window_does() {
        for (input_bytes, output_bytes) in [(0, 0), (300, 0), (0, 300), (200, 100)] {
            let (mut one, mut other) = (scheduler(16 * output_bytes), scheduler(16 * output_bytes));
            let input = vec![7; input_bytes];
            let mut added = 0;
            while other.has_room() {
                other.add(&input);
                other.assign_fresh(1, NOW, |_, _, _| true).unwrap();
                added += 1;
            }
            let mut row = one.begin_fresh(1, NOW);
            while row.has_room() {
                row.send(&input, |_, _| true).unwrap();
            }
            assert_eq!(row.tasks(), added);
            row.end();
            one.check();
        }
    }

    #[test]
    fn what_does_not_fit_is_not_sent() {
        let mut scheduler = scheduler(0);
        let mut row = scheduler.begin_fresh(0, NOW);
        let large = vec![0; Buffer::LARGE_BYTES];
        assert_eq!(row.send(&large, |_, _| true), None);
        assert_eq!(row.send(&[], |_, _| false), None);
        assert_eq!(row.tasks(), 0);
        row.end();
        assert!(!scheduler.has_fresh());
        scheduler.check();
    }
}
