//! How a head ends, whom it waits for and whom it asks.
//!
//! What it is: the head turn by turn, with events by hand. What it is not: the table's rules, which
//! `scheduler/tests.rs` has.
//!
//! Invariant: a turn ends with its flush.

use super::*;
use crate::frame::{Frame, Status, Task};
use crate::kernel::{Delivery, Kernel, Next};
use crate::limits::{ASIDE_MIN, BACKOFF_MAX, FAULTS_MAX, LOST_AFTER, OUTPUT_BYTES_MAX};
use crate::payload::Bytes;
use crate::role::{Attempt, CloseReason, ConnId};
use std::sync::Arc;

mod overview;

/// So many tasks, with inputs and texts of so many bytes; knows what became of them.
#[derive(Default)]
struct Job {
    count: u64,
    input_bytes: usize,
    text_bytes: usize,
    /// Tasks that must be fed before they are had; one byte stands for each.
    unfed: u64,
    /// All its failures are.
    is_final: bool,
    delivered: u64,
    is_finished: bool,
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
        if self.count == 0 {
            return Next::End;
        }
        if self.count == self.unfed {
            return Next::Later;
        }
        self.count -= 1;
        input.resize(self.input_bytes, 0);
        Next::Task
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.unfed -= bytes.len() as u64;
        if bytes.is_empty() {
            self.count -= std::mem::take(&mut self.unfed);
        }
    }

    fn unfit(&self, input: &[u8]) -> Option<String> {
        (input.len() == 13).then(|| "unlucky".into())
    }

    fn is_final(&self, _: &[u8]) -> bool {
        self.is_final
    }

    fn deliver(&mut self, _: &Delivery<'_>, text: &mut Vec<u8>) {
        self.delivered += 1;
        text.resize(text.len() + self.text_bytes, 0);
    }

    fn finish(&mut self, _: &mut Vec<u8>) -> bool {
        self.is_finished = true;
        true
    }
}

/// What the head sends and how it ends.
#[derive(Default)]
struct Said {
    tasks: Vec<(u32, Attempt)>,
    reads: u32,
    recalled: u32,
    exit: Option<Exit>,
}

impl Sink for Said {
    fn dial(&mut self, _: u32) {}

    fn send(&mut self, conn: ConnId, frame: Frame<'_>) {
        match frame {
            Frame::Task(Task { attempt, .. }) => self.tasks.push((conn.slot, attempt)),
            Frame::Cancel { running: false, .. } => self.recalled += 1,
            _ => {}
        }
    }

    fn close(&mut self, _: ConnId) {}

    fn prepare(&mut self, _: ConnId, _: Arc<dyn Kernel>, _: Option<Duration>) {}

    fn submit(&mut self, _: ConnId, _: Attempt, _: Bytes<'_>) {}

    fn revoke(&mut self, _: ConnId) {}

    fn recall(&mut self, _: ConnId) {}

    fn cancel(&mut self, _: ConnId, _: Attempt, _: bool) {}

    fn pause(&mut self, _: ConnId, _: bool) {}

    fn record(&mut self, _: &[u8], _: usize) {}

    fn read(&mut self) {
        self.reads += 1;
    }

    fn write(&mut self, _: &[u8]) {}

    fn exit(&mut self, exit: Exit) {
        self.exit = Some(exit);
    }
}

/// A head and the time.
struct Bench {
    head: Head<Job>,
    said: Said,
    now: Time,
}

impl Bench {
    fn new(workers: usize, job: Job, configure: impl FnOnce(&mut HeadConfig)) -> Bench {
        let names = (0..workers).map(|index| format!("w{index}")).collect();
        let mut config = HeadConfig::new(names);
        configure(&mut config);
        let mut bench = Bench {
            head: Head::new(config, job),
            said: Said::default(),
            now: Time::ZERO,
        };
        bench.turn();
        bench
    }

    fn tell(&mut self, event: Event<'_>) {
        self.head.handle(event, self.now, &mut self.said);
    }

    /// Ends the turn; says which tasks were sent in it.
    fn turn(&mut self) -> Vec<(u32, u64)> {
        if self.head.next_deadline().is_some_and(|at| at <= self.now) {
            self.head.handle_timeout(self.now, &mut self.said);
        }
        self.head.flush(self.now, &mut self.said);
        let sent = std::mem::take(&mut self.said.tasks);
        let sent = sent.iter().map(|(conn, attempt)| (*conn, attempt.task));
        sent.collect()
    }

    /// As a connection numbered like the worker, but for its generation.
    fn welcome(&mut self, worker: u32, generation: u32, slots: u16) -> ConnId {
        let slot = worker;
        let conn = ConnId { slot, generation };
        let (dial, peer) = (Some(worker), "p");
        self.tell(Event::Opened { conn, dial, peer });
        let frame = Frame::Welcome {
            slots,
            credit_tasks: 100,
            credit_bytes: 1 << 20,
            payload_max: 64 << 20,
            incarnation: generation.into(),
            release: "",
        };
        self.tell(Event::Frame {
            conn,
            frame: &frame,
        });
        conn
    }

    fn outcome(&mut self, conn: ConnId, task: u64, number: u32, status: Status, run_us: u32) {
        self.tell(Event::Heard { conn });
        let frame = Frame::Outcome(Outcome {
            attempt: Attempt { task, number },
            status,
            run_us,
            output: b"o".into(),
        });
        self.tell(Event::Frame {
            conn,
            frame: &frame,
        });
    }

    fn pong(&mut self, conn: ConnId) {
        let frame = Frame::Pong;
        self.tell(Event::Heard { conn });
        self.tell(Event::Frame {
            conn,
            frame: &frame,
        });
    }

    /// Goes on to `at` second by second, with signs of life of `conn`.
    fn live(&mut self, conn: ConnId, at: Time) {
        while self.now < at {
            self.now = (self.now + Duration::from_secs(1)).min(at);
            self.pong(conn);
            self.turn();
        }
    }
}

fn job(count: u64) -> Job {
    Job {
        count,
        ..Job::default()
    }
}

/// A job that is fed all of so many tasks.
fn fed(count: u64) -> Job {
    Job {
        count,
        unfed: count,
        ..Job::default()
    }
}

#[test]
fn input_is_asked_for_once_and_only_when_it_is_used_up() {
    let mut bench = Bench::new(1, fed(9), |_| {});
    assert_eq!(bench.said.reads, 1, "also without a worker");
    let conn = bench.welcome(0, 0, 2);
    assert_eq!(bench.turn(), []);
    assert_eq!(bench.said.reads, 1, "it is on its way");
    bench.tell(Event::Input { bytes: &[0] });
    assert_eq!(bench.turn(), [(0, 0)]);
    assert_eq!(bench.said.reads, 2, "a slot is free");
    bench.tell(Event::Input { bytes: &[0; 8] });
    assert!(!bench.turn().is_empty());
    bench.now = bench.now + Duration::from_secs(1);
    while bench.head.workload.delivered < 9 {
        let task = bench.head.workload.delivered;
        bench.outcome(conn, task, 1, Status::Done, 1_000);
        bench.turn();
    }
    assert_eq!(bench.said.exit, Some(Exit::Done));
}

#[test]
fn the_end_of_the_input_is_the_end_of_the_job() {
    let mut bench = Bench::new(1, fed(9), |_| {});
    bench.tell(Event::Input { bytes: &[] });
    bench.turn();
    assert_eq!(bench.said.exit, Some(Exit::Done), "no worker is needed");
}

#[test]
fn an_input_that_breaks_ends_the_run() {
    let mut bench = Bench::new(1, fed(9), |_| {});
    let reason = "no luck".into();
    bench.tell(Event::InputFailed { reason });
    assert_eq!(bench.said.exit, Some(Exit::Journal));
}

#[test]
fn waiting_for_input_can_be_interrupted() {
    let mut bench = Bench::new(1, fed(9), |_| {});
    bench.tell(Event::Interrupted);
    assert_eq!(bench.said.exit, Some(Exit::Interrupted));
    bench.tell(Event::Input { bytes: &[0] });
}

/// A worker that holds tasks ahead gives them back to an idle one while no more come.
#[test]
fn while_input_is_waited_for_idle_workers_take_over() {
    let mut bench = Bench::new(2, fed(9), |_| {});
    bench.welcome(0, 0, 1);
    bench.turn();
    bench.now = Time::ZERO + Duration::from_secs(1);
    bench.tell(Event::Input { bytes: &[0; 2] });
    assert_eq!(bench.turn(), [(0, 0), (0, 1)]);
    bench.welcome(1, 0, 1);
    bench.turn();
    assert_eq!(bench.said.recalled, 1, "task 1 waits behind task 0");
}

/// Its only slot may be busy for another head: then it has not begun what it was given first either.
#[test]
fn what_should_have_begun_is_asked_back_once_it_is_late() {
    let mut bench = Bench::new(2, job(2), |config| config.relief = Relief::HandBack);
    let conns = [0, 1].map(|worker| bench.welcome(worker, 0, 1));
    let [(busy, task), (idle, other)] = bench.turn()[..] else {
        panic!("one each");
    };
    bench.now = bench.now + Duration::from_secs(1);
    bench.outcome(conns[idle as usize], other, 1, Status::Done, 1_000_000);
    bench.turn();
    assert_eq!(bench.said.recalled, 0, "it may run");
    bench.live(conns[busy as usize], bench.now + Duration::from_millis(500));
    assert_eq!(bench.said.recalled, 1);
    bench.outcome(conns[busy as usize], task, 1, Status::Returned, 0);
    assert_eq!(bench.turn(), [(idle, task)]);
}

#[test]
fn what_no_worker_could_run_fails_without_one() {
    let mut unlucky = job(2);
    unlucky.input_bytes = 13;
    let bench = Bench::new(1, unlucky, |_| {});
    assert_eq!(bench.said.exit, Some(Exit::Failed));
    assert_eq!(bench.head.workload.delivered, 2);
}

#[test]
fn a_soft_end_waits_for_what_is_in_flight_and_sends_nothing() {
    let mut bench = Bench::new(1, job(9), |config| {
        config.failures_max = Some(0);
        config.ends_softly = true;
    });
    let conn = bench.welcome(0, 0, 2);
    let sent = bench.turn();
    assert!(sent.len() >= 2);
    bench.outcome(conn, 0, 1, Status::Failed, 50_000);
    assert_eq!(bench.turn(), []);
    for (_, task) in &sent[1..] {
        assert_eq!(bench.said.exit, None);
        bench.outcome(conn, *task, 1, Status::Done, 50_000);
        assert_eq!(bench.turn(), []);
    }
    assert_eq!(bench.said.exit, Some(Exit::Failed));
    assert_eq!(bench.head.workload.delivered as usize, sent.len());
}

/// Two workers: what one of them fails in no time is doubted, unless the job knows better.
#[test]
fn a_failure_that_is_final_is_not_asked_for_twice() {
    let mut bench = Bench::new(2, job(2), |_| {});
    let first = bench.welcome(0, 0, 1);
    bench.welcome(1, 0, 1);
    assert_eq!(bench.turn().len(), 2);
    bench.head.workload.is_final = true;
    bench.outcome(first, 0, 1, Status::Failed, 5);
    assert_eq!(bench.turn(), []);
    assert_eq!(bench.head.scheduler().failed(), 1);
    assert_eq!(bench.head.workload.delivered, 1);
}

/// The last failure is one too many, but there is nothing left to end early.
/// What fails in no time could be the worker's fault, and the other is switched off.
#[test]
fn failures_are_not_doubted_for_ever_for_a_worker_that_is_switched_off() {
    let give_up = Duration::from_secs(25);
    let mut bench = Bench::new(2, job(1_000), |config| config.give_up = give_up);
    let conn = bench.welcome(0, 0, 1);
    let (dial, reason) = (1, "off");
    bench.tell(Event::DialFailed { dial, reason });
    let mut failed = Vec::new();
    while bench.said.exit.is_none() {
        let tasks = bench.turn();
        for &(_, task) in &tasks {
            bench.outcome(conn, task, 1, Status::Failed, 100);
        }
        if tasks.is_empty() {
            failed.push(bench.head.scheduler().failed());
            bench.now = bench.now + Duration::from_secs(1);
            bench.pong(conn);
        }
        if matches!(bench.head.links[1].state, State::Dialing) {
            bench.tell(Event::DialFailed { dial, reason });
        }
    }
    assert_eq!(bench.said.exit, Some(Exit::Failed));
    assert!(bench.now < Time::ZERO + give_up + Duration::from_secs(2));
    // Each in its turn for as long as it may still come.
    let doubts_max = DOUBTS_MAX as u64;
    assert_eq!(failed[9..12], [0, doubts_max, doubts_max], "{failed:?}");
}

#[test]
fn one_failure_too_many_at_the_very_end_cuts_nothing_short() {
    let mut bench = Bench::new(1, job(2), |config| config.failures_max = Some(0));
    let conn = bench.welcome(0, 0, 2);
    bench.turn();
    bench.outcome(conn, 0, 1, Status::Done, 0);
    bench.outcome(conn, 1, 1, Status::Failed, 0);
    bench.turn();
    assert_eq!(bench.said.exit, Some(Exit::Failed));
    assert_eq!(bench.head.workload().delivered, 2);
    assert!(bench.head.workload().is_finished);
}

#[test]
fn an_interrupted_run_delivers_what_waited_for_the_output() {
    let text_bytes = OUTPUT_BYTES_MAX;
    let job = Job {
        text_bytes,
        ..job(2)
    };
    let mut bench = Bench::new(1, job, |_| {});
    let conn = bench.welcome(0, 0, 2);
    bench.turn();
    bench.outcome(conn, 0, 1, Status::Done, 0);
    bench.outcome(conn, 1, 1, Status::Done, 0);
    bench.turn();
    assert_eq!(bench.head.workload().delivered, 1, "the output is full");
    bench.tell(Event::Interrupted);
    assert_eq!(bench.said.exit, Some(Exit::Interrupted));
    assert_eq!(bench.head.workload().delivered, 2);
    assert!(bench.head.workload().is_finished);
}

/// A task that must run alone is kept for one worker: another that finds nothing must not end the
/// turn, in whatever order they are asked.
#[test]
fn a_worker_that_finds_nothing_does_not_end_the_turn_for_others() {
    for idle_turns in 0..3 {
        let mut bench = Bench::new(3, job(5), |config| config.attempts_max = 2);
        let conns = [0, 1, 2].map(|worker| bench.welcome(worker, 0, 2));
        let sent = bench.turn();
        let [(a, first), (_, second), (b, third), _, (c, lonely)] = sent[..] else {
            panic!("{sent:?}");
        };
        let reason = CloseReason::Peer;
        let conn = conns[c as usize];
        bench.tell(Event::Closed { conn, reason });
        bench.turn();
        for (worker, task) in [(a, first), (b, third)] {
            bench.outcome(conns[worker as usize], task, 1, Status::Done, 0);
            assert!(bench.turn().is_empty(), "none is free for it");
        }
        (0..idle_turns).for_each(|_| assert!(bench.turn().is_empty()));
        bench.outcome(conns[a as usize], second, 1, Status::Done, 0);
        assert_eq!(bench.turn(), [(a, lonely)], "after {idle_turns} turns");
    }
}

/// One worker is sound and busy; the other's machine ends it as soon as it is up, whatever it holds.
#[test]
fn a_worker_that_dies_of_itself_has_no_task_given_up_while_another_lives() {
    let mut bench = Bench::new(2, job(8), |_| {});
    let sound = bench.welcome(0, 0, 2);
    let mut busy = bench.turn();
    for generation in 1..20 {
        let conn = bench.welcome(1, generation, 2);
        busy.extend(bench.turn());
        let reason = CloseReason::Peer;
        bench.tell(Event::Closed { conn, reason });
        busy.extend(bench.turn());
        bench.live(sound, bench.now + BACKOFF_MAX);
    }
    busy.retain(|(conn, _)| *conn == sound.slot);
    let counts = bench.head.scheduler().counts();
    assert_eq!((busy.len(), counts.in_flight, counts.ready), (4, 4, 4));
    // What is left runs with the sound one, each alone.
    for (_, task) in busy {
        bench.outcome(sound, task, 1, Status::Done, 0);
    }
    assert_eq!(bench.turn().len(), 1);
    // Without that one there is nobody else to ask.
    let (conn, reason) = (sound, CloseReason::Peer);
    bench.tell(Event::Closed { conn, reason });
    bench.welcome(1, 20, 2);
    assert_eq!(bench.turn().len(), 1);
}

#[test]
fn giving_up_waits_only_for_workers_that_can_be_used() {
    let give_up = Duration::from_secs(3);
    let mut bench = Bench::new(1, job(9), |config| config.give_up = give_up);
    let conn = bench.welcome(0, 0, 3);
    bench.turn();
    for task in 0..u64::from(FAULTS_MAX) {
        bench.outcome(conn, task, 1, Status::Returned, 0);
    }
    bench.turn();
    assert!(!bench.head.is_usable(0), "it is set aside");
    // Coming back does not make it usable.
    let reason = CloseReason::Peer;
    bench.tell(Event::Closed { conn, reason });
    bench.now = bench.now + Duration::from_secs(1);
    bench.turn();
    let conn = bench.welcome(0, 1, 3);
    let end = Time::ZERO + give_up;
    bench.live(conn, end);
    assert_eq!(bench.said.exit, Some(Exit::NoWorker));
}

#[test]
fn a_worker_that_only_greets_does_not_keep_the_run_alive() {
    let give_up = Duration::from_secs(30);
    let mut bench = Bench::new(1, job(3), |config| config.give_up = give_up);
    while bench.said.exit.is_none() {
        // The same process each time: no task is to blame.
        let conn = bench.welcome(0, 7, 1);
        bench.turn();
        let reason = CloseReason::Peer;
        bench.tell(Event::Closed { conn, reason });
        bench.turn();
        while !matches!(bench.head.links[0].state, State::Dialing) && bench.said.exit.is_none() {
            bench.now = bench.now + Duration::from_millis(100);
            bench.turn();
        }
    }
    assert_eq!(bench.said.exit, Some(Exit::NoWorker));
    assert_eq!(bench.now, Time::ZERO + give_up);
    // One that lives, or does something, does.
    let mut bench = Bench::new(1, job(3), |config| config.give_up = give_up);
    let conn = bench.welcome(0, 0, 1);
    bench.live(conn, Time::ZERO + give_up * 2);
    assert_eq!(bench.said.exit, None);
    let mut bench = Bench::new(1, job(3), |config| config.give_up = give_up);
    bench.now = Time::ZERO + (give_up - Duration::from_millis(1));
    let conn = bench.welcome(0, 0, 1);
    bench.turn();
    bench.now = Time::ZERO + give_up;
    bench.turn();
    assert_eq!(bench.said.exit, None, "it has only just come");
    bench.outcome(conn, 0, 1, Status::Done, 0);
    bench.turn();
    let reason = CloseReason::Peer;
    bench.tell(Event::Closed { conn, reason });
    bench.turn();
    assert_eq!(
        bench.head.timers.get(Timer::GiveUp),
        Some(bench.now + give_up)
    );
}

#[test]
fn a_worker_that_finishes_what_it_runs_is_waited_for() {
    let give_up = Duration::from_secs(3);
    let mut bench = Bench::new(1, job(9), |config| config.give_up = give_up);
    let conn = bench.welcome(0, 0, 1);
    bench.turn();
    let frame = &Frame::Drain;
    bench.tell(Event::Frame { conn, frame });
    bench.live(conn, Time::ZERO + 100 * give_up);
    assert_eq!(bench.said.exit, None);
    let held: Vec<_> = bench.head.scheduler().held(0).collect();
    for (attempt, _) in held {
        bench.outcome(conn, attempt.task, attempt.number, Status::Returned, 0);
    }
    bench.live(conn, bench.now + LOST_AFTER + give_up);
    assert_eq!(bench.said.exit, Some(Exit::NoWorker));
}

#[test]
fn a_worker_that_works_after_all_is_not_given_up() {
    let give_up = Duration::from_secs(3);
    let mut bench = Bench::new(1, job(99), |config| config.give_up = give_up);
    let conn = bench.welcome(0, 0, 4);
    bench.turn();
    for task in 0..u64::from(FAULTS_MAX) {
        bench.outcome(conn, task, 1, Status::Returned, 0);
    }
    bench.turn();
    assert!(!bench.head.is_usable(0), "it is set aside");
    bench.outcome(conn, u64::from(FAULTS_MAX), 1, Status::Done, 0);
    assert!(bench.head.is_usable(0));
    bench.live(conn, Time::ZERO + ASIDE_MIN);
    assert_eq!(bench.said.exit, None);
    // One strike is one strike again.
    bench.outcome(conn, 0, 2, Status::Returned, 0);
    bench.turn();
    assert!(bench.head.is_usable(0));
}

/// Then nothing may be left to do but wait for the worker: no event is due that would fill it.
#[test]
fn a_large_task_does_not_wait_for_a_small_frame_to_be_written() {
    let input_bytes = 5 << 20;
    let job = Job {
        input_bytes,
        ..job(1)
    };
    let mut bench = Bench::new(1, job, |config| config.payload_bytes_max = 64 << 20);
    bench.welcome(0, 0, 1);
    assert_eq!(bench.turn(), [(0, 0)], "with Hello and Job in the outbox");
}
