//! Numbers as people read and type them.
//!
//! What it is: how times, rates, sizes and shares are spelt on standard error, and what passes for
//! a whole number. What it is not: for programs to read; they get whole numbers and plain units.
//!
//! Invariant: no floating point, and never more digits than mean something.

use std::fmt;

use crate::rate::Rate;
use crate::time::Duration;

/// A time, to two units: `0.13 s`, `15 s`, `2 min 5 s`, `3 h 12 min`.
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (s, ms) = (self.0.as_secs(), self.0.subsec_millis());
        match s {
            0..10 => write!(f, "{s}.{:02} s", ms / 10),
            10..60 => write!(f, "{s} s"),
            60..3600 => write!(f, "{} min {} s", s / 60, s % 60),
            3600..86_400 => write!(f, "{} h {} min", s / 3600, s / 60 % 60),
            _ => write!(f, "{} d {} h", s / 86_400, s / 3600 % 24),
        }
    }
}

/// Tasks per second, or per minute if they are few: `812345/s`, `48.2/s`, `3.00/min`.
pub struct PerTime(pub Rate);

impl fmt::Display for PerTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_s_milli = self.0.per_s_milli();
        let (milli, unit) = match per_s_milli {
            0..500 => (per_s_milli * 60, "min"),
            _ => (per_s_milli, "s"),
        };
        match milli {
            0..10_000 => write!(f, "{}.{:02}/{unit}", milli / 1000, milli / 10 % 100),
            10_000..100_000 => write!(f, "{}.{}/{unit}", milli / 1000, milli / 100 % 10),
            _ => write!(f, "{}/{unit}", milli / 1000),
        }
    }
}

/// Bytes, in the largest unit of which there is one: `96 B`, `1.5 KiB`, `230 MiB`.
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let fitting = (1..=units.len()).take_while(|power| self.0 >> (10 * power) > 0);
        let Some(power) = fitting.last() else {
            return f.pad(&format!("{} B", self.0));
        };
        let tenths = (u128::from(self.0) * 10) >> (10 * power);
        let unit = units[power - 1];
        f.pad(&match tenths {
            0..100 => format!("{}.{} {unit}", tenths / 10, tenths % 10),
            _ => format!("{} {unit}", tenths / 10),
        })
    }
}

/// Thousandths as a share of a hundred: `95%`.
pub struct Percent(pub u64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}%", self.0 / 10))
    }
}

/// `1 task`, `2 tasks`.
pub fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// That so many tasks go, as in "3 tasks go elsewhere".
pub fn tasks_go(number: u64) -> String {
    let verb = if number == 1 { "goes" } else { "go" };
    format!("{} {verb}", count(number, "task"))
}

/// The digits of a whole number, between which there may be `_`; `None` if it is something else.
pub fn digits(typed: &str) -> Option<String> {
    let is_digit = |c: char| c.is_ascii_digit();
    let is_whole = typed.starts_with(is_digit)
        && typed.ends_with(is_digit)
        && typed.chars().all(|c| is_digit(c) || c == '_');
    is_whole.then(|| typed.replace('_', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (ms, text) in [
            (0, "0.00 s"),
            (1_239, "1.23 s"),
            (59_999, "59 s"),
            (125_000, "2 min 5 s"),
            (11_520_000, "3 h 12 min"),
            (90_000_000, "1 d 1 h"),
        ] {
            assert_eq!(Span(Duration::from_millis(ms)).to_string(), text);
        }
    }

    #[test]
    fn rates() {
        for (tasks, secs, text) in [
            (812_345, 1, "812345/s"),
            (482, 10, "48.2/s"),
            (5, 3, "1.66/s"),
            (1, 20, "3.00/min"),
        ] {
            let span = Duration::from_secs(secs);
            assert_eq!(PerTime(Rate { tasks, span }).to_string(), text);
        }
    }

    #[test]
    fn sizes_and_shares() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (230 << 20, "230 MiB"),
            (u64::MAX, "15 EiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
        assert_eq!(format!("[{:>5}]", Percent(958)), "[  95%]");
        assert_eq!(count(1, "task"), "1 task");
    }
}
