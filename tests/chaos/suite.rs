//! Many runs, several at a time.
//!
//! What it is: [`suite`], which counts the runs whose fault met work, prints a line for each and a
//! summary. What it is not: a run.
//!
//! Invariant: as many runs are counted as were asked for, or it fails.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use crate::plan::{Fault, Plan};
use crate::run::{Failure, Kind, Report, run};

/// A fault that so often in a row met no work is not the one that was meant.
const REPEATS_MAX: u32 = 5;

/// Results so far.
#[derive(Debug, Default)]
struct Score {
    counted: BTreeMap<Fault, u32>,
    repeated: u32,
    failures: Vec<Kind>,
    /// Of runs that counted; attempts given back.
    lost_attempts: u64,
}

/// Runs `plans`, `parallel` at a time, and fails if any of them does.
pub fn suite(mut plans: Vec<Plan>, parallel: usize) {
    let start = Instant::now();
    let asked = plans.len();
    // The longest first, so that none is left over at the end.
    plans.sort_by_key(|plan| std::cmp::Reverse(plan.time()));
    let queue = Mutex::new(VecDeque::from(plans));
    let score = Mutex::new(Score::default());
    let next = || queue.lock().expect("no run panics").pop_front();
    thread::scope(|scope| {
        for _ in 0..parallel.min(asked) {
            scope.spawn(|| {
                while let Some(plan) = next() {
                    count(plan, &score);
                }
            });
        }
    });
    let score = score.into_inner().expect("no run panics");
    summarise(&score, start);
    assert!(score.failures.is_empty(), "failed: {:?}", score.failures);
    assert_eq!(score.counted.values().sum::<u32>(), asked as u32);
}

/// Runs a plan, and others like it until one counts.
fn count(mut plan: Plan, score: &Mutex<Score>) {
    for _ in 0..REPEATS_MAX {
        let result = run(&plan);
        report(&plan, &result);
        let mut score = score.lock().expect("no run panics");
        match result {
            Ok(report) if report.counts => {
                *score.counted.entry(plan.fault).or_default() += 1;
                score.lost_attempts += report.lost;
                return;
            }
            Ok(_) => score.repeated += 1,
            Err(failure) => return score.failures.push(failure.kind),
        }
        plan = plan.again();
    }
    say(&format!(
        "FAILED {}: it never met any work",
        plan.fault.name()
    ));
    let mut score = score.lock().expect("no run panics");
    score.failures.push(Kind::Other);
}

fn report(plan: &Plan, result: &Result<Report, Failure>) {
    let what = format!(
        "seed {} {} at {:.1} s for {:.1} s on worker {}, slots {:?}, {:?}",
        plan.seed,
        plan.fault.name(),
        plan.at.as_secs_f64(),
        plan.lasts.as_secs_f64(),
        plan.victim,
        plan.slots,
        plan.work,
    );
    match result {
        Ok(report) => say(&format!(
            "{} {what}: {:.1} s of at most {:.0}, {} attempts lost",
            if report.counts { "ok    " } else { "missed" },
            report.elapsed.as_secs_f64(),
            plan.bound.as_secs_f64(),
            report.lost,
        )),
        Err(failure) => say(&format!(
            "FAILED {what}: {:?}: {}\n{}\n--- again with CHAOS_RUNS=1 CHAOS_SEED={} CHAOS_FAULT={}",
            failure.kind,
            failure.reason,
            failure.logs.trim_end(),
            plan.seed,
            plan.fault.name(),
        )),
    }
}

fn summarise(score: &Score, start: Instant) {
    let of = |kind| score.failures.iter().filter(|f| **f == kind).count();
    let faults = score.counted.iter();
    let faults: Vec<_> = faults
        .map(|(fault, count)| format!("{}={count}", fault.name()))
        .collect();
    say(&format!(
        "chaos: {} runs counted, {} lost, {} recorded twice, {} hung, {} failed otherwise; {}; \
         {} attempts lost and made again, {} runs met no work and were repeated, {:.0} s",
        score.counted.values().sum::<u32>(),
        of(Kind::Lost),
        of(Kind::Twice),
        of(Kind::Hung),
        of(Kind::Other),
        faults.join(" "),
        score.lost_attempts,
        score.repeated,
        start.elapsed().as_secs_f64(),
    ));
}

/// One line, past the test harness: it holds back what tests print that pass.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
