//! The worker, one step at a time.
//!
//! What it is: its greeting, its refusals, its credit and its back-pressure. What it is not: the pool,
//! or how it ends; that is in `ending.rs`.
//!
//! Invariant: see `main.rs`.

mod ending;

use std::sync::Arc;

use teamster::frame::{Frame, Outcome, Status, Task};
use teamster::kernel::{Kernel, KernelError, Kernels, Stop};
use teamster::limits::{
    CLOSE_AFTER, CONNECTIONS_MAX, GREETING_TIMEOUT, OUTBOX_BYTES_HIGH, OUTBOX_BYTES_LOW,
    PING_AFTER, PING_HEAD_AFTER, STRANGER_LINES_INTERVAL, STRANGER_LINES_MAX,
};
use teamster::payload::{Bytes, Payload};
use teamster::role::{Attempt, CloseReason, Event, Execution, Role, Usage};
use teamster::time::Duration;
use teamster::worker::{Worker, WorkerConfig};

use crate::{Bench, attempt, conn, seconds};

struct Nothing;

impl Kernel for Nothing {
    fn run(&self, _: &[u8], _: &Stop, _: &mut Vec<u8>) -> Result<(), KernelError> {
        Ok(())
    }
}

const HELLO: Frame<'_> = Frame::Hello {
    payload_max: 2 << 20,
    release: "1",
};
const JOB: Frame<'_> = Frame::Job {
    timeout_ms: 0,
    kernel: "k",
    setup: &[],
};

fn worker() -> Bench<Worker> {
    let kernels = Kernels::new().with("k", |_| Ok(Arc::new(Nothing)));
    let mut config = WorkerConfig::new(2, kernels);
    config.credit_tasks = 3;
    config.credit_bytes = 100;
    Bench::new(Worker::new(config))
}

fn opened(bench: &mut Bench<Worker>, slot: u32) {
    let (conn, dial, peer) = (conn(slot), None, "h");
    bench.tell(Event::Opened { conn, dial, peer });
}

/// A worker that a head has greeted and told its job.
fn working() -> Bench<Worker> {
    let mut bench = worker();
    opened(&mut bench, 0);
    bench.hear(conn(0), HELLO);
    bench.hear(conn(0), JOB);
    bench.turn();
    bench.expect(&["0: Welcome 2 3 100 1048576", "0: prepare"]);
    bench
}

fn task(number: u64, input: &[u8]) -> Frame<'_> {
    let attempt = attempt(number, 1);
    Frame::Task(Task {
        attempt,
        input: input.into(),
    })
}

fn completed(attempt: Attempt, output: &[u8]) -> Execution {
    Execution {
        conn: conn(0),
        attempt,
        status: Status::Done,
        payload: Payload::from(output),
        input_bytes: 0,
        run_us: 0,
    }
}

/// Sends an outcome of so many bytes; returns how many it puts into the outbox.
fn answer(bench: &mut Bench<Worker>, number: u64, bytes: usize) -> usize {
    bench.hear(conn(0), task(number, &[]));
    let output = vec![0; bytes];
    bench.tell(Event::Completed(&completed(attempt(number, 1), &output)));
    let sent = Frame::Outcome(Outcome {
        attempt: attempt(number, 1),
        status: Status::Done,
        run_us: 0,
        output: Bytes::from(&output),
    });
    sent.encoded_bytes()
}

#[test]
fn a_task_is_computed_and_answered_once() {
    let mut bench = working();
    bench.hear(conn(0), task(7, b"abc"));
    bench.turn();
    bench.expect(&["0: submit 7/1 3"]);
    let mut done = completed(attempt(7, 1), b"xy");
    done.input_bytes = 3;
    bench.tell(Event::Completed(&done));
    bench.expect(&["0: Outcome 7/1 Done 2"]);
    assert_eq!(bench.role.held().next(), Some((conn(0), 0, 0)));
}

#[test]
fn who_waits_for_an_outcome_is_told_before_it_what_was_used_for_it() {
    let mut bench = worker();
    let used = |bench: &mut Bench<Worker>, cpu_us, waited_us| {
        let cpu = Duration::from_micros(cpu_us);
        let waited = Duration::from_micros(waited_us);
        bench.tell(Event::Measured(Usage { cpu, waited }));
    };
    // By another head, before.
    used(&mut bench, 700_300, 100_000);
    for slot in 0..2 {
        opened(&mut bench, slot);
        bench.hear(conn(slot), HELLO);
        bench.hear(conn(slot), JOB);
    }
    bench.turn();
    bench.take();
    used(&mut bench, 701_900, 100_000);
    bench.expect(&[]);
    assert_eq!(bench.role.awaited(), 0);
    bench.hear(conn(0), task(7, b""));
    bench.take();
    assert_eq!(bench.role.awaited(), 1);
    used(&mut bench, 702_600, 100_000);
    bench.tell(Event::Completed(&completed(attempt(7, 1), b"")));
    bench.expect(&["0: Usage 2 0", "0: Outcome 7/1 Done 0"]);
    bench.hear(conn(0), task(8, b""));
    bench.take();
    used(&mut bench, 702_900, 100_900);
    bench.expect(&[]);
    used(&mut bench, 703_100, 101_000);
    bench.expect(&["0: Usage 1 1"]);
}

#[test]
fn frames_at_the_wrong_moment_are_refused() {
    let mut bench = worker();
    opened(&mut bench, 0);
    bench.hear(conn(0), task(0, b""));
    bench.expect(&[
        "0: Refuse Protocol: Task frame at the wrong moment",
        "0: close",
    ]);
    bench.hear(conn(0), HELLO);
    opened(&mut bench, 1);
    bench.hear(conn(1), HELLO);
    bench.hear(conn(1), task(0, b""));
    bench.expect(&[
        "1: Welcome 2 3 100 1048576",
        "1: Refuse Protocol: Task frame at the wrong moment",
        "1: close",
    ]);
}

#[test]
fn an_unknown_kernel_is_refused() {
    let mut bench = worker();
    opened(&mut bench, 0);
    bench.hear(conn(0), HELLO);
    let (kernel, setup) = ("x", &[][..]);
    bench.hear(
        conn(0),
        Frame::Job {
            timeout_ms: 0,
            kernel,
            setup,
        },
    );
    bench.expect(&[
        "0: Welcome 2 3 100 1048576",
        "0: Refuse Job: no kernel \"x\" here, only k",
        "0: close",
    ]);
}

#[test]
fn a_task_beyond_the_credit_is_refused() {
    const REFUSED: [&str; 3] = [
        "0: revoke",
        "0: Refuse Protocol: more tasks than it has credit for",
        "0: close",
    ];
    let mut bench = working();
    for number in 0..3 {
        bench.hear(conn(0), task(number, b""));
    }
    bench.expect(&["0: submit 0/1 0", "0: submit 1/1 0", "0: submit 2/1 0"]);
    bench.hear(conn(0), task(3, b""));
    bench.expect(&REFUSED);

    // In a row, of which the rest is left.
    let mut bench = working();
    let mut row = (0..5).map(|number| Task {
        attempt: attempt(number, 1),
        input: Bytes::from(&b""[..]),
    });
    let Bench { role, said, now } = &mut bench;
    role.handle_tasks(conn(0), &mut row, *now, said);
    let submitted = ["0: submit 0/1 0", "0: submit 1/1 0", "0: submit 2/1 0"];
    bench.expect(&[submitted, REFUSED].concat());
    assert_eq!(row.count(), 1);

    let mut bench = working();
    bench.hear(conn(0), task(0, &[0; 101]));
    bench.expect(&["0: submit 0/1 101"]);
    bench.hear(conn(0), task(1, b"x"));
    bench.expect(&REFUSED);
}

#[test]
fn credit_is_full_at_exactly_its_bytes() {
    let mut bench = working();
    bench.hear(conn(0), task(0, &[0; 60]));
    bench.hear(conn(0), task(1, &[0; 40]));
    bench.expect(&["0: submit 0/1 60", "0: submit 1/1 40"]);
}

#[test]
fn an_input_longer_than_agreed_is_refused() {
    let mut bench = worker();
    opened(&mut bench, 0);
    let (payload_max, release) = (5, "1");
    bench.hear(
        conn(0),
        Frame::Hello {
            payload_max,
            release,
        },
    );
    bench.hear(conn(0), JOB);
    bench.hear(conn(0), task(0, b"12345"));
    bench.take();
    bench.hear(conn(0), task(1, b"123456"));
    bench.expect(&[
        "0: revoke",
        "0: Refuse Protocol: an input of 6 bytes where 5 are agreed",
        "0: close",
    ]);
}

#[test]
fn an_output_longer_than_allowed_fails_the_task() {
    let mut bench = working();
    answer(&mut bench, 0, (1 << 20) + 1);
    let said = bench.take();
    assert!(said[1].starts_with("0: Outcome 0/1 Failed "), "{said:?}");
}

#[test]
fn several_pings_in_a_turn_get_one_pong_and_none_into_a_full_outbox() {
    let mut bench = working();
    bench.hear(conn(0), Frame::Ping);
    bench.hear(conn(0), Frame::Ping);
    bench.turn();
    bench.expect(&["0: Pong"]);
    answer(&mut bench, 0, OUTBOX_BYTES_HIGH);
    bench.take();
    bench.hear(conn(0), Frame::Ping);
    bench.turn();
}

#[test]
fn the_pool_waits_between_the_marks_of_the_outbox() {
    let mut bench = working();
    let welcome = Frame::Welcome {
        slots: 2,
        credit_tasks: 3,
        credit_bytes: 100,
        payload_max: 1 << 20,
        incarnation: 0,
        release: env!("CARGO_PKG_VERSION"),
    };
    let fixed = answer(&mut bench, 0, 0);
    let bytes = fixed + welcome.encoded_bytes();
    let sent = |bytes| Event::Sent {
        conn: conn(0),
        bytes,
    };
    bench.tell(sent(bytes));
    bench.take();
    answer(&mut bench, 1, OUTBOX_BYTES_HIGH - fixed);
    assert_eq!(bench.take().len(), 2, "not above the mark yet");
    answer(&mut bench, 2, 0);
    assert_eq!(bench.take()[2], "0: pause true");
    answer(&mut bench, 3, 0);
    assert_eq!(bench.take().len(), 2, "said once");
    let above = OUTBOX_BYTES_HIGH + 2 * fixed - OUTBOX_BYTES_LOW;
    bench.tell(sent(above));
    bench.expect(&[]);
    bench.tell(sent(1));
    bench.expect(&["0: pause false"]);
}

#[test]
fn the_outcome_of_a_session_that_is_over_is_dropped() {
    let mut bench = working();
    bench.hear(conn(0), task(0, b""));
    let reason = CloseReason::Peer;
    bench.tell(Event::Closed {
        conn: conn(0),
        reason,
    });
    bench.expect(&["0: submit 0/1 0", "0: revoke"]);
    bench.tell(Event::Completed(&completed(attempt(0, 1), b"")));
    bench.turn();
}

#[test]
fn who_does_not_greet_is_closed_in_time() {
    let mut bench = worker();
    opened(&mut bench, 0);
    assert_eq!(bench.sleep(), GREETING_TIMEOUT);
    bench.expect(&["0: close"]);
    assert_eq!(bench.role.next_deadline(), None);
}

#[test]
fn of_many_strangers_the_rest_is_counted_and_said_later() {
    let mut bench = worker();
    for slot in 0..=STRANGER_LINES_MAX {
        assert_eq!(bench.role.next_deadline(), None);
        opened(&mut bench, slot);
        let (conn, reason) = (conn(slot), CloseReason::Peer);
        bench.tell(Event::Closed { conn, reason });
    }
    assert_eq!(bench.sleep(), STRANGER_LINES_INTERVAL);
    assert_eq!(bench.role.next_deadline(), None);
}

#[test]
fn one_connection_too_many_is_told_that_it_is_busy() {
    let mut bench = worker();
    for slot in 0..CONNECTIONS_MAX as u32 {
        opened(&mut bench, slot);
        bench.hear(conn(slot), HELLO);
        bench.expect(&[&format!("{slot}: Welcome 2 3 100 1048576")]);
    }
    opened(&mut bench, CONNECTIONS_MAX as u32);
    bench.expect(&[]);
    bench.hear(conn(CONNECTIONS_MAX as u32), HELLO);
    bench.expect(&[
        "64: Refuse Busy: it serves 64 connections already",
        "64: close",
    ]);
}

#[test]
fn who_has_not_greeted_takes_no_heads_place() {
    let mut bench = worker();
    let head = 2 * CONNECTIONS_MAX as u32;
    for slot in 0..=head {
        opened(&mut bench, slot);
    }
    bench.hear(conn(head), HELLO);
    bench.expect(&[&format!("{head}: Welcome 2 3 100 1048576")]);
}

#[test]
fn a_silent_head_is_asked_and_closed_in_the_end() {
    let mut bench = working();
    let lines = [
        &["0: Ping"][..],
        &["0: pause true"],
        &["0: revoke", "0: close"],
    ];
    for line in lines {
        bench.sleep();
        bench.expect(line);
    }
    assert_eq!(bench.now.since(teamster::time::Time::ZERO), CLOSE_AFTER);
}

#[test]
fn a_head_heard_again_is_asked_again_before_it_is_taken_for_silent() {
    let mut bench = working();
    bench.sleep();
    bench.sleep();
    bench.expect(&["0: Ping", "0: pause true"]);
    bench.wait(seconds(40));
    bench.tell(Event::Heard { conn: conn(0) });
    bench.wait(PING_HEAD_AFTER);
    bench.expect(&["0: pause false", "0: Ping"]);
}

#[test]
fn a_worker_sleeps_from_one_ping_of_its_head_to_the_next() {
    let mut bench = working();
    for _ in 0..5 {
        bench.wait(PING_AFTER);
        bench.tell(Event::Heard { conn: conn(0) });
        bench.hear(conn(0), Frame::Ping);
        bench.turn();
        bench.expect(&["0: Pong"]);
        let woken_at = bench.role.next_deadline().unwrap();
        assert!(woken_at > bench.now + PING_AFTER);
    }
}

#[test]
fn the_pool_is_told_how_long_an_attempt_may_run() {
    let mut bench = worker();
    opened(&mut bench, 0);
    bench.hear(conn(0), HELLO);
    let (kernel, setup) = ("k", &[][..]);
    let job = Frame::Job {
        timeout_ms: 1500,
        kernel,
        setup,
    };
    bench.hear(conn(0), job);
    bench.expect(&["0: Welcome 2 3 100 1048576", "0: prepare within 1.5s"]);
}

#[test]
fn a_head_that_reads_no_answers_cancels_nothing() {
    let mut bench = working();
    answer(&mut bench, 0, OUTBOX_BYTES_HIGH);
    bench.hear(conn(0), task(1, b""));
    let cancel = Frame::Cancel {
        attempt: attempt(1, 1),
        running: false,
    };
    bench.hear(conn(0), cancel);
    let said = bench.take();
    assert_eq!(said.last().unwrap(), "0: submit 1/1 0", "{said:?}");
}

#[test]
fn a_cancelled_attempt_is_answered_once_even_if_it_is_cancelled_too_late() {
    let cancel = |running| Frame::Cancel {
        attempt: attempt(0, 1),
        running,
    };
    let mut bench = working();
    bench.hear(conn(0), task(0, b""));
    bench.hear(conn(0), cancel(false));
    bench.hear(conn(0), cancel(true));
    bench.tell(Event::Completed(&completed(attempt(0, 1), b"")));
    // These two have crossed.
    bench.hear(conn(0), cancel(true));
    bench.turn();
    bench.expect(&[
        "0: submit 0/1 0",
        "0: cancel 0/1 false",
        "0: cancel 0/1 true",
        "0: Outcome 0/1 Done 0",
        "0: cancel 0/1 true",
    ]);
    opened(&mut bench, 1);
    bench.hear(conn(1), HELLO);
    bench.hear(conn(1), cancel(true));
    bench.expect(&[
        "1: Welcome 2 3 100 1048576",
        "1: Refuse Protocol: Cancel frame at the wrong moment",
        "1: close",
    ]);
}

fn slots(count: u16) -> Event<'static> {
    let hung = Some(attempt(0, 1));
    Event::Slots { count, hung }
}

#[test]
fn it_tells_its_heads_how_many_slots_are_left_and_the_next_one_at_once() {
    let mut bench = working();
    opened(&mut bench, 1);
    bench.tell(slots(1));
    bench.expect(&["0: Slots 1"]);
    bench.hear(conn(1), HELLO);
    bench.expect(&["1: Welcome 1 3 100 1048576"]);
    bench.tell(Event::Slots {
        count: 2,
        hung: None,
    });
    bench.expect(&["0: Slots 2", "1: Slots 2"]);
}
