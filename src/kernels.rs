//! The built-in kernels and jobs, one file each.
//!
//! What it is: the two lists that a new job is added to, [`builtin`] for workers and [`Job`] for the
//! head. What it is not: a registry at run time; `Job` is an enum so that each call is direct and a
//! job can be cloned for the serial run.
//!
//! Invariant: every job's kernel is among [`builtin`], but that of `map`: which programs a worker
//! runs is known when it starts.

use std::borrow::Cow;

use crate::kernel::{Delivery, Kernels, Next, Workload};
use crate::words::digits;

pub mod bmp;
pub mod mandelbrot;
pub mod map;
pub mod primes;
pub mod sieve;
pub mod square;

/// What every worker offers.
pub fn builtin() -> Kernels {
    Kernels::new()
        .with(square::NAME, square::open)
        .in_words(square::NAME, square::WORDS)
        .with(primes::NAME, primes::open)
        .in_words(primes::NAME, primes::WORDS)
        .with(mandelbrot::NAME, mandelbrot::open)
}

/// So many whole numbers between blanks, each as on the command line of `head`.
fn numbers<const N: usize>(text: &str) -> Result<[u64; N], String> {
    let wrong =
        || format!("{text:?}, where there should be {N} whole numbers, with a blank between");
    let words = text.split_whitespace();
    let numbers: Option<Vec<u64>> = words.map(|word| digits(word)?.parse().ok()).collect();
    numbers
        .and_then(|numbers| numbers.try_into().ok())
        .ok_or_else(wrong)
}

/// A number of 8 bytes as a line of text.
fn number_in_words(output: &[u8]) -> String {
    let number = output.try_into().map(u64::from_be_bytes);
    format!("{}\n", number.expect("these kernels give 8 bytes"))
}

/// A job chosen on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// `head square`
    Square(square::Squares),
    /// `head primes`
    Primes(primes::Primes),
    /// `head mandelbrot`
    Mandelbrot(mandelbrot::Picture),
    /// `head map`
    Map(map::Map),
}

/// Hands a call on to whichever job it is.
macro_rules! delegate {
    ($self:expr, $job:ident => $call:expr) => {
        match $self {
            Job::Square($job) => $call,
            Job::Primes($job) => $call,
            Job::Mandelbrot($job) => $call,
            Job::Map($job) => $call,
        }
    };
}

impl Workload for Job {
    fn kernel(&self) -> &str {
        delegate!(self, job => job.kernel())
    }

    fn describe(&self) -> String {
        delegate!(self, job => job.describe())
    }

    fn setup(&self) -> Vec<u8> {
        delegate!(self, job => job.setup())
    }

    fn tasks_total(&self) -> Option<u64> {
        delegate!(self, job => job.tasks_total())
    }

    fn share(&self) -> Option<(u64, u64)> {
        delegate!(self, job => job.share())
    }

    fn reason<'a>(&self, output: &'a [u8]) -> Cow<'a, [u8]> {
        delegate!(self, job => job.reason(output))
    }

    fn next(&mut self, input: &mut Vec<u8>) -> Next {
        delegate!(self, job => job.next(input))
    }

    fn feed(&mut self, bytes: &[u8]) {
        delegate!(self, job => job.feed(bytes));
    }

    fn unfit(&self, input: &[u8]) -> Option<String> {
        delegate!(self, job => job.unfit(input))
    }

    fn is_final(&self, output: &[u8]) -> bool {
        delegate!(self, job => job.is_final(output))
    }

    fn deliver(&mut self, delivery: &Delivery<'_>, text: &mut Vec<u8>) {
        delegate!(self, job => job.deliver(delivery, text));
    }

    fn finish(&mut self, text: &mut Vec<u8>) -> bool {
        delegate!(self, job => job.finish(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Rows;

    #[test]
    fn every_job_has_its_kernel() {
        let kernels = builtin();
        let view = mandelbrot::View::new((1, 1), (0.0, 0.0), 1.0, 1);
        for job in [
            Job::Mandelbrot(mandelbrot::Picture::new(view, String::new())),
            Job::Square(square::Squares::new(1, 0, Rows::default())),
            Job::Primes(primes::Primes::new(0, 1, Rows::default())),
        ] {
            assert!(kernels.open(job.kernel(), &job.setup()).is_ok());
        }
    }

    #[test]
    fn a_job_says_what_was_typed() {
        let mut job = Job::Primes(primes::Primes::new(7, 99, Rows::default()));
        job.next(&mut Vec::new());
        assert_eq!(job.describe(), "primes 7 99", "also once it has begun");
        let job = Job::Square(square::Squares::new(10, 1000, Rows::default()));
        assert_eq!(job.describe(), "square --count 10 --work-ms 1000");
    }
}
