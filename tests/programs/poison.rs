//! A task that kills every worker it runs on.
//!
//! What it is: whole runs over workers that are restarted whenever they die, as an init system does,
//! with one task among many that aborts the process. What it is not: a worker that dies for reasons
//! of its own (`loopback.rs`, `chaos/`).
//!
//! Invariant: the poison is given up after exactly as many deaths as it has attempts, and nothing
//! else is.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::common::own::{Supervised, own_worker, serve};
use crate::common::{Ended, run_head, until};
use teamster::kernel::{Kernel, KernelError, Kernels, Stop};
use teamster::kernels::square;

const COUNT: u64 = 1_000;
const POISON: u64 = 500;

/// `square`, deadly at one n, after the same simulated work.
struct Deadly(Arc<dyn Kernel>);

impl Kernel for Deadly {
    fn run(&self, input: &[u8], stop: &Stop, output: &mut Vec<u8>) -> Result<(), KernelError> {
        self.0.run(input, stop, output)?;
        if input == POISON.to_be_bytes() {
            std::process::abort();
        }
        Ok(())
    }
}

fn deadly(setup: &[u8]) -> Result<Arc<dyn Kernel>, String> {
    Ok(Arc::new(Deadly(square::open(setup)?)))
}

/// Not a test: the worker that the others start.
#[test]
#[ignore = "started by the other tests"]
fn own_process() {
    serve(Kernels::new().with(square::NAME, deadly));
}

/// Workers that come back.
fn workers(host: &str, count: usize, slots: u32) -> Vec<Supervised> {
    let command =
        move |address: &str| own_worker(module_path!(), &format!("-q -l {address} -s {slots}"));
    let start = |_| Supervised::start(host, command);
    (0..count).map(start).collect()
}

fn run(workers: &[Supervised], work_ms: u64, options: &str) -> Ended {
    let addresses: Vec<&str> = workers.iter().map(|w| &w.address[..]).collect();
    run_head(&format!(
        "-w {} square --count {COUNT} --work-ms {work_ms} --details --format tsv {options}",
        addresses.join(",")
    ))
}

/// Waits for the death that ended the run, too, and gives their number.
fn deaths(workers: &[Supervised], at_least: u32) -> u32 {
    let sum = || workers.iter().map(Supervised::deaths).sum::<u32>();
    until("the deaths", || sum() >= at_least);
    sum()
}

/// Checks every row and returns the attempts that tasks were charged with, where there were any.
#[track_caller]
fn charged(ended: &Ended) -> BTreeMap<u64, u32> {
    let mut charged = BTreeMap::new();
    for (n, line) in (0..).zip(ended.text().lines()) {
        let row: Vec<&str> = line.split('\t').collect();
        let [task, outcome, _worker, attempts, _queue, _run, output] = row[..] else {
            panic!("{line:?}");
        };
        assert_eq!(task, n.to_string());
        match n {
            POISON => assert_eq!((outcome, output), ("failed", "")),
            _ => assert_eq!(
                (outcome, output),
                ("done", &(n * n).to_string()[..]),
                "{line}"
            ),
        }
        if attempts != "0" {
            charged.insert(n, attempts.parse().unwrap());
        }
    }
    charged
}

/// Where and how each attempt of the poison ended, as the head says.
#[track_caller]
fn causes(ended: &Ended) -> Vec<String> {
    let start = format!("head: error: task {POISON} failed: given up: ");
    let mut said = ended
        .err
        .iter()
        .filter_map(|line| line.strip_prefix(&start));
    let (said, again) = (said.next(), said.next());
    let said = said.unwrap_or_else(|| panic!("no {start:?} in {:#?}", ended.err));
    assert_eq!(again, None, "it is given up once");
    let (_, causes) = said.split_once(" lost while it ran (").unwrap();
    let (causes, _) = causes.split_once("); it may be what kills them").unwrap();
    causes.split("; ").map(str::to_owned).collect()
}

/// The default: three attempts.
fn killed_thrice(host: &str, count: usize, slots: u32) {
    for work_ms in [0, 3] {
        let workers = workers(host, count, slots);
        let ended = run(&workers, work_ms, "").expect(1);
        let mut charged = charged(&ended);
        assert_eq!(ended.text().lines().count() as u64, COUNT);
        assert_eq!(charged.remove(&POISON), Some(3));
        // Only what ran beside it may have been charged, and only while nobody could know better.
        let ran_beside = 2 * (slots as usize - 1);
        assert!(charged.len() <= ran_beside, "{slots} slots: {charged:?}");
        assert!(
            charged.values().all(|&attempts| attempts < 3),
            "{charged:?}"
        );
        assert_eq!(deaths(&workers, 3), 3);
        let causes = causes(&ended);
        assert_eq!(causes.len(), 3, "{causes:?}");
        for cause in &causes {
            let is_known = |w: &Supervised| cause.starts_with(&format!("{}: ", w.address));
            assert!(workers.iter().any(is_known), "{cause:?}");
        }
        let tallies: u64 = workers.iter().map(|w| ended.done_by(&w.address)).sum();
        assert_eq!(tallies, COUNT - 1);
    }
}

#[test]
fn it_is_given_up_on_one_worker() {
    killed_thrice("127.77.10.1", 1, 1);
}

#[test]
fn it_is_given_up_on_one_worker_with_two_slots() {
    killed_thrice("127.77.10.2", 1, 2);
}

#[test]
fn it_is_given_up_on_two_workers() {
    killed_thrice("127.77.10.3", 2, 1);
}

#[test]
fn it_is_given_up_on_two_workers_with_two_slots() {
    killed_thrice("127.77.10.4", 2, 2);
}

#[test]
fn two_attempts_are_two_deaths() {
    let workers = workers("127.77.10.5", 2, 1);
    let ended = run(&workers, 1, "--attempts 2").expect(1);
    assert_eq!(charged(&ended), BTreeMap::from([(POISON, 2)]));
    assert_eq!(causes(&ended).len(), 2);
    assert_eq!(deaths(&workers, 2), 2);
}

#[test]
fn one_attempt_may_take_a_second_death_to_be_sure() {
    let workers = workers("127.77.10.6", 1, 1);
    let ended = run(&workers, 1, "--attempts 1").expect(1);
    let charged = charged(&ended);
    assert_eq!(charged.keys().collect::<Vec<_>>(), [&POISON]);
    // If others were queued behind it at the first.
    let deaths = deaths(&workers, 1);
    assert!(deaths <= 2);
    assert_eq!(causes(&ended).len(), deaths as usize);
}

#[test]
fn more_failures_than_allowed_end_the_run() {
    let workers = workers("127.77.10.7", 1, 1);
    let ended = run(&workers, 1, "--max-failures 0").expect(1);
    ended.says("1 task failed: ending early (--max-failures)");
    assert_eq!(charged(&ended), BTreeMap::from([(POISON, 3)]));
    assert!((ended.text().lines().count() as u64) < COUNT);
    let ended = run(&workers, 1, "--max-failures 1").expect(1);
    assert_eq!(charged(&ended), BTreeMap::from([(POISON, 3)]));
    assert_eq!(
        ended.text().lines().count() as u64,
        COUNT,
        "one was allowed"
    );
    assert_eq!(deaths(&workers, 6), 6);
}
