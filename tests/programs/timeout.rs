//! A task that never ends, and does not stop when it is asked to.
//!
//! What it is: whole runs with `--timeout`, one such task among many, over workers that have another
//! slot, that have none and end, and that are started again. What it is not: the rule itself
//! (`src/lanes/slot.rs`).
//!
//! Invariant: that task is answered with `timeout`, every other one rightly, and the run ends.

use std::sync::Arc;
use std::thread;

use crate::common::own::{Supervised, own_head, own_worker, serve};
use crate::common::{Ended, Process, Worker, run_head, until};
use teamster::kernel::{Kernel, KernelError, Kernels, Stop};
use teamster::kernels::square;

const COUNT: u64 = 100;
const ENDLESS: u64 = 50;
const JOB: &str = "--timeout 1 --format tsv square --count 100 --work-ms 1";

/// `square`, endless at one n.
struct Endless(Arc<dyn Kernel>);

impl Kernel for Endless {
    fn run(&self, input: &[u8], stop: &Stop, output: &mut Vec<u8>) -> Result<(), KernelError> {
        while input == ENDLESS.to_be_bytes() {
            thread::park();
        }
        self.0.run(input, stop, output)
    }
}

fn endless(setup: &[u8]) -> Result<Arc<dyn Kernel>, String> {
    Ok(Arc::new(Endless(square::open(setup)?)))
}

/// Not a test: the worker or the head that the others start.
#[test]
#[ignore = "started by the other tests"]
fn own_process() {
    serve(Kernels::new().with(square::NAME, endless));
}

fn start(slots: u32) -> Worker {
    Worker::listening(&mut own_worker(
        module_path!(),
        &format!("-l 127.0.0.1:0 -s {slots}"),
    ))
}

#[track_caller]
fn check(ended: Ended) -> Ended {
    let ended = ended.expect(1);
    let rows: Vec<&str> = ended.text().lines().filter(|l| l.contains('\t')).collect();
    let expected = (0..COUNT).map(|n| match n {
        ENDLESS => format!("{n}\ttimeout\t"),
        _ => format!("{n}\tdone\t{}", n * n),
    });
    assert_eq!(rows, Vec::from_iter(expected));
    ended.says("task 50 failed: it ran for longer than --timeout 1 s");
    ended
}

#[test]
fn a_worker_with_another_slot_goes_on() {
    let worker = start(2);
    let ended = check(run_head(&format!("-w {} {JOB}", worker.address)));
    assert_eq!(ended.done_by(&worker.address), COUNT - 1);
    worker.says("task 50 does not stop although its time is over; slots left: 1 of 2");
    // And the next head is told that there is one.
    let ended = run_head(&format!("-w {} --compare square --count 3", worker.address)).expect(0);
    ended.says("on 1 slot");
}

#[test]
fn a_worker_without_another_slot_ends_and_the_others_go_on() {
    let mut workers = [start(1), start(1)];
    let [one, two] = workers.each_ref().map(|worker| &worker.address[..]);
    let ended = check(run_head(&format!("-w {one},{two} {JOB}")));
    assert_eq!(ended.done_by(one) + ended.done_by(two), COUNT - 1);
    let mut codes = Vec::new();
    until("the end of one", || {
        let children = workers.iter_mut().map(|worker| &mut worker.process.child);
        codes = children
            .filter_map(|child| child.try_wait().unwrap())
            .collect();
        !codes.is_empty()
    });
    let codes: Vec<_> = codes.iter().map(|status| status.code()).collect();
    assert_eq!(codes, [Some(1)]);
    let mut said = workers.iter().flat_map(|worker| worker.process.err.all());
    assert!(said.any(|line| line.contains("no slot is left: this worker ends")));
}

#[test]
fn a_worker_that_is_started_again_goes_on() {
    let command = |address: &str| own_worker(module_path!(), &format!("-q -l {address} -s 1"));
    let worker = Supervised::start("127.77.11.1", command);
    let ended = check(run_head(&format!("-w {} {JOB}", worker.address)));
    assert_eq!(ended.done_by(&worker.address), COUNT - 1);
    assert_eq!(worker.deaths(), 1);
}

#[test]
fn a_worker_inside_the_head_is_started_again_by_it() {
    let ended =
        check(Process::start(&mut own_head(module_path!(), &format!("--local 1 {JOB}"))).end());
    ended.says("no slot is left: this worker ends");
}

#[test]
fn a_kernel_that_stops_costs_no_slot() {
    let worker = Worker::start(1);
    let ended = run_head(&format!(
        "-w {} --timeout 0.1 --format tsv square --count 3 --work-ms 600000",
        worker.address
    ));
    let ended = ended.expect(1);
    assert_eq!(ended.text(), "0\ttimeout\t\n1\ttimeout\t\n2\ttimeout\t\n");
    ended.says(&format!(
        "worker {}: 0 done, 3 failed, 0 lost",
        worker.address
    ));
    assert_eq!(worker.process.err.count("slot"), 0);
}
