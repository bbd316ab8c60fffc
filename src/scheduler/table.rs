//! The table of open tasks.
//!
//! What it is: a ring of entries, each in exactly one state, that is also the buffer in which outcomes
//! wait for their turn. What it is not: a decision who gets what.
//!
//! Invariant: `counts` and `held_bytes` are what a walk over all entries would find.

use std::collections::{BTreeMap, VecDeque};

use super::blame::Blame;
use crate::frame::Status;
use crate::journal::{Outcome, input_hash};
use crate::limits::WINDOW_TASKS;
use crate::payload::Payload;
use crate::time::Time;

/// Open tasks, and those that wait for delivery.
#[derive(Debug)]
pub(super) struct Table {
    /// Entry `i` is task `base + i`. A ring, not a map: the map costs two thirds of the throughput.
    ring: VecDeque<Entry>,
    base: u64,
    order: Order,
    counts: Counts,
    /// Delivered entries that are still in the ring.
    delivered: usize,
    held_bytes: usize,
    /// Tasks that were given another outcome than `done`, and it may be delivered.
    failed: u64,
    journal: Option<Journal>,
}

/// Outcomes that wait to become durable, in the order in which they were given.
#[derive(Debug, Default)]
struct Journal {
    unrecorded: VecDeque<u64>,
    /// So many of the oldest have been handed over.
    handed: usize,
}

/// In which order outcomes are delivered.
#[derive(Debug)]
enum Order {
    /// In input order.
    Input,
    /// As they come. Tasks that the ring has left behind are kept aside, so that one straggler
    /// does not make it grow; there are at most as many as attempts in flight (were, if they come
    /// from a journal).
    Arrival {
        answered: VecDeque<u64>,
        stragglers: BTreeMap<u64, Entry>,
    },
}

#[derive(Debug)]
pub(super) struct Entry {
    /// The input; the output (or error) in its place once there is one.
    pub payload: Payload,
    /// Number of the latest attempt; 0 before the first.
    pub attempt: u32,
    pub state: State,
    pub blame: Blame,
    /// The latest attempt counts among its worker's careful ones. Not the same as being blamed,
    /// which may change while it is under way.
    pub is_careful: bool,
    /// The worker was asked to hand the latest attempt back.
    pub is_recalled: bool,
    /// It was added while a journal was read: if it is never sent, that is not for want of its turn.
    pub is_replayed: bool,
    /// It was made twice since it was last ready.
    pub is_doubled: bool,
    /// What the input was, for the journal; 0 without one.
    pub input_hash: u64,
    pub sent_at: Time,
    /// Of the attempt that counted.
    pub queue_us: u32,
    pub run_us: u32,
    /// Set with the outcome.
    pub losses: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Waits to be sent.
    Ready,
    /// The latest attempt is at that worker.
    InFlight { worker: u32 },
    /// It failed, and that may be the worker's fault.
    Doubted,
    /// Has its outcome, which is not durable yet.
    Recording { worker: u32, status: Status },
    /// Waits to be delivered.
    Answered { worker: u32, status: Status },
    /// Delivered out of order; leaves when it reaches the front.
    Delivered,
}

/// How many open tasks are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Waiting to be sent.
    pub ready: usize,
    /// At a worker.
    pub in_flight: usize,
    /// Failed, which is not believed yet.
    pub doubted: usize,
    /// Waiting for the journal.
    pub recording: usize,
    /// Waiting to be delivered.
    pub answered: usize,
}

impl Counts {
    /// All of them.
    pub fn open(&self) -> usize {
        self.undone() + self.recording + self.answered
    }

    /// Those without an outcome.
    pub fn undone(&self) -> usize {
        self.ready + self.in_flight + self.doubted
    }
}

/// A task ready to be delivered.
#[derive(Debug)]
pub struct Answer {
    /// Its number.
    pub task: u64,
    /// How it ended.
    pub status: Status,
    /// The output, or the error's text.
    pub output: Payload,
    /// Whose answer counted.
    pub worker: u32,
    /// How many attempts were lost while they ran.
    pub losses: u32,
    /// Time between sending and answer, less `run_us`; in microseconds.
    pub queue_us: u32,
    /// How long the kernel ran, in microseconds.
    pub run_us: u32,
}

impl Table {
    pub fn new(ordered: bool) -> Table {
        Table {
            ring: VecDeque::new(),
            base: 0,
            order: if ordered {
                Order::Input
            } else {
                Order::Arrival {
                    answered: VecDeque::new(),
                    stragglers: BTreeMap::new(),
                }
            },
            counts: Counts::default(),
            delivered: 0,
            held_bytes: 0,
            failed: 0,
            journal: None,
        }
    }

    pub fn keep_journal(&mut self) {
        assert_eq!(self.end(), 0, "before the first task");
        self.journal = Some(Journal::default());
    }

    pub fn failed(&self) -> u64 {
        self.failed
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Payload bytes of all entries.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Tasks that count against the window.
    pub fn window_tasks(&self) -> usize {
        match self.order {
            Order::Input => self.ring.len(),
            Order::Arrival { .. } => self.counts.open(),
        }
    }

    /// The number that the next task will have.
    pub fn end(&self) -> u64 {
        self.base + self.ring.len() as u64
    }

    /// Adds a ready task; returns its number.
    pub fn push(&mut self, payload: Payload) -> u64 {
        let task = self.end();
        self.held_bytes += payload.len();
        self.counts.ready += 1;
        let input_hash = match self.journal {
            Some(_) => input_hash(&payload),
            None => 0,
        };
        self.ring.push_back(Entry {
            payload,
            input_hash,
            state: State::Ready,
            ..Entry::delivered()
        });
        task
    }

    pub fn get(&self, task: u64) -> Option<&Entry> {
        match (task.checked_sub(self.base), &self.order) {
            (Some(index), _) => self.ring.get(usize::try_from(index).ok()?),
            (None, Order::Arrival { stragglers, .. }) => stragglers.get(&task),
            (None, Order::Input) => None,
        }
    }

    pub fn get_mut(&mut self, task: u64) -> Option<&mut Entry> {
        find(&mut self.ring, &mut self.order, self.base, task)
    }

    /// Whether the latest attempt of `task` is at `worker`.
    pub fn is_at(&self, task: u64, worker: u32) -> bool {
        self.get(task)
            .is_some_and(|entry| entry.state == State::InFlight { worker })
    }

    /// Moves an open task to another state, except that of having an answer.
    pub fn set_state(&mut self, task: u64, state: State) -> &mut Entry {
        let entry = find(&mut self.ring, &mut self.order, self.base, task);
        let entry = entry.expect("the task is open");
        self.counts.shift(entry, state);
        entry
    }

    /// Makes an attempt of a ready task.
    pub fn send(&mut self, task: u64, worker: u32, now: Time) -> &Entry {
        let entry = self.set_state(task, State::InFlight { worker });
        entry.attempt += 1;
        entry.is_careful = entry.blame.is_any();
        entry.is_recalled = false;
        entry.sent_at = now;
        entry
    }

    /// Notes how long an attempt took.
    pub fn note_times(&mut self, task: u64, run_us: u32, now: Time) {
        let entry = self.get_mut(task).expect("the task is open");
        let elapsed_us = u32::try_from(now.since(entry.sent_at).as_micros()).unwrap_or(u32::MAX);
        entry.queue_us = elapsed_us.saturating_sub(run_us);
        entry.run_us = run_us;
    }

    /// Gives a task its outcome, which is delivered in its turn; with a journal once it is durable.
    pub fn answer(&mut self, task: u64, worker: u32, status: Status, output: Payload) {
        let state = match &mut self.journal {
            None => State::Answered { worker, status },
            Some(journal) => {
                journal.unrecorded.push_back(task);
                State::Recording { worker, status }
            }
        };
        let entry = self.give(task, state, output);
        entry.losses = entry.blame.losses();
        self.queue(task, state);
    }

    /// Gives a ready task the outcome that the journal has of it.
    pub fn restore(&mut self, worker: u32, outcome: &Outcome<'_>) {
        let (task, status) = (outcome.task, outcome.status);
        let state = State::Answered { worker, status };
        let entry = self.give(task, state, outcome.output.into());
        entry.losses = outcome.losses;
        entry.queue_us = outcome.queue_us;
        entry.run_us = outcome.run_us;
        self.queue(task, state);
    }

    /// Puts the output in the place of the input.
    fn give(&mut self, task: u64, state: State, output: Payload) -> &mut Entry {
        let entry = find(&mut self.ring, &mut self.order, self.base, task);
        let entry = entry.expect("the task is open");
        self.counts.shift(entry, state);
        self.held_bytes = self.held_bytes - entry.payload.len() + output.len();
        entry.payload = output;
        entry
    }

    /// What is answered may be delivered; out of order as it comes.
    fn queue(&mut self, task: u64, state: State) {
        let State::Answered { status, .. } = state else {
            return;
        };
        self.failed += u64::from(status != Status::Done);
        if let Order::Arrival { answered, .. } = &mut self.order {
            answered.push_back(task);
        }
    }

    /// The next outcome for the journal, in the order given; `name` tells the worker's.
    pub fn next_to_record<'a>(
        &'a mut self,
        name: impl FnOnce(u32) -> &'a str,
    ) -> Option<Outcome<'a>> {
        let journal = self.journal.as_mut()?;
        let &task = journal.unrecorded.get(journal.handed)?;
        journal.handed += 1;
        let entry = self.get(task).expect("the task is open");
        let State::Recording { worker, status } = entry.state else {
            unreachable!("it waits to be recorded");
        };
        Some(Outcome {
            task,
            input_hash: entry.input_hash,
            status,
            losses: entry.losses,
            queue_us: entry.queue_us,
            run_us: entry.run_us,
            worker: name(worker),
            output: &entry.payload,
        })
    }

    /// The oldest so many outcomes handed over are durable.
    pub fn recorded(&mut self, count: usize) {
        for _ in 0..count {
            let journal = self.journal.as_mut().expect("there is a journal");
            assert!(journal.handed > 0, "only what was handed over is recorded");
            journal.handed -= 1;
            let task = journal.unrecorded.pop_front().expect("it was handed over");
            let Some(&Entry {
                state: State::Recording { worker, status },
                ..
            }) = self.get(task)
            else {
                unreachable!("it waits to be recorded");
            };
            let state = State::Answered { worker, status };
            self.set_state(task, state);
            self.queue(task, state);
        }
    }

    /// The next outcome to deliver.
    pub fn next_answer(&mut self) -> Option<Answer> {
        let (task, entry) = match &mut self.order {
            Order::Input => {
                let State::Answered { .. } = self.ring.front()?.state else {
                    return None;
                };
                self.base += 1;
                (self.base - 1, self.ring.pop_front()?)
            }
            Order::Arrival { answered, .. } => {
                let task = answered.pop_front()?;
                (task, self.take_out_of_order(task))
            }
        };
        let State::Answered { worker, status } = entry.state else {
            unreachable!("only answered tasks are delivered");
        };
        self.counts.answered -= 1;
        self.held_bytes -= entry.payload.len();
        Some(Answer {
            task,
            status,
            output: entry.payload,
            worker,
            losses: entry.losses,
            queue_us: entry.queue_us,
            run_us: entry.run_us,
        })
    }

    /// The next outcome, past tasks that have none; those are dropped.
    pub fn next_answer_or_skip(&mut self) -> Option<Answer> {
        loop {
            if let Some(answer) = self.next_answer() {
                return Some(answer);
            }
            self.ring.pop_front()?;
            self.base += 1;
        }
    }

    /// The oldest open task and the worker that has it, if one has.
    pub fn oldest(&self) -> Option<(u64, Option<u32>)> {
        let worker = match self.ring.front()?.state {
            State::InFlight { worker } => Some(worker),
            _ => None,
        };
        Some((self.base, worker))
    }

    /// Takes an answered task out from behind unanswered ones, and moves the base past what was
    /// delivered. A straggler at the base of a full ring is put aside, unless it was never sent: then
    /// the ring is full of its likes.
    fn take_out_of_order(&mut self, task: u64) -> Entry {
        let Order::Arrival { stragglers, .. } = &mut self.order else {
            unreachable!("only unordered runs deliver out of order");
        };
        let Some(index) = task.checked_sub(self.base) else {
            return stragglers.remove(&task).expect("it is open");
        };
        let entry = std::mem::replace(&mut self.ring[index as usize], Entry::delivered());
        self.delivered += 1;
        while let Some(front) = self.ring.front() {
            let is_delivered = front.state == State::Delivered;
            let is_fresh = front.attempt == 0 && !front.is_replayed;
            if !is_delivered && (self.ring.len() < WINDOW_TASKS || is_fresh) {
                break;
            }
            let front = self.ring.pop_front().expect("there is a front");
            if is_delivered {
                self.delivered -= 1;
            } else {
                stragglers.insert(self.base, front);
            }
            self.base += 1;
        }
        entry
    }

    #[cfg(test)]
    pub fn ring_len(&self) -> usize {
        self.ring.len()
    }

    fn stragglers(&self) -> usize {
        match &self.order {
            Order::Input => 0,
            Order::Arrival { stragglers, .. } => stragglers.len(),
        }
    }

    /// The states add up.
    pub fn check_sums(&self) {
        let entries = self.ring.len() + self.stragglers() - self.delivered;
        assert_eq!(self.counts.open(), entries, "every task is in one state");
    }

    /// Every entry is counted where it is.
    pub fn check(&self) {
        let mut counts = Counts::default();
        let mut held_bytes = 0;
        let stragglers = match &self.order {
            Order::Input => None,
            Order::Arrival { stragglers, .. } => Some(stragglers.values()),
        };
        for entry in self.ring.iter().chain(stragglers.into_iter().flatten()) {
            held_bytes += entry.payload.len();
            if entry.state != State::Delivered {
                *counts.of(entry.state) += 1;
            }
        }
        assert_eq!(counts, self.counts, "the states add up");
        assert_eq!(held_bytes, self.held_bytes, "the bytes add up");
    }
}

/// A task's entry, by the parts of the table that it is in, so that the others can be used beside it.
fn find<'a>(
    ring: &'a mut VecDeque<Entry>,
    order: &'a mut Order,
    base: u64,
    task: u64,
) -> Option<&'a mut Entry> {
    match (task.checked_sub(base), order) {
        (Some(index), _) => ring.get_mut(usize::try_from(index).ok()?),
        (None, Order::Arrival { stragglers, .. }) => stragglers.get_mut(&task),
        (None, Order::Input) => None,
    }
}

impl Counts {
    fn shift(&mut self, entry: &mut Entry, state: State) {
        *self.of(entry.state) -= 1;
        *self.of(state) += 1;
        entry.state = state;
    }

    fn of(&mut self, state: State) -> &mut usize {
        match state {
            State::Ready => &mut self.ready,
            State::InFlight { .. } => &mut self.in_flight,
            State::Doubted => &mut self.doubted,
            State::Recording { .. } => &mut self.recording,
            State::Answered { .. } => &mut self.answered,
            State::Delivered => unreachable!("a delivered task is not open"),
        }
    }
}

impl Entry {
    /// What stays in a delivered task's place.
    fn delivered() -> Entry {
        Entry {
            payload: Payload::EMPTY,
            attempt: 0,
            state: State::Delivered,
            blame: Blame::default(),
            is_careful: false,
            is_recalled: false,
            is_replayed: false,
            is_doubled: false,
            input_hash: 0,
            sent_at: Time::ZERO,
            queue_us: 0,
            run_us: 0,
            losses: 0,
        }
    }
}
