//! The fixed threads that compute.
//!
//! What it is: `slots` threads over one [`Lanes`] under one lock, each with a [`Slot`] under a lock
//! of its own; work goes in and results come out in batches. What it is not: a judge of who waits
//! for a result; that is the role's.
//!
//! Invariants: the reactor is woken once per change of what it has to take from nothing to
//! something; no thread holds a lock while a kernel runs; a slot's lock is taken after the common
//! one, never before; a stop is raised and lowered under its slot's lock, so that it never meets
//! another attempt. A panic in a kernel is a failed outcome and nothing else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use mio::Waker;

use crate::buffer::Buffer;
use crate::counter;
use crate::frame::{Status, cut};
use crate::kernel::{Kernel, KernelError, Stop};
use crate::lanes::{Batch, Check, Lanes, Slot};
use crate::limits::{PAYLOAD_BYTES_MAX, SLOT_SPARE_BYTES_MAX};
use crate::payload::Payload;
use crate::role::{Attempt, ConnId};
use crate::stopwatch::Stopwatch;
use crate::time::Time;

/// What the reactor tells the pool.
pub enum Command {
    /// A session will submit attempts of this kernel, each of which may take so long.
    Prepare(ConnId, Arc<dyn Kernel>, Option<Duration>),
    /// Attempts of a session to run, in their order.
    Submit(ConnId, Batch),
    /// A session's attempts wait, or go on.
    Pause(ConnId, bool),
    /// What a session has waiting comes back.
    Recall(ConnId),
    /// One attempt of a session comes back, if it has not started or is to be stopped.
    Cancel(ConnId, Attempt, bool),
    /// A session is over.
    Revoke(ConnId),
}

/// What the pool tells the reactor.
#[derive(Debug, Default)]
pub struct Reports {
    /// Attempts that were answered.
    pub finished: Batch,
    /// Each time another number of threads compute: how many, and the attempt that took one along.
    pub slots: Vec<(u16, Option<Attempt>)>,
}

impl Reports {
    fn is_empty(&self) -> bool {
        self.finished.is_empty() && self.slots.is_empty()
    }
}

/// A fixed number of threads. They end when it is dropped, each after the kernel it runs; a kernel
/// that never ends does not hold the caller.
pub struct Pool {
    shared: Arc<Shared>,
    /// What the lanes said last.
    next_check: Option<Time>,
}

struct Shared {
    state: Mutex<State>,
    /// Signalled when a lane becomes runnable while a thread is idle.
    work: Condvar,
    waker: Arc<Waker>,
    /// One per thread.
    threads: Vec<Thread>,
    /// Where the time of the slots begins.
    epoch: Instant,
    has_counter: bool,
}

#[derive(Default)]
struct Thread {
    slot: Mutex<Slot>,
    stop: Stop,
}

struct State {
    lanes: Lanes,
    reports: Reports,
    /// Threads that compute: all but those whose kernel does not return.
    usable: usize,
    idle: usize,
    closing: bool,
}

impl Pool {
    /// Starts `slots` threads that announce results through `waker`.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn new(slots: u16, waker: Arc<Waker>) -> std::io::Result<Pool> {
        let slots = usize::from(slots);
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                lanes: Lanes::default(),
                reports: Reports::default(),
                usable: slots,
                idle: 0,
                closing: false,
            }),
            work: Condvar::new(),
            waker,
            threads: (0..slots).map(|_| Thread::default()).collect(),
            epoch: Instant::now(),
            has_counter: counter::is_reliable(),
        });
        let pool = Pool {
            shared,
            next_check: None,
        };
        for index in 0..slots {
            let shared = Arc::clone(&pool.shared);
            thread::Builder::new()
                .name(format!("slot-{index}"))
                .spawn(move || shared.work(&shared.threads[index]))?;
        }
        Ok(pool)
    }

    /// Carries out a turn's commands under one lock. What a submission leaves is an empty batch, of
    /// which the last becomes `spare`, to be filled again.
    pub fn apply(&mut self, commands: &mut Vec<Command>, spare: &mut Batch, now: Instant) {
        if commands.is_empty() {
            return;
        }
        let shared = &*self.shared;
        let now = shared.time(now);
        let mut state = shared.lock();
        let was_empty = state.reports.is_empty();
        for command in commands.drain(..) {
            match command {
                Command::Prepare(conn, kernel, timeout) => state.lanes.open(conn, kernel, timeout),
                Command::Submit(conn, mut batch) => {
                    state.lanes.push(conn, &mut batch, now);
                    *spare = batch;
                }
                Command::Pause(conn, paused) => state.lanes.pause(conn, paused),
                Command::Recall(conn) => shared.recall(conn, &mut state),
                Command::Cancel(conn, attempt, running) => {
                    shared.cancel(conn, attempt, running, &mut state);
                }
                Command::Revoke(conn) => shared.revoke(conn, &mut state),
            }
        }
        self.next_check = state.next_check(now);
        let is_news = was_empty && !state.reports.is_empty();
        shared.unlock(state, is_news);
    }

    /// When [`Pool::take`] must be called at the latest.
    pub fn next_check(&self) -> Option<Instant> {
        let since_epoch = self.next_check?.since(Time::ZERO);
        Some(self.shared.epoch + since_epoch)
    }

    /// Checks how long kernels have run, if it is time to, and swaps what there is to report into
    /// `reports`, which must be empty.
    pub fn take(&mut self, reports: &mut Reports, now: Instant) {
        debug_assert!(reports.is_empty());
        let now = self.shared.time(now);
        let mut state = self.shared.lock();
        self.shared.check(now, &mut state);
        if !state.reports.is_empty() {
            std::mem::swap(&mut state.reports, reports);
            state.lanes.taken();
        }
        self.next_check = state.next_check(now);
        self.shared.unlock(state, false);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        for thread in &self.shared.threads {
            thread.slot().abandon();
            thread.stop.set(true);
        }
        self.shared.work.notify_all();
    }
}

impl Thread {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes in what a thread has finished, and back to the lane what did not start. Says whether
    /// there is something to report, and was nothing before.
    fn collect(&mut self, slot: &mut Slot) -> bool {
        let was_empty = self.reports.is_empty();
        self.lanes.collect(slot, &mut self.reports.finished);
        if slot.recover() {
            self.change_usable(self.usable + 1, None);
        }
        was_empty && !self.reports.is_empty()
    }

    /// When the slots must be checked next, as far as can be told now.
    fn next_check(&mut self, now: Time) -> Option<Time> {
        self.lanes.watch(self.usable, self.idle, now);
        self.lanes.next_check()
    }

    fn change_usable(&mut self, usable: usize, hung: Option<Attempt>) {
        self.usable = usable;
        self.reports.slots.push((usable as u16, hung));
    }
}

impl Shared {
    /// The life of one thread.
    fn work(&self, thread: &Thread) {
        Buffer::keep_at_most(SLOT_SPARE_BYTES_MAX);
        let mut watch = Stopwatch::new(self.epoch, self.has_counter);
        let (mut input, mut output) = (Payload::EMPTY, Vec::new());
        while let Some(kernel) = self.exchange(thread) {
            let begun = watch.now();
            let mut slot = thread.slot();
            let chunk_end = slot.start(begun);
            let mut next = slot.begin(begun, &mut input);
            drop(slot);
            while next.is_some() {
                output.clear();
                let status = run(&*kernel, &input, &thread.stop, &mut output);
                // Large ones change hands before the lock is taken, small ones are written in place.
                input.clear();
                let large =
                    (output.len() >= Buffer::LARGE_BYTES).then(|| Payload::take(&mut output));
                let fill = |place: &mut Payload| match large {
                    Some(large) => *place = large,
                    None => place.set(&output),
                };
                // One reading serves as this end and the next beginning.
                let now = watch.now();
                let mut slot = thread.slot();
                slot.end(status, fill, now);
                thread.stop.set(false);
                // The rest of a chunk that takes longer than expected, or brings much, is for whoever
                // comes next.
                next = match now < chunk_end && !slot.is_full() {
                    true => slot.begin(now, &mut input),
                    false => None,
                };
            }
        }
    }

    /// Hands in what a thread has finished, and waits for its next chunk; both under one lock if
    /// there is one. `None` when the pool closes.
    fn exchange(&self, thread: &Thread) -> Option<Arc<dyn Kernel>> {
        let mut state = self.lock();
        let mut is_news = state.collect(&mut thread.slot());
        loop {
            if state.closing {
                return None;
            }
            let threads = state.usable;
            let kernel = state.lanes.take(threads, &mut thread.slot());
            if kernel.is_some() {
                self.unlock(state, is_news);
                return kernel;
            }
            if self.gather(&mut state) {
                continue;
            }
            if std::mem::take(&mut is_news) {
                // Who submits in between is to know that this thread will take it.
                state.idle += 1;
                self.unlock(state, true);
                state = self.lock();
                state.idle -= 1;
                continue;
            }
            state.idle += 1;
            state = (self.work.wait(state)).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    /// Has all threads put back what they have not started, before one of them goes idle: a chunk
    /// waits behind its long attempt only while every other thread computes, too. Says whether there
    /// is something to take now. (Whoever takes a chunk while a thread is idle leaves some for it, and
    /// wakes it; so that it need not look again.)
    fn gather(&self, state: &mut State) -> bool {
        for thread in &self.threads {
            state.lanes.put_back(&mut thread.slot());
        }
        state.lanes.is_runnable()
    }

    fn recall(&self, conn: ConnId, state: &mut State) {
        let finished = &mut state.reports.finished;
        state.lanes.recall(conn, finished);
        for thread in &self.threads {
            thread.slot().recall(conn, finished);
        }
    }

    fn cancel(&self, conn: ConnId, attempt: Attempt, running: bool, state: &mut State) {
        let finished = &mut state.reports.finished;
        if state.lanes.take_back(conn, attempt, finished) {
            return;
        }
        for thread in &self.threads {
            let mut slot = thread.slot();
            if slot.take_back(conn, attempt, finished) {
                return;
            }
            if running && slot.stop(conn, attempt) {
                return thread.stop.set(true);
            }
        }
    }

    fn revoke(&self, conn: ConnId, state: &mut State) {
        state.lanes.close(conn);
        for thread in &self.threads {
            let mut slot = thread.slot();
            if slot.conn() == Some(conn) && slot.abandon() {
                thread.stop.set(true);
            }
        }
    }

    /// Stops what has run for too long, and writes off the threads that do not come back.
    fn check(&self, now: Time, state: &mut State) {
        let Some(late) = state.lanes.begin_check(now) else {
            return;
        };
        for thread in &self.threads {
            let mut slot = thread.slot();
            let State { lanes, reports, .. } = state;
            match lanes.check(&mut slot, late, now, &mut reports.finished) {
                Check::InTime => {}
                Check::Stop => thread.stop.set(true),
                Check::Hung(attempt) => state.change_usable(state.usable - 1, Some(attempt)),
            }
        }
    }

    /// Unlocks, and then wakes: whoever is woken needs the lock. The reactor if there is something to
    /// report and was nothing before; one idle thread if there is something for it, which then wakes
    /// the next.
    fn unlock(&self, state: MutexGuard<'_, State>, is_news: bool) {
        let is_work = state.idle > 0 && state.lanes.is_runnable();
        drop(state);
        if is_work {
            self.work.notify_one();
        }
        if is_news {
            // See `Mailbox::post`.
            let _ = self.waker.wake();
        }
    }

    fn time(&self, at: Instant) -> Time {
        Time::from_micros(at.saturating_duration_since(self.epoch).as_micros() as u64)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs one attempt; appends its output, or in words why there is none, to `output`.
fn run(kernel: &dyn Kernel, input: &[u8], stop: &Stop, output: &mut Vec<u8>) -> Status {
    let result = catch_unwind(AssertUnwindSafe(|| kernel.run(input, stop, output)));
    let (status, error) = match result {
        Ok(Ok(())) if output.len() <= PAYLOAD_BYTES_MAX => return Status::Done,
        Ok(Err(KernelError::FailedWithOutput)) if output.len() <= PAYLOAD_BYTES_MAX => {
            return Status::Failed;
        }
        Ok(Ok(()) | Err(KernelError::FailedWithOutput)) => {
            let error = format!(
                "its output of {} bytes is longer than any may be",
                output.len()
            );
            *output = Vec::new();
            (Status::Failed, error)
        }
        Ok(Err(KernelError::Failed(error))) => (Status::Failed, error),
        Ok(Err(KernelError::Host(error))) => (Status::Returned, error),
        Err(panic) => {
            let error = format!("the kernel panicked: {}", panic_text(&*panic));
            (Status::Failed, error)
        }
    };
    output.clear();
    output.extend_from_slice(cut(&error).as_bytes());
    status
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&str>() {
        text
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text
    } else {
        "without a message"
    }
}

#[cfg(test)]
mod tests;
