//! Running the two programs and waiting for what they do.
//!
//! What it is: [`Process`], a child whose standard error is always read, and the few waits all tests
//! share. What it is not: a fixed port, or a sleep outside [`until`].
//!
//! Invariant: every wait ends, by [`PATIENCE`] at the latest with a panic that shows what was there;
//! no child outlives its `Process`.

// Each test file uses its own part of this.
#![allow(dead_code)]

pub mod net;
pub mod own;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use teamster::frame::Side;
use teamster::kernel::Kernels;
use teamster::keyfile::VARIABLE;
use teamster::reactor::Reactor;
use teamster::worker::{Worker as RoleWorker, WorkerConfig};
use tempfile::TempDir;

/// Longer than anything here takes on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `is_so`; `what` is for the panic.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The lines a child has printed so far, read by a thread so that it never waits for us.
#[derive(Clone, Default)]
pub struct Lines(Arc<(Mutex<Vec<String>>, Condvar)>);

impl Lines {
    fn of(source: impl Read + Send + 'static) -> Lines {
        let lines = Lines::default();
        let shared = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(source).lines().map_while(Result::ok) {
                shared.0.0.lock().unwrap().push(line);
                shared.0.1.notify_all();
            }
        });
        lines
    }

    pub fn all(&self) -> Vec<String> {
        self.0.0.lock().unwrap().clone()
    }

    pub fn count(&self, part: &str) -> usize {
        let lines = self.0.0.lock().unwrap();
        lines.iter().filter(|line| line.contains(part)).count()
    }

    /// Waits for a line that contains `part` and returns it.
    pub fn wait_for(&self, part: &str) -> String {
        self.wait_for_nth(part, 1)
    }

    /// Waits until `count` lines contain `part` and returns the last of them.
    pub fn wait_for_nth(&self, part: &str, count: usize) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.0.0.lock().unwrap();
        loop {
            let mut found = lines.iter().filter(|line| line.contains(part));
            if let Some(line) = found.nth(count - 1) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let all = lines.join("\n");
                drop(lines);
                panic!("no {count} lines with {part:?} in:\n{all}");
            }
            lines = self.0.1.wait_timeout(lines, left).unwrap().0;
        }
    }
}

/// A child, killed when dropped.
pub struct Process {
    pub child: Child,
    pub err: Lines,
}

/// How a program ended.
pub struct Ended {
    /// The exit code; `None` if it was killed.
    pub code: Option<i32>,
    pub out: Vec<u8>,
    /// Whole lines of standard error.
    pub err: Vec<String>,
}

impl Process {
    /// Starts `command` with both outputs piped. Nobody reads standard output unless asked to.
    pub fn start(command: &mut Command) -> Process {
        Process::reading(command, Stdio::null())
    }

    /// The same with these bytes on standard input, as far as they are read.
    pub fn fed(command: &mut Command, input: &[u8]) -> Process {
        let mut process = Process::reading(command, Stdio::piped());
        let mut stdin = process.child.stdin.take().expect("it is piped");
        let input = input.to_vec();
        thread::spawn(move || stdin.write_all(&input));
        process
    }

    /// The same with another standard input.
    pub fn reading(command: &mut Command, stdin: Stdio) -> Process {
        command.stdin(stdin);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let err = Lines::of(child.stderr.take().unwrap());
        Process { child, err }
    }

    /// What it has said so far, but for how far it is, and for what a busy machine makes it say.
    pub fn complaints(&self) -> Vec<String> {
        let is_usual = |line: &String| {
            line.starts_with("progress: ")
                || line.contains(" is throttled: ")
                || line.ends_with(" gets its processors again")
        };
        let lines = self.err.all().into_iter();
        lines.filter(|line| !is_usual(line)).collect()
    }

    pub fn stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().expect("taken once")
    }

    pub fn stdout_lines(&mut self) -> Lines {
        Lines::of(self.stdout())
    }

    /// Waits for the end; returns the exit code.
    pub fn wait(&mut self) -> Option<i32> {
        let mut status = None;
        let err = self.err.clone();
        let what = || format!("the end of the program, which said {:#?}", err.all());
        let deadline = Instant::now() + PATIENCE;
        while status.is_none() {
            assert!(Instant::now() < deadline, "waited in vain: {}", what());
            thread::sleep(Duration::from_millis(5));
            status = self.child.try_wait().unwrap();
        }
        status.and_then(|status| status.code())
    }

    /// Sends it a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let mut kill = Command::new("kill");
        let status = kill.args(["-s", name, &pid]).status().unwrap();
        assert!(status.success(), "kill -s {name} {pid}");
    }

    /// Reads standard output to its end and waits.
    pub fn end(mut self) -> Ended {
        let mut stdout = self.stdout();
        let reader = thread::spawn(move || {
            let mut out = Vec::new();
            stdout.read_to_end(&mut out).unwrap();
            out
        });
        let code = self.wait();
        let out = reader.join().unwrap();
        Ended {
            code,
            out,
            err: self.err_at_end(),
        }
    }

    /// All of standard error, once the child has ended.
    pub fn err_at_end(&self) -> Vec<String> {
        // The reading thread drops its share of the lines at the end of the pipe.
        until("the end of standard error", || {
            Arc::strong_count(&self.err.0) == 1
        });
        self.err.all()
    }

    /// As `kill -9` does.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Ended {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.out).expect("text")
    }

    /// Asserts the exit code, showing what was said otherwise.
    #[track_caller]
    pub fn expect(self, code: i32) -> Ended {
        assert_eq!(self.code, Some(code), "standard error: {:#?}", self.err);
        self
    }

    /// Asserts that some line of standard error contains `part`.
    #[track_caller]
    pub fn says(&self, part: &str) {
        let is_said = self.err.iter().any(|line| line.contains(part));
        assert!(is_said, "no {part:?} in {:#?}", self.err);
    }

    /// The number before ` done` in the line about `worker`.
    #[track_caller]
    pub fn done_by(&self, worker: &str) -> u64 {
        let start = format!("worker {worker}: ");
        let tally = self.err.iter().find_map(|line| line.strip_prefix(&start));
        let tally = tally.unwrap_or_else(|| panic!("no {start:?} in {:#?}", self.err));
        tally.split_once(" done").unwrap().0.parse().unwrap()
    }
}

/// A running `head` whose results are read as they come.
pub struct Run {
    pub process: Process,
    pub out: Lines,
}

impl Run {
    pub fn start(args: &str) -> Run {
        let mut process = Process::start(&mut head(args));
        let out = process.stdout_lines();
        Run { process, out }
    }

    /// Waits for the end, which is as `Process::end` says it.
    pub fn end(mut self) -> Ended {
        let code = self.process.wait();
        until("the end of the results", || {
            Arc::strong_count(&self.out.0) == 1
        });
        let mut out = self.out.all().join("\n");
        if !out.is_empty() {
            out.push('\n');
        }
        Ended {
            code,
            out: out.into_bytes(),
            err: self.process.err_at_end(),
        }
    }
}

/// `head` with these arguments, split at blanks.
pub fn head(args: &str) -> Command {
    program(env!("CARGO_BIN_EXE_head"), args)
}

/// `worker` with these arguments, split at blanks.
pub fn worker(args: &str) -> Command {
    program(env!("CARGO_BIN_EXE_worker"), args)
}

fn program(path: &str, args: &str) -> Command {
    let mut command = Command::new(path);
    command.args(args.split_whitespace());
    command.env_remove("RUST_LOG").env_remove(VARIABLE);
    command
}

/// Runs `head` to its end.
pub fn run_head(args: &str) -> Ended {
    Process::start(&mut head(args)).end()
}

/// A worker that listens.
pub struct Worker {
    pub process: Process,
    /// As it says itself.
    pub address: String,
}

impl Worker {
    /// Starts one on any free port.
    pub fn start(slots: u32) -> Worker {
        Worker::listening(&mut worker(&format!("-l 127.0.0.1:0 -s {slots}")))
    }

    /// Starts one on a port that was free a moment ago.
    pub fn start_at(address: &str) -> Worker {
        Worker::listening(&mut worker(&format!("-l {address} -s 1")))
    }

    /// Starts `command` and waits until it listens.
    pub fn listening(command: &mut Command) -> Worker {
        let mut process = Process::start(command);
        let line = process.stdout_lines().wait_for("Listening on ");
        let address = line.strip_prefix("Listening on ").unwrap().to_owned();
        Worker { process, address }
    }

    pub fn says(&self, part: &str) -> String {
        self.process.err.wait_for(part)
    }

    /// The most memory it ever had, in KiB.
    pub fn memory_peak_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kib = line.unwrap().split_whitespace().nth(1).unwrap();
        kib.parse().unwrap()
    }
}

/// A folder with a key file of each name.
pub fn keys(names: &[&str]) -> (TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &&str| {
        let path = folder.path().join(name);
        let made = head(&format!("--keygen {}", path.display()));
        Process::start(&mut { made }).end().expect(0);
        path
    };
    let paths = names.iter().map(make).collect();
    (folder, paths)
}

/// A worker of one slot with this key.
pub fn keyed_worker(key: &Path) -> Worker {
    let args = format!("-l 127.0.0.1:0 -s 1 --key-file {}", key.display());
    Worker::listening(&mut worker(&args))
}

/// A worker in a thread of this process, for kernels of the test's own; it stays until the end.
pub fn worker_thread(kernels: Kernels, payload_bytes_max: usize) -> SocketAddr {
    let mut reactor = Reactor::new(Side::Worker, payload_bytes_max).unwrap();
    let address = reactor.listen((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    reactor.start_pool(1).unwrap();
    let mut config = WorkerConfig::new(1, kernels);
    config.payload_bytes_max = payload_bytes_max;
    thread::spawn(move || reactor.run(&mut RoleWorker::new(config)));
    address
}

/// What `head square --count COUNT` prints.
pub fn squares(count: u64) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for n in 0..count {
        writeln!(text, "{n} -> {}", n * n).unwrap();
    }
    text
}

/// Compares long texts without printing them whole.
#[track_caller]
pub fn assert_same_text(actual: &str, expected: &str) {
    if actual == expected {
        return;
    }
    let mut lines = actual.lines().zip(expected.lines()).enumerate();
    let difference = lines.find(|(_, (actual, expected))| actual != expected);
    let lengths = (actual.len(), expected.len());
    panic!("first difference: {difference:?}; lengths {lengths:?}");
}
