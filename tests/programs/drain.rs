//! What SIGTERM and SIGINT do to a worker and to a head.
//!
//! What it is: ends that somebody asked for, in good order. What it is not: an end that nobody asked
//! for (`poison.rs`, `chaos/`).
//!
//! Invariant: whoever is told to end does so within its time, and no task suffers for it.

use std::fs;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::net::{Client, Relay, free_port};
use crate::common::own::{own_worker, serve};
use crate::common::{
    Ended, Process, Run, Worker, assert_same_text, head, run_head, squares, until,
};
use teamster::kernel::{Kernel, KernelError, Kernels, Stop};
use teamster::kernels::square;

/// Much longer than what ends at once takes, and much shorter than the time a worker has to drain.
const AT_ONCE: Duration = Duration::from_secs(10);

/// `square` that tells when it begins and ends.
struct Told(Arc<dyn Kernel>);

impl Kernel for Told {
    fn run(&self, input: &[u8], stop: &Stop, output: &mut Vec<u8>) -> Result<(), KernelError> {
        say("kernel begins");
        let result = self.0.run(input, stop, output);
        say("kernel ends");
        result
    }
}

/// Past the test harness, in one piece.
fn say(line: &str) {
    std::io::stderr()
        .write_all(format!("{line}\n").as_bytes())
        .unwrap();
}

fn told(setup: &[u8]) -> Result<Arc<dyn Kernel>, String> {
    Ok(Arc::new(Told(square::open(setup)?)))
}

/// Runs for ever and does not listen.
fn stubborn(_: &[u8]) -> Result<Arc<dyn Kernel>, String> {
    struct Stubborn;
    impl Kernel for Stubborn {
        fn run(&self, _: &[u8], _: &Stop, _: &mut Vec<u8>) -> Result<(), KernelError> {
            say("kernel begins");
            loop {
                std::thread::park();
            }
        }
    }
    Ok(Arc::new(Stubborn))
}

/// Not a test: a worker that the others start.
#[test]
#[ignore = "started by the other tests"]
fn own_process() {
    let open = match std::env::var_os("STUBBORN") {
        Some(_) => stubborn,
        None => told,
    };
    serve(Kernels::new().with(square::NAME, open));
}

fn told_worker(slots: u32) -> Worker {
    Worker::listening(&mut own_worker(
        module_path!(),
        &format!("-l 127.0.0.1:0 -s {slots}"),
    ))
}

/// A run on these two, with a row of details per task.
fn run_on([a, b]: [&str; 2], job: &str) -> Run {
    Run::start(&format!("-w {a},{b} {job} --details --format tsv"))
}

/// A run that is stuck on the first worker, and can go on on the second, which was not there before.
fn stuck(host: &str, args: &str) -> (Worker, Worker, Run) {
    let args = format!("-l 127.0.0.1:0 -s 1 {args}");
    let ends = Worker::listening(own_worker(module_path!(), &args).env("STUBBORN", "1"));
    let stays = free_port(host).to_string();
    let job = "--no-duplicates square --count 20 --work-ms 0";
    let head = run_on([&ends.address, &stays], job);
    ends.says("kernel begins");
    (ends, Worker::start_at(&stays), head)
}

/// Checks that all tasks are done and none was charged with an attempt.
#[track_caller]
fn assert_unharmed(ended: &Ended, count: u64) {
    let mut text = String::new();
    for line in ended.text().lines() {
        let row: Vec<&str> = line.split('\t').collect();
        let [task, "done", _worker, "0", _queue, _run, output] = row[..] else {
            panic!("charged or failed: {line:?}");
        };
        text += &format!("{task} -> {output}\n");
    }
    assert_same_text(&text, &squares(count));
}

/// Waits for the end, and checks that it came at once.
#[track_caller]
fn ends_at_once(process: &mut Process) -> Option<i32> {
    let start = Instant::now();
    let code = process.wait();
    let took = start.elapsed();
    assert!(took < AT_ONCE, "it took {took:?}");
    code
}

/// A worker with two tasks running and as many queued is told to end.
fn drained_by(signal: &str) {
    let (mut ends, stays) = (told_worker(2), Worker::start(1));
    let head = run_on(
        [&ends.address, &stays.address],
        "square --count 60 --work-ms 60",
    );
    ends.process.err.wait_for_nth("kernel begins", 6);
    ends.process.signal(signal);
    assert_eq!(ends.process.wait(), Some(0));
    let err = ends.process.err_at_end();
    let count = |what: &str| err.iter().filter(|line| line.contains(what)).count() as u64;
    assert_eq!(count("about to end: what runs has 30 s to finish"), 1);
    assert_eq!(
        count("kernel begins"),
        count("kernel ends"),
        "what ran was finished"
    );
    let ended = head.end().expect(0);
    assert_unharmed(&ended, 60);
    assert_eq!(
        ended.done_by(&ends.address),
        count("kernel ends"),
        "and counted"
    );
    assert!(ended.done_by(&stays.address) > 0);
}

#[test]
fn a_worker_told_to_end_finishes_what_runs_and_hands_back_the_rest() {
    drained_by("TERM");
    drained_by("INT");
}

#[test]
fn a_worker_told_to_end_amid_a_stream_of_tasks_harms_none() {
    // Thousands are on their way to it when it closes.
    const COUNT: u64 = 300_000;
    for signal in ["TERM", "INT"] {
        let (mut ends, stays) = (Worker::start(1), Worker::start(1));
        let job = format!("square --count {COUNT} --work-ms 0");
        let head = run_on([&ends.address, &stays.address], &job);
        head.out.wait_for("20000\tdone");
        ends.process.signal(signal);
        assert_eq!(ends_at_once(&mut ends.process), Some(0));
        assert_unharmed(&head.end().expect(0), COUNT);
    }
}

#[test]
fn a_worker_whose_time_is_up_ends_all_the_same() {
    let (mut ends, stays, head) = stuck("127.77.11.1", "--grace 1");
    let start = Instant::now();
    ends.process.signal("TERM");
    assert_eq!(ends.process.wait(), Some(0));
    let took = start.elapsed();
    assert!(
        took >= Duration::from_secs(1) && took < AT_ONCE,
        "it took {took:?}"
    );
    ends.says("1 task still running after 1 s: ending all the same");
    let ended = head.end().expect(0);
    assert_unharmed(&ended, 20);
    assert_eq!(ended.done_by(&stays.address), 20);
}

#[test]
fn a_second_signal_ends_a_worker_at_once() {
    let (mut ends, _stays, head) = stuck("127.77.11.2", "");
    ends.process.signal("TERM");
    ends.says("about to end: what runs has 30 s to finish");
    ends.process.signal("INT");
    assert_eq!(ends_at_once(&mut ends.process), Some(130));
    assert_unharmed(&head.end().expect(0), 20);
}

#[test]
fn an_idle_worker_ends_at_once() {
    for signal in ["TERM", "INT"] {
        let mut alone = Worker::start(1);
        alone.process.signal(signal);
        assert_eq!(ends_at_once(&mut alone.process), Some(0));
        // Also with a head that has sent nothing.
        let mut idle = Worker::start(1);
        let client = Client::greeted(&idle.address);
        idle.process.signal(signal);
        assert_eq!(ends_at_once(&mut idle.process), Some(0));
        client.until_closed();
    }
}

#[test]
fn a_worker_about_to_end_leaves_its_port_to_the_next() {
    let (ends, _stays, first) = stuck("127.77.11.3", "");
    ends.process.signal("TERM");
    ends.says("about to end");
    let next = Worker::start_at(&ends.address);
    let args = format!("-w {} square --count 3 --work-ms 0", next.address);
    run_head(&args).expect(0);
    drop(ends);
    assert_unharmed(&first.end().expect(0), 20);
}

#[test]
fn an_interrupted_head_leaves_what_it_has() {
    let workers = [told_worker(1), told_worker(1)];
    let [a, b] = workers.each_ref().map(|worker| &worker.address[..]);
    for (signal, job) in [("INT", ""), ("TERM", "--unordered")] {
        let head = Run::start(&format!(
            "-w {a},{b} square --count 10000 --work-ms 10 --details --format tsv {job}"
        ));
        head.out.wait_for("20\tdone\t");
        head.process.signal(signal);
        let ended = head.end().expect(130);
        ended.says("not every task is done; the results so far are written");
        let mut tasks = Vec::new();
        for line in ended.text().lines() {
            let (task, rest) = line.split_once('\t').unwrap();
            let n: u64 = task.parse().unwrap();
            assert!(rest.starts_with("done\t") && rest.ends_with(&format!("\t{}", n * n)));
            tasks.push(n);
        }
        let done = tasks.len() as u64;
        if job.is_empty() {
            assert!(tasks.is_sorted(), "in input order");
        }
        tasks.sort_unstable();
        tasks.dedup();
        assert_eq!(tasks.len() as u64, done, "each once");
        assert!((20..10_000).contains(&done), "{done} results");
        assert_eq!(ended.done_by(a) + ended.done_by(b), done);
    }
}

#[test]
fn a_second_signal_ends_a_head_at_once() {
    let worker = Worker::start(1);
    let relay = Relay::to(&worker.address);
    let job = "square --count 1000000 --work-ms 0";
    let mut process = Process::start(&mut head(&format!("-w {} {job}", relay.address)));
    worker.says("sends tasks");
    // Nobody reads its results, so it cannot get rid of the last of them.
    until("a full pipe", || relay.quiet_ms() > 500);
    process.signal("INT");
    process.err.wait_for("the results so far are written");
    assert!(process.child.try_wait().unwrap().is_none());
    process.signal("INT");
    assert_eq!(ends_at_once(&mut process), Some(130));
}

#[test]
fn an_interrupted_head_replaces_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("squares");
    fs::write(&place, "old").unwrap();
    let worker = told_worker(1);
    let job = "square --count 10000 --work-ms 10";
    let (address, file) = (&worker.address, place.display());
    let process = Process::start(&mut head(&format!("-w {address} {job} -o {file}")));
    worker.process.err.wait_for_nth("kernel ends", 20);
    process.signal("INT");
    let ended = process.end().expect(130);
    ended.says("squares.partial");
    assert_eq!(fs::read_to_string(&place).unwrap(), "old");
    let partial = fs::read_to_string(dir.path().join("squares.partial")).unwrap();
    assert_eq!(partial, squares(partial.lines().count() as u64));
    assert_eq!(partial.lines().count() as u64, ended.done_by(address));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing else");
}

#[test]
fn an_interrupted_head_compares_nothing() {
    let head = Run::start("--compare square --count 200 --work-ms 10");
    head.process.err.wait_for("Serial time: ");
    head.out.wait_for("10 -> 100");
    head.process.signal("INT");
    let ended = head.end().expect(130);
    assert!(ended.text().lines().count() < 200);
    ended.says("the results so far are written");
    ended.says("Results: incomplete");
    let has_speed = ended.err.iter().any(|line| line.contains("Speed-up: "));
    assert!(!has_speed, "{:#?}", ended.err);
}

#[test]
fn a_head_interrupted_in_its_serial_run_leaves_nothing() {
    // Between two tasks, and in a long one.
    for job in [
        "square --count 10000 --work-ms 1",
        "square --count 2 --work-ms 60000",
    ] {
        for signal in ["INT", "TERM"] {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("squares");
            let args = format!("--compare {job} -o {}", file.display());
            let mut process = Process::start(&mut head(&args));
            until("the temporary file", || {
                fs::read_dir(dir.path()).unwrap().count() > 0
            });
            process.signal(signal);
            assert_eq!(ends_at_once(&mut process), Some(130));
            let said = process.err_at_end();
            let expected = "head: warning: interrupted in the serial run; there are no results";
            assert_eq!(said, [expected]);
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{job}");
        }
    }
}
