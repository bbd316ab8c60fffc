//! What one worker holds.
//!
//! What it is: its attempts, counted against its credit, and what its latest loss was blamed on. What
//! it is not: the connection to it; that is the head's link.
//!
//! Invariant: `tasks` and `bytes` are the attempts in `sent` that still stand for their task and the
//! orphans, nothing else.

use std::collections::{BTreeMap, BTreeSet};

use super::entry::{Entry, State};
use super::sent::Sent;
use crate::role::Attempt;
use crate::time::Time;

/// One worker's attempts.
#[derive(Debug, Default)]
pub(super) struct Seat {
    /// Tasks in the order sent; those no longer in flight here are dropped now and then.
    pub sent: Sent,
    /// Attempts that no longer stand for their task: sent elsewhere since, or answered by another.
    pub orphans: BTreeMap<Attempt, Orphan>,
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
    /// Of those in `sent`, how many it was asked to hand back.
    pub recalled: u32,
    /// When it last answered an attempt that it ran.
    pub answered_at: Time,
}

/// An attempt that is held and does not stand for its task.
#[derive(Debug)]
pub(super) struct Orphan {
    /// The length of its input.
    pub bytes: usize,
    /// The worker was told that it is not needed.
    pub is_cancelled: bool,
    pub sent_at: Time,
}

impl Seat {
    #[inline(always)]
    pub fn add(&mut self, task: u64, bytes: usize) {
        self.sent.push(task);
        self.tasks += 1;
        self.bytes += bytes;
    }

    /// An attempt was answered by this `worker`: if it stands for its task, whose `entry` that is,
    /// says when it was sent.
    #[inline(always)]
    pub fn leave(&mut self, attempt: Attempt, worker: u32, entry: &Entry) -> Option<Time> {
        let sent_at = entry.sent_to(worker)?;
        if entry.attempt != attempt.number {
            return None;
        }
        self.tasks -= 1;
        self.bytes -= entry.payload.len();
        self.stand_down(entry);
        Some(sent_at)
    }

    /// A task that left without an outcome may come again; it must not stand in the list twice.
    pub fn forget(&mut self, task: u64) {
        self.sent.remove(task);
    }

    /// An orphan was answered; `None` if it is none.
    pub fn leave_orphan(&mut self, attempt: Attempt) -> Option<Orphan> {
        let orphan = self.orphans.remove(&attempt)?;
        self.tasks -= 1;
        self.bytes -= orphan.bytes;
        Some(orphan)
    }

    /// The latest attempt of a task no longer stands for it, but is still held here.
    pub fn make_orphan(&mut self, task: u64, entry: &Entry) -> Attempt {
        let State::InFlight { sent_at, .. } = entry.state else {
            unreachable!("it is held here");
        };
        let number = entry.attempt;
        let attempt = Attempt { task, number };
        let orphan = Orphan {
            bytes: entry.payload.len(),
            is_cancelled: entry.is_recalled,
            sent_at,
        };
        self.orphans.insert(attempt, orphan);
        self.stand_down(entry);
        attempt
    }

    /// It will answer nothing any more. What is doubted or blamed stays.
    pub fn end_session(&mut self) {
        *self = Seat {
            doubted: std::mem::take(&mut self.doubted),
            blamed: std::mem::take(&mut self.blamed),
            ..Seat::default()
        };
    }

    /// Less is blamed on an attempt that it holds. One on which nothing is any more is like others,
    /// and may be handed back.
    pub fn relax(&mut self, entry: &mut Entry, attempts_max: u32) {
        if !entry.is_careful {
            return;
        }
        entry.is_careful = entry.blame.is_any();
        self.careful_tasks -= u32::from(!entry.is_careful);
        self.is_taken_whole &= entry.blame.is_lonely(attempts_max);
    }

    #[inline(always)]
    fn stand_down(&mut self, entry: &Entry) {
        if entry.is_careful {
            self.careful_tasks -= 1;
            self.is_taken_whole = false;
        }
        self.recalled -= u32::from(entry.is_recalled);
    }
}
