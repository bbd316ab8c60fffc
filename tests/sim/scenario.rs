//! The end of a run, measured.
//!
//! What it is: fixed courses of events whose duration has a bound from theory: a worker that becomes
//! slow, and one that stops with the last task. What it is not: random; the phase and the length of a
//! task are varied, the course is not.
//!
//! Invariant: each is held to its bound in every run of the simulator.

use teamster::limits::{LATE_AFTER_MIN, PROBE_WAIT_MIN};
use teamster::time::{Duration, Time};

use crate::oracle;
use crate::plan::Plan;
use crate::run::Run;
use crate::trace::enter;

const RUNS_US: [u64; 6] = [1_000, 10_000, 50_000, 200_000, 1_000_000, 5_000_000];
const PHASES_PERCENT: [u64; 4] = [3, 25, 50, 80];
/// The throttled worker is so many times slower.
const SLOWER: u64 = 10;
/// A throttled worker is known to be so after this.
const THROTTLED_WITHIN: Duration = Duration::from_secs(10);

/// Two workers with a slot each, a fast network and nothing that goes wrong.
fn plan(seed: u64, run_us: u64, count: u64) -> Plan {
    let mut plan = Plan::new(seed);
    plan.tasks.count = count;
    plan.tasks.input_bytes_max = 40;
    plan.tasks.output_bytes_max = 60;
    plan.tasks.oversize_percent = 0;
    Plan {
        workers: 2,
        slots: Some(1),
        run_us,
        is_even: true,
        retries: 0,
        supply: None,
        is_journalled: false,
        text_bytes: 10,
        is_bulky: false,
        tiny_credit: false,
        latency_us: 100,
        pipe_bytes: 64 << 10,
        read_budget: 64 << 10,
        turn_us: 20,
        attempts_max: 3,
        duplicates: true,
        timeout: None,
        kinds: Vec::new(),
        poison: Vec::new(),
        anchor: None,
        calm: Time::ZERO,
        interrupt: None,
        gone: None,
        give_up: Duration::from_secs(86_400),
        ..plan
    }
}

/// One of two workers becomes slow: what it holds must not decide the end. The bound is fluid: work
/// flows at the rate of two workers, then at that of 1.1, and none waits for a network.
fn slow_worker(seed: u64, run_us: u64, percent: u64) {
    const COUNT: u64 = 200;
    let mut run = Run::new(plan(seed, run_us, COUNT), false);
    let work_us = COUNT * run_us;
    let at_us = work_us / 2 * percent / 100;
    let at = Time::from_micros(at_us);
    run.run_until(|run| run.world.now >= at);
    run.world.weather[1].slow = Time::from_micros(u64::MAX);
    run.world.weather[1].slow_factor = SLOWER;
    let ideal_us = at_us + (work_us - 2 * at_us) * SLOWER / (SLOWER + 1);
    if ideal_us - at_us > THROTTLED_WITHIN.as_micros() as u64 {
        check_throttled(&mut run, at);
    }
    let took = run.run().ended.as_micros();
    oracle!(
        "tail-makespan",
        took <= ideal_us * 11 / 10,
        "tasks of {run_us} µs, one worker slow after {at_us} µs (seed {seed}): {took} µs, ideal \
         {ideal_us} µs"
    );
}

/// The worker that is slow since then is known to be throttled in time, and from then on nothing waits
/// there behind what it runs.
fn check_throttled(run: &mut Run, since: Time) {
    let until = since + THROTTLED_WITHIN;
    run.run_until(|run| run.head.role.is_throttled(0) || run.world.now > until);
    oracle!(
        "throttled",
        run.head.role.is_throttled(0),
        "slow since {since}, and not taken for throttled"
    );
    let held = |run: &Run| run.head.role.scheduler().held_tasks(0);
    run.run_until(|run| held(run) <= 1);
    run.run_until(|run| {
        let is_throttled = run.head.role.is_throttled(0);
        oracle!(
            "throttled",
            !is_throttled || held(run) <= 1,
            "a throttled worker with one slot holds {}",
            held(run)
        );
        false
    });
}

/// The worker with the last task stops and never goes on.
fn stopped_worker(seed: u64, run_us: u64, percent: u64) {
    const COUNT: u64 = 21;
    let task = Duration::from_micros(run_us);
    let mut run = Run::new(plan(seed, run_us, COUNT), false);
    run.run_until(|run| {
        let counts = run.head.role.scheduler().counts();
        run.head.role.workload().is_at_end() && counts.undone() == 1
    });
    let at = run.world.after_us(run_us * percent / 100);
    run.run_until(|run| run.world.now >= at);
    let scheduler = run.head.role.scheduler();
    let node = match scheduler.held_tasks(0) {
        0 => 2,
        _ => 1,
    };
    run.world.touch(node);
    let host = run.workers[node - 1].as_mut().expect("nobody dies");
    host.rim.muted_until = Time::from_micros(u64::MAX);
    let waited = run.run().ended.since(at);
    let bound = match task / 4 >= PROBE_WAIT_MIN {
        true => 2 * task,
        // A probe would take longer than lateness.
        false => (task * 3 / 2).max(LATE_AFTER_MIN) + task + Duration::from_millis(1),
    };
    oracle!(
        "tail-makespan",
        waited <= bound,
        "tasks of {task:?}, the last one's worker stops {percent} % into it (seed {seed}): \
         {waited:?} until the end, not {bound:?}"
    );
}

/// Runs them all.
///
/// # Panics
/// If one takes too long, or any oracle of the seeds does not hold.
pub fn check() {
    enter("simulator", Time::ZERO);
    let mut seeds = 0..;
    for run_us in RUNS_US {
        for (percent, seed) in PHASES_PERCENT.into_iter().zip(&mut seeds) {
            slow_worker(seed, run_us, percent);
            stopped_worker(seed, run_us, percent);
        }
    }
}
