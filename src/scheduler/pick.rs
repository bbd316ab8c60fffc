//! What a worker is sent.
//!
//! What it is: the choice of the next task for a worker, and its attempt's entry in the table and at
//! the worker's seat. What it is not: the rule for how many a worker should hold, which is the head's
//! but for what keeps it clear whom to blame.
//!
//! Invariant: tasks that were never sent are sent in their order, after those that wait to be sent
//! again.

use super::Scheduler;
use crate::payload::Bytes;
use crate::role::Attempt;
use crate::time::Time;

/// What a worker may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// This task.
    Task {
        /// Its number.
        task: u64,
        /// The length of its input.
        input_bytes: usize,
    },
    /// Nothing until it has answered what it holds: a task must run alone there.
    Wait,
    /// Nothing that is ready: whatever the job has next.
    Nothing,
}

impl Scheduler {
    /// What `worker`, which has so many slots, may be sent now. `is_only` says whether no other worker
    /// can be used.
    #[inline(always)]
    pub fn pick(&mut self, worker: u32, slots: u32, is_only: bool) -> Pick {
        if self.waiting.is_empty() {
            self.reserved = None;
            return self.offer(self.next_fresh());
        }
        self.pick_waiting(worker, slots, is_only)
    }

    #[cold]
    fn pick_waiting(&mut self, worker: u32, slots: u32, is_only: bool) -> Pick {
        let held = self.held_tasks(worker);
        // What was lost with this worker alone may be innocent of its ends.
        let may_have = |task| {
            let entry = self.table.get(task).expect("it waits");
            is_only || !entry.blame.is_all_by(worker)
        };
        let lonely = self.waiting.lonely(may_have);
        match lonely {
            None if self.waiting.has_lonely() && self.reserved != Some(worker) => {}
            None => self.reserved = None,
            Some(_) if held == 0 => self.reserved = Some(worker),
            Some(_) if *self.reserved.get_or_insert(worker) == worker => return Pick::Wait,
            Some(_) => {}
        }
        let is_reserved = self.reserved == Some(worker);
        let careful = || self.waiting.careful().filter(|_| held < slots);
        let task = (lonely.filter(|_| is_reserved))
            .or_else(careful)
            .or_else(|| self.waiting.plain())
            .or_else(|| self.next_fresh());
        self.offer(task)
    }

    #[inline(always)]
    fn offer(&self, task: Option<u64>) -> Pick {
        match task {
            None => Pick::Nothing,
            Some(task) => {
                let entry = self.table.get(task).expect("a ready task is open");
                let input_bytes = entry.payload.len();
                Pick::Task { task, input_bytes }
            }
        }
    }

    /// Whether a task waits that was blamed for a loss.
    pub fn has_blamed(&self) -> bool {
        self.waiting.has_blamed()
    }

    /// How many attempts `worker` should hold at most, of the `depth` it could: no more than its
    /// slots while that keeps it clear who was running when it dies.
    #[inline(always)]
    pub fn depth(&self, worker: u32, slots: u32, depth: u32) -> u32 {
        let seat = &self.seats[worker as usize];
        if seat.is_taken_whole {
            0
        } else if seat.careful_tasks > 0 || self.waiting.has_blamed() {
            slots.min(depth)
        } else {
            depth
        }
    }

    /// How many fresh tasks `worker` may be sent in a row, of the `depth` it could hold: none while
    /// each has to be picked.
    pub fn fresh_room(&mut self, worker: u32, depth: u32) -> u32 {
        let seat = &self.seats[worker as usize];
        if !self.waiting.is_empty() || seat.careful_tasks > 0 {
            return 0;
        }
        self.reserved = None;
        depth.saturating_sub(seat.tasks)
    }

    /// Gives the next fresh task to `worker` if there is one and `fits` says so, which is told the
    /// tasks and bytes that the worker holds and the length of this input. It is looked up once, and
    /// nothing is asked that is the same for the whole row.
    #[inline(always)]
    pub fn assign_fresh(
        &mut self,
        worker: u32,
        now: Time,
        fits: impl FnOnce(u32, usize, usize) -> bool,
    ) -> Option<(Attempt, Bytes<'_>)> {
        if self.seats[worker as usize].sent.is_full() {
            self.prune(worker);
        }
        let (task, seat) = (self.fresh, &mut self.seats[worker as usize]);
        let place = self.table.find(task)?;
        if !fits(seat.tasks, seat.bytes, self.table.at(place).payload.len()) {
            return None;
        }
        let entry = self.table.send(place, worker, now);
        assert!(!entry.is_careful, "what was never sent is not to blame");
        self.fresh += 1;
        seat.add(task, entry.payload.len());
        let number = entry.attempt;
        Some((Attempt { task, number }, entry.payload.lend()))
    }

    /// Whether a task was never sent.
    #[inline(always)]
    pub fn has_fresh(&self) -> bool {
        self.fresh < self.table.end()
    }

    /// Makes an attempt of a ready task and gives it to `worker`.
    #[inline(always)]
    pub fn assign(&mut self, task: u64, worker: u32, now: Time) -> (Attempt, Bytes<'_>) {
        if task == self.fresh {
            self.fresh += 1;
        } else {
            let was_waiting = self.waiting.remove(task);
            assert!(was_waiting, "fresh tasks are sent in order");
        }
        self.send(task, worker, now)
    }

    #[inline(always)]
    pub(super) fn send(&mut self, task: u64, worker: u32, now: Time) -> (Attempt, Bytes<'_>) {
        let attempts_max = self.attempts_max;
        if self.seats[worker as usize].sent.is_full() {
            self.prune(worker);
        }
        let place = self.table.find(task).expect("the task is open");
        let entry = self.table.send(place, worker, now);
        let seat = &mut self.seats[worker as usize];
        seat.add(task, entry.payload.len());
        if entry.is_careful {
            seat.careful_tasks += 1;
            seat.is_taken_whole = entry.blame.is_lonely(attempts_max);
            assert!(!seat.is_taken_whole || seat.tasks == 1, "it runs alone");
        }
        let number = entry.attempt;
        (Attempt { task, number }, entry.payload.lend())
    }

    /// Drops from the worker's list, which is full or long, what is no longer in flight there; there
    /// is room for as many more as stay. So its length stays within a few times what was ever in
    /// flight there at once, and an answer need not look for its place in it.
    #[cold]
    pub(super) fn prune(&mut self, worker: u32) {
        let sent = &mut self.seats[worker as usize].sent;
        sent.retain(|task| self.table.is_at(task, worker));
    }

    #[inline(always)]
    fn next_fresh(&self) -> Option<u64> {
        self.has_fresh().then_some(self.fresh)
    }
}
