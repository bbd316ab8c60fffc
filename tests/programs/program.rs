//! Programs of the user's on the real worker: which ones it runs, and what ends them.
//!
//! What it is: a client that speaks the wire, workers of their own, and `/proc`. What it is not: a test
//! of what programs are given and what is told of them; that is in `src/program/tests.rs`.
//!
//! Invariant: every program has an argument that no other test uses, by which it is found.

use std::fs;
use std::io::Read;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::common::net::{Client, HELLO, refusal};
use crate::common::{Process, Worker, until, worker};
use teamster::command::{CommandLine, Ended, Mode, NAME, Report};
use teamster::frame::{Decoder, Frame, Outcome, Side, Status, Task};
use teamster::role::Attempt;

const ATTEMPT: Attempt = Attempt { task: 7, number: 1 };

fn allowing(program: &str) -> Worker {
    let args = format!("-l 127.0.0.1:0 -s 2 --insecure --allow-program {program}");
    Worker::listening(&mut worker(&args))
}

/// A head's side of one session.
struct Session {
    client: Client,
    decoder: Decoder,
}

impl Session {
    fn new(worker: &Worker, mode: Mode, words: &[&str], timeout_ms: u32) -> Session {
        let mut client = Client::opened(&worker.address);
        client.frame(HELLO);
        let words = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        let setup = CommandLine::new(mode, words).unwrap().encode();
        client.frame(Frame::Job {
            timeout_ms,
            kernel: NAME,
            setup: &setup,
        });
        let decoder = Decoder::new(Side::Head, 1 << 20);
        Session { client, decoder }
    }

    /// `/bin/sh` runs `script` with each line as its `$1`.
    fn script(worker: &Worker, script: &str, timeout_ms: u32) -> Session {
        let words = ["/bin/sh", "-c", script, "sh"];
        Session::new(worker, Mode::PerTask, &words, timeout_ms)
    }

    fn task(&mut self, line: &str) {
        self.client.frame(Frame::Task(Task {
            attempt: ATTEMPT,
            input: line.into(),
        }));
    }

    /// The next outcome's status and output.
    fn outcome(&mut self) -> (Status, Vec<u8>) {
        let mut bytes = [0; 4096];
        loop {
            let count = self.client.0.read(&mut bytes).unwrap();
            assert!(count > 0, "the worker closed");
            let mut frames = self.decoder.feed(&bytes[..count]);
            while let Some(frame) = frames.next() {
                if let Frame::Outcome(Outcome { status, output, .. }) = frame.unwrap() {
                    return (status, output.to_vec());
                }
            }
        }
    }
}

/// Seconds to sleep that nobody else sleeps.
fn marker() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("1000.{}{number:03}", std::process::id())
}

fn count_running(marker: &str) -> usize {
    let commands = fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        command
            .split(|&byte| byte == 0)
            .any(|word| word == marker.as_bytes())
    });
    commands.count()
}

/// Of a program, and of those that it starts, `count` run.
fn wait_for(marker: &str, count: usize) {
    until("the programs", || count_running(marker) == count);
}

/// A second after `end`, none runs.
#[track_caller]
fn assert_gone(marker: &str, end: Instant) {
    while count_running(marker) > 0 {
        assert!(
            end.elapsed() < Duration::from_secs(1),
            "{marker} still runs"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Programs that start others, which wait, ignore what they can, or have closed their outputs; and how
/// many processes each is.
const FAMILIES: [(&str, usize); 4] = [
    ("sleep $1", 2),
    ("sleep $1 & sleep $1 & (sleep $1; :) & wait", 5),
    (
        "trap '' HUP INT TERM; (sleep $1 >/dev/null 2>&1 &); sleep $1; :",
        3,
    ),
    ("exec >/dev/null 2>&1; sleep $1", 2),
];

#[test]
fn a_killed_worker_leaves_nothing_of_its_programs() {
    for round in 0..20 {
        let (script, count) = FAMILIES[round % FAMILIES.len()];
        let (mut worker, marker) = (allowing("/bin/sh"), marker());
        let mut session = Session::script(&worker, script, 0);
        session.task(&marker);
        wait_for(&marker, count);
        let begin = Instant::now();
        worker.process.kill();
        assert_gone(&marker, begin);
    }
}

#[test]
fn a_head_that_goes_ends_its_programs() {
    let worker = allowing("/bin/sh");
    for round in 0..20 {
        let (script, count) = FAMILIES[round % FAMILIES.len()];
        let marker = marker();
        let mut session = Session::script(&worker, script, 0);
        session.task(&marker);
        wait_for(&marker, count);
        let begin = Instant::now();
        drop(session);
        assert_gone(&marker, begin);
    }
}

#[test]
fn a_program_that_is_killed_has_failed_and_the_next_one_runs() {
    let worker = allowing("/bin/sh");
    let mut session = Session::script(&worker, "case $1 in 1*) sleep $1;; *) echo $1;; esac", 0);
    for _ in 0..20 {
        let marker = marker();
        session.task(&marker);
        wait_for(&marker, 2);
        let mut kill = std::process::Command::new("pkill");
        kill.args(["-KILL", "-x", "-f", &format!("/bin/sh -c .* sh {marker}")]);
        assert!(kill.status().unwrap().success());
        let begin = Instant::now();
        let (status, output) = session.outcome();
        let report = Report::decode(&output).unwrap();
        assert_eq!(
            (status, report.ended),
            (Status::Failed, Ended::Signalled(9))
        );
        assert_gone(&marker, begin);
        session.task("on");
        let (status, output) = session.outcome();
        let stdout = Report::decode(&output).unwrap().stdout;
        assert_eq!((status, stdout), (Status::Done, &b"on\n"[..]));
    }
}

#[test]
fn a_program_that_is_cancelled_or_late_is_ended() {
    let worker = allowing("/bin/sh");
    for (script, count) in FAMILIES {
        let (mut session, marker) = (Session::script(&worker, script, 0), marker());
        session.task(&marker);
        wait_for(&marker, count);
        session.client.frame(Frame::Cancel {
            attempt: ATTEMPT,
            running: true,
        });
        assert_eq!(session.outcome().0, Status::Returned);
        assert_gone(&marker, Instant::now());
        let mut session = Session::script(&worker, script, 300);
        session.task(&marker);
        assert_eq!(session.outcome().0, Status::TimedOut);
        assert_gone(&marker, Instant::now());
    }
}

#[test]
fn a_worker_that_ends_leaves_neither_program_nor_folder() {
    let (worker, marker) = (allowing("/bin/sh"), marker());
    let words = ["/bin/sh", "-c", "while read x; do pwd; done", &marker];
    let mut session = Session::new(&worker, Mode::Lines, &words, 0);
    session.task("x");
    let (status, output) = session.outcome();
    assert_eq!((status, count_running(&marker)), (Status::Done, 1));
    let folder = String::from_utf8(Report::decode(&output).unwrap().stdout.to_vec()).unwrap();
    assert!(fs::exists(&folder).unwrap());
    drop(session);
    assert_gone(&marker, Instant::now());
    until("the folder's end", || !fs::exists(&folder).unwrap());
    let mut worker = worker;
    worker.process.signal("TERM");
    assert_eq!(worker.process.wait(), Some(0));
}

#[test]
fn only_what_is_allowed_is_run() {
    let refused = |worker: &Worker, name: &str| {
        let session = Session::new(worker, Mode::PerTask, &[name], 0);
        refusal(&session.client.until_closed()).unwrap()
    };
    let worker = allowing("/usr/bin/wc");
    for (name, says) in [
        ("sh", "needs --allow-program"),
        ("/bin/sh", "needs --allow-program"),
        ("./wc", "but /usr/bin/wc is"),
        ("../../usr/bin/wc", "but /usr/bin/wc is"),
        ("/tmp/wc", "but /usr/bin/wc is"),
    ] {
        let reason = refused(&worker, name);
        assert!(reason.contains(says), "{reason}");
    }
    let mut session = Session::new(&worker, Mode::PerTask, &["wc"], 0);
    session.task("/dev/null");
    assert_eq!(session.outcome().0, Status::Done);
    let none = Worker::start(1);
    assert!(refused(&none, "wc").contains("\"wc\" is not allowed here"));
}

#[test]
fn a_worker_says_what_is_wrong_with_its_programs() {
    let run = |args: &str| Process::start(&mut worker(args)).end().expect(2);
    run("--allow-program /bin/true").says("no key; head --keygen");
    run("--insecure --allow-program /no/such").says("--allow-program /no/such: No such file");
    run("--insecure --allow-program /tmp").says("that is no executable file");
    let twins = "--insecure --allow-program /bin/true --allow-program /usr/bin/true";
    run(twins).says("have the same file name");
}
