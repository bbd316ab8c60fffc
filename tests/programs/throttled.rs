//! Workers that do not get their processors, and what a run costs at each end.
//!
//! What it is: real processes, one of which is cut to a tenth of a processor, and others that sleep.
//! What it is not: the rule; `throttle.rs` has that. What takes long is `#[ignore]`d.
//!
//! Invariant: nobody is taken for lost who only is slow, nor for throttled who only sleeps.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::common::own::{own_worker, serve};
use crate::common::{Process, Run, Worker, head, run_head, squares, until, worker};
use crate::quota::Quota;
use teamster::kernel::{Kernel, KernelError, Kernels, Stop};
use teamster::kernels::square;

/// Rounds of the loop below in a tenth of a second of an unhurried processor, about.
const ROUNDS: u64 = 50_000_000;
/// After so long at most a worker that is throttled is said to be.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);

/// Not a test: the worker that the others start.
#[test]
#[ignore = "started by the other tests"]
fn own_process() {
    serve(Kernels::new().with(square::NAME, |_| Ok(Arc::new(Spinning))));
}

/// `square` that computes for a while.
struct Spinning;

impl Kernel for Spinning {
    fn run(&self, input: &[u8], stop: &Stop, output: &mut Vec<u8>) -> Result<(), KernelError> {
        for round in 0..ROUNDS {
            std::hint::black_box(round);
        }
        square::open(&0u32.to_be_bytes())?.run(input, stop, output)
    }
}

fn spinning() -> Worker {
    Worker::listening(&mut own_worker(module_path!(), "-q -l 127.0.0.1:0 -s 1"))
}

fn allowing_sleep() -> Command {
    worker("-l 127.0.0.1:0 -s 2 --insecure --allow-program /bin/sleep")
}

fn mapping(worker: &Worker, command: &str) -> Command {
    head(&format!("-w {} map -- {command}", worker.address))
}

/// The number behind the first `"name":`, if it is one.
fn number(json: &str, name: &str) -> Option<f64> {
    let (_, rest) = json.split_once(&format!("\"{name}\":")).expect(name);
    let end = rest.find([',', '}']).unwrap();
    rest[..end].parse().ok()
}

#[test]
fn the_report_tells_what_a_run_cost_at_each_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    let worker = spinning();
    let mut costs = [0.0; 2];
    // The second run is not charged with the first.
    for (cost, count) in costs.iter_mut().zip([8, 1]) {
        let (address, path) = (&worker.address, path.display());
        let args = format!("-w {address} --report {path} square --count {count}");
        let ended = run_head(&args).expect(0);
        assert_eq!(ended.text(), squares(count));
        ended.says("CPU: ");
        ended.says(" at the workers, ");
        let report = fs::read_to_string(folder.path().join("report.json")).unwrap();
        assert!(number(&report, "head_cpu_s").is_some(), "{report}");
        assert!(number(&report, "waited_s").is_some(), "{report}");
        *cost = number(&report, "cpu_s").expect("it says so");
    }
    let [eight, one] = costs;
    assert!(one > 0.0 && eight > 3.0 * one, "{costs:?}");
}

#[test]
fn workers_inside_the_head_are_in_its_own_figure() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    let args = format!("--local 2 --report {} primes 1 300000000", path.display());
    run_head(&args).expect(0).says("CPU: ");
    let report = fs::read_to_string(&path).unwrap();
    assert_eq!(number(&report, "cpu_s"), None, "{report}");
    assert!(number(&report, "head_cpu_s").unwrap() > 0.0, "{report}");
}

/// Prints when it was seen, and what became of its share.
#[test]
#[ignore = "takes a minute, and two processors to itself"]
fn a_worker_cut_to_a_tenth_is_shown_and_gets_a_tenth() {
    if let Some(obstacle) = crate::quota::obstacle() {
        println!("skipped: {obstacle}");
        return;
    }
    let workers = [spinning(), spinning()];
    let pids = workers.each_ref().map(|worker| worker.process.child.id());
    let _whole = pids.map(|pid| Quota::new(pid, 100).unwrap());
    let [a, b] = workers.each_ref().map(|worker| &worker.address[..]);
    let args = format!("-w {a},{b} --unordered --details --format tsv square --count 1000000");
    let run = Run::start(&args);
    let done_by = |worker: &str| run.out.count(&format!("\t{worker}\t"));
    until("both have begun", || done_by(a) > 20 && done_by(b) > 20);
    let cut = Instant::now();
    let _tenth = Quota::new(pids[1], 10).unwrap();
    let line = run.process.err.wait_for(" is throttled: ");
    let took = cut.elapsed();
    println!("after {took:.1?}: {line}");
    assert!(line.contains(b), "{line}");
    assert!(took < SHOWN_WITHIN, "{took:?}");
    let before = [done_by(a), done_by(b)];
    sleep(Duration::from_secs(30));
    let share_a = done_by(a) - before[0];
    let share_b = done_by(b) - before[1];
    println!("in 30 s after that {share_a} and {share_b} tasks");
    assert!(share_b > 0 && share_b * 5 < share_a, "{share_a}, {share_b}");
    // And back.
    let _whole = Quota::new(pids[1], 100).unwrap();
    run.process.err.wait_for("gets its processors again");
    run.process.signal("INT");
    let ended = run.end().expect(130);
    let tallies = ended.err.iter().filter(|line| line.starts_with("worker "));
    let is_whole = |line: &&String| line.ends_with(" done, 0 failed, 0 lost");
    assert_eq!(tallies.filter(is_whole).count(), 2, "{:?}", ended.err);
    let is_loss = |line: &&String| line.contains("silent for") || line.contains("is gone");
    assert_eq!(ended.err.iter().find(is_loss), None);
    // Before their groups, which cannot go while somebody is in them.
    drop(workers);
}

#[test]
#[ignore = "takes half a minute"]
fn who_sleeps_is_never_throttled() {
    let worker = Worker::start(2);
    let args = format!("-w {} square --count 20 --work-ms 1000", worker.address);
    let ended = run_head(&args).expect(0);
    assert!(!ended.err.concat().contains("throttled"), "{:?}", ended.err);
    let worker = Worker::listening(&mut allowing_sleep());
    let mut command = mapping(&worker, "/bin/sleep 1");
    // Each is one more argument: it sleeps for their sum.
    let lines = "0\n".repeat(20);
    let ended = Process::fed(&mut command, lines.as_bytes()).end().expect(0);
    assert!(!ended.err.concat().contains("throttled"), "{:?}", ended.err);
}

/// `IDLE_S` says for how long; the limits are 50 ms of processor time in 10 minutes, and one wake-up in
/// 3 s, the head's heartbeat.
#[test]
#[ignore = "takes as long as it says"]
fn an_idle_worker_costs_next_to_nothing() {
    let seconds = std::env::var("IDLE_S").map_or(60, |text| text.parse().unwrap());
    let worker = Worker::listening(&mut allowing_sleep());
    let mut command = mapping(&worker, "/bin/sleep 1");
    // Its input is open, and nothing comes.
    let _head = Process::reading(&mut command, Stdio::piped());
    worker.says("sends tasks");
    let pid = worker.process.child.id();
    let figures = || {
        let mut sum = (0, 0);
        for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
            let path = task.unwrap().path();
            let first = |file, name| {
                let text = fs::read_to_string(path.join(file)).unwrap();
                let (_, rest) = text.split_once(name).unwrap();
                let word = rest.split_ascii_whitespace().next().unwrap();
                word.parse::<u64>().unwrap()
            };
            sum.0 += first("schedstat", "");
            sum.1 += first("status", "\nvoluntary_ctxt_switches:");
        }
        sum
    };
    let before = figures();
    sleep(Duration::from_secs(seconds));
    let after = figures();
    let cpu = Duration::from_nanos(after.0 - before.0);
    let wakes = after.1 - before.1;
    println!("{seconds} s: {cpu:?}, {wakes} wake-ups");
    // 50 ms in ten minutes, and a few to begin with.
    let allowed = Duration::from_millis(5) + Duration::from_secs(seconds) / 12_000;
    assert!(cpu <= allowed, "{cpu:?}");
    assert!(wakes <= seconds / 3 + 2, "{wakes}");
}
