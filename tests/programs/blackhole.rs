//! Workers that answer every task at once, and with an error.
//!
//! What it is: workers that are broken beside others that are not, and tasks that really fail, told
//! apart by whole runs of the head. What it is not: the rule itself (`src/head/trust.rs`).
//!
//! Invariant: a broken worker costs no task; a task that fails does so once, and nobody is blamed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::common::{Ended, Run, Worker, assert_same_text, run_head, squares, worker_thread};
use teamster::kernel::{Kernel, KernelError, Kernels, Stop};
use teamster::kernels::square;

/// A kernel that is a function of n, without simulated work.
struct Answer(fn(u64) -> Result<(), KernelError>);

impl Kernel for Answer {
    fn run(&self, input: &[u8], stop: &Stop, output: &mut Vec<u8>) -> Result<(), KernelError> {
        self.0(u64::from_be_bytes(input.try_into().unwrap()))?;
        square::open(&[0; 4])?.run(input, stop, output)
    }
}

type Opened = Result<Arc<dyn Kernel>, String>;

/// A worker in this process that answers so.
fn answering(open: fn(&[u8]) -> Opened) -> String {
    worker_thread(Kernels::new().with(square::NAME, open), 1 << 20).to_string()
}

fn fails_all(_: &[u8]) -> Opened {
    Ok(Arc::new(Answer(|_| Err("no such library".into()))))
}

fn cannot_run(_: &[u8]) -> Opened {
    Ok(Arc::new(Answer(|_| {
        Err(KernelError::Host("the disk is full".into()))
    })))
}

/// Lines that say that somebody is set aside.
fn set_aside(ended: &Ended) -> Vec<&String> {
    let lines = ended.err.iter();
    lines.filter(|line| line.contains("set aside")).collect()
}

/// A run in which `broken` is given a second chance, and needs it no less than the first.
fn beside_a_good_one(broken: &str) -> Ended {
    let good = Worker::start(2);
    let ended = run_head(&format!(
        "-w {broken},{} square --count 1000 --work-ms 14",
        good.address
    ));
    let ended = ended.expect(0);
    assert_same_text(ended.text(), &squares(1000));
    assert_eq!(ended.done_by(&good.address), 1000);
    ended.says(&format!("worker {broken}: 0 done, 0 failed, 0 lost"));
    let aside = set_aside(&ended);
    let named = format!("worker {broken} cannot do what the others can; it is set aside for ");
    assert!(aside.iter().all(|line| line.contains(&named)), "{aside:?}");
    // At the start, when it was tried again after that, and so on in a run that takes longer.
    assert!(aside.len() >= 2, "{:#?}", ended.err);
    for (line, wait_s) in aside.iter().zip([5, 10, 20, 40]) {
        assert!(line.contains(&format!("for {wait_s} s")), "{aside:?}");
    }
    ended
}

#[test]
fn a_worker_that_fails_everything_eats_no_task() {
    let ended = beside_a_good_one(&answering(fails_all));
    assert!(
        !ended
            .err
            .iter()
            .any(|line| line.contains("no such library"))
    );
}

#[test]
fn a_worker_that_can_run_nothing_eats_no_task() {
    let broken = answering(cannot_run);
    let ended = beside_a_good_one(&broken);
    let said = ended
        .err
        .iter()
        .filter(|line| line.contains("the disk is full"));
    assert_eq!(said.count(), 1, "aloud once: {:#?}", ended.err);
    ended.says(&format!("worker {broken} could not run task "));
}

/// Whether the worker of `fails_until_repaired` is still broken.
static IS_BROKEN: AtomicBool = AtomicBool::new(true);

fn fails_until_repaired(_: &[u8]) -> Opened {
    Ok(Arc::new(Answer(|_| {
        match IS_BROKEN.load(Ordering::SeqCst) {
            true => Err("not yet".into()),
            false => Ok(()),
        }
    })))
}

#[test]
fn a_worker_that_was_repaired_is_used_again() {
    let (broken, good) = (answering(fails_until_repaired), Worker::start(1));
    let head = Run::start(&format!(
        "-w {broken},{} square --count 1000 --work-ms 14",
        good.address
    ));
    head.process.err.wait_for("set aside for 5 s");
    IS_BROKEN.store(false, Ordering::SeqCst);
    let ended = head.end().expect(0);
    assert_same_text(ended.text(), &squares(1000));
    assert_eq!(set_aside(&ended).len(), 1);
    assert!(ended.done_by(&broken) > 0);
    assert_eq!(ended.done_by(&broken) + ended.done_by(&good.address), 1000);
}

/// How often each n was run that fails.
static RUNS: Mutex<BTreeMap<u64, u32>> = Mutex::new(BTreeMap::new());

fn fails_some(_: &[u8]) -> Opened {
    Ok(Arc::new(Answer(|n| {
        if n % 50 != 7 {
            return Ok(());
        }
        *RUNS.lock().unwrap().entry(n).or_default() += 1;
        Err(KernelError::Failed("seven".into()))
    })))
}

#[test]
fn tasks_that_fail_do_so_once_and_nobody_is_set_aside() {
    let (a, b) = (answering(fails_some), answering(fails_some));
    let ended = run_head(&format!("-w {a},{b} square --count 1000 --format tsv")).expect(1);
    for (n, line) in (0_u64..).zip(ended.text().lines()) {
        let expected = match n % 50 {
            7 => format!("{n}\tfailed\t"),
            _ => format!("{n}\tdone\t{}", n * n),
        };
        assert_eq!(line, expected);
    }
    let runs = RUNS.lock().unwrap();
    assert_eq!(
        runs.keys().copied().collect::<Vec<_>>(),
        (7..1000).step_by(50).collect::<Vec<_>>()
    );
    assert!(runs.values().all(|&runs| runs == 1), "final: {runs:?}");
    let failures = ended
        .err
        .iter()
        .filter(|line| line.ends_with(" failed: seven"));
    assert_eq!(failures.count(), 20);
    assert!(set_aside(&ended).is_empty(), "{:#?}", ended.err);
    assert_eq!(ended.done_by(&a) + ended.done_by(&b), 980);
}

#[test]
fn a_job_that_fails_everywhere_fails_and_ends() {
    let (a, b) = (answering(fails_all), answering(fails_all));
    for workers in [a.clone(), format!("{a},{b}")] {
        let ended = run_head(&format!("-w {workers} square --count 1000")).expect(1);
        assert_eq!(ended.text(), "");
        let failures = ended
            .err
            .iter()
            .filter(|line| line.ends_with(": no such library"));
        assert_eq!(failures.count(), 1000);
        assert!(set_aside(&ended).is_empty());
    }
    let ended = run_head(&format!("-w {a} square --count 1000 --max-failures 9")).expect(1);
    ended.says("tasks failed: ending early (--max-failures)");
}

#[test]
fn without_anybody_who_can_run_it_the_head_gives_up() {
    let (a, b) = (answering(cannot_run), answering(cannot_run));
    for workers in [a.clone(), format!("{a},{b}")] {
        let ended = run_head(&format!("-w {workers} --give-up 0.5 square --count 1000")).expect(3);
        assert_eq!(ended.text(), "");
        ended.says("no worker could be used for 0.5 s (--give-up): giving up");
    }
}
