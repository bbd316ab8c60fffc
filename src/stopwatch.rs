//! How a thread of the pool times its attempts.
//!
//! What it is: the clock, and for a millisecond after each of its readings a counter instead. To read
//! the clock once per attempt was the largest part of what an empty task costs its worker. (To read it
//! once for several would charge a long one to its neighbours.) What it is not: a clock of its own:
//! where there is no counter, or it is not yet known how fast it counts, or it does not count as it
//! did, the clock is read each time.
//!
//! Invariant: what takes a millisecond or more is timed by the clock, and what takes less is no more
//! wrong than the counter was at its last reading beside the clock: ten microseconds and a 256th. (If
//! the machine was suspended or moved since, for a quarter of a second at most.)

use std::ops::Range;
use std::time::Instant;

use crate::counter;
use crate::time::Time;

/// How long the counter is relied on after a reading of the clock.
const SPAN_NS: u64 = 1_000_000;

/// How long it must have been watched before it is known how fast it counts.
const WATCH_NS: u64 = 10_000_000;

/// How far counter and clock may have come apart, beside a part of the time between.
const ERROR_NS_MAX: u64 = 10_000;
const ERROR_PART: u64 = 256;

/// Both are read together if the counter got no further than so while the clock was: some
/// microseconds, on whatever processor. Else the thread may have been held up in between.
const TOGETHER_COUNT: u64 = 10_000;

/// Rates are fractions of this.
const ONE_BITS: u32 = 32;

/// What is believed of a counter: 16 GHz to 16 MHz. So a span, too, is 256 ms long at most, whatever
/// happened while the counter was watched.
const RATES: Range<u128> = 1 << (ONE_BITS - 4)..1 << (ONE_BITS + 6);

/// Tells a thread the time.
pub struct Stopwatch<S = Machine> {
    source: S,
    /// Since when the counter is watched.
    first: Option<Reading>,
    last: Reading,
    /// Nanoseconds per count, in fractions of `1 << ONE_BITS`; 0 while that is not known.
    rate: u64,
    /// How much further than `last` it may be relied on.
    count_max: u64,
}

/// What clock and counter stood at together.
#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    ns: u64,
    count: u64,
}

/// Where time comes from.
pub trait Source {
    /// The clock, in nanoseconds since a beginning.
    fn ns(&self) -> u64;
    /// The counter.
    fn count(&self) -> u64;
    /// Whether there is one.
    fn has_counter(&self) -> bool;
}

/// The machine's own clock and counter.
pub struct Machine {
    epoch: Instant,
    has_counter: bool,
}

impl Source for Machine {
    fn ns(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    #[inline(always)]
    fn count(&self) -> u64 {
        counter::read()
    }

    fn has_counter(&self) -> bool {
        self.has_counter
    }
}

impl Stopwatch {
    /// One whose time begins at `epoch`.
    pub fn new(epoch: Instant, has_counter: bool) -> Stopwatch {
        Stopwatch::over(Machine { epoch, has_counter })
    }
}

impl<S: Source> Stopwatch<S> {
    fn over(source: S) -> Stopwatch<S> {
        Stopwatch {
            source,
            first: None,
            last: Reading::default(),
            rate: 0,
            count_max: 0,
        }
    }

    /// What time it is.
    #[inline(always)]
    pub fn now(&mut self) -> Time {
        if self.count_max > 0 {
            let passed = self.source.count().wrapping_sub(self.last.count);
            if passed < self.count_max {
                return time(self.last.ns + scale(passed, self.rate));
            }
        }
        self.look()
    }

    /// Reads the clock, and beside it the counter, to go on from there.
    #[cold]
    fn look(&mut self) -> Time {
        if !self.source.has_counter() {
            return time(self.source.ns());
        }
        let before = self.source.count();
        let ns = self.source.ns();
        let count = self.source.count();
        let reading = Reading { ns, count };
        match count.wrapping_sub(before) < TOGETHER_COUNT {
            true => self.learn(reading),
            false => self.count_max = 0,
        }
        time(ns)
    }

    /// Finds out how fast it counts, from the first reading to this one.
    fn learn(&mut self, reading: Reading) {
        let is_as_before = self.rate == 0 || self.agrees(reading);
        let first = *(self.first.get_or_insert(reading));
        self.last = reading;
        let (ns, count) = (
            reading.ns - first.ns,
            reading.count.wrapping_sub(first.count),
        );
        if !is_as_before {
            // Another machine, maybe, to which this one was moved.
            self.watch_from(reading);
        } else if ns >= WATCH_NS {
            let rate = (u128::from(ns) << ONE_BITS) / u128::from(count.max(1));
            match RATES.contains(&rate) {
                true => {
                    self.rate = rate as u64;
                    self.count_max = (SPAN_NS << ONE_BITS) / self.rate;
                }
                // It, or the clock, has leapt or stood still meanwhile.
                false => self.watch_from(reading),
            }
        }
    }

    /// Begins anew to find out.
    fn watch_from(&mut self, reading: Reading) {
        self.first = Some(reading);
        (self.rate, self.count_max) = (0, 0);
    }

    /// Whether the counter has counted since the last reading as it did before.
    fn agrees(&self, reading: Reading) -> bool {
        let passed = reading.count.wrapping_sub(self.last.count);
        let ns = reading.ns - self.last.ns;
        let error = scale(passed, self.rate).abs_diff(ns);
        error <= ERROR_NS_MAX + ns / ERROR_PART
    }
}

fn time(ns: u64) -> Time {
    Time::from_micros(ns / 1000)
}

/// How long it takes to count so far.
#[inline(always)]
fn scale(count: u64, rate: u64) -> u64 {
    match count.checked_mul(rate) {
        Some(product) => product >> ONE_BITS,
        None => ((u128::from(count) * u128::from(rate)) >> ONE_BITS) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// A machine whose counter may go at any rate.
    struct Fake {
        ns: Cell<u64>,
        count: Cell<u64>,
        /// Times that the clock was read.
        looks: Cell<u32>,
        /// Counts while the clock is read.
        held_up: Cell<u64>,
        has_counter: bool,
    }

    impl Source for Fake {
        fn ns(&self) -> u64 {
            self.looks.set(self.looks.get() + 1);
            self.count
                .set(self.count.get().wrapping_add(self.held_up.get()));
            self.ns.get()
        }

        fn count(&self) -> u64 {
            self.count.get()
        }

        fn has_counter(&self) -> bool {
            self.has_counter
        }
    }

    /// Counts thrice in two nanoseconds, and soon past its end.
    fn watch(has_counter: bool) -> Stopwatch<Fake> {
        Stopwatch::over(Fake {
            ns: Cell::new(5_000_000),
            count: Cell::new(u64::MAX - 1000),
            looks: Cell::new(0),
            held_up: Cell::new(0),
            has_counter,
        })
    }

    impl Stopwatch<Fake> {
        fn pass(&self, ns: u64, count: u64) {
            self.source.ns.set(self.source.ns.get() + ns);
            let now = self.source.count.get();
            self.source.count.set(now.wrapping_add(count));
        }

        /// Reads it after so long; says whether that was to read the clock.
        fn after(&mut self, ns: u64, count: u64) -> bool {
            self.pass(ns, count);
            let looks = self.source.looks.get();
            let us = self.now().as_micros();
            assert!(
                us.abs_diff(self.source.ns.get() / 1000) <= 1,
                "but for the rounding"
            );
            self.source.looks.get() > looks
        }
    }

    const MS: u64 = 1_000_000;

    #[test]
    fn short_times_are_counted_and_long_ones_read_off_the_clock() {
        let mut watch = watch(true);
        for _ in 0..11 {
            assert!(watch.after(MS, 3 * MS / 2), "it is watched");
        }
        for ns in [100, 10_000, 900_000] {
            let mut sum = 0;
            while sum + ns < MS {
                assert!(!watch.after(ns, 3 * ns / 2));
                sum += ns;
            }
            assert!(watch.after(MS, 3 * MS / 2));
        }
        assert!(watch.after(3600 * 1000 * MS, 5400 * 1000 * MS));
        assert!(!watch.after(1000, 1500));
    }

    #[test]
    fn a_counter_that_goes_at_another_rate_is_left_alone_until_that_is_known() {
        // It leaps, or goes back.
        for count in [10 * MS, u64::MAX - 7 * MS] {
            let mut watch = watch(true);
            watch.now();
            assert!(watch.after(10 * MS, 15 * MS));
            assert!(!watch.after(1000, 1500));
            assert!(watch.after(MS, count), "{count}");
            for _ in 0..10 {
                assert!(watch.after(MS, 2 * MS), "{count}");
            }
            assert!(!watch.after(1000, 2000), "{count}");
        }
    }

    /// As where the machine was suspended, or moved, before the rate was known.
    #[test]
    fn a_leap_while_it_is_watched_is_no_rate() {
        const HOUR: u64 = 3600 * 1000 * MS;
        // The counter began anew, stood still, or went on while the clock stood still.
        for (ns, count) in [
            (2000 * MS, 7),
            (HOUR, u64::MAX / 2),
            (HOUR, 0),
            (10 * MS, HOUR),
        ] {
            let mut watch = watch(true);
            watch.now();
            assert!(watch.after(MS, 3 * MS / 2));
            assert!(watch.after(ns, count));
            for _ in 0..10 {
                assert!(watch.after(MS, 3 * MS / 2), "{ns} {count}");
            }
            assert!(!watch.after(1000, 1500), "{ns} {count}");
            assert!(watch.count_max < 10_000_000);
        }
    }

    #[test]
    fn a_reading_that_took_long_is_none_to_go_on_from() {
        let mut watch = watch(true);
        watch.now();
        watch.after(10 * MS, 15 * MS);
        assert!(!watch.after(1000, 1500));
        watch.source.held_up.set(TOGETHER_COUNT);
        assert!(watch.after(2 * MS, 3 * MS));
        watch.source.held_up.set(0);
        assert!(watch.after(1000, 1500));
    }

    #[test]
    fn without_a_counter_it_is_the_clock() {
        let mut watch = watch(false);
        for _ in 0..100 {
            assert!(watch.after(MS, 0));
        }
    }

    #[test]
    fn this_machine_agrees_with_its_clock() {
        let epoch = Instant::now();
        let mut watch = Stopwatch::new(epoch, counter::is_reliable());
        let mut latest = watch.now();
        while epoch.elapsed().as_millis() < 50 {
            let before = epoch.elapsed().as_micros() as u64;
            let now = watch.now();
            let after = epoch.elapsed().as_micros() as u64;
            assert!(
                (before..=after + 20).contains(&(now.as_micros() + 10)),
                "{before} {now} {after}"
            );
            assert!(now.as_micros() + 10 >= latest.as_micros());
            latest = now;
        }
    }
}
