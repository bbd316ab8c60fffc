//! The table of the options that `map` alone takes, which is also its `--help`.
//!
//! What it is: every flag, and all else that `head map --help` says. What it is not: what they mean;
//! that is the parent's.
//!
//! Invariant: the flags are those that the table of jobs says `map` alone takes.

use super::super::super::cli::{Flag, Program};

/// For `head map --help`, and what `JOBS` says `map` alone takes.
pub(in super::super::super) fn flags() -> Vec<Flag> {
    vec![
        Flag::new(
            "0",
            "null",
            "",
            "lines end with a zero byte, as of find -print0",
        ),
        Flag::new(
            "",
            "persistent",
            "",
            "one process per slot, which gets line after line\n\
             on standard input and answers each with a line",
        ),
        Flag::new(
            "",
            "length-prefixed",
            "",
            "with --persistent: four bytes of length,\n\
             big endian, before each, and no line's end",
        ),
        Flag::new(
            "k",
            "keep-order",
            "",
            "results in the order of the lines, as by default",
        ),
        Flag::new(
            "",
            "halt",
            "WHEN",
            "never, now,fail=N or soon,fail=N: end at the\n\
             Nth failure, soon: once what was sent has ended",
        ),
        Flag::new("", "dry-run", "", "print the commands, and run nothing"),
        Flag::new(
            "",
            "joblog",
            "FILE",
            "a row per task in GNU parallel's nine columns",
        ),
        Flag::new(
            "",
            "results",
            "DIR",
            "also the outputs of line N in DIR/N/stdout and\nDIR/N/stderr",
        ),
    ]
}

/// What `head map --help` says, but for the flags.
pub(in super::super::super) fn program() -> Program {
    Program {
        name: "head",
        job: " map",
        usage: "head [OPTIONS] map [OPTIONS] -- COMMAND [ARGUMENTS]",
        about: "\
Runs COMMAND once for each line of standard input, without a shell, and writes what it writes to \
standard output, in the order of the lines.

In ARGUMENTS {} stands for the line, {.} for it without its ending, {/} for its file name, {//} \
for its folder, {/.} for its file name without ending. Without any of them the line is the last \
argument. Workers run only what they were started with: worker --allow-program PATH. Without \
--workers COMMAND runs here. All other options are those of head --help, --retries, --timeout and \
--journal among them.",
        jobs: Vec::new(),
        groups: Vec::new(),
        hidden: Vec::new(),
        examples: &[
            "ls *.txt | head map -- wc -c",
            "find . -name '*.wav' -print0 | head map -0 -- flac --silent {} -o {.}.flac",
            "seq 1000000 | head -w 10.0.0.11,10.0.0.12 map --persistent -- ./square.py",
        ],
        exits: &[],
        limits: String::new(),
    }
}
