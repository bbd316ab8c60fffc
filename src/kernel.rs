//! What workers compute, and what a job makes of it.
//!
//! What it is: [`Kernel`], a function from bytes to bytes; [`Stop`], how it learns that nobody waits
//! for it any more; [`Kernels`], what one worker offers; [`Workload`], the head's side of a job. What
//! it is not: any particular job; those are in `kernels/`.
//!
//! Invariant: a kernel is a pure function of its set-up and input as far as Teamster is concerned: it
//! may run more than once for one task, and any of the runs may be the one that counts.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::frame::Status;
use crate::limits::KERNEL_NAME_BYTES_MAX;

/// A function that a worker can run, on several threads at once.
pub trait Kernel: Send + Sync {
    /// Computes one task: reads `input`, appends its output to `output` (empty at the call). What it
    /// has appended counts if it succeeds or fails with [`KernelError::FailedWithOutput`].
    ///
    /// # Errors
    /// See [`KernelError`]. A panic is caught and is the task's failure, too.
    fn run(&self, input: &[u8], stop: &Stop, output: &mut Vec<u8>) -> Result<(), KernelError>;
}

/// A plain function is a kernel. It cannot be stopped: what it computes for a head that has gone
/// away, or beyond a timeout, it computes to its end.
impl<F: Fn(&[u8]) -> Result<Vec<u8>, String> + Send + Sync> Kernel for F {
    fn run(&self, input: &[u8], _: &Stop, output: &mut Vec<u8>) -> Result<(), KernelError> {
        output.append(&mut self(input)?);
        Ok(())
    }
}

/// Why a kernel has no output. A mere text is the task's failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelError {
    /// The task's own answer, and final: it would fail the same way elsewhere.
    Failed(String),
    /// As final, and what there is to say of it is in the output, in the kernel's own form.
    FailedWithOutput,
    /// This machine could not run it (a program is missing, a disk full): it goes elsewhere, and a
    /// machine that does this again and again is left out.
    Host(String),
}

impl std::fmt::Display for KernelError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            KernelError::Failed(reason) | KernelError::Host(reason) => reason,
            KernelError::FailedWithOutput => "it failed; its output says more",
        })
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

/// Makes a kernel from a session's set-up bytes.
type Open = dyn Fn(&[u8]) -> Result<Arc<dyn Kernel>, String> + Send + Sync;

/// How people write what a kernel takes and gives, for a run without a head (`worker --run`).
#[derive(Clone, Copy, Debug)]
pub struct Words {
    /// The set-up's bytes, or what is wrong with the text; it is empty if there was none.
    pub setup: fn(&str) -> Result<Vec<u8>, String>,
    /// The same for the input.
    pub input: fn(&str) -> Result<Vec<u8>, String>,
    /// The output in words, with its line end.
    pub output: fn(&[u8]) -> String,
}

/// The kernels one worker offers, by name.
#[derive(Clone, Default)]
pub struct Kernels(BTreeMap<String, (Arc<Open>, Option<Words>)>);

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Kernels {
    /// None yet.
    pub fn new() -> Kernels {
        Kernels::default()
    }

    /// Adds a kernel, or replaces the one of that name. `open` makes it from a session's set-up; the
    /// text of its error goes back to the head.
    ///
    /// # Panics
    /// If the name is longer than 255 bytes.
    #[must_use]
    pub fn with(
        mut self,
        name: &str,
        open: impl Fn(&[u8]) -> Result<Arc<dyn Kernel>, String> + Send + Sync + 'static,
    ) -> Kernels {
        assert!(
            name.len() <= KERNEL_NAME_BYTES_MAX,
            "a kernel's name has at most {KERNEL_NAME_BYTES_MAX} bytes"
        );
        self.0.insert(name.to_owned(), (Arc::new(open), None));
        self
    }

    /// Says how people write what the kernel `name` takes and gives. Without this they are bytes.
    ///
    /// # Panics
    /// If there is no such kernel yet.
    #[must_use]
    pub fn in_words(mut self, name: &str, words: Words) -> Kernels {
        self.0.get_mut(name).expect("the kernel is there").1 = Some(words);
        self
    }

    /// How people write what that kernel takes and gives, if it has been said.
    pub(crate) fn words(&self, name: &str) -> Option<Words> {
        self.0.get(name)?.1
    }

    /// Adds a plain function from input to output, or from input to the reason why there is none. It
    /// takes no set-up.
    #[must_use]
    pub fn with_fn(
        self,
        name: &str,
        function: impl Fn(&[u8]) -> Result<Vec<u8>, String> + Send + Sync + 'static,
    ) -> Kernels {
        let kernel: Arc<dyn Kernel> = Arc::new(function);
        self.with(name, move |setup| match setup.len() {
            0 => Ok(Arc::clone(&kernel)),
            len => Err(format!("set-up of {len} bytes, this kernel takes none")),
        })
    }

    /// The kernel `name` with `setup`.
    ///
    /// # Errors
    /// Says which kernels there are if there is none of that name, or what is wrong with the set-up.
    pub fn open(&self, name: &str, setup: &[u8]) -> Result<Arc<dyn Kernel>, String> {
        match self.0.get(name) {
            Some((open, _)) => open(setup),
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
#[derive(Default)]
pub struct Stop {
    raised: AtomicBool,
    /// What wakes the kernel if it waits for something else. Its lock guards the sleep as well: a
    /// raise between check and wait must not be missed.
    wake: Mutex<Option<Wake>>,
    changed: Condvar,
}

/// Wakes somebody who waits; it may be called too often and by any thread.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// For as long as it lives, the kernel is woken if its [`Stop`] is raised.
pub struct Watch<'a>(&'a Stop);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
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
        let mut asleep = self.lock();
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

    /// For a kernel that waits for something else than time: calls `wake` when it is raised from now
    /// on. It may be raised already.
    pub fn watch(&self, wake: &Wake) -> Watch<'_> {
        *self.lock() = Some(Arc::clone(wake));
        Watch(self)
    }

    /// Raises or lowers it.
    pub(crate) fn set(&self, raised: bool) {
        self.raised.store(raised, Ordering::Relaxed);
        if raised {
            if let Some(wake) = &*self.lock() {
                wake();
            }
            self.changed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Wake>> {
        self.wake.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What [`Workload::next`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// One more task; its input has been appended.
    Task,
    /// None yet: what there was of the job's own input is used up, see [`Workload::feed`].
    Later,
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
    /// When the answer came, in milliseconds since the start of the run; 0 if none came in it.
    pub answered_ms: u32,
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
    /// Why a task failed, in words that say what it has in common with others; its output unless a
    /// kernel's outputs are more than that.
    fn reason<'a>(&self, output: &'a [u8]) -> Cow<'a, [u8]> {
        Cow::Borrowed(output)
    }
    /// Appends the next task's input to `input` (empty at the call). Called only when a worker has
    /// room, so that a job of any length needs memory for its window only.
    fn next(&mut self, input: &mut Vec<u8>) -> Next;
    /// Takes the next piece of the job's own input, which it asked for by [`Next::Later`]; an empty
    /// one is its end. Only a job that answers so is fed.
    fn feed(&mut self, _bytes: &[u8]) {}
    /// Why no worker could run a task with this input; then that is the task's failure.
    fn unfit(&self, _input: &[u8]) -> Option<String> {
        None
    }
    /// Whether a failure with this output is certainly the task's own answer, which no other worker
    /// is asked to confirm.
    fn is_final(&self, _output: &[u8]) -> bool {
        false
    }
    /// Takes one outcome, once per task; in input order unless the run is unordered. Appends to
    /// `text` what is to be written for it.
    fn deliver(&mut self, delivery: &Delivery<'_>, text: &mut Vec<u8>);
    /// Appends what is to be written after the last outcome. False if the job as a whole has failed
    /// although its tasks were done (an output has no sense, a sum overflows); it has said why.
    fn finish(&mut self, text: &mut Vec<u8>) -> bool;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

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
    fn a_raised_stop_wakes_who_watches_it() {
        let (stop, calls) = (Stop::new(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&calls);
        let wake: Wake = Arc::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let watch = stop.watch(&wake);
        stop.set(true);
        stop.set(false);
        drop(watch);
        stop.set(true);
        assert_eq!(calls.load(Ordering::Relaxed), 1);
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
