//! What workers compute, and what a job makes of it.
//!
//! What it is: [`Kernel`], a function from bytes to bytes; [`Stop`], how it learns that nobody waits
//! for it any more; [`Kernels`], what one worker offers; [`Workload`], the head's side of a job. What
//! it is not: any particular job; those are in `kernels/`.
//!
//! Invariant: a kernel is a pure function of its set-up and input as far as Teamster is concerned: it
//! may run more than once for one task, and any of the runs may be the one that counts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::frame::Status;

/// A function that a worker can run, on several threads at once.
pub trait Kernel: Send + Sync {
    /// Computes one task: reads `input`, appends its output to `output` (empty at the call).
    ///
    /// # Errors
    /// See [`KernelError`]. A panic is caught and is the task's failure, too.
    fn run(&self, input: &[u8], stop: &Stop, output: &mut Vec<u8>) -> Result<(), KernelError>;
}

/// Why a kernel has no output. A mere text is the task's failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelError {
    /// The task's own answer, and final: it would fail the same way elsewhere.
    Failed(String),
    /// This machine could not run it (a program is missing, a disk full): it goes elsewhere, and a
    /// machine that does this again and again is left out.
    Host(String),
}

impl std::fmt::Display for KernelError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (KernelError::Failed(reason) | KernelError::Host(reason)) = self;
        f.write_str(reason)
    }
}

impl From<KernelError> for String {
    fn from(error: KernelError) -> String {
        error.to_string()
    }
}

impl From<String> for KernelError {
    fn from(reason: String) -> KernelError {
        KernelError::Failed(reason)
    }
}

impl From<&str> for KernelError {
    fn from(reason: &str) -> KernelError {
        KernelError::Failed(reason.to_owned())
    }
}

/// Makes a kernel from a session's set-up bytes; the error's text goes back to the head.
pub type Open = fn(setup: &[u8]) -> Result<Arc<dyn Kernel>, String>;

/// The kernels one worker offers, by name.
#[derive(Clone, Debug, Default)]
pub struct Kernels(BTreeMap<String, Open>);

impl Kernels {
    /// None yet.
    pub fn new() -> Kernels {
        Kernels::default()
    }

    /// Adds a kernel, or replaces the one of that name.
    #[must_use]
    pub fn with(mut self, name: &str, open: Open) -> Kernels {
        assert!(name.len() <= 255, "a kernel's name has at most 255 bytes");
        self.0.insert(name.to_owned(), open);
        self
    }

    /// The kernel `name` with `setup`.
    ///
    /// # Errors
    /// Says which kernels there are if there is none of that name, or what is wrong with the set-up.
    pub fn open(&self, name: &str, setup: &[u8]) -> Result<Arc<dyn Kernel>, String> {
        match self.0.get(name) {
            Some(open) => open(setup),
            None => {
                let names: Vec<&str> = self.0.keys().map(String::as_str).collect();
                Err(format!(
                    "no kernel {name:?} here, only {}",
                    names.join(", ")
                ))
            }
        }
    }
}

/// Tells a running kernel that nobody waits for its result any more. One per pool thread.
#[derive(Debug, Default)]
pub struct Stop {
    raised: AtomicBool,
    /// Guards nothing but the sleep: a raise between check and wait must not be missed.
    asleep: Mutex<()>,
    changed: Condvar,
}

impl Stop {
    /// Not raised.
    pub fn new() -> Stop {
        Stop::default()
    }

    /// Whether the kernel should return as soon as it can, with any result. Costs one load.
    pub fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Relaxed)
    }

    /// Sleeps for `wait`, or until raised; says whether it was raised.
    pub fn sleep(&self, wait: Duration) -> bool {
        if wait.is_zero() {
            // Two clock readings and a lock would be most of an empty task.
            return self.is_raised();
        }
        let until = Instant::now() + wait;
        let mut asleep = self.asleep.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.is_raised() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            asleep = self
                .changed
                .wait_timeout(asleep, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }

    /// Raises or lowers it.
    pub(crate) fn set(&self, raised: bool) {
        self.raised.store(raised, Ordering::Relaxed);
        if raised {
            drop(self.asleep.lock().unwrap_or_else(PoisonError::into_inner));
            self.changed.notify_all();
        }
    }
}

/// What [`Workload::next`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// One more task; its input has been appended.
    Task,
    /// There are no more tasks.
    End,
}

/// One task's recorded outcome, as the job gets to see it.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// The task's number.
    pub task: u64,
    /// How it ended.
    pub status: Status,
    /// The output, or the error's text.
    pub output: &'a [u8],
    /// The worker whose answer counted.
    pub worker: &'a str,
    /// How many attempts were lost while they ran.
    pub attempts: u32,
    /// Time between sending the attempt that counted and its answer, less `run_us`; in microseconds.
    pub queue_us: u32,
    /// How long the kernel ran, in microseconds.
    pub run_us: u32,
}

/// A job as the head sees it: where tasks come from and what becomes of their outcomes.
pub trait Workload {
    /// The kernel that all its tasks run.
    fn kernel(&self) -> &str;
    /// The job and its arguments in words, as typed on a command line and with the defaults spelt
    /// out; without what changes no outcome (format, details). A journal is known by it.
    fn describe(&self) -> String;
    /// What that kernel is told once per session.
    fn setup(&self) -> Vec<u8>;
    /// How many tasks there are in all, if that is known beforehand.
    fn tasks_total(&self) -> Option<u64> {
        None
    }
    /// For a job whose tasks are not alike, or whose number is not known: how much of its input it has
    /// handed out, and of how much, in whatever unit takes the same time everywhere.
    fn share(&self) -> Option<(u64, u64)> {
        None
    }
    /// Appends the next task's input to `input` (empty at the call). Called only when a worker has
    /// room, so that a job of any length needs memory for its window only.
    fn next(&mut self, input: &mut Vec<u8>) -> Next;
    /// Takes one outcome, once per task; in input order unless the run is unordered. Appends to
    /// `text` what is to be written for it.
    fn deliver(&mut self, delivery: &Delivery<'_>, text: &mut Vec<u8>);
    /// Appends what is to be written after the last outcome. False if the job as a whole has failed
    /// although its tasks were done (an output has no sense, a sum overflows); it has said why.
    fn finish(&mut self, text: &mut Vec<u8>) -> bool;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raised_stop_ends_a_sleep() {
        let stop = Stop::new();
        assert!(!stop.sleep(Duration::from_millis(1)));
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| stop.sleep(Duration::from_secs(600)));
            stop.set(true);
            assert!(sleeper.join().unwrap());
        });
        stop.set(false);
        assert!(!stop.is_raised());
    }

    #[test]
    fn an_unknown_kernel_is_refused_with_the_known_ones() {
        fn none(_: &[u8]) -> Result<Arc<dyn Kernel>, String> {
            Err("bad set-up".into())
        }
        let kernels = Kernels::new().with("b", none).with("a", none);
        assert_eq!(
            kernels.open("c", &[]).err().unwrap(),
            "no kernel \"c\" here, only a, b"
        );
        assert_eq!(kernels.open("a", &[]).err().unwrap(), "bad set-up");
    }
}
