//! What becomes of a lost worker's attempts.
//!
//! What it is: how tasks come back from a worker that is silent or gone, what that costs them, and how
//! it keeps those that it held all the time.
//! What it is not: the rule of who is to blame (`blame.rs`).
//!
//! Invariant: no attempt of a worker whose session is over is counted anywhere.

use super::Scheduler;
use super::entry::{State, Times};
use crate::frame::Status;
use crate::payload::Bytes;
use crate::role::Attempt;
use crate::time::Time;

/// How a worker was lost.
#[derive(Clone, Copy, Debug)]
pub enum Loss<'a> {
    /// It said so before: nobody is to blame.
    Planned,
    /// It was not expected.
    Unplanned {
        /// How many attempts it runs at once.
        slots: u32,
        /// Who it was and how it ended, for the record.
        cause: &'a str,
    },
}

impl Scheduler {
    /// The worker is silent: its tasks are ready again, though it may still answer them. Returns how
    /// many they were.
    pub fn take_back(&mut self, worker: u32, loss: &Loss<'_>) -> usize {
        let seat = &mut self.seats[worker as usize];
        // With two attempts at once it may be blamed for its last loss beside others; not given up.
        let is_alone = seat.is_taken_whole || self.attempts_max == 1;
        let sent = std::mem::take(&mut seat.sent);
        let is_there = |&task: &u64| self.table.is_at(task, worker);
        let tasks: Vec<u64> = sent.iter().filter(is_there).collect();
        for &task in &tasks {
            let entry = self.table.get(task).expect("it is in flight");
            seat.make_orphan(task, entry);
        }
        if self.reserved == Some(worker) {
            self.reserved = None;
        }
        let mut twins = self.end_twins(worker);
        // Who holds both attempts of a task was lost once all the same.
        twins.retain(|&task| !self.table.is_at(task, worker));
        self.blame(worker, tasks.iter().chain(&twins), loss);
        for &task in &tasks {
            let entry = self.table.get(task).expect("it is in flight");
            match entry.blame.verdict(self.attempts_max) {
                Some(reason) if is_alone => {
                    let (reason, times) = (Bytes::from(&reason), Times::default());
                    self.settle(task, worker, Status::Failed, reason, times);
                }
                _ => self.make_ready(task),
            }
        }
        tasks.len()
    }

    /// The worker's session is over: its tasks are ready again and it will answer none. Returns how
    /// many they were.
    pub fn end_session(&mut self, worker: u32, loss: &Loss<'_>) -> usize {
        let count = self.take_back(worker, loss);
        self.seats[worker as usize].end_session();
        count
    }

    /// The worker that tasks were taken back from is of use: what it still holds, and nobody has been
    /// sent since, is in flight there again. Sent anew it would run twice, and maybe beside itself.
    pub fn take_up(&mut self, worker: u32) {
        let orphans = self.seats[worker as usize].orphans.iter();
        let held: Vec<(Attempt, Time)> = orphans
            .filter(|(_, orphan)| !orphan.is_cancelled)
            .map(|(attempt, orphan)| (*attempt, orphan.sent_at))
            .collect();
        for (attempt, sent_at) in held {
            let Attempt { task, number } = attempt;
            let Some(entry) = self.table.get_mut(task) else {
                continue;
            };
            let stands = entry.state == State::Ready && entry.attempt == number;
            // What is blamed for something has rules of its own for where it runs.
            if !stands || entry.blame.is_any() {
                continue;
            }
            entry.is_careful = false;
            entry.is_recalled = false;
            (self.table).set_state(task, State::InFlight { worker, sent_at });
            self.waiting.remove(task);
            let seat = &mut self.seats[worker as usize];
            seat.orphans.remove(&attempt);
            seat.sent.push(task);
        }
    }

    /// The worker has been alive all the time: what its latest loss blamed on tasks is taken back.
    pub fn forgive(&mut self, worker: u32) {
        for task in std::mem::take(&mut self.seats[worker as usize].blamed) {
            let Some(entry) = self.table.get_mut(task) else {
                continue;
            };
            entry.blame.forgive(worker);
            if let State::InFlight { worker: holder, .. } = entry.state {
                self.seats[holder as usize].relax(entry, self.attempts_max);
            }
            self.queue_anew(task);
        }
    }

    /// The worker's process is another than the one that was lost: what was blamed stays.
    pub fn convict(&mut self, worker: u32) {
        self.seats[worker as usize].blamed.clear();
    }

    /// Notes a loss of `worker` with all open tasks it may have been running.
    fn blame<'a>(&mut self, worker: u32, tasks: impl Iterator<Item = &'a u64>, loss: &Loss<'_>) {
        let Loss::Unplanned { slots, cause } = loss else {
            return;
        };
        // What was settled elsewhere it may be running all the same.
        let is_certain = self.seats[worker as usize].tasks <= *slots;
        for &task in tasks {
            let entry = self.table.get_mut(task).expect("it is open");
            entry.blame.add(worker, is_certain, cause);
            self.seats[worker as usize].blamed.push(task);
            self.queue_anew(task);
        }
    }

    /// What is blamed on a task has changed, and with it its place among those that wait.
    fn queue_anew(&mut self, task: u64) {
        if self.waiting.remove(task) {
            let entry = self.table.get(task).expect("it waits");
            self.waiting.add(task, &entry.blame, self.attempts_max);
        }
    }
}
