//! The job `square`: n·n after some simulated work. The demonstration.
//!
//! What it is: the kernel and the workload, so that the bytes between them are known in this file
//! only. What it is not: worth distributing, but for the sleep.
//!
//! Set-up: milliseconds of simulated work, u32. Input: n, u64. Output: n·n, u64. All big endian.
//!
//! Invariant: an n whose square does not fit is an error, never a wrong number.

use std::sync::Arc;
use std::time::Duration;

use crate::format::{Row, Rows, Value, number};
use crate::frame::Status;
use crate::kernel::{Delivery, Kernel, KernelError, Next, Stop, Words, Workload};
use crate::kernels::{number_in_words, numbers};

/// Its name on the wire and on the command line.
pub const NAME: &str = "square";
/// Most tasks one run may have: the largest n is then the last whose square fits 64 bits.
pub const COUNT_MAX: u64 = 1 << 32;

/// Makes the kernel.
///
/// # Errors
/// If the set-up is not 4 bytes long.
pub fn open(setup: &[u8]) -> Result<Arc<dyn Kernel>, String> {
    let work_ms = <[u8; 4]>::try_from(setup).map_err(|_| wrong_len("set-up", setup, 4))?;
    Ok(Arc::new(Square {
        work: Duration::from_millis(u32::from_be_bytes(work_ms).into()),
    }))
}

/// The milliseconds, none if nothing is typed; the number; its square.
pub const WORDS: Words = Words {
    setup: |text| {
        let [work_ms] = numbers(if text.is_empty() { "0" } else { text })?;
        let work_ms = u32::try_from(work_ms).map_err(|error| error.to_string())?;
        Ok(work_ms.to_be_bytes().to_vec())
    },
    input: |text| numbers(text).map(|[n]| n.to_be_bytes().to_vec()),
    output: number_in_words,
};

fn wrong_len(what: &str, bytes: &[u8], expected: usize) -> String {
    format!("{what} of {} bytes, {NAME} takes {expected}", bytes.len())
}

struct Square {
    work: Duration,
}

impl Kernel for Square {
    fn run(&self, input: &[u8], stop: &Stop, output: &mut Vec<u8>) -> Result<(), KernelError> {
        let n = <[u8; 8]>::try_from(input).map_err(|_| wrong_len("input", input, 8))?;
        let n = u64::from_be_bytes(n);
        if stop.sleep(self.work) {
            return Err("stopped".into());
        }
        let square = n
            .checked_mul(n)
            .ok_or_else(|| format!("the square of {n} does not fit 64 bits"))?;
        output.extend_from_slice(&square.to_be_bytes());
        Ok(())
    }
}

/// The squares of 0, 1, 2 …: one task and one row each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Squares {
    count: u64,
    work_ms: u32,
    rows: Rows,
    next: u64,
    /// No output was anything but a number.
    is_sound: bool,
}

impl Squares {
    /// The first `count` squares, at most [`COUNT_MAX`], each after `work_ms` of simulated work.
    pub fn new(count: u64, work_ms: u32, rows: Rows) -> Squares {
        Squares {
            count,
            work_ms,
            rows,
            next: 0,
            is_sound: true,
        }
    }
}

impl Workload for Squares {
    fn kernel(&self) -> &str {
        NAME
    }

    fn describe(&self) -> String {
        format!("{NAME} --count {} --work-ms {}", self.count, self.work_ms)
    }

    fn setup(&self) -> Vec<u8> {
        self.work_ms.to_be_bytes().to_vec()
    }

    fn tasks_total(&self) -> Option<u64> {
        Some(self.count)
    }

    fn next(&mut self, input: &mut Vec<u8>) -> Next {
        if self.next == self.count {
            return Next::End;
        }
        // Task n squares n, so a delivery needs no table to name its row.
        input.extend_from_slice(&self.next.to_be_bytes());
        self.next += 1;
        Next::Task
    }

    fn deliver(&mut self, delivery: &Delivery<'_>, text: &mut Vec<u8>) {
        let square = number(delivery);
        self.is_sound &= square.is_ok() || delivery.status != Status::Done;
        let value = match &square {
            Ok(square) => Value::Number(*square),
            Err(reason) => Value::Failed(reason),
        };
        let mut row = Row::new(delivery, value);
        row.label = Some(delivery.task);
        self.rows.append(&row, text);
    }

    fn finish(&mut self, _: &mut Vec<u8>) -> bool {
        self.is_sound
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Format;

    fn square(n: u64) -> Result<Vec<u8>, String> {
        let kernel = open(&0_u32.to_be_bytes()).unwrap();
        let mut output = Vec::new();
        kernel.run(&n.to_be_bytes(), &Stop::new(), &mut output)?;
        Ok(output)
    }

    #[test]
    fn squares_up_to_the_last_that_fits() {
        for n in [0, 1, 3, COUNT_MAX - 1] {
            assert_eq!(square(n).unwrap(), (n * n).to_be_bytes());
        }
        assert_eq!(
            square(COUNT_MAX).unwrap_err(),
            "the square of 4294967296 does not fit 64 bits"
        );
    }

    #[test]
    fn wrong_lengths_are_errors() {
        for len in [0, 3, 5] {
            assert!(open(&vec![0; len]).is_err());
        }
        let kernel = open(&[0; 4]).unwrap();
        for len in [0, 7, 9] {
            let error = kernel.run(&vec![0; len], &Stop::new(), &mut Vec::new());
            assert_eq!(
                error.unwrap_err(),
                format!("input of {len} bytes, square takes 8").into()
            );
        }
    }

    #[test]
    fn works_as_long_as_told_unless_stopped() {
        let kernel = open(&30_u32.to_be_bytes()).unwrap();
        let start = std::time::Instant::now();
        let input = 2_u64.to_be_bytes();
        kernel.run(&input, &Stop::new(), &mut Vec::new()).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(30));

        let kernel = open(&u32::MAX.to_be_bytes()).unwrap();
        let stop = Stop::new();
        stop.set(true);
        assert_eq!(
            kernel.run(&input, &stop, &mut Vec::new()).unwrap_err(),
            "stopped".into()
        );
    }

    fn delivery(task: u64, status: Status, output: &[u8]) -> Delivery<'_> {
        Delivery {
            task,
            status,
            output,
            worker: "w",
            attempts: 1,
            queue_us: 0,
            run_us: 0,
            answered_ms: 0,
        }
    }

    #[test]
    fn the_job_asks_in_order_and_writes_a_row_each() {
        let rows = Rows {
            format: Format::Tsv,
            details: false,
        };
        let mut job = Squares::new(2, 7, rows);
        assert_eq!(job.setup(), [0, 0, 0, 7]);
        let mut text = Vec::new();
        for n in 0..2_u64 {
            let mut input = Vec::new();
            assert_eq!(job.next(&mut input), Next::Task);
            assert_eq!(input, n.to_be_bytes());
        }
        assert_eq!(job.next(&mut Vec::new()), Next::End);
        assert_eq!(job.next(&mut Vec::new()), Next::End);
        job.deliver(&delivery(1, Status::Done, &1_u64.to_be_bytes()), &mut text);
        job.deliver(&delivery(0, Status::Failed, b"why"), &mut text);
        job.deliver(&delivery(2, Status::Done, b"short"), &mut text);
        job.finish(&mut text);
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "1\tdone\t1\n0\tfailed\t\n2\tfailed\t\n"
        );
    }

    #[test]
    fn text_shows_both_numbers() {
        let mut job = Squares::new(10, 0, Rows::default());
        let mut text = Vec::new();
        job.deliver(&delivery(3, Status::Done, &9_u64.to_be_bytes()), &mut text);
        assert_eq!(text, b"3 -> 9\n");
    }
}
