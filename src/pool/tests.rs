//! The pool with real threads.
//!
//! What it is: a pool driven as the reactor does, with kernels that tests hold by channels. What it
//! is not: a test of what a slot or a lane decides; those have their own, without threads.
//!
//! Invariant: nothing here sleeps to wait for something; a test that fails hangs or asserts.

use super::*;
use crate::frame::Task;
use crate::limits::{FINISHED_BYTES_MAX, STOP_GRACE};
use crate::payload::Bytes;
use crate::role::Execution;
use mio::{Events, Poll, Token};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

const CONN: ConnId = ConnId {
    slot: 0,
    generation: 0,
};

/// Polls; a signal that another test sends this process is nothing.
fn poll(poll: &mut Poll, events: &mut Events, timeout: Option<Duration>) {
    match poll.poll(events, timeout) {
        Err(error) if error.kind() == ErrorKind::Interrupted => {}
        polled => polled.unwrap(),
    }
}

fn attempt(task: u64) -> Attempt {
    Attempt { task, number: 1 }
}

/// A pool on the bench.
struct Bench {
    poll: Poll,
    pool: Pool,
    /// All there were, in their order.
    slots: Vec<(u16, Option<Attempt>)>,
}

impl Bench {
    fn new(slots: u16, kernel: Arc<dyn Kernel>, timeout: Option<Duration>) -> Bench {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let mut bench = Bench {
            poll,
            pool: Pool::new(slots, waker).unwrap(),
            slots: Vec::new(),
        };
        bench.apply([Command::Prepare(CONN, kernel, timeout)]);
        bench
    }

    fn apply(&mut self, commands: impl IntoIterator<Item = Command>) {
        let mut commands = commands.into_iter().collect();
        let mut spare = Batch::new();
        self.pool.apply(&mut commands, &mut spare, Instant::now());
    }

    /// Submits these tasks; the input of each is its number.
    fn submit(&mut self, tasks: impl IntoIterator<Item = u64>) {
        self.apply(tasks.into_iter().map(|task| {
            let number = task.to_be_bytes();
            let (attempt, input) = (attempt(task), Bytes::from(&number));
            let execution = Execution::new(CONN, Task { attempt, input });
            Command::Submit(CONN, [execution].into_iter().collect())
        }));
    }

    /// What is reported next, as the reactor waits for it; nothing if a check was due and that is
    /// all.
    fn turn(&mut self) -> Vec<Execution> {
        let now = Instant::now();
        let check = self.pool.next_check();
        let timeout = check.map(|at| at.saturating_duration_since(now));
        let mut events = Events::with_capacity(4);
        poll(&mut self.poll, &mut events, timeout);
        let mut reports = Reports::default();
        self.pool.take(&mut reports, Instant::now());
        self.slots.append(&mut reports.slots);
        reports.finished.as_slice().to_vec()
    }

    /// The next so many completions, by task.
    fn finish(&mut self, count: usize) -> Vec<Execution> {
        let mut all = Vec::new();
        while all.len() < count {
            all.append(&mut self.turn());
        }
        assert_eq!(all.len(), count);
        all.sort_by_key(|done| done.attempt.task);
        all
    }

    /// The next completion, in words.
    fn next(&mut self) -> (u64, Status, String) {
        let done = self.finish(1).remove(0);
        let output = String::from_utf8(done.payload.to_vec()).unwrap();
        (done.attempt.task, done.status, output)
    }
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
    let mut bench = Bench::new(3, Arc::new(Echo), None);
    bench.submit(0..10_000);
    for (task, done) in (0..).zip(bench.finish(10_000)) {
        assert_eq!(done.attempt, attempt(task));
        assert_eq!(&done.payload[..], task.to_be_bytes());
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
    let mut bench = Bench::new(1, Arc::new(Trouble), None);
    bench.submit(0..4);
    let all = bench.finish(4);
    assert_eq!(all[0].status, Status::Failed);
    assert_eq!(&all[0].payload[..], b"the kernel panicked: boom");
    assert_eq!(all[1].status, Status::Failed);
    assert_eq!(all[1].payload.len(), crate::limits::REASON_BYTES_MAX);
    assert_eq!(all[2].status, Status::Returned);
    assert_eq!(all[3].status, Status::Done);
}

struct Endless;

impl Kernel for Endless {
    fn run(&self, _: &[u8], _: &Stop, output: &mut Vec<u8>) -> Result<(), KernelError> {
        output.resize(PAYLOAD_BYTES_MAX + 1, 0);
        Ok(())
    }
}

#[test]
fn an_output_beyond_any_limit_fails_its_task_and_not_its_thread() {
    let mut bench = Bench::new(1, Arc::new(Endless), None);
    bench.submit(0..2);
    for done in bench.finish(2) {
        assert_eq!(done.status, Status::Failed);
        let reason = b"its output of 67108865 bytes is longer than any may be";
        assert_eq!(&done.payload[..], reason);
    }
}

#[test]
fn a_long_attempt_keeps_no_others_from_an_idle_thread() {
    let (mut bench, told, go) = held(2, false, None);
    // Until a thread takes many at once.
    for _ in 0..20 {
        bench.submit((0..100).map(|_| 0));
        bench.finish(100);
    }
    told.try_iter().count();
    bench.submit([1].into_iter().chain((0..100).map(|_| 0)));
    assert!(bench.finish(100).iter().all(|done| done.attempt.task == 0));
    go.send(()).unwrap();
    assert_eq!(bench.next().0, 1);
}

#[test]
fn a_long_attempt_does_not_hold_back_what_was_finished_before_it() {
    let (mut bench, told, go) = held(1, false, None);
    // Until a thread takes many at once.
    for _ in 0..20 {
        bench.submit((0..100).map(|_| 0));
        bench.finish(100);
    }
    told.try_iter().count();
    bench.submit((0..50).map(|_| 0).chain([1]).chain((0..50).map(|_| 0)));
    assert!(bench.finish(50).iter().all(|done| done.attempt.task == 0));
    while bench.pool.next_check().is_some() {
        assert!(bench.turn().is_empty(), "and nothing is looked at again");
    }
    go.send(()).unwrap();
    assert_eq!(bench.finish(51)[50].attempt.task, 1);
}

/// Outputs of one byte, or of 1 MiB, in next to no time.
struct Uneven(Arc<AtomicUsize>);

impl Kernel for Uneven {
    fn run(&self, _: &[u8], _: &Stop, output: &mut Vec<u8>) -> Result<(), KernelError> {
        let mut output_bytes = 1;
        if self.0.fetch_add(1, Ordering::Relaxed) >= UNEVEN_SMALL {
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
    let runs = Arc::new(AtomicUsize::new(0));
    let mut bench = Bench::new(1, Arc::new(Uneven(Arc::clone(&runs))), None);
    bench.submit(0..UNEVEN_SMALL as u64);
    bench.finish(UNEVEN_SMALL);
    bench.submit(0..100);
    let large = || runs.load(Ordering::Relaxed) - UNEVEN_SMALL;
    while large() == 0 {
        thread::yield_now();
    }
    thread::sleep(Duration::from_millis(300));
    let large = large();
    assert!(large <= 2, "{large} MiB wait to be taken");
}

/// Says that a task runs, and for an odd one waits: heeding a stop, or else until it is let go. Its
/// output says whether the stop was raised at its beginning.
struct Held {
    tell: mpsc::Sender<u64>,
    heeds: bool,
    go: Mutex<mpsc::Receiver<()>>,
}

impl Kernel for Held {
    fn run(&self, input: &[u8], stop: &Stop, output: &mut Vec<u8>) -> Result<(), KernelError> {
        let was_raised = stop.is_raised();
        let _ = self.tell.send(u64::from(input[7]));
        if input[7] % 2 == 1 {
            match self.heeds {
                true => _ = stop.sleep(Duration::from_secs(600)),
                false => _ = self.go.lock().unwrap().recv(),
            }
        }
        output.extend_from_slice(if was_raised { b"raised" } else { b"calm" });
        Ok(())
    }
}

/// A bench, where its kernel says what runs, and what lets it go.
fn held(
    slots: u16,
    heeds: bool,
    timeout: Option<Duration>,
) -> (Bench, mpsc::Receiver<u64>, mpsc::Sender<()>) {
    let (tell, told) = mpsc::channel();
    let (let_go, go) = mpsc::channel();
    let go = Mutex::new(go);
    let bench = Bench::new(slots, Arc::new(Held { tell, heeds, go }), timeout);
    (bench, told, let_go)
}

const CALM: &str = "calm";

#[test]
fn a_revoked_session_stops_its_kernels() {
    let (mut bench, told, _go) = held(1, true, None);
    bench.submit([1]);
    assert_eq!(told.recv(), Ok(1));
    bench.apply([Command::Revoke(CONN)]);
    assert_eq!(bench.next().0, 1, "it has returned");
}

#[test]
fn an_attempt_that_waits_is_taken_back() {
    let (mut bench, told, go) = held(1, false, None);
    bench.submit([1, 2, 4]);
    assert_eq!(told.recv(), Ok(1));
    bench.apply([Command::Cancel(CONN, attempt(2), true)]);
    let reason = "it did not start".to_owned();
    assert_eq!(bench.next(), (2, Status::Returned, reason));
    go.send(()).unwrap();
    assert_eq!(told.recv(), Ok(4));
    let rest = bench.finish(2);
    assert!(rest.iter().all(|done| done.status == Status::Done));
}

#[test]
fn an_attempt_that_runs_is_only_stopped_if_that_is_wanted() {
    let (mut bench, told, _go) = held(1, true, None);
    bench.submit([1, 2]);
    assert_eq!(told.recv(), Ok(1));
    bench.apply([
        Command::Cancel(CONN, attempt(1), false),
        Command::Cancel(CONN, attempt(3), true),
    ]);
    assert!(told.try_recv().is_err(), "it goes on");
    bench.apply([Command::Cancel(CONN, attempt(1), true)]);
    assert_eq!(told.recv(), Ok(2));
    let all = bench.finish(2);
    assert_eq!(all[0].status, Status::Returned);
    assert_eq!(&all[0].payload[..], b"cancelled");
    assert_eq!(all[1].status, Status::Done);
    assert_eq!(&all[1].payload[..], CALM.as_bytes());
}

/// The stop comes at any moment, and never to another attempt than its own.
#[test]
fn a_stop_never_meets_the_next_attempt() {
    struct Brief;
    impl Kernel for Brief {
        fn run(&self, _: &[u8], stop: &Stop, output: &mut Vec<u8>) -> Result<(), KernelError> {
            for _ in 0..200 {
                output.resize(usize::from(stop.is_raised()), 1);
                std::hint::spin_loop();
            }
            Ok(())
        }
    }
    let mut bench = Bench::new(2, Arc::new(Brief), None);
    let (mut done, mut cancelled) = (0, 0);
    for first in (0..20_000).step_by(20) {
        bench.submit(first..first + 20);
        bench.apply((first..first + 20).map(|task| Command::Cancel(CONN, attempt(task), true)));
        for ended in bench.finish(20) {
            match ended.status {
                Status::Done => {
                    assert!(ended.payload.is_empty(), "the stop was another's");
                    done += 1;
                }
                status => {
                    assert_eq!(status, Status::Returned);
                    cancelled += 1;
                }
            }
        }
    }
    assert_eq!(done + cancelled, 20_000);
}

const SHORT: Duration = Duration::from_millis(20);

#[test]
fn what_runs_for_too_long_is_stopped() {
    let (mut bench, _told, _go) = held(1, true, Some(SHORT));
    let begun = Instant::now();
    bench.submit([1, 2]);
    let all = bench.finish(2);
    assert!(begun.elapsed() >= SHORT);
    assert_eq!(all[0].status, Status::TimedOut);
    let reason = b"it ran for longer than --timeout 0.02 s";
    assert_eq!(&all[0].payload[..], reason);
    assert!(all[0].run_us >= 20_000);
    assert_eq!(all[1].status, Status::Done);
    assert_eq!(&all[1].payload[..], CALM.as_bytes());
    assert_eq!(bench.slots, []);
    // What has nothing to check is not looked at again.
    while bench.pool.next_check().is_some() {
        assert!(bench.turn().is_empty());
    }
}

#[test]
fn a_thread_that_does_not_come_back_is_written_off_until_it_does() {
    let (mut bench, told, go) = held(2, false, Some(SHORT));
    let begun = Instant::now();
    bench.submit([1, 2, 4, 6]);
    let all = bench.finish(4);
    assert!(begun.elapsed() >= SHORT + STOP_GRACE);
    assert_eq!(all[0].status, Status::TimedOut);
    assert!(all[1..].iter().all(|done| done.status == Status::Done));
    assert_eq!(bench.slots, [(1, Some(attempt(1)))]);
    bench.submit([8]);
    assert_eq!(bench.next(), (8, Status::Done, CALM.into()));
    go.send(()).unwrap();
    while bench.slots.len() < 2 {
        assert!(bench.turn().is_empty(), "its result is dropped");
    }
    assert_eq!(bench.slots[1], (2, None));
    // Both compute: each of these waits for the other one to have begun.
    let before = told.try_iter().count();
    assert_eq!(before, 5);
    bench.submit([1, 3]);
    let both = [told.recv().unwrap(), told.recv().unwrap()];
    assert!(both == [1, 3] || both == [3, 1]);
}

#[test]
fn the_last_thread_may_be_written_off_too() {
    let (mut bench, _told, _go) = held(1, false, Some(SHORT));
    bench.submit([1, 2]);
    assert_eq!(bench.next().1, Status::TimedOut);
    assert_eq!(bench.slots, [(0, Some(attempt(1)))]);
    bench.apply([Command::Recall(CONN)]);
    assert_eq!(bench.next().1, Status::Returned);
}

#[test]
fn the_time_in_which_the_process_was_stopped_does_not_count() {
    let (mut bench, told, go) = held(1, false, Some(Duration::from_secs(60)));
    bench.submit([1]);
    assert_eq!(told.recv(), Ok(1));
    let later = Instant::now() + Duration::from_secs(100);
    bench.pool.take(&mut Reports::default(), later);
    assert!(bench.pool.next_check().unwrap() > later);
    go.send(()).unwrap();
    let mut reports = Reports::default();
    while reports.finished.is_empty() {
        let mut events = Events::with_capacity(4);
        poll(&mut bench.poll, &mut events, None);
        bench.pool.take(&mut reports, later);
    }
    assert_eq!(reports.finished.as_slice()[0].status, Status::Done);
}
