//! What a task costs where no socket is involved: frames, scheduler, hand-over to the pool, and one
//! turn of each role.
//!
//! What it is: micro-benchmarks for finding where time goes. What it is not: how fast Teamster is;
//! `cluster` measures that.
//!
//! Invariant: every small benchmark does its work for a whole window of tasks, as a turn under load
//! does, so that the time per element is comparable between them.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mio::{Events, Poll, Token, Waker};

use teamster::frame::{Decoder, Frame, Outbox, Outcome, Side, Status, Task, opening};
use teamster::head::{Head, HeadConfig};
use teamster::journal;
use teamster::kernel::{Delivery, Kernel, Next, Workload};
use teamster::kernels::{builtin, square};
use teamster::lanes::Batch;
use teamster::limits::{CREDIT_BYTES, CREDIT_TASKS, PAYLOAD_BYTES_DEFAULT, READ_BUFFER_BYTES};
use teamster::payload::Bytes;
use teamster::pool::{Command, Pool, Reports};
use teamster::role::{Attempt, ConnId, Event, Exit, Role, Sink};
use teamster::scheduler::{Pick, Scheduler};
use teamster::time::Time;
use teamster::worker::{Worker, WorkerConfig};

const WINDOW: u64 = CREDIT_TASKS as u64;
const NUMBER: [u8; 8] = 7_u64.to_be_bytes();
const NO_WORK: [u8; 4] = 0_u32.to_be_bytes();
const CONN: ConnId = ConnId {
    slot: 0,
    generation: 0,
};
const NOW: Time = Time::ZERO;

fn first_attempt(task: u64) -> Attempt {
    Attempt { task, number: 1 }
}

fn task(attempt: Attempt) -> Frame<'static> {
    let input = &NUMBER;
    Frame::Task(Task {
        attempt,
        input: input.into(),
    })
}

fn outcome(attempt: Attempt, output: &[u8]) -> Frame<'_> {
    Frame::Outcome(Outcome {
        attempt,
        status: Status::Done,
        run_us: 1,
        output: output.into(),
    })
}

/// The greeting of a worker that takes a whole window whatever its rate.
const WELCOME: Frame<'static> = Frame::Welcome {
    slots: CREDIT_TASKS as u16,
    credit_tasks: CREDIT_TASKS,
    credit_bytes: CREDIT_BYTES,
    payload_max: PAYLOAD_BYTES_DEFAULT as u32,
    incarnation: 1,
    release: "",
};
const HELLO: Frame<'static> = Frame::Hello {
    payload_max: PAYLOAD_BYTES_DEFAULT as u32,
    release: "",
};

/// A decoder of what `peer` sends after its `greeting`.
fn greeted(peer: Side, greeting: &Frame<'_>) -> Decoder {
    let mut decoder = Decoder::new(peer.peer(), PAYLOAD_BYTES_DEFAULT);
    let mut bytes = opening(peer).to_vec();
    greeting.encode(&mut bytes);
    decode(&mut decoder, &bytes, |_| {});
    decoder
}

/// Feeds `bytes` in pieces as large as the reactor's.
fn decode(decoder: &mut Decoder, bytes: &[u8], mut each: impl FnMut(&Frame<'_>)) {
    for piece in bytes.chunks(READ_BUFFER_BYTES) {
        let mut frames = decoder.feed(piece);
        while let Some(frame) = frames.next() {
            each(&frame.expect("a frame"));
        }
    }
}

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frames");
    let large = vec![7; PAYLOAD_BYTES_DEFAULT];
    for (size, output, count) in [("8 B", &NUMBER[..], WINDOW), ("1 MiB", &large, 1)] {
        let mut bytes = Vec::new();
        for number in 0..count {
            outcome(first_attempt(number), output).encode(&mut bytes);
        }
        group.throughput(Throughput::Elements(count));
        group.bench_function(format!("encode {size}"), |bencher| {
            let mut outbox = Outbox::new(Side::Worker);
            bencher.iter(|| {
                for number in 0..count {
                    outbox.push(&outcome(first_attempt(number), black_box(output)));
                }
                while !outbox.is_empty() {
                    outbox.consume(black_box(outbox.pending()).len());
                }
            });
        });
        group.bench_function(format!("decode {size}"), |bencher| {
            let mut decoder = greeted(Side::Worker, &WELCOME);
            bencher.iter(|| {
                decode(&mut decoder, &bytes, |frame| {
                    black_box(frame);
                });
            });
        });
    }
    group.finish();
}

fn schedulers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scheduler");
    group.throughput(Throughput::Elements(WINDOW));
    for is_journalled in [false, true] {
        let mut scheduler = Scheduler::new(1, true, 3);
        if is_journalled {
            scheduler = scheduler.journalled();
        }
        let name = if is_journalled { "journalled" } else { "plain" };
        let (mut attempts, mut records) = (Vec::new(), Vec::new());
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for _ in 0..WINDOW {
                    scheduler.add(&NUMBER);
                    let Pick::Task { task, .. } = scheduler.pick(0, 1, true) else {
                        unreachable!("one is ready");
                    };
                    attempts.push(scheduler.assign(task, 0, NOW).0);
                }
                for attempt in attempts.drain(..) {
                    scheduler.answer(0, attempt, Status::Done, (&NUMBER).into(), 1, NOW);
                }
                while let Some(outcome) = scheduler.next_to_record(|_| "127.0.0.1:5000") {
                    journal::encode(&outcome, &mut records);
                }
                records.clear();
                if is_journalled {
                    scheduler.recorded(WINDOW as usize);
                }
                while let Some(answer) = scheduler.due() {
                    black_box(answer);
                    scheduler.delivered();
                }
            });
        });
    }
    group.finish();
}

fn hand_over(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pool");
    group.throughput(Throughput::Elements(WINDOW));
    let mut poll = Poll::new().expect("an epoll instance");
    let mut events = Events::with_capacity(4);
    let waker = Waker::new(poll.registry(), Token(0)).expect("an eventfd");
    let mut pool = Pool::new(1, Arc::new(waker)).expect("a thread");
    let kernel = builtin().open(square::NAME, &NO_WORK).expect("it is there");
    let mut commands = vec![Command::Prepare(CONN, kernel, None)];
    let (mut reports, mut spare) = (Reports::default(), Batch::new());
    group.bench_function("there and back", |bencher| {
        bencher.iter(|| {
            let mut batch = std::mem::take(&mut spare);
            for task in 0..WINDOW {
                let (attempt, input) = (first_attempt(task), Bytes::from(&NUMBER));
                batch.push().set(CONN, Task { attempt, input });
            }
            commands.push(Command::Submit(CONN, batch));
            pool.apply(&mut commands, &mut spare, Instant::now());
            let mut left = WINDOW as usize;
            while left > 0 {
                poll.poll(&mut events, None).expect("it polls");
                pool.take(&mut reports, Instant::now());
                left -= reports.finished.len();
                reports.finished.clear();
            }
        });
    });
    group.finish();
}

/// Does with what a role answers what the reactor does, but for the system calls.
struct Wire {
    outbox: Outbox,
    /// Of the tasks sent.
    sent: Vec<Attempt>,
    submitted: Batch,
}

impl Wire {
    fn new(side: Side) -> Wire {
        let mut outbox = Outbox::new(side);
        outbox.consume(opening(side).len());
        Wire {
            outbox,
            sent: Vec::new(),
            submitted: Batch::new(),
        }
    }

    /// Takes out what was sent, as a socket does.
    fn write(&mut self, role: &mut impl Role) {
        while !self.outbox.is_empty() {
            let bytes = self.outbox.pending().len();
            self.outbox.consume(bytes);
            role.handle(Event::Sent { conn: CONN, bytes }, NOW, self);
        }
    }
}

impl Sink for Wire {
    fn send(&mut self, _: ConnId, frame: Frame<'_>) {
        if let Frame::Task(Task { attempt, .. }) = frame {
            self.sent.push(attempt);
        }
        self.outbox.push(&frame);
    }

    fn submit(&mut self, _: ConnId, attempt: Attempt, input: Bytes<'_>) {
        let task = Task { attempt, input };
        self.submitted.push().set(CONN, task);
    }

    fn dial(&mut self, _: u32) {}
    fn close(&mut self, _: ConnId) {}
    fn prepare(&mut self, _: ConnId, _: Arc<dyn Kernel>, _: Option<Duration>) {}
    fn revoke(&mut self, _: ConnId) {}
    fn recall(&mut self, _: ConnId) {}
    fn cancel(&mut self, _: ConnId, _: Attempt, _: bool) {}
    fn pause(&mut self, _: ConnId, _: bool) {}
    fn record(&mut self, _: &[u8], _: usize) {}
    fn read(&mut self) {}
    fn write(&mut self, _: &[u8]) {}
    fn exit(&mut self, exit: Exit) {
        panic!("it ends with {exit:?}");
    }
}

/// A job without an end.
struct Endless;

impl Workload for Endless {
    fn kernel(&self) -> &str {
        square::NAME
    }

    fn describe(&self) -> String {
        String::new()
    }

    fn setup(&self) -> Vec<u8> {
        NO_WORK.to_vec()
    }

    fn next(&mut self, input: &mut Vec<u8>) -> Next {
        input.extend_from_slice(&NUMBER);
        Next::Task
    }

    fn deliver(&mut self, delivery: &Delivery<'_>, _: &mut Vec<u8>) {
        black_box(delivery);
    }

    fn finish(&mut self, _: &mut Vec<u8>) -> bool {
        true
    }
}

/// Outcomes of a whole window decoded, taken, delivered, and as many new tasks encoded.
fn head_turn(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("turn");
    group.throughput(Throughput::Elements(WINDOW));
    let mut head = Head::new(HeadConfig::new(vec!["w".into()]), Endless);
    let mut wire = Wire::new(Side::Head);
    head.handle_timeout(NOW, &mut wire);
    let (dial, peer) = (Some(0), "w");
    let opened = Event::Opened {
        conn: CONN,
        dial,
        peer,
    };
    head.handle(opened, NOW, &mut wire);
    let welcome = Event::Frame {
        conn: CONN,
        frame: &WELCOME,
    };
    head.handle(welcome, NOW, &mut wire);
    head.flush(NOW, &mut wire);
    wire.write(&mut head);
    let mut decoder = greeted(Side::Worker, &WELCOME);
    let mut bytes = Vec::new();
    group.bench_function("head", |bencher| {
        bencher.iter_custom(|turns| {
            let mut elapsed = Duration::ZERO;
            for _ in 0..turns {
                bytes.clear();
                assert_eq!(wire.sent.len() as u64, WINDOW);
                for attempt in wire.sent.drain(..) {
                    outcome(attempt, &NUMBER).encode(&mut bytes);
                }
                let start = Instant::now();
                head.handle(Event::Heard { conn: CONN }, NOW, &mut wire);
                for piece in bytes.chunks(READ_BUFFER_BYTES) {
                    let mut frames = decoder.feed(piece);
                    head.handle_outcomes(CONN, frames.outcomes(), NOW, &mut wire);
                    while let Some(frame) = frames.next() {
                        let frame = &frame.expect("a frame");
                        head.handle(Event::Frame { conn: CONN, frame }, NOW, &mut wire);
                    }
                }
                head.flush(NOW, &mut wire);
                wire.write(&mut head);
                elapsed += start.elapsed();
            }
            elapsed
        });
    });
    group.finish();
}

/// Tasks of a whole window decoded and submitted, and as many completions encoded.
fn worker_turn(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("turn");
    group.throughput(Throughput::Elements(WINDOW));
    let mut worker = Worker::new(WorkerConfig::new(1, builtin()));
    let mut wire = Wire::new(Side::Worker);
    let (dial, peer) = (None, "h");
    let opened = Event::Opened {
        conn: CONN,
        dial,
        peer,
    };
    worker.handle(opened, NOW, &mut wire);
    let job = Frame::Job {
        timeout_ms: 0,
        kernel: square::NAME,
        setup: &NO_WORK,
    };
    for frame in [&HELLO, &job] {
        worker.handle(Event::Frame { conn: CONN, frame }, NOW, &mut wire);
    }
    wire.write(&mut worker);
    let mut decoder = greeted(Side::Head, &HELLO);
    let mut bytes = Vec::new();
    for number in 0..WINDOW {
        task(first_attempt(number)).encode(&mut bytes);
    }
    group.bench_function("worker", |bencher| {
        let mut completed = Batch::new();
        bencher.iter_custom(|turns| {
            let mut elapsed = Duration::ZERO;
            for _ in 0..turns {
                let start = Instant::now();
                worker.handle(Event::Heard { conn: CONN }, NOW, &mut wire);
                for piece in bytes.chunks(READ_BUFFER_BYTES) {
                    let mut frames = decoder.feed(piece);
                    worker.handle_tasks(CONN, frames.tasks(), NOW, &mut wire);
                    while let Some(frame) = frames.next() {
                        let frame = &frame.expect("a frame");
                        worker.handle(Event::Frame { conn: CONN, frame }, NOW, &mut wire);
                    }
                }
                worker.flush(NOW, &mut wire);
                elapsed += start.elapsed();
                // The pool's part, but for the output: the input is as long.
                completed.append(&mut wire.submitted);
                let start = Instant::now();
                worker.handle_completed(completed.as_slice(), NOW, &mut wire);
                completed.clear();
                worker.flush(NOW, &mut wire);
                wire.write(&mut worker);
                elapsed += start.elapsed();
            }
            elapsed
        });
    });
    group.finish();
}

criterion_group!(
    benches,
    frames,
    schedulers,
    hand_over,
    head_turn,
    worker_turn
);
criterion_main!(benches);
