//! The worker's pool without threads.
//!
//! What it is: the real [`Lanes`], and per slot the attempts it took and when it will have finished
//! them. What it is not: a judge; it computes what it is given, or fails it when a fault says so.
//!
//! Invariant: a slot runs one batch at a time; a batch's outcomes appear together when it ends.

use std::sync::Arc;

use teamster::frame::{Status, cut};
use teamster::kernel::{Kernel, Stop};
use teamster::lanes::{Job, Lanes};
use teamster::payload::Payload;
use teamster::role::{Attempt, Completion, ConnId};
use teamster::time::Duration;

use crate::faults::Kind;
use crate::plan::SLOW_RUN_US_MAX;
use crate::world::{What, World};

pub struct Pool {
    node: usize,
    life: u32,
    lanes: Lanes,
    slots: Vec<Option<Batch>>,
    finished: Vec<Completion>,
    stop: Stop,
    /// Batches taken so far: the end of a batch that was stopped must not end its successor.
    taken: u64,
}

struct Batch {
    serial: u64,
    conn: ConnId,
    is_revoked: bool,
    elapsed_us: u64,
    done: Vec<Completion>,
    /// The task in it that kills the process instead of ending.
    killer: Option<u64>,
}

impl Pool {
    pub fn new(node: usize, life: u32, slots: u16) -> Pool {
        Pool {
            node,
            life,
            lanes: Lanes::default(),
            slots: (0..slots).map(|_| None).collect(),
            finished: Vec::new(),
            stop: Stop::new(),
            taken: 0,
        }
    }

    pub fn prepare(&mut self, conn: ConnId, kernel: Arc<dyn Kernel>, _: Option<Duration>) {
        self.lanes.open(conn, kernel);
    }

    pub fn submit(&mut self, conn: ConnId, attempt: Attempt, input: &[u8]) {
        let input = Payload::from(input);
        self.lanes.push(conn, Job { attempt, input });
    }

    /// What has not started comes back at once; what runs goes on to its end.
    pub fn cancel(&mut self, conn: ConnId, attempt: Attempt, _: bool) {
        for job in self.lanes.recall(conn) {
            if job.attempt == attempt {
                let done = Completion::returned(conn, attempt, job.input.len(), "cancelled");
                self.finished.push(done);
            } else {
                self.lanes.push(conn, job);
            }
        }
    }

    pub fn pause(&mut self, conn: ConnId, paused: bool) {
        self.lanes.pause(conn, paused);
    }

    /// What has not started comes back at once.
    pub fn recall(&mut self, conn: ConnId) {
        for Job { attempt, input } in self.lanes.recall(conn) {
            let done = Completion::returned(conn, attempt, input.len(), "recalled");
            self.finished.push(done);
        }
    }

    /// What has finished already may still reach the role: it was on its way.
    pub fn revoke(&mut self, conn: ConnId, stops_early: bool) {
        self.lanes.close(conn);
        for slot in &mut self.slots {
            if let Some(batch) = slot.as_mut().filter(|batch| batch.conn == conn) {
                batch.is_revoked = true;
                if stops_early {
                    *slot = None;
                }
            }
        }
    }

    /// Lets the free slots take what waits.
    pub fn start(&mut self, world: &mut World) {
        for thread in 0..self.slots.len() {
            if self.slots[thread].is_some() {
                continue;
            }
            let mut jobs = Vec::new();
            let Some((conn, kernel)) = self.lanes.take(self.slots.len(), &mut jobs) else {
                return;
            };
            assert!(!jobs.is_empty(), "a runnable lane has attempts");
            self.taken += 1;
            let serial = self.taken;
            let mut batch = Batch {
                serial,
                conn,
                is_revoked: false,
                elapsed_us: 0,
                done: Vec::new(),
                killer: None,
            };
            let (node, life) = (self.node, self.life);
            let mut what = What::Batch {
                node,
                life,
                thread,
                serial,
            };
            let is_black_hole = world.now < world.weather[node].black_hole;
            for job in jobs {
                let done = self.run(conn, &job, kernel.as_ref(), world);
                let run_us = u64::from(done.run_us);
                if world.plan.poison.contains(&job.attempt.task) && !is_black_hole {
                    // What it finished before it has not left yet, and dies with it.
                    batch.elapsed_us += world.rng.below(run_us + 1);
                    what = What::Kill {
                        node,
                        life,
                        thread,
                        serial,
                    };
                    batch.killer = Some(job.attempt.task);
                    break;
                }
                batch.elapsed_us += run_us;
                batch.done.push(done);
            }
            let at = world.after_us(batch.elapsed_us);
            self.slots[thread] = Some(batch);
            world.push(at, what);
        }
    }

    /// The task at which a batch kills the process, if the batch is still there.
    pub fn killer(&self, thread: usize, serial: u64) -> Option<u64> {
        let batch = self.slots[thread].as_ref();
        batch.filter(|batch| batch.serial == serial)?.killer
    }

    fn run(&self, conn: ConnId, job: &Job, kernel: &dyn Kernel, world: &mut World) -> Completion {
        let mut us = world.plan.draw_run_us(&mut world.rng);
        let weather = world.weather[self.node];
        if world.now < weather.slow {
            us = (us * weather.slow_factor).min(SLOW_RUN_US_MAX);
        }
        let mut output = Vec::new();
        let mut status = Status::Done;
        if world.now < weather.black_hole {
            us = world.rng.below(500);
            world.ledger.swallowed(job.attempt);
            status = match weather.returns {
                true => Status::Returned,
                false => Status::Failed,
            };
            output = cut(&format!("planned failure of {}", job.attempt)).into();
        } else if world.now < weather.failing && world.rng.chance(30) {
            world.ledger.strike(Kind::Failure, true);
            world.ledger.failed_on_purpose(job.attempt);
            status = Status::Failed;
            output = cut(&format!("planned failure of {}", job.attempt)).into();
        } else if let Err(text) = kernel.run(&job.input, &self.stop, &mut output) {
            status = Status::Failed;
            output = cut(&text.to_string()).into();
        }
        Completion {
            conn,
            attempt: job.attempt,
            status,
            output: Payload::from(&output[..]),
            input_bytes: job.input.len() as u32,
            run_us: us as u32,
        }
    }

    /// A batch has ended; false if it is not there any more.
    pub fn end(&mut self, thread: usize, serial: u64) -> bool {
        let Some(batch) = self.slots[thread].take_if(|batch| batch.serial == serial) else {
            return false;
        };
        // What a revoked session ran to its end still comes out, however late: the role must know
        // it for a stranger's.
        if batch.is_revoked {
            self.finished.extend(batch.done);
        } else {
            let bytes = batch.done.iter().map(|done| done.output.len()).sum();
            let elapsed = Duration::from_micros(batch.elapsed_us);
            self.lanes
                .finished(batch.conn, batch.done.len(), elapsed, bytes);
            self.finished.extend(batch.done);
        }
        true
    }

    /// What has finished since the last call.
    pub fn take_finished(&mut self) -> Vec<Completion> {
        self.lanes.taken();
        std::mem::take(&mut self.finished)
    }
}
