//! Heads, workers and programs that are killed in mid-run.
//!
//! What it is: each of them killed with no word, again and again; what is left behind, and what
//! comes out. What it is not: cut links and stops; those are the chaos suite's.
//!
//! Invariant: a second after any of them is killed no process of its programs is left.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::{helper, map, numbers};
use crate::common::{Process, Worker, assert_same_text, until};

const COUNT: u32 = 60;

/// Processes, by number, that have this among their arguments, programs of `map` as well as what
/// those started.
fn marked(mark: &str) -> Vec<u32> {
    let numbers = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let number = entry.unwrap().file_name().to_str()?.parse().ok()?;
        let words = fs::read(format!("/proc/{number}/cmdline")).ok()?;
        let is_program = words.starts_with(b"sh\0") || words.starts_with(b"sleep\0");
        let has_mark = words
            .windows(mark.len())
            .any(|part| part == mark.as_bytes());
        (is_program && has_mark).then_some(number)
    });
    numbers.collect()
}

/// What nothing else has among its arguments, the other test at the same time included.
fn mark() -> String {
    static MARKS: AtomicU32 = AtomicU32::new(0);
    let number = MARKS.fetch_add(1, Ordering::Relaxed);
    format!("mark-{}-{number}-", std::process::id())
}

/// One cluster of two workers and a head whose programs bear a mark.
struct Cluster {
    mark: String,
    workers: Vec<Worker>,
    head: Process,
}

impl Cluster {
    fn start() -> Cluster {
        let mark = mark();
        let workers = vec![helper(&["/bin/sh"]), helper(&["/bin/sh"])];
        let addresses: Vec<&str> = workers.iter().map(|worker| &worker.address[..]).collect();
        let options = format!("-w {}", addresses.join(","));
        // A program of two processes, the second with the mark in its arguments, too.
        let script = "sh -c 'sleep 0.02' $0; echo ${1}";
        let mut command = map(&options, &["sh", "-c", script, &mark]);
        let head = Process::fed(&mut command, numbers(COUNT).as_bytes());
        let cluster = Cluster {
            mark,
            workers,
            head,
        };
        cluster.wait_for_programs();
        cluster
    }

    fn wait_for_programs(&self) {
        until("programs run", || marked(&self.mark).len() >= 2);
    }

    /// No program is left a second after `since`.
    fn expect_nothing_left(&self, since: Instant) {
        while !marked(&self.mark).is_empty() {
            let left = marked(&self.mark);
            let patience = Duration::from_secs(1);
            assert!(since.elapsed() < patience, "{left:?} are left");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn kill_worker(round: u32) {
    let mut cluster = Cluster::start();
    let victim = round as usize % 2;
    cluster.workers[victim].process.kill();
    let survivor = cluster.workers.remove(1 - victim);
    let mark = cluster.mark.clone();
    let ended = cluster.head.end().expect(0);
    assert_same_text(ended.text(), &numbers(COUNT));
    assert!(marked(&mark).is_empty(), "the run is over");
    drop(survivor);
}

fn kill_head() {
    let mut cluster = Cluster::start();
    cluster.head.kill();
    cluster.expect_nothing_left(Instant::now());
    for worker in &mut cluster.workers {
        assert_eq!(worker.process.child.try_wait().unwrap(), None, "it goes on");
    }
}

fn kill_both_workers() {
    let mut cluster = Cluster::start();
    for worker in &mut cluster.workers {
        worker.process.kill();
    }
    cluster.expect_nothing_left(Instant::now());
}

/// A program that is killed has failed; with a retry it runs again.
fn kill_program() {
    let mark = mark();
    let worker = helper(&["/bin/sh"]);
    let options = format!("--retries 1 -w {}", worker.address);
    let script = "sleep 0.02; echo ${1}";
    let mut command = map(&options, &["sh", "-c", script, &mark]);
    let process = Process::fed(&mut command, numbers(COUNT).as_bytes());
    let mut killed = 0;
    until("a program is killed", || {
        if let Some(number) = marked(&mark).first() {
            let mut kill = Command::new("kill");
            kill.args(["-9", &number.to_string()]).stderr(Stdio::null());
            killed += u32::from(kill.status().unwrap().into_raw() == 0);
        }
        killed > 0
    });
    let ended = process.end();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.err);
    assert_same_text(ended.text(), &numbers(COUNT));
    assert!(marked(&mark).is_empty(), "the run is over");
}

#[test]
fn whoever_is_killed_nothing_is_left_and_nothing_lost() {
    for round in 0..2 {
        kill_worker(round);
        kill_head();
        kill_both_workers();
        kill_program();
    }
}

#[test]
#[ignore = "the long form"]
fn whoever_is_killed_twenty_times_nothing_is_left_and_nothing_lost() {
    for round in 0..20 {
        kill_worker(round);
        kill_head();
        kill_both_workers();
        kill_program();
    }
}
