//! The head, one step at a time.
//!
//! What it is: its greeting, its refusals, its ends and its back-pressure. What it is not: the table of
//! tasks, which is tested beside its source.
//!
//! Invariant: see `main.rs`.

use teamster::frame::{Frame, FrameError, Outcome, Refusal, Status, Task};
use teamster::head::{Head, HeadConfig};
use teamster::kernel::{Delivery, Next, Workload};
use teamster::limits::{
    BACKOFF_MAX, BACKOFF_MIN, GREETING_TIMEOUT, OUTBOX_BYTES_MAX, OUTPUT_BYTES_MAX, PING_AFTER,
};
use teamster::payload::Bytes;
use teamster::role::{CloseReason, Event, Role};
use teamster::time::Duration;

use crate::{Bench, attempt, conn, outcome, seconds};

/// So many tasks of so many bytes, each answered with a text of so many bytes.
pub struct Job {
    pub count: u64,
    pub input_bytes: usize,
    pub text_bytes: usize,
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
        self.count -= 1;
        input.resize(self.input_bytes, 0);
        Next::Task
    }

    fn deliver(&mut self, _: &Delivery<'_>, text: &mut Vec<u8>) {
        text.resize(text.len() + self.text_bytes, 0);
    }

    fn finish(&mut self, _: &mut Vec<u8>) -> bool {
        true
    }
}

pub fn head(workers: usize, count: u64, input_bytes: usize, text_bytes: usize) -> Bench<Head<Job>> {
    let names = (0..workers).map(|index| format!("w{index}")).collect();
    let mut config = HeadConfig::new(names);
    config.payload_bytes_max = 8192;
    let job = Job {
        count,
        input_bytes,
        text_bytes,
    };
    let mut bench = Bench::new(Head::new(config, job));
    bench.turn();
    bench
}

pub fn opened(bench: &mut Bench<Head<Job>>, dial: u32) {
    let peer = "w";
    bench.tell(Event::Opened {
        conn: conn(dial),
        dial: Some(dial),
        peer,
    });
}

pub fn welcome(slots: u16, credit_tasks: u32) -> Frame<'static> {
    Frame::Welcome {
        slots,
        credit_tasks,
        credit_bytes: 1 << 30,
        payload_max: 8192,
        incarnation: 1,
        release: "1",
    }
}

/// A head whose only worker, with these slots, has been greeted; the tasks it was sent are read.
fn greeted(count: u64, slots: u16, text_bytes: usize) -> Bench<Head<Job>> {
    let mut bench = head(1, count, 1, text_bytes);
    opened(&mut bench, 0);
    bench.hear(conn(0), welcome(slots, 100));
    bench.turn();
    bench.take();
    bench
}

#[test]
fn it_greets_names_its_job_and_fills_slots_then_ahead() {
    let mut bench = head(1, 9, 5, 0);
    bench.expect(&["dial 0"]);
    opened(&mut bench, 0);
    bench.turn();
    bench.expect(&["0: Hello 8192"]);
    bench.hear(conn(0), welcome(2, 100));
    bench.expect(&["0: Job k 0"]);
    bench.turn();
    let tasks: [String; 4] = std::array::from_fn(|task| format!("0: Task {task}/1 5"));
    bench.expect(&tasks.each_ref().map(|line| &line[..]));
}

#[test]
fn nobody_gets_tasks_ahead_while_a_worker_was_not_heard_from() {
    let mut bench = head(2, 9, 0, 0);
    opened(&mut bench, 0);
    bench.hear(conn(0), welcome(1, 100));
    bench.turn();
    bench.expect(&[
        "dial 0",
        "dial 1",
        "0: Hello 8192",
        "0: Job k 0",
        "0: Task 0/1 0",
    ]);
    let reason = "refused";
    bench.tell(Event::DialFailed { dial: 1, reason });
    bench.turn();
    bench.expect(&["0: Task 1/1 0"]);
}

#[test]
fn it_stays_below_the_credit() {
    let mut bench = head(1, 9, 0, 0);
    opened(&mut bench, 0);
    bench.hear(conn(0), welcome(8, 2));
    bench.turn();
    let said = bench.take();
    assert_eq!(said[3..], ["0: Task 0/1 0", "0: Task 1/1 0"]);
}

#[test]
fn a_welcome_ahead_of_the_hello_does_no_harm() {
    let mut bench = head(1, 1, 0, 0);
    opened(&mut bench, 0);
    // The worker did not wait to be asked: the Hello is still in the outbox.
    bench.hear(conn(0), welcome(1, 1));
    bench.turn();
    let task = Frame::Task(Task {
        attempt: attempt(0, 1),
        input: Bytes::default(),
    });
    bench.tell(Event::Sent {
        conn: conn(0),
        bytes: sent_before_tasks() + task.encoded_bytes(),
    });
    bench.take();
}

/// Length of the frames that come before the first task.
fn sent_before_tasks() -> usize {
    let hello = Frame::Hello {
        payload_max: 0,
        release: env!("CARGO_PKG_VERSION"),
    };
    let job = Frame::Job {
        timeout_ms: 0,
        kernel: "k",
        setup: &[],
    };
    hello.encoded_bytes() + job.encoded_bytes()
}

#[test]
fn a_worker_for_shorter_payloads_is_barred_and_all_barred_ends_at_once() {
    let mut bench = head(2, 1, 0, 0);
    opened(&mut bench, 0);
    opened(&mut bench, 1);
    bench.take();
    let short = Frame::Welcome {
        slots: 1,
        credit_tasks: 1,
        credit_bytes: 1,
        payload_max: 8191,
        incarnation: 1,
        release: "1",
    };
    bench.hear(conn(0), short);
    bench.expect(&["0: close"]);
    let reason = CloseReason::Protocol(FrameError::Version { theirs: 9 });
    bench.tell(Event::Closed {
        conn: conn(1),
        reason,
    });
    bench.expect(&["exit NoWorker"]);
    assert_eq!(
        bench.role.next_deadline(),
        None,
        "an ended head waits for nothing"
    );
    bench.turn();
}

#[test]
fn a_worker_without_the_kernel_is_barred_and_a_busy_one_is_dialled_again() {
    let mut bench = head(2, 1, 0, 0);
    opened(&mut bench, 0);
    opened(&mut bench, 1);
    bench.take();
    let reason = "no";
    let refusal = Refusal::Busy;
    bench.hear(conn(0), Frame::Refuse { refusal, reason });
    let refusal = Refusal::Job;
    bench.hear(conn(1), Frame::Refuse { refusal, reason });
    bench.expect(&["0: close", "1: close"]);
    bench.wait(seconds(1));
    bench.expect(&["dial 0"]);
}

#[test]
fn a_worker_that_does_not_greet_is_dialled_again() {
    let mut bench = head(1, 1, 0, 0);
    opened(&mut bench, 0);
    bench.wait(GREETING_TIMEOUT - Duration::from_micros(1));
    bench.expect(&["dial 0", "0: Hello 8192"]);
    bench.wait(Duration::from_micros(1));
    bench.expect(&["0: close"]);
    bench.sleep();
    bench.expect(&["dial 0"]);
}

#[test]
fn without_a_worker_it_gives_up_in_time() {
    let mut bench = head(1, 1, 0, 0);
    bench.take();
    let reason = "refused";
    bench.tell(Event::DialFailed { dial: 0, reason });
    let mut last = String::new();
    while last != "exit NoWorker" {
        bench.sleep();
        if let Some(line) = bench.take().pop() {
            if line == "dial 0" {
                bench.tell(Event::DialFailed { dial: 0, reason });
            }
            last = line;
        }
    }
    assert_eq!(bench.now.as_micros(), 60_000_000);
}

#[test]
fn a_job_without_tasks_needs_no_worker() {
    head(1, 0, 0, 0).expect(&["dial 0", "exit Done"]);
}

#[test]
fn tasks_that_are_too_long_fail_without_a_worker_in_the_same_turn() {
    head(1, 3, 8193, 4).expect(&["dial 0", "write 4", "write 4", "write 4", "exit Failed"]);
}

#[test]
fn the_wait_between_dials_grows_to_its_cap_and_shrinks_after_an_outcome() {
    let mut bench = head(1, 9, 0, 0);
    bench.take();
    let mut step = BACKOFF_MIN;
    for _ in 0..8 {
        let reason = "refused";
        bench.tell(Event::DialFailed { dial: 0, reason });
        let mut wait = Duration::ZERO;
        while bench.said.0.is_empty() {
            wait += bench.sleep();
        }
        bench.expect(&["dial 0"]);
        assert!(step / 2 <= wait && wait <= step, "{wait:?} of {step:?}");
        step = (2 * step).min(BACKOFF_MAX);
    }
    opened(&mut bench, 0);
    bench.hear(conn(0), welcome(1, 1));
    bench.turn();
    bench.hear(conn(0), outcome(attempt(0, 1), b""));
    let reason = CloseReason::Peer;
    bench.tell(Event::Closed {
        conn: conn(0),
        reason,
    });
    bench.take();
    assert!(bench.sleep() <= BACKOFF_MIN);
    bench.expect(&["dial 0"]);
}

#[test]
fn a_silent_worker_is_asked_then_lost_then_closed_and_its_late_answer_counts() {
    let mut bench = greeted(1, 1, 0);
    bench.wait(seconds(3));
    bench.expect(&["0: Ping"]);
    bench.wait(seconds(7));
    assert_eq!(bench.role.scheduler().counts().ready, 1, "taken back");
    bench.hear(conn(0), outcome(attempt(0, 1), b""));
    bench.turn();
    bench.expect(&["exit Done"]);

    let mut bench = greeted(1, 1, 0);
    // Else it would be given up at the same time.
    bench.hear(conn(0), Frame::Pong);
    for line in [&["0: Ping"][..], &[], &["0: close"]] {
        bench.sleep();
        bench.expect(line);
    }
    assert_eq!(bench.now.as_micros(), 60_000_000);
}

#[test]
fn a_worker_that_answers_a_ping_is_asked_again_as_soon_as_before() {
    let mut bench = greeted(1, 1, 0);
    for _ in 0..5 {
        bench.wait(PING_AFTER);
        bench.expect(&["0: Ping"]);
        bench.tell(Event::Heard { conn: conn(0) });
        bench.hear(conn(0), Frame::Pong);
        bench.turn();
        assert_eq!(bench.role.next_deadline(), Some(bench.now + PING_AFTER));
    }
}

#[test]
fn an_answer_to_what_was_not_sent_ends_the_session() {
    let mut bench = greeted(4, 1, 0);
    bench.hear(conn(0), outcome(attempt(0, 2), b""));
    bench.expect(&["0: close"]);
    bench.hear(conn(0), outcome(attempt(0, 1), b""));
    assert_eq!(bench.role.scheduler().counts().ready, 2, "it is over");
}

#[test]
fn an_answer_to_what_was_not_sent_ends_a_row() {
    let mut bench = greeted(4, 1, 0);
    let of = |task| Outcome {
        attempt: attempt(task, 1),
        status: Status::Done,
        run_us: 0,
        output: Bytes::from(&b""[..]),
    };
    // The first shows that the worker can work; the second is the beginning of a row.
    bench.hear(conn(0), Frame::Outcome(of(0)));
    bench.turn();
    assert_eq!(bench.take().len(), 1, "another task");
    let mut row = [of(1), of(1), of(2)].into_iter();
    let Bench { role, said, now } = &mut bench;
    role.handle_outcomes(conn(0), &mut row, *now, said);
    bench.expect(&["0: close"]);
    assert_eq!(row.len(), 1, "nothing is taken behind it");
    let counts = bench.role.scheduler().counts();
    assert_eq!((counts.answered, counts.in_flight), (1, 0), "{counts:?}");
}

#[test]
fn several_pings_in_a_turn_get_one_pong() {
    let mut bench = greeted(1, 1, 0);
    bench.hear(conn(0), Frame::Ping);
    bench.hear(conn(0), Frame::Ping);
    bench.turn();
    bench.expect(&["0: Pong"]);
}

#[test]
fn an_output_that_does_not_keep_up_stops_delivery_and_assignment_goes_on() {
    let mut bench = greeted(5, 1, OUTPUT_BYTES_MAX);
    for task in 0..3 {
        bench.hear(conn(0), outcome(attempt(task, 1), b""));
    }
    bench.turn();
    let written = format!("write {OUTPUT_BYTES_MAX}");
    let lines = bench.take();
    assert_eq!(lines.iter().filter(|&line| *line == written).count(), 1);
    assert_eq!(bench.role.scheduler().counts().answered, 1);
    let bytes = OUTPUT_BYTES_MAX;
    bench.tell(Event::Written { bytes });
    bench.turn();
    bench.expect(&[&written]);
}

#[test]
fn it_does_not_give_up_for_want_of_workers_when_only_the_output_waits() {
    let mut bench = greeted(2, 2, OUTPUT_BYTES_MAX);
    for task in 0..2 {
        bench.hear(conn(0), outcome(attempt(task, 1), b""));
    }
    bench.turn();
    let written = format!("write {OUTPUT_BYTES_MAX}");
    bench.expect(&[&written]);
    let reason = CloseReason::Protocol(FrameError::NotTeamster);
    bench.tell(Event::Closed {
        conn: conn(0),
        reason,
    });
    bench.wait(seconds(100));
    let bytes = OUTPUT_BYTES_MAX;
    bench.tell(Event::Written { bytes });
    bench.turn();
    bench.expect(&[&written, "exit Done"]);
}

#[test]
fn an_output_that_fails_ends_the_run() {
    for (reader_gone, line) in [(true, "exit ReaderGone"), (false, "exit Output")] {
        let mut bench = greeted(1, 1, 0);
        bench.tell(Event::OutputFailed { reader_gone });
        bench.turn();
        bench.expect(&[line]);
        assert_eq!(bench.role.next_deadline(), None);
    }
}

#[test]
fn its_outbox_stays_within_its_limit() {
    // The worker's answer comes before any byte has left. At some of these lengths the fourth input
    // fits and its header does not.
    for input_bytes in (1 << 20) - 80..1 << 20 {
        let mut config = HeadConfig::new(vec!["w".into()]);
        config.payload_bytes_max = 1 << 20;
        let job = Job {
            count: 99,
            input_bytes,
            text_bytes: 0,
        };
        let mut bench = Bench::new(Head::new(config, job));
        bench.turn();
        opened(&mut bench, 0);
        let welcome = Frame::Welcome {
            slots: 50,
            credit_tasks: 100,
            credit_bytes: u32::MAX,
            payload_max: 1 << 20,
            incarnation: 1,
            release: "",
        };
        bench.hear(conn(0), welcome);
        bench.turn();
        let tasks = bench.take().len() - 3;
        let input = vec![0; input_bytes];
        let task = Frame::Task(Task {
            attempt: attempt(0, 1),
            input: Bytes::from(&input),
        });
        let bytes = sent_before_tasks() + tasks * task.encoded_bytes();
        assert!(bytes <= OUTBOX_BYTES_MAX, "{tasks} of {input_bytes}");
        assert!(tasks >= 3);
    }
}
