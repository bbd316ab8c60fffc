//! The end of a run with workers that are stopped or slow.
//!
//! What it is: real processes, one of which no longer does what it did. What it is not: a measurement
//! in `cargo test`; the one that takes minutes is `#[ignore]`d.
//!
//! Invariant: every task has one result, whatever was run twice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::own::{own_worker, serve};
use crate::common::{Run, Worker, squares, until};
use crate::quota::Quota;
use teamster::kernel::{Kernel, KernelError, Kernels, Stop};
use teamster::kernels::square;
use teamster::limits::LOST_AFTER;

/// Not a test: the worker that the others start.
#[test]
#[ignore = "started by the other tests"]
fn own_process() {
    serve(Kernels::new().with(square::NAME, spinning));
}

/// `square` that says that it begins, and computes for as long as it would sleep at full speed.
struct Spinning {
    rounds: u64,
    square: Arc<dyn Kernel>,
}

/// Rounds of the loop below in a millisecond of an unhurried processor, about.
const ROUNDS_PER_MS: u64 = 500_000;

impl Kernel for Spinning {
    fn run(&self, input: &[u8], stop: &Stop, output: &mut Vec<u8>) -> Result<(), KernelError> {
        eprintln!(
            "task {} begins",
            u64::from_be_bytes(input.try_into().unwrap())
        );
        for round in 0..self.rounds {
            if std::hint::black_box(round) % ROUNDS_PER_MS == 0 && stop.is_raised() {
                return Err("stopped".into());
            }
        }
        self.square.run(input, stop, output)
    }
}

/// The set-up is that of `square`: how long to work, in milliseconds.
fn spinning(setup: &[u8]) -> Result<Arc<dyn Kernel>, String> {
    let work_ms = <[u8; 4]>::try_from(setup).map_err(|_| "not square's")?;
    let work_ms = u64::from(u32::from_be_bytes(work_ms));
    Ok(Arc::new(Spinning {
        rounds: work_ms * ROUNDS_PER_MS,
        square: square::open(&0u32.to_be_bytes())?,
    }))
}

#[test]
fn the_last_task_on_a_stopped_worker_is_not_waited_for() {
    let workers = start();
    let [a, b] = workers.each_ref().map(|worker| &worker.address);
    let run = Run::start(&format!("-w {a},{b} square --count 5 --work-ms 400"));
    let mut holder = None;
    until("the last task", || {
        holder = workers
            .iter()
            .find(|worker| worker.process.err.count("task 4 begins") > 0);
        holder.is_some()
    });
    let holder = holder.expect("one has it");
    holder.process.signal("STOP");
    let stopped = Instant::now();
    let ended = run.end().expect(0);
    let took = stopped.elapsed();
    println!("{took:?} after the stop, with tasks of about 400 ms");
    assert_eq!(ended.text(), squares(5));
    assert!(took < LOST_AFTER, "it was waited for: {took:?}");
    assert_eq!(holder.process.err.count("task 4 begins"), 1);
}

fn start() -> [Worker; 2] {
    [(); 2].map(|()| Worker::listening(&mut own_worker(module_path!(), "-q -l 127.0.0.1:0 -s 1")))
}

/// One row of `--details --format tsv`, and when it came.
struct Row {
    at: Duration,
    worker: String,
    run: Duration,
}

/// Several minutes. Prints, for each of five runs, the makespan over the ideal one: what was left at
/// the throttling, done at the rates that both workers then really had.
#[test]
#[ignore = "a measurement of several minutes; needs two processors to itself"]
fn a_throttled_worker_gets_what_it_can_do() {
    if let Some(obstacle) = crate::quota::obstacle() {
        println!("skipped: {obstacle}");
        return;
    }
    let tasks = std::env::var("TAIL_TASKS").map_or(500, |text| text.parse().unwrap());
    let mut ratios: Vec<f64> = (0..5).map(|_| throttled_run(tasks)).collect();
    ratios.sort_by(f64::total_cmp);
    println!("makespan over ideal: {ratios:.3?}, median {:.3}", ratios[2]);
    assert!(ratios[2] < 1.25, "{ratios:?}");
}

fn throttled_run(tasks: usize) -> f64 {
    let workers = start();
    let [a, b] = workers.each_ref().map(|worker| &worker.address);
    let begun = Instant::now();
    let run = Run::start(&format!(
        "-w {a},{b} --unordered --details --format tsv square --count {tasks} --work-ms 200"
    ));
    let mut rows = Vec::new();
    let mut quota = None;
    while rows.len() < tasks {
        let line = run.out.wait_for_nth("\t", rows.len() + 1);
        let words: Vec<&str> = line.split('\t').collect();
        rows.push(Row {
            at: begun.elapsed(),
            worker: words[2].to_owned(),
            run: Duration::from_secs_f64(words[5].parse::<f64>().unwrap() / 1e3),
        });
        if rows.len() == tasks * 3 / 10 {
            let pid = workers[1].process.child.id();
            quota = Some((begun.elapsed(), Quota::new(pid, 10).unwrap()));
        }
    }
    run.end().expect(0);
    let (throttled_at, _quota) = quota.expect("it came to that");
    let rate = |worker: &str, from: Duration| {
        let its = rows
            .iter()
            .filter(|row| row.worker == worker && row.at - row.run >= from);
        let runs: Vec<f64> = its.map(|row| row.run.as_secs_f64()).collect();
        runs.len() as f64 / runs.iter().sum::<f64>()
    };
    let (rate_a, rate_b) = (rate(a, throttled_at), rate(b, throttled_at));
    let left = (tasks - tasks * 3 / 10) as f64;
    let ideal = throttled_at.as_secs_f64() + left / (rate_a + rate_b);
    let took = rows.last().expect("there are rows").at.as_secs_f64();
    println!(
        "{took:.1} s, ideal {ideal:.1} s ({rate_a:.2} and {rate_b:.2} tasks/s after {throttled_at:.1?})"
    );
    took / ideal
}
