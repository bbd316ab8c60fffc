//! Workers with kernels of a test's own, each a process that may die, and heads that have such inside.
//!
//! What it is: the test binary started again as a worker or as a head, and [`Supervised`], one that is started
//! again whenever it dies, as an init system does. What it is not: the shipped program, though all of
//! it but the kernels is the same.
//!
//! A module that uses it has a test `own_process`, ignored, that calls [`serve`], and gives its own
//! `module_path!()`.
//!
//! Invariant: the address of a supervised worker stays the same.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use teamster::kernel::Kernels;
use teamster::options::{HeadOptions, WorkerOptions};

use super::Worker;

/// Hold the arguments of such a worker, or of such a head.
const WORKER: &str = "TEAMSTER_TEST_WORKER";
const HEAD: &str = "TEAMSTER_TEST_HEAD";
/// How often the supervisor looks.
const POLL: Duration = Duration::from_millis(5);

/// A worker of a module, with these arguments, split at blanks.
pub fn own_worker(module: &str, args: &str) -> Command {
    own(WORKER, module, args)
}

/// A head of a module, with these arguments, for its workers inside the process. What the test harness prints stands
/// before and behind its results.
pub fn own_head(module: &str, args: &str) -> Command {
    own(HEAD, module, args)
}

fn own(variable: &str, module: &str, args: &str) -> Command {
    let (_, module) = module.split_once("::").expect("it is not the root");
    let mut command = Command::new("sh");
    // A worker that aborts is meant to, and leaves no core. The second thread keeps the test harness
    // from printing on the line that tells the address.
    let script = format!(
        "ulimit -c 0; exec \"$0\" {module}::own_process --exact --ignored --nocapture \
         --test-threads 2"
    );
    command.args(["-c", &script]);
    command.arg(std::env::current_exe().unwrap());
    command.env(variable, args).env_remove("RUST_LOG");
    command
}

/// In a process started as [`own_worker`] or [`own_head`]: works, and never returns. Otherwise does
/// nothing.
pub fn serve(kernels: Kernels) {
    let args = |variable| {
        let args = std::env::var(variable).ok()?;
        Some(args.split_whitespace().map(Into::into).collect::<Vec<_>>())
    };
    let code = if let Some(args) = args(WORKER) {
        teamster::run::serve(&WorkerOptions::parse(args).unwrap(), kernels)
    } else if let Some(args) = args(HEAD) {
        teamster::run::lead(&HeadOptions::parse(args).unwrap(), kernels)
    } else {
        return;
    };
    std::process::exit(code.into());
}

/// A worker that is started again whenever it dies, until this is dropped.
pub struct Supervised {
    pub address: String,
    deaths: Arc<AtomicU32>,
    /// Never used: its end tells the thread.
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Supervised {
    /// `command` makes it listen at the address given. The first is at `HOST:0`, with a host of the
    /// test's own within 127.0.0.0/8, so that nobody else takes its port meanwhile.
    pub fn start(host: &str, command: impl Fn(&str) -> Command + Send + 'static) -> Supervised {
        let mut worker = Worker::listening(&mut command(&format!("{host}:0")));
        let address = worker.address.clone();
        let (end, ended) = mpsc::channel();
        let deaths = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&deaths);
        let thread = thread::spawn(move || {
            while ended.recv_timeout(POLL) == Err(RecvTimeoutError::Timeout) {
                if worker.process.child.try_wait().unwrap().is_some() {
                    count.fetch_add(1, Ordering::SeqCst);
                    worker = Worker::listening(&mut command(&worker.address));
                }
            }
        });
        Supervised {
            address,
            deaths,
            end: Some(end),
            thread: Some(thread),
        }
    }

    /// How often it has died.
    pub fn deaths(&self) -> u32 {
        self.deaths.load(Ordering::SeqCst)
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        drop(self.end.take());
        let ended = self.thread.take().expect("joined once").join();
        // Its panic is the reason of the one that unwinds here.
        assert!(
            ended.is_ok() || thread::panicking(),
            "the supervisor panicked"
        );
    }
}
