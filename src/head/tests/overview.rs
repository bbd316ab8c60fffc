//! What a head says of itself while it runs and at its end.
//!
//! What it is: the overview, state by state. What it is not: the words and the page that it becomes.
//!
//! Invariant: see `tests.rs`.

use super::*;
use crate::overview::Standing;

#[test]
fn an_overview_adds_up_and_says_why_nothing_runs() {
    let mut bench = Bench::new(2, job(5), |_| {});
    let now = bench.now + Duration::from_secs(1);
    let overview = bench.head.look(now);
    let idle = overview.idle.expect("nothing runs");
    assert_eq!(
        idle,
        "no worker can take tasks (2 dialling); the run ends in 59 s (--give-up)"
    );
    let conn = bench.welcome(0, 0, 2);
    bench.turn();
    bench.now = bench.now + Duration::from_millis(1500);
    bench.outcome(conn, 0, 1, Status::Done, 1_000_000);
    bench.outcome(conn, 1, 1, Status::Failed, 1_000_000);
    bench.turn();
    let overview = bench.head.look(bench.now);
    let tasks = overview.tasks;
    assert_eq!((tasks.done, tasks.failed, tasks.total), (1, 1, Some(5)));
    assert_eq!(overview.idle, None);
    assert_eq!(overview.rate.unwrap().per_s_milli(), 1333);
    assert_eq!(
        (overview.failures[0].task, overview.failures[0].worker),
        (1, Some("w0"))
    );
    let [up, dialing] = &overview.workers[..] else {
        panic!("two workers");
    };
    assert_eq!(
        (up.standing, dialing.standing),
        (Standing::Up, Standing::Dialing)
    );
    assert_eq!(up.slot_time, Duration::from_secs(3));
    assert_eq!(up.busy_milli(), 666);
    assert_eq!(up.received_bytes, 2);
    let begun = tasks.ready + tasks.in_flight + tasks.done + tasks.failed;
    assert_eq!(begun, bench.head.scheduler().end());
}

#[test]
fn a_throttled_worker_is_said_to_be_and_nothing_waits_behind_what_it_runs() {
    const LONG_US: u32 = 100_000;
    let mut bench = Bench::new(1, job(50), |_| {});
    let conn = bench.welcome(0, 0, 2);
    assert_eq!(bench.turn().len(), 4, "two per slot");
    let say = |bench: &mut Bench, cpu_ms, waited_ms| {
        bench.now = bench.now + Duration::from_secs(2);
        let frame = &Frame::Usage { cpu_ms, waited_ms };
        bench.tell(Event::Heard { conn });
        bench.tell(Event::Frame { conn, frame });
        bench.head.look(bench.now).workers[0].standing
    };
    assert_eq!(say(&mut bench, 400, 3600), Standing::Up);
    assert_eq!(say(&mut bench, 400, 3600), Standing::Throttled);
    for task in 0..2 {
        bench.outcome(conn, task, 1, Status::Done, LONG_US);
    }
    assert_eq!(bench.turn(), [], "it holds one per slot");
    bench.outcome(conn, 2, 1, Status::Done, LONG_US);
    assert_eq!(bench.turn(), [(0, 4)]);
    let overview = bench.head.look(bench.now);
    assert_eq!((overview.up(), overview.throttled()), (1, 1));
    let usage = overview.workers[0].usage.expect("it has said so");
    assert_eq!(usage.cpu, Duration::from_millis(800));
    assert_eq!(usage.waited, Duration::from_millis(7200));
    assert_eq!(say(&mut bench, 4000, 0), Standing::Throttled);
    assert_eq!(say(&mut bench, 4000, 0), Standing::Up);
    assert_eq!(bench.turn().len(), 2, "two per slot again");
}

#[test]
fn an_overview_after_the_end_stays_as_it_was() {
    let mut bench = Bench::new(1, job(1), |_| {});
    let conn = bench.welcome(0, 0, 1);
    bench.turn();
    bench.now = bench.now + Duration::from_secs(2);
    bench.outcome(conn, 0, 1, Status::Done, 0);
    bench.turn();
    let overview = bench.head.look(bench.now + Duration::from_secs(60));
    assert_eq!(overview.elapsed, Duration::from_secs(2));
    assert_eq!(overview.ended, Some(Exit::Done));
    assert_eq!((overview.tasks.total, overview.left), (Some(1), None));
}

#[test]
fn what_had_not_answered_at_the_end_is_not_called_unreachable() {
    let mut bench = Bench::new(2, job(1), |_| {});
    let conn = bench.welcome(0, 0, 1);
    bench.turn();
    bench.outcome(conn, 0, 1, Status::Done, 0);
    assert_eq!(
        bench.head.look(bench.now).workers[1].standing,
        Standing::Dialing
    );
    bench.turn();
    assert_eq!(
        bench.head.look(bench.now).workers[1].standing,
        Standing::Unanswered
    );
}

#[test]
fn what_was_being_dialled_again_at_the_end_is_called_unreachable() {
    let mut bench = Bench::new(2, job(1), |_| {});
    let conn = bench.welcome(0, 0, 1);
    let (dial, reason) = (1, "no route");
    bench.tell(Event::DialFailed { dial, reason });
    bench.turn();
    bench.now = bench.now + BACKOFF_MAX;
    bench.turn();
    let standing = |bench: &Bench| bench.head.look(bench.now).workers[1].standing;
    assert_eq!(standing(&bench), Standing::Dialing);
    bench.outcome(conn, 0, 1, Status::Done, 0);
    bench.turn();
    assert_eq!(standing(&bench), Standing::Waiting);
}

#[test]
fn trouble_names_the_first_few_of_all_who_have_some() {
    let mut bench = Bench::new(7, job(1), |_| {});
    bench.welcome(0, 0, 1);
    for dial in 1..7 {
        let reason = "no route";
        bench.tell(Event::DialFailed { dial, reason });
    }
    assert_eq!(
        bench.head.trouble(),
        "worker w1: no route; worker w2: no route; worker w3: no route; worker w4: no route; and 2 \
         more"
    );
}
