//! How many attempts a worker should hold.
//!
//! What it is: a rule that follows how long the worker's attempts run, so that a slot never waits for
//! the round trip and little waits behind a long task. What it is not: the credit, which is
//! the worker's ceiling; the depth stays below it.
//!
//! (The rate of the answers would do as well if they came evenly. But tasks of ten microseconds among
//! a few of ten milliseconds are answered in bursts, and a burst was promised work for as long as the
//! next long task takes; and beyond a round trip of `AHEAD_US` the rate never rises at all.)
//!
//! Invariant: between two attempts per slot (one while it is throttled) and the credit; integers only,
//! so that it replays.

use crate::limits::{CHUNK_FEW, CHUNK_FEW_TIME};
use crate::time::{Duration, Time};

/// Shortest time from one change of the depth to the next.
const SAMPLE: Duration = Duration::from_micros(200);
/// A worker holds what its slots run in this time: long enough to hide a round trip and its wake-ups,
/// short enough that nothing waits long. Or as many as a slot takes at once, if those are more.
const AHEAD_US: u64 = 3_000;
/// So many bytes of output count as a microsecond of running.
const BYTES_PER_US: u64 = 1024;
/// The mean is that of the latest attempts, half as many to these: enough to have some of the long
/// ones among them where one in a hundred is, few enough to be forgotten in some milliseconds.
const MEAN_TASKS: u64 = 2_048;
/// Or that of the latest which ran so long together: what ran for seconds must not weigh for ever.
const MEAN_US: u64 = 64_000;

/// The depth of one worker.
#[derive(Clone, Copy, Debug)]
pub struct Depth {
    tasks: u32,
    slots: u32,
    is_throttled: bool,
    ceiling: u32,
    latest: Latest,
    since: Time,
}

/// The latest attempts.
#[derive(Clone, Copy, Debug, Default)]
struct Latest {
    ran: u64,
    /// How long they ran together ...
    ran_us: u64,
    /// ... and what they brought.
    bytes: u64,
}

impl Latest {
    /// What their outputs count for.
    fn bytes_us(&self) -> u64 {
        self.bytes / BYTES_PER_US
    }

    /// How many attempts like these `slots` slots should have before them; where those are few, up to
    /// `few_max` each.
    fn ahead(&self, slots: u64, few_max: u64) -> u64 {
        let run_in = |time_us: u64, us: u64| time_us * self.ran / us.max(1);
        // Of a few large outputs, too, no more bytes than of many.
        let few = run_in(CHUNK_FEW_TIME.as_micros() as u64, self.ran_us)
            .min(run_in(AHEAD_US, self.bytes_us()))
            .min(few_max);
        let ahead = run_in(slots * AHEAD_US, self.ran_us + self.bytes_us());
        ahead.max(slots * few)
    }

    fn halve(&mut self) {
        for sum in [&mut self.ran, &mut self.ran_us, &mut self.bytes] {
            *sum /= 2;
        }
    }
}

impl Depth {
    /// For a worker with `slots` threads that accepts `credit` attempts.
    pub fn new(slots: u16, credit: u32, now: Time) -> Depth {
        let mut depth = Depth {
            tasks: 0,
            slots: 0,
            is_throttled: false,
            ceiling: credit,
            latest: Latest::default(),
            since: now,
        };
        depth.set_slots(slots);
        depth
    }

    /// The worker computes with another number of threads; the depth rises from their floor.
    pub fn set_slots(&mut self, slots: u16) {
        self.slots = slots.into();
        self.tasks = self.floor();
    }

    /// While it is throttled nothing waits behind a long attempt: what it holds is late anyway, and
    /// others would be done with it sooner.
    pub fn set_throttled(&mut self, is_throttled: bool) {
        self.is_throttled = is_throttled;
    }

    /// Takes note of an attempt that ran for so long and brought so many bytes. Those take their time,
    /// too; more of them on the way at once only displace each other from the caches. (The inputs
    /// have a bound of their own, the credit's.)
    pub fn ran(&mut self, run_us: u32, output_bytes: usize) {
        self.ran_row(1, run_us.into(), output_bytes as u64);
    }

    /// The same for several, as if the longest of them had come last.
    pub fn ran_row(&mut self, attempts: u64, run_us: u64, output_bytes: u64) {
        let latest = &mut self.latest;
        latest.ran += attempts;
        latest.ran_us += run_us;
        latest.bytes += output_bytes;
        while latest.ran > MEAN_TASKS || latest.ran_us + latest.bytes_us() > MEAN_US {
            latest.halve();
        }
    }

    /// The depth at `now`. It at most doubles per sample, as the first attempts may not be like the
    /// rest, but falls at once.
    pub fn tasks(&mut self, now: Time) -> u32 {
        if now.since(self.since) >= SAMPLE {
            self.since = now;
            let few_max = if self.is_throttled { 0 } else { CHUNK_FEW };
            self.tasks = u32::try_from(self.latest.ahead(self.slots.into(), few_max as u64))
                .unwrap_or(u32::MAX)
                .saturating_add(self.floor())
                .min(self.tasks.saturating_mul(2))
                .min(self.ceiling);
        }
        self.tasks
    }

    fn floor(&self) -> u32 {
        let per_slot = if self.is_throttled { 1 } else { 2 };
        (per_slot * self.slots).min(self.ceiling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The depth after each of so many rounds of attempts that ran for `runs_us`, a millisecond apart.
    fn run(depth: &mut Depth, rounds: u64, runs_us: &[u32]) -> Vec<u32> {
        let round = |_| {
            runs_us.iter().for_each(|&run_us| depth.ran(run_us, 8));
            depth.tasks(depth.since + Duration::from_millis(1))
        };
        (0..rounds).map(round).collect()
    }

    #[test]
    fn deep_for_tiny_tasks_and_two_per_slot_for_long_ones() {
        let mut depth = Depth::new(2, 4096, Time::ZERO);
        assert_eq!(depth.tasks(Time::ZERO), 4);
        let tiny = [0; 1000];
        assert_eq!(run(&mut depth, 3, &tiny), [8, 16, 32], "doubles at most");
        assert_eq!(run(&mut depth, 8, &tiny)[7], 4096, "stops at the credit");
        assert!(run(&mut depth, 1, &[1_000_000])[0] < 100, "falls at once");
        assert_eq!(run(&mut depth, 3, &[1_000_000; 2])[2], 4);
        assert!(run(&mut depth, 20, &tiny)[19] > 1000, "forgets");
        assert_eq!(run(&mut depth, 3, &[u32::MAX; 2])[2], 4);
    }

    /// The depth once it has risen as far as it will.
    fn settle(depth: &mut Depth) -> u32 {
        let sample = |_| depth.tasks(depth.since + SAMPLE);
        (0..12).map(sample).last().expect("twelve")
    }

    #[test]
    fn as_many_of_a_millisecond_as_a_slot_takes_at_once() {
        let depth = |run_us, output_bytes| {
            let mut depth = Depth::new(2, 4096, Time::ZERO);
            (0..100).for_each(|_| depth.ran(run_us, output_bytes));
            settle(&mut depth)
        };
        assert_eq!(depth(900, 8), 4 + 2 * 16);
        assert_eq!(depth(4_500, 8), 4 + 2 * 3);
        assert_eq!(depth(10_000, 8), 4 + 2);
        assert_eq!(depth(17_000, 8), 4);
        assert_eq!(depth(100, 8), 4 + 60, "many, not a few");
        assert_eq!(depth(1_000, 1 << 20), 4 + 4, "large ones");
    }

    #[test]
    fn nothing_has_run_and_nothing_is_sent_ahead() {
        let mut depth = Depth::new(3, 4096, Time::ZERO);
        assert_eq!(depth.tasks(Time::from_micros(1_000_000)), 6);
        let mut depth = Depth::new(3, 5, Time::ZERO);
        assert_eq!(depth.tasks(Time::from_micros(1_000_000)), 5);
    }

    #[test]
    fn a_throttled_worker_holds_one_long_attempt_per_slot_and_short_ones_as_ever() {
        let mut depth = Depth::new(2, 4096, Time::ZERO);
        depth.set_throttled(true);
        assert_eq!(run(&mut depth, 1, &[1_000_000; 2]), [2]);
        assert_eq!(
            run(&mut depth, 9, &[5_000; 20])[8],
            3,
            "nor a few of some ms"
        );
        assert_eq!(run(&mut depth, 12, &[0; 1000])[11], 4096);
        depth.set_throttled(false);
        assert_eq!(run(&mut depth, 3, &[1_000_000; 2])[2], 4);
    }

    #[test]
    fn large_outputs_take_their_time() {
        let mut depth = Depth::new(1, 4096, Time::ZERO);
        (0..100).for_each(|_| depth.ran(100, 1 << 20));
        assert_eq!(settle(&mut depth), 4);
    }

    #[test]
    fn bursts_of_short_tasks_between_long_ones_are_no_reason_to_go_deep() {
        let mut depth = Depth::new(1, 4096, Time::ZERO);
        let mut burst = [10; 100];
        burst[99] = 10_000;
        run(&mut depth, 10, &burst);
        for _ in 0..10 {
            let deepest = run(&mut depth, 99, &[10])[98];
            assert!((10..60).contains(&deepest), "{deepest}");
            let after = run(&mut depth, 1, &[10_000])[0];
            assert!((10..60).contains(&after), "{after}");
        }
    }
}
