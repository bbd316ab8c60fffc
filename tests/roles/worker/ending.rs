//! How a worker ends.
//!
//! What it is: a worker that is told to end, whose time is over, or that has lost its last slot. What
//! it is not: what it does until then.
//!
//! Invariant: see `main.rs`.

use teamster::frame::{Frame, Outcome, Status};
use teamster::payload::Bytes;
use teamster::role::{CloseReason, Event, Execution};
use teamster::worker::Worker;

use super::{completed, opened, slots, task, worker, working};
use crate::{Bench, attempt, conn, seconds};

#[test]
fn told_to_end_it_says_so_hands_back_what_has_not_started_and_ends_with_the_rest() {
    let mut bench = working();
    bench.hear(conn(0), task(0, b""));
    bench.hear(conn(0), task(1, b""));
    bench.take();
    bench.tell(Event::Interrupted);
    bench.turn();
    bench.expect(&["0: Drain", "0: recall"]);
    bench.tell(Event::Interrupted);
    bench.expect(&[]);
    bench.tell(Event::Completed(&Execution::returned(
        conn(0),
        attempt(1, 1),
        0,
        "x",
    )));
    // This one was on its way.
    bench.hear(conn(0), task(2, b""));
    bench.turn();
    bench.expect(&["0: Outcome 1/1 Returned 1", "0: Outcome 2/1 Returned 26"]);
    opened(&mut bench, 1);
    bench.expect(&["1: Refuse Busy: it is about to end", "1: close"]);
    bench.tell(Event::Completed(&completed(attempt(0, 1), b"")));
    bench.turn();
    bench.expect(&["0: Outcome 0/1 Done 0"]);
    let bytes = unsent(&mut bench);
    bench.tell(Event::Sent {
        conn: conn(0),
        bytes,
    });
    bench.turn();
    bench.expect(&["0: revoke", "0: close", "exit Done"]);
}

/// Bytes that the worker of the test above has sent on its session.
fn unsent(_: &mut Bench<Worker>) -> usize {
    let outcome = |status, output: &'static [u8]| {
        Frame::Outcome(Outcome {
            attempt: attempt(0, 1),
            status,
            run_us: 0,
            output: Bytes::from(output),
        })
    };
    let welcome = Frame::Welcome {
        slots: 2,
        credit_tasks: 3,
        credit_bytes: 100,
        payload_max: 1 << 20,
        incarnation: 0,
        release: env!("CARGO_PKG_VERSION"),
    };
    let frames = [
        welcome,
        Frame::Drain,
        outcome(Status::Returned, b"x"),
        outcome(Status::Returned, &[b'x'; 26]),
        outcome(Status::Done, b""),
    ];
    frames.iter().map(Frame::encoded_bytes).sum()
}

#[test]
fn when_its_time_is_over_it_ends_once_whatever_runs() {
    let mut bench = working();
    bench.hear(conn(0), task(0, b""));
    bench.take();
    bench.tell(Event::Interrupted);
    bench.turn();
    bench.take();
    for _ in 0..28 {
        bench.wait(seconds(1));
        bench.tell(Event::Heard { conn: conn(0) });
    }
    bench.take();
    // The last outcome and the end of the time fall into one turn.
    bench.now = bench.now + seconds(2);
    let reason = CloseReason::Peer;
    bench.tell(Event::Closed {
        conn: conn(0),
        reason,
    });
    bench.turn();
    bench.expect(&["0: revoke", "exit Done"]);
}

#[test]
fn an_idle_worker_ends_at_once() {
    let mut bench = worker();
    bench.tell(Event::Interrupted);
    bench.turn();
    bench.expect(&["exit Done"]);
}

#[test]
fn without_slots_it_hands_back_what_it_holds_and_fails() {
    let mut bench = working();
    bench.tell(slots(0));
    bench.turn();
    bench.expect(&["0: Drain", "0: recall"]);
    // A slot that comes back changes nothing any more.
    bench.tell(slots(1));
    let (conn, reason) = (conn(0), CloseReason::Peer);
    bench.tell(Event::Closed { conn, reason });
    bench.turn();
    bench.expect(&["0: revoke", "exit Failed"]);
}

#[test]
fn told_to_end_it_has_not_failed_if_its_last_slot_is_lost() {
    let mut bench = worker();
    opened(&mut bench, 0);
    bench.tell(Event::Interrupted);
    bench.tell(slots(0));
    bench.turn();
    bench.expect(&["0: close", "exit Done"]);
}
