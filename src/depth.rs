//! How many attempts a worker should hold.
//!
//! What it is: a rule that follows the worker's own rate, so that a slot never waits for the round
//! trip and hardly anything waits behind a long task. What it is not: the credit, which is the
//! worker's ceiling; the depth stays below it.
//!
//! Invariant: between two attempts per slot and the credit; integers only, so that it replays.

use crate::time::{Duration, Time};

/// Shortest time over which a rate is taken, and only from so many outcomes that they are more than
/// all slots answering at once; from fewer it takes as long as they are to last.
const SAMPLE: Duration = Duration::from_micros(200);
/// A worker holds what it answers in this time: long enough to hide a round trip and its wake-ups,
/// short enough that nothing waits long.
const AHEAD_US: u64 = 2_000;

/// The depth of one worker.
#[derive(Clone, Copy, Debug)]
pub struct Depth {
    tasks: u32,
    floor: u32,
    ceiling: u32,
    answered: u32,
    since: Time,
}

impl Depth {
    /// For a worker with `slots` threads that accepts `credit` attempts.
    pub fn new(slots: u16, credit: u32, now: Time) -> Depth {
        let floor = (2 * u32::from(slots)).min(credit);
        Depth {
            tasks: floor,
            floor,
            ceiling: credit,
            answered: 0,
            since: now,
        }
    }

    /// The worker computes with another number of threads: its rate is no longer what it was.
    pub fn set_slots(&mut self, slots: u16) {
        self.floor = (2 * u32::from(slots)).min(self.ceiling);
        self.tasks = self.floor;
    }

    /// Takes note of one outcome.
    pub fn answered(&mut self) {
        self.answered = self.answered.saturating_add(1);
    }

    /// The depth at `now`. It at most doubles per sample, and falls by a quarter of the way, so that
    /// one long task among many short ones does not empty the pipe.
    pub fn tasks(&mut self, now: Time) -> u32 {
        let elapsed = now.since(self.since);
        let is_sample = match self.answered {
            0 => false,
            few if few < 2 * self.floor => elapsed >= Duration::from_micros(AHEAD_US),
            _ => elapsed >= SAMPLE,
        };
        if is_sample {
            let ahead = u64::from(self.answered) * AHEAD_US / elapsed.as_micros() as u64;
            let wanted = self
                .floor
                .saturating_add(u32::try_from(ahead).unwrap_or(u32::MAX))
                .min(self.ceiling);
            self.tasks = if wanted >= self.tasks {
                wanted.min(self.tasks.saturating_mul(2))
            } else {
                self.tasks - (self.tasks - wanted).div_ceil(4)
            };
            self.answered = 0;
            self.since = now;
        }
        self.tasks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers `per_ms` tasks in each of `ms` milliseconds.
    fn run(depth: &mut Depth, from_ms: u64, ms: u64, per_ms: u32) -> u32 {
        let mut tasks = 0;
        for i in 1..=ms {
            (0..per_ms).for_each(|_| depth.answered());
            tasks = depth.tasks(Time::from_micros((from_ms + i) * 1000));
        }
        tasks
    }

    #[test]
    fn slots_that_answer_at_once_are_no_high_rate() {
        let mut depth = Depth::new(3, 4096, Time::ZERO);
        for burst in 1..10 {
            for answer in 0..3 {
                depth.answered();
                let at = Time::from_micros(burst * 90_000 + answer * 300);
                assert_eq!(depth.tasks(at), 6);
            }
        }
    }

    #[test]
    fn deep_for_tiny_tasks_and_two_per_slot_for_long_ones() {
        let mut depth = Depth::new(2, 4096, Time::ZERO);
        assert_eq!(depth.tasks(Time::ZERO), 4);
        assert_eq!(run(&mut depth, 0, 1, 1000), 8, "doubles at most");
        assert_eq!(run(&mut depth, 1, 30, 10_000), 4096, "stops at the credit");
        depth.answered();
        assert!(
            depth.tasks(Time::from_micros(10_000_000)) > 3000,
            "falls slowly"
        );
        for second in 11..60 {
            depth.answered();
            depth.tasks(Time::from_micros(second * 1_000_000));
        }
        assert_eq!(depth.tasks(Time::from_micros(60_000_000)), 4);
    }
}
