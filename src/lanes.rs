//! The pool's queue: which attempts a free thread runs next.
//!
//! What it is: one lane per session, served in turn, with the rules for how many attempts a thread
//! takes at once, when a lane must wait, and when to look who runs for too long; what a thread has
//! taken is in its [`Slot`]. What it is not: threads or locks; the pool keeps both under its own,
//! the simulator runs them as they are.
//!
//! Invariants: a lane's attempts are taken in the order in which they came, but for those that a
//! thread gave back unstarted, which come first; nothing is taken from a
//! lane that is paused or has [`FINISHED_BYTES_MAX`] waiting to be taken, so that outputs of a
//! session are bounded however fast its kernel and however slow its head.

mod batch;
mod slot;

use std::sync::Arc;

use crate::kernel::Kernel;
use crate::limits::{
    CHUNK_FEW, CHUNK_FEW_TIME, CHUNK_TIME, FINISHED_BYTES_MAX, HOLD_TIME, STOPPED_AFTER,
};
use crate::role::{Attempt, ConnId};
use crate::time::{Duration, Time};

pub use batch::Batch;
pub use slot::{Check, Slot};

/// What is said of an attempt that no thread has begun.
const NOT_STARTED: &str = "it did not start";

/// All lanes of a pool.
#[derive(Default)]
pub struct Lanes {
    lanes: Vec<Lane>,
    /// Whose turn it is.
    turn: usize,
    /// When an attempt could be overdue, or a slot hold back what it has finished, at the earliest.
    next_check: Option<Time>,
    /// A slot took several attempts since the last check.
    has_chunks: bool,
}

struct Lane {
    conn: ConnId,
    kernel: Arc<dyn Kernel>,
    /// How long an attempt may run.
    timeout: Option<Duration>,
    queue: Batch,
    paused: bool,
    finished_bytes: usize,
    /// Moving mean of how long an attempt runs.
    run_ns_mean: u64,
}

impl Lane {
    fn is_runnable(&self) -> bool {
        !self.queue.is_empty() && !self.paused && self.finished_bytes < FINISHED_BYTES_MAX
    }

    /// How many attempts a thread takes: its share of what waits, and no more than run in
    /// `CHUNK_TIME`. One lock per attempt would cost a third of the throughput; a longer chunk
    /// would hold finished results back. But for a few, of which one stays: a thread that comes back
    /// with their results finds work while more is on its way.
    fn chunk(&self, threads: usize) -> usize {
        let share = self.queue.len().div_ceil(threads);
        let few = self.run_in(CHUNK_FEW_TIME).min(CHUNK_FEW);
        let few = few.min(share.saturating_sub(1));
        share.min(self.run_in(CHUNK_TIME).max(few)).max(1)
    }

    /// In which time so many are to be through: as long as it should take them, so that a few long
    /// ones among many short ones do not hold back those for longer than they must.
    fn chunk_time(&self, chunk: usize) -> Duration {
        let run = Duration::from_nanos(self.run_ns_mean.saturating_mul(chunk as u64));
        run.clamp(CHUNK_TIME, CHUNK_FEW_TIME)
    }

    /// How many attempts run in that time.
    fn run_in(&self, time: Duration) -> usize {
        let count = time.as_nanos() as u64 / self.run_ns_mean.max(1);
        usize::try_from(count).unwrap_or(usize::MAX)
    }
}

impl Lanes {
    /// Opens the lane of a session.
    pub fn open(&mut self, conn: ConnId, kernel: Arc<dyn Kernel>, timeout: Option<Duration>) {
        assert!(self.find(conn).is_none(), "session {conn} prepared twice");
        self.lanes.push(Lane {
            conn,
            kernel,
            timeout,
            queue: Batch::new(),
            paused: false,
            finished_bytes: 0,
            // Nothing is known: one at first.
            run_ns_mean: CHUNK_FEW_TIME.as_nanos() as u64,
        });
    }

    /// Drops a lane and what waits in it.
    pub fn close(&mut self, conn: ConnId) {
        if let Some(index) = self.lanes.iter().position(|lane| lane.conn == conn) {
            self.lanes.remove(index);
            if self.turn > index {
                self.turn -= 1;
            }
        }
    }

    /// Has what waits in a session's lane come back in `finished`.
    pub fn recall(&mut self, conn: ConnId, finished: &mut Batch) {
        if let Some(lane) = self.find(conn) {
            give_back(&mut lane.queue, 0, finished);
        }
    }

    /// Has one attempt that waits in a session's lane come back in `finished`; says whether it does.
    pub fn take_back(&mut self, conn: ConnId, attempt: Attempt, finished: &mut Batch) -> bool {
        (self.find(conn)).is_some_and(|lane| take_back(&mut lane.queue, 0, attempt, finished))
    }

    /// Moves attempts to the end of their session's lane.
    ///
    /// # Panics
    /// If the session has none: the role submits only what it prepared.
    pub fn push(&mut self, conn: ConnId, batch: &mut Batch, now: Time) {
        let lane = self.find(conn).expect("the session was prepared");
        lane.queue.append(batch);
        if let Some(timeout) = lane.timeout {
            self.check_at(Some(now + timeout));
        }
    }

    /// Lets a lane wait, or go on.
    pub fn pause(&mut self, conn: ConnId, paused: bool) {
        if let Some(lane) = self.find(conn) {
            lane.paused = paused;
        }
    }

    /// Moves the next attempts for one of `threads` threads into its slot, all of one session; says
    /// what they run.
    pub fn take(&mut self, threads: usize, slot: &mut Slot) -> Option<Arc<dyn Kernel>> {
        let count = self.lanes.len();
        let index = (0..count)
            .map(|i| (self.turn + i) % count)
            .find(|&index| self.lanes[index].is_runnable())?;
        self.turn = index + 1;
        let lane = &mut self.lanes[index];
        let chunk = lane.chunk(threads);
        self.has_chunks |= chunk > 1;
        let chunk_time = lane.chunk_time(chunk);
        slot.load(lane.conn, lane.timeout, &mut lane.queue, chunk, chunk_time);
        Some(Arc::clone(&lane.kernel))
    }

    /// Whether [`Lanes::take`] would find something.
    pub fn is_runnable(&self) -> bool {
        self.lanes.iter().any(Lane::is_runnable)
    }

    /// Empties a slot: what it has finished waits in `finished` to be taken, what it has not
    /// started goes back to the front of its lane. Of a closed lane the latter is dropped.
    pub fn collect(&mut self, slot: &mut Slot, finished: &mut Batch) {
        self.put_back(slot);
        let run_us = std::mem::take(&mut slot.run_us);
        let output_bytes = std::mem::take(&mut slot.output_bytes);
        if let Some(lane) = slot.conn().and_then(|conn| self.find(conn))
            && slot.holds_back()
        {
            lane.finished_bytes += output_bytes;
            let mean = run_us * 1000 / slot.done as u64;
            lane.run_ns_mean = (lane.run_ns_mean + mean) / 2;
        }
        slot.hand_in(finished);
    }

    /// What a slot has not started goes back to the front of its lane; of a closed one it is dropped.
    pub fn put_back(&mut self, slot: &mut Slot) {
        let begun = slot.begun_count();
        match slot.conn().and_then(|conn| self.find(conn)) {
            Some(lane) => lane.queue.prepend(&mut slot.batch, begun),
            None => slot.batch.truncate(begun),
        }
    }

    /// Has the slots checked soon if one of `threads` has taken several attempts, or one of the idle
    /// is about to: the later could be far longer than the earlier, whose outcomes would wait for it.
    /// (One that is busy is heard of when it comes back for more.)
    pub fn watch(&mut self, threads: usize, idle: usize, now: Time) {
        let takes_several = |lane: &Lane| lane.is_runnable() && lane.chunk(threads) > 1;
        if self.has_chunks || (idle > 0 && self.lanes.iter().any(takes_several)) {
            self.check_at(Some(now + HOLD_TIME));
        }
    }

    /// When the slots must be checked. It is no tick: what begins after a check cannot be overdue
    /// before its timeout has passed since then, and without timeouts nothing is checked but what
    /// was taken together.
    pub fn next_check(&self) -> Option<Time> {
        self.next_check
    }

    /// Begins a check if one is due: says by how much, and wants [`Lanes::check`] for each slot.
    pub fn begin_check(&mut self, now: Time) -> Option<Duration> {
        let due = self.next_check.filter(|&at| at <= now)?;
        let lanes = self.lanes.iter().filter(|lane| !lane.queue.is_empty());
        let timeout = lanes.filter_map(|lane| lane.timeout).min();
        self.has_chunks = false;
        self.next_check = timeout.map(|timeout| now + timeout);
        Some(now.since(due))
    }

    /// Holds what a slot runs against the time, in a check that comes so `late`, and empties it of
    /// everything else if it should have been through with that.
    pub fn check(
        &mut self,
        slot: &mut Slot,
        late: Duration,
        now: Time,
        finished: &mut Batch,
    ) -> Check {
        if late > STOPPED_AFTER {
            // This process was stopped, and its kernels were, too.
            slot.extend(late);
        }
        let check = slot.check(now);
        // While it has what it did not start: that may begin in another slot at once.
        self.check_at(slot.next_check(now));
        // What waits as well: only what it runs could hold back something from now on, and does not.
        let is_empty = !slot.holds_back() && !slot.has_waiting();
        let until = slot.holds_until(now);
        match check {
            Check::InTime | Check::Stop if is_empty => {}
            Check::InTime | Check::Stop if now < until => self.check_at(Some(until)),
            _ => self.collect(slot, finished),
        }
        check
    }

    fn check_at(&mut self, at: Option<Time>) {
        self.next_check = self.next_check.into_iter().chain(at).min();
    }

    /// All finished outputs have been taken.
    pub fn taken(&mut self) {
        for lane in &mut self.lanes {
            lane.finished_bytes = 0;
        }
    }

    fn find(&mut self, conn: ConnId) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| lane.conn == conn)
    }
}

/// Has what is behind the first `index` come back in `finished`.
fn give_back(batch: &mut Batch, index: usize, finished: &mut Batch) {
    for index in index..batch.len() {
        let execution = batch.get_mut(index).expect("there are so many");
        execution.came_back(NOT_STARTED);
    }
    batch.move_to(index..batch.len(), finished);
}

/// The same for one attempt, if it is there; says whether it is.
fn take_back(batch: &mut Batch, index: usize, attempt: Attempt, finished: &mut Batch) -> bool {
    let Some(index) = batch.find(index, attempt) else {
        return false;
    };
    let execution = batch.get_mut(index).expect("it was found there");
    execution.came_back(NOT_STARTED);
    batch.move_to(index..index + 1, finished);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Status, Task};
    use crate::kernel::{KernelError, Stop};
    use crate::payload::{Bytes, Payload};
    use crate::role::Execution;

    struct Nothing;

    impl Kernel for Nothing {
        fn run(&self, _: &[u8], _: &Stop, _: &mut Vec<u8>) -> Result<(), KernelError> {
            Ok(())
        }
    }

    fn conn(slot: u32) -> ConnId {
        ConnId {
            slot,
            generation: 0,
        }
    }

    fn batch(conn: ConnId, tasks: impl IntoIterator<Item = u64>) -> Batch {
        let execution = |task| {
            let attempt = Attempt { task, number: 1 };
            let input = Bytes::default();
            Execution::new(conn, Task { attempt, input })
        };
        tasks.into_iter().map(execution).collect()
    }

    fn lanes(counts: &[u64]) -> Lanes {
        let mut lanes = Lanes::default();
        for (slot, &count) in counts.iter().enumerate() {
            let conn = conn(slot as u32);
            lanes.open(conn, Arc::new(Nothing), None);
            for task in 0..count {
                lanes.push(conn, &mut batch(conn, [task]), Time::ZERO);
            }
        }
        lanes
    }

    /// Takes a chunk out for good: whose, and which tasks.
    fn take(lanes: &mut Lanes, threads: usize) -> Option<(u32, Vec<u64>)> {
        let mut slot = Slot::default();
        lanes.take(threads, &mut slot)?;
        let tasks = slot.batch.as_slice().iter().map(|e| e.attempt.task);
        Some((slot.conn().unwrap().slot, tasks.collect()))
    }

    fn begin(slot: &mut Slot) -> Option<Attempt> {
        slot.begin(Time::ZERO, &mut Payload::EMPTY.clone())
    }

    /// A thread takes one attempt, which runs for `run`, and gives the rest back.
    fn run_one(lanes: &mut Lanes, run: Duration, output_bytes: usize) {
        let mut slot = Slot::default();
        lanes.take(1, &mut slot).unwrap();
        begin(&mut slot).unwrap();
        let fill = |output: &mut Payload| output.set(&vec![0; output_bytes]);
        slot.end(Status::Done, fill, Time::ZERO + run);
        lanes.collect(&mut slot, &mut Batch::new());
    }

    #[test]
    fn sessions_take_turns() {
        let mut lanes = lanes(&[3, 1, 2]);
        let order: Vec<u32> =
            std::iter::from_fn(|| take(&mut lanes, 1).map(|(slot, _)| slot)).collect();
        assert_eq!(order, [0, 1, 2, 0, 2, 0]);
        assert!(!lanes.is_runnable());
    }

    #[test]
    fn short_attempts_are_taken_together_and_shared_among_threads() {
        let mut lanes = lanes(&[250]);
        assert_eq!(
            take(&mut lanes, 2),
            Some((0, vec![0])),
            "nothing is known yet"
        );
        (0..40).for_each(|_| run_one(&mut lanes, Duration::ZERO, 0));
        let (_, tasks) = take(&mut lanes, 3).unwrap();
        assert_eq!(tasks, Vec::from_iter(41..111), "a third of 209");
        (0..40).for_each(|_| run_one(&mut lanes, CHUNK_TIME / 10, 0));
        assert_eq!(take(&mut lanes, 1).unwrap().1.len(), CHUNK_FEW);
        (0..40).for_each(|_| run_one(&mut lanes, CHUNK_TIME / 20, 0));
        assert_eq!(take(&mut lanes, 1).unwrap().1.len(), 20);
    }

    #[test]
    fn of_attempts_of_a_millisecond_a_few_are_taken_together_but_one_stays() {
        for (run, expected) in [
            (CHUNK_TIME, [16, 16, 8, 1]),
            (CHUNK_FEW_TIME / 2, [2, 2, 2, 1]),
            (CHUNK_FEW_TIME, [1, 1, 1, 1]),
        ] {
            for (waiting, chunk) in [30, 17, 9, 2].into_iter().zip(expected) {
                let mut lanes = lanes(&[40 + waiting]);
                (0..40).for_each(|_| run_one(&mut lanes, run, 0));
                let mut slot = Slot::default();
                lanes.take(1, &mut slot).unwrap();
                assert_eq!(slot.batch.len(), chunk, "{run:?} {waiting}");
                assert_eq!(slot.start(Time::ZERO), Time::ZERO + run * chunk as u32);
            }
        }
    }

    #[test]
    fn a_chunk_has_as_long_as_it_should_take_within_bounds() {
        for (run, time) in [
            (Duration::ZERO, CHUNK_TIME),
            (2 * CHUNK_FEW_TIME, CHUNK_FEW_TIME),
        ] {
            let mut lanes = lanes(&[50]);
            (0..40).for_each(|_| run_one(&mut lanes, run, 0));
            let mut slot = Slot::default();
            lanes.take(1, &mut slot).unwrap();
            assert_eq!(slot.start(Time::ZERO), Time::ZERO + time);
        }
    }

    #[test]
    fn what_is_finished_does_not_wait_for_what_takes_long() {
        let mut lanes = lanes(&[43]);
        lanes.watch(1, 1, Time::ZERO);
        assert_eq!(lanes.next_check(), None, "the first is taken alone");
        (0..40).for_each(|_| run_one(&mut lanes, Duration::ZERO, 0));
        lanes.watch(1, 1, Time::ZERO);
        let due = Time::ZERO + HOLD_TIME;
        assert_eq!(
            lanes.next_check(),
            Some(due),
            "the next may be taken with others"
        );
        let mut slot = Slot::default();
        lanes.take(1, &mut slot).unwrap();
        slot.start(Time::ZERO + CHUNK_TIME);
        begin(&mut slot).unwrap();
        slot.end(Status::Done, |_| {}, Time::ZERO);
        begin(&mut slot).unwrap();
        let mut finished = Batch::new();
        let late = lanes.begin_check(due).unwrap();
        lanes.check(&mut slot, late, due, &mut finished);
        assert!(finished.is_empty(), "it may still be through in time");
        let due = due + CHUNK_TIME;
        assert_eq!(lanes.next_check(), Some(due));
        let late = lanes.begin_check(due).unwrap();
        lanes.check(&mut slot, late, due, &mut finished);
        assert_eq!(finished.len(), 1);
        assert_eq!(
            take(&mut lanes, 1),
            Some((0, vec![42])),
            "nor does what waits"
        );
        // Of several that were just taken nothing is finished yet, but the second may run for long.
        let mut slot = Slot::default();
        let mut many = super::tests::lanes(&[43]);
        (0..40).for_each(|_| run_one(&mut many, Duration::ZERO, 0));
        many.take(1, &mut slot).unwrap();
        slot.start(Time::ZERO);
        begin(&mut slot).unwrap();
        many.watch(1, 0, Time::ZERO);
        let due = Time::ZERO + HOLD_TIME;
        let late = many.begin_check(due).unwrap();
        many.check(&mut slot, late, due, &mut Batch::new());
        slot.end(Status::Done, |_| {}, due);
        assert_eq!(begin(&mut slot), None, "it hands in the first alone");
        // Nothing is held any more, however long the second runs.
        lanes.begin_check(due + HOLD_TIME);
        lanes.watch(1, 0, due + HOLD_TIME);
        assert_eq!(lanes.next_check(), None);
    }

    #[test]
    fn what_a_thread_has_not_started_is_there_for_the_others() {
        let mut lanes = lanes(&[50]);
        (0..40).for_each(|_| run_one(&mut lanes, Duration::ZERO, 0));
        let mut slot = Slot::default();
        lanes.take(1, &mut slot).unwrap();
        assert_eq!(begin(&mut slot).unwrap().task, 40);
        assert!(!lanes.is_runnable());
        lanes.put_back(&mut slot);
        assert_eq!(take(&mut lanes, 2), Some((0, Vec::from_iter(41..46))));
        assert!(!slot.has_waiting());
    }

    #[test]
    fn what_comes_back_from_a_slot_that_hangs_has_its_time_too() {
        let timeout = Duration::from_secs(1);
        let (mut lanes, mut slot) = (lanes(&[]), Slot::default());
        lanes.open(conn(0), Arc::new(Nothing), Some(timeout));
        let mut both = batch(conn(0), 0..2);
        slot.load(conn(0), Some(timeout), &mut both, 2, CHUNK_TIME);
        slot.start(Time::ZERO);
        begin(&mut slot).unwrap();
        let mut now = Time::ZERO;
        lanes.check_at(Some(now + timeout));
        let mut look = |slot: &mut Slot, lanes: &mut Lanes| {
            now = lanes.next_check().unwrap();
            let late = lanes.begin_check(now).unwrap();
            (lanes.check(slot, late, now, &mut Batch::new()), now)
        };
        assert_eq!(look(&mut slot, &mut lanes).0, Check::Stop);
        let (check, now) = look(&mut slot, &mut lanes);
        assert!(matches!(check, Check::Hung(_)));
        assert!(lanes.is_runnable());
        assert_eq!(lanes.next_check(), Some(now + timeout));
    }

    #[test]
    fn a_lane_waits_while_paused_or_full() {
        let mut lanes = lanes(&[5]);
        lanes.pause(conn(0), true);
        assert_eq!(take(&mut lanes, 1), None);
        lanes.pause(conn(0), false);
        assert!(take(&mut lanes, 1).is_some());
        run_one(&mut lanes, Duration::ZERO, FINISHED_BYTES_MAX);
        assert!(!lanes.is_runnable());
        lanes.taken();
        assert!(lanes.is_runnable());
        lanes.close(conn(0));
        lanes.close(conn(0));
        assert_eq!(take(&mut lanes, 1), None);
    }
}
