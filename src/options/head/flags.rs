//! The table of `head`'s options, which is also its `--help`.
//!
//! What it is: every flag but the job's own, in the groups in which they are shown. What it is not:
//! what they mean; that is the parent's.
//!
//! Invariant: every default that is told is the constant itself.

use super::super::cli::{Flag, Program, grouped};
use super::super::{THREADS_MAX, job, size};
use super::LOCAL_DEFAULT;
use crate::kernels::sieve::TO_MAX;
use crate::limits::{
    ATTEMPTS_DEFAULT, CLOSE_AFTER, DIAL_TIMEOUT, GIVE_UP_DEFAULT, GREETING_TIMEOUT, LOST_AFTER,
    PAYLOAD_BYTES_DEFAULT, PAYLOAD_BYTES_MAX, PING_AFTER, PORT_DEFAULT, SYNC_DEFAULT, WINDOW_BYTES,
    WINDOW_TASKS,
};
use crate::role::Exit;

/// The program, and all that can be said of it; or of its job `map` alone.
pub(super) fn program(is_map: bool) -> Program {
    let mut other = vec![
        Flag::new(
            "c",
            "compare",
            "",
            "run serially first, then distributed: times and\nspeed-up (default if no JOB is named)",
        ),
        Flag::payload_max(),
        Flag::new(
            "",
            "keygen",
            "FILE",
            "write a new key to FILE and do nothing else",
        ),
    ];
    other.extend(Flag::common());
    let map = vec![("Options of map".into(), job::map::flags())];
    let groups = vec![
        ("Options of square".into(), job::square_flags()),
        ("Options of mandelbrot".into(), job::mandelbrot_flags()),
        ("Workers".into(), cluster_flags()),
        ("Results".into(), result_flags()),
        ("Watching".into(), watch_flags()),
        ("Other".into(), other),
    ];
    if is_map {
        return Program {
            name: "head",
            job: " map",
            before: job::map::BEFORE.into(),
            groups: map,
            hidden: groups,
            after: job::map::AFTER.into(),
        };
    }
    Program {
        name: "head",
        job: "",
        before: format!(
            "\
Usage: head [OPTIONS] [JOB [ARGUMENTS]]
Sends the tasks of a job over TCP to workers and puts their results together.
Options may stand anywhere; after -- everything is an argument.

Jobs:
  square           n*n for n = 0, 1, 2, ... after simulated work (the default)
  primes FROM TO   how many primes in FROM..=TO; TO at most {}
  mandelbrot       a picture of the Mandelbrot set, as BMP
  map -- COMMAND   COMMAND for each line of standard input; see head map --help
  check            none: which --workers can be used, how fast they answer, and
                   what is wrong with the others; exit code {} if some cannot",
            grouped(TO_MAX),
            Exit::Failed.code()
        ),
        groups,
        hidden: map,
        after: after(),
    }
}

fn cluster_flags() -> Vec<Flag> {
    vec![
        Flag::new(
            "w",
            "workers",
            "HOST[:PORT],...",
            format!("names or addresses (default port {PORT_DEFAULT})"),
        ),
        Flag::key_file(),
        Flag::new(
            "",
            "local",
            "N",
            format!(
                "instead, N one-slot workers inside this process,\n\
                 up to {THREADS_MAX} (default {LOCAL_DEFAULT})"
            ),
        ),
        Flag::new(
            "",
            "give-up",
            "SECONDS",
            format!(
                "end after so long without any usable worker\n(default {})",
                GIVE_UP_DEFAULT.as_secs()
            ),
        ),
        Flag::new(
            "",
            "attempts",
            "N",
            format!(
                "give a task up when so many workers were lost
while it ran (default {ATTEMPTS_DEFAULT})"
            ),
        ),
        Flag::new(
            "",
            "timeout",
            "SECONDS",
            "stop a task that runs for longer; it has failed",
        ),
        Flag::new(
            "",
            "retries",
            "N",
            "try a task that failed again, up to N times",
        ),
        Flag::new(
            "",
            "max-failures",
            "N",
            "end early when more than N tasks have failed",
        ),
        Flag::new(
            "",
            "no-duplicates",
            "",
            "tasks have side effects: none is run twice, or\nhanded back, only to end sooner",
        ),
    ]
}

fn result_flags() -> Vec<Flag> {
    vec![
        Flag::new(
            "o",
            "output",
            "FILE",
            "results to FILE, replaced as a whole at the end\n(default: standard output)",
        ),
        Flag::new(
            "",
            "journal",
            "FILE",
            "record every outcome in FILE before it is done",
        ),
        Flag::new("", "resume", "", "go on with the journal that is there"),
        Flag::new(
            "",
            "sync-ms",
            "MS",
            format!(
                "sync an outcome within so long (default {})",
                SYNC_DEFAULT.as_millis()
            ),
        ),
        Flag::new(
            "",
            "format",
            "text|tsv|json",
            "tsv and json have one line per result",
        ),
        Flag::new(
            "",
            "unordered",
            "",
            "as they come (default: in input order)",
        ),
        Flag::new(
            "",
            "details",
            "",
            "tsv and json: also worker, attempts lost while\n\
             running, milliseconds waiting and running",
        ),
    ]
}

fn watch_flags() -> Vec<Flag> {
    vec![
        Flag::new(
            "",
            "progress",
            "WHEN",
            "say how far it is: auto (default), always, never",
        ),
        Flag::new(
            "",
            "status",
            "[ADDRESS:]PORT",
            "a page to watch it; PORT alone: on this machine",
        ),
        Flag::new(
            "",
            "report",
            "FILE",
            "the run in figures to FILE, as JSON, at its end",
        ),
        Flag::new(
            "",
            "trace",
            "FILE",
            "when each attempt ran, for ui.perfetto.dev",
        ),
    ]
}

fn after() -> String {
    let code = Exit::code;
    format!(
        "\
Examples:
  head -w 10.0.0.11,10.0.0.12:5000 square --count 100 --work-ms 50
  head primes 1 1_000_000_000 --local 4
  head square --format json --details -o squares.json

Exit codes: {} every task done, {} a task failed for good or results differ from
serial, {} bad usage or key, {} no worker could be used, {} the journal does not
fit, {} output, journal or key could not be written, {} interrupted, {} the
reader of standard output went away.

Limits: inputs and outputs of {} by default, {} at most; {} tasks or
{} ahead of the oldest unfinished one, unless --unordered; {} s to connect,
{} s to greet; a worker silent for {} s is asked, for {} s lost (its tasks go
elsewhere), for {} s disconnected. RUST_LOG=debug tells more.",
        code(Exit::Done),
        code(Exit::Failed),
        code(Exit::Usage),
        code(Exit::NoWorker),
        code(Exit::Journal),
        code(Exit::Output),
        code(Exit::Interrupted),
        code(Exit::ReaderGone),
        size(PAYLOAD_BYTES_DEFAULT),
        size(PAYLOAD_BYTES_MAX),
        grouped(WINDOW_TASKS as u64),
        size(WINDOW_BYTES),
        DIAL_TIMEOUT.as_secs(),
        GREETING_TIMEOUT.as_secs(),
        PING_AFTER.as_secs(),
        LOST_AFTER.as_secs(),
        CLOSE_AFTER.as_secs(),
    )
}
