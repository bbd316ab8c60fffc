//! What one seed draws before its run begins.
//!
//! What it is: sizes, times, the network and the mix of faults of one run (swarm testing: each seed has
//! its own mix, so that rare combinations meet), and the bound within which the run must end. What it
//! is not: anything that happens during the run.
//!
//! Invariant: a plan is a function of its seed.

use teamster::limits::{
    BACKOFF_MAX, CLOSE_AFTER, DIAL_TIMEOUT, GREETING_TIMEOUT, LOST_AFTER, PING_AFTER,
};
use teamster::rng::SplitMix64;
use teamster::time::{Duration, Time};
use teamster::worker::WorkerConfig;

use crate::faults::Kind;
use crate::job::{Tasks, kernels};

/// A slow attempt runs no longer than this.
pub const SLOW_RUN_US_MAX: u64 = 120_000_000;
/// A slow network adds at most this to a delay.
pub const SLOW_NET_US_MAX: u64 = 3_000_000;

#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub workers: usize,
    pub ordered: bool,
    pub tasks: Tasks,
    pub text_bytes: usize,
    /// An attempt runs for half to three halves of this.
    pub run_us: u64,
    pub tiny_credit: bool,
    /// Outputs so large that outboxes fill.
    pub is_bulky: bool,
    pub latency_us: u64,
    pub pipe_bytes: usize,
    pub read_budget: usize,
    pub turn_us: u64,
    /// How many of a hundred reads are cut in small pieces.
    pub cut_percent: u64,
    /// A stopped session's attempts leave their threads at once.
    pub stops_early: bool,
    pub kinds: Vec<Kind>,
    pub fault_gap_us: u64,
    pub calm: Time,
}

impl Plan {
    pub fn new(seed: u64) -> Plan {
        let mut rng = SplitMix64::new(crate::trace::mix(0x7465_616d, seed));
        let rng = &mut rng;
        let is_bulky = rng.chance(4);
        let tasks = draw_tasks(rng, seed, is_bulky);
        let workers = 1 + rng.below(5) as usize;
        let run_us = logarithmic(rng, if is_bulky { 1_000 } else { 50 }, 2_000_000);
        let latency_us = logarithmic(rng, 20, 30_000);
        let work_us = 10_000 + 10 * latency_us + tasks.count * run_us / (2 * workers as u64);
        let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|_| rng.chance(50)).collect();
        let calm_us = match rng.below(2) {
            0 => work_us / 2 + rng.below(2 * work_us),
            _ => 10_000_000 + rng.below(150_000_000),
        };
        Plan {
            seed,
            workers,
            ordered: rng.chance(70),
            text_bytes: if rng.chance(20) { 40_000 } else { 10 },
            tasks,
            run_us,
            is_bulky,
            tiny_credit: rng.chance(25),
            latency_us,
            pipe_bytes: logarithmic(rng, if is_bulky { 20_000 } else { 500 }, 200_000) as usize,
            read_budget: match rng.chance(15) {
                true if !is_bulky => logarithmic(rng, 50, 4_000) as usize,
                _ => 64 << 10,
            },
            turn_us: logarithmic(rng, 2, 500),
            cut_percent: rng.below(60),
            stops_early: rng.chance(50),
            kinds: if rng.chance(5) { Vec::new() } else { kinds },
            fault_gap_us: work_us / (1 + rng.below(8)),
            calm: Time::from_micros(calm_us),
        }
    }

    /// What a worker has when it starts, and again other things when it restarts.
    pub fn worker_config(&self, rng: &mut SplitMix64) -> WorkerConfig {
        // Only many slots fill an outbox beyond its mark.
        let slots = if self.is_bulky { 16 } else { 4 };
        let mut config = WorkerConfig::new(1 + rng.below(slots) as u16, kernels());
        config.payload_bytes_max = self.tasks.payload_bytes_max;
        if self.tiny_credit {
            config.credit_tasks = 1 + rng.below(8) as u32;
            config.credit_bytes = rng.below(600) as u32;
        }
        config
    }

    /// After the calm no attempt is lost but those of connections that died before it, each found
    /// out by silence. So each worker computes at most what it holds, and each task once more;
    /// reckoned on one thread, with every frame waiting for its round trip.
    pub fn ends_before(&self) -> Time {
        let waits = LOST_AFTER
            + CLOSE_AFTER
            + PING_AFTER
            + 2 * (DIAL_TIMEOUT + GREETING_TIMEOUT + BACKOFF_MAX)
            + Duration::from_micros(SLOW_RUN_US_MAX + 4 * SLOW_NET_US_MAX);
        let tasks = &self.tasks;
        let frame_bytes = (tasks.input_bytes_max + tasks.output_bytes_max + 100) as u64;
        let window = self.pipe_bytes.min(self.read_budget) as u64;
        let trips = 2 + frame_bytes / window;
        let trip_us = 2 * self.latency_us + 4 * self.turn_us + 1_000;
        let task_us = 2 * self.run_us + trips * trip_us;
        let repeats = 2 + self.workers as u64;
        self.calm + waits + Duration::from_micros(repeats * tasks.count * task_us)
    }
}

fn draw_tasks(rng: &mut SplitMix64, seed: u64, is_bulky: bool) -> Tasks {
    let payload_bytes_max = if is_bulky { 128 << 10 } else { 8192 };
    let count = match rng.below(20) {
        0 => rng.below(3),
        _ if is_bulky => 20 + rng.below(80),
        _ => logarithmic(rng, 4, 300),
    };
    Tasks {
        seed,
        count,
        input_bytes_max: match rng.below(4) {
            0 => 0,
            1 => 40,
            2 => 3_000.min(payload_bytes_max),
            _ => payload_bytes_max.min(8192),
        },
        output_bytes_max: match rng.below(4) {
            _ if is_bulky => payload_bytes_max,
            0 => 0,
            1 => 60,
            2 => 2_000,
            // Sometimes longer than allowed: such a task fails.
            _ => payload_bytes_max + 200,
        },
        payload_bytes_max,
        oversize_percent: if rng.chance(10) { 1 + rng.below(30) } else { 0 },
    }
}

/// Evenly spread over the orders of magnitude between two numbers.
pub fn logarithmic(rng: &mut SplitMix64, low: u64, high: u64) -> u64 {
    let octaves = (high / low).ilog2() + 1;
    let base = low << rng.below(u64::from(octaves));
    (base + rng.below(base)).min(high)
}
