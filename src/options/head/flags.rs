//! The table of `head`'s options, which is also its `--help`.
//!
//! What it is: every flag but the job's own, in the groups in which they are shown. What it is not:
//! what they mean; that is the parent's.
//!
//! Invariant: every default that is told is the constant itself.

use super::super::cli::{Exits, Flag, Program, grouped};
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
pub(in super::super) fn program(is_map: bool) -> Program {
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
            groups: map,
            hidden: groups,
            ..job::map::program()
        };
    }
    Program {
        name: "head",
        job: "",
        usage: "head [OPTIONS] [JOB [ARGUMENTS]]",
        about: "\
Sends the tasks of a job over TCP to workers and puts their results together. Options may stand \
anywhere; after -- everything is an argument.",
        jobs: jobs(),
        groups,
        hidden: map,
        examples: &[
            "head -w 10.0.0.11,10.0.0.12:5000 square --count 100 --work-ms 50",
            "head primes 1 1_000_000_000 --local 4",
            "head square --format json --details -o squares.json",
        ],
        exits: &[("Exit codes", EXITS)],
        limits: limits(),
    }
}

const EXITS: Exits = &[
    (Exit::Done, "every task done"),
    (
        Exit::Failed,
        "a task failed for good, results differ from serial, or of check: some workers cannot be \
         used",
    ),
    (Exit::Usage, "bad usage or key"),
    (Exit::NoWorker, "no worker could be used"),
    (
        Exit::Journal,
        "the journal does not fit, or the input cannot be read",
    ),
    (
        Exit::Output,
        "output, journal or key could not be written, or --status could not listen",
    ),
    (Exit::Interrupted, "interrupted"),
    (Exit::ReaderGone, "the reader of standard output went away"),
];

fn jobs() -> Vec<(&'static str, String)> {
    let to_max = grouped(TO_MAX);
    vec![
        (
            "square",
            "n*n for n = 0, 1, 2, ... after simulated work (the default)".into(),
        ),
        (
            "primes FROM TO",
            format!("how many primes in FROM..=TO; TO at most {to_max}"),
        ),
        (
            "mandelbrot",
            "a picture of the Mandelbrot set, as BMP".into(),
        ),
        (
            "map -- COMMAND",
            "COMMAND for each line of standard input; see head map --help".into(),
        ),
        (
            "check",
            "none: which --workers can be used, how fast they answer, and\n\
             what is wrong with the others"
                .into(),
        ),
    ]
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

fn limits() -> String {
    format!(
        "\
inputs and outputs of {} by default, {} at most; {} tasks or {} ahead of the oldest unfinished \
one, unless --unordered; {} s to connect, {} s to greet; a worker silent for {} s is asked, for \
{} s lost (its tasks go elsewhere), for {} s disconnected.",
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
