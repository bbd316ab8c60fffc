//! The worker's pool without threads.
//!
//! What it is: the real [`Lanes`] and [`Slot`]s, and per thread what it computes and when it will have
//! returned. What it is not: the rules of either; it only holds their answers against what it knows of
//! the kernels.
//!
//! Invariant: a thread computes one attempt at a time; what its slot has finished appears together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use teamster::frame::{Status, Task, cut};
use teamster::kernel::{Kernel, Stop};
use teamster::lanes::{Batch, Check, Lanes, Slot};
use teamster::limits::{HOLD_TIME, STOP_GRACE};
use teamster::payload::{Bytes, Payload};
use teamster::role::{Attempt, ConnId, Execution, Usage};
use teamster::time::{Duration, Time};

use crate::faults::Kind;
use crate::oracle;
use crate::plan::SLOW_RUN_US_MAX;
use crate::world::{What, World};

pub struct Pool {
    node: usize,
    life: u32,
    lanes: Lanes,
    threads: Vec<Thread>,
    /// Threads whose kernel will return in time, or has.
    usable: usize,
    was_useless: bool,
    finished: Batch,
    changes: Vec<(u16, Option<Attempt>)>,
    stop: Stop,
    /// Attempts begun so far: an event for one must not meet its successor.
    begun: u64,
    /// What must come back as returned.
    cancelled: BTreeSet<(ConnId, Attempt)>,
    /// What each session may take for an attempt.
    timeouts: BTreeMap<ConnId, Option<Duration>>,
    /// What its kernels had of the processors: on a slow machine a part, for the rest they wait.
    usage: Usage,
}

#[derive(Default)]
struct Thread {
    slot: Slot,
    kernel: Option<Arc<dyn Kernel>>,
    /// When it is to be through with its chunk.
    chunk_end: Time,
    /// Since when it holds back what it has finished.
    holds_since: Option<Time>,
    /// Until when its kernel's time is in `usage`.
    counted: Time,
    run: Option<Computation>,
}

struct Computation {
    serial: u64,
    attempt: Attempt,
    /// It returns soon once it is asked to.
    heeds: bool,
    status: Status,
    output: Vec<u8>,
    /// It kills the process instead of ending.
    is_killer: bool,
}

impl Pool {
    pub fn new(node: usize, life: u32, slots: u16) -> Pool {
        Pool {
            node,
            life,
            lanes: Lanes::default(),
            threads: (0..slots).map(|_| Thread::default()).collect(),
            usable: slots.into(),
            was_useless: false,
            finished: Batch::new(),
            changes: Vec::new(),
            stop: Stop::new(),
            begun: 0,
            cancelled: BTreeSet::new(),
            timeouts: BTreeMap::new(),
            usage: Usage::default(),
        }
    }

    /// Whether at some time none of its threads was of use.
    pub fn was_useless(&self) -> bool {
        self.was_useless
    }

    pub fn prepare(&mut self, conn: ConnId, kernel: Arc<dyn Kernel>, timeout: Option<Duration>) {
        self.lanes.open(conn, kernel, timeout);
        self.timeouts.insert(conn, timeout);
    }

    pub fn submit(&mut self, conn: ConnId, attempt: Attempt, input: Bytes<'_>, now: Time) {
        let execution = Execution::new(conn, Task { attempt, input });
        let mut batch = [execution].into_iter().collect();
        self.lanes.push(conn, &mut batch, now);
    }

    pub fn pause(&mut self, conn: ConnId, paused: bool) {
        self.lanes.pause(conn, paused);
    }

    /// What has not started comes back at once.
    pub fn recall(&mut self, conn: ConnId) {
        self.lanes.recall(conn, &mut self.finished);
        for thread in &mut self.threads {
            thread.slot.recall(conn, &mut self.finished);
        }
    }

    pub fn cancel(&mut self, conn: ConnId, attempt: Attempt, running: bool, world: &mut World) {
        if self.lanes.take_back(conn, attempt, &mut self.finished) {
            return;
        }
        for index in 0..self.threads.len() {
            let Thread { slot, run, .. } = &mut self.threads[index];
            if slot.take_back(conn, attempt, &mut self.finished) {
                return;
            }
            let runs = run.as_ref().is_some_and(|run| run.attempt == attempt);
            if running && slot.stop(conn, attempt) {
                oracle!("cancel", runs, "{attempt} is stopped and does not run");
                self.cancelled.insert((conn, attempt));
                return self.raise(index, world);
            }
        }
    }

    /// What has finished already may still reach the role: it was on its way.
    pub fn revoke(&mut self, conn: ConnId, world: &mut World) {
        self.lanes.close(conn);
        for index in 0..self.threads.len() {
            let slot = &mut self.threads[index].slot;
            if slot.conn() == Some(conn) && slot.abandon() {
                self.raise(index, world);
            }
        }
    }

    /// Asks a kernel to stop. Some do.
    fn raise(&mut self, index: usize, world: &mut World) {
        let run = self.threads[index].run.as_mut().expect("it runs");
        if run.heeds {
            self.begun += 1;
            run.serial = self.begun;
            run.is_killer = false;
            let us = world.rng.below(1_000);
            let at = world.after_us(us);
            let what = self.end_of(index);
            world.push(at, what);
        }
    }

    /// What happens when the kernel of a thread returns.
    fn end_of(&self, thread: usize) -> What {
        let (node, life) = (self.node, self.life);
        let run = self.threads[thread].run.as_ref().expect("it runs");
        let serial = run.serial;
        match run.is_killer {
            true => What::Kill {
                node,
                life,
                thread,
                serial,
            },
            false => What::Return {
                node,
                life,
                thread,
                serial,
            },
        }
    }

    /// Lets the free threads take what waits.
    pub fn start(&mut self, world: &mut World) {
        for index in 0..self.threads.len() {
            let thread = &mut self.threads[index];
            if thread.run.is_some() {
                continue;
            }
            let kernel = self.lanes.take(self.usable, &mut thread.slot);
            let kernel = kernel.or_else(|| self.gather(index));
            let Some(kernel) = kernel else {
                return;
            };
            let thread = &mut self.threads[index];
            thread.kernel = Some(kernel);
            thread.chunk_end = thread.slot.start(world.now);
            let has_begun = self.begin(index, world);
            assert!(has_begun, "a runnable lane has attempts");
        }
    }

    /// What others have taken and not started is for a thread that would be idle.
    fn gather(&mut self, index: usize) -> Option<Arc<dyn Kernel>> {
        for thread in &mut self.threads {
            self.lanes.put_back(&mut thread.slot);
        }
        let slot = &mut self.threads[index].slot;
        self.lanes.take(self.usable, slot)
    }

    /// Begins the next attempt that a thread has taken; false if there is none.
    fn begin(&mut self, index: usize, world: &mut World) -> bool {
        let thread = &mut self.threads[index];
        let mut input = Payload::EMPTY;
        let Some(attempt) = thread.slot.begin(world.now, &mut input) else {
            return false;
        };
        let kernel = Arc::clone(thread.kernel.as_ref().expect("it has taken a chunk"));
        let (mut run, mut us) = self.compute(attempt, &input, &*kernel, world);
        if run.is_killer {
            us = world.rng.below(us + 1);
        }
        self.begun += 1;
        run.serial = self.begun;
        self.threads[index].run = Some(run);
        self.threads[index].counted = world.now;
        let at = world.after_us(us);
        let what = self.end_of(index);
        world.push(at, what);
        true
    }

    /// What becomes of an attempt if nobody stops it, and after how many microseconds.
    fn compute(
        &self,
        attempt: Attempt,
        input: &[u8],
        kernel: &dyn Kernel,
        world: &mut World,
    ) -> (Computation, u64) {
        let mut us = world.plan.draw_run_us(&mut world.rng);
        let weather = world.weather[self.node];
        if world.now < weather.slow {
            us = (us * weather.slow_factor).min(SLOW_RUN_US_MAX);
        }
        let mut heeds = world.plan.stops_early;
        if world.now < weather.hanging && world.rng.chance(60) {
            us = crate::plan::logarithmic(&mut world.rng, 100_000, SLOW_RUN_US_MAX);
            heeds = false;
            world.ledger.strike(Kind::Hang, true);
        }
        let is_black_hole = world.now < weather.black_hole;
        let mut output = Vec::new();
        let mut status = Status::Done;
        if is_black_hole {
            us = world.rng.below(500);
            world.ledger.swallowed(attempt);
            status = match weather.returns {
                true => Status::Returned,
                false => Status::Failed,
            };
            output = cut(&format!("planned failure of {attempt}")).into();
        } else if world.now < weather.failing && world.rng.chance(30) {
            world.ledger.strike(Kind::Failure, true);
            world.ledger.failed_on_purpose(attempt);
            status = Status::Failed;
            output = cut(&format!("planned failure of {attempt}")).into();
        } else if let Err(text) = kernel.run(input, &self.stop, &mut output) {
            status = Status::Failed;
            output = cut(&text.to_string()).into();
        }
        let is_killer = world.plan.poison.contains(&attempt.task) && !is_black_hole;
        let run = Computation {
            serial: 0,
            attempt,
            heeds,
            status,
            output,
            is_killer,
        };
        (run, us)
    }

    /// The task at which a thread kills the process, if it still runs.
    pub fn killer(&self, thread: usize, serial: u64) -> Option<u64> {
        let run = self.threads[thread].run.as_ref();
        let run = run.filter(|run| run.serial == serial && run.is_killer);
        run.map(|run| run.attempt.task)
    }

    /// What was had so far.
    pub fn measure(&mut self, world: &World) -> Usage {
        for index in 0..self.threads.len() {
            if self.threads[index].run.is_some() {
                self.count(index, world);
            }
        }
        self.usage
    }

    fn count(&mut self, index: usize, world: &World) {
        let counted = &mut self.threads[index].counted;
        let span = world.now.since(std::mem::replace(counted, world.now));
        let weather = &world.weather[self.node];
        let cpu = match world.now < weather.slow {
            true => span / weather.slow_factor as u32,
            false => span,
        };
        self.usage.cpu += cpu;
        self.usage.waited += span - cpu;
    }

    /// A kernel has returned, if it is still there; says whether the thread has taken all it may.
    pub fn end(&mut self, index: usize, serial: u64, world: &mut World) -> bool {
        let thread = &mut self.threads[index];
        let Some(run) = thread.run.take_if(|run| run.serial == serial) else {
            return false;
        };
        self.count(index, world);
        let thread = &mut self.threads[index];
        let fill = |output: &mut Payload| output.set(&run.output);
        thread.slot.end(run.status, fill, world.now);
        let is_long = world.now >= thread.chunk_end;
        let is_full = thread.slot.is_full();
        if !is_long && !is_full && self.begin(index, world) {
            self.threads[index].holds_since.get_or_insert(world.now);
            return false;
        }
        let thread = &mut self.threads[index];
        check_hold(thread.holds_since.take(), world);
        let slot = &mut thread.slot;
        self.lanes.collect(slot, &mut self.finished);
        if slot.recover() {
            self.usable += 1;
            self.changes.push((self.usable as u16, None));
        }
        true
    }

    /// When it must be asked again.
    pub fn next_check(&mut self, now: Time) -> Option<Time> {
        self.lanes.watch(self.usable, 0, now);
        self.lanes.next_check()
    }

    /// Looks who runs for too long.
    pub fn check(&mut self, world: &mut World) {
        let Some(late) = self.lanes.begin_check(world.now) else {
            return;
        };
        for index in 0..self.threads.len() {
            let Thread {
                slot,
                run,
                holds_since,
                ..
            } = &mut self.threads[index];
            let check = self.lanes.check(slot, late, world.now, &mut self.finished);
            check_hold(holds_since.take_if(|_| !slot.holds_back()), world);
            match check {
                Check::InTime => {}
                Check::Stop => self.raise(index, world),
                Check::Hung(attempt) => {
                    let is_it = run.as_ref().is_some_and(|run| run.attempt == attempt);
                    oracle!("timeout", is_it, "{attempt} does not run, and hangs");
                    let mut finished = self.finished.as_slice().iter();
                    let is_answered = finished.any(|done| done.attempt == attempt);
                    oracle!("timeout", is_answered, "{attempt} hangs unanswered");
                    self.usable -= 1;
                    self.was_useless |= self.usable == 0;
                    self.changes.push((self.usable as u16, Some(attempt)));
                    world.touch(self.node);
                    world.ledger.hung += 1;
                }
            }
        }
    }

    /// What has finished since the last call, each as it must have.
    pub fn take_finished(&mut self, world: &mut World) -> Vec<Execution> {
        self.lanes.taken();
        for done in self.finished.as_slice() {
            let attempt = done.attempt;
            let was_cancelled = self.cancelled.remove(&(done.conn, attempt));
            oracle!(
                "cancel",
                !was_cancelled || done.status == Status::Returned,
                "{attempt} was cancelled and is {:?}",
                done.status
            );
            let timeout = self.timeouts[&done.conn].unwrap_or(Duration::MAX);
            let run = Duration::from_micros(done.run_us.into());
            if done.status == Status::TimedOut {
                oracle!("timeout", run >= timeout, "{attempt} had its time");
                world.ledger.timed_out(attempt);
            }
            oracle!(
                "timeout",
                run < (timeout.saturating_add(STOP_GRACE)).saturating_add(world.plan.lateness()),
                "{attempt} ran for {run:?}, which may be {timeout:?}"
            );
        }
        let finished = self.finished.as_slice().to_vec();
        self.finished.clear();
        finished
    }

    /// Each change of the number of threads that compute since the last call.
    pub fn take_changes(&mut self) -> Vec<(u16, Option<Attempt>)> {
        std::mem::take(&mut self.changes)
    }
}

/// What a thread has finished waits for no long attempt behind it.
fn check_hold(since: Option<Time>, world: &World) {
    if let Some(since) = since {
        let held = world.now.since(since);
        let held_max = HOLD_TIME.saturating_add(world.plan.lateness());
        oracle!("held", held < held_max, "outcomes were held for {held:?}");
    }
}
