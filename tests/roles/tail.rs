//! The end of a run: what is handed back, what is run twice, and what is journalled or replayed.
//!
//! What it is: the head's part in it, step by step. What it is not: the choice of the attempt, which is
//! tested beside its source.
//!
//! Invariant: see `main.rs`.

use teamster::frame::{Frame, Outcome, Status};
use teamster::head::{Head, HeadConfig, Misfit, Relief};
use teamster::journal;
use teamster::limits::PING_AFTER;
use teamster::role::{Attempt, Event};
use teamster::time::Duration;

use crate::head::{Job, opened, welcome};
use crate::{Bench, attempt, conn, seconds};

fn head(count: u64, change: impl FnOnce(&mut HeadConfig)) -> Bench<Head<Job>> {
    let mut config = HeadConfig::new(vec!["w0".into(), "w1".into()]);
    config.payload_bytes_max = 8192;
    change(&mut config);
    let job = Job {
        count,
        input_bytes: 5,
        text_bytes: 10,
    };
    Bench::new(Head::new(config, job))
}

/// A head with two workers of one slot each, which have been sent all tasks: the even ones went to
/// the first.
fn sent(count: u64, change: impl FnOnce(&mut HeadConfig)) -> Bench<Head<Job>> {
    let mut bench = head(count, change);
    bench.turn();
    for dial in [0, 1] {
        opened(&mut bench, dial);
        bench.hear(conn(dial), welcome(1, 100));
    }
    bench.turn();
    let said = bench.take();
    for task in 0..count {
        let line = format!("{}: Task {task}/1 5", task % 2);
        assert!(said.contains(&line), "{line} in {said:?}");
    }
    bench
}

/// An attempt comes back after it ran for a second, or did not.
fn answer(bench: &mut Bench<Head<Job>>, slot: u32, attempt: Attempt, status: Status) {
    let frame = Frame::Outcome(Outcome {
        attempt,
        status,
        run_us: 1_000_000,
        output: b"!".into(),
    });
    bench.hear(conn(slot), frame);
}

fn heard(bench: &mut Bench<Head<Job>>, slot: u32) {
    bench.hear(conn(slot), Frame::Pong);
}

#[test]
fn an_idle_worker_gets_what_waits_at_another() {
    let mut bench = sent(4, |_| ());
    answer(&mut bench, 0, attempt(0, 1), Status::Done);
    bench.turn();
    bench.expect(&["write 10"]);
    answer(&mut bench, 0, attempt(2, 1), Status::Done);
    bench.turn();
    bench.expect(&["1: Cancel 3/1 false"]);
    bench.turn();
    bench.expect(&[]);
    // Not a sign of a machine that cannot run anything.
    answer(&mut bench, 1, attempt(3, 1), Status::Returned);
    bench.turn();
    bench.expect(&["0: Task 3/2 5"]);
    answer(&mut bench, 0, attempt(3, 2), Status::Done);
    answer(&mut bench, 1, attempt(1, 1), Status::Done);
    bench.turn();
    bench.expect(&["write 30", "exit Done"]);
}

#[test]
fn a_late_attempt_is_made_twice_and_the_loser_is_cancelled() {
    let mut bench = sent(2, |_| ());
    bench.now = bench.now + seconds(1);
    answer(&mut bench, 0, attempt(0, 1), Status::Done);
    heard(&mut bench, 1);
    bench.turn();
    bench.expect(&["write 10"]);
    // A quarter of the usual time without a word: it is asked, and answers.
    assert_eq!(bench.sleep(), Duration::from_millis(250));
    bench.expect(&["1: Ping"]);
    heard(&mut bench, 1);
    bench.turn();
    assert_eq!(bench.sleep(), Duration::from_millis(250));
    bench.expect(&["0: Task 1/2 5"]);
    answer(&mut bench, 1, attempt(1, 1), Status::Done);
    bench.turn();
    bench.expect(&["write 10", "0: Cancel 1/2 true", "exit Done"]);
}

#[test]
fn what_a_mute_worker_holds_is_not_waited_for() {
    let mut bench = sent(4, |_| ());
    bench.now = bench.now + seconds(1);
    answer(&mut bench, 0, attempt(0, 1), Status::Done);
    bench.turn();
    bench.expect(&["write 10", "1: Ping"]);
    assert_eq!(bench.sleep(), Duration::from_millis(250));
    bench.expect(&["0: Ping"]);
    heard(&mut bench, 0);
    // It is known to be mute by the time the other is idle.
    bench.now = bench.now + Duration::from_millis(500);
    answer(&mut bench, 0, attempt(2, 1), Status::Done);
    bench.turn();
    bench.expect(&["0: Task 1/2 5"]);
    bench.now = bench.now + seconds(1);
    answer(&mut bench, 0, attempt(1, 2), Status::Done);
    bench.turn();
    bench.expect(&["write 20", "1: Cancel 1/1 true", "0: Task 3/2 5"]);
    bench.now = bench.now + seconds(1);
    answer(&mut bench, 0, attempt(3, 2), Status::Done);
    bench.turn();
    bench.expect(&["1: Ping", "write 10", "1: Cancel 3/1 true", "exit Done"]);
}

#[test]
fn a_job_with_side_effects_is_left_alone() {
    let mut bench = sent(4, |config| {
        config.relief = Relief::None;
    });
    answer(&mut bench, 0, attempt(0, 1), Status::Done);
    answer(&mut bench, 0, attempt(2, 1), Status::Done);
    bench.turn();
    bench.expect(&["write 10"]);
    assert_eq!(bench.sleep(), PING_AFTER);
    bench.expect(&["0: Ping", "1: Ping"]);
}

#[test]
fn an_outcome_is_delivered_once_it_is_recorded() {
    let mut bench = sent(2, |config| config.is_journalled = true);
    answer(&mut bench, 0, attempt(0, 1), Status::Done);
    bench.turn();
    bench.expect(&["record 1"]);
    answer(&mut bench, 1, attempt(1, 1), Status::Done);
    bench.turn();
    bench.expect(&["record 1"]);
    bench.tell(Event::Recorded { count: 1 });
    bench.turn();
    bench.expect(&["write 10"]);
    bench.tell(Event::Recorded { count: 1 });
    bench.turn();
    bench.expect(&["write 10", "exit Done"]);
}

#[test]
fn a_failing_journal_ends_the_run_and_delivers_nothing_more() {
    let mut bench = sent(2, |config| config.is_journalled = true);
    answer(&mut bench, 0, attempt(0, 1), Status::Done);
    bench.turn();
    bench.expect(&["record 1"]);
    let reason = "full".into();
    bench.tell(Event::JournalFailed { reason });
    bench.expect(&["exit Output"]);
}

#[test]
fn what_was_not_recorded_is_not_delivered_when_the_run_is_interrupted() {
    let mut bench = sent(3, |config| config.is_journalled = true);
    answer(&mut bench, 0, attempt(0, 1), Status::Done);
    answer(&mut bench, 1, attempt(1, 1), Status::Done);
    bench.turn();
    bench.expect(&["record 2"]);
    bench.tell(Event::Recorded { count: 1 });
    bench.tell(Event::Interrupted);
    bench.expect(&["write 10", "exit Interrupted"]);
    assert!(bench.role.is_cut_short());
}

fn recorded(task: u64, input: &[u8]) -> journal::Outcome<'static> {
    journal::Outcome {
        task,
        input_hash: journal::input_hash(input),
        status: Status::Done,
        losses: 0,
        queue_us: 0,
        run_us: 0,
        worker: "elsewhere",
        output: b"!",
    }
}

#[test]
fn a_resumed_run_sends_only_what_was_not_recorded() {
    let mut bench = head(4, |config| config.is_journalled = true);
    for task in [2, 0] {
        bench.role.replay(&recorded(task, &[0; 5])).unwrap();
    }
    bench.role.end_replay();
    bench.turn();
    bench.expect(&["dial 0", "dial 1", "write 10"]);
    opened(&mut bench, 0);
    bench.hear(conn(0), welcome(4, 100));
    bench.turn();
    bench.expect(&[
        "0: Hello 8192",
        "0: Job k 0",
        "0: Task 1/1 5",
        "0: Task 3/1 5",
    ]);
    assert_eq!(bench.role.replayed(), 2);
}

#[test]
fn a_finished_run_needs_no_worker() {
    let mut bench = head(2, |config| config.is_journalled = true);
    for task in [1, 0] {
        bench.role.replay(&recorded(task, &[0; 5])).unwrap();
    }
    assert_eq!(bench.role.take_text(100), None);
    assert_eq!(bench.role.take_text(20).unwrap().len(), 20);
    bench.role.end_replay();
    bench.sleep();
    bench.expect(&["exit Done"]);
}

#[test]
fn a_journal_of_other_tasks_does_not_fit() {
    let mut bench = head(2, |config| config.is_journalled = true);
    let misfit = bench.role.replay(&recorded(1, b"other"));
    assert_eq!(misfit, Err(Misfit::OtherInput(1)));
    let misfit = bench.role.replay(&recorded(2, &[0; 5]));
    assert_eq!(misfit, Err(Misfit::NoTask(2)));
    assert_eq!(
        Misfit::OtherInput(1).to_string(),
        "task 1 has another input now"
    );
}

#[test]
fn what_runs_for_long_causes_no_tick() {
    let mut bench = sent(2, |_| ());
    bench.now = bench.now + seconds(1);
    answer(&mut bench, 0, attempt(0, 1), Status::Done);
    heard(&mut bench, 1);
    bench.turn();
    bench.expect(&["write 10"]);
    bench.sleep();
    heard(&mut bench, 1);
    bench.sleep();
    bench.expect(&["1: Ping", "0: Task 1/2 5"]);
    heard(&mut bench, 0);
    heard(&mut bench, 1);
    bench.turn();
    // The heartbeats of both workers, and nothing sooner.
    for _ in 0..4 {
        assert!(bench.sleep() >= seconds(1));
        heard(&mut bench, 0);
        heard(&mut bench, 1);
    }
    bench.take();
}

#[test]
fn the_failures_that_end_a_run_are_told_of() {
    let mut bench = sent(4, |config| {
        config.is_journalled = true;
        config.failures_max = Some(0);
    });
    answer(&mut bench, 0, attempt(0, 1), Status::TimedOut);
    bench.turn();
    bench.expect(&["record 1"]);
    bench.tell(Event::Recorded { count: 1 });
    bench.turn();
    bench.expect(&["write 10", "exit Failed"]);
}
