//! The head, when workers die, fail, end, or cannot do what they should.
//!
//! What it is: blame, doubt and the ends of a run, one step at a time. What it is not: the whole of a
//! run; those are simulated.
//!
//! Invariant: see `main.rs`.

use teamster::frame::{Frame, Outcome, Status};
use teamster::head::HeadConfig;
use teamster::limits::{ASIDE_MIN, OUTPUT_BYTES_MAX, STRIKES_MAX};
use teamster::role::{CloseReason, ConnId, Event, Role};

use crate::head::{Job, head, opened, welcome};
use crate::{Bench, attempt, conn, outcome, seconds};

type Head = teamster::head::Head<Job>;

/// A head with workers of one slot each, all greeted, that hold what they get; nothing is read yet.
fn greeted(workers: u32, count: u64, change: impl FnOnce(&mut HeadConfig)) -> Bench<Head> {
    greeted_with(1, workers, count, change)
}

/// The same with so many slots each.
fn greeted_with(
    slots: u16,
    workers: u32,
    count: u64,
    change: impl FnOnce(&mut HeadConfig),
) -> Bench<Head> {
    let names = (0..workers).map(|index| format!("w{index}")).collect();
    let mut config = HeadConfig::new(names);
    config.payload_bytes_max = 8192;
    change(&mut config);
    let job = Job {
        count,
        input_bytes: 0,
        text_bytes: 1,
    };
    let mut bench = Bench::new(Head::new(config, job));
    bench.turn();
    for dial in 0..workers {
        opened(&mut bench, dial);
        bench.hear(conn(dial), welcome(slots, slots.into()));
    }
    bench.turn();
    bench.take();
    bench
}

fn failed(task: u64, number: u32, status: Status, run_us: u32) -> Frame<'static> {
    Frame::Outcome(Outcome {
        attempt: attempt(task, number),
        status,
        run_us,
        output: b"no".into(),
    })
}

fn close(bench: &mut Bench<Head>, conn: ConnId) {
    let reason = CloseReason::Peer;
    bench.tell(Event::Closed { conn, reason });
    bench.turn();
}

/// The worker is dialled again and comes up as this process.
fn again(bench: &mut Bench<Head>, conn: ConnId, incarnation: u64) {
    while !bench.said.0.iter().any(|line| line.starts_with("dial")) {
        bench.sleep();
    }
    let dial = Some(conn.slot);
    let peer = "w";
    bench.tell(Event::Opened { conn, dial, peer });
    let mut frame = welcome(1, 1);
    if let Frame::Welcome {
        incarnation: it, ..
    } = &mut frame
    {
        *it = incarnation;
    }
    bench.hear(conn, frame);
    bench.take();
}

/// What was last said of `what`.
fn said(bench: &mut Bench<Head>, what: &str) -> Vec<String> {
    let mut lines = bench.take();
    lines.retain(|line| line.contains(what));
    lines
}

fn life(generation: u32) -> ConnId {
    let slot = 0;
    ConnId { slot, generation }
}

#[test]
fn a_task_is_given_up_at_its_last_loss() {
    for attempts_max in 1..=4 {
        let mut bench = greeted(1, 1, |config| config.attempts_max = attempts_max);
        for death in 1..=attempts_max {
            close(&mut bench, life(death));
            if death < attempts_max {
                assert_eq!(bench.role.scheduler().counts().ready, 1, "death {death}");
                again(&mut bench, life(death + 1), u64::from(death) + 1);
                bench.turn();
                assert_eq!(said(&mut bench, "Task").len(), 1);
            }
        }
        assert_eq!(said(&mut bench, "exit"), ["exit Failed"]);
    }
}

#[test]
fn a_kernel_that_hangs_may_be_what_kills_its_worker() {
    for hangs in [false, true] {
        let mut bench = greeted_with(2, 1, 2, |config| config.attempts_max = 1);
        bench.hear(conn(0), failed(0, 1, Status::TimedOut, 1_000_000));
        if hangs {
            bench.hear(conn(0), Frame::Slots { slots: 1 });
        }
        bench.turn();
        close(&mut bench, conn(0));
        let counts = bench.role.scheduler().counts();
        assert_eq!(counts.ready, usize::from(hangs), "else it was task 1");
        bench.take();
    }
}

#[test]
fn a_process_that_lived_on_is_forgiven() {
    let mut bench = greeted(1, 1, |config| config.attempts_max = 2);
    for session in 1..9 {
        close(&mut bench, life(session));
        again(&mut bench, life(session + 1), 1);
        bench.turn();
        bench.expect(&[&format!("0: Task 0/{} 0", session + 1)]);
    }
}

#[test]
fn the_end_of_a_worker_that_said_so_is_no_loss() {
    let mut bench = greeted(1, 2, |config| config.attempts_max = 1);
    bench.hear(conn(0), Frame::Drain);
    bench.hear(conn(0), outcome(attempt(0, 1), b""));
    bench.turn();
    bench.expect(&["write 1"]);
    close(&mut bench, conn(0));
    again(&mut bench, life(2), 2);
    bench.turn();
    bench.expect(&["0: Task 1/1 0"]);
    bench.hear(life(2), Frame::Drain);
    bench.hear(life(2), failed(1, 1, Status::Returned, 0));
    bench.turn();
    assert_eq!(bench.role.scheduler().counts().ready, 1, "not to the same");
}

#[test]
fn nor_is_the_silence_of_one_that_is_about_to_end() {
    let mut bench = greeted(1, 1, |config| config.attempts_max = 1);
    bench.hear(conn(0), Frame::Drain);
    for _ in 0..2 {
        bench.sleep();
    }
    bench.expect(&["0: Ping"]);
    assert_eq!(bench.role.scheduler().counts().ready, 1, "not given up");
}

#[test]
fn an_interrupted_head_delivers_what_it_has() {
    let mut bench = greeted(3, 3, |config| config.ordered = true);
    bench.hear(conn(2), outcome(attempt(0, 1), b""));
    bench.hear(conn(1), outcome(attempt(2, 1), b""));
    bench.tell(Event::Interrupted);
    bench.expect(&["write 2", "exit Interrupted"]);
    assert_eq!(bench.role.next_deadline(), None);
}

#[test]
fn an_interrupted_head_also_delivers_what_only_waits_for_the_output() {
    let mut bench = head(1, 2, 0, OUTPUT_BYTES_MAX);
    opened(&mut bench, 0);
    bench.hear(conn(0), welcome(2, 2));
    bench.turn();
    for task in 0..2 {
        bench.hear(conn(0), outcome(attempt(task, 1), b""));
    }
    bench.turn();
    let written = format!("write {OUTPUT_BYTES_MAX}");
    assert_eq!(said(&mut bench, "write"), [&written[..]]);
    bench.tell(Event::Interrupted);
    bench.expect(&[&written, "exit Interrupted"]);
}

#[test]
fn more_failures_than_may_be_end_the_run_early() {
    let mut bench = greeted(1, 9, |config| config.failures_max = Some(1));
    bench.hear(conn(0), failed(0, 1, Status::Failed, 20_000));
    bench.turn();
    bench.expect(&["write 1", "0: Task 1/1 0"]);
    bench.hear(conn(0), failed(1, 1, Status::Failed, 20_000));
    bench.turn();
    assert_eq!(said(&mut bench, "exit"), ["exit Failed"]);
}

#[test]
fn a_doubted_failure_is_confirmed_by_a_later_success() {
    let mut bench = greeted(2, 9, |_| {});
    bench.hear(conn(0), failed(0, 1, Status::Failed, 5));
    bench.turn();
    bench.expect(&["0: Task 2/1 0"]);
    assert_eq!(bench.role.scheduler().counts().doubted, 1);
    bench.hear(conn(0), outcome(attempt(2, 1), b""));
    bench.turn();
    bench.expect(&["write 1", "0: Task 3/1 0"]);
    assert_eq!(bench.role.scheduler().failed(), 1);
}

#[test]
fn a_worker_that_only_fails_is_set_aside_and_tried_again() {
    let mut bench = greeted(2, 50, |_| {});
    let strikes = u64::from(STRIKES_MAX);
    for task in (0..=strikes).filter(|&task| task != 1) {
        bench.hear(conn(0), failed(task, 1, Status::Failed, 5));
        bench.turn();
    }
    bench.hear(conn(1), outcome(attempt(1, 1), b""));
    bench.take();
    bench.turn();
    assert!(bench.role.is_aside(0));
    let lines = bench.take();
    assert_eq!(lines, ["1: Task 0/2 0"], "what it failed comes first");
    let last = strikes + 1;
    bench.tell(Event::Heard { conn: conn(0) });
    bench.now = bench.now + ASIDE_MIN;
    bench.tell(Event::Heard { conn: conn(0) });
    bench.tell(Event::Heard { conn: conn(1) });
    bench.turn();
    assert!(!bench.role.is_aside(0));
    bench.hear(conn(0), failed(last, 1, Status::Failed, 5));
    bench.turn();
    assert_eq!(
        said(&mut bench, "0: Task").len(),
        1,
        "it has another chance"
    );
}

#[test]
fn a_black_hole_decides_no_task_that_another_worker_can_do() {
    let mut bench = greeted(2, 2, |_| {});
    bench.hear(conn(0), failed(0, 1, Status::Failed, 5));
    bench.turn();
    bench.hear(conn(1), outcome(attempt(1, 1), b""));
    bench.turn();
    bench.expect(&["1: Task 0/2 0"]);
    bench.hear(conn(1), outcome(attempt(0, 2), b""));
    bench.turn();
    assert_eq!(said(&mut bench, "exit"), ["exit Done"]);
}

#[test]
fn what_all_workers_fail_has_failed() {
    let mut bench = greeted(2, 1, |_| {});
    bench.hear(conn(0), failed(0, 1, Status::Failed, 5));
    bench.turn();
    bench.expect(&["1: Task 0/2 0"]);
    bench.hear(conn(1), failed(0, 2, Status::Failed, 5));
    bench.turn();
    bench.expect(&["write 1", "exit Failed"]);
}

#[test]
fn what_a_worker_cannot_run_goes_elsewhere_and_costs_nothing() {
    let mut bench = greeted(2, 1, |config| config.attempts_max = 1);
    bench.hear(conn(0), failed(0, 1, Status::Returned, 0));
    bench.turn();
    bench.expect(&["1: Task 0/2 0"]);
    bench.hear(conn(1), outcome(attempt(0, 2), b""));
    bench.turn();
    bench.expect(&["write 1", "exit Done"]);
}

#[test]
fn a_task_that_must_run_alone_goes_to_an_empty_worker_at_once() {
    let mut bench = greeted(4, 4, |config| config.attempts_max = 2);
    bench.hear(conn(3), outcome(attempt(1, 1), b""));
    bench.turn();
    bench.take();
    close(&mut bench, conn(0));
    assert_eq!(said(&mut bench, "Task"), ["3: Task 2/2 0"]);
}

#[test]
fn one_that_was_set_aside_and_then_works_is_used_at_once() {
    let mut bench = head(1, 9, 0, 0);
    opened(&mut bench, 0);
    bench.hear(conn(0), welcome(2, 4));
    bench.turn();
    for task in 0..3 {
        bench.hear(conn(0), failed(task, 1, Status::Returned, 0));
    }
    bench.turn();
    assert!(bench.role.is_aside(0));
    bench.take();
    bench.hear(conn(0), outcome(attempt(3, 1), b""));
    bench.turn();
    assert_eq!(said(&mut bench, "Task").len(), 4);
    for _ in 0..35 {
        bench.now = bench.now + seconds(2);
        bench.tell(Event::Heard { conn: conn(0) });
        bench.turn();
    }
    bench.expect(&[]);
}

#[test]
fn a_worker_is_told_how_long_an_attempt_may_run() {
    let mut bench = greeted(1, 9, |config| config.timeout = Some(seconds(2)));
    close(&mut bench, conn(0));
    bench.sleep();
    opened(&mut bench, 0);
    bench.hear(conn(0), welcome(1, 1));
    let expected = "0: Job k 0 within 2000 ms";
    assert_eq!(said(&mut bench, "Job"), [expected]);
}

#[test]
fn running_out_of_time_is_a_task_s_own_answer_however_short_it_ran() {
    let mut bench = greeted(2, 9, |config| config.failures_max = Some(1));
    bench.hear(conn(0), failed(0, 1, Status::TimedOut, 5));
    bench.turn();
    bench.expect(&["write 1", "0: Task 2/1 0"]);
    assert_eq!(bench.role.scheduler().counts().doubted, 0);
    let (_, tally) = bench.role.tallies().next().unwrap();
    assert_eq!(tally.failed, 1);
    bench.hear(conn(1), failed(1, 1, Status::TimedOut, 5));
    bench.turn();
    assert_eq!(said(&mut bench, "exit"), ["exit Failed"]);
}

#[test]
fn a_worker_holds_no_more_than_its_slots_call_for() {
    let (mut bench, slots) = (head(1, 99, 0, 1), 4);
    bench.turn();
    opened(&mut bench, 0);
    bench.hear(conn(0), welcome(slots, 64));
    bench.turn();
    assert_eq!(said(&mut bench, "Task").len(), 8, "two for each");
    bench.hear(conn(0), Frame::Slots { slots: 1 });
    for task in 0..6 {
        bench.hear(conn(0), outcome(attempt(task, 1), b""));
    }
    bench.turn();
    assert_eq!(said(&mut bench, "Task").len(), 0, "it holds two");
    assert_eq!(bench.role.slots(), 1);
    bench.hear(conn(0), Frame::Slots { slots: 2 });
    bench.turn();
    assert_eq!(said(&mut bench, "Task").len(), 2);
}

#[test]
fn what_still_runs_at_a_worker_that_was_set_aside_is_not_sent_to_it_again() {
    let mut bench = head(1, 9, 0, 0);
    opened(&mut bench, 0);
    bench.hear(conn(0), welcome(5, 5));
    bench.turn();
    assert_eq!(said(&mut bench, "Task").len(), 5);
    for task in 0..3 {
        bench.hear(conn(0), failed(task, 1, Status::Returned, 0));
    }
    bench.turn();
    assert!(bench.role.is_aside(0));
    bench.take();
    // It works after all, and 4/1 runs there.
    bench.hear(conn(0), outcome(attempt(3, 1), b""));
    bench.turn();
    assert!(!bench.role.is_aside(0));
    let again: Vec<String> = said(&mut bench, "Task");
    assert!(again.iter().any(|line| line.starts_with("0: Task 0/2")));
    assert!(!again.iter().any(|line| line.starts_with("0: Task 4/2")));
    bench.hear(conn(0), outcome(attempt(4, 1), b""));
    bench.turn();
    bench.take();
    assert_eq!(bench.role.scheduler().answered(), 2);
}
