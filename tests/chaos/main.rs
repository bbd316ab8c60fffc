//! The real programs on a network of their own, and what happens when it, or they, fail.
//!
//! What it is: the three machines of the README in network namespaces; a short selection of faults
//! with every `cargo test`, and the long seeded suite. What it is not: able to run everywhere; where
//! there is no root, no `ip` or no namespaces a line `skipped: ` says so.
//!
//! The suite: `CHAOS_RUNS=200 cargo test --release --test chaos -- --ignored --nocapture`
//! - `CHAOS_RUNS` how many runs must count (30: each fault twice)
//! - `CHAOS_SEED` seed of the first (1); each has the next one, and a seed alone repeats its run
//! - `CHAOS_FAULT` only this fault; otherwise the seeds take turns through all of them
//! - `CHAOS_PARALLEL` how many at a time (8); most of the time they wait
//!
//! Invariant: what is printed is compared with a serial run, byte for byte.

mod cluster;
mod fault;
mod job;
mod net;
mod plan;
mod process;
mod proxy;
mod quota;
mod run;
mod suite;

use std::str::FromStr;
use std::time::{Duration, Instant};

use cluster::Cluster;
use job::Work;
use plan::{Fault, Plan};
use suite::{say, suite};
use teamster::channel::IS_AVAILABLE;

/// The command of the README on the addresses of the README.
#[test]
fn the_readmes_command_uses_both_workers() {
    if is_skipped() {
        return;
    }
    let mut cluster = Cluster::new(false).unwrap();
    for index in 0..2 {
        cluster.start_worker(index, 1).unwrap();
    }
    // Ten tasks of one second each, serially and then on both.
    let (stdout, stderr) = finish(&mut cluster, "");
    let expected: String = (0..10).map(|n| format!("{n} -> {}\n", n * n)).collect();
    assert_eq!(stdout, expected);
    assert!(stderr.contains("Results: identical\n"), "{stderr}");
    assert!(stderr.contains("x on 2 slots\n"), "{stderr}");

    let (stdout, _) = finish(&mut cluster, "square --count 100 --work-ms 5");
    let expected: String = (0..100).map(|n| format!("{n} -> {}\n", n * n)).collect();
    assert_eq!(stdout, expected);

    let (stdout, _) = finish(&mut cluster, "primes 1 100_000_000");
    assert_eq!(stdout, "5761455\n");
    cluster.stop().unwrap();
}

/// Runs the head to its good end; returns what it printed.
fn finish(cluster: &mut Cluster, job: &str) -> (String, String) {
    let mut arguments = vec!["--workers", "10.0.0.11:5000,10.0.0.12:5000"];
    arguments.extend(job.split_whitespace());
    cluster.start_head(&arguments).unwrap();
    let status = cluster
        .head()
        .wait_until(Instant::now() + Duration::from_secs(60));
    let (stdout, stderr) = (cluster.head().stdout.text(), cluster.head().stderr.text());
    assert_eq!(status.and_then(|s| s.code()), Some(0), "{job}: {stderr}");
    let tallies = cluster.tallies().unwrap();
    assert!(tallies.iter().all(|t| t.done > 0), "{job}: {tallies:?}");
    cluster.check_processes().unwrap();
    (stdout, stderr)
}

/// A few quick faults with every `cargo test`.
#[test]
fn quick_faults_lose_nothing() {
    if is_skipped() {
        return;
    }
    let mut faults = vec![Fault::Kill, Fault::Reset, Fault::Join, Fault::Drain];
    faults.extend(IS_AVAILABLE.then_some(Fault::Corrupt));
    let plan = |(seed, fault)| Plan::new(seed, Some(fault));
    let plans: Vec<_> = (1..).zip(faults).map(plan).collect();
    let all_sleep = plans.iter().all(|plan| plan.work != Work::Primes);
    assert!(all_sleep, "computing takes long without optimisation");
    let parallel = plans.len();
    suite(plans, parallel);
}

/// The suite.
#[test]
#[ignore = "takes minutes; see the head of this file"]
fn faults_lose_nothing() {
    if is_skipped() {
        return;
    }
    let name: Option<String> = variable("CHAOS_FAULT");
    let forced = name.map(|name| {
        let found = Fault::ALL.into_iter().find(|fault| fault.name() == name);
        found.unwrap_or_else(|| panic!("CHAOS_FAULT={name} is none of {:?}", Fault::ALL))
    });
    let runs = variable("CHAOS_RUNS").unwrap_or(2 * Fault::ALL.len() as u64);
    let first = variable("CHAOS_SEED").unwrap_or(1);
    let mut plans: Vec<_> = (first..first + runs)
        .map(|s| Plan::new(s, forced))
        .collect();
    if let Some(reason) = quota::obstacle() {
        plans.retain(|plan| plan.fault != Fault::Quota);
        say(&format!("skipped: fault quota: {reason}"));
    }
    plans.retain(|plan| IS_AVAILABLE || !plan.is_keyed);
    suite(plans, variable("CHAOS_PARALLEL").unwrap_or(8));
}

/// Not a test: the process in which the proxy runs. Without its variable it does nothing.
#[test]
#[ignore = "started by the suite"]
fn proxy_process() {
    proxy::serve();
}

fn is_skipped() -> bool {
    let obstacle = net::obstacle();
    if let Some(reason) = obstacle {
        say(&format!(
            "skipped: chaos: no network namespaces here: {reason}"
        ));
    }
    obstacle.is_some()
}

/// An environment variable; one that cannot be read is a mistake.
fn variable<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    let value = text.parse();
    Some(value.unwrap_or_else(|_| panic!("{name}={text} makes no sense")))
}
