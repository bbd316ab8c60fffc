//! What the programs tell the supervisor that started them.
//!
//! What it is: the real programs with a notify socket of the test's own. What it is not: systemd;
//! `deploy/test-push.sh` has that.
//!
//! Invariant: what is waited for is a datagram.

use std::os::unix::net::UnixDatagram;
use std::process::Command;

use crate::common::{PATIENCE, Process, Worker, head, worker};

/// The supervisor's end, in a folder of its own.
struct Notified {
    socket: UnixDatagram,
    dir: tempfile::TempDir,
}

impl Notified {
    fn new() -> Notified {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Notified { socket, dir }
    }

    fn supervise<'a>(&self, command: &'a mut Command, watchdog_us: &str) -> &'a mut Command {
        command.env("NOTIFY_SOCKET", self.dir.path().join("notify"));
        command.env("WATCHDOG_USEC", watchdog_us)
    }

    fn next(&self) -> String {
        let mut bytes = [0; 256];
        let count = self.socket.recv(&mut bytes).expect("a datagram in time");
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    }
}

#[test]
fn a_worker_says_that_it_is_ready_alive_and_stopping() {
    let notified = Notified::new();
    let mut command = worker("-l 127.0.0.1:0 -s 1");
    let mut worker = Worker::listening(notified.supervise(&mut command, "200000"));
    let ready = format!("READY=1\nSTATUS=Listening on {}", worker.address);
    assert_eq!(notified.next(), ready);
    for _ in 0..3 {
        assert_eq!(notified.next(), "WATCHDOG=1");
    }
    worker.process.signal("TERM");
    let stopping = loop {
        let said = notified.next();
        if said != "WATCHDOG=1" {
            break said;
        }
    };
    assert_eq!(stopping, "STOPPING=1\nSTATUS=Finishing what runs");
    assert_eq!(worker.process.wait(), Some(0));
}

#[test]
fn a_head_says_that_it_is_ready_and_alive_while_it_runs() {
    let notified = Notified::new();
    let mut command = head("--local 1 square --count 10 --work-ms 50");
    let head = Process::start(notified.supervise(&mut command, "100000"));
    assert_eq!(notified.next(), "READY=1\nSTATUS=Running");
    for _ in 0..3 {
        assert_eq!(notified.next(), "WATCHDOG=1");
    }
    head.end().expect(0);
}

#[test]
fn a_supervisor_that_cannot_be_told_anything_ends_nobody() {
    for name in ["", "/nowhere/notify", "@nobody"] {
        let mut command = head("--local 1 square --count 1 --work-ms 0");
        let head = Process::start(command.env("NOTIFY_SOCKET", name));
        head.end().expect(0);
    }
}
