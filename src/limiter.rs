//! How often something may be said.
//!
//! What it is: a token bucket that counts what it leaves out. What it is not: a clock, or the
//! words.
//!
//! Invariant: between any two instants no more is said than the burst and one more per interval,
//! the count of what was left out included.

use crate::time::{Duration, Time};

/// A bucket that gains one token per interval, up to `burst`; to say a thing takes one.
#[derive(Debug)]
pub struct RateLimiter {
    burst: u32,
    interval: Duration,
    /// When the bucket will be full: the one number that says how full it is.
    full_at: Time,
    left_out: u64,
    /// When the first of those was.
    since: Time,
}

impl RateLimiter {
    /// A full bucket.
    pub fn new(burst: u32, interval: Duration) -> RateLimiter {
        assert!(burst > 0, "an empty bucket says nothing");
        RateLimiter {
            burst,
            interval,
            full_at: Time::ZERO,
            left_out: 0,
            since: Time::ZERO,
        }
    }

    /// Asks for a token.
    ///
    /// # Errors
    /// There is none: it is counted as left out, and at the time given there is room to tell how
    /// many were. Until that is done nothing else is said.
    pub fn admit(&mut self, now: Time) -> Result<(), Time> {
        let missing = self.full_at.since(now) + self.interval;
        let wait = missing.saturating_sub(self.interval * self.burst);
        if wait.is_zero() && self.left_out == 0 {
            self.full_at = now + missing;
            return Ok(());
        }
        if self.left_out == 0 {
            self.since = now;
        }
        self.left_out += 1;
        Err(now + wait)
    }

    /// Takes a token to tell how many were left out, and in how many seconds, rounded up.
    pub fn take_left_out(&mut self, now: Time) -> (u64, u64) {
        self.full_at = now + (self.full_at.since(now) + self.interval);
        let count = std::mem::take(&mut self.left_out);
        (
            count,
            now.since(self.since).as_millis().div_ceil(1000) as u64,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn a_burst_is_said_and_the_rest_is_counted_until_there_is_room() {
        let mut limiter = RateLimiter::new(3, Duration::from_secs(10));
        for _ in 0..3 {
            assert_eq!(limiter.admit(at(100)), Ok(()));
        }
        assert_eq!(limiter.admit(at(101)), Err(at(110)));
        assert_eq!(limiter.admit(at(109)), Err(at(110)));
        // The token that has come is for the count.
        assert_eq!(limiter.admit(at(110)), Err(at(110)));
        assert_eq!(limiter.take_left_out(at(110)), (3, 9));
        assert_eq!(limiter.admit(at(110)), Err(at(120)));
        assert_eq!(limiter.take_left_out(at(120)), (1, 10));
    }

    #[test]
    fn one_per_interval_is_always_said_and_the_bucket_fills_up_again() {
        let mut limiter = RateLimiter::new(2, Duration::from_secs(10));
        for i in 0..100 {
            assert_eq!(limiter.admit(at(10 * i)), Ok(()));
        }
        assert_eq!(limiter.admit(at(10_000)), Ok(()));
        assert_eq!(limiter.admit(at(10_000)), Ok(()));
        assert_eq!(limiter.admit(at(10_000)), Err(at(10_010)));
    }
}
