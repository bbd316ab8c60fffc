//! The table of `worker`'s options, which is also its `--help`.
//!
//! What it is: every flag, in the groups in which they are shown, and all else that `--help` says.
//! What it is not: what they mean; that is the parent's.
//!
//! Invariant: every default that is told is the constant itself.

use super::super::cli::{Exits, Flag, Program, grouped};
use super::super::{Address, THREADS_MAX, size};
use crate::limits::{
    CLOSE_AFTER, CONNECTIONS_MAX, CREDIT_BYTES, CREDIT_TASKS, GRACE_DEFAULT, GREETING_BYTES_MAX,
    GREETING_TIMEOUT, PAYLOAD_BYTES_DEFAULT, PAYLOAD_BYTES_MAX, PORT_DEFAULT, STALL_TIMEOUT,
};
use crate::role::Exit;

pub(in super::super) fn program() -> Program {
    let mut other = vec![Flag::payload_max()];
    other.extend(Flag::common());
    let alone = vec![
        Flag::new(
            "",
            "run",
            "KERNEL",
            "run it once: input from standard input, output\nto standard output",
        ),
        Flag::new("", "setup", "TEXT", "its set-up (default: empty)"),
    ];
    Program {
        name: "worker",
        job: "",
        usage: "worker [OPTIONS]",
        about: "Waits for heads, runs the tasks they send and answers with the results.",
        jobs: Vec::new(),
        groups: vec![
            ("Listening".into(), listening_flags()),
            ("Computing".into(), computing_flags()),
            ("Without a head".into(), alone),
            ("Other".into(), other),
        ],
        hidden: Vec::new(),
        examples: &[
            "worker",
            "worker --listen 10.0.0.11 --key-file key --allow 10.0.0.10",
            "worker -l 127.0.0.1:0 -s 1",
            "echo 1 1_000_000 | worker --run primes",
        ],
        exits: &[("Exit codes", EXITS), ("With --run", ALONE_EXITS)],
        limits: limits(),
    }
}

const EXITS: Exits = &[
    (Exit::Done, "drained"),
    (
        Exit::Failed,
        "no slot left (tasks overran --timeout and do not stop)",
    ),
    (Exit::Usage, "bad usage or key"),
    (Exit::Output, "cannot listen"),
    (Exit::Interrupted, "told to end a second time"),
];

const ALONE_EXITS: Exits = &[
    (Exit::Done, "done"),
    (Exit::Failed, "the task failed"),
    (Exit::Usage, "bad usage"),
    (Exit::NoWorker, "this machine could not run it"),
    (Exit::Output, "cannot read or write"),
    (Exit::ReaderGone, "the reader of standard output went away"),
];

pub(super) fn listening_flags() -> Vec<Flag> {
    vec![
        Flag::new(
            "l",
            "listen",
            "HOST[:PORT]",
            format!(
                "default {} with a key, else\n{}; port {PORT_DEFAULT} if none is\n\
                 named, port 0 for any that is free",
                Address::ANYWHERE,
                Address::LOOPBACK
            ),
        ),
        Flag::key_file(),
        Flag::new(
            "",
            "insecure",
            "",
            "without a key, whoever reaches the port",
        ),
        Flag::new(
            "",
            "allow",
            "ADDRESS[/BITS]",
            "who may connect, this machine included; may be\ngiven more than once (default: everyone)",
        )
        .repeatable(),
    ]
}

pub(super) fn computing_flags() -> Vec<Flag> {
    vec![
        Flag::new(
            "s",
            "slots",
            "N",
            format!(
                "threads that compute, up to {THREADS_MAX}\n(default: as many as the machine has)"
            ),
        ),
        Flag::new(
            "",
            "allow-program",
            "PATH",
            "a program that the job map may run; may be given\nmore than once (default: none)",
        )
        .repeatable(),
        Flag::new(
            "",
            "grace",
            "SECONDS",
            format!(
                "when told to end, how long tasks may go on\n(default {})",
                GRACE_DEFAULT.as_secs()
            ),
        ),
    ]
}

fn limits() -> String {
    format!(
        "\
inputs and outputs of {} by default, {} at most; {} connections; {} before a head has greeted, \
{} s for its greeting; {} tasks and {} of inputs per head; one that is silent for {} s, or takes \
nothing of what is sent to it for {} s, is disconnected.",
        size(PAYLOAD_BYTES_DEFAULT),
        size(PAYLOAD_BYTES_MAX),
        CONNECTIONS_MAX,
        size(GREETING_BYTES_MAX),
        GREETING_TIMEOUT.as_secs(),
        grouped(CREDIT_TASKS.into()),
        size(CREDIT_BYTES as usize),
        CLOSE_AFTER.as_secs(),
        STALL_TIMEOUT.as_secs(),
    )
}
