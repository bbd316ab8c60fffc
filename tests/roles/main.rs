//! The roles one step at a time: what each answers to each event, and nothing else.
//!
//! What it is: a sink that writes down what a role says, one line per call. What it is not: a run; whole
//! runs are simulated in `tests/sim`.
//!
//! Invariant: every line said is expected by some line of a test: an unread one fails it.

mod head;
mod tail;
mod trouble;
mod worker;

use std::sync::Arc;

use teamster::frame::{Frame, Outcome, Status, Task};
use teamster::kernel::Kernel;
use teamster::payload::Bytes;
use teamster::role::{Attempt, ConnId, Event, Exit, Role, Sink};
use teamster::time::{Duration, Time};

/// What a role said, in words.
#[derive(Default)]
struct Said(Vec<String>);

fn words(frame: &Frame<'_>) -> String {
    match frame {
        Frame::Hello { payload_max, .. } => format!("Hello {payload_max}"),
        Frame::Welcome {
            slots,
            credit_tasks,
            credit_bytes,
            payload_max,
            ..
        } => format!("Welcome {slots} {credit_tasks} {credit_bytes} {payload_max}"),
        Frame::Refuse { refusal, reason } => format!("Refuse {refusal:?}: {reason}"),
        Frame::Job {
            timeout_ms: 0,
            kernel,
            setup,
        } => format!("Job {kernel} {}", setup.len()),
        Frame::Job {
            timeout_ms,
            kernel,
            setup,
        } => format!("Job {kernel} {} within {timeout_ms} ms", setup.len()),
        Frame::Task(Task { attempt, input }) => format!("Task {attempt} {}", input.len()),
        Frame::Outcome(Outcome {
            attempt,
            status,
            output,
            ..
        }) => format!("Outcome {attempt} {status:?} {}", output.len()),
        Frame::Ping => "Ping".into(),
        Frame::Pong => "Pong".into(),
        Frame::Drain => "Drain".into(),
        Frame::Cancel { attempt, running } => format!("Cancel {attempt} {running}"),
        Frame::Slots { slots } => format!("Slots {slots}"),
        Frame::Usage { cpu_ms, waited_ms } => format!("Usage {cpu_ms} {waited_ms}"),
    }
}

impl Sink for Said {
    fn dial(&mut self, dial: u32) {
        self.0.push(format!("dial {dial}"));
    }

    fn send(&mut self, conn: ConnId, frame: Frame<'_>) {
        self.0.push(format!("{}: {}", conn.slot, words(&frame)));
    }

    fn close(&mut self, conn: ConnId) {
        self.0.push(format!("{}: close", conn.slot));
    }

    fn prepare(&mut self, conn: ConnId, _: Arc<dyn Kernel>, timeout: Option<Duration>) {
        self.0.push(match timeout {
            None => format!("{}: prepare", conn.slot),
            Some(timeout) => format!("{}: prepare within {timeout:?}", conn.slot),
        });
    }

    fn submit(&mut self, conn: ConnId, attempt: Attempt, input: Bytes<'_>) {
        self.0
            .push(format!("{}: submit {attempt} {}", conn.slot, input.len()));
    }

    fn revoke(&mut self, conn: ConnId) {
        self.0.push(format!("{}: revoke", conn.slot));
    }

    fn recall(&mut self, conn: ConnId) {
        self.0.push(format!("{}: recall", conn.slot));
    }

    fn cancel(&mut self, conn: ConnId, attempt: Attempt, running: bool) {
        self.0
            .push(format!("{}: cancel {attempt} {running}", conn.slot));
    }

    fn pause(&mut self, conn: ConnId, paused: bool) {
        self.0.push(format!("{}: pause {paused}", conn.slot));
    }

    fn record(&mut self, _: &[u8], count: usize) {
        self.0.push(format!("record {count}"));
    }

    fn read(&mut self) {
        self.0.push("read".into());
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.push(format!("write {}", bytes.len()));
    }

    fn exit(&mut self, exit: Exit) {
        self.0.push(format!("exit {exit:?}"));
    }
}

/// A role on the bench.
struct Bench<R> {
    role: R,
    said: Said,
    now: Time,
}

impl<R: Role> Bench<R> {
    fn new(role: R) -> Bench<R> {
        Bench {
            role,
            said: Said::default(),
            now: Time::ZERO,
        }
    }

    fn tell(&mut self, event: Event<'_>) {
        self.role.handle(event, self.now, &mut self.said);
    }

    fn hear(&mut self, conn: ConnId, frame: Frame<'_>) {
        self.tell(Event::Heard { conn });
        self.tell(Event::Frame {
            conn,
            frame: &frame,
        });
    }

    /// Ends the turn: deadlines, then the flush.
    fn turn(&mut self) {
        if self.role.next_deadline().is_some_and(|at| at <= self.now) {
            self.role.handle_timeout(self.now, &mut self.said);
            let next = self.role.next_deadline();
            assert!(next.is_none_or(|at| at > self.now), "{next:?} is not later");
        }
        self.role.flush(self.now, &mut self.said);
    }

    /// Takes a turn so much later.
    fn wait(&mut self, wait: Duration) {
        self.now = self.now + wait;
        self.turn();
    }

    /// Sleeps until the next deadline and takes a turn; returns how long that was.
    fn sleep(&mut self) -> Duration {
        let at = self.role.next_deadline().expect("something is due");
        let wait = at.since(self.now);
        self.wait(wait);
        wait
    }

    /// What was said since the last call is exactly this.
    #[track_caller]
    fn expect(&mut self, lines: &[&str]) {
        assert_eq!(std::mem::take(&mut self.said.0), lines);
    }

    /// What was said since the last call.
    fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.said.0)
    }
}

impl<R> Drop for Bench<R> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.said.0, [""; 0], "said and not expected");
        }
    }
}

fn conn(slot: u32) -> ConnId {
    let generation = 1;
    ConnId { slot, generation }
}

fn attempt(task: u64, number: u32) -> Attempt {
    Attempt { task, number }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn outcome(attempt: Attempt, output: &[u8]) -> Frame<'_> {
    Frame::Outcome(Outcome {
        attempt,
        status: Status::Done,
        run_us: 0,
        output: output.into(),
    })
}
