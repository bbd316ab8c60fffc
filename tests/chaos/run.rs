//! One run under one fault, and the judgement of it.
//!
//! What it is: [`run`]. What it is not: the choice of what to run, or of what a run that met no work
//! means for the whole.
//!
//! Invariant: a run ends, hung or not, and everything it started is gone then.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, Tally};
use crate::fault::inject;
use crate::net::Place;
use crate::plan::{Fault, Plan};
use crate::proxy::{PORT, Proxy};

/// A run in which nothing went wrong that should not.
#[derive(Debug)]
pub struct Report {
    /// Whether the fault met work in flight.
    pub counts: bool,
    pub elapsed: Duration,
    pub lost: u64,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A result is missing.
    Lost,
    /// There is one too many.
    Twice,
    /// The head did not end in time.
    Hung,
    Other,
}

/// A run that failed.
#[derive(Debug)]
pub struct Failure {
    pub kind: Kind,
    pub reason: String,
    /// What the programs printed to standard error.
    pub logs: String,
}

/// Runs it.
pub fn run(plan: &Plan) -> Result<Report, Failure> {
    let other = |reason| (Kind::Other, reason);
    let failure = |(kind, reason), logs| Failure { kind, reason, logs };
    let mut cluster =
        Cluster::new(plan.is_keyed).map_err(|reason| failure(other(reason), String::new()))?;
    let judged = play(plan, &mut cluster);
    let stopped = cluster.stop().map_err(other);
    judged
        .and_then(|report| stopped.map(|()| report))
        .map_err(|reason| failure(reason, cluster.logs()))
}

type Verdict<T> = Result<T, (Kind, String)>;

fn play(plan: &Plan, cluster: &mut Cluster) -> Verdict<Report> {
    let other = |reason| (Kind::Other, reason);
    let expected = plan.work.expected();
    start(plan, cluster).map_err(other)?;
    let start = Instant::now();
    let evidence = inject(plan, cluster).map_err(other)?;
    let Some(status) = cluster.head().wait_until(start + plan.bound) else {
        return Err((Kind::Hung, format!("the head runs after {:?}", plan.bound)));
    };
    let elapsed = start.elapsed();
    if elapsed > plan.bound {
        return Err((Kind::Hung, format!("it took {elapsed:?}")));
    }
    let mut printed = cluster.head().stdout.text();
    if plan.fault.blames_nobody() {
        printed = without_details(&printed).map_err(other)?;
    }
    compare(&printed, &expected)?;
    if status.code() != Some(0) {
        return Err(other(format!("the head ended with {status}")));
    }
    let tallies = cluster.tallies().map_err(other)?;
    check_tallies(plan, &tallies).map_err(other)?;
    cluster.check_processes().map_err(other)?;
    Ok(Report {
        counts: evidence.holds(&tallies, cluster),
        elapsed,
        lost: tallies.iter().map(|tally| tally.lost).sum(),
    })
}

fn start(plan: &Plan, cluster: &mut Cluster) -> Result<(), String> {
    let late = (plan.fault == Fault::Join).then_some(plan.victim);
    for (index, &slots) in plan.slots.iter().enumerate() {
        if late != Some(index) {
            cluster.start_worker(index, slots)?;
        }
    }
    let mut places = [Place::Worker(0), Place::Worker(1)];
    if plan.fault.needs_proxy() {
        cluster.proxy = Some(Proxy::start(&cluster.net, plan.victim)?);
        places[plan.victim] = Place::Switch;
    }
    let workers = places.map(|place| format!("{}:{PORT}", place.address()));
    let workers = workers.join(",");
    let job = plan.work.arguments();
    let mut arguments = vec!["--workers", &workers];
    arguments.extend(job.iter().map(String::as_str));
    if plan.fault.blames_nobody() {
        arguments.extend(["--format", "tsv", "--details"]);
    }
    cluster.start_head(&arguments)
}

/// Makes the text of detailed rows, none of which may count an attempt.
fn without_details(printed: &str) -> Result<String, String> {
    let mut text = String::new();
    for line in printed.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        let [task, "done", _worker, "0", _queue, _run, square] = columns[..] else {
            return Err(format!("not done without a loss: {line:?}"));
        };
        text += &format!("{task} -> {square}\n");
    }
    Ok(text)
}

/// Compares what was printed with the serial run's output, byte for byte.
fn compare(printed: &str, expected: &str) -> Verdict<()> {
    if printed == expected {
        return Ok(());
    }
    let mut balance: HashMap<&str, i64> = HashMap::new();
    expected
        .lines()
        .for_each(|line| *balance.entry(line).or_default() += 1);
    printed
        .lines()
        .for_each(|line| *balance.entry(line).or_default() -= 1);
    let too_many = balance.iter().find(|(_, balance)| **balance < 0);
    let too_few = balance.iter().find(|(_, balance)| **balance > 0);
    Err(match (too_many, too_few) {
        (Some((line, _)), _) if expected.lines().any(|expected| expected == *line) => {
            (Kind::Twice, format!("printed twice: {line:?}"))
        }
        (Some((line, _)), _) => (Kind::Other, format!("printed, but not expected: {line:?}")),
        (None, Some((line, _))) => (Kind::Lost, format!("never printed: {line:?}")),
        (None, None) => (Kind::Other, "printed in another order".into()),
    })
}

fn check_tallies(plan: &Plan, tallies: &[Tally]) -> Result<(), String> {
    let all = format!("{tallies:?}");
    if tallies.iter().any(|tally| tally.failed > 0) {
        return Err(format!("a task failed: {all}"));
    }
    let done: u64 = tallies.iter().map(|tally| tally.done).sum();
    if plan.work.tasks().is_some_and(|tasks| tasks != done) {
        return Err(format!("not one outcome per task: {all}"));
    }
    if plan.fault.loses_nothing() && tallies.iter().any(|tally| tally.lost > 0) {
        return Err(format!("a worker that was only slow lost tasks: {all}"));
    }
    Ok(())
}
