//! Who gets which attempt, and which outcome counts.
//!
//! What it is: the table of open tasks, and per worker the attempts it holds. What it is not: aware
//! of connections, frames or deadlines; those are the head's.
//!
//! Invariants: an open task is in exactly one state, and the states add up. Of all outcomes of a
//! task exactly one counts, the first from a worker that was sent it and whose session still lives.
//! A worker's attempts count against its credit until it answers them or its session ends, even when
//! the task has long gone elsewhere. No task is given up but at a loss for which nothing else can be
//! to blame (`blame.rs`).

mod blame;
mod entry;
mod fresh;
mod loss;
mod pick;
mod replay;
mod retries;
mod ring;
mod row;
mod seat;
mod sent;
mod table;
mod tail;

use std::collections::BTreeMap;

use crate::frame::Status;
use crate::journal::Outcome;
use crate::limits::{WINDOW_BYTES, WINDOW_TASKS};
use crate::payload::{Bytes, Payload};
use crate::role::Attempt;
use crate::time::Time;

use blame::{Blame, Waiting};
use entry::{State, Times};
pub use fresh::Fresh;
pub use loss::Loss;
pub use pick::Pick;
pub use replay::Misfit;
use retries::Retries;
use seat::Seat;
use table::Table;
pub use table::{Answer, Counts, Sums};
use tail::Typical;

/// The scheduler of one run.
#[derive(Debug)]
pub struct Scheduler {
    table: Table,
    /// The first task that was never sent.
    fresh: u64,
    /// Tasks to send again, which go first.
    waiting: Waiting,
    seats: Vec<Seat>,
    /// The worker that gets no more until it is empty, for a task that must run alone.
    reserved: Option<u32>,
    /// The reasons of failures that are not believed yet: they may be the worker's fault.
    doubts: BTreeMap<u64, Payload>,
    retries: Retries,
    /// A task is given up at so many losses; at least 1.
    attempts_max: u32,
    /// Moving mean of output lengths: what an attempt in flight will add to the window.
    output_bytes_mean: usize,
    /// How long an attempt usually runs.
    typical: Typical,
    /// By task: the older attempt of one that two workers run at once, and who has it.
    twins: BTreeMap<u64, (u32, Attempt)>,
    /// Attempts that workers hold in vain, until they are told.
    cancels: Vec<(u32, Attempt)>,
}

/// What an outcome was worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the task's recorded outcome (or will be, if it was doubted).
    Counted,
    /// The task has another by now: dropped.
    Late,
    /// That worker holds no such attempt: it broke the protocol.
    Stranger,
}

/// Stands for "no worker" in [`Answer::worker`]: the head itself answered.
pub const NO_WORKER: u32 = u32::MAX;

impl Scheduler {
    /// For `workers` workers; `ordered` delivers in input order; a task is given up at
    /// `attempts_max` losses.
    pub fn new(workers: usize, ordered: bool, attempts_max: u32) -> Scheduler {
        assert!(attempts_max > 0, "every task gets one attempt");
        Scheduler {
            table: Table::new(ordered),
            fresh: 0,
            waiting: Waiting::default(),
            seats: (0..workers).map(|_| Seat::default()).collect(),
            reserved: None,
            doubts: BTreeMap::new(),
            retries: Retries::default(),
            attempts_max,
            output_bytes_mean: 0,
            typical: Typical::default(),
            twins: BTreeMap::new(),
            cancels: Vec::new(),
        }
    }

    /// From now on an outcome is delivered only once it is recorded.
    pub fn journalled(mut self) -> Scheduler {
        self.table.keep_journal();
        self
    }

    /// Whether another task may be added: the window has room in tasks and in bytes, as it always has
    /// while nothing is open. An outcome that delivery waits for is always open already, so a full
    /// window empties in the end.
    #[inline(always)]
    pub fn has_room(&self) -> bool {
        let expected_bytes = self.output_bytes_mean * self.table.counts().in_flight;
        self.table.window_tasks() < WINDOW_TASKS
            && self.table.held_bytes() + expected_bytes < WINDOW_BYTES
    }

    /// Adds the next task, ready to be sent.
    pub fn add(&mut self, input: &[u8]) {
        self.table.push(input.len()).set(input);
    }

    /// The same; takes the bytes out of `input`.
    #[inline(always)]
    pub fn add_from(&mut self, input: &mut Vec<u8>) {
        self.table.push(input.len()).set_from(input);
    }

    /// Adds the next task as already failed, for a `reason` the head itself has.
    pub fn add_failed(&mut self, input: &[u8], reason: &str) {
        assert!(!self.has_fresh(), "tasks are sent in order");
        let task = self.fresh;
        self.add(input);
        self.fresh += 1;
        let (reason, times) = (Bytes::from(reason), Times::default());
        self.settle(task, NO_WORKER, Status::Failed, reason, times);
    }

    /// Takes an outcome from `worker`.
    #[inline(always)]
    pub fn answer(
        &mut self,
        worker: u32,
        attempt: Attempt,
        status: Status,
        output: Bytes<'_>,
        run_us: u32,
        now: Time,
    ) -> Verdict {
        if status.is_failure()
            && let Some(verdict) = self.retry(worker, attempt)
        {
            self.seats[worker as usize].answered_at = now;
            return verdict;
        }
        let task = attempt.task;
        let seat = &mut self.seats[worker as usize];
        seat.answered_at = now;
        let place = self.table.find(task);
        let sent_at = place.and_then(|place| seat.leave(attempt, worker, self.table.at(place)));
        let sent_at = match sent_at.map_or_else(|| self.leave_orphan(worker, attempt), Ok) {
            Ok(sent_at) => sent_at,
            Err(verdict) => return verdict,
        };
        let times = Times::new(sent_at, run_us, now);
        let place = place.expect("the task is open");
        (self.table).answer((task, place), worker, status, output, times);
        self.end_trials(task);
        if status == Status::Done {
            self.typical.note(run_us);
        }
        self.output_bytes_mean = (self.output_bytes_mean * 15 + output.len()) / 16;
        Verdict::Counted
    }

    /// Takes a failure from `worker` that may be its own fault: it counts only once it is confirmed.
    pub fn doubt(
        &mut self,
        worker: u32,
        attempt: Attempt,
        reason: &[u8],
        run_us: u32,
        now: Time,
    ) -> Verdict {
        self.seats[worker as usize].answered_at = now;
        let sent_at = match self.leave_unanswered(worker, attempt) {
            Ok(sent_at) => sent_at,
            Err(verdict) => return verdict,
        };
        let task = attempt.task;
        let times = Times::new(sent_at, run_us, now);
        self.table.set_state(task, State::Doubted(times));
        self.doubts.insert(task, Payload::from(reason));
        self.seats[worker as usize].doubted.insert(task);
        Verdict::Counted
    }

    /// How many failures of `worker` are doubted.
    pub fn doubted(&self, worker: u32) -> usize {
        self.seats[worker as usize].doubted.len()
    }

    /// The doubted failures of `worker` are the tasks' own answers. Returns how many they were.
    #[inline(always)]
    pub fn confirm(&mut self, worker: u32) -> usize {
        match self.doubts.is_empty() {
            true => 0,
            false => self.confirm_all(worker),
        }
    }

    #[cold]
    fn confirm_all(&mut self, worker: u32) -> usize {
        let tasks = std::mem::take(&mut self.seats[worker as usize].doubted);
        for &task in &tasks {
            let reason = self.doubts.remove(&task).expect("it is doubted");
            let Some(State::Doubted(times)) = self.table.get(task).map(|entry| entry.state) else {
                unreachable!("it is doubted");
            };
            self.confirm_one(task, worker, &reason, times);
        }
        tasks.len()
    }

    /// The doubted failures of `worker` are its own fault: the tasks are ready again. Returns how
    /// many they were.
    pub fn overrule(&mut self, worker: u32) -> usize {
        let tasks = std::mem::take(&mut self.seats[worker as usize].doubted);
        for &task in &tasks {
            self.doubts.remove(&task);
            self.make_ready(task);
        }
        tasks.len()
    }

    /// `worker` did not run an attempt: its task is ready again, and nothing is counted.
    pub fn put_back(&mut self, worker: u32, attempt: Attempt) -> Verdict {
        match self.leave_unanswered(worker, attempt) {
            Ok(_) => self.make_ready(attempt.task),
            Err(verdict) => return verdict,
        }
        Verdict::Counted
    }

    /// The next outcome for the journal, in the order in which they came, each once; `name` tells
    /// the worker's.
    pub fn next_to_record<'a>(
        &'a mut self,
        name: impl FnOnce(u32) -> &'a str,
    ) -> Option<Outcome<'a>> {
        self.table.next_to_record(name)
    }

    /// The oldest so many outcomes that were handed to the journal are durable.
    pub fn recorded(&mut self, count: usize) {
        self.table.recorded(count);
    }

    /// The next outcome to deliver, if there is one.
    #[inline(always)]
    pub fn due(&self) -> Option<Answer<'_>> {
        self.table.due()
    }

    /// It is delivered: its task is done with.
    #[inline(always)]
    pub fn delivered(&mut self) {
        self.table.delivered();
    }

    /// Drops the tasks without an outcome that delivery waits for: at the end of a run that cannot
    /// go on.
    pub fn skip_gap(&mut self) {
        self.table.skip_gap();
    }

    /// How many open tasks are in which state.
    pub fn counts(&self) -> Counts {
        self.table.counts()
    }

    /// Attempts that `worker` has not answered.
    pub fn held_tasks(&self, worker: u32) -> u32 {
        self.seats[worker as usize].tasks
    }

    /// Their input bytes.
    pub fn held_bytes(&self, worker: u32) -> usize {
        self.seats[worker as usize].bytes
    }

    /// The attempts that `worker` has not answered, and when each was sent.
    pub fn held(&self, worker: u32) -> impl Iterator<Item = (Attempt, Time)> {
        let seat = &self.seats[worker as usize];
        let live = seat.sent.iter().filter_map(move |task| {
            let entry = self.table.get(task)?;
            let number = entry.attempt;
            Some((Attempt { task, number }, entry.sent_to(worker)?))
        });
        let orphans = seat.orphans.iter();
        live.chain(orphans.map(|(attempt, orphan)| (*attempt, orphan.sent_at)))
    }

    /// When `worker` was sent an attempt that it has not answered.
    pub fn sent_at(&self, worker: u32, attempt: Attempt) -> Option<Time> {
        let entry = self.table.get(attempt.task);
        let entry = entry.filter(|entry| entry.attempt == attempt.number);
        let orphan = self.seats[worker as usize].orphans.get(&attempt);
        (entry.and_then(|entry| entry.sent_to(worker))).or(orphan.map(|orphan| orphan.sent_at))
    }

    /// The oldest open task and the worker that has it, if one has.
    pub fn oldest(&self) -> Option<(u64, Option<u32>)> {
        self.table.oldest()
    }

    /// Tasks that have failed for good.
    pub fn failed(&self) -> u64 {
        self.table.failed()
    }

    /// Tasks that have an outcome, of this run or of an earlier one.
    #[inline(always)]
    pub fn answered(&self) -> u64 {
        self.table.end() - self.table.counts().undone() as u64
    }

    fn make_ready(&mut self, task: u64) {
        let entry = self.table.set_state(task, State::Ready);
        entry.is_doubled = false;
        let entry = self.table.get(task).expect("it is open");
        self.waiting.add(task, &entry.blame, self.attempts_max);
    }

    /// An attempt that no longer stands for its task is answered, and no longer at `worker`. Says
    /// when it was sent if the task still waits for an outcome; then that is in no list of waiting
    /// tasks any more, and no other attempt stands for it.
    #[cold]
    fn leave_orphan(&mut self, worker: u32, attempt: Attempt) -> Result<Time, Verdict> {
        let task = attempt.task;
        let state = self.table.get(task).map(|entry| entry.state);
        let Some(orphan) = self.seats[worker as usize].leave_orphan(attempt) else {
            return Err(Verdict::Stranger);
        };
        self.forget_twin(worker, attempt);
        match state {
            None | Some(State::Recording(_) | State::Answered(_) | State::Delivered) => {
                return Err(Verdict::Late);
            }
            // Somebody else's failure is in doubt; this outcome settles it.
            Some(State::Doubted(_)) => {
                self.doubts.remove(&task);
                for seat in &mut self.seats {
                    seat.doubted.remove(&task);
                }
            }
            Some(State::Ready) => {
                self.waiting.remove(task);
            }
            Some(State::InFlight { worker: other, .. }) => {
                let entry = self.table.get(task).expect("it has a state");
                let newer = self.seats[other as usize].make_orphan(task, entry);
                self.cancel(other, newer);
            }
        }
        Ok(orphan.sent_at)
    }

    /// An attempt is no longer at `worker`, and gives its task no outcome. Says when it was sent if it
    /// was the one that stood for the task.
    fn leave_unanswered(&mut self, worker: u32, attempt: Attempt) -> Result<Time, Verdict> {
        let seat = &mut self.seats[worker as usize];
        let entry = self.table.get(attempt.task);
        if let Some(sent_at) = entry.and_then(|entry| seat.leave(attempt, worker, entry)) {
            seat.forget(attempt.task);
            return Ok(sent_at);
        }
        if seat.leave_orphan(attempt).is_none() {
            return Err(Verdict::Stranger);
        }
        self.forget_twin(worker, attempt);
        Err(Verdict::Late)
    }

    /// A task gets its outcome.
    fn settle(&mut self, task: u64, worker: u32, status: Status, output: Bytes<'_>, times: Times) {
        let place = self.table.find(task).expect("the task is open");
        (self.table).answer((task, place), worker, status, output, times);
        self.end_trials(task);
    }

    /// A task has its outcome; what else was tried for it was in vain.
    #[inline(always)]
    fn end_trials(&mut self, task: u64) {
        self.cancel_twin(task);
        self.retries.forget(task);
    }

    /// Shortens the lists of what workers were sent where they are mostly what was answered since:
    /// before they are walked.
    pub fn prune_long(&mut self) {
        for worker in 0..self.seats.len() as u32 {
            let seat = &self.seats[worker as usize];
            if seat.sent.len() > 2 * seat.tasks as usize + 64 {
                self.prune(worker);
            }
        }
    }

    /// Asserts what can be asserted in a few instructions: the states add up. On in release builds,
    /// once per turn.
    pub fn check_sums(&self) {
        self.table.check_sums();
        let unsent = self.table.end() - self.fresh;
        let ready = self.waiting.len() + unsent as usize;
        assert_eq!(ready, self.table.counts().ready, "ready tasks are listed");
        assert_eq!(self.doubts.len(), self.table.counts().doubted);
    }

    /// Walks all tables and asserts the invariants. For tests: it costs the length of the window.
    #[doc(hidden)]
    pub fn check(&self) {
        self.check_sums();
        self.table.check();
        for (worker, seat) in self.seats.iter().enumerate() {
            let worker = worker as u32;
            let live = seat
                .sent
                .iter()
                .filter(|&task| self.table.is_at(task, worker));
            let (mut held, mut careful, mut recalled) = (seat.orphans.len(), 0, 0);
            let mut bytes: usize = seat.orphans.values().map(|orphan| orphan.bytes).sum();
            for task in live {
                held += 1;
                let entry = self.table.get(task).expect("it is in flight");
                careful += u32::from(entry.is_careful);
                recalled += u32::from(entry.is_recalled);
                bytes += entry.payload.len();
            }
            assert_eq!(bytes, seat.bytes, "bytes of worker {worker}");
            assert_eq!(held, seat.tasks as usize, "credit of worker {worker}");
            assert_eq!(careful, seat.careful_tasks, "careful at worker {worker}");
            assert_eq!(recalled, seat.recalled, "recalled from worker {worker}");
            for task in &seat.doubted {
                assert!(self.doubts.contains_key(task), "task {task} is in doubt");
            }
        }
        for (task, (worker, attempt)) in &self.twins {
            let is_undone = matches!(
                self.table.get(*task).map(|entry| entry.state),
                Some(State::Ready | State::InFlight { .. } | State::Doubted(_))
            );
            let orphans = &self.seats[*worker as usize].orphans;
            assert!(is_undone && orphans.contains_key(attempt), "twin {attempt}");
        }
    }
}

#[cfg(test)]
mod tests;
