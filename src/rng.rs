//! Seeded randomness, and the wait between two attempts to dial.
//!
//! What it is: [`SplitMix64`], a small generator whose every run can be replayed from its seed, and
//! [`Backoff`]. What it is not: a source of secrets.
//!
//! Invariant: the same seed gives the same numbers, on every machine.

use crate::limits::{BACKOFF_MAX, BACKOFF_MIN};
use crate::time::Duration;

/// Sebastiano Vigna's SplitMix64 (public domain, 2015): one word of state, passes BigCrush, any seed
/// will do.
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// A generator that starts from `seed`.
    pub const fn new(seed: u64) -> SplitMix64 {
        SplitMix64(seed)
    }

    /// The next 64 bits.
    #[allow(clippy::should_implement_trait)] // An iterator would end.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which must not be 0. The bias of the multiply (Lemire 2019, without
    /// the rejection) is below 2^-32 for the small bounds used here.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "a number below 0 was asked for");
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// True `percent` times in a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Capped exponential wait with full-range jitter in its upper half, so that many heads that lost
/// the same worker do not return in step.
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
}

impl Backoff {
    /// Starts at the shortest wait.
    pub const fn new() -> Backoff {
        Backoff { next: BACKOFF_MIN }
    }

    /// The next wait: between half and all of the current step, which then doubles.
    pub fn next(&mut self, rng: &mut SplitMix64) -> Duration {
        let step_us = self.next.as_micros() as u64;
        self.next = (self.next * 2).min(BACKOFF_MAX);
        Duration::from_micros(step_us / 2 + rng.below(step_us / 2 + 1))
    }

    /// Proof of life: the next wait is the shortest again. A mere connect is no proof (a worker that
    /// accepts and closes would otherwise be hammered).
    pub fn reset(&mut self) {
        *self = Backoff::new();
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix_matches_the_published_sequence() {
        let mut rng = SplitMix64::new(1_234_567);
        assert_eq!(rng.next(), 6_457_827_717_110_365_317);
        assert_eq!(rng.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn backoff_grows_to_its_cap_and_resets() {
        let mut rng = SplitMix64::new(7);
        let mut backoff = Backoff::new();
        let mut step = BACKOFF_MIN;
        for _ in 0..20 {
            let wait = backoff.next(&mut rng);
            assert!(wait >= step / 2 && wait <= step, "{wait:?} of {step:?}");
            step = (step * 2).min(BACKOFF_MAX);
        }
        backoff.reset();
        assert!(backoff.next(&mut rng) <= BACKOFF_MIN);
    }
}
