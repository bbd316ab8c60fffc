//! How long a worker may be silent, by the clock on the wall.
//!
//! What it is: a measurement, `cargo test --test programs silence:: -- --ignored --nocapture`. What it is not:
//! the proof that nobody who speaks is taken for lost; that is the simulator's, and the fault `quota`
//! of `chaos/` for a worker that hardly gets a processor.
//!
//! Invariant: counted from the last byte that came through, not from the signal.

use std::thread;
use std::time::{Duration, Instant};

use crate::common::net::Relay;
use crate::common::{Run, Worker};
use teamster::limits::LOST_AFTER;

/// Workers per head, all of which fall silent.
const WORKERS: u64 = 12;
const TOLERANCE: Duration = Duration::from_secs(1);

/// Has workers stop in the middle of such a job, at different times; returns how long each had been
/// silent when the head said that it is lost.
fn times_to_lost(job: &str) -> Vec<Duration> {
    let start = |_| {
        let worker = Worker::start(1);
        let relay = Relay::to(&worker.address);
        (worker, relay)
    };
    let workers: Vec<_> = (0..WORKERS).map(start).collect();
    let addresses: Vec<_> = workers.iter().map(|(_, r)| r.address.to_string()).collect();
    let head = Run::start(&format!("-w {} square {job}", addresses.join(",")));
    workers
        .iter()
        .for_each(|(w, _)| drop(w.says("sends tasks")));
    let measure = |(i, (worker, relay)): (u64, &(Worker, Relay))| {
        // Spread over the time between two heartbeats.
        thread::sleep(Duration::from_millis(1_000 + i * 3_000 / WORKERS));
        worker.process.signal("STOP");
        let lost = format!("worker {} silent for 10 s", relay.address);
        head.process.err.wait_for(&lost);
        Instant::now() - relay.heard_at()
    };
    thread::scope(|scope| {
        let measure = &measure;
        let threads: Vec<_> = (0..)
            .zip(&workers)
            .map(|w| scope.spawn(move || measure(w)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

#[test]
#[ignore = "takes 15 s"]
fn a_silent_worker_is_lost_after_ten_seconds() {
    // One that answers all the time, and one that does nothing but answer heartbeats.
    let jobs = [
        "--count 1000000 --work-ms 20",
        "--count 100 --work-ms 600000",
    ];
    thread::scope(|scope| {
        for job in jobs {
            scope.spawn(move || {
                let mut times = times_to_lost(job);
                times.sort_unstable();
                let [first, .., last] = times[..] else {
                    panic!("there are many");
                };
                println!(
                    "{job}: lost after {first:?} to {last:?}, {} workers",
                    times.len()
                );
                assert!(first + TOLERANCE >= LOST_AFTER && last <= LOST_AFTER + TOLERANCE);
            });
        }
    });
}
