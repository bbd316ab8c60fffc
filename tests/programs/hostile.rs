//! Hostile peers against a worker that works for a real head meanwhile.
//!
//! What it is: one attack per test; each ends closed, with the reason on the worker's standard error,
//! with its memory where it was and with the head none the wiser. What it is not: a fuzzer of the
//! parser; those are in `fuzz/`.
//!
//! Invariant: the head's job never ends by itself, so every attack meets a worker at work.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::net::{Client, HELLO};
use crate::common::{Run, Worker, run_head, squares, until, worker};
use teamster::frame::{Frame, PROTOCOL_VERSION, Side, Task, opening};
use teamster::limits::{PROGRESS_TIMEOUT, STRANGER_LINES_MAX};
use teamster::rng::SplitMix64;
use teamster::role::Attempt;

/// What a few more connections may cost; a frame somebody claims to send costs nothing.
const SLACK_KIB: u64 = 1024;
const SQUARE: Frame<'static> = Frame::Job {
    timeout_ms: 0,
    kernel: "square",
    setup: &[0; 4],
};

/// A worker at work.
struct Target {
    worker: Worker,
    head: Run,
    peak_kib: u64,
}

impl Target {
    fn at_work() -> Target {
        let worker = Worker::start(2);
        let args = format!("-w {} square --count 1000000 --work-ms 2", worker.address);
        let head = Run::start(&args);
        head.out.wait_for("50 -> ");
        let peak_kib = worker.memory_peak_kib();
        Target {
            worker,
            head,
            peak_kib,
        }
    }

    fn address(&self) -> &str {
        &self.worker.address
    }

    /// The worker closed a connection and said why.
    #[track_caller]
    fn closed_because(&self, part: &str) {
        self.worker.says(part);
    }

    /// Asserts that the head's results keep coming as if nothing had happened, and that the worker
    /// needed no more memory than `slack_kib`.
    #[track_caller]
    fn undisturbed(&self, slack_kib: u64) {
        let seen = self.head.out.all().len();
        let done = || self.head.out.all().len();
        until("results after the attack", || done() > seen + 20);
        let lines = self.head.out.all();
        let expected = squares(lines.len() as u64);
        assert!(expected.lines().eq(lines.iter()), "all right so far");
        let err = self.head.process.complaints();
        assert!(err.is_empty(), "the head noticed something: {err:#?}");
        let grown_kib = self.worker.memory_peak_kib() - self.peak_kib;
        assert!(grown_kib <= slack_kib, "{grown_kib} KiB more than before");
    }
}

fn task(number: u64, input: &[u8]) -> Frame<'_> {
    let attempt = Attempt {
        task: number,
        number: 1,
    };
    Frame::Task(Task {
        attempt,
        input: input.into(),
    })
}

#[test]
fn random_garbage() {
    let target = Target::at_work();
    let mut rng = SplitMix64::new(7);
    for _ in 0..100 {
        let mut client = Client::connect(target.address());
        let bytes: Vec<u8> = (0..rng.below(4000) + 8).map(|_| rng.next() as u8).collect();
        client.send(&bytes);
        client.until_closed();
    }
    // Not of each: see `a_thousand_connections_that_close_at_once`.
    target.closed_because("closed: it is another program, not Teamster");
    target.undisturbed(SLACK_KIB);
}

#[test]
fn wrong_openings() {
    let target = Target::at_work();
    let version = PROTOCOL_VERSION as u8;
    for (bytes, reason) in [
        (b"GET / HT", "it is another program, not Teamster"),
        (
            b"TM\r\n\0\x09h\0",
            "it speaks protocol version 9, this side",
        ),
        (
            &opening(Side::Worker),
            "it plays the same role as this side",
        ),
        (
            &[b'T', b'M', 13, 10, 0, version, b'h', 1],
            "it has a key and this side has none",
        ),
    ] {
        let mut client = Client::connect(target.address());
        client.send(bytes);
        let sent = client.until_closed();
        // From these 8 bytes the other side can tell what is wrong.
        assert_eq!(sent, opening(Side::Worker), "{reason}");
        target.closed_because(&format!("closed: {reason}"));
    }
    target.undisturbed(SLACK_KIB);
}

#[test]
fn wrong_frames_before_the_greeting() {
    let target = Target::at_work();
    let mut early = Vec::new();
    SQUARE.encode(&mut early);
    for (bytes, reason) in [
        (&early[..], "its first frame is no greeting"),
        (
            &[0, 0, 0, 5, 2, 0, 0, 0],
            "Welcome frame from the wrong side",
        ),
        (&[0, 0, 0, 5, 99, 0, 0, 0], "frame of unknown kind 99"),
        (
            &[0, 0, 0, 5, 1, 0, 0, 1],
            "reserved header bytes are not zero",
        ),
        (&[0, 0, 0, 2, 1, 0, 0, 0, 1, 1], "Hello frame is too short"),
        (
            &[0, 0, 1, 1, 1, 0, 0, 0],
            "frame of 257 bytes where 256 are allowed",
        ),
        (
            &[255, 255, 255, 255, 1, 0, 0, 0],
            "frame of 4294967295 bytes where 256 are allowed",
        ),
    ] {
        let mut client = Client::opened(target.address());
        client.send(bytes);
        client.until_closed();
        target.closed_because(&format!("closed: {reason}"));
    }
    target.undisturbed(SLACK_KIB);
}

#[test]
fn wrong_frames_after_the_greeting() {
    let target = Target::at_work();
    let limit = (1 << 20) + 32;
    for (bytes, reason) in [
        (
            [255, 255, 255, 255, 5, 0, 0, 0],
            format!("frame of 4294967295 bytes where {limit}"),
        ),
        (
            [0, 0x10, 0, 0x21, 5, 0, 0, 0],
            format!("frame of {} bytes where {limit}", limit + 1),
        ),
        (
            [0, 0, 0, 5, 6, 0, 0, 0],
            "Outcome frame from the wrong side".into(),
        ),
    ] {
        let mut client = Client::greeted(target.address());
        client.send(&bytes);
        client.until_closed();
        target.closed_because(&format!("closed: {reason}"));
    }
    for (frames, reason) in [
        (vec![task(0, &[0; 8])], "Task frame at the wrong moment"),
        (vec![HELLO], "Hello frame at the wrong moment"),
        (vec![SQUARE, SQUARE], "Job frame at the wrong moment"),
        (
            vec![Frame::Job {
                timeout_ms: 0,
                kernel: "no\nsuch",
                setup: &[],
            }],
            "no kernel \"no\\nsuch\" here, only mandelbrot, map, primes, square",
        ),
        (
            vec![Frame::Job {
                timeout_ms: 0,
                kernel: "square",
                setup: &[1],
            }],
            "set-up of 1 bytes, square takes 4",
        ),
    ] {
        let mut client = Client::greeted(target.address());
        frames.into_iter().for_each(|frame| client.frame(frame));
        target.closed_because(&format!("turned away: {reason}"));
        // Past the head of the Welcome that `greeted` has read, its body, then the Refuse.
        let sent = client.until_closed();
        let text = String::from_utf8_lossy(&sent);
        assert!(text.contains(reason), "{text:?} tells the head, too");
    }
    target.undisturbed(SLACK_KIB);
}

#[test]
fn half_a_greeting_and_then_silence() {
    let target = Target::at_work();
    let mut hello = Vec::new();
    HELLO.encode(&mut hello);
    let silent = Client::connect(target.address());
    let mut half = Client::opened(target.address());
    half.send(&hello[..hello.len() / 2]);
    half.until_closed();
    silent.until_closed();
    let said = &target.worker.process.err;
    said.wait_for_nth("closed: no greeting within 5 s", 2);
    target.undisturbed(SLACK_KIB);
}

#[test]
fn a_thousand_connections_that_close_at_once() {
    let target = Target::at_work();
    for i in 0..1000 {
        let client = Client::connect(target.address());
        match i % 3 {
            0 => drop(client),
            1 => client.0.shutdown(Shutdown::Write).unwrap(),
            _ => Client(client.0).send(&opening(Side::Head)[..i % 8]),
        }
    }
    // Each was accepted. The first are named, the others counted.
    let said = &target.worker.process.err;
    let start = "worker: warning: connections that came to nothing before they greeted, ";
    let left_out = || {
        let lines = said.all();
        let counts = lines.iter().filter(|line| line.starts_with(start));
        let counts = counts.filter_map(|line| line.strip_suffix(" more")?.rsplit_once(": "));
        counts
            .map(|(_, count)| count.parse::<usize>().unwrap())
            .sum::<usize>()
    };
    until("1000 reasons", || {
        said.count(" is gone ") + left_out() == 1000
    });
    assert!(said.all().len() < 2 * STRANGER_LINES_MAX as usize);
    target.undisturbed(SLACK_KIB);
}

#[test]
fn a_peer_that_never_reads() {
    let target = Target::at_work();
    let mut client = Client::greeted(target.address());
    client.frame(SQUARE);
    let mut tasks = Vec::new();
    for number in 0..1000 {
        task(number, &[0; 8]).encode(&mut tasks);
    }
    // Its outcomes fill the socket, then the outbox up to its bound; then the tasks exceed the
    // credit.
    until("the worker closes", || client.0.write_all(&tasks).is_err());
    target.closed_because("turned away: more tasks than it has credit for");
    target.undisturbed(8 * SLACK_KIB);
}

#[test]
fn a_peer_that_asks_and_never_reads() {
    let target = Target::at_work();
    let mut client = Client::greeted(target.address());
    let mut pings = Vec::new();
    for _ in 0..100_000 {
        Frame::Ping.encode(&mut pings);
    }
    for _ in 0..20 {
        client.send(&pings);
    }
    target.undisturbed(2 * SLACK_KIB);
}

#[test]
fn whom_allow_does_not_name_is_closed_unheard() {
    let start = |networks| Worker::listening(&mut worker(&format!("-l 127.0.0.1:0 {networks}")));
    let closed = start("--allow 10.0.0.0/8 --allow ::1");
    let sent = Client::opened(&closed.address).until_closed();
    assert!(sent.is_empty(), "not even an opening");
    closed.says("turned away: --allow does not name it");

    let open = start("--allow 10.0.0.0/8 --allow 127.0.0.0/8");
    let args = format!("-w {} square --count 20 --work-ms 0", open.address);
    assert_eq!(run_head(&args).expect(0).text(), squares(20));
}

#[test]
fn out_of_descriptors_strangers_make_room_and_heads_are_told() {
    let script = format!(
        "ulimit -n 16; exec {} -l 127.0.0.1:0 -s 1",
        env!("CARGO_BIN_EXE_worker")
    );
    let worker = Worker::listening(Command::new("sh").args(["-c", &script]));
    let args = format!("-w {} square --count 1000000 --work-ms 2", worker.address);
    let head = Run::start(&args);
    head.out.wait_for("5 -> 25");
    let crowd: Vec<TcpStream> = (0..20)
        .map(|_| TcpStream::connect(&worker.address).unwrap())
        .collect();
    worker.says("no room for more connections (Too many open files)");
    let args = format!("-w {} square --count 20 --work-ms 0", worker.address);
    assert_eq!(run_head(&args).expect(0).text(), squares(20));
    // Heads do not make room for one another, and the one too many is not left waiting.
    let mut heads = Vec::new();
    let full = loop {
        let mut client = Client::opened(&worker.address);
        client.frame(HELLO);
        let mut welcome = [0; 16];
        match client.0.read_exact(&mut welcome) {
            Ok(()) => heads.push(client),
            Err(error) => break error,
        }
    };
    assert_ne!(full.kind(), ErrorKind::WouldBlock, "no answer");
    worker.says("turned away: there is no room for it");
    drop((crowd, heads));
    assert_eq!(run_head(&args).expect(0).text(), squares(20));
    assert!(head.process.complaints().is_empty());
    assert_eq!(worker.process.err.count("no room for more"), 1);
}

#[test]
fn a_frame_that_comes_byte_by_byte() {
    let target = Target::at_work();
    let mut client = Client::greeted(target.address());
    client.frame(SQUARE);
    let mut bytes = Vec::new();
    task(0, &[0; 4000]).encode(&mut bytes);
    let begun = Instant::now();
    let pace = Duration::from_millis(50);
    let bytes_taken = bytes.iter().take_while(|&&byte| {
        // The pace of the attack, not a wait for anything.
        thread::sleep(pace);
        client.0.write_all(&[byte]).is_ok()
    });
    assert!(bytes_taken.count() < bytes.len(), "it was not closed");
    assert!(begun.elapsed() >= PROGRESS_TIMEOUT);
    target.closed_because("it dribbles a frame instead of sending it");
    target.undisturbed(SLACK_KIB);
}

#[test]
fn messages_that_nobody_reads_hold_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("stderr");
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    // Opened both ways it has a reader, though one that never reads.
    let reader = File::options().read(true).write(true).open(&fifo).unwrap();
    let script = format!(
        "exec {} -l 127.0.0.1:0 -s 1 2>{}",
        env!("CARGO_BIN_EXE_worker"),
        fifo.display()
    );
    let worker = Worker::listening(Command::new("sh").args(["-c", &script]));
    for _ in 0..1500 {
        // Each leaves a line of about 100 bytes, as it has greeted; a pipe holds 64 KiB.
        let mut client = Client::greeted(&worker.address);
        client.frame(HELLO);
        client.until_closed();
    }
    let args = format!("-w {} square --count 20 --work-ms 0", worker.address);
    assert_eq!(run_head(&args).expect(0).text(), squares(20));
    drop(reader);
}
