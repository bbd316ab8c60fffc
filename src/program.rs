//! The kernel `map`: the user's own programs, run without a shell.
//!
//! What it is: [`opener`], which makes the kernel for a session whose command this worker allows
//! ([`Programs`]); a `runner` per attempt at a time starts the processes, in the process group of a
//! `guard`; `lasting` are those that live from task to task. What it is not: a sandbox. A program may
//! do what the worker's user may; whoever allows one allows that.
//!
//! What a program gets: no standard input; of the environment `HOME`, `PATH` and `USER`, and neither
//! language nor time zone, so that it does the same on every machine; as working directory and
//! `TMPDIR` a folder of its own, which is emptied before the next task and removed with the session.
//! One that lives from task to task keeps its folder as long, gets its lines on standard input, and
//! must flush each answer (`python3 -u`). One that the user of this very process runs at home, as
//! `head` does without `--workers`, has that user's environment and working directory.
//!
//! What it leaves behind is ended with it if that still holds its standard output or error, and with
//! the session at the latest. What moves into a process group or session of its own, as a daemon
//! does, escapes; so does everything if it kills its guard.
//!
//! Invariant: no process of a group outlives its guard, and no guard outlives its worker, however
//! that ends.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::command::{CommandLine, Mode};
use crate::kernel::{Kernel, KernelError, Stop};

mod allowed;
mod clearing;
mod excerpt;
mod folder;
mod guard;
mod lasting;
mod runner;
#[cfg(test)]
mod tests;

pub use allowed::Programs;
use clearing::Clearing;
use runner::{Runner, go_on};

/// What makes the kernel: for commands that `programs` allows, with reports of at most so many bytes.
pub fn opener(
    programs: Programs,
    report_bytes_max: usize,
) -> impl Fn(&[u8]) -> Result<Arc<dyn Kernel>, String> + Send + Sync + 'static {
    let clearing = Arc::new(Clearing::default());
    move |setup| {
        let command = CommandLine::decode(setup)?;
        let path = programs.find(&command.words()[0])?.to_owned();
        let variables = (!programs.is_at_home()).then(variables);
        Ok(Arc::new(Map {
            job: Job {
                command,
                path,
                variables,
                report_bytes_max,
            },
            idle: Mutex::default(),
            clearing: Arc::clone(&clearing),
        }))
    }
}

/// What all attempts of a session share.
struct Job {
    command: CommandLine,
    /// The program, free of symbolic links since it was allowed.
    path: PathBuf,
    /// Its environment, unless it runs where, and with the environment that, this process does.
    variables: Option<Vec<(OsString, OsString)>>,
    report_bytes_max: usize,
}

impl Job {
    /// The command as it was typed, for messages.
    fn name(&self) -> String {
        let name = OsStr::from_bytes(&self.command.words()[0]);
        name.to_string_lossy().into_owned()
    }

    fn too_long(&self) -> KernelError {
        KernelError::Failed(format!(
            "{} wrote more than the {} bytes that this worker's --payload-max leaves it, and was \
             ended",
            self.name(),
            self.report_bytes_max
        ))
    }
}

struct Map {
    job: Job,
    /// As many as there have been attempts at a time.
    idle: Mutex<Vec<Runner>>,
    clearing: Arc<Clearing>,
}

impl Map {
    fn idle(&self) -> MutexGuard<'_, Vec<Runner>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kernel for Map {
    fn run(&self, line: &[u8], stop: &Stop, output: &mut Vec<u8>) -> Result<(), KernelError> {
        let unfit = |unfit: crate::command::Unfit| KernelError::Failed(unfit.to_string());
        self.job.command.check(line).map_err(unfit)?;
        let idle = self.idle().pop();
        let mut runner = match idle {
            Some(runner) => runner,
            None => Runner::new().map_err(|error| host("cannot watch programs", &error))?,
        };
        let watch = stop.watch(runner.wake());
        let result = match self.job.command.mode() {
            Mode::PerTask => runner.run(&self.job, line, stop, output),
            Mode::Lines | Mode::Lengths => runner.exchange(&self.job, line, stop, output),
        };
        // Before another attempt has the runner: a stop that comes late would end its program.
        drop(watch);
        self.idle().push(runner);
        // A stop ends the program, whose end is then no answer.
        result.or_else(|error| go_on(stop).and(Err(error)))
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        let mut idle = std::mem::take(&mut *self.idle());
        // All at once, before each is waited for.
        idle.iter_mut().for_each(Runner::close);
        self.clearing.drop_later(idle);
    }
}

/// What a program gets of this worker's environment.
fn variables() -> Vec<(OsString, OsString)> {
    let kept = ["HOME", "PATH", "USER"].into_iter();
    kept.filter_map(|name| Some((name.into(), env::var_os(name)?)))
        .collect()
}

/// What the system refuses this machine.
fn host(what: &str, error: &std::io::Error) -> KernelError {
    KernelError::Host(format!("{what}: {error}"))
}
