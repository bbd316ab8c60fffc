//! What one seed draws before its run begins.
//!
//! What it is: sizes, times, the network and the mix of faults of one run (swarm testing: each seed has
//! its own mix, so that rare combinations meet), and the bound within which the run must end. What it
//! is not: anything that happens during the run.
//!
//! Invariant: a plan is a function of its seed.

use teamster::channel;
use teamster::limits::{
    BACKOFF_MAX, CLOSE_AFTER, DIAL_TIMEOUT, GREETING_TIMEOUT, LOST_AFTER, PING_AFTER, STOP_GRACE,
};
use teamster::rng::SplitMix64;
use teamster::time::{Duration, Time};
use teamster::worker::WorkerConfig;

use crate::faults::Kind;
use crate::job::{Tasks, kernels};

/// From a death by poison to the greeting of the next life, beside the restart itself; or to the
/// silence of one that nobody heard of.
const DEATH_WAIT: Duration = Duration::from_secs(20);
/// A slow attempt runs no longer than this.
pub const SLOW_RUN_US_MAX: u64 = 120_000_000;
/// A slow network adds at most this to a delay.
pub const SLOW_NET_US_MAX: u64 = 3_000_000;
/// The disk takes no longer than this for a batch.
pub const SYNC_US_MAX: u64 = 3_000_000;
/// A worker that was killed by a task starts again within this.
pub const RESTART_US_MAX: u64 = 2_000_000;

/// Kinds that seldom meet an attempt in flight, or few runs have, strike the more often: once more for
/// each time that they stand here.
const RARE: [Kind; 16] = [
    Kind::Mute,
    Kind::MuteHead,
    Kind::HalfOpen,
    Kind::HalfOpen,
    Kind::Cut,
    Kind::NoGreeting,
    Kind::NoGreeting,
    Kind::NoGreeting,
    Kind::NoGreeting,
    Kind::NoGreeting,
    Kind::NoGreeting,
    Kind::Refused,
    Kind::Refused,
    Kind::Refused,
    Kind::Stall,
    Kind::HeadCrash,
];

/// How a job is fed.
#[derive(Clone, Debug)]
pub struct Supply {
    /// Tasks in a piece of its input.
    pub piece_tasks_max: u64,
    /// How long one lets wait for itself.
    pub wait_us_max: u64,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub workers: usize,
    pub ordered: bool,
    pub tasks: Tasks,
    pub text_bytes: usize,
    /// An attempt runs for half to three halves of this ...
    pub run_us: u64,
    /// How long an attempt may run; more than one does in good weather.
    pub timeout: Option<Duration>,
    /// ... or for just this.
    pub is_even: bool,
    /// How many slots a worker has; otherwise each life draws it.
    pub slots: Option<u16>,
    /// The job is fed its tasks; otherwise it knows them.
    pub supply: Option<Supply>,
    /// The head keeps a journal.
    pub is_journalled: bool,
    pub tiny_credit: bool,
    /// Outputs so large that outboxes fill.
    pub is_bulky: bool,
    pub latency_us: u64,
    pub pipe_bytes: usize,
    pub read_budget: usize,
    pub turn_us: u64,
    /// How many of a hundred reads are cut in small pieces.
    pub cut_percent: u64,
    /// Kernels that are asked to stop return soon.
    pub stops_early: bool,
    pub attempts_max: u32,
    /// How often a task that failed is tried again.
    pub retries: u32,
    /// Late attempts are made twice, and waiting ones handed back.
    pub duplicates: bool,
    /// How long a worker that is told to end lets its kernels run.
    pub grace: Duration,
    /// Every session is a keyed one.
    pub is_keyed: bool,
    pub kinds: Vec<Kind>,
    /// Tasks that kill the worker that runs them.
    pub poison: Vec<u64>,
    /// A worker that is never a black hole.
    pub anchor: Option<usize>,
    pub fault_gap_us: u64,
    pub calm: Time,
    /// When the head is told to end.
    pub interrupt: Option<Time>,
    /// When all workers are gone for good.
    pub gone: Option<Time>,
    pub give_up: Duration,
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
        let is_journalled = rng.chance(55);
        let is_keyed = channel::IS_AVAILABLE && rng.chance(25);
        let kinds = draw_kinds(rng, is_journalled, is_keyed);
        let calm_us = match rng.below(2) {
            0 => work_us / 2 + rng.below(2 * work_us),
            _ => 10_000_000 + rng.below(150_000_000),
        };
        let poison = draw_poison(rng, &tasks);
        let attempts_max = match rng.chance(70) {
            true => 3,
            false => [1, 2, 4, if poison.is_empty() { 1000 } else { 3 }][rng.below(4) as usize],
        };
        let at = |rng: &mut SplitMix64| Time::from_micros(logarithmic(rng, 1_000, work_us + 2_000));
        let interrupt = rng.chance(23).then(|| at(rng));
        let gone = (interrupt.is_none() && rng.chance(30)).then(|| at(rng));
        Plan {
            seed,
            workers,
            attempts_max,
            poison,
            grace: Duration::from_micros(logarithmic(rng, 1_000, 30_000_000)),
            anchor: (workers > 1 && rng.chance(50)).then(|| 1 + rng.below(workers as u64) as usize),
            interrupt,
            gone,
            give_up: match gone {
                Some(_) => Duration::from_micros(logarithmic(rng, 500_000, 60_000_000)),
                None => Duration::from_secs(86_400),
            },
            ordered: rng.chance(70),
            text_bytes: if rng.chance(20) { 40_000 } else { 10 },
            tasks,
            run_us,
            timeout: rng.chance(60).then(|| {
                let ms = 1 + 2 * run_us / 1000 + logarithmic(rng, 1, 2_000);
                Duration::from_millis(ms)
            }),
            is_even: false,
            slots: None,
            retries: draw_retries(seed),
            supply: draw_supply(seed, run_us),
            is_journalled,
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
            duplicates: rng.chance(70),
            is_keyed,
            kinds,
            fault_gap_us: work_us / (1 + rng.below(8)),
            calm: Time::from_micros(calm_us),
        }
    }

    /// What a worker has when it starts, and again other things when it restarts.
    pub fn worker_config(&self, rng: &mut SplitMix64) -> WorkerConfig {
        // Only many slots fill an outbox beyond its mark.
        let slots = if self.is_bulky { 16 } else { 4 };
        let slots = self.slots.unwrap_or(1 + rng.below(slots) as u16);
        let mut config = WorkerConfig::new(slots, kernels());
        config.payload_bytes_max = self.tasks.payload_bytes_max;
        config.grace = self.grace;
        if self.tiny_credit {
            config.credit_tasks = 1 + rng.below(8) as u32;
            config.credit_bytes = rng.below(600) as u32;
        }
        config
    }

    /// How long an attempt runs.
    pub fn draw_run_us(&self, rng: &mut SplitMix64) -> u64 {
        match self.is_even {
            true => self.run_us,
            false => self.run_us / 2 + rng.below(self.run_us + 1),
        }
    }

    /// After the calm no attempt is lost but those of connections that died before it, each found
    /// out by silence. So each worker computes at most what it holds, and each task once more;
    /// reckoned on one thread, with every frame waiting for its round trip.
    pub fn ends_before(&self) -> Time {
        let waits = LOST_AFTER
            + CLOSE_AFTER
            + PING_AFTER
            + 2 * (DIAL_TIMEOUT + GREETING_TIMEOUT + BACKOFF_MAX)
            + STOP_GRACE
            + Duration::from_micros(SLOW_RUN_US_MAX + 4 * SLOW_NET_US_MAX + 4 * SYNC_US_MAX);
        let tasks = &self.tasks;
        let frame_bytes = (tasks.input_bytes_max + tasks.output_bytes_max + 100) as u64;
        let window = self.pipe_bytes.min(self.read_budget) as u64;
        let trips = 2 + frame_bytes / window;
        let trip_us = 2 * self.latency_us + 4 * self.turn_us + 1_000;
        let task_us = 2 * self.run_us + trips * trip_us;
        let deaths = self.deaths_max();
        let death = DEATH_WAIT + Duration::from_micros(RESTART_US_MAX + SLOW_NET_US_MAX);
        let repeats = 2 + self.workers as u64 + deaths;
        let give_up = match self.gone {
            Some(at) => self.give_up + at.since(self.calm),
            None => Duration::ZERO,
        };
        let pieces = tasks.count + 1;
        let supply_us = self.supply.as_ref().map_or(0, |its| its.wait_us_max);
        let give_up = give_up + Duration::from_micros(pieces * supply_us);
        let repeats = repeats * (1 + u64::from(self.retries));
        let work = Duration::from_micros(repeats * tasks.count * task_us);
        self.calm + waits + give_up + death * deaths as u32 + work
    }

    /// A poisonous task kills once for each loss it may have, once more if nobody was sure at the
    /// first, and once wherever it was left behind when its worker was taken for lost or broken.
    pub fn deaths_max(&self) -> u64 {
        let each = u64::from(self.attempts_max) + 1 + self.workers as u64;
        self.poison.len() as u64 * each
    }

    /// How much later than it must a worker may notice that time is over. One that was stopped does
    /// not count that time.
    pub fn lateness(&self) -> Duration {
        match self.kinds.contains(&Kind::Mute) || self.kinds.contains(&Kind::Pause) {
            true => Duration::MAX,
            false => Duration::from_millis(10),
        }
    }

    /// Whether nothing goes wrong but these, poison apart.
    pub fn has_only(&self, kinds: &[Kind]) -> bool {
        self.gone.is_none()
            && self.interrupt.is_none()
            && self.kinds.iter().all(|kind| kinds.contains(kind))
    }
}

/// Seldom; in large pieces at once, or in small ones that workers wait for.
fn draw_supply(seed: u64, run_us: u64) -> Option<Supply> {
    let mut rng = SplitMix64::new(crate::trace::mix(0x6665_6564, seed));
    rng.chance(25).then(|| Supply {
        piece_tasks_max: logarithmic(&mut rng, 1, 100),
        wait_us_max: logarithmic(&mut rng, 1, 1 + 4 * run_us),
    })
}

/// Mostly none.
fn draw_retries(seed: u64) -> u32 {
    let mut rng = SplitMix64::new(crate::trace::mix(0x6167_6169, seed));
    match rng.chance(25) {
        true => 1 + rng.below(3) as u32,
        false => 0,
    }
}

/// Each half of the kinds, or to see one clearly only a few, or none. Only a head with a journal
/// survives its death, and only a keyed session notices a changed byte.
fn draw_kinds(rng: &mut SplitMix64, is_journalled: bool, is_keyed: bool) -> Vec<Kind> {
    let all = &Kind::ALL[..Kind::RECURRING];
    let mut kinds = match rng.below(10) {
        0 => Vec::new(),
        1..=3 => {
            let count = 1 + rng.below(2);
            let draw = |_| all[rng.below(all.len() as u64) as usize];
            (0..count).map(draw).collect()
        }
        // Black holes among workers that are sound: only then is it sure what may not be believed.
        4 => {
            let sound = [Kind::Slow, Kind::Stall, Kind::Pause, Kind::HeadCrash];
            let sound = sound.into_iter().filter(|_| rng.chance(50));
            sound.chain([Kind::BlackHole]).collect()
        }
        _ => all.iter().copied().filter(|_| rng.chance(50)).collect(),
    };
    kinds.retain(|kind| is_journalled || *kind != Kind::HeadCrash);
    if is_keyed && rng.chance(60) {
        kinds.push(Kind::Garble);
    }
    let rare = RARE.into_iter().filter(|kind| kinds.contains(kind));
    kinds.extend(rare.collect::<Vec<_>>());
    kinds
}

/// Mostly none; one more often than several.
fn draw_poison(rng: &mut SplitMix64, tasks: &Tasks) -> Vec<u64> {
    if tasks.count == 0 || !rng.chance(20) {
        return Vec::new();
    }
    let count = if rng.chance(70) { 1 } else { 2 + rng.below(2) };
    let mut poison: Vec<u64> = (0..count).map(|_| rng.below(tasks.count)).collect();
    poison.retain(|&task| tasks.input_bytes(task) <= tasks.payload_bytes_max);
    poison.sort();
    poison.dedup();
    poison
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
        changed: None,
    }
}

/// Evenly spread over the orders of magnitude between two numbers.
pub fn logarithmic(rng: &mut SplitMix64, low: u64, high: u64) -> u64 {
    let octaves = (high / low).ilog2() + 1;
    let base = low << rng.below(u64::from(octaves));
    (base + rng.below(base)).min(high)
}
