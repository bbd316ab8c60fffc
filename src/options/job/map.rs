//! The part of `head`'s command line that is the job `map`'s.
//!
//! What it is: its flags, and the command behind `--`. What it is not: what becomes of them.
//!
//! Invariant: everything behind the first `--` belongs to the command, byte for byte.

mod flags;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use getopts::Matches;

use super::super::cli::{payload_max_bytes, whole};
use crate::command::{CommandLine, Mode, NAME};
use crate::format::Rows;
use crate::kernels::map::{Choices, Map};
pub(in super::super) use flags::{flags, program};

/// What is said where the command is missing.
pub(in super::super) const NO_COMMAND: &str = "\
map needs -- and a command, which is run for each line of standard input; as in
  ls *.txt | head map -- wc -c";

/// What separates the command from its arguments in GNU parallel.
const SOURCES: [&str; 6] = [":::", "::::", ":::+", "::::+", ":::?", ":::::"];

/// The job, whose command is what stood behind `--`.
pub(super) fn parse(
    matches: &Matches,
    arguments: &[String],
    command: Option<Vec<OsString>>,
    rows: Rows,
) -> Result<Map, String> {
    let words = command.unwrap_or_default();
    if !arguments.is_empty() || words.is_empty() {
        return Err(NO_COMMAND.into());
    }
    let is_source = |word: &&OsString| SOURCES.iter().any(|source| *word == source);
    if let Some(source) = words.iter().find(is_source) {
        let source = source.to_string_lossy();
        return Err(format!(
            "{source} is not understood: map reads its lines from standard input, as in\n  \
             printf '%s\\n' a b c | head map -- echo"
        ));
    }
    let is_persistent = matches.opt_present("persistent");
    let mode = match (is_persistent, matches.opt_present("length-prefixed")) {
        (false, false) => Mode::PerTask,
        (true, false) => Mode::Lines,
        (true, true) => Mode::Lengths,
        (false, true) => return Err("--length-prefixed needs --persistent".into()),
    };
    let words = words.into_iter().map(OsString::into_vec).collect();
    let command = CommandLine::new(mode, words).map_err(|unfit| unfit.to_string())?;
    let choices = Choices {
        is_null: matches.opt_present("null"),
        rows,
        has_log: matches.opt_present("joblog"),
        has_folder: matches.opt_present("results"),
        line_bytes_max: payload_max_bytes(matches)?,
    };
    if matches.opt_present("keep-order") && matches.opt_present("unordered") {
        return Err("--keep-order and --unordered exclude each other".into());
    }
    if matches.opt_present("compare") {
        return Err(format!(
            "--compare runs a job twice, and the input of {NAME} can be read only once"
        ));
    }
    Ok(Map::new(command, choices))
}

/// Of `--halt`: how many tasks may fail, and whether the run then ends softly.
pub(in super::super) fn halt(typed: &str) -> Result<(Option<u64>, bool), String> {
    let (when, count) = match typed.split_once(",fail=") {
        _ if typed == "never" => return Ok((None, false)),
        Some((when @ ("now" | "soon"), count)) => (when, count),
        _ => {
            return Err(format!(
                "--halt is {typed:?}, which is none of never, now,fail=N, soon,fail=N"
            ));
        }
    };
    let count = whole("N of --halt", count, 1..=u64::MAX)?;
    Ok((Some(count - 1), when == "soon"))
}

#[cfg(test)]
mod tests {
    use super::super::super::head::tests::{error, ok};
    use super::*;
    use crate::format::Format;
    use crate::kernels::Job;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    fn command(line: &str) -> CommandLine {
        match ok(line).job {
            Job::Map(map) => map.command().clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn all_behind_the_dashes_is_the_commands() {
        let words = |words: &[&str]| words.iter().map(|word| word.as_bytes().to_vec()).collect();
        let per_task = |list: &[&str]| CommandLine::new(Mode::PerTask, words(list)).unwrap();
        assert_eq!(command("map -- wc -c"), per_task(&["wc", "-c"]));
        let line = "map -q -- x --local 3 -- -w";
        assert_eq!(command(line), per_task(&["x", "--local", "3", "--", "-w"]));
        let lines = CommandLine::new(Mode::Lines, words(&["x"])).unwrap();
        assert_eq!(command("--persistent map -- x"), lines);
        let lengths = CommandLine::new(Mode::Lengths, words(&["x"])).unwrap();
        assert_eq!(command("map --length-prefixed --persistent -- x"), lengths);
        let args = ["map", "--", "x"].map(OsString::from);
        let odd = OsStr::from_bytes(b"\xff").to_owned();
        let options = crate::options::HeadOptions::parse(args.into_iter().chain([odd])).unwrap();
        let Job::Map(map) = options.job else {
            panic!("it is a map");
        };
        assert_eq!(map.command().words()[1], b"\xff");
    }

    #[test]
    fn what_is_no_map_says_so() {
        for line in [
            "map",
            "map --",
            "map wc",
            "map wc -c",
            "map grep -i x",
            "map x -- y",
        ] {
            assert_eq!(error(line), NO_COMMAND, "{line}");
        }
        for (line, reason) in [
            ("map -- x ::: a b", "::: is not understood"),
            ("map -c -- x", "--compare runs a job twice"),
            (
                "map --length-prefixed -- x",
                "--length-prefixed needs --persistent",
            ),
            (
                "square --null",
                "--null belongs to the job map, not to square",
            ),
            (
                "map --count 5 -- x",
                "--count belongs to the job square, not to map",
            ),
            ("map --joblog -- x", "--joblog needs its FILE"),
            (
                "map --wokers a -- x",
                "unknown option --wokers; did you mean --workers?",
            ),
        ] {
            assert!(error(line).starts_with(reason), "{line}: {}", error(line));
        }
    }

    #[test]
    fn a_run_halts_after_so_many_failures() {
        let halt = |line: &str| {
            let options = ok(&format!("map --halt {line} -- x"));
            (options.failures_max, options.ends_softly)
        };
        assert_eq!(halt("never"), (None, false));
        assert_eq!(halt("now,fail=1"), (Some(0), false));
        assert_eq!(halt("soon,fail=3"), (Some(2), true));
        for typed in [
            "2",
            "now",
            "now,fail=0",
            "now,fail=10%",
            "now,success=1",
            "later,fail=1",
        ] {
            let line = format!("map --halt {typed} -- x");
            assert!(error(&line).contains("--halt is"), "{}", error(&line));
        }
        let line = "map --halt never --max-failures 1 -- x";
        assert!(error(line).ends_with("exclude each other"));
    }

    #[test]
    fn places_and_formats() {
        let options = ok("map -0 --joblog l --results r --dry-run --format tsv -k -- x");
        assert_eq!(options.joblog, Some("l".into()));
        assert_eq!(options.results, Some("r".into()));
        assert!(options.dry_run && !options.unordered);
        let command = CommandLine::new(Mode::PerTask, vec![b"x".to_vec()]).unwrap();
        let choices = Choices {
            is_null: true,
            rows: Rows {
                format: Format::Tsv,
                details: false,
            },
            has_log: true,
            has_folder: true,
            line_bytes_max: 1 << 20,
        };
        assert_eq!(options.job, Job::Map(Map::new(command, choices)));
    }
}
