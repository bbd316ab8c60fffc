//! The measurements, one function each.
//!
//! What it is: which processes take part and which figures come of it. What it is not: the processes
//! themselves.
//!
//! Invariant: within a round everything that is compared runs one after the other, never at once.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use teamster::channel;
use teamster::limits::CREDIT_TASKS;

use crate::figures::Figures;
use crate::load::{ECHO_BYTES, Work, rounds_in, spin};
use crate::process::{Pair, Servers, own, run, shipped_head, shipped_worker};
use crate::roles::one_slot;
use crate::seal;

/// A measurement.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Section {
    Empty,
    Rtt,
    Echo,
    Short,
    Mix,
    Ten,
    Many,
    Fair,
    Journal,
    Keyed,
    Map,
    Long,
}

impl Section {
    pub const ALL: [Section; 12] = [
        Section::Empty,
        Section::Rtt,
        Section::Echo,
        Section::Short,
        Section::Mix,
        Section::Ten,
        Section::Many,
        Section::Fair,
        Section::Journal,
        Section::Keyed,
        Section::Map,
        Section::Long,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Section::Empty => "empty",
            Section::Rtt => "rtt",
            Section::Echo => "echo",
            Section::Short => "short",
            Section::Mix => "mix",
            Section::Ten => "ten",
            Section::Many => "many",
            Section::Fair => "fair",
            Section::Journal => "journal",
            Section::Keyed => "keyed",
            Section::Map => "map",
            Section::Long => "long",
        }
    }

    pub fn about(self) -> &'static str {
        match self {
            Section::Empty => "tasks of nothing on two one-slot workers",
            Section::Rtt => "one task at a time on one worker",
            Section::Echo => "1 MiB out and back on two workers",
            Section::Short => "tasks of 10 us of computing on two one-slot workers",
            Section::Mix => "the same, 1 % of them 10 ms",
            Section::Ten => "ten tasks of one second on two workers, the shipped programs",
            Section::Many => "empty tasks on 2 and on 1000 workers that hold 64 each",
            Section::Fair => "ten tasks of 50 ms on two two-slot workers, the shipped programs",
            Section::Journal => "a journal on this disk, two one-slot workers",
            Section::Keyed => "keyed sessions, two one-slot workers",
            Section::Map => "programs on two one-slot workers, the shipped programs",
            Section::Long => "10^8 empty tasks on two one-slot workers",
        }
    }

    pub fn measure(self, bench: &Bench, figures: &mut Figures) {
        match self {
            Section::Empty => empty(bench, figures),
            Section::Rtt => rtt(bench, figures),
            Section::Echo => echo(bench, figures),
            Section::Short => short(bench, figures),
            Section::Mix => mix(bench, figures),
            Section::Ten => ten(bench, figures),
            Section::Many => many(bench, figures),
            Section::Fair => fair(bench, figures),
            Section::Journal => journal(bench, figures),
            Section::Keyed => keyed(bench, figures),
            Section::Map => map(bench, figures),
            Section::Long => long(figures),
        }
    }
}

/// How thoroughly.
pub struct Bench {
    pub is_quick: bool,
}

impl Bench {
    fn rounds(&self) -> usize {
        if self.is_quick { 3 } else { 5 }
    }

    fn count(&self, count: u64) -> u64 {
        if self.is_quick { count / 10 } else { count }
    }
}

const TEN_US: Duration = Duration::from_micros(10);

/// Two one-slot workers with the kernels of the measurement.
fn own_workers() -> Servers {
    Servers::start(2, || own("worker", &one_slot()))
}

/// Runs a load on `workers` to its end; returns the figures of its head.
fn load(work: &str, count: u64, workers: &Servers, more: &[Pair<'_>]) -> BTreeMap<String, f64> {
    let addresses = workers.addresses();
    let args: &[Pair<'_>] = &[("work", &work), ("count", &count), ("workers", &addresses)];
    run(own("head", &[args, more].concat()))
}

/// Squares `count` numbers without Teamster; returns the figures.
fn floor(servers: &Servers, count: u64, in_flight: u32) -> BTreeMap<String, f64> {
    let addresses = servers.addresses();
    let args: &[Pair<'_>] = &[
        ("count", &count),
        ("in_flight", &in_flight),
        ("workers", &addresses),
    ];
    run(own("floor", args))
}

fn floor_servers(count: usize, hands_over: bool) -> Servers {
    Servers::start(count, || own("floor-server", &[("hand_over", &hands_over)]))
}

/// Numbers in flight below what the usual credit comes to. A batch pays for its wake-ups whatever is
/// in it, the floor's as well as ours, so that each number has a ratio of its own.
const FEWER_IN_FLIGHT: [u32; 2] = [4096, 2048];

fn empty(bench: &Bench, figures: &mut Figures) {
    let workers = Servers::start(2, || shipped_worker(1));
    let fewer = FEWER_IN_FLIGHT.map(|in_flight| {
        let credit = in_flight / 2;
        let args: &[Pair<'_>] = &[("workers", &1), ("slots", &1), ("credit", &credit)];
        (in_flight, Servers::start(2, || own("worker", args)))
    });
    let (echo, hand_over) = (floor_servers(2, false), floor_servers(2, true));
    let (count, floor_count) = (bench.count(8_000_000), bench.count(40_000_000));
    let in_flight = 2 * CREDIT_TASKS;
    for _ in 0..bench.rounds() {
        let cpu_before = workers.cpu();
        let head = load("empty", count, &workers, &[]);
        let cpu_us = (workers.cpu() - cpu_before).as_secs_f64() * 1e6 / count as f64;
        for (servers, key) in [
            (&echo, "empty_floor_per_s"),
            (&hand_over, "handover_floor_per_s"),
        ] {
            let seconds = floor(servers, floor_count, in_flight)["seconds"];
            figures.add(key, floor_count as f64 / seconds);
        }
        figures.add("empty_per_s", count as f64 / head["seconds"]);
        figures.add_ratio("empty_of_floor", "empty_per_s", "empty_floor_per_s");
        figures.add_ratio("empty_of_handover", "empty_per_s", "handover_floor_per_s");
        figures.add("empty_in_flight_max", head["in_flight_max"]);
        figures.add("head_cpu_us_per_task", head["cpu_us_per_task"]);
        figures.add("worker_cpu_us_per_task", cpu_us);
        figures.add("cpu_us_per_task", head["cpu_us_per_task"] + cpu_us);
        figures.add("head_peak_kib", head["peak_kib"]);
        figures.add("worker_peak_kib", workers.peak_kib());
        for (in_flight, workers) in &fewer {
            let head = load("empty", count, workers, &[]);
            let seconds = floor(&hand_over, floor_count, *in_flight)["seconds"];
            let ours = format!("empty_{in_flight}_per_s");
            let floors = format!("handover_floor_{in_flight}_per_s");
            figures.add(&ours, count as f64 / head["seconds"]);
            figures.add(&floors, floor_count as f64 / seconds);
            let ratio = format!("empty_of_handover_{in_flight}");
            figures.add_ratio(&ratio, &ours, &floors);
        }
    }
}

fn rtt(bench: &Bench, figures: &mut Figures) {
    // The credit keeps the head from sending the next one ahead.
    let worker: &[Pair<'_>] = &[("workers", &1), ("slots", &1), ("credit", &1)];
    let worker = Servers::start(1, || own("worker", worker));
    let hand_over = floor_servers(1, true);
    let count = bench.count(5_000);
    // Where the system places the threads makes a factor of two for the whole life of a process, so
    // there are many short ones.
    for _ in 0..5 * bench.rounds() {
        let head = load("empty", count, &worker, &[("rtt", &true)]);
        let floor = floor(&hand_over, count, 1);
        figures.add("rtt_p50_us", head["p50_us"]);
        figures.add("rtt_floor_p50_us", floor["p50_us"]);
        figures.add_ratio("rtt_of_floor", "rtt_p50_us", "rtt_floor_p50_us");
        figures.add("rtt_p99_us", head["p99_us"]);
        figures.add("rtt_floor_p99_us", floor["p99_us"]);
    }
}

fn echo(bench: &Bench, figures: &mut Figures) {
    let workers = own_workers();
    let floor = Servers::start(2, || own("bulk-server", &[]));
    let count = bench.count(2000);
    let mb_per_s = |seconds: f64| (count as usize * ECHO_BYTES) as f64 / 1e6 / seconds;
    for _ in 0..bench.rounds() {
        let head = load("echo", count, &workers, &[]);
        let addresses = floor.addresses();
        let floor = run(own("bulk", &[("count", &count), ("workers", &addresses)]));
        figures.add("echo_mb_s", mb_per_s(head["seconds"]));
        figures.add("echo_floor_mb_s", mb_per_s(floor["seconds"]));
        figures.add_ratio("echo_of_floor", "echo_mb_s", "echo_floor_mb_s");
    }
}

/// Tasks per second of two threads that have all tasks at hand.
fn ideal(work: Work, count: u64) -> f64 {
    let next = AtomicU64::new(0);
    let start = Instant::now();
    let compute = || {
        loop {
            let task = next.fetch_add(1, Ordering::Relaxed);
            if task >= count {
                return;
            }
            spin(work.rounds(task));
        }
    };
    thread::scope(|scope| {
        scope.spawn(compute);
        scope.spawn(compute);
    });
    count as f64 / start.elapsed().as_secs_f64()
}

fn short(bench: &Bench, figures: &mut Figures) {
    let workers = own_workers();
    let (count, rounds) = (bench.count(300_000), rounds_in(TEN_US));
    for _ in 0..bench.rounds() {
        let head = load("spin", count, &workers, &[("rounds", &rounds)]);
        let per_s = count as f64 / head["seconds"];
        figures.add("short_per_s", per_s);
        figures.add("short_ideal_per_s", ideal(Work::Spin { rounds }, count));
        figures.add("short_of_slots", per_s / (2.0 / TEN_US.as_secs_f64()));
        figures.add_ratio("short_of_ideal", "short_per_s", "short_ideal_per_s");
    }
}

fn mix(bench: &Bench, figures: &mut Figures) {
    let workers = own_workers();
    let (count, rounds) = (bench.count(40_000), rounds_in(TEN_US));
    for _ in 0..bench.rounds() {
        let head = load("mix", count, &workers, &[("rounds", &rounds)]);
        figures.add("mix_per_s", count as f64 / head["seconds"]);
        figures.add("mix_ideal_per_s", ideal(Work::Mix { rounds }, count));
        figures.add_ratio("mix_of_ideal", "mix_per_s", "mix_ideal_per_s");
        figures.add("mix_wait_p50_us", head["p50_us"]);
        figures.add("mix_wait_p99_us", head["p99_us"]);
    }
}

/// Runs the shipped head to its end; returns how long that takes.
fn time(mut head: Command) -> f64 {
    let start = Instant::now();
    let ended = head.output().expect("the program starts");
    let seconds = start.elapsed().as_secs_f64();
    assert!(ended.status.success(), "{head:?}: {}", ended.status);
    let squares: String = (0..10).map(|n| format!("{n} -> {}\n", n * n)).collect();
    assert_eq!(String::from_utf8_lossy(&ended.stdout), squares);
    seconds
}

fn ten_tasks(workers: &Servers, work_ms: u32) -> Command {
    let addresses = workers.addresses();
    shipped_head(&format!(
        "-w {addresses} square --count 10 --work-ms {work_ms}"
    ))
}

fn ten(bench: &Bench, figures: &mut Figures) {
    let workers = Servers::start(2, || shipped_worker(1));
    for _ in 0..bench.rounds() {
        figures.add("ten_s", time(ten_tasks(&workers, 1000)));
    }
}

fn many(bench: &Bench, figures: &mut Figures) {
    // So many slots that the credit is all they are given, whatever their rate: equal visits.
    const CREDIT: u32 = 64;
    let workers = |count: u32| {
        let args: &[Pair<'_>] = &[("workers", &count), ("slots", &CREDIT), ("credit", &CREDIT)];
        Servers::start(1, || own("worker", args))
    };
    let (few, many) = (workers(2), workers(1000));
    let count = bench.count(4_000_000);
    for _ in 0..bench.rounds() {
        for (workers, cpu, visit) in [
            (&few, "head_cpu_us_per_task_2", "tasks_per_visit_2"),
            (&many, "head_cpu_us_per_task_1000", "tasks_per_visit_1000"),
        ] {
            let head = load("empty", count, workers, &[]);
            figures.add(cpu, head["cpu_us_per_task"]);
            figures.add(visit, head["tasks_per_visit"]);
        }
        let (of, to) = ("head_cpu_us_per_task_1000", "head_cpu_us_per_task_2");
        figures.add_ratio("many_of_two", of, to);
    }
}

fn fair(bench: &Bench, figures: &mut Figures) {
    const WORK_MS: u32 = 50;
    let half = Servers::start(2, || shipped_worker(1));
    let whole = Servers::start(2, || shipped_worker(2));
    for _ in 0..bench.rounds() {
        figures.add("fair_alone_s", time(ten_tasks(&half, WORK_MS)));
        let others = [
            ("fair", 1_000_000, WORK_MS),
            // As many as there can be: they last for longer than the ten.
            ("fair_flood", 1_u64 << 32, 0),
        ];
        for (key, count, work_ms) in others {
            let addresses = whole.addresses();
            let other = format!("-w {addresses} square --count {count} --work-ms {work_ms}");
            let mut other = shipped_head(&other);
            let mut other = other.stdout(Stdio::piped()).spawn().expect("it starts");
            let mut results = BufReader::new(other.stdout.take().expect("piped"));
            let mut first = String::new();
            results.read_line(&mut first).expect("it has begun");
            let drain = thread::spawn(move || std::io::copy(&mut results, &mut std::io::sink()));
            figures.add(&format!("{key}_s"), time(ten_tasks(&whole, WORK_MS)));
            other.kill().expect("it is ours");
            other.wait().expect("it is ours");
            let _ = drain.join().expect("no panic");
            figures.add_ratio(
                &format!("{key}_of_alone"),
                &format!("{key}_s"),
                "fair_alone_s",
            );
        }
    }
}

fn journal(bench: &Bench, figures: &mut Figures) {
    let workers = own_workers();
    let rounds_1ms = rounds_in(Duration::from_millis(1));
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let path = folder.path().join("journal").display().to_string();
    let loads = [
        ("", "empty", 0, bench.count(4_000_000)),
        ("_1ms", "spin", rounds_1ms, bench.count(4_000)),
    ];
    for _ in 0..bench.rounds() {
        for (suffix, work, rounds, count) in loads {
            let rounds: Pair<'_> = ("rounds", &rounds);
            let without = load(work, count, &workers, &[rounds])["seconds"];
            let with = load(work, count, &workers, &[rounds, ("journal", &path)])["seconds"];
            std::fs::remove_file(&path).expect("it was written");
            figures.add(
                &format!("unjournalled{suffix}_per_s"),
                count as f64 / without,
            );
            figures.add(&format!("journalled{suffix}_per_s"), count as f64 / with);
            figures.add(&format!("journalled{suffix}_of_without"), without / with);
        }
    }
}

fn keyed(bench: &Bench, figures: &mut Figures) {
    if !channel::IS_AVAILABLE {
        return;
    }
    let is_keyed: Pair<'_> = ("keyed", &true);
    let without = own_workers();
    let with = Servers::start(2, || {
        own("worker", &[&one_slot()[..], &[is_keyed]].concat())
    });
    let rounds_1ms = rounds_in(Duration::from_millis(1));
    let loads = [
        ("", "empty", 0, bench.count(4_000_000)),
        ("_1ms", "spin", rounds_1ms, bench.count(4_000)),
    ];
    let count = bench.count(1000);
    for _ in 0..bench.rounds() {
        for (suffix, work, rounds, count) in loads {
            let rounds: Pair<'_> = ("rounds", &rounds);
            let unkeyed = load(work, count, &without, &[rounds])["seconds"];
            let keyed = load(work, count, &with, &[rounds, is_keyed])["seconds"];
            figures.add(&format!("unkeyed{suffix}_per_s"), count as f64 / unkeyed);
            figures.add(&format!("keyed{suffix}_per_s"), count as f64 / keyed);
            figures.add(&format!("keyed{suffix}_of_without"), unkeyed / keyed);
        }
        let echoes = load("echo", count, &with, &[is_keyed])["seconds"];
        let mb = (count as usize * ECHO_BYTES) as f64 / 1e6;
        figures.add("keyed_echo_mb_s", mb / echoes);
        figures.add("seal_mb_s", mb / seal::seconds(count));
        figures.add_ratio("keyed_echo_of_seal", "keyed_echo_mb_s", "seal_mb_s");
    }
}

/// Programs per second of two threads that start one after another and wait for it.
fn spawn(count: u64) -> f64 {
    let start = Instant::now();
    let work = || {
        for _ in 0..count / 2 {
            let status = Command::new("/bin/true").status();
            assert!(status.expect("it starts").success());
        }
    };
    thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    count as f64 / start.elapsed().as_secs_f64()
}

/// Lines per second through `head map` with these words behind it.
fn mapped(workers: &Servers, count: u64, words: &[&str]) -> f64 {
    let start = Instant::now();
    let mut seq = Command::new("seq");
    let seq = seq.arg(count.to_string()).stdout(Stdio::piped()).spawn();
    let mut seq = seq.expect("it starts");
    let mut head = shipped_head(&format!("-w {} map", workers.addresses()));
    head.args(words).stdin(seq.stdout.take().expect("piped"));
    let ended = head.stderr(Stdio::inherit()).output().expect("it starts");
    assert!(ended.status.success(), "{head:?}: {}", ended.status);
    seq.wait().expect("it is ours");
    count as f64 / start.elapsed().as_secs_f64()
}

/// The program that lives on is a shell's, as any machine has one.
fn map(bench: &Bench, figures: &mut Figures) {
    const SQUARES: &str = "while read n; do echo $((n * n)); done";
    let workers = Servers::start(2, || {
        let mut worker = shipped_worker(1);
        worker.arg("--insecure");
        worker.args(["--allow-program", "/bin/true"]);
        worker.args(["--allow-program", "/bin/sh"]);
        worker
    });
    let (count, lines) = (bench.count(5_000), bench.count(200_000));
    for _ in 0..bench.rounds() {
        figures.add("map_spawn_floor_per_s", spawn(count));
        figures.add("map_per_s", mapped(&workers, count, &["--", "true"]));
        let lasting = ["--persistent", "--", "sh", "-c", SQUARES];
        figures.add("map_lasting_per_s", mapped(&workers, lines, &lasting));
        figures.add_ratio("map_of_spawn", "map_per_s", "map_spawn_floor_per_s");
        figures.add_ratio("map_lasting_of_map", "map_lasting_per_s", "map_per_s");
    }
}

/// Once, since it takes so long, and whether quick or not: that is what it is about.
fn long(figures: &mut Figures) {
    let workers = Servers::start(2, || shipped_worker(1));
    let head = load("empty", 100_000_000, &workers, &[]);
    figures.add("long_first_per_s", 1e7 / head["first_s"]);
    figures.add("long_last_per_s", 1e7 / head["last_s"]);
    figures.add_ratio("long_last_of_first", "long_first_per_s", "long_last_per_s");
    figures.add("long_head_peak_kib", head["peak_kib"]);
    figures.add("long_worker_peak_kib", workers.peak_kib());
}
