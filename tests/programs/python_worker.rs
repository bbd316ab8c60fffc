//! The worker in `examples/worker.py`, held to docs/PROTOCOL.md.
//!
//! What it is: the shipped head with a worker that shares no line with it, and a client that breaks
//! rules on purpose. What it is not: a test of our worker; the client's part would pass with it, too.
//!
//! Invariant: Python 3 is there; a machine without it fails these tests.

use std::io::Read;
use std::process::Command;
use std::time::Duration;

use crate::common::net::{Client, HELLO, refusal};
use crate::common::{Worker, run_head, squares};
use teamster::frame::{Decoder, Frame, Outcome, Side, Status, Task, opening};
use teamster::role::Attempt;

fn python() -> Worker {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/worker.py");
    Worker::listening(Command::new("python3").args([path, "0"]))
}

fn job(kernel: &'static str, setup: &'static [u8]) -> Frame<'static> {
    let timeout_ms = 0;
    Frame::Job {
        timeout_ms,
        kernel,
        setup,
    }
}

fn attempt(task: u64) -> Attempt {
    Attempt { task, number: 1 }
}

/// What a client gets to see of an answer.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Outcome(u64, Status, Vec<u8>),
    Pong,
    Refused(String),
}

/// A client with a decoder for what follows the opening.
struct Session {
    client: Client,
    decoder: Decoder,
    answers: Vec<Answer>,
}

impl Session {
    fn open(worker: &Worker, job: &Frame<'_>) -> Session {
        let mut client = Client::opened(&worker.address);
        client.frame(HELLO);
        client.frame(*job);
        Session {
            client,
            decoder: Decoder::new(Side::Head, 1 << 20),
            answers: Vec::new(),
        }
    }

    fn task(&mut self, task: u64, input: &[u8]) {
        let attempt = attempt(task);
        self.client.frame(Frame::Task(Task {
            attempt,
            input: input.into(),
        }));
    }

    /// Waits for the next answer; a Ping is none.
    fn next(&mut self) -> Answer {
        let mut bytes = [0; 4096];
        while self.answers.is_empty() {
            let count = self.client.0.read(&mut bytes).unwrap();
            assert!(count > 0, "the worker closed");
            let mut frames = self.decoder.feed(&bytes[..count]);
            while let Some(frame) = frames.next() {
                match frame.unwrap() {
                    Frame::Welcome { slots: 1, .. } | Frame::Ping => {}
                    Frame::Pong => self.answers.push(Answer::Pong),
                    Frame::Refuse { reason, .. } => {
                        self.answers.push(Answer::Refused(reason.to_owned()));
                    }
                    Frame::Outcome(Outcome {
                        attempt,
                        status,
                        output,
                        ..
                    }) => {
                        let outcome = Answer::Outcome(attempt.task, status, output.to_vec());
                        self.answers.push(outcome);
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        self.answers.remove(0)
    }
}

#[test]
fn it_is_at_most_a_hundred_lines() {
    let text = include_str!("../../examples/worker.py");
    assert!(text.lines().count() <= 100);
    assert!(text.lines().all(|line| line.chars().count() <= 100));
}

#[test]
fn a_head_has_its_squares_from_it_and_from_ours_beside_it() {
    let (python, ours) = (python(), Worker::start(1));
    let (a, b) = (&python.address, &ours.address);
    let ended = run_head(&format!("-w {a} square --count 3000 --work-ms 0")).expect(0);
    assert_eq!(ended.text(), squares(3000));
    assert_eq!(ended.done_by(a), 3000);
    let ended = run_head(&format!("-w {a},{b} square --count 100 --work-ms 10")).expect(0);
    assert_eq!(ended.text(), squares(100));
    assert!(ended.done_by(a) > 10 && ended.done_by(b) > 10);
}

#[test]
fn a_silent_head_is_asked_and_a_quiet_worker_answers_while_it_computes() {
    let worker = python();
    // Longer than either side stays silent without asking: without a Pong there would be a loss.
    let ended = run_head(&format!(
        "-w {} square --count 1 --work-ms 4000",
        worker.address
    ));
    assert_eq!(ended.text(), "0 -> 0\n");
    assert!(
        ended
            .expect(0)
            .err
            .iter()
            .all(|line| !line.contains("silent"))
    );

    let mut session = Session::open(&worker, &job("square", &[0, 0, 0x0f, 0xff]));
    session.task(0, &7_u64.to_be_bytes());
    session.client.frame(Frame::Ping);
    assert_eq!(session.next(), Answer::Pong);
    let nine = 49_u64.to_be_bytes().to_vec();
    assert_eq!(session.next(), Answer::Outcome(0, Status::Done, nine));
}

#[test]
fn an_unknown_kernel_and_a_bad_set_up_are_refused_with_a_reason() {
    let worker = python();
    let ended = run_head(&format!("-w {} primes 1 10", worker.address)).expect(3);
    ended.says("it refused: no primes with that set-up, only ['square', 'echo']");
    for job in [job("cube", &[]), job("square", &[0; 3])] {
        let session = Session::open(&worker, &job);
        let sent = session.client.until_closed();
        assert!(refusal(&sent).unwrap().contains("only ['square', 'echo']"));
    }
}

#[test]
fn what_waits_is_taken_back_and_what_runs_is_stopped() {
    let worker = python();
    let mut session = Session::open(&worker, &job("square", &[0, 0xff, 0xff, 0xff]));
    let cancel = |task, running| Frame::Cancel {
        attempt: attempt(task),
        running,
    };
    for task in 0..3 {
        session.task(task, &[0; 8]);
    }
    session.client.frame(cancel(2, false));
    let returned = |task| (task, Status::Returned);
    let next = |session: &mut Session| match session.next() {
        Answer::Outcome(task, status, _) => (task, status),
        other => panic!("{other:?}"),
    };
    assert_eq!(next(&mut session), returned(2));
    session.client.frame(cancel(7, true));
    session.client.frame(cancel(1, true));
    assert_eq!(next(&mut session), returned(1));
    session.client.frame(cancel(0, true));
    assert_eq!(next(&mut session), returned(0));
    // The session goes on.
    session.task(4, &[0; 7]);
    assert_eq!(next(&mut session), (4, Status::Failed));
}

#[test]
fn what_takes_too_long_is_timed_out() {
    let worker = python();
    let line = "square --count 2 --work-ms 60000 --timeout 0.2 --format tsv";
    let ended = run_head(&format!("-w {} {line}", worker.address)).expect(1);
    assert_eq!(ended.text(), "0\ttimeout\t\n1\ttimeout\t\n");
}

#[test]
fn a_head_that_overdraws_its_credit_is_refused() {
    let worker = python();
    let mut session = Session::open(&worker, &job("square", &[0, 0xff, 0xff, 0xff]));
    for task in 0..4096 {
        session.task(task, &[0; 8]);
    }
    session.client.frame(Frame::Ping);
    assert_eq!(session.next(), Answer::Pong, "so far it is within");
    session.task(4096, &[0; 8]);
    assert_eq!(
        session.next(),
        Answer::Refused("more than the credit".into())
    );
    session.client.until_closed();
    // And it serves others: what it held of that session is dropped.
    let ended = run_head(&format!(
        "-w {} square --count 2 --work-ms 0",
        worker.address
    ));
    assert_eq!(ended.expect(0).text(), squares(2));
}

#[test]
fn payloads_of_the_full_length_come_back() {
    let worker = python();
    let mut session = Session::open(&worker, &job("echo", &[]));
    let input: Vec<u8> = (0..1 << 20).map(|i: u32| (i % 251) as u8).collect();
    for task in 0..3 {
        session.task(task, &input);
        assert!(session.next() == Answer::Outcome(task, Status::Done, input.clone()));
    }
}

#[test]
fn what_is_not_the_protocol_is_closed() {
    let worker = python();
    let mut version = opening(Side::Head);
    version[5] = 0xff;
    for bytes in [&b"GET / HTTP/1.1\r\n"[..], &version, &opening(Side::Worker)] {
        let mut client = Client::connect(&worker.address);
        client.send(bytes);
        assert_eq!(client.until_closed(), opening(Side::Worker));
    }
    // A length beyond the limit of the greeting, and one beyond any.
    for (len, greets) in [(257_u32, false), (0x0010_0021, true)] {
        let mut client = Client::opened(&worker.address);
        if greets {
            client.frame(HELLO);
        }
        client.send(&len.to_be_bytes());
        client.send(&[1, 0, 0, 0]);
        let reason = refusal(&client.until_closed()).unwrap();
        assert_eq!(reason, format!("frame of {len} bytes"));
    }
    let silent = Client::connect(&worker.address);
    silent
        .0
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    assert_eq!(
        silent.until_closed(),
        opening(Side::Worker),
        "within the 5 s to greet"
    );
}

#[test]
fn a_head_that_goes_away_leaves_nothing_running() {
    let worker = python();
    let mut session = Session::open(&worker, &job("square", &[0, 0xff, 0xff, 0xff]));
    for task in 0..3 {
        session.task(task, &[0; 8]);
    }
    session.client.frame(Frame::Ping);
    assert_eq!(session.next(), Answer::Pong);
    drop(session);
    let ended = run_head(&format!(
        "-w {} square --count 2 --work-ms 0",
        worker.address
    ));
    assert_eq!(ended.expect(0).text(), squares(2));
}
