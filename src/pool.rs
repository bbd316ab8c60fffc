//! The fixed threads that compute.
//!
//! What it is: `slots` threads over one [`Lanes`] under one lock; work goes in and results come out
//! in batches. What it is not: a judge of who waits for a result; that is the role's.
//!
//! Invariants: the reactor is woken once per change of the finished list from empty to non-empty; no
//! thread holds the lock while a kernel runs; a panic in a kernel is a failed outcome and nothing
//! else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use mio::Waker;

use crate::frame::{Status, cut};
use crate::kernel::{Kernel, KernelError, Stop};
use crate::lanes::{Job, Lanes};
use crate::limits::CHUNK_TIME;
use crate::payload::Payload;
use crate::role::{Attempt, Completion, ConnId};

/// What the reactor tells the pool, once per turn.
pub enum Command {
    /// A session will submit attempts of this kernel, each of which may take so long.
    Prepare(ConnId, Arc<dyn Kernel>, Option<Duration>),
    /// An attempt to run.
    Submit(ConnId, Job),
    /// A session's attempts wait, or go on.
    Pause(ConnId, bool),
    /// What a session has waiting comes back.
    Recall(ConnId),
    /// One attempt of a session comes back, if it has not started or is to be stopped.
    Cancel(ConnId, Attempt, bool),
    /// A session is over.
    Revoke(ConnId),
}

/// A fixed number of threads. They end when it is dropped, each after the kernel it runs; a kernel
/// that never ends does not hold the caller.
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Signalled when a lane becomes runnable while a thread is idle.
    work: Condvar,
    waker: Arc<Waker>,
    /// One per thread.
    stops: Vec<Stop>,
}

struct State {
    lanes: Lanes,
    finished: Vec<Completion>,
    /// Whose attempts each thread runs.
    running: Vec<Option<ConnId>>,
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
                finished: Vec::new(),
                running: vec![None; slots],
                idle: 0,
                closing: false,
            }),
            work: Condvar::new(),
            waker,
            stops: (0..slots).map(|_| Stop::new()).collect(),
        });
        let pool = Pool { shared };
        for slot in 0..slots {
            let shared = Arc::clone(&pool.shared);
            thread::Builder::new()
                .name(format!("slot-{slot}"))
                .spawn(move || shared.work(slot))?;
        }
        Ok(pool)
    }

    /// Carries out a turn's commands under one lock.
    pub fn apply(&self, commands: &mut Vec<Command>) {
        if commands.is_empty() {
            return;
        }
        let mut state = self.shared.lock();
        for command in commands.drain(..) {
            match command {
                Command::Prepare(conn, kernel, _) => state.lanes.open(conn, kernel),
                Command::Submit(conn, job) => state.lanes.push(conn, job),
                Command::Pause(conn, paused) => state.lanes.pause(conn, paused),
                Command::Cancel(..) => {}
                Command::Recall(conn) => self.recall(conn, &mut state),
                Command::Revoke(conn) => {
                    state.lanes.close(conn);
                    for (slot, running) in state.running.iter().enumerate() {
                        if *running == Some(conn) {
                            self.shared.stops[slot].set(true);
                        }
                    }
                }
            }
        }
        self.shared.wake_one(&state);
    }

    fn recall(&self, conn: ConnId, state: &mut State) {
        let was_empty = state.finished.is_empty();
        for Job { attempt, input } in state.lanes.recall(conn) {
            let returned = Completion::returned(conn, attempt, input.len(), "it did not start");
            state.finished.push(returned);
        }
        if was_empty && !state.finished.is_empty() {
            // See `Mailbox::post`.
            let _ = self.shared.waker.wake();
        }
    }

    /// Swaps the finished attempts into `finished`, which must be empty.
    pub fn take(&self, finished: &mut Vec<Completion>) {
        debug_assert!(finished.is_empty());
        let mut state = self.shared.lock();
        if state.finished.is_empty() {
            return;
        }
        std::mem::swap(&mut state.finished, finished);
        state.lanes.taken();
        self.shared.wake_one(&state);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.stops.iter().for_each(|stop| stop.set(true));
        self.shared.work.notify_all();
    }
}

impl Shared {
    /// The life of one thread.
    fn work(&self, slot: usize) {
        let mut jobs = Vec::new();
        let mut done = Vec::new();
        let mut output = Vec::new();
        while let Some((conn, kernel)) = self.next(slot, &mut jobs) {
            let mut batch = Batch::new(conn);
            let mut chunk = jobs.drain(..);
            // The rest of a revoked session's chunk has no one to go to; that of one which takes
            // longer than expected is for whichever thread comes next.
            while !self.stops[slot].is_raised()
                && batch.age() < CHUNK_TIME
                && let Some(job) = chunk.next()
            {
                let (result, run) = self.run(slot, &*kernel, conn, &job, &mut output, &batch);
                batch.add(&result, run);
                done.push(result);
            }
            self.publish(&mut done, chunk, &batch);
        }
    }

    /// Runs one attempt; says how long it took as well.
    fn run(
        &self,
        slot: usize,
        kernel: &dyn Kernel,
        conn: ConnId,
        job: &Job,
        output: &mut Vec<u8>,
        batch: &Batch,
    ) -> (Completion, Duration) {
        output.clear();
        let stop = &self.stops[slot];
        let result = catch_unwind(AssertUnwindSafe(|| kernel.run(&job.input, stop, output)));
        let run = batch.last.elapsed();
        let (status, output) = match result {
            Ok(Ok(())) => (Status::Done, Payload::from(&output[..])),
            Ok(Err(KernelError::Failed(error))) => {
                (Status::Failed, Payload::from(cut(&error).as_bytes()))
            }
            Ok(Err(KernelError::Host(error))) => {
                (Status::Returned, Payload::from(cut(&error).as_bytes()))
            }
            Err(panic) => {
                let error = format!("the kernel panicked: {}", panic_text(&*panic));
                (Status::Failed, Payload::from(cut(&error).as_bytes()))
            }
        };
        let completion = Completion {
            conn,
            attempt: job.attempt,
            status,
            output,
            input_bytes: job.input.len() as u32,
            run_us: u32::try_from(run.as_micros()).unwrap_or(u32::MAX),
        };
        (completion, run)
    }

    /// Waits for the next chunk; `None` when the pool closes.
    fn next(&self, slot: usize, jobs: &mut Vec<Job>) -> Option<(ConnId, Arc<dyn Kernel>)> {
        let mut state = self.lock();
        state.running[slot] = None;
        loop {
            if state.closing {
                return None;
            }
            let threads = self.stops.len();
            if let Some((conn, kernel)) = state.lanes.take(threads, jobs) {
                state.running[slot] = Some(conn);
                self.stops[slot].set(false);
                self.wake_one(&state);
                return Some((conn, kernel));
            }
            state.idle += 1;
            state = self
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    /// Hands finished attempts to the reactor, and back to the lane those that did not start.
    fn publish(
        &self,
        done: &mut Vec<Completion>,
        rest: impl DoubleEndedIterator<Item = Job>,
        batch: &Batch,
    ) {
        if done.is_empty() {
            return;
        }
        let mut state = self.lock();
        let was_empty = state.finished.is_empty();
        state.finished.append(done);
        state
            .lanes
            .finished(batch.conn, batch.jobs, batch.run, batch.output_bytes);
        state.lanes.give_back(batch.conn, rest);
        drop(state);
        if was_empty {
            // See `Mailbox::post`.
            let _ = self.waker.wake();
        }
    }

    /// Wakes one idle thread if there is something for it; that one wakes the next.
    fn wake_one(&self, state: &State) {
        if state.idle > 0 && state.lanes.is_runnable() {
            self.work.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a thread has finished and not yet published.
struct Batch {
    conn: ConnId,
    jobs: usize,
    run: Duration,
    output_bytes: usize,
    begun: Instant,
    /// When the latest attempt ended: one clock reading per attempt serves as end and as beginning.
    last: Instant,
}

impl Batch {
    fn new(conn: ConnId) -> Batch {
        let begun = Instant::now();
        Batch {
            conn,
            jobs: 0,
            run: Duration::ZERO,
            output_bytes: 0,
            begun,
            last: begun,
        }
    }

    fn add(&mut self, result: &Completion, run: Duration) {
        self.jobs += 1;
        self.run += run;
        self.output_bytes += result.output.len();
        self.last += run;
    }

    fn age(&self) -> Duration {
        self.last - self.begun
    }
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
mod tests {
    use super::*;
    use crate::limits::FINISHED_BYTES_MAX;
    use mio::{Events, Poll, Token};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    const CONN: ConnId = ConnId {
        slot: 0,
        generation: 0,
    };

    /// Runs `jobs` on `slots` threads and returns the completions by task.
    fn run(slots: u16, jobs: u64, kernel: Arc<dyn Kernel>) -> Vec<Completion> {
        let mut poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let pool = Pool::new(slots, waker).unwrap();
        let mut commands = vec![Command::Prepare(CONN, kernel, None)];
        for task in 0..jobs {
            let input = Payload::from(&task.to_be_bytes()[..]);
            let attempt = Attempt { task, number: 1 };
            commands.push(Command::Submit(CONN, Job { attempt, input }));
        }
        pool.apply(&mut commands);
        let mut events = Events::with_capacity(4);
        let (mut all, mut some) = (Vec::new(), Vec::new());
        while all.len() < jobs as usize {
            poll.poll(&mut events, None).unwrap();
            pool.take(&mut some);
            all.append(&mut some);
        }
        all.sort_by_key(|done| done.attempt.task);
        all
    }

    struct Echo;

    impl Kernel for Echo {
        fn run(&self, input: &[u8], _: &Stop, output: &mut Vec<u8>) -> Result<(), KernelError> {
            output.extend_from_slice(input);
            Ok(())
        }
    }

    #[test]
    fn every_attempt_completes_once() {
        let all = run(3, 10_000, Arc::new(Echo));
        for (task, done) in all.iter().enumerate() {
            assert_eq!(done.attempt.task, task as u64);
            assert_eq!(&done.output[..], (task as u64).to_be_bytes());
            assert_eq!(done.input_bytes, 8);
        }
    }

    struct Trouble;

    impl Kernel for Trouble {
        fn run(&self, input: &[u8], _: &Stop, _: &mut Vec<u8>) -> Result<(), KernelError> {
            match input[7] {
                0 => panic!("boom"),
                1 => Err("no".repeat(9000).into()),
                2 => Err(KernelError::Host("no such program".into())),
                _ => Ok(()),
            }
        }
    }

    #[test]
    fn a_panic_and_an_error_are_failed_outcomes() {
        let all = run(1, 4, Arc::new(Trouble));
        assert_eq!(all[0].status, Status::Failed);
        assert_eq!(&all[0].output[..], b"the kernel panicked: boom");
        assert_eq!(all[1].status, Status::Failed);
        assert_eq!(all[1].output.len(), crate::limits::REASON_BYTES_MAX);
        assert_eq!(all[2].status, Status::Returned);
        assert_eq!(all[3].status, Status::Done);
    }

    /// Outputs of one byte in no time, or of 1 MiB in a millisecond.
    struct Uneven(Arc<AtomicUsize>);

    impl Kernel for Uneven {
        fn run(&self, _: &[u8], _: &Stop, output: &mut Vec<u8>) -> Result<(), KernelError> {
            let mut output_bytes = 1;
            if self.0.fetch_add(1, Ordering::Relaxed) >= UNEVEN_SMALL {
                thread::sleep(CHUNK_TIME);
                output_bytes = FINISHED_BYTES_MAX;
            }
            output.resize(output_bytes, 0);
            Ok(())
        }
    }

    const UNEVEN_SMALL: usize = 5_000;

    /// A thread that took many attempts, as the ones before were short, keeps to the bound as well.
    #[test]
    fn outputs_that_nobody_takes_stay_within_their_bound() {
        let mut poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let pool = Pool::new(1, waker).unwrap();
        let runs = Arc::new(AtomicUsize::new(0));
        let mut commands = vec![Command::Prepare(
            CONN,
            Arc::new(Uneven(Arc::clone(&runs))),
            None,
        )];
        pool.apply(&mut commands);
        let mut events = Events::with_capacity(4);
        let submit = |count: usize| {
            let attempt = Attempt { task: 0, number: 1 };
            let input = || Payload::EMPTY;
            let job = |_| {
                Command::Submit(
                    CONN,
                    Job {
                        attempt,
                        input: input(),
                    },
                )
            };
            pool.apply(&mut (0..count).map(job).collect());
        };
        submit(UNEVEN_SMALL);
        let (mut taken, mut some) = (0, Vec::new());
        while taken < UNEVEN_SMALL {
            poll.poll(&mut events, None).unwrap();
            pool.take(&mut some);
            taken += some.drain(..).count();
        }
        submit(100);
        thread::sleep(Duration::from_millis(300));
        let large = runs.load(Ordering::Relaxed) - UNEVEN_SMALL;
        assert!(large <= 2, "{large} MiB wait to be taken");
    }

    struct UntilStopped(Mutex<mpsc::Sender<bool>>);

    impl Kernel for UntilStopped {
        fn run(&self, _: &[u8], stop: &Stop, _: &mut Vec<u8>) -> Result<(), KernelError> {
            let tell = self.0.lock().unwrap();
            tell.send(false).unwrap();
            tell.send(stop.sleep(Duration::from_secs(600))).unwrap();
            Ok(())
        }
    }

    #[test]
    fn a_revoked_session_stops_its_kernels() {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let pool = Pool::new(1, waker).unwrap();
        let (tell, told) = mpsc::channel();
        let kernel = Arc::new(UntilStopped(Mutex::new(tell)));
        let attempt = Attempt { task: 0, number: 1 };
        let input = Payload::EMPTY;
        pool.apply(&mut vec![
            Command::Prepare(CONN, kernel, None),
            Command::Submit(CONN, Job { attempt, input }),
        ]);
        assert!(!told.recv().unwrap(), "it runs");
        pool.apply(&mut vec![Command::Revoke(CONN)]);
        assert!(told.recv().unwrap(), "it was stopped");
    }
}
