//! What the head is asked to compute, and what it must print.
//!
//! What it is: [`Work`], a job of known length, and its serial result. What it is not: a test of the
//! kernels; the serial run uses the same.
//!
//! Invariant: what is expected was computed in one thread, without head, worker or network.

use std::sync::OnceLock;
use std::time::Duration;

use teamster::format::{Format, Rows};
use teamster::kernel::Stop;
use teamster::kernels::primes::Primes;
use teamster::kernels::square::Squares;
use teamster::kernels::{Job, builtin};
use teamster::serial;

/// Some seconds of work for one processor.
const PRIMES_TO: u64 = 15_000_000_000;

/// A job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Sleeps: as many runs side by side as one likes.
    Square { count: u64, work_ms: u64 },
    /// Computes.
    Primes,
}

impl Work {
    /// The head's arguments for it.
    pub fn arguments(self) -> Vec<String> {
        match self {
            Work::Square { count, work_ms } => vec![
                "square".into(),
                "--count".into(),
                count.to_string(),
                "--work-ms".into(),
                work_ms.to_string(),
            ],
            Work::Primes => vec!["primes".into(), "1".into(), PRIMES_TO.to_string()],
        }
    }

    /// How long it takes on so many slots, at worst.
    pub fn time(self, slots: u32) -> Duration {
        match self {
            Work::Square { count, work_ms } => Duration::from_millis(count * (work_ms + 1)) / slots,
            // Eight runs may share two processors.
            Work::Primes => Duration::from_secs(60),
        }
    }

    /// How many tasks it has, if that is known here.
    pub fn tasks(self) -> Option<u64> {
        match self {
            Work::Square { count, .. } => Some(count),
            Work::Primes => None,
        }
    }

    /// What a serial run prints.
    pub fn expected(self) -> String {
        static PRIMES: OnceLock<String> = OnceLock::new();
        match self {
            Work::Square { count, .. } => {
                // The simulated work leaves no trace in the results.
                let squares = serial_outputs(Job::Square(Squares::new(count, 0, rows())));
                let rows = squares.iter().enumerate();
                rows.map(|(n, square)| format!("{n} -> {square}\n"))
                    .collect()
            }
            Work::Primes => PRIMES
                .get_or_init(|| {
                    let primes = Job::Primes(Primes::new(1, PRIMES_TO, rows()));
                    format!("{}\n", serial_outputs(primes).iter().sum::<u64>())
                })
                .clone(),
        }
    }
}

fn rows() -> Rows {
    Rows {
        format: Format::Text,
        details: false,
    }
}

/// The number that each task of a job gives, in order.
fn serial_outputs(job: Job) -> Vec<u64> {
    let mut outputs = Vec::new();
    let ran = serial::run(job, &builtin(), &Stop::new(), |_, _, output| {
        let bytes = output.try_into().expect("both jobs give 64-bit numbers");
        outputs.push(u64::from_be_bytes(bytes));
    });
    ran.expect("both kernels are built in");
    outputs
}
