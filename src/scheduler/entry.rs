//! One task as the table keeps it.
//!
//! What it is: its bytes, its state, and what is known of its latest attempt. What it is not: how
//! many tasks are in which state; the table counts them.
//!
//! Invariant: what only one state needs is in that state.

use super::blame::Blame;
use crate::frame::Status;
use crate::payload::Payload;
use crate::time::Time;

/// A cache line, and there may be as many as the window has tasks.
#[derive(Debug)]
pub(super) struct Entry {
    /// The input; the output (or error) in its place once there is one.
    pub payload: Payload,
    pub state: State,
    pub blame: Blame,
    /// Number of the latest attempt; 0 before the first.
    pub attempt: u32,
    /// The latest attempt counts among its worker's careful ones. Not the same as being blamed,
    /// which may change while it is under way.
    pub is_careful: bool,
    /// The worker was asked to hand the latest attempt back.
    pub is_recalled: bool,
    /// It was added while a journal was read: if it is never sent, that is not for want of its turn.
    pub is_replayed: bool,
    /// It was made twice since it was last ready.
    pub is_doubled: bool,
}

const _: () = assert!(size_of::<Entry>() <= 64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Waits to be sent.
    Ready,
    /// The latest attempt is at that worker.
    InFlight { worker: u32, sent_at: Time },
    /// It failed, and that may be the worker's fault.
    Doubted(Times),
    /// Has its outcome, which is not durable yet.
    Recording(Given),
    /// Waits to be delivered.
    Answered(Given),
    /// Delivered out of order; leaves when it reaches the front.
    Delivered,
}

/// How long an attempt took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Times {
    /// From sending to answer, less `run_us`.
    pub queue_us: u32,
    pub run_us: u32,
    /// When the answer came, in milliseconds since the start of the run. (A run of 49 days makes
    /// the rest of its log less useful, and nothing wrong.)
    pub answered_ms: u32,
}

/// An outcome, but for its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub worker: u32,
    pub status: Status,
    /// No task is lost oftener than `--attempts` allows.
    pub losses: u16,
    pub times: Times,
}

impl Times {
    pub fn new(sent_at: Time, run_us: u32, now: Time) -> Times {
        let elapsed_us = u32::try_from(now.micros_since(sent_at)).unwrap_or(u32::MAX);
        Times {
            queue_us: elapsed_us.saturating_sub(run_us),
            run_us,
            answered_ms: u32::try_from(now.as_micros() / 1000).unwrap_or(u32::MAX),
        }
    }
}

impl Entry {
    /// What stays in a delivered task's place.
    pub const fn delivered() -> Entry {
        Entry {
            payload: Payload::EMPTY,
            state: State::Delivered,
            blame: Blame::NONE,
            attempt: 0,
            is_careful: false,
            is_recalled: false,
            is_replayed: false,
            is_doubled: false,
        }
    }

    /// Makes it a delivered one, in its place; see [`Payload::set`].
    #[inline(always)]
    pub fn end(&mut self) {
        self.payload.clear();
        self.state = State::Delivered;
        self.attempt = 0;
        if self.blame.is_any() {
            self.blame = Blame::NONE;
        }
        self.is_careful = false;
        self.is_recalled = false;
        self.is_replayed = false;
        self.is_doubled = false;
    }

    /// When the latest attempt was sent, if it is at `worker`.
    #[inline(always)]
    pub fn sent_to(&self, worker: u32) -> Option<Time> {
        match self.state {
            State::InFlight {
                worker: at,
                sent_at,
            } if at == worker => Some(sent_at),
            _ => None,
        }
    }

    /// Whether the latest attempt is at `worker`.
    #[inline(always)]
    pub fn is_at(&self, worker: u32) -> bool {
        self.sent_to(worker).is_some()
    }
}
