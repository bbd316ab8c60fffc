//! The table of open tasks.
//!
//! What it is: a ring of entries, each in exactly one state, that is also the buffer in which outcomes
//! wait for their turn. What it is not: a decision who gets what.
//!
//! Invariant: `counts` and `held_bytes` are what a walk over all entries would find.

mod fresh;
mod row;

use std::collections::{BTreeMap, VecDeque};

use super::entry::{Entry, Given, State, Times};
use super::ring::Ring;
use crate::frame::Status;
use crate::journal::{Outcome, input_hash};
use crate::limits::WINDOW_TASKS;
use crate::payload::{Bytes, Payload};
use crate::time::Time;

pub(super) use fresh::Fresh;
pub use row::Sums;

/// Open tasks, and those that wait for delivery.
#[derive(Debug)]
pub(super) struct Table {
    ring: Ring,
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
    unrecorded: VecDeque<Unrecorded>,
    /// So many of the oldest have been handed over.
    handed: usize,
}

#[derive(Debug)]
struct Unrecorded {
    task: u64,
    /// The output has taken its place.
    input_hash: u64,
}

/// Where an entry is until the next is added or dropped.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// In that slot of the ring.
    Ring(usize),
    /// Aside, under its number.
    Aside(u64),
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

/// A task that is delivered.
#[derive(Debug)]
pub struct Answer<'a> {
    /// Its number.
    pub task: u64,
    /// How it ended.
    pub status: Status,
    /// The output, or the error's text.
    pub output: &'a [u8],
    /// Whose answer counted.
    pub worker: u32,
    /// How many attempts were lost while they ran.
    pub losses: u32,
    /// Time between sending and answer, less `run_us`; in microseconds.
    pub queue_us: u32,
    /// How long the kernel ran, in microseconds.
    pub run_us: u32,
    /// When the answer came, in milliseconds since the start of the run; 0 if none came in it.
    pub answered_ms: u32,
}

impl Table {
    pub fn new(ordered: bool) -> Table {
        Table {
            ring: Ring::new(),
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

    pub fn has_journal(&self) -> bool {
        self.journal.is_some()
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
    #[inline(always)]
    pub fn window_tasks(&self) -> usize {
        match self.order {
            Order::Input => self.ring.len(),
            Order::Arrival { .. } => self.counts.open(),
        }
    }

    /// The number that the next task will have.
    pub fn end(&self) -> u64 {
        self.ring.end()
    }

    /// Adds a ready task; its input of so many bytes is the caller's to fill in.
    #[inline(always)]
    pub fn push(&mut self, input_bytes: usize) -> &mut Payload {
        self.held_bytes += input_bytes;
        self.counts.ready += 1;
        &mut self.ring.push().payload
    }

    #[inline(always)]
    pub fn get(&self, task: u64) -> Option<&Entry> {
        match &self.order {
            Order::Arrival { stragglers, .. } if task < self.ring.base() => stragglers.get(&task),
            _ => self.ring.get(task),
        }
    }

    pub fn get_mut(&mut self, task: u64) -> Option<&mut Entry> {
        find(&mut self.ring, &mut self.order, task)
    }

    /// Whether the latest attempt of `task` is at `worker`.
    pub fn is_at(&self, task: u64, worker: u32) -> bool {
        self.get(task).is_some_and(|entry| entry.is_at(worker))
    }

    /// Moves an open task to another state.
    #[inline(always)]
    pub fn set_state(&mut self, task: u64, state: State) -> &mut Entry {
        let entry = find(&mut self.ring, &mut self.order, task);
        let entry = entry.expect("the task is open");
        self.counts.shift(entry, state);
        entry
    }

    /// Makes an attempt of a task.
    #[inline(always)]
    pub fn send(&mut self, place: Place, worker: u32, sent_at: Time) -> &Entry {
        let entry = at(&mut self.ring, &mut self.order, place);
        self.counts
            .shift(entry, State::InFlight { worker, sent_at });
        entry.attempt += 1;
        entry.is_careful = entry.blame.is_any();
        entry.is_recalled = false;
        entry
    }

    /// Where a task is, if it is open or waits for delivery: to look at it and then to change it costs
    /// one search, and there are millions.
    #[inline(always)]
    pub fn find(&self, task: u64) -> Option<Place> {
        match &self.order {
            Order::Arrival { stragglers, .. } if task < self.ring.base() => {
                stragglers.contains_key(&task).then_some(Place::Aside(task))
            }
            _ => self.ring.find(task).map(Place::Ring),
        }
    }

    #[inline(always)]
    pub fn at(&mut self, place: Place) -> &mut Entry {
        at(&mut self.ring, &mut self.order, place)
    }

    /// Gives a task its outcome, which is delivered in its turn; with a journal once it is durable.
    #[inline(always)]
    pub fn answer(
        &mut self,
        (task, place): (u64, Place),
        worker: u32,
        status: Status,
        output: Bytes<'_>,
        times: Times,
    ) {
        let entry = at(&mut self.ring, &mut self.order, place);
        let given = Given {
            worker,
            status,
            losses: losses(entry.blame.losses()),
            times,
        };
        let state = match &mut self.journal {
            None => State::Answered(given),
            Some(journal) => {
                let input_hash = input_hash(&entry.payload);
                journal
                    .unrecorded
                    .push_back(Unrecorded { task, input_hash });
                State::Recording(given)
            }
        };
        give(entry, state, output, &mut self.counts, &mut self.held_bytes);
        self.queue(task, state);
    }

    /// Gives a ready task the outcome that the journal has of it.
    pub fn restore(&mut self, worker: u32, outcome: &Outcome<'_>) {
        let state = State::Answered(Given {
            worker,
            status: outcome.status,
            losses: losses(outcome.losses),
            times: Times {
                queue_us: outcome.queue_us,
                run_us: outcome.run_us,
                answered_ms: 0,
            },
        });
        let (task, output) = (outcome.task, Bytes::from(outcome.output));
        let entry = find(&mut self.ring, &mut self.order, task).expect("the task is open");
        give(entry, state, output, &mut self.counts, &mut self.held_bytes);
        self.queue(task, state);
    }

    /// What is answered may be delivered; out of order as it comes.
    #[inline(always)]
    fn queue(&mut self, task: u64, state: State) {
        let State::Answered(given) = state else {
            return;
        };
        self.failed += u64::from(given.status != Status::Done);
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
        let &Unrecorded { task, input_hash } = journal.unrecorded.get(journal.handed)?;
        journal.handed += 1;
        let entry = self.get(task).expect("the task is open");
        let State::Recording(given) = entry.state else {
            unreachable!("it waits to be recorded");
        };
        Some(Outcome {
            task,
            input_hash,
            status: given.status,
            losses: given.losses.into(),
            queue_us: given.times.queue_us,
            run_us: given.times.run_us,
            worker: name(given.worker),
            output: &entry.payload,
        })
    }

    /// The oldest so many outcomes handed over are durable.
    pub fn recorded(&mut self, count: usize) {
        for _ in 0..count {
            let journal = self.journal.as_mut().expect("there is a journal");
            assert!(journal.handed > 0, "only what was handed over is recorded");
            journal.handed -= 1;
            let next = journal.unrecorded.pop_front();
            let task = next.expect("it was handed over").task;
            let entry = find(&mut self.ring, &mut self.order, task);
            let entry = entry.expect("the task is open");
            let State::Recording(given) = entry.state else {
                unreachable!("it waits to be recorded");
            };
            let state = State::Answered(given);
            self.counts.shift(entry, state);
            self.queue(task, state);
        }
    }

    /// The next outcome to deliver, if there is one.
    #[inline(always)]
    pub fn due(&self) -> Option<Answer<'_>> {
        let task = match &self.order {
            Order::Input => self.ring.base(),
            Order::Arrival { answered, .. } => *answered.front()?,
        };
        let entry = self.get(task)?;
        let State::Answered(given) = entry.state else {
            return None;
        };
        Some(Answer {
            task,
            status: given.status,
            output: &entry.payload,
            worker: given.worker,
            losses: given.losses.into(),
            queue_us: given.times.queue_us,
            run_us: given.times.run_us,
            answered_ms: given.times.answered_ms,
        })
    }

    /// What was due is delivered.
    #[inline(always)]
    pub fn delivered(&mut self) {
        let entry = match &self.order {
            Order::Input => self.ring.drop_front(),
            Order::Arrival { .. } => return self.delivered_out_of_order(),
        };
        assert!(matches!(entry.state, State::Answered(_)), "it was due");
        self.counts.answered -= 1;
        self.held_bytes -= entry.payload.len();
        entry.end();
    }

    fn delivered_out_of_order(&mut self) {
        let answer = self.due().expect("only what is due is delivered");
        let (task, output_bytes) = (answer.task, answer.output.len());
        self.counts.answered -= 1;
        self.held_bytes -= output_bytes;
        self.take_out_of_order(task);
    }

    /// Drops the tasks without an outcome that delivery waits for.
    pub fn skip_gap(&mut self) {
        while self.due().is_none() && self.ring.len() > 0 {
            self.ring.drop_front().end();
        }
    }

    /// The oldest open task and the worker that has it, if one has.
    pub fn oldest(&self) -> Option<(u64, Option<u32>)> {
        let worker = match self.ring.front()?.state {
            State::InFlight { worker, .. } => Some(worker),
            _ => None,
        };
        Some((self.ring.base(), worker))
    }

    /// Takes an answered task out from behind unanswered ones, and moves the base past what was
    /// delivered. A straggler at the base of a full ring is put aside, unless it was never sent: then
    /// the ring is full of its likes.
    fn take_out_of_order(&mut self, task: u64) {
        let Order::Arrival {
            answered,
            stragglers,
        } = &mut self.order
        else {
            unreachable!("only unordered runs deliver out of order");
        };
        answered.pop_front();
        let Some(entry) = self.ring.get_mut(task) else {
            stragglers.remove(&task);
            return;
        };
        entry.end();
        self.delivered += 1;
        while let Some(front) = self.ring.front() {
            let is_fresh = front.attempt == 0 && !front.is_replayed;
            if front.state == State::Delivered {
                self.delivered -= 1;
                self.ring.drop_front().end();
            } else if self.ring.len() < WINDOW_TASKS || is_fresh {
                break;
            } else {
                stragglers.insert(self.ring.base(), self.ring.pop_front());
            }
        }
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

fn losses(count: u32) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

/// The same for one that was found.
#[inline(always)]
fn at<'a>(ring: &'a mut Ring, order: &'a mut Order, place: Place) -> &'a mut Entry {
    match (place, order) {
        (Place::Ring(slot), _) => ring.at(slot),
        (Place::Aside(task), Order::Arrival { stragglers, .. }) => {
            stragglers.get_mut(&task).expect("it was just found")
        }
        (Place::Aside(_), Order::Input) => unreachable!("nothing is put aside in order"),
    }
}

/// A task's entry, by the parts of the table that it is in, so that the others can be used beside it.
#[inline(always)]
fn find<'a>(ring: &'a mut Ring, order: &'a mut Order, task: u64) -> Option<&'a mut Entry> {
    match order {
        Order::Arrival { stragglers, .. } if task < ring.base() => stragglers.get_mut(&task),
        _ => ring.get_mut(task),
    }
}

/// Puts the output in the place of the input.
#[inline(always)]
fn give(
    entry: &mut Entry,
    state: State,
    output: Bytes<'_>,
    counts: &mut Counts,
    held_bytes: &mut usize,
) {
    *held_bytes = *held_bytes - entry.payload.len() + output.len();
    counts.shift(entry, state);
    entry.payload.set(output);
}

impl Counts {
    #[inline(always)]
    fn shift(&mut self, entry: &mut Entry, state: State) {
        *self.of(entry.state) -= 1;
        *self.of(state) += 1;
        entry.state = state;
    }

    #[inline(always)]
    fn of(&mut self, state: State) -> &mut usize {
        match state {
            State::Ready => &mut self.ready,
            State::InFlight { .. } => &mut self.in_flight,
            State::Doubted(_) => &mut self.doubted,
            State::Recording(_) => &mut self.recording,
            State::Answered(_) => &mut self.answered,
            State::Delivered => unreachable!("a delivered task is not open"),
        }
    }
}
