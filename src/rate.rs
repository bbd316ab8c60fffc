//! How fast a run goes, and when it will be over.
//!
//! What it is: [`Meter`], a few marks of how much was done when, and what follows from them. What it
//! is not: a clock, or a smoothed mean: a worker that joins or leaves shows within `RATE_WINDOW`.
//!
//! Tasks of equal length end in bursts, one per slot, and to measure up to now would see the rate
//! fall between bursts and jump at each. So it is measured from mark to mark, each at the latest
//! outcome; the time since counts only once it is longer than the pauses were.
//!
//! Invariant: the latest mark is the latest change, and there are a bounded number of marks.

use std::collections::VecDeque;

use crate::limits::{RATE_AFTER, RATE_MARK_INTERVAL, RATE_MARKS_MIN, RATE_WINDOW};
use crate::time::{Duration, Time};

/// So many tasks in so long; a fraction, as decisions are made in integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tasks answered ...
    pub tasks: u64,
    /// ... in this time; above zero.
    pub span: Duration,
}

impl Rate {
    /// Thousandths of a task per second.
    pub fn per_s_milli(&self) -> u64 {
        let per_s_milli = u128::from(self.tasks) * 1_000_000_000 / self.span.as_micros();
        u64::try_from(per_s_milli).unwrap_or(u64::MAX)
    }
}

/// What was done when, for the latest while.
#[derive(Debug, Default)]
pub struct Meter {
    marks: VecDeque<Mark>,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Time,
    tasks: u64,
    /// In units of the job's own, of which its tasks may hold different numbers.
    work: u64,
}

impl Meter {
    /// How many tasks were done when it was last told; `None` before the run has begun.
    #[inline(always)]
    pub fn tasks(&self) -> Option<u64> {
        self.marks.back().map(|last| last.tasks)
    }

    /// So much is done by now. The first call is the beginning of the run.
    pub fn note(&mut self, now: Time, tasks: u64, work: u64) {
        let count = self.marks.len();
        if self.marks.back().is_some_and(|last| last.tasks == tasks) {
            return;
        }
        if count >= 2 && now < self.marks[count - 2].at + RATE_MARK_INTERVAL {
            self.marks.pop_back();
        }
        self.marks.push_back(Mark {
            at: now,
            tasks,
            work,
        });
        // Of long tasks some are kept beyond the window, or nothing would be known of them.
        while self.marks.len() > RATE_MARKS_MIN && self.marks[1].at + RATE_WINDOW < now {
            self.marks.pop_front();
        }
    }

    /// The recent rate; `None` while it is not known.
    pub fn rate(&self, now: Time) -> Option<Rate> {
        let (first, last, until) = self.span(now)?;
        Some(Rate {
            tasks: last.tasks - first.tasks,
            span: until.since(first.at),
        })
    }

    /// How long the `work` that is left will take at the recent rate; `None` while it is not known.
    pub fn left(&self, now: Time, work: u64) -> Option<Duration> {
        let (first, last, until) = self.span(now)?;
        let done = u128::from(last.work.checked_sub(first.work).filter(|&done| done > 0)?);
        let span_us = until.since(first.at).as_micros();
        let us = u64::try_from(u128::from(work) * span_us / done).ok()?;
        Some((until + Duration::from_micros(us)).since(now))
    }

    /// The first and the latest mark, and up to when the latter stands.
    fn span(&self, now: Time) -> Option<(Mark, Mark, Time)> {
        let (&first, &last) = (self.marks.front()?, self.marks.back()?);
        let pairs = self.marks.iter().zip(self.marks.iter().skip(1));
        let pause = pairs.map(|(one, next)| next.at.since(one.at)).max()?;
        let until = match now.since(last.at) > pause * 2 {
            true => now,
            false => last.at,
        };
        (until.since(first.at) >= RATE_AFTER).then_some((first, last, until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Time {
        Time::from_micros(ms * 1000)
    }

    #[test]
    fn nothing_is_said_before_it_is_known() {
        let mut meter = Meter::default();
        assert_eq!(meter.rate(ms(5000)), None);
        meter.note(ms(0), 0, 0);
        assert_eq!(meter.rate(ms(5000)), None, "nothing was done");
        meter.note(ms(600), 8, 8);
        assert_eq!(meter.left(ms(700), 9), None, "too early to tell");
        meter.note(ms(1200), 16, 16);
        assert_eq!(meter.rate(ms(1200)).unwrap().per_s_milli(), 13_333);
    }

    #[test]
    fn bursts_do_not_make_it_waver() {
        let mut meter = Meter::default();
        meter.note(ms(0), 0, 0);
        for round in 1..=5 {
            // Two slots, whose answers come 3 ms apart.
            meter.note(ms(round * 1000), round * 2 - 1, round * 2 - 1);
            meter.note(ms(round * 1000 + 3), round * 2, round * 2);
        }
        for now in [5100, 5500, 5950] {
            let left_ms = meter.left(ms(now), 10).unwrap().as_millis() as u64;
            let truth_ms = 10_003 - now;
            assert!(left_ms.abs_diff(truth_ms) <= truth_ms / 100, "{left_ms}");
        }
    }

    #[test]
    fn a_standstill_shows() {
        let mut meter = Meter::default();
        (0..=20).for_each(|i| meter.note(ms(i * 500), i, i));
        let before = meter.left(ms(10_000), 20).unwrap();
        assert_eq!(before.as_millis(), 10_000);
        let later = meter.left(ms(40_000), 20).unwrap();
        assert!(later > before * 3, "{later:?}");
    }

    #[test]
    fn a_change_shows_within_the_window_and_marks_are_few() {
        let mut meter = Meter::default();
        let mut done = 0;
        for i in 0..60_000 {
            done += if i < 30_000 { 8 } else { 2 };
            meter.note(ms(i), done, done);
        }
        let per_s_milli = meter.rate(ms(60_000)).unwrap().per_s_milli();
        assert_eq!(per_s_milli, 2_000_000);
        assert!(meter.marks.len() < 60, "{} marks", meter.marks.len());
    }

    #[test]
    fn long_tasks_have_a_rate_too() {
        let mut meter = Meter::default();
        (0..100).for_each(|i| meter.note(ms(i * 60_000), i, i));
        assert_eq!(meter.rate(ms(99 * 60_000)).unwrap().per_s_milli(), 16);
        assert_eq!(meter.marks.len(), RATE_MARKS_MIN);
    }

    #[test]
    fn time_left_goes_by_work_and_not_by_tasks() {
        let mut meter = Meter::default();
        // Large tasks first: a tenth of the tasks were nine tenths of the work.
        meter.note(ms(0), 0, 0);
        meter.note(ms(9000), 10, 900);
        assert_eq!(meter.left(ms(9000), 100).unwrap().as_millis(), 1000);
    }
}
