//! The serial run that a distributed one is compared with.
//!
//! What it is: [`run`], all tasks of a job one after another in the calling thread, by the kernel the
//! workers run; [`Digest`], a fingerprint of all results; [`Compared`], which takes that of a
//! distributed run. What it is not: a proof. The digest is no cryptographic hash; it finds mistakes,
//! not forgeries.
//!
//! Invariant: a digest depends on which task had which result, and on neither order nor time.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::frame::Status;
use crate::hash;
use crate::kernel::{Delivery, Kernel, KernelError, Kernels, Next, Stop, Workload};

/// A fingerprint of results, the same in whatever order they come. Memory for one number, so that a
/// job of any length can be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// How many results it holds.
    pub tasks: u64,
    /// The wrapping sum of one hash per result. An exclusive or would let a doubled result vanish.
    sum: u64,
}

impl Digest {
    /// Takes one result in. Of a failed task only that it failed: the reason may be cut on its way,
    /// and a panic has different words in the pool.
    pub fn add(&mut self, task: u64, status: Status, output: &[u8]) {
        let result = match status {
            Status::Done => output,
            Status::Failed | Status::TimedOut | Status::Returned => &[],
        };
        self.tasks += 1;
        self.sum = self.sum.wrapping_add(hash(task, status, result));
    }
}

fn hash(task: u64, status: Status, output: &[u8]) -> u64 {
    let is_done = u64::from(status == Status::Done);
    hash::bytes(hash::word(hash::word(0, task), is_done), output)
}

/// What a serial run gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serial {
    /// All results.
    pub digest: Digest,
    /// How long it took.
    pub elapsed: Duration,
}

/// Runs all tasks of `job` one after another. Nothing is written: `deliver` and `finish` are not
/// called; `on_result` sees task, status and output (or the reason) of each instead. Once `stop` is
/// raised it returns as soon as it can, with a result that means nothing.
///
/// # Errors
/// Why there is no such kernel, or that the job reads an input, which can be read only once.
pub fn run(
    mut job: impl Workload,
    kernels: &Kernels,
    stop: &Stop,
    mut on_result: impl FnMut(u64, Status, &[u8]),
) -> Result<Serial, String> {
    let start = Instant::now();
    let kernel = kernels.open(job.kernel(), &job.setup())?;
    let mut digest = Digest::default();
    let (mut input, mut output) = (Vec::new(), Vec::new());
    for task in 0.. {
        input.clear();
        if stop.is_raised() {
            break;
        }
        match job.next(&mut input) {
            Next::Task => {}
            Next::Later => return Err("a job that reads its input runs only once".into()),
            Next::End => break,
        }
        output.clear();
        let status = run_one(&*kernel, &input, stop, &mut output);
        digest.add(task, status, &output);
        on_result(task, status, &output);
    }
    Ok(Serial {
        digest,
        elapsed: start.elapsed(),
    })
}

/// As in the pool, a panic is the task's failure and not the program's.
fn run_one(kernel: &dyn Kernel, input: &[u8], stop: &Stop, output: &mut Vec<u8>) -> Status {
    let result = catch_unwind(AssertUnwindSafe(|| kernel.run(input, stop, output)));
    let reason = match result {
        Ok(Ok(())) => return Status::Done,
        Ok(Err(KernelError::FailedWithOutput)) => return Status::Failed,
        Ok(Err(KernelError::Failed(reason) | KernelError::Host(reason))) => reason,
        Err(_) => "the kernel panicked".into(),
    };
    output.clear();
    output.extend_from_slice(reason.as_bytes());
    Status::Failed
}

/// A job that takes the digest of what is delivered to it, if that is wanted.
#[derive(Clone, Debug)]
pub struct Compared<W> {
    job: W,
    digest: Option<Digest>,
}

impl<W: Workload> Compared<W> {
    /// Wraps a job that has not begun.
    pub fn new(job: W, is_wanted: bool) -> Compared<W> {
        let digest = is_wanted.then(Digest::default);
        Compared { job, digest }
    }

    /// The job itself.
    pub fn job_mut(&mut self) -> &mut W {
        &mut self.job
    }

    /// Of all that was delivered so far.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }
}

impl<W: Workload> Workload for Compared<W> {
    fn kernel(&self) -> &str {
        self.job.kernel()
    }

    fn describe(&self) -> String {
        self.job.describe()
    }

    fn setup(&self) -> Vec<u8> {
        self.job.setup()
    }

    fn tasks_total(&self) -> Option<u64> {
        self.job.tasks_total()
    }

    fn share(&self) -> Option<(u64, u64)> {
        self.job.share()
    }

    fn reason<'a>(&self, output: &'a [u8]) -> Cow<'a, [u8]> {
        self.job.reason(output)
    }

    fn next(&mut self, input: &mut Vec<u8>) -> Next {
        self.job.next(input)
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.job.feed(bytes);
    }

    fn unfit(&self, input: &[u8]) -> Option<String> {
        self.job.unfit(input)
    }

    fn is_final(&self, output: &[u8]) -> bool {
        self.job.is_final(output)
    }

    fn deliver(&mut self, delivery: &Delivery<'_>, text: &mut Vec<u8>) {
        if let Some(digest) = &mut self.digest {
            digest.add(delivery.task, delivery.status, delivery.output);
        }
        self.job.deliver(delivery, text);
    }

    fn finish(&mut self, text: &mut Vec<u8>) -> bool {
        self.job.finish(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Rows;
    use crate::kernels::builtin;
    use crate::kernels::square::Squares;
    use std::sync::Arc;

    fn digest(results: &[(u64, Status, &[u8])]) -> Digest {
        let mut digest = Digest::default();
        for &(task, status, output) in results {
            digest.add(task, status, output);
        }
        digest
    }

    #[test]
    fn order_does_not_matter_and_all_else_does() {
        use Status::{Done, Failed};
        let one = digest(&[(0, Done, b"a"), (1, Done, b"b")]);
        assert_eq!(one, digest(&[(1, Done, b"b"), (0, Done, b"a")]));
        for other in [
            digest(&[]),
            digest(&[(0, Done, b"a")]),
            digest(&[(0, Done, b"b"), (1, Done, b"a")]),
            digest(&[(0, Done, b"a"), (1, Failed, b"b")]),
            digest(&[(0, Done, b"a"), (1, Done, b"b\0")]),
            digest(&[(0, Done, b"a"), (1, Done, b"")]),
            digest(&[(0, Done, b"a"), (2, Done, b"b")]),
            digest(&[(0, Done, b"a"), (1, Done, b"b"), (1, Done, b"b")]),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn the_words_of_a_failure_do_not_matter() {
        assert_eq!(
            digest(&[(0, Status::Failed, b"long")]),
            digest(&[(0, Status::Failed, b"cut")])
        );
        assert_ne!(
            digest(&[(0, Status::Failed, b"")]),
            digest(&[(0, Status::Done, b"")])
        );
    }

    #[test]
    fn a_delivered_run_compares_equal_to_the_serial_one() {
        let job = Squares::new(5, 0, Rows::default());
        let mut results = Vec::new();
        let serial = run(
            job.clone(),
            &builtin(),
            &Stop::new(),
            |task, status, output| {
                results.push((task, status, output.to_vec()));
            },
        )
        .unwrap();
        assert_eq!(serial.digest.tasks, 5);

        let mut compared = Compared::new(job, true);
        let mut text = Vec::new();
        for (task, status, output) in results.iter().rev() {
            assert_eq!(compared.next(&mut Vec::new()), Next::Task);
            let delivery = Delivery {
                task: *task,
                status: *status,
                output,
                worker: "w",
                attempts: 1,
                queue_us: 0,
                run_us: 0,
                answered_ms: 0,
            };
            compared.deliver(&delivery, &mut text);
        }
        compared.finish(&mut text);
        assert_eq!(compared.digest(), Some(serial.digest));
        assert_eq!(text, b"4 -> 16\n3 -> 9\n2 -> 4\n1 -> 1\n0 -> 0\n");
    }

    #[test]
    fn the_time_is_that_of_all_tasks() {
        let job = Squares::new(3, 10, Rows::default());
        let serial = run(job, &builtin(), &Stop::new(), |_, _, _| {}).unwrap();
        assert!(serial.elapsed >= Duration::from_millis(30));
    }

    #[test]
    fn a_raised_stop_ends_it() {
        let job = Squares::new(1_000, 1, Rows::default());
        let (stop, mut results) = (Stop::new(), 0);
        let ran = run(job, &builtin(), &stop, |_, _, _| {
            results += 1;
            stop.set(true);
        });
        assert!(ran.is_ok());
        assert_eq!(results, 1);
    }

    #[test]
    fn errors_and_panics_are_failed_tasks() {
        struct Bad;
        impl Kernel for Bad {
            fn run(&self, input: &[u8], _: &Stop, output: &mut Vec<u8>) -> Result<(), KernelError> {
                output.push(1);
                assert_eq!(input[7], 0, "a test's panic, not a mistake");
                Err("bad".into())
            }
        }
        fn open(_: &[u8]) -> Result<Arc<dyn Kernel>, String> {
            Ok(Arc::new(Bad))
        }
        let job = Squares::new(2, 0, Rows::default());
        let mut results = Vec::new();
        run(
            job,
            &Kernels::new().with("square", open),
            &Stop::new(),
            |_, status, output| {
                results.push((status, String::from_utf8(output.to_vec()).unwrap()));
            },
        )
        .unwrap();
        assert_eq!(
            results,
            [
                (Status::Failed, "bad".to_owned()),
                (Status::Failed, "the kernel panicked".to_owned()),
            ]
        );
    }

    #[test]
    fn a_missing_kernel_is_an_error() {
        let job = Squares::new(1, 0, Rows::default());
        assert!(run(job, &Kernels::new(), &Stop::new(), |_, _, _| {}).is_err());
    }
}
