//! What the caller's thread and the reactor's hand each other.
//!
//! What it is: [`Feed`], inputs one way and outcomes the other under one lock, and [`Job`], the
//! head's end of it. What it is not: a thread, or a copy of what passes through.
//!
//! Invariant: neither side waits for the other with the lock held, and the reactor's never waits at
//! all: told [`Next::Later`] it sleeps, and whoever changes that wakes it. Inputs are bounded when
//! they are pushed; outcomes by taking no further input while there are too many, so that only what
//! workers hold already comes on top.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::frame::Status;
use crate::kernel::{Delivery, Next, Workload};
use crate::limits::{CREDIT_TASKS, WINDOW_BYTES};
use crate::mailbox::{Mailbox, Notice};

/// Both queues.
#[derive(Debug)]
pub(super) struct Feed {
    state: Mutex<State>,
    /// There is an outcome, or the end.
    arrived: Condvar,
    mailbox: Mailbox,
}

#[derive(Debug, Default)]
struct State {
    inputs: VecDeque<Vec<u8>>,
    input_bytes: usize,
    /// No further input comes.
    is_closed: bool,
    /// The head was told to wait, and not woken since.
    is_waiting: bool,
    outcomes: VecDeque<Outcome>,
    outcome_bytes: usize,
    /// No further outcome comes.
    is_over: bool,
}

/// A [`Delivery`] that is kept.
#[derive(Debug)]
pub(super) struct Outcome {
    pub task: u64,
    pub status: Status,
    pub output: Vec<u8>,
    pub worker: String,
}

/// What there was to take.
pub(super) enum Taken {
    Outcome(Outcome),
    /// Nothing yet.
    Nothing,
    /// Nothing ever again.
    End,
}

impl Feed {
    /// Empty, for the reactor of this mailbox.
    pub fn new(mailbox: Mailbox) -> Feed {
        Feed {
            state: Mutex::default(),
            arrived: Condvar::new(),
            mailbox,
        }
    }

    /// Whether an input may be pushed.
    pub fn has_room(&self) -> bool {
        let state = self.lock();
        state.inputs.len() < CREDIT_TASKS as usize && state.input_bytes < WINDOW_BYTES
    }

    /// Hands an input over.
    pub fn push(&self, input: Vec<u8>) {
        let mut state = self.lock();
        state.input_bytes += input.len();
        state.inputs.push_back(input);
        self.wake(state);
    }

    /// Says that there are no more.
    pub fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        self.wake(state);
    }

    /// Takes the oldest outcome; if there is none, waits for one or the end if that is wanted.
    pub fn take(&self, waits: bool) -> Taken {
        let mut state = self.lock();
        loop {
            if let Some(outcome) = state.outcomes.pop_front() {
                state.outcome_bytes -= outcome.output.len();
                self.wake(state);
                return Taken::Outcome(outcome);
            }
            if state.is_over {
                return Taken::End;
            }
            if !waits {
                return Taken::Nothing;
            }
            state = (self.arrived.wait(state)).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Wakes the head if it waits and need not any more.
    fn wake(&self, mut state: MutexGuard<'_, State>) {
        if state.is_waiting && state.next() != Next::Later {
            state.is_waiting = false;
            drop(state);
            // The piece itself is empty: what there is waits here.
            self.mailbox.post(Notice::Input { bytes: Vec::new() });
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What the head is to be told.
    fn next(&self) -> Next {
        match self.inputs.is_empty() {
            true if self.is_closed => Next::End,
            false if self.outcome_bytes < WINDOW_BYTES => Next::Task,
            _ => Next::Later,
        }
    }
}

/// What the head sees of it.
#[derive(Debug)]
pub(super) struct Job {
    kernel: String,
    setup: Vec<u8>,
    feed: Arc<Feed>,
    delivered: u64,
}

impl Job {
    /// Runs `kernel` on what comes through `feed`.
    pub fn new(kernel: &str, setup: &[u8], feed: Arc<Feed>) -> Job {
        Job {
            kernel: kernel.to_owned(),
            setup: setup.to_vec(),
            feed,
            delivered: 0,
        }
    }
}

impl Workload for Job {
    fn kernel(&self) -> &str {
        &self.kernel
    }

    fn describe(&self) -> String {
        format!("{} over an iterator", self.kernel)
    }

    fn setup(&self) -> Vec<u8> {
        self.setup.clone()
    }

    fn next(&mut self, input: &mut Vec<u8>) -> Next {
        let mut state = self.feed.lock();
        let next = state.next();
        match next {
            Next::Task => {
                *input = state.inputs.pop_front().expect("it was there");
                state.input_bytes -= input.len();
            }
            Next::Later => state.is_waiting = true,
            Next::End => {}
        }
        next
    }

    fn deliver(&mut self, delivery: &Delivery<'_>, _: &mut Vec<u8>) {
        // A run that is cut short delivers with gaps, and what comes behind one would be taken for
        // another input's.
        if delivery.task != self.delivered {
            return;
        }
        self.delivered += 1;
        let outcome = Outcome {
            task: delivery.task,
            status: delivery.status,
            output: delivery.output.to_vec(),
            worker: match delivery.status {
                Status::Done => String::new(),
                _ => delivery.worker.to_owned(),
            },
        };
        let mut state = self.feed.lock();
        state.outcome_bytes += outcome.output.len();
        state.outcomes.push_back(outcome);
        drop(state);
        self.feed.arrived.notify_one();
    }

    fn finish(&mut self, _: &mut Vec<u8>) -> bool {
        true
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.feed.lock().is_over = true;
        self.feed.arrived.notify_one();
    }
}
