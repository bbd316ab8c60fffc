//! Time as the roles see it: microseconds since the process (or the simulated world) began.
//!
//! What it is: [`Time`], an instant that can be printed, compared and built from a number, and
//! [`Timers`], a set of named deadlines. What it is not: a clock; only the reactor reads one.
//!
//! Invariant: a key has at most one deadline, and equal deadlines fire in the order of their keys,
//! so that a replay fires them in the same order.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::{Add, Sub};

pub use std::time::Duration;

/// An instant, in whole microseconds since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The start.
    pub const ZERO: Time = Time(0);

    /// The instant `us` microseconds after the start.
    pub const fn from_micros(us: u64) -> Time {
        Time(us)
    }

    /// Microseconds since the start.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Microseconds passed since `earlier`; zero if `earlier` is later.
    pub const fn micros_since(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Time passed since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_micros(self.micros_since(earlier))
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    /// Rounds up to a whole microsecond and saturates, so that a deadline is never early.
    fn add(self, wait: Duration) -> Time {
        let us = wait.as_nanos().div_ceil(1000);
        Time(self.0.saturating_add(u64::try_from(us).unwrap_or(u64::MAX)))
    }
}

impl Sub for Time {
    type Output = Duration;

    fn sub(self, earlier: Time) -> Duration {
        self.since(earlier)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// Deadlines by key. Exact cancel in O(log n) and no tombstones; a heap would need back-indices, a
/// wheel would tick while idle.
#[derive(Debug)]
pub struct Timers<K> {
    due: BTreeSet<(Time, K)>,
    by_key: BTreeMap<K, Time>,
}

impl<K: Copy + Ord> Timers<K> {
    /// No deadlines.
    pub fn new() -> Timers<K> {
        Timers {
            due: BTreeSet::new(),
            by_key: BTreeMap::new(),
        }
    }

    /// Sets or moves the deadline of `key`.
    pub fn set(&mut self, key: K, at: Time) {
        if let Some(old) = self.by_key.insert(key, at) {
            self.due.remove(&(old, key));
        }
        self.due.insert((at, key));
    }

    /// Sets the deadline of `key` unless it has one; says whether it did.
    pub fn set_if_new(&mut self, key: K, at: Time) -> bool {
        let is_new = !self.by_key.contains_key(&key);
        if is_new {
            self.set(key, at);
        }
        is_new
    }

    /// Forgets the deadline of `key`; says whether it had one.
    pub fn cancel(&mut self, key: K) -> bool {
        match self.by_key.remove(&key) {
            Some(at) => self.due.remove(&(at, key)),
            None => false,
        }
    }

    /// The deadline of `key`, if it has one.
    pub fn get(&self, key: K) -> Option<Time> {
        self.by_key.get(&key).copied()
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Time> {
        self.due.first().map(|&(at, _)| at)
    }

    /// Takes the earliest deadline that is not after `now`.
    pub fn pop_due(&mut self, now: Time) -> Option<K> {
        let &(at, key) = self.due.first()?;
        if at > now {
            return None;
        }
        self.due.remove(&(at, key));
        self.by_key.remove(&key);
        Some(key)
    }
}

impl<K: Copy + Ord> Default for Timers<K> {
    fn default() -> Self {
        Timers::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adding_rounds_up() {
        let t = Time::ZERO + Duration::from_nanos(1);
        assert_eq!(t, Time::from_micros(1));
        assert_eq!(
            Time::from_micros(u64::MAX) + Duration::MAX,
            Time::from_micros(u64::MAX)
        );
    }

    #[test]
    fn timers_move_cancel_and_break_ties_by_key() {
        let mut timers = Timers::new();
        let at = Time::from_micros;
        timers.set('b', at(5));
        timers.set('a', at(5));
        timers.set('c', at(1));
        timers.set('c', at(9));
        assert_eq!(timers.next(), Some(at(5)));
        assert_eq!(timers.pop_due(at(4)), None);
        assert_eq!(timers.pop_due(at(5)), Some('a'));
        assert_eq!(timers.pop_due(at(5)), Some('b'));
        assert!(!timers.set_if_new('c', at(2)));
        assert!(timers.cancel('c'));
        assert!(!timers.cancel('c'));
        assert_eq!(timers.next(), None);
    }
}
