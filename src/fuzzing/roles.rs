//! A head or a worker against a script.
//!
//! What it is: a driver that keeps its promises (see [`Role`]) and leaves everything else to the
//! bytes: what is opened, what arrives, what is completed, when. What it is not: a peer; most of what
//! it says is nonsense, and the role must cope.
//!
//! Invariant: an attempt is answered at most once, and what is in flight stays within the credit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::PAYLOAD_BYTES_MAX;
use crate::frame::{Decoder, Frame, Outcome, Refusal, Side, Status, Task, opening};
use crate::head::{Head, HeadConfig};
use crate::kernel::{Delivery, Kernel, KernelError, Kernels, Next, Stop, Workload};
use crate::payload::{Bytes, Payload};
use crate::role::{Attempt, CloseReason, ConnId, Event, Execution, Exit, Role, Sink, Usage};
use crate::time::{Duration, Time};
use crate::worker::{Worker, WorkerConfig};

/// Workers of the head, and connections to the worker, at most.
const PEERS: u32 = 4;

/// A script: whose, its numbers, and then one step after the other until the bytes end.
pub fn roles(bytes: &[u8]) {
    let mut script = Script(bytes);
    let config = script.byte();
    if config.is_multiple_of(2) {
        let names = (0..PEERS).map(|index| index.to_string()).collect();
        let mut head = HeadConfig::new(names);
        head.payload_bytes_max = PAYLOAD_BYTES_MAX;
        head.ordered = config & 2 > 0;
        head.attempts_max = 1 + u32::from(config >> 6);
        head.failures_max = (config & 4 > 0).then_some(3);
        let job = Job { left: 40, fed: 30 };
        Stage::new(Side::Head, Head::new(head, job), script).run();
    } else {
        let kernels = Kernels::new().with("k", |_| Ok(Arc::new(Nothing)));
        let mut worker = WorkerConfig::new(2, kernels);
        worker.payload_bytes_max = PAYLOAD_BYTES_MAX;
        worker.credit_tasks = 1 + u32::from(config >> 4);
        worker.credit_bytes = 1000;
        Stage::new(Side::Worker, Worker::new(worker), script).run();
    }
}

const STATUSES: [Status; 4] = [
    Status::Done,
    Status::Failed,
    Status::Returned,
    Status::TimedOut,
];

struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    /// The next byte; zero after the end.
    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

struct Nothing;

impl Kernel for Nothing {
    fn run(&self, _: &[u8], _: &Stop, _: &mut Vec<u8>) -> Result<(), KernelError> {
        Ok(())
    }
}

struct Job {
    left: usize,
    /// Tasks that it can give before it is fed again.
    fed: usize,
}

impl Workload for Job {
    fn kernel(&self) -> &str {
        "k"
    }

    fn describe(&self) -> String {
        "k".into()
    }

    fn setup(&self) -> Vec<u8> {
        Vec::new()
    }

    fn next(&mut self, input: &mut Vec<u8>) -> Next {
        if self.left == 0 {
            return Next::End;
        }
        if self.fed == 0 {
            return Next::Later;
        }
        self.fed -= 1;
        self.left -= 1;
        // Some empty, one too long.
        input.resize(self.left * 37 % (PAYLOAD_BYTES_MAX + 60), 0);
        Next::Task
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.fed += bytes.len();
    }

    fn unfit(&self, input: &[u8]) -> Option<String> {
        (input.len() == 5).then(|| "five bytes".into())
    }

    fn deliver(&mut self, _: &Delivery<'_>, text: &mut Vec<u8>) {
        text.push(b'.');
    }

    fn finish(&mut self, _: &mut Vec<u8>) -> bool {
        true
    }
}

/// A connection as its driver knows it.
#[derive(Default)]
struct Conn {
    is_closing: bool,
    is_prepared: bool,
    unsent_bytes: usize,
    /// Attempts that are not answered, with the lengths of their inputs.
    held: BTreeMap<Attempt, usize>,
    /// What the worker granted.
    credit: Option<(u32, u32)>,
}

/// What the role asked for.
#[derive(Default)]
struct Asked {
    conns: BTreeMap<ConnId, Conn>,
    dials: BTreeSet<u32>,
    tasks: BTreeSet<Attempt>,
    submitted: Vec<(ConnId, Attempt, usize)>,
    recalled: Vec<(ConnId, Attempt, usize)>,
    is_reading: bool,
    unwritten_bytes: usize,
    exit: Option<Exit>,
}

impl Asked {
    fn live(&mut self, conn: ConnId) -> &mut Conn {
        let live = self.conns.get_mut(&conn).expect("it is open");
        assert!(!live.is_closing, "nothing follows a close");
        live
    }
}

impl Sink for Asked {
    fn dial(&mut self, dial: u32) {
        assert!(self.dials.insert(dial), "one dial at a time");
    }

    fn send(&mut self, conn: ConnId, frame: Frame<'_>) {
        let live = self.live(conn);
        live.unsent_bytes += frame.encoded_bytes();
        match frame {
            Frame::Task(Task { attempt, input }) => {
                live.held.insert(attempt, input.len());
                let (tasks, bytes) = live.credit.expect("a task before the greeting");
                let held_bytes: usize = live.held.values().sum();
                assert!(live.held.len() <= tasks as usize, "tasks beyond the credit");
                let is_within = live.held.len() == 1 || held_bytes <= bytes as usize;
                assert!(is_within, "bytes beyond the credit");
                assert!(self.tasks.insert(attempt), "an attempt is sent once");
            }
            Frame::Outcome(Outcome { attempt, .. }) => {
                assert!(live.held.remove(&attempt).is_some(), "answered once");
            }
            _ => {}
        }
    }

    fn close(&mut self, conn: ConnId) {
        self.live(conn).is_closing = true;
    }

    fn prepare(&mut self, conn: ConnId, _: Arc<dyn Kernel>, _: Option<Duration>) {
        let live = self.live(conn);
        assert!(!std::mem::replace(&mut live.is_prepared, true));
    }

    fn submit(&mut self, conn: ConnId, attempt: Attempt, input: Bytes<'_>) {
        assert!(self.live(conn).is_prepared);
        self.submitted.push((conn, attempt, input.len()));
    }

    fn revoke(&mut self, _: ConnId) {}

    fn recall(&mut self, conn: ConnId) {
        assert!(self.live(conn).is_prepared);
        let is_its = |job: &mut (ConnId, _, _)| job.0 == conn;
        self.recalled.extend(self.submitted.extract_if(.., is_its));
    }

    fn cancel(&mut self, conn: ConnId, attempt: Attempt, _: bool) {
        assert!(self.live(conn).is_prepared);
        let is_it = |job: &mut (ConnId, Attempt, _)| (job.0, job.1) == (conn, attempt);
        self.recalled.extend(self.submitted.extract_if(.., is_it));
    }

    fn pause(&mut self, conn: ConnId, _: bool) {
        self.live(conn);
    }

    fn record(&mut self, _: &[u8], _: usize) {
        unreachable!("no journal is asked for");
    }

    fn read(&mut self) {
        assert!(
            !std::mem::replace(&mut self.is_reading, true),
            "one at a time"
        );
    }

    fn write(&mut self, bytes: &[u8]) {
        self.unwritten_bytes += bytes.len();
    }

    fn exit(&mut self, exit: Exit) {
        assert_eq!(self.exit.replace(exit), None, "one exit");
    }
}

struct Stage<'a, R> {
    side: Side,
    role: R,
    script: Script<'a>,
    asked: Asked,
    now: Time,
    opened: u32,
    used: Usage,
}

impl<'a, R: Role> Stage<'a, R> {
    fn new(side: Side, role: R, script: Script<'a>) -> Stage<'a, R> {
        Stage {
            side,
            role,
            script,
            asked: Asked::default(),
            now: Time::ZERO,
            opened: 0,
            used: Usage::default(),
        }
    }

    fn run(mut self) {
        self.end_turn();
        while !self.script.0.is_empty() && self.asked.exit.is_none() {
            self.step();
        }
        if self.asked.exit.is_none() {
            self.end_turn();
        }
    }

    fn tell(&mut self, event: Event<'_>) {
        self.role.handle(event, self.now, &mut self.asked);
    }

    fn step(&mut self) {
        match self.script.byte() % 12 {
            0 => self.open(),
            1 | 2 => self.say(),
            3 => self.say_bytes(),
            4 | 5 => self.complete(),
            6 => self.send(),
            7 => self.hang_up(),
            8 => {
                let ms = 1u64 << (self.script.byte() % 17);
                self.now = self.now + Duration::from_millis(ms);
                self.end_turn();
            }
            9 if self.script.byte() > 200 => self.tell(Event::Interrupted),
            10 if self.side == Side::Worker => self.measure(),
            9 => {
                self.write();
                self.read();
            }
            _ => self.end_turn(),
        }
    }

    /// Closed connections are told, deadlines are, and the role does its work.
    fn end_turn(&mut self) {
        let conns = self.asked.conns.iter();
        let closing = conns.filter(|(_, its)| its.is_closing);
        let closing: Vec<ConnId> = closing.map(|(&conn, _)| conn).collect();
        for conn in closing {
            self.close(conn, CloseReason::Asked);
        }
        for (conn, attempt, bytes) in std::mem::take(&mut self.asked.recalled) {
            self.tell(Event::Completed(&Execution::returned(
                conn, attempt, bytes, "",
            )));
        }
        if self.role.next_deadline().is_some_and(|at| at <= self.now) {
            self.role.handle_timeout(self.now, &mut self.asked);
            let next = self.role.next_deadline();
            assert!(next.is_none_or(|at| at > self.now), "it did what was due");
        }
        self.role.flush(self.now, &mut self.asked);
    }

    fn close(&mut self, conn: ConnId, reason: CloseReason) {
        self.asked.conns.remove(&conn);
        self.tell(Event::Closed { conn, reason });
    }

    fn open(&mut self) {
        let byte = self.script.byte();
        let dial = match self.side {
            Side::Head => {
                let Some(&dial) = self.asked.dials.iter().nth(usize::from(byte >> 6)) else {
                    return;
                };
                self.asked.dials.remove(&dial);
                if byte.is_multiple_of(8) {
                    let reason = "refused";
                    return self.tell(Event::DialFailed { dial, reason });
                }
                Some(dial)
            }
            Side::Worker => None,
        };
        if self.asked.conns.len() as u32 >= PEERS {
            return;
        }
        // The lowest free slot, and a generation of its own.
        let is_taken = |slot| self.asked.conns.keys().any(|conn| conn.slot == slot);
        let slot = (0..PEERS)
            .find(|&slot| !is_taken(slot))
            .expect("one is free");
        self.opened += 1;
        let generation = self.opened;
        let conn = ConnId { slot, generation };
        self.asked.conns.insert(conn, Conn::default());
        let peer = "peer";
        self.tell(Event::Opened { conn, dial, peer });
    }

    /// A connection that is not being closed.
    fn pick(&mut self) -> Option<ConnId> {
        let index = usize::from(self.script.byte() % PEERS as u8);
        let mut open = self.asked.conns.iter().filter(|(_, its)| !its.is_closing);
        open.nth(index).map(|(&conn, _)| conn)
    }

    /// The peer says something that makes sense in itself.
    fn say(&mut self) {
        let Some(conn) = self.pick() else {
            return;
        };
        let (kind, byte) = (self.script.byte(), self.script.byte());
        let held = &self.asked.conns[&conn].held;
        let known = held.keys().nth(usize::from(byte >> 5)).copied();
        let number = 1 + u32::from(byte & 7);
        let task_number = u64::from(byte >> 3);
        let stranger = Attempt {
            task: task_number,
            number,
        };
        let text = self.script.take(usize::from(byte & 63));
        let payload_max = PAYLOAD_BYTES_MAX as u32 - u32::from(byte == 255);
        let frame = match (self.side, kind % 8) {
            (_, 0) => Frame::Ping,
            (_, 1) => Frame::Pong,
            (Side::Head, 2) if byte & 64 > 0 => Frame::Usage {
                cpu_ms: u32::from(byte),
                waited_ms: u32::from(self.script.byte()) << (byte & 31),
            },
            (Side::Head, 2) => Frame::Drain,
            (Side::Head, 3) if byte & 64 > 0 => Frame::Slots {
                slots: 1 + u16::from(byte & 3),
            },
            (Side::Head, 3) => Frame::Refuse {
                refusal: [Refusal::Job, Refusal::Busy, Refusal::Protocol][usize::from(byte % 3)],
                reason: "no",
            },
            (Side::Head, 4 | 5) => Frame::Welcome {
                slots: 1 + u16::from(byte & 3),
                credit_tasks: 1 + u32::from(byte & 31),
                credit_bytes: 16 * u32::from(byte),
                payload_max,
                incarnation: u64::from(byte >> 6),
                release: "",
            },
            (Side::Head, kind) => {
                let first = known.filter(|_| kind == 6 || byte & 16 > 0);
                let others = held.keys().filter(|&&attempt| Some(attempt) != first);
                let row = std::iter::once(first.unwrap_or(stranger)).chain(others.copied());
                let outcome = |attempt| Outcome {
                    attempt,
                    status: STATUSES[usize::from(byte % 4)],
                    run_us: u32::from(byte) * 100,
                    output: text.into(),
                };
                let row = row
                    .map(outcome)
                    .take(1 + usize::from(self.script.byte() % 4));
                let row = row.collect();
                self.tell(Event::Heard { conn });
                return self.hear_outcomes(conn, row);
            }
            (Side::Worker, 2) => Frame::Hello {
                payload_max,
                release: "",
            },
            (Side::Worker, 3) => Frame::Cancel {
                attempt: known.unwrap_or(stranger),
                running: byte & 1 > 0,
            },
            (Side::Worker, 4) => Frame::Job {
                timeout_ms: u32::from(byte),
                kernel: if byte == 255 { "x" } else { "k" },
                setup: text,
            },
            (Side::Worker, _) => {
                let task = |task| Task {
                    attempt: Attempt { task, number },
                    input: text.into(),
                };
                let count = 1 + u64::from(self.script.byte() % 4);
                self.tell(Event::Heard { conn });
                return self
                    .hear_tasks(conn, (task_number..task_number + count).map(task).collect());
            }
        };
        self.tell(Event::Heard { conn });
        self.hear(conn, frame);
    }

    /// The peer says anything at all.
    fn say_bytes(&mut self) {
        let Some(conn) = self.pick() else {
            return;
        };
        let count = usize::from(self.script.byte());
        let bytes = self.script.take(count);
        let mut decoder = Decoder::new(self.side, PAYLOAD_BYTES_MAX);
        let start = opening(self.side.peer());
        assert_eq!(decoder.feed(&start).next(), None);
        self.tell(Event::Heard { conn });
        let mut frames = decoder.feed(bytes);
        loop {
            let (tasks, outcomes) = (frames.tasks().collect(), frames.outcomes().collect());
            self.hear_tasks(conn, tasks);
            self.hear_outcomes(conn, outcomes);
            match frames.next() {
                Some(Ok(frame)) => self.hear(conn, frame),
                Some(Err(error)) => {
                    return self.close_if_open(conn, CloseReason::Protocol(error));
                }
                None => return,
            }
        }
    }

    fn close_if_open(&mut self, conn: ConnId, reason: CloseReason) {
        if self.open_conn(conn).is_some() {
            self.close(conn, reason);
        }
    }

    /// A frame arrives, unless the role has closed the connection.
    fn hear(&mut self, conn: ConnId, frame: Frame<'_>) {
        if self.note(conn, &frame) {
            self.tell_frame(conn, frame);
        }
    }

    /// Tasks arrive in a row; what the role leaves of it comes as frames.
    fn hear_tasks(&mut self, conn: ConnId, mut row: Vec<Task<'_>>) {
        row.retain(|&task| self.note(conn, &Frame::Task(task)));
        let mut row = row.into_iter();
        if self.open_conn(conn).is_some() {
            let (role, out) = (&mut self.role, &mut self.asked);
            role.handle_tasks(conn, row.by_ref(), self.now, out);
        }
        row.for_each(|task| self.tell_frame(conn, Frame::Task(task)));
    }

    /// The same for outcomes.
    fn hear_outcomes(&mut self, conn: ConnId, mut row: Vec<Outcome<'_>>) {
        row.retain(|&outcome| self.note(conn, &Frame::Outcome(outcome)));
        let mut row = row.into_iter();
        if self.open_conn(conn).is_some() {
            let (role, out) = (&mut self.role, &mut self.asked);
            role.handle_outcomes(conn, row.by_ref(), self.now, out);
        }
        row.for_each(|outcome| self.tell_frame(conn, Frame::Outcome(outcome)));
    }

    /// Keeps the driver's own account of a frame that arrives; false if it does not.
    fn note(&mut self, conn: ConnId, frame: &Frame<'_>) -> bool {
        let Some(live) = self.open_conn(conn) else {
            return false;
        };
        match *frame {
            Frame::Welcome {
                credit_tasks,
                credit_bytes,
                ..
            } => _ = live.credit.get_or_insert((credit_tasks, credit_bytes)),
            Frame::Outcome(Outcome { attempt, .. }) => _ = live.held.remove(&attempt),
            // No head sends an attempt twice: the worker need not tell them apart.
            Frame::Task(Task { attempt, input }) => {
                return live.held.insert(attempt, input.len()).is_none();
            }
            _ => {}
        }
        true
    }

    fn tell_frame(&mut self, conn: ConnId, frame: Frame<'_>) {
        if self.open_conn(conn).is_some() {
            let frame = &frame;
            self.tell(Event::Frame { conn, frame });
        }
    }

    /// What the driver knows of a connection, unless the role has closed it.
    fn open_conn(&mut self, conn: ConnId) -> Option<&mut Conn> {
        let live = self.asked.conns.get_mut(&conn);
        live.filter(|its| !its.is_closing)
    }

    fn complete(&mut self) {
        let byte = self.script.byte();
        let count = self.asked.submitted.len();
        if count == 0 {
            return;
        }
        let (conn, attempt, bytes) = self.asked.submitted.remove(usize::from(byte) % count);
        let output = vec![0; usize::from(byte) * 5];
        self.tell(Event::Completed(&Execution {
            conn,
            attempt,
            status: Status::Done,
            payload: Payload::from(&output[..]),
            input_bytes: bytes as u32,
            run_us: u32::from(byte),
        }));
    }

    fn measure(&mut self) {
        self.used.cpu += Duration::from_millis(self.script.byte().into());
        self.used.waited += Duration::from_millis(self.script.byte().into());
        self.tell(Event::Measured(self.used));
    }

    fn send(&mut self) {
        if let Some(conn) = self.pick() {
            let live = self.asked.conns.get_mut(&conn).expect("it was picked");
            let part = 1 + usize::from(self.script.byte() % 4);
            let bytes = live.unsent_bytes / part;
            live.unsent_bytes -= bytes;
            self.tell(Event::Sent { conn, bytes });
        }
    }

    fn hang_up(&mut self) {
        if let Some(conn) = self.pick() {
            self.close(conn, CloseReason::Peer);
        }
    }

    fn read(&mut self) {
        if std::mem::take(&mut self.asked.is_reading) {
            let count = usize::from(self.script.byte() % 8);
            let bytes = self.script.take(count);
            self.tell(Event::Input { bytes });
        }
    }

    fn write(&mut self) {
        let bytes = std::mem::take(&mut self.asked.unwritten_bytes);
        match self.side {
            Side::Head if bytes > 0 => self.tell(Event::Written { bytes }),
            _ => {}
        }
    }
}
