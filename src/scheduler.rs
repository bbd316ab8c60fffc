//! Who gets which attempt, and which outcome counts.
//!
//! What it is: the table of open tasks, and per worker the attempts it holds. What it is not: aware
//! of connections, frames or deadlines; those are the head's.
//!
//! Invariants: an open task is in exactly one state, and the states add up. Of all outcomes of a
//! task exactly one counts, the first from a worker that was sent it and whose session still lives.
//! A worker's attempts count against its credit until it answers them or its session ends, even when
//! the task has long gone elsewhere.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::frame::Status;
use crate::limits::{WINDOW_BYTES, WINDOW_TASKS};
use crate::payload::Payload;
use crate::role::Attempt;
use crate::time::Time;

/// The scheduler of one run.
#[derive(Debug)]
pub struct Scheduler {
    /// Open tasks, and those that wait for delivery: entry `i` is task `base + i`. A ring, not a
    /// map: the map costs two thirds of the throughput.
    ring: VecDeque<Entry>,
    base: u64,
    /// The first task that was never sent.
    fresh: u64,
    /// Tasks to send again, which go first.
    returned: BTreeSet<u64>,
    order: Order,
    seats: Vec<Seat>,
    counts: Counts,
    /// Payload bytes in the ring.
    held_bytes: usize,
    /// Moving mean of output lengths: what an attempt in flight will add to `held_bytes`.
    output_bytes_mean: usize,
}

/// In which order outcomes are delivered.
#[derive(Debug)]
enum Order {
    /// In input order.
    Input,
    /// As they come. Tasks that the ring has left behind are kept aside, so that one straggler
    /// does not make it grow; there are at most as many as attempts in flight.
    Arrival {
        answered: VecDeque<u64>,
        stragglers: BTreeMap<u64, Entry>,
    },
}

#[derive(Debug)]
struct Entry {
    /// The input; the output (or error) in its place once there is one.
    payload: Payload,
    /// Number of the latest attempt; 0 before the first.
    attempt: u32,
    state: State,
    sent_at: Time,
    queue_us: u32,
    run_us: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Waits to be sent.
    Ready,
    /// The latest attempt is at that worker.
    InFlight { worker: u32 },
    /// Waits to be delivered.
    Answered { worker: u32, status: Status },
    /// Delivered out of order; leaves when it reaches the front.
    Delivered,
}

/// What one worker holds.
#[derive(Debug, Default)]
struct Seat {
    /// Tasks in the order sent; those no longer in flight here are dropped from the front.
    sent: VecDeque<u64>,
    /// Attempts that no longer stand for their task (sent elsewhere since, or answered by another),
    /// with the length of their input.
    orphans: BTreeMap<Attempt, usize>,
    /// Attempts it has not answered, orphans included.
    tasks: u32,
    /// Their input bytes.
    bytes: usize,
}

/// How many open tasks are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Waiting to be sent.
    pub ready: usize,
    /// At a worker.
    pub in_flight: usize,
    /// Waiting to be delivered.
    pub answered: usize,
}

impl Counts {
    /// All of them.
    pub fn open(&self) -> usize {
        self.ready + self.in_flight + self.answered
    }
}

/// What an outcome was worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the task's recorded outcome.
    Counted,
    /// The task had one already: dropped.
    Late,
    /// That worker holds no such attempt: it broke the protocol.
    Stranger,
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
    /// How many attempts were made.
    pub attempts: u32,
    /// Time between sending and answer, less `run_us`; in microseconds.
    pub queue_us: u32,
    /// How long the kernel ran, in microseconds.
    pub run_us: u32,
}

/// Stands for "no worker" in [`Answer::worker`]: the head itself answered.
pub const NO_WORKER: u32 = u32::MAX;

impl Scheduler {
    /// For `workers` workers; `ordered` delivers in input order.
    pub fn new(workers: usize, ordered: bool) -> Scheduler {
        Scheduler {
            ring: VecDeque::new(),
            base: 0,
            fresh: 0,
            returned: BTreeSet::new(),
            order: if ordered {
                Order::Input
            } else {
                Order::Arrival {
                    answered: VecDeque::new(),
                    stragglers: BTreeMap::new(),
                }
            },
            seats: (0..workers).map(|_| Seat::default()).collect(),
            counts: Counts::default(),
            held_bytes: 0,
            output_bytes_mean: 0,
        }
    }

    /// Whether another task may be added: the window has room in tasks and in bytes. An outcome
    /// that delivery waits for is always open already, so a full window empties in the end.
    pub fn has_room(&self) -> bool {
        let tasks = match self.order {
            Order::Input => self.ring.len(),
            Order::Arrival { .. } => self.counts.open(),
        };
        let expected_bytes = self.output_bytes_mean * self.counts.in_flight;
        self.counts.open() == 0
            || (tasks < WINDOW_TASKS && self.held_bytes + expected_bytes < WINDOW_BYTES)
    }

    /// Adds the next task, ready to be sent.
    pub fn add(&mut self, input: &[u8]) {
        self.push(Payload::from(input), State::Ready);
        self.counts.ready += 1;
    }

    /// Adds the next task as already failed, for a `reason` the head itself has.
    pub fn add_failed(&mut self, reason: &str) {
        assert!(self.next_fresh().is_none(), "tasks are sent in order");
        let task = self.base + self.ring.len() as u64;
        self.fresh = task + 1;
        let (worker, status) = (NO_WORKER, Status::Failed);
        self.push(
            Payload::from(reason.as_bytes()),
            State::Answered { worker, status },
        );
        self.counts.answered += 1;
        if let Order::Arrival { answered, .. } = &mut self.order {
            answered.push_back(task);
        }
    }

    fn push(&mut self, payload: Payload, state: State) {
        self.held_bytes += payload.len();
        self.ring.push_back(Entry {
            payload,
            attempt: 0,
            state,
            sent_at: Time::ZERO,
            queue_us: 0,
            run_us: 0,
        });
    }

    /// Length of the input of the task that [`Scheduler::assign`] would take.
    pub fn next_input_bytes(&self) -> Option<usize> {
        let task = self.next_ready()?;
        Some(
            self.entry(task)
                .expect("a ready task is open")
                .payload
                .len(),
        )
    }

    /// Makes an attempt of the next ready task, returned ones first, and gives it to `worker`.
    pub fn assign(&mut self, worker: u32, now: Time) -> Option<(Attempt, &[u8])> {
        let task = self.next_ready()?;
        if !self.returned.remove(&task) {
            self.fresh = task + 1;
        }
        self.counts.ready -= 1;
        self.counts.in_flight += 1;
        let entry = find(&mut self.ring, self.base, &mut self.order, task).expect("it is open");
        debug_assert_eq!(entry.state, State::Ready);
        entry.state = State::InFlight { worker };
        entry.attempt += 1;
        entry.sent_at = now;
        let seat = &mut self.seats[worker as usize];
        seat.sent.push_back(task);
        seat.tasks += 1;
        seat.bytes += entry.payload.len();
        let number = entry.attempt;
        Some((Attempt { task, number }, &entry.payload))
    }

    /// Takes an outcome from `worker`.
    pub fn answer(
        &mut self,
        worker: u32,
        attempt: Attempt,
        status: Status,
        output: &[u8],
        run_us: u32,
        now: Time,
    ) -> Verdict {
        let task = attempt.task;
        let mut entry = find(&mut self.ring, self.base, &mut self.order, task);
        let state = entry.as_ref().map(|entry| entry.state);
        let is_current = state == Some(State::InFlight { worker })
            && entry.as_ref().is_some_and(|e| e.attempt == attempt.number);
        let seat = &mut self.seats[worker as usize];
        if is_current {
            seat.bytes -= entry.as_ref().map_or(0, |e| e.payload.len());
        } else if let Some(bytes) = seat.orphans.remove(&attempt) {
            seat.bytes -= bytes;
        } else {
            return Verdict::Stranger;
        }
        seat.tasks -= 1;
        let Some(entry) = entry.as_mut() else {
            return Verdict::Late;
        };
        match entry.state {
            State::Answered { .. } | State::Delivered => return Verdict::Late,
            State::Ready => {
                self.returned.remove(&task);
                self.counts.ready -= 1;
            }
            State::InFlight { worker: other } => {
                self.counts.in_flight -= 1;
                if !is_current {
                    let number = entry.attempt;
                    let orphans = &mut self.seats[other as usize].orphans;
                    orphans.insert(Attempt { task, number }, entry.payload.len());
                }
            }
        }
        self.counts.answered += 1;
        self.held_bytes = self.held_bytes - entry.payload.len() + output.len();
        self.output_bytes_mean = (self.output_bytes_mean * 15 + output.len()) / 16;
        let elapsed_us = u32::try_from(now.since(entry.sent_at).as_micros()).unwrap_or(u32::MAX);
        entry.queue_us = elapsed_us.saturating_sub(run_us);
        entry.run_us = run_us;
        entry.payload = Payload::from(output);
        entry.state = State::Answered { worker, status };
        if let Order::Arrival { answered, .. } = &mut self.order {
            answered.push_back(task);
        }
        self.forget_answered(worker);
        Verdict::Counted
    }

    /// The worker is silent: its tasks are ready again, though it may still answer them. Returns how
    /// many they were.
    pub fn take_back(&mut self, worker: u32) -> usize {
        self.return_tasks(worker, true)
    }

    /// The worker's session is over: its tasks are ready again and it will answer none. Returns how
    /// many they were.
    pub fn end_session(&mut self, worker: u32) -> usize {
        let count = self.return_tasks(worker, false);
        self.seats[worker as usize] = Seat::default();
        count
    }

    /// The next outcome to deliver.
    pub fn next_answer(&mut self) -> Option<Answer> {
        let (task, entry) = match &mut self.order {
            Order::Input => {
                let State::Answered { .. } = self.ring.front()?.state else {
                    return None;
                };
                let task = self.base;
                self.base += 1;
                (task, self.ring.pop_front()?)
            }
            Order::Arrival { answered, .. } => {
                let task = answered.pop_front()?;
                (task, self.take_out_of_order(task))
            }
        };
        Some(self.settle(task, entry))
    }

    /// Like [`Scheduler::next_answer`], but past tasks without an outcome, which are dropped: for
    /// the end of a run that cannot go on.
    pub fn next_answer_or_skip(&mut self) -> Option<Answer> {
        loop {
            if let Some(answer) = self.next_answer() {
                return Some(answer);
            }
            self.ring.pop_front()?;
            self.base += 1;
        }
    }

    /// How many open tasks are in which state.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Attempts that `worker` has not answered.
    pub fn held_tasks(&self, worker: u32) -> u32 {
        self.seats[worker as usize].tasks
    }

    /// Their input bytes.
    pub fn held_bytes(&self, worker: u32) -> usize {
        self.seats[worker as usize].bytes
    }

    /// The oldest open task and the worker that has it, if one has.
    pub fn oldest(&self) -> Option<(u64, Option<u32>)> {
        let worker = match self.ring.front()?.state {
            State::InFlight { worker } => Some(worker),
            _ => None,
        };
        Some((self.base, worker))
    }

    fn next_ready(&self) -> Option<u64> {
        self.returned.first().copied().or_else(|| self.next_fresh())
    }

    fn next_fresh(&self) -> Option<u64> {
        (self.fresh < self.base + self.ring.len() as u64).then_some(self.fresh)
    }

    fn entry(&self, task: u64) -> Option<&Entry> {
        match (task.checked_sub(self.base), &self.order) {
            (Some(index), _) => self.ring.get(usize::try_from(index).ok()?),
            (None, Order::Arrival { stragglers, .. }) => stragglers.get(&task),
            (None, Order::Input) => None,
        }
    }

    fn return_tasks(&mut self, worker: u32, may_answer: bool) -> usize {
        let seat = &mut self.seats[worker as usize];
        let mut count = 0;
        for task in std::mem::take(&mut seat.sent) {
            let Some(entry) = find(&mut self.ring, self.base, &mut self.order, task) else {
                continue;
            };
            if entry.state != (State::InFlight { worker }) {
                continue;
            }
            entry.state = State::Ready;
            self.returned.insert(task);
            if may_answer {
                let number = entry.attempt;
                seat.orphans
                    .insert(Attempt { task, number }, entry.payload.len());
            }
            count += 1;
        }
        self.counts.in_flight -= count;
        self.counts.ready += count;
        count
    }

    /// Drops from the worker's list what is no longer in flight there: from the front at every
    /// call, everywhere once the list is mostly that. Its length stays within twice what is in
    /// flight, even behind a task that runs for hours.
    fn forget_answered(&mut self, worker: u32) {
        let Seat { sent, tasks, .. } = &mut self.seats[worker as usize];
        let (ring, base, order) = (&mut self.ring, self.base, &mut self.order);
        let mut is_here = |task| {
            find(ring, base, order, task).is_some_and(|e| e.state == State::InFlight { worker })
        };
        while sent.front().is_some_and(|&task| !is_here(task)) {
            sent.pop_front();
        }
        if sent.len() > 2 * *tasks as usize + 64 {
            sent.retain(|&task| is_here(task));
        }
    }

    /// Takes an answered task out from behind unanswered ones.
    fn take_out_of_order(&mut self, task: u64) -> Entry {
        let Order::Arrival { stragglers, .. } = &mut self.order else {
            unreachable!("only unordered runs deliver out of order");
        };
        let Some(index) = task.checked_sub(self.base) else {
            return stragglers.remove(&task).expect("it is open");
        };
        let delivered = Entry {
            payload: Payload::EMPTY,
            attempt: 0,
            state: State::Delivered,
            sent_at: Time::ZERO,
            queue_us: 0,
            run_us: 0,
        };
        let entry = std::mem::replace(&mut self.ring[index as usize], delivered);
        while let Some(front) = self.ring.front() {
            let is_delivered = front.state == State::Delivered;
            if !is_delivered && (self.ring.len() < WINDOW_TASKS || self.base >= self.fresh) {
                break;
            }
            let entry = self.ring.pop_front().expect("there is a front");
            if !is_delivered {
                stragglers.insert(self.base, entry);
            }
            self.base += 1;
        }
        entry
    }

    fn settle(&mut self, task: u64, entry: Entry) -> Answer {
        let State::Answered { worker, status } = entry.state else {
            unreachable!("only answered tasks are delivered");
        };
        self.counts.answered -= 1;
        self.held_bytes -= entry.payload.len();
        Answer {
            task,
            status,
            output: entry.payload,
            worker,
            attempts: entry.attempt,
            queue_us: entry.queue_us,
            run_us: entry.run_us,
        }
    }

    /// Walks all tables and asserts the invariants. For tests: it costs the length of the window.
    #[doc(hidden)]
    pub fn check(&self) {
        let mut counts = Counts::default();
        let mut held_bytes = 0;
        let stragglers = match &self.order {
            Order::Input => None,
            Order::Arrival { stragglers, .. } => Some(stragglers.values()),
        };
        for entry in self.ring.iter().chain(stragglers.into_iter().flatten()) {
            held_bytes += entry.payload.len();
            match entry.state {
                State::Ready => counts.ready += 1,
                State::InFlight { .. } => counts.in_flight += 1,
                State::Answered { .. } => counts.answered += 1,
                State::Delivered => {}
            }
        }
        assert_eq!(counts, self.counts, "the states add up");
        assert_eq!(held_bytes, self.held_bytes, "the bytes add up");
        let unsent = (self.base + self.ring.len() as u64).saturating_sub(self.fresh);
        let ready = self.returned.len() + unsent as usize;
        assert_eq!(ready, counts.ready, "every ready task is listed");
        for (worker, seat) in self.seats.iter().enumerate() {
            let worker = worker as u32;
            let live = seat.sent.iter().filter(|&&task| {
                self.entry(task)
                    .is_some_and(|e| e.state == State::InFlight { worker })
            });
            let held = live.count() + seat.orphans.len();
            assert_eq!(held, seat.tasks as usize, "credit of worker {worker}");
        }
    }
}

/// The entry of `task`. A free function, so that the seats stay free to borrow.
fn find<'a>(
    ring: &'a mut VecDeque<Entry>,
    base: u64,
    order: &'a mut Order,
    task: u64,
) -> Option<&'a mut Entry> {
    match (task.checked_sub(base), order) {
        (Some(index), _) => ring.get_mut(usize::try_from(index).ok()?),
        (None, Order::Arrival { stragglers, .. }) => stragglers.get_mut(&task),
        (None, Order::Input) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::ZERO;

    /// A scheduler with tasks whose inputs are their numbers.
    fn scheduler(workers: usize, ordered: bool, tasks: u8) -> Scheduler {
        let mut scheduler = Scheduler::new(workers, ordered);
        (0..tasks).for_each(|task| scheduler.add(&[task]));
        scheduler
    }

    fn assign(scheduler: &mut Scheduler, worker: u32) -> Attempt {
        let (attempt, input) = scheduler.assign(worker, NOW).expect("one is ready");
        assert_eq!(u64::from(input[0]), attempt.task);
        scheduler.check();
        attempt
    }

    fn answer(scheduler: &mut Scheduler, worker: u32, attempt: Attempt) -> Verdict {
        let output = [attempt.task as u8, attempt.number as u8];
        let verdict = scheduler.answer(worker, attempt, Status::Done, &output, 0, NOW);
        scheduler.check();
        verdict
    }

    fn delivered(scheduler: &mut Scheduler) -> Vec<u64> {
        let answers = std::iter::from_fn(|| {
            let answer = scheduler.next_answer()?;
            scheduler.check();
            Some(answer.task)
        });
        answers.collect()
    }

    #[test]
    fn ordered_waits_for_the_oldest_and_unordered_does_not() {
        for (ordered, early) in [(true, vec![]), (false, vec![2, 1])] {
            let mut scheduler = scheduler(1, ordered, 3);
            let attempts: [Attempt; 3] = std::array::from_fn(|_| assign(&mut scheduler, 0));
            answer(&mut scheduler, 0, attempts[2]);
            answer(&mut scheduler, 0, attempts[1]);
            assert_eq!(delivered(&mut scheduler), early);
            answer(&mut scheduler, 0, attempts[0]);
            let rest = if ordered { vec![0, 1, 2] } else { vec![0] };
            assert_eq!(delivered(&mut scheduler), rest);
            assert_eq!(scheduler.counts(), Counts::default());
        }
    }

    #[test]
    fn an_answer_after_take_back_counts_while_its_task_is_open() {
        let mut scheduler = scheduler(2, true, 1);
        let first = assign(&mut scheduler, 0);
        assert_eq!(scheduler.take_back(0), 1);
        assert_eq!(scheduler.take_back(0), 0, "it is back already");
        assert_eq!(scheduler.held_tasks(0), 1, "it may still answer");
        assert_eq!(answer(&mut scheduler, 0, first), Verdict::Counted);
        assert_eq!(scheduler.next_input_bytes(), None, "not sent again");
        assert_eq!(scheduler.held_tasks(0), 0);
    }

    #[test]
    fn of_two_answers_the_first_counts() {
        for (winner, loser) in [(0, 1), (1, 0)] {
            let mut scheduler = scheduler(2, true, 1);
            let mut attempts = [assign(&mut scheduler, 0); 2];
            scheduler.take_back(0);
            attempts[1] = assign(&mut scheduler, 1);
            assert_eq!(attempts[1].number, 2);
            let (won, lost) = (attempts[winner], attempts[loser]);
            assert_eq!(answer(&mut scheduler, winner as u32, won), Verdict::Counted);
            assert_eq!(answer(&mut scheduler, loser as u32, lost), Verdict::Late);
            assert_eq!(
                answer(&mut scheduler, loser as u32, lost),
                Verdict::Stranger
            );
            let answer = scheduler.next_answer().expect("it is answered");
            assert_eq!(answer.output[1], won.number as u8);
            assert_eq!((answer.worker, answer.attempts), (winner as u32, 2));
        }
    }

    #[test]
    fn late_answers_are_known_after_delivery_too() {
        for ordered in [true, false] {
            let mut scheduler = scheduler(2, ordered, 1);
            let first = assign(&mut scheduler, 0);
            scheduler.take_back(0);
            let second = assign(&mut scheduler, 1);
            answer(&mut scheduler, 1, second);
            assert_eq!(delivered(&mut scheduler), [0]);
            assert_eq!(answer(&mut scheduler, 0, first), Verdict::Late);
            assert_eq!((scheduler.held_tasks(0), scheduler.held_bytes(0)), (0, 0));
        }
    }

    #[test]
    fn a_worker_that_was_not_sent_an_attempt_is_a_stranger() {
        let mut scheduler = scheduler(2, true, 2);
        let sent = assign(&mut scheduler, 0);
        let Attempt { task, number } = sent;
        let number_of_another = Attempt {
            task,
            number: number + 1,
        };
        let never_sent = Attempt { task: 1, number: 1 };
        let unknown = Attempt { task: 99, number };
        assert_eq!(answer(&mut scheduler, 1, sent), Verdict::Stranger);
        for attempt in [number_of_another, never_sent, unknown] {
            assert_eq!(answer(&mut scheduler, 0, attempt), Verdict::Stranger);
        }
        assert_eq!(answer(&mut scheduler, 0, sent), Verdict::Counted);
    }

    #[test]
    fn the_end_of_a_session_returns_its_tasks_oldest_first_and_frees_its_credit() {
        let mut scheduler = scheduler(2, true, 5);
        let attempts: [Attempt; 4] = std::array::from_fn(|_| assign(&mut scheduler, 0));
        answer(&mut scheduler, 0, attempts[1]);
        assert_eq!(scheduler.end_session(0), 3);
        scheduler.check();
        assert_eq!((scheduler.held_tasks(0), scheduler.held_bytes(0)), (0, 0));
        let order: [u64; 4] = std::array::from_fn(|_| assign(&mut scheduler, 1).task);
        assert_eq!(order, [0, 2, 3, 4], "before any new task");
        assert_eq!(answer(&mut scheduler, 0, attempts[0]), Verdict::Stranger);
    }

    #[test]
    fn an_orphan_costs_credit_until_it_is_answered_or_its_session_ends() {
        let mut scheduler = scheduler(2, true, 1);
        let first = assign(&mut scheduler, 0);
        scheduler.take_back(0);
        let second = assign(&mut scheduler, 1);
        answer(&mut scheduler, 0, first);
        assert_eq!(scheduler.held_tasks(1), 1, "it will still answer");
        assert_eq!(scheduler.end_session(1), 0, "nothing to send again");
        scheduler.check();
        assert_eq!(scheduler.held_tasks(1), 0);
        assert_eq!(answer(&mut scheduler, 1, second), Verdict::Stranger);
    }

    #[test]
    fn the_window_ends_at_its_tasks() {
        let mut scheduler = Scheduler::new(1, true);
        for _ in 0..WINDOW_TASKS {
            assert!(scheduler.has_room());
            scheduler.add(&[]);
        }
        assert!(!scheduler.has_room());
        let (attempt, _) = scheduler.assign(0, NOW).expect("one is ready");
        scheduler.answer(0, attempt, Status::Done, &[], 0, NOW);
        assert!(!scheduler.has_room(), "answered is not delivered");
        scheduler.next_answer();
        assert!(scheduler.has_room());
    }

    #[test]
    fn the_window_ends_at_its_bytes_but_takes_one_task_of_any_length() {
        let mut scheduler = Scheduler::new(1, true);
        let half = vec![0; WINDOW_BYTES / 2];
        scheduler.add(&vec![0; WINDOW_BYTES + 1]);
        assert!(!scheduler.has_room());
        let (attempt, _) = scheduler.assign(0, NOW).expect("one is ready");
        scheduler.answer(0, attempt, Status::Done, &[], 0, NOW);
        scheduler.next_answer();
        scheduler.add(&half);
        assert!(scheduler.has_room());
        scheduler.add(&half);
        assert!(!scheduler.has_room());
        scheduler.check();
    }

    #[test]
    fn expected_outputs_take_room_in_the_window() {
        let mut scheduler = Scheduler::new(1, true);
        let output = vec![0; WINDOW_BYTES / 2];
        scheduler.add(&[]);
        scheduler.add(&[]);
        for _ in 0..2 {
            scheduler.assign(0, NOW);
        }
        let first = Attempt { task: 0, number: 1 };
        scheduler.answer(0, first, Status::Done, &output, 0, NOW);
        assert!(
            scheduler.has_room(),
            "half is held, a thirty-second is expected"
        );
        let second = Attempt { task: 1, number: 1 };
        scheduler.answer(0, second, Status::Done, &output, 0, NOW);
        assert!(!scheduler.has_room());
    }

    #[test]
    fn an_unordered_run_is_not_held_up_by_a_straggler() {
        let mut scheduler = Scheduler::new(1, false);
        let tasks = 3 * WINDOW_TASKS as u64;
        scheduler.add(b"straggler");
        let (straggler, _) = scheduler.assign(0, NOW).expect("one is ready");
        for task in 1..tasks {
            assert!(scheduler.has_room());
            scheduler.add(&[]);
            let (attempt, _) = scheduler.assign(0, NOW).expect("one is ready");
            scheduler.answer(0, attempt, Status::Done, &[], 0, NOW);
            assert_eq!(scheduler.next_answer().expect("it is answered").task, task);
            assert!(scheduler.ring.len() <= WINDOW_TASKS);
        }
        scheduler.check();
        assert_eq!(answer(&mut scheduler, 0, straggler), Verdict::Counted);
        assert_eq!(delivered(&mut scheduler), [0]);
        assert_eq!(scheduler.counts(), Counts::default());
    }

    #[test]
    fn a_straggler_can_be_sent_again() {
        let mut scheduler = Scheduler::new(2, false);
        scheduler.add(&[0]);
        assign(&mut scheduler, 0);
        for _ in 1..=WINDOW_TASKS {
            scheduler.add(&[]);
            let (attempt, _) = scheduler.assign(1, NOW).expect("one is ready");
            scheduler.answer(1, attempt, Status::Done, &[], 0, NOW);
            scheduler.next_answer();
        }
        assert!(scheduler.base > 0, "it has been put aside");
        assert_eq!(scheduler.end_session(0), 1);
        let again = assign(&mut scheduler, 1);
        assert_eq!((again.task, again.number), (0, 2));
        assert_eq!(answer(&mut scheduler, 1, again), Verdict::Counted);
        assert_eq!(delivered(&mut scheduler), [0]);
    }

    #[test]
    fn the_list_of_what_was_sent_stays_short_behind_a_long_task() {
        let mut scheduler = Scheduler::new(1, false);
        for _ in 0..10_000 {
            scheduler.add(&[]);
            let (attempt, _) = scheduler.assign(0, NOW).expect("one is ready");
            if attempt.task > 0 {
                scheduler.answer(0, attempt, Status::Done, &[], 0, NOW);
            }
            assert!(scheduler.seats[0].sent.len() <= 70);
        }
    }

    #[test]
    fn a_failed_task_of_the_heads_own_takes_its_place_in_the_order() {
        let mut scheduler = scheduler(1, true, 1);
        let first = assign(&mut scheduler, 0);
        scheduler.add_failed("too long");
        scheduler.add(&[2]);
        scheduler.check();
        let third = assign(&mut scheduler, 0);
        assert_eq!(third.task, 2);
        answer(&mut scheduler, 0, third);
        answer(&mut scheduler, 0, first);
        assert_eq!(delivered(&mut scheduler), [0, 1, 2]);
    }
}
