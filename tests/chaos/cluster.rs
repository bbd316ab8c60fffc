//! A head and two workers in a network of their own.
//!
//! What it is: [`Cluster`], which starts the real programs and keeps what each printed. What it is
//! not: a judge of what they did.
//!
//! Invariant: the processes are gone before the network is.

use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;

use crate::net::{Net, PLACES, Place};
use crate::process::{POLL, Process};
use crate::proxy::Proxy;
use crate::quota::Quota;

/// A worker, or anything else that is started here, is ready within this.
pub const START_TIMEOUT: Duration = Duration::from_secs(20);

/// The programs of one run. Fields are dropped in this order.
#[derive(Debug)]
pub struct Cluster {
    pub head: Option<Process>,
    /// Of each worker all that ran, the latest last.
    workers: [Vec<Process>; 2],
    pub proxy: Option<Proxy>,
    pub quota: Option<Quota>,
    /// The file of the key that all have, if they have one.
    key: Option<NamedTempFile>,
    pub net: Net,
}

impl Cluster {
    /// A network without any program.
    pub fn new(is_keyed: bool) -> Result<Cluster, String> {
        let key = is_keyed.then(key_file).transpose();
        Ok(Cluster {
            head: None,
            workers: [Vec::new(), Vec::new()],
            proxy: None,
            quota: None,
            key: key.map_err(|error| format!("cannot write a key: {error}"))?,
            net: Net::new()?,
        })
    }

    /// Starts a worker, again after it was killed, and waits until it listens.
    pub fn start_worker(&mut self, index: usize, slots: u32) -> Result<(), String> {
        let worker = env!("CARGO_BIN_EXE_worker");
        let mut command = self.net.command(Place::Worker(index), worker);
        command.args(["--listen", "0.0.0.0"]);
        match &self.key {
            None => command.arg("--insecure"),
            Some(key) => command.arg("--key-file").arg(key.path()),
        };
        command.args(["--slots", &slots.to_string()]);
        command.env("RUST_LOG", "debug");
        let process = Process::spawn(&mut command)?;
        process.wait_for("Listening on 0.0.0.0:5000\n", START_TIMEOUT)?;
        self.workers[index].push(process);
        Ok(())
    }

    /// Starts the head.
    pub fn start_head(&mut self, arguments: &[&str]) -> Result<(), String> {
        let head = env!("CARGO_BIN_EXE_head");
        let mut command = self.net.command(Place::Head, head);
        if let Some(key) = &self.key {
            command.arg("--key-file").arg(key.path());
        }
        command.args(arguments).env("RUST_LOG", "debug");
        self.head = Some(Process::spawn(&mut command)?);
        Ok(())
    }

    /// The worker that ran last at that place.
    pub fn worker(&mut self, index: usize) -> &mut Process {
        self.workers[index].last_mut().expect("it was started")
    }

    pub fn head(&mut self) -> &mut Process {
        self.head.as_mut().expect("it was started")
    }

    /// Waits for `time`, or for the end of the head. Returns whether the head still runs.
    pub fn pause(&mut self, time: Duration) -> bool {
        let until = Instant::now() + time;
        self.head().wait_until(until).is_none()
    }

    /// Name and counts that the head printed of each worker.
    pub fn tallies(&mut self) -> Result<Vec<Tally>, String> {
        let stderr = self.head().stderr.text();
        let tallies: Option<Vec<_>> = stderr
            .lines()
            .filter_map(|line| line.strip_prefix("worker "))
            .map(Tally::parse)
            .collect();
        match tallies {
            Some(tallies) if tallies.len() == 2 => Ok(tallies),
            _ => Err("the head printed no line for each of two workers".into()),
        }
    }

    /// Checks that the head left nothing running and that each worker is there, alone and well.
    pub fn check_processes(&mut self) -> Result<(), String> {
        let left = self.net.pids(Place::Head)?;
        if !left.is_empty() {
            return Err(format!("the head left processes over: {left:?}"));
        }
        for index in 0..2 {
            let pid = self.worker(index).pid();
            if !self.worker(index).is_running() {
                return Err(format!("worker {index} has ended"));
            }
            let found = self.net.pids(Place::Worker(index))?;
            if found != [pid] {
                return Err(format!("beside worker {index}, {pid}, there run {found:?}"));
            }
        }
        let mut printed = vec![self.head().stderr.text()];
        printed.extend(self.workers.iter().flatten().map(|w| w.stderr.text()));
        match printed.iter().any(|text| text.contains("panicked at")) {
            true => Err("a program panicked".into()),
            false => Ok(()),
        }
    }

    /// Ends all programs and checks that none is left. Call before looking at the last of what they
    /// printed.
    pub fn stop(&mut self) -> Result<(), String> {
        let workers = self.workers.iter_mut().flatten();
        workers.chain(&mut self.head).for_each(Process::kill);
        self.proxy.iter_mut().for_each(Proxy::stop);
        // A killed process has been reaped, but its namespace's list may lag behind.
        let deadline = Instant::now() + START_TIMEOUT;
        for place in PLACES {
            while let left @ [_, ..] = &self.net.pids(place)?[..] {
                if Instant::now() >= deadline {
                    return Err(format!("left over at {place:?}: {left:?}"));
                }
                thread::sleep(POLL);
            }
        }
        Ok(())
    }

    /// What the programs printed to standard error.
    pub fn logs(&mut self) -> String {
        let mut logs = String::new();
        let mut add = |title: String, text: String| {
            logs += &format!("--- {title}\n{text}");
        };
        if let Some(head) = &self.head {
            add("head".into(), head.stderr.text());
        }
        for (index, workers) in self.workers.iter().enumerate() {
            for (nth, worker) in workers.iter().enumerate() {
                let title = format!("worker {index}, process {} of {}", nth + 1, workers.len());
                add(title, worker.stderr.text());
            }
        }
        if let Some(proxy) = &self.proxy {
            add("proxy".into(), proxy.log());
        }
        logs
    }
}

fn key_file() -> io::Result<NamedTempFile> {
    let mut file = NamedTempFile::new()?;
    writeln!(file, "{:064x}", 7)?;
    Ok(file)
}

/// What the head says of one worker at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub name: String,
    pub done: u64,
    pub failed: u64,
    pub lost: u64,
}

impl Tally {
    /// Reads `10.0.0.11:5000: 300 done, 0 failed, 0 lost`, and more counts if there are.
    fn parse(line: &str) -> Option<Tally> {
        let (name, counts) = line.split_once(": ")?;
        let mut tally = Tally {
            name: name.into(),
            ..Tally::default()
        };
        for part in counts.split(", ") {
            let (count, what) = part.split_once(' ')?;
            match what {
                "done" => tally.done = count.parse().ok()?,
                "failed" => tally.failed = count.parse().ok()?,
                "lost" => tally.lost = count.parse().ok()?,
                _ => {}
            }
        }
        Some(tally)
    }
}
