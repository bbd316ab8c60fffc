//! The simulator: the real roles, frames and lanes under virtual time, with faults.
//!
//! What it is: the runner over seeds. `SIM_SEEDS` says how many, `SIM_SEED` replays one, `SIM_TRACE=1`
//! prints each event. What it is not: a test of sockets or threads; nothing here knows either.
//!
//! Invariant: one seed is one run; the hash over all seeds is the same whatever the thread count.

mod blames;
mod disk;
mod faults;
mod job;
mod ledger;
mod lives;
mod node;
mod oracles;
mod pipe;
mod plan;
mod pool;
mod records;
mod rim;
mod run;
mod scenario;
mod trace;
mod world;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use faults::{Counts, Kind};
use plan::Plan;
use run::{Report, Run};
use teamster::channel;

/// Every so many seeds one is run twice and must leave the same trace.
const TWICE_EVERY: u64 = 10;
/// Each kind strikes in flight at least once in so many seeds, on average.
const SEEDS_PER_STRIKE: u64 = 10;

/// What all runs left behind.
#[derive(Default)]
struct Totals {
    hash: u64,
    virtual_us: u64,
    steps: u64,
    pauses: u64,
    hung: u64,
    strikes: Counts,
}

impl Totals {
    fn add(&mut self, seed: u64, report: &Report) {
        // A sum, so that the order in which threads finish does not matter.
        self.hash = self.hash.wrapping_add(trace::mix(seed, report.hash));
        self.virtual_us += report.ended.as_micros();
        self.steps += report.steps;
        self.pauses += report.pauses;
        self.hung += report.hung;
        self.strikes.merge(&report.strikes);
    }

    fn merge(&mut self, other: &Totals) {
        self.hash = self.hash.wrapping_add(other.hash);
        self.virtual_us += other.virtual_us;
        self.steps += other.steps;
        self.pauses += other.pauses;
        self.hung += other.hung;
        self.strikes.merge(&other.strikes);
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a number")),
    )
}

/// One seed; `None` after a failure, which has been printed.
fn run_seed(seed: u64, prints: bool) -> Option<Report> {
    let plan = Plan::new(seed);
    let report = catch(&format!("seed {seed}"), || {
        Run::new(plan.clone(), prints).run()
    });
    if report.is_none() {
        println!("{plan:?}");
        println!(
            "replay: SIM_SEED={seed} SIM_TRACE=1 cargo test --release --test sim -- --nocapture"
        );
    }
    report
}

/// What `work` returns; `None` after a failure, which has been printed.
fn catch<T>(name: &str, work: impl FnOnce() -> T) -> Option<T> {
    let result = catch_unwind(AssertUnwindSafe(work));
    let print = |panic: Box<dyn Any + Send>| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("a panic without words");
        let (oracle, at) = trace::scene();
        println!("{name} fails at {at} of virtual time");
        println!("oracle {oracle}: {text}");
    };
    result.map_err(print).ok()
}

fn check_seed(seed: u64, twice: bool, prints: bool) -> Option<Report> {
    let report = run_seed(seed, prints)?;
    if twice && run_seed(seed, false)?.hash != report.hash {
        println!("seed {seed}\noracle replay: two runs left different traces");
        return None;
    }
    Some(report)
}

/// Ends the process if a seed takes absurdly long by the clock on the wall: a role that loops within
/// one call never comes back to any other oracle.
struct Watch(mpsc::Sender<u64>);

impl Watch {
    const PATIENCE: Duration = Duration::from_secs(20);

    fn new() -> Watch {
        let (begins, begun) = mpsc::channel();
        thread::spawn(move || {
            let mut latest = begun.recv();
            while let Ok(seed) = latest {
                latest = match begun.recv_timeout(Watch::PATIENCE) {
                    Err(mpsc::RecvTimeoutError::Timeout) => {
                        println!("oracle hang: seed {seed} does not come to an end");
                        std::process::exit(1);
                    }
                    Ok(seed) => Ok(seed),
                    Err(mpsc::RecvTimeoutError::Disconnected) => Err(mpsc::RecvError),
                };
            }
        });
        Watch(begins)
    }

    fn begin(&self, seed: u64) {
        self.0
            .send(seed)
            .expect("the watch outlives what it watches");
    }
}

/// Runs all seeds on all processors; `None` if one failed.
fn run_seeds(seeds: u64) -> Option<Totals> {
    let next = AtomicU64::new(0);
    let failed = AtomicBool::new(false);
    let work = || {
        let mut totals = Totals::default();
        let watch = Watch::new();
        while !failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                break;
            }
            watch.begin(seed);
            match check_seed(seed, seed.is_multiple_of(TWICE_EVERY), false) {
                Some(report) => totals.add(seed, &report),
                None => failed.store(true, Ordering::Relaxed),
            }
        }
        totals
    };
    let mut totals = Totals::default();
    thread::scope(|scope| {
        let count = thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            totals.merge(&thread.join().expect("failures are caught"));
        }
    });
    (!failed.into_inner()).then_some(totals)
}

fn print_totals(seeds: u64, totals: &Totals) {
    let hours = totals.virtual_us as f64 / 3.6e9;
    let list = |counts: &[u64]| -> String {
        let pairs = Kind::NAMES.iter().zip(counts);
        let words: Vec<String> = pairs
            .map(|(name, count)| format!("{name}={count}"))
            .collect();
        words.join(" ")
    };
    println!(
        "sim: {} steps, {} pauses, {} threads hung, struck {}",
        totals.steps,
        totals.pauses,
        totals.hung,
        list(&totals.strikes.all)
    );
    println!(
        "sim: {seeds} seeds, {hours:.1} virtual hours, faults {}, hash {:016x}",
        list(&totals.strikes.in_flight),
        totals.hash
    );
}

fn main() {
    // The text of a failure is printed with its seed, not where it was thrown.
    std::panic::set_hook(Box::new(|_| {}));
    if let Some(seed) = number("SIM_SEED") {
        let watch = Watch::new();
        watch.begin(seed);
        let prints = number("SIM_TRACE").is_some_and(|on| on > 0);
        match check_seed(seed, true, prints) {
            Some(report) => println!(
                "seed {seed}: ended at {}, {} steps, hash {:016x}",
                report.ended, report.steps, report.hash
            ),
            None => std::process::exit(1),
        }
        return;
    }
    if catch("a scenario", scenario::check).is_none() {
        std::process::exit(1);
    }
    let seeds = number("SIM_SEEDS").unwrap_or(400);
    let Some(totals) = run_seeds(seeds) else {
        std::process::exit(1);
    };
    print_totals(seeds, &totals);
    // Few seeds scatter.
    let slack = match seeds {
        0..1_000 => 4,
        1_000..5_000 => 2,
        _ => 1,
    };
    let floor = seeds / SEEDS_PER_STRIKE / slack;
    for (kind, &count) in Kind::ALL.into_iter().zip(&totals.strikes.in_flight) {
        let is_possible = kind != Kind::Garble || channel::IS_AVAILABLE;
        if is_possible && count < floor {
            let name = Kind::NAMES[kind as usize];
            println!(
                "oracle fault-floor: {name} struck in flight {count} times, fewer than {floor}"
            );
            std::process::exit(1);
        }
    }
}
