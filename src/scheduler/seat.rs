//! What one worker holds.
//!
//! What it is: its attempts, counted against its credit, and what its latest loss was blamed on. What
//! it is not: the connection to it; that is the head's link.
//!
//! Invariant: `tasks` and `bytes` are the attempts in `sent` that still stand for their task and the
//! orphans, nothing else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::role::Attempt;

/// One worker's attempts.
#[derive(Debug, Default)]
pub(super) struct Seat {
    /// Tasks in the order sent; those no longer in flight here are dropped now and then.
    pub sent: VecDeque<u64>,
    /// Attempts that no longer stand for their task (sent elsewhere since, or answered by another),
    /// with the length of their input.
    pub orphans: BTreeMap<Attempt, usize>,
    /// Attempts it has not answered, orphans included.
    pub tasks: u32,
    /// Their input bytes.
    pub bytes: usize,
    /// How many of those in `sent` have been blamed for something.
    pub careful_tasks: u32,
    /// One of them must run alone.
    pub is_taken_whole: bool,
    /// Tasks whose failure here is not believed yet.
    pub doubted: BTreeSet<u64>,
    /// Whom its latest loss was blamed on.
    pub blamed: Vec<u64>,
}

impl Seat {
    pub fn add(&mut self, task: u64, bytes: usize) {
        self.sent.push_back(task);
        self.tasks += 1;
        self.bytes += bytes;
    }

    /// An attempt that stands for its task was answered.
    pub fn leave(&mut self, bytes: usize, is_careful: bool) {
        self.tasks -= 1;
        self.bytes -= bytes;
        self.drop_careful(is_careful);
    }

    /// A task that left without an outcome may come again; it must not stand in the list twice.
    pub fn forget(&mut self, task: u64) {
        self.sent.retain(|&other| other != task);
    }

    /// An orphan was answered; false if it is none.
    pub fn leave_orphan(&mut self, attempt: Attempt) -> bool {
        let Some(bytes) = self.orphans.remove(&attempt) else {
            return false;
        };
        self.tasks -= 1;
        self.bytes -= bytes;
        true
    }

    /// An attempt no longer stands for its task, but is still held here.
    pub fn make_orphan(&mut self, attempt: Attempt, bytes: usize, is_careful: bool) {
        self.orphans.insert(attempt, bytes);
        self.drop_careful(is_careful);
    }

    /// It will answer nothing any more. What is doubted or blamed stays.
    pub fn end_session(&mut self) {
        *self = Seat {
            doubted: std::mem::take(&mut self.doubted),
            blamed: std::mem::take(&mut self.blamed),
            ..Seat::default()
        };
    }

    fn drop_careful(&mut self, is_careful: bool) {
        if is_careful {
            self.careful_tasks -= 1;
            self.is_taken_whole = false;
        }
    }
}
