//! The processes of a measurement, and what the system counts of them.
//!
//! What it is: servers that stay and runs that end, with their CPU time and peak memory. What it is
//! not: what goes on in them.
//!
//! Invariant: no server outlives its [`Server`].

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The unit of CPU time in `/proc`: 100 a second on every Linux that Rust runs on.
const TICK: Duration = Duration::from_millis(10);

/// Something to tell one of our own processes: a name and a value.
pub type Pair<'a> = (&'a str, &'a dyn ToString);

/// This program as one of the processes that `main.rs` lists.
pub fn own(role: &str, args: &[Pair<'_>]) -> Command {
    // More sockets than a shell usually allows.
    let script = "ulimit -n $(ulimit -H -n); exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command.arg(std::env::current_exe().expect("Linux knows"));
    command.args(["--child", role]);
    let words = args.iter().map(|(name, value)| (name, value.to_string()));
    command.args(words.map(|(name, value)| format!("{name}={value}")));
    command
}

/// The shipped `worker` with so many slots.
pub fn shipped_worker(slots: u32) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_worker"));
    command.args(["-q", "-l", "127.0.0.1:0", "-s", &slots.to_string()]);
    command
}

/// The shipped `head` with these arguments, split at blanks.
pub fn shipped_head(args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_head"));
    command.arg("-q").args(args.split_whitespace());
    command
}

/// A process that says where it listens and stays until it is dropped.
pub struct Server {
    child: Child,
    /// As it says itself; several if it has several listeners.
    pub addresses: String,
}

impl Server {
    pub fn start(mut command: Command) -> Server {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        stdout.read_line(&mut line).expect("it says something");
        let addresses = line.strip_prefix("Listening on ").expect("it listens");
        let addresses = addresses.trim_end().to_owned();
        Server { child, addresses }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The servers of one measurement.
pub struct Servers(Vec<Server>);

impl Servers {
    pub fn start(count: usize, command: impl Fn() -> Command) -> Servers {
        Servers((0..count).map(|_| Server::start(command())).collect())
    }

    /// All addresses, with commas between.
    pub fn addresses(&self) -> String {
        let all: Vec<&str> = self.0.iter().map(|server| &server.addresses[..]).collect();
        all.join(",")
    }

    /// CPU time of all of them so far.
    pub fn cpu(&self) -> Duration {
        self.0.iter().map(|server| cpu(server.child.id())).sum()
    }

    /// Peak memory of the largest, in KiB.
    pub fn peak_kib(&self) -> f64 {
        let peaks = self.0.iter().map(|server| peak_kib(server.child.id()));
        peaks.max().expect("there is one") as f64
    }
}

/// CPU time of a process so far, its ended threads included.
pub fn cpu(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    // The name before may hold anything, so the fields are counted from its end: 11 and 12 are the
    // user and the system time.
    let fields = stat.rsplit_once(')').expect("a name").1.split_whitespace();
    let ticks = fields.skip(11).take(2).map(|ticks| ticks.parse::<u32>());
    TICK * ticks.map(|ticks| ticks.expect("a number")).sum::<u32>()
}

/// The most memory a process ever had, in KiB.
pub fn peak_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.expect("it has memory").split_whitespace().next();
    kib.expect("a number").parse().expect("a number")
}

/// Runs one of our own processes to its end; returns the figures it prints, by name.
pub fn run(mut command: Command) -> BTreeMap<String, f64> {
    let ended = command.stderr(Stdio::inherit()).output();
    let ended = ended.expect("the program starts");
    assert!(ended.status.success(), "{command:?}: {}", ended.status);
    let text = String::from_utf8(ended.stdout).expect("text");
    let figure = |line: &str| {
        let (name, value) = line.split_once('=').expect("name=value");
        (name.to_owned(), value.parse().expect("a number"))
    };
    text.lines().map(figure).collect()
}
