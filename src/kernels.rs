//! The built-in kernels and jobs, one file each.
//!
//! What it is: the two lists that a new job is added to, [`builtin`] for workers and [`Job`] for the
//! head. What it is not: a registry at run time; `Job` is an enum so that each call is direct and a
//! job can be cloned for the serial run.
//!
//! Invariant: every job's kernel is among [`builtin`].

use crate::kernel::{Delivery, Kernels, Next, Workload};

pub mod primes;
pub mod sieve;
pub mod square;

/// What every worker offers.
pub fn builtin() -> Kernels {
    Kernels::new()
        .with(square::NAME, square::open)
        .with(primes::NAME, primes::open)
}

/// A job chosen on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// `head square`
    Square(square::Squares),
    /// `head primes`
    Primes(primes::Primes),
}

/// Hands a call on to whichever job it is.
macro_rules! delegate {
    ($self:expr, $job:ident => $call:expr) => {
        match $self {
            Job::Square($job) => $call,
            Job::Primes($job) => $call,
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

    fn next(&mut self, input: &mut Vec<u8>) -> Next {
        delegate!(self, job => job.next(input))
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
        for job in [
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
