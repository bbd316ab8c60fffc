//! The pool's queue: which attempts a free thread runs next.
//!
//! What it is: one lane per session, served in turn, with the rules for how many attempts a thread
//! takes at once and when a lane must wait. What it is not: threads or locks; the pool keeps it under
//! its one lock, the simulator runs it as it is.
//!
//! Invariants: a lane's attempts are taken in the order in which they came; nothing is taken from a
//! lane that is paused or has [`FINISHED_BYTES_MAX`] waiting to be taken, so that outputs of a session
//! are bounded however fast its kernel and however slow its head.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::kernel::Kernel;
use crate::limits::{CHUNK_TIME, FINISHED_BYTES_MAX};
use crate::payload::Payload;
use crate::role::{Attempt, ConnId};
use crate::time::Duration;

/// An attempt that waits for a thread.
#[derive(Debug)]
pub struct Job {
    /// Which.
    pub attempt: Attempt,
    /// Its input.
    pub input: Payload,
}

/// All lanes of a pool.
#[derive(Default)]
pub struct Lanes {
    lanes: Vec<Lane>,
    /// Whose turn it is.
    turn: usize,
}

struct Lane {
    conn: ConnId,
    kernel: Arc<dyn Kernel>,
    queue: VecDeque<Job>,
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
    /// `CHUNK_TIME`. One lock per attempt would cost a third of the throughput; a longer chunk would
    /// hold finished results back.
    fn chunk(&self, threads: usize) -> usize {
        let share = self.queue.len().div_ceil(threads);
        let in_time = CHUNK_TIME.as_nanos() as u64 / self.run_ns_mean.max(1);
        share
            .min(usize::try_from(in_time).unwrap_or(usize::MAX))
            .max(1)
    }
}

impl Lanes {
    /// Opens the lane of a session.
    pub fn open(&mut self, conn: ConnId, kernel: Arc<dyn Kernel>) {
        assert!(self.find(conn).is_none(), "session {conn} prepared twice");
        self.lanes.push(Lane {
            conn,
            kernel,
            queue: VecDeque::new(),
            paused: false,
            finished_bytes: 0,
            run_ns_mean: CHUNK_TIME.as_nanos() as u64,
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

    /// Takes out what waits in a session's lane.
    pub fn recall(&mut self, conn: ConnId) -> VecDeque<Job> {
        self.find(conn)
            .map_or(VecDeque::new(), |lane| std::mem::take(&mut lane.queue))
    }

    /// Puts attempts that were taken and did not start back to the front of a session's lane; drops
    /// them if it is closed.
    pub fn give_back(&mut self, conn: ConnId, jobs: impl DoubleEndedIterator<Item = Job>) {
        if let Some(lane) = self.find(conn) {
            jobs.rev().for_each(|job| lane.queue.push_front(job));
        }
    }

    /// Appends an attempt to its session's lane.
    ///
    /// # Panics
    /// If the session has none: the role submits only what it prepared.
    pub fn push(&mut self, conn: ConnId, job: Job) {
        let lane = self.find(conn).expect("the session was prepared");
        lane.queue.push_back(job);
    }

    /// Lets a lane wait, or go on.
    pub fn pause(&mut self, conn: ConnId, paused: bool) {
        if let Some(lane) = self.find(conn) {
            lane.paused = paused;
        }
    }

    /// Moves the next attempts for one of `threads` threads into `jobs`, all of one session; says
    /// which, and what they run.
    pub fn take(
        &mut self,
        threads: usize,
        jobs: &mut Vec<Job>,
    ) -> Option<(ConnId, Arc<dyn Kernel>)> {
        let count = self.lanes.len();
        let index = (0..count)
            .map(|i| (self.turn + i) % count)
            .find(|&index| self.lanes[index].is_runnable())?;
        self.turn = index + 1;
        let lane = &mut self.lanes[index];
        let chunk = lane.chunk(threads);
        jobs.extend(lane.queue.drain(..chunk));
        Some((lane.conn, Arc::clone(&lane.kernel)))
    }

    /// Whether [`Lanes::take`] would find something.
    pub fn is_runnable(&self) -> bool {
        self.lanes.iter().any(Lane::is_runnable)
    }

    /// So many attempts of a session finished after running for `elapsed` in all, with outputs of
    /// `bytes` that wait to be taken.
    pub fn finished(&mut self, conn: ConnId, count: usize, elapsed: Duration, bytes: usize) {
        if let Some(lane) = self.find(conn) {
            lane.finished_bytes += bytes;
            let mean = elapsed.as_nanos() as u64 / count.max(1) as u64;
            lane.run_ns_mean = (lane.run_ns_mean + mean) / 2;
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{KernelError, Stop};

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

    fn lanes(counts: &[u64]) -> Lanes {
        let mut lanes = Lanes::default();
        for (slot, &count) in counts.iter().enumerate() {
            let conn = conn(slot as u32);
            lanes.open(conn, Arc::new(Nothing));
            for task in 0..count {
                let attempt = Attempt { task, number: 1 };
                let input = Payload::EMPTY;
                lanes.push(conn, Job { attempt, input });
            }
        }
        lanes
    }

    fn take(lanes: &mut Lanes, threads: usize) -> Option<(u32, Vec<u64>)> {
        let mut jobs = Vec::new();
        let (conn, _) = lanes.take(threads, &mut jobs)?;
        Some((conn.slot, jobs.iter().map(|job| job.attempt.task).collect()))
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
        let mut lanes = lanes(&[100]);
        assert_eq!(
            take(&mut lanes, 2),
            Some((0, vec![0])),
            "nothing is known yet"
        );
        for _ in 0..40 {
            lanes.finished(conn(0), 1, Duration::from_nanos(50), 0);
        }
        assert_eq!(take(&mut lanes, 3).unwrap().1.len(), 33);
        for _ in 0..40 {
            lanes.finished(conn(0), 1, CHUNK_TIME / 10, 0);
        }
        assert_eq!(take(&mut lanes, 1).unwrap().1.len(), 10);
    }

    #[test]
    fn a_lane_waits_while_paused_or_full() {
        let mut lanes = lanes(&[5]);
        lanes.pause(conn(0), true);
        assert_eq!(take(&mut lanes, 1), None);
        lanes.pause(conn(0), false);
        assert!(take(&mut lanes, 1).is_some());
        lanes.finished(conn(0), 1, Duration::ZERO, FINISHED_BYTES_MAX);
        assert!(!lanes.is_runnable());
        lanes.taken();
        assert!(lanes.is_runnable());
        lanes.close(conn(0));
        lanes.close(conn(0));
        assert_eq!(take(&mut lanes, 1), None);
    }
}
