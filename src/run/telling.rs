//! What a run says of itself beside its results.
//!
//! What it is: progress line, comparison, summary and report file, and when which is wanted. What it
//! is not: their wording and figures, which are the renderings' of an [`Overview`].
//!
//! Invariant: with `--quiet` nothing is said that is not wrong.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use log::{error, warn};

use super::{Failure, failure};
use crate::head::Head;
use crate::kernels::Job;
use crate::messages::say;
use crate::output::Replacement;
use crate::overview::Overview;
use crate::report::{self, Comparison};
use crate::role::Exit;
use crate::serial::{Compared, Serial};
use crate::time::Duration;
use crate::trace::Trace;
use crate::words::count;

/// Whether the progress line has a terminal to stand on that can erase it.
pub(super) fn is_terminal() -> bool {
    io::stderr().is_terminal() && env::var_os("TERM").is_some_and(|name| name != "dumb")
}

pub(super) fn compare(role: &Head<Compared<Job>>, serial: &Serial) -> Comparison {
    let digest = role.workload().digest().expect("it is compared");
    let is_complete = digest.tasks >= serial.digest.tasks;
    // The time of a part compares with nothing, and what an earlier run did took this one no time.
    let is_whole = is_complete && role.replayed() == 0;
    Comparison {
        serial: serial.elapsed,
        distributed: is_whole.then(|| role.elapsed()),
        is_complete,
        is_identical: digest == serial.digest,
    }
}

/// Prints times and verdict.
pub(super) fn say_comparison(comparison: &Comparison, role: &Head<Compared<Job>>, quiet: bool) {
    if let (Some(distributed), false) = (comparison.distributed, quiet) {
        let speed_up = comparison.serial.as_secs_f64() / distributed.as_secs_f64().max(1e-6);
        let slots = count(role.slots().into(), "slot");
        say(&format!("Distributed time: {}", seconds(distributed)));
        say(&format!("Speed-up: {speed_up:.2}x on {slots}"));
    }
    match (comparison.is_complete, comparison.is_identical) {
        // Why has been said.
        (false, _) if !quiet => say("Results: incomplete"),
        (true, false) => say("Results: different"),
        (true, true) if !quiet => say("Results: identical"),
        _ => {}
    }
}

pub(super) fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

pub(super) fn say_summary(overview: &Overview<'_>) {
    for line in report::summary(overview) {
        say(&line);
    }
}

/// A file that is written beside the results, if one is wanted.
pub(super) fn open_file(path: Option<&Path>) -> Result<Option<Replacement>, Failure> {
    let open = |path: &Path| {
        let what = format!("cannot write {}", path.display());
        Replacement::open(path).map_err(failure(&what))
    };
    path.map(open).transpose()
}

/// Waits until the trace is in its place; returns how the run ends.
pub(super) fn finish_trace(trace: Trace, exit: Exit) -> Exit {
    match trace.finish() {
        Ok(0) => exit,
        Ok(number) => {
            let attempts = count(number, "attempt");
            warn!("{attempts} missing in the trace: its file did not keep up");
            exit
        }
        Err(error) => unwritten("trace", &error, exit),
    }
}

/// What is not written is a failure, though not the worst.
fn unwritten(what: &str, error: &io::Error, exit: Exit) -> Exit {
    error!("cannot write the {what}: {error}");
    match exit {
        Exit::Done => Exit::Output,
        exit => exit,
    }
}

/// Puts the figures in their file; returns how the run ends.
pub(super) fn write_report(
    mut file: Replacement,
    overview: &Overview<'_>,
    comparison: Option<&Comparison>,
) -> Exit {
    let mut text = Vec::new();
    report::json(overview, comparison, &mut text);
    let exit = overview.ended.expect("it has ended");
    match file.write_all(&text).and_then(|()| file.finish(true)) {
        Ok(_) => exit,
        Err(error) => unwritten("report", &error, exit),
    }
}
