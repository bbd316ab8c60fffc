//! Whether a worker gets the processors that it could use.
//!
//! What it is: a rule over what the worker says its threads ran and waited to run. What it is not: a
//! measure of how fast it is: one that sleeps has all it wants, and one on a slow machine, too. What a
//! hypervisor withholds is not seen here, where threads seem to run, but in the time that tasks take.
//!
//! Invariant: two spans in a row decide, so that a busy second does not; integers only, so that it
//! replays.

use crate::limits::{THROTTLE_RATIO, THROTTLE_SPAN, THROTTLE_WAIT_PART};
use crate::time::Time;

/// What one worker's reports come to.
#[derive(Clone, Copy, Debug)]
pub struct Throttle {
    is_throttled: bool,
    /// The latest span has said the opposite.
    is_doubted: bool,
    /// Of the span that began then.
    since: Time,
    cpu_ms: u64,
    waited_ms: u64,
}

impl Throttle {
    /// For a worker of which nothing is known yet.
    pub fn new(now: Time) -> Throttle {
        Throttle {
            is_throttled: false,
            is_doubted: false,
            since: now,
            cpu_ms: 0,
            waited_ms: 0,
        }
    }

    /// Whether it does not get them.
    pub fn is_throttled(&self) -> bool {
        self.is_throttled
    }

    /// Takes note of what it says it has had since it last did. Returns whether that changes the
    /// verdict.
    pub fn note(&mut self, cpu_ms: u32, waited_ms: u32, now: Time) -> bool {
        self.cpu_ms += u64::from(cpu_ms);
        self.waited_ms += u64::from(waited_ms);
        let span = now.since(self.since);
        if span < THROTTLE_SPAN {
            return false;
        }
        let span_ms = span.as_millis() as u64;
        // It takes half of what begins it to go on.
        let (ratio, part) = match self.is_throttled {
            false => (THROTTLE_RATIO, THROTTLE_WAIT_PART),
            true => (THROTTLE_RATIO / 2, THROTTLE_WAIT_PART * 2),
        };
        let waits = self.waited_ms >= ratio * self.cpu_ms && self.waited_ms * part >= span_ms;
        let is_contrary = waits != self.is_throttled;
        let is_decided = is_contrary && self.is_doubted;
        *self = Throttle {
            is_throttled: self.is_throttled != is_decided,
            is_doubted: is_contrary && !is_decided,
            ..Throttle::new(now)
        };
        is_decided
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    /// The verdict after each report, 2 s apart, of so many milliseconds run and waited.
    fn verdicts(reports: &[(u32, u32)]) -> Vec<bool> {
        let mut now = Time::ZERO;
        let mut throttle = Throttle::new(now);
        let verdict = |&(cpu_ms, waited_ms): &(u32, u32)| {
            now = now + Duration::from_secs(2);
            let before = throttle.is_throttled();
            let has_changed = throttle.note(cpu_ms, waited_ms, now);
            assert_eq!(has_changed, before != throttle.is_throttled());
            throttle.is_throttled()
        };
        reports.iter().map(verdict).collect()
    }

    #[test]
    fn a_tenth_of_a_processor_is_seen_in_the_second_report_and_its_return_as_well() {
        let (cut, whole) = ((200, 1800), (2000, 0));
        let reports = [whole, cut, cut, cut, whole, whole];
        let expected = [false, false, true, true, true, false];
        assert_eq!(verdicts(&reports), expected);
    }

    #[test]
    fn one_busy_report_decides_nothing() {
        let (cut, whole) = ((200, 1800), (2000, 0));
        assert_eq!(verdicts(&[cut, whole, cut, whole]), [false; 4]);
        let expected = [false, true, true, true, true];
        assert_eq!(verdicts(&[cut, cut, whole, cut, whole]), expected);
    }

    #[test]
    fn sleep_and_a_shared_processor_are_no_throttling() {
        assert_eq!(verdicts(&[(0, 0); 3]), [false; 3], "it sleeps");
        assert_eq!(verdicts(&[(1, 400); 3]), [false; 3], "and is woken late");
        assert_eq!(verdicts(&[(2000, 2000); 3]), [false; 3], "two for one");
        // It could use less than before, and gets that.
        let reports = [(200, 1800), (200, 1800), (0, 10), (0, 10)];
        assert_eq!(verdicts(&reports), [false, true, true, false]);
    }

    #[test]
    fn reports_in_quick_succession_are_one() {
        let mut throttle = Throttle::new(Time::ZERO);
        for ms in 1..2_000 {
            let now = Time::ZERO + Duration::from_millis(ms);
            assert!(!throttle.note(0, 1, now), "after {ms} ms");
        }
        assert!(throttle.note(0, 1, Time::ZERO + THROTTLE_SPAN * 2));
    }
}
