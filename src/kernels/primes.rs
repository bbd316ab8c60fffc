//! The job `primes`: how many primes lie in a range.
//!
//! What it is: the kernel and the workload, so that the bytes between them are known in this file
//! only. What it is not: the sieve, which is next door and knows neither bytes nor tasks.
//!
//! Set-up: nothing. Input: from, u64, and to, u64, inclusive. Output: the count, u64. All big endian.
//!
//! Invariant: the chunks cover the range without gap or overlap, and the one row is a number only if
//! every chunk gave one.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::format::{Row, Rows, Value, log_failure, number};
use crate::kernel::{Delivery, Kernel, KernelError, Next, Stop, Words, Workload};
use crate::kernels::sieve::{TO_MAX, count_primes};
use crate::kernels::{number_in_words, numbers};

/// Its name on the wire and on the command line.
pub const NAME: &str = "primes";

/// A chunk is this part of what remains: large ones first for little overhead, small ones last so
/// that all workers end together.
const CHUNK_SHARE: u64 = 64;
/// Shortest chunk: a third of a millisecond of sieving, a few times what a task costs on the way.
const CHUNK_LEN_MIN: u64 = 1 << 20;
/// Longest chunk, unless the start-up asks for more: ten milliseconds of sieving.
const CHUNK_LEN_MAX: u64 = 1 << 25;
/// Every chunk first finds the primes up to the root of its end. Measured from 10^12 to 10^14 that
/// costs as much as sieving about one root's worth of numbers, so a chunk of four roots loses a
/// fifth to it, and one of sixteen a twentieth.
const CHUNK_ROOTS_MIN: u64 = 4;
const CHUNK_ROOTS_MAX: u64 = 16;

/// Makes the kernel.
///
/// # Errors
/// If there is a set-up.
pub fn open(setup: &[u8]) -> Result<Arc<dyn Kernel>, String> {
    if !setup.is_empty() {
        return Err(format!(
            "set-up of {} bytes, {NAME} takes none",
            setup.len()
        ));
    }
    Ok(Arc::new(CountPrimes))
}

/// Nothing; the ends of the range; how many there are.
pub const WORDS: Words = Words {
    setup: |text| Ok(text.into()),
    input: |text| numbers(text).map(|ends: [u64; 2]| ends.map(u64::to_be_bytes).concat()),
    output: number_in_words,
};

struct CountPrimes;

impl Kernel for CountPrimes {
    fn run(&self, input: &[u8], stop: &Stop, output: &mut Vec<u8>) -> Result<(), KernelError> {
        let ends = <[u8; 16]>::try_from(input)
            .map_err(|_| format!("input of {} bytes, {NAME} takes 16", input.len()))?;
        let ends = u128::from_be_bytes(ends);
        let (from, to) = ((ends >> 64) as u64, ends as u64);
        if to > TO_MAX {
            return Err(format!("{to} is above the largest end, {TO_MAX}").into());
        }
        let count = count_primes(from, to, || stop.is_raised()).ok_or("stopped")?;
        output.extend_from_slice(&count.to_be_bytes());
        Ok(())
    }
}

/// The primes of one range: many tasks, one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Primes {
    from: u64,
    /// First number not yet in a chunk.
    next: u64,
    to: u64,
    rows: Rows,
    chunks_asked: u64,
    chunks_delivered: u64,
    /// The sum so far, or why there cannot be one.
    count: Result<u64, String>,
    workers: BTreeSet<String>,
    attempts: u64,
    queue_us: u64,
    run_us: u64,
}

impl Primes {
    /// The range `from..=to`; `to` at most [`TO_MAX`].
    pub fn new(from: u64, to: u64, rows: Rows) -> Primes {
        assert!(to <= TO_MAX, "the command line lets no larger end through");
        Primes {
            from,
            next: from,
            to,
            rows,
            chunks_asked: 0,
            chunks_delivered: 0,
            count: Ok(0),
            workers: BTreeSet::new(),
            attempts: 0,
            queue_us: 0,
            run_us: 0,
        }
    }
}

/// How many numbers go into the next chunk when `remaining` are left of a range up to `to`.
fn chunk_len(remaining: u64, to: u64) -> u64 {
    let root = to.isqrt();
    let min = CHUNK_LEN_MIN.max(CHUNK_ROOTS_MIN * root);
    let max = CHUNK_LEN_MAX.max(CHUNK_ROOTS_MAX * root);
    (remaining / CHUNK_SHARE).clamp(min, max).min(remaining)
}

impl Workload for Primes {
    fn kernel(&self) -> &str {
        NAME
    }

    fn describe(&self) -> String {
        format!("{NAME} {} {}", self.from, self.to)
    }

    fn setup(&self) -> Vec<u8> {
        Vec::new()
    }

    /// In numbers: the first chunks are much longer than the last.
    fn share(&self) -> Option<(u64, u64)> {
        Some((self.next - self.from, self.to + 1 - self.from))
    }

    fn next(&mut self, input: &mut Vec<u8>) -> Next {
        if self.next > self.to {
            return Next::End;
        }
        let from = self.next;
        self.next += chunk_len(self.to - from + 1, self.to);
        self.chunks_asked += 1;
        input.extend_from_slice(&from.to_be_bytes());
        input.extend_from_slice(&(self.next - 1).to_be_bytes());
        Next::Task
    }

    fn deliver(&mut self, delivery: &Delivery<'_>, _: &mut Vec<u8>) {
        self.chunks_delivered += 1;
        if !self.workers.contains(delivery.worker) {
            self.workers.insert(delivery.worker.to_owned());
        }
        self.attempts += u64::from(delivery.attempts);
        self.queue_us += u64::from(delivery.queue_us);
        self.run_us += u64::from(delivery.run_us);
        match (number(delivery), &mut self.count) {
            (Ok(primes), Ok(sum)) => match sum.checked_add(primes) {
                Some(larger) => *sum = larger,
                None => self.count = Err("the counts do not add up to 64 bits".into()),
            },
            (Ok(_), Err(_)) => {}
            (Err(reason), count) => {
                log_failure(delivery.task, &reason);
                if count.is_ok() {
                    *count = Err(format!("task {}: {reason}", delivery.task));
                }
            }
        }
    }

    /// With `--details` the row's worker is all of them, and its attempts and times are sums.
    fn finish(&mut self, text: &mut Vec<u8>) -> bool {
        if self.next <= self.to || self.chunks_delivered != self.chunks_asked {
            self.count = Err("the run ended before all of the range was counted".into());
        }
        if let Err(reason) = &self.count {
            log::error!("no number of primes: {reason}");
        }
        let workers: Vec<&str> = self.workers.iter().map(String::as_str).collect();
        let row = Row {
            task: 0,
            label: None,
            value: match &self.count {
                Ok(count) => Value::Number(*count),
                Err(reason) => Value::Failed(reason),
            },
            worker: &workers.join(","),
            attempts: self.attempts,
            queue_us: self.queue_us,
            run_us: self.run_us,
        };
        self.rows.append_quietly(&row, text);
        self.count.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Format;
    use crate::frame::Status;

    fn chunks(from: u64, to: u64) -> Vec<(u64, u64)> {
        let mut job = Primes::new(from, to, Rows::default());
        let mut chunks = Vec::new();
        loop {
            let mut input = Vec::new();
            if job.next(&mut input) == Next::End {
                return chunks;
            }
            let (from, to) = input.split_at(8);
            chunks.push((
                u64::from_be_bytes(from.try_into().unwrap()),
                u64::from_be_bytes(to.try_into().unwrap()),
            ));
        }
    }

    /// Runs the job by hand, each chunk on one of two workers, and gives what is written.
    fn run(
        job: &mut Primes,
        mut answer: impl FnMut(u64, &[u8]) -> Result<Vec<u8>, String>,
    ) -> String {
        let mut text = Vec::new();
        for task in 0.. {
            let mut input = Vec::new();
            if job.next(&mut input) == Next::End {
                break;
            }
            let (status, output) = match answer(task, &input) {
                Ok(output) => (Status::Done, output),
                Err(reason) => (Status::Failed, reason.into_bytes()),
            };
            let delivery = Delivery {
                task,
                status,
                output: &output,
                worker: ["b", "a"][task as usize % 2],
                attempts: 1,
                queue_us: 500,
                run_us: 1500,
                answered_ms: 0,
            };
            job.deliver(&delivery, &mut text);
        }
        job.finish(&mut text);
        String::from_utf8(text).unwrap()
    }

    fn sieve(_: u64, input: &[u8]) -> Result<Vec<u8>, String> {
        let mut output = Vec::new();
        open(&[])?.run(input, &Stop::new(), &mut output)?;
        Ok(output)
    }

    #[test]
    fn counts_small_and_single_ranges() {
        for (from, to, count) in [
            (0, 0, 0),
            (1, 1, 0),
            (0, 2, 1),
            (2, 2, 1),
            (7, 7, 1),
            (8, 10, 0),
        ] {
            let mut job = Primes::new(from, to, Rows::default());
            assert_eq!(run(&mut job, sieve), format!("{count}\n"), "{from}..={to}");
        }
    }

    #[test]
    fn adds_the_chunks_up() {
        let mut job = Primes::new(1, 10_000_000, Rows::default());
        assert_eq!(run(&mut job, sieve), "664579\n");
    }

    #[test]
    fn chunks_cover_the_range_and_fall() {
        let e14 = TO_MAX;
        let ranges = [
            (0, 0),
            (5, 5),
            (1, CHUNK_LEN_MIN),
            (1, CHUNK_LEN_MIN + 1),
            (1, 1_000_000_000),
            (123, 50_000_000_000),
            (e14 - 20_000_000_000, e14),
            (e14, e14),
        ];
        for (from, to) in ranges {
            let chunks = chunks(from, to);
            assert_eq!(chunks[0].0, from);
            assert_eq!(chunks[chunks.len() - 1].1, to);
            for pair in chunks.windows(2) {
                assert_eq!(pair[0].1 + 1, pair[1].0);
                assert!(pair[0].1 - pair[0].0 >= pair[1].1 - pair[1].0);
            }
        }
    }

    #[test]
    fn overhead_is_small_and_the_tail_short() {
        let billion = chunks(1, 1_000_000_000);
        assert!((100..500).contains(&billion.len()), "{}", billion.len());
        let (from, to) = billion[billion.len() - 2];
        assert_eq!(to - from + 1, CHUNK_LEN_MIN);
        // Near 10^14 a chunk of 2^20 would spend four fifths of its time on starting up.
        let far = chunks(TO_MAX - 1_000_000_000, TO_MAX);
        assert_eq!(far.len(), 26);
        assert_eq!(far[0].1 - far[0].0 + 1, CHUNK_ROOTS_MIN * 10_000_000);
    }

    #[test]
    fn one_failed_chunk_fails_the_row() {
        let fail_one = |task, input: &[u8]| match task {
            1 => Err("out of luck".into()),
            _ => sieve(task, input),
        };
        for (format, expected) in [
            (Format::Text, ""),
            (Format::Tsv, "0\tfailed\t\n"),
            (
                Format::Json,
                "{\"task\":0,\"outcome\":\"failed\",\"error\":\"task 1: out of luck\"}\n",
            ),
        ] {
            let details = false;
            let mut job = Primes::new(0, 3 * CHUNK_LEN_MIN, Rows { format, details });
            assert_eq!(run(&mut job, fail_one), expected);
        }
    }

    #[test]
    fn wrong_answers_fail_the_row() {
        let mut job = Primes::new(0, 10, Rows::default());
        assert_eq!(run(&mut job, |_, _| Ok(vec![1])), "");
        let mut job = Primes::new(0, 2 * CHUNK_LEN_MIN, Rows::default());
        assert_eq!(run(&mut job, |_, _| Ok(vec![0xff; 8])), "");
        assert!(job.count.unwrap_err().contains("64 bits"));
    }

    #[test]
    fn an_unfinished_run_has_no_number() {
        let mut job = Primes::new(0, 10, Rows::default());
        let mut text = Vec::new();
        job.finish(&mut text);
        assert_eq!(text, b"");
        let mut job = Primes::new(0, 10, Rows::default());
        assert_eq!(job.next(&mut Vec::new()), Next::Task);
        job.finish(&mut text);
        assert_eq!(text, b"");
    }

    #[test]
    fn details_sum_up() {
        let rows = Rows {
            format: Format::Tsv,
            details: true,
        };
        let mut job = Primes::new(0, 2 * CHUNK_LEN_MIN, rows);
        let zero = |_, _: &[u8]| Ok(vec![0; 8]);
        assert_eq!(run(&mut job, zero), "0\tdone\ta,b\t3\t1.500\t4.500\t0\n");
    }

    #[test]
    fn bad_inputs_are_errors() {
        assert!(open(&[0]).is_err());
        let kernel = open(&[]).unwrap();
        for len in [0, 15, 17] {
            assert_eq!(
                kernel
                    .run(&vec![0; len], &Stop::new(), &mut Vec::new())
                    .unwrap_err()
                    .to_string(),
                format!("input of {len} bytes, primes takes 16")
            );
        }
        let error = kernel.run(&[0xff; 16], &Stop::new(), &mut Vec::new());
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("above the largest end")
        );
    }

    #[test]
    fn a_raised_stop_ends_the_count() {
        let stop = Stop::new();
        stop.set(true);
        let mut input = [0; 16];
        input[8..].copy_from_slice(&TO_MAX.to_be_bytes());
        let error = open(&[]).unwrap().run(&input, &stop, &mut Vec::new());
        assert_eq!(error.unwrap_err(), "stopped".into());
    }
}
