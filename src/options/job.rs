//! The jobs' part of `head`'s command line.
//!
//! What it is: names, arguments and options of the jobs. What it is not: the jobs.
//!
//! Invariant: an option of one job is refused with every other.

use std::ffi::OsString;
use std::ops::RangeInclusive;

use getopts::Matches;

use super::cli::{Flag, did_you_mean, whole};
use super::head::CHECK;
use crate::command;
use crate::format::Rows;
use crate::kernels::bmp::SIDE_MAX;
use crate::kernels::mandelbrot::{ITERATIONS_MAX, Picture, View};
use crate::kernels::primes::Primes;
use crate::kernels::sieve::TO_MAX;
use crate::kernels::square::{COUNT_MAX, Squares};
use crate::kernels::{Job, mandelbrot, primes, square};

pub(super) mod map;

const COUNT_DEFAULT: u64 = 10;
const WORK_MS_DEFAULT: u32 = 1000;

const SIZE_DEFAULT: &str = "1920x1080";
const CENTER_DEFAULT: &str = "-0.65,0";
/// Neighbouring pixels become the same number at little more than this.
const ZOOM_MAX: f64 = 1e12;
const ITERATIONS_DEFAULT: u32 = 1000;

/// Every job with the flags that are its alone.
const JOBS: [(&str, &[&str]); 4] = [
    (square::NAME, &["count", "work-ms"]),
    (primes::NAME, &[]),
    (mandelbrot::NAME, &["size", "center", "zoom", "iterations"]),
    (
        command::NAME,
        &[
            "null",
            "persistent",
            "length-prefixed",
            "keep-order",
            "halt",
            "dry-run",
            "joblog",
            "results",
        ],
    ),
];

/// The job and its arguments; without any, the demonstration. What stood behind `--` is the command
/// of `map`.
///
/// # Errors
/// Names what is unknown, missing, too much, out of range or another job's.
pub(super) fn parse(
    matches: &Matches,
    command: Option<Vec<OsString>>,
    rows: Rows,
) -> Result<Job, String> {
    let (name, arguments) = match matches.free.split_first() {
        Some((name, arguments)) => (name.as_str(), arguments),
        None => (square::NAME, &[][..]),
    };
    if !JOBS.iter().any(|&(job, _)| job == name) {
        let names = JOBS.map(|(job, _)| job);
        let hint = did_you_mean("", name, names.into_iter().chain([CHECK]));
        let names = names.join(", ");
        return Err(format!("unknown job {name:?}; jobs are {names}{hint}"));
    }
    for (job, flags) in JOBS.iter().filter(|&&(job, _)| job != name) {
        if let Some(flag) = flags.iter().find(|flag| matches.opt_present(flag)) {
            return Err(format!("--{flag} belongs to the job {job}, not to {name}"));
        }
    }
    match name {
        square::NAME => squares(matches, arguments, rows).map(Job::Square),
        mandelbrot::NAME => picture(matches, arguments).map(Job::Mandelbrot),
        command::NAME => map::parse(matches, arguments, command, rows).map(Job::Map),
        _ => primes_in(arguments, rows).map(Job::Primes),
    }
}

fn squares(matches: &Matches, arguments: &[String], rows: Rows) -> Result<Squares, String> {
    if let Some(extra) = arguments.first() {
        return Err(format!(
            "square takes no arguments, and there is {extra:?}; how many squares is --count"
        ));
    }
    let count = match matches.opt_str("count") {
        Some(typed) => whole("--count", &typed, 0..=COUNT_MAX)?,
        None => COUNT_DEFAULT,
    };
    let work_ms = match matches.opt_str("work-ms") {
        Some(typed) => whole("--work-ms", &typed, 0..=u32::MAX.into())? as u32,
        None => WORK_MS_DEFAULT,
    };
    Ok(Squares::new(count, work_ms, rows))
}

fn primes_in(arguments: &[String], rows: Rows) -> Result<Primes, String> {
    let [from, to] = arguments else {
        return Err(format!(
            "primes takes two arguments, FROM and TO, and there are {}; as in primes 1 1_000_000",
            arguments.len()
        ));
    };
    let from = whole("FROM", from, 0..=TO_MAX)?;
    let to = whole("TO", to, 0..=TO_MAX)?;
    if from > to {
        return Err(format!("FROM is {from}, which is above TO, {to}"));
    }
    Ok(Primes::new(from, to, rows))
}

fn picture(matches: &Matches, arguments: &[String]) -> Result<Picture, String> {
    if let Some(extra) = arguments.first() {
        return Err(format!(
            "mandelbrot takes no arguments, and there is {extra:?}; how large it gets is --size"
        ));
    }
    for flag in ["format", "details", "unordered"] {
        if matches.opt_present(flag) {
            return Err(format!(
                "--{flag} is for rows of text; mandelbrot writes a picture (BMP)"
            ));
        }
    }
    let typed = |flag: &str, default: &str| matches.opt_str(flag).unwrap_or(default.into());
    let (size, center) = (typed("size", SIZE_DEFAULT), typed("center", CENTER_DEFAULT));
    let zoom = typed("zoom", "1");
    let iterations = match matches.opt_str("iterations") {
        Some(typed) => whole("--iterations", &typed, 1..=ITERATIONS_MAX.into())? as u32,
        None => ITERATIONS_DEFAULT,
    };
    let (width, height) = (size.split_once('x'))
        .ok_or_else(|| format!("--size is {size:?}, not two numbers as in {SIZE_DEFAULT}"))?;
    let side = |typed| whole("a side of --size", typed, 1..=SIDE_MAX.into()).map(|n| n as u32);
    let (re, im) = (center.split_once(','))
        .ok_or_else(|| format!("--center is {center:?}, not two numbers as in {CENTER_DEFAULT}"))?;
    let part = |typed| real("a part of --center", typed, -4.0..=4.0);
    let view = View::new(
        (side(width)?, side(height)?),
        (part(re)?, part(im)?),
        real("--zoom", &zoom, 0.01..=ZOOM_MAX)?,
        iterations,
    );
    let words = format!("--size {size} --center {center} --zoom {zoom} --iterations {iterations}");
    Ok(Picture::new(view, words))
}

/// A number with or without a decimal point. `what` names it in errors.
fn real(what: &str, typed: &str, range: RangeInclusive<f64>) -> Result<f64, String> {
    let number = typed.parse().ok().filter(|number| range.contains(number));
    let (least, most) = (range.start(), range.end());
    number.ok_or_else(|| format!("{what} is {typed:?}, not a number from {least} to {most}"))
}

/// The same for `mandelbrot`.
pub(super) fn mandelbrot_flags() -> Vec<Flag> {
    vec![
        Flag::new(
            "",
            "size",
            "WxH",
            format!("pixels, up to {SIDE_MAX} each (default {SIZE_DEFAULT})"),
        ),
        Flag::new(
            "",
            "center",
            "RE,IM",
            format!("the number in the middle (default {CENTER_DEFAULT})"),
        ),
        Flag::new("", "zoom", "N", "how many times larger than the whole set"),
        Flag::new(
            "",
            "iterations",
            "N",
            format!("black unless it escapes before (default {ITERATIONS_DEFAULT})"),
        ),
    ]
}

/// For `--help`, and what [`JOBS`] says `square` alone takes.
pub(super) fn square_flags() -> Vec<Flag> {
    vec![
        Flag::new(
            "",
            "count",
            "N",
            format!("how many (default {COUNT_DEFAULT})"),
        ),
        Flag::new(
            "",
            "work-ms",
            "MS",
            format!("simulated work per task (default {WORK_MS_DEFAULT})"),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::head::tests::{error, ok};
    use super::*;

    fn squares(count: u64, work_ms: u32) -> Job {
        Job::Square(Squares::new(count, work_ms, Rows::default()))
    }

    fn primes(from: u64, to: u64) -> Job {
        Job::Primes(Primes::new(from, to, Rows::default()))
    }

    #[test]
    fn square_count_and_work() {
        let line = "--work-ms 0 square --count 4_294_967_296";
        assert_eq!(ok(line).job, squares(COUNT_MAX, 0));
        assert_eq!(ok("square --count 0").job, squares(0, 1000));
        assert!(error("--count 4294967297").starts_with("--count is 4294967297, but"));
        assert!(error("--count=-1").starts_with("--count is -1, but must be from 0"));
        assert!(error("--work-ms 4294967296").starts_with("--work-ms is"));
        assert!(error("square 5").contains("\"5\"; how many squares is --count"));
    }

    #[test]
    fn primes_from_to() {
        assert_eq!(ok("primes 1 1_000_000").job, primes(1, 1_000_000));
        assert_eq!(ok("primes 0 0").job, primes(0, 0));
        assert_eq!(ok("-- primes 7 7").job, primes(7, 7));
        let line = "primes 99 --local 3 100_000_000_000_000";
        assert_eq!(ok(line).job, primes(99, TO_MAX));
        for (line, reason) in [
            ("primes", "and there are 0"),
            ("primes 1", "and there are 1"),
            ("primes 1 2 3", "and there are 3"),
            ("primes 2 1", "FROM is 2, which is above TO, 1"),
            (
                "primes 1 1e9",
                "TO is \"1e9\", not a whole number in digits",
            ),
            (
                "primes 1 100000000000001",
                "TO is 100000000000001, but must be from 0 to 100_000_000_000_000",
            ),
            ("primes -5 10", "-5 is negative"),
            ("primes -- -5 10", "FROM is -5, but must be from 0"),
            (
                "primes 1 -- --local",
                "TO is \"--local\", not a whole number",
            ),
        ] {
            assert!(error(line).contains(reason), "{line}: {}", error(line));
        }
    }

    #[test]
    fn jobs_keep_to_their_options() {
        assert_eq!(
            error("primes 1 2 --count 5"),
            "--count belongs to the job square, not to primes"
        );
        assert_eq!(
            error("--work-ms 5 primes 1 2"),
            "--work-ms belongs to the job square, not to primes"
        );
    }

    #[test]
    fn unknown_names_get_a_suggestion() {
        let unknown = "jobs are square, primes, mandelbrot, map";
        assert_eq!(
            error("sqare"),
            format!("unknown job \"sqare\"; {unknown}; did you mean square?")
        );
        assert_eq!(
            error("prime 1 2"),
            format!("unknown job \"prime\"; {unknown}; did you mean primes?")
        );
        assert!(error("chek -w a").ends_with("; did you mean check?"));
        for name in ["parallel", "10.0.0.11:5000"] {
            assert_eq!(error(name), format!("unknown job {name:?}; {unknown}"));
        }
        assert_eq!(
            error("--worker a"),
            "unknown option --worker; did you mean --workers?"
        );
    }

    #[test]
    fn jobs_take_the_flags_that_are_shown() {
        for (name, flags) in [
            (square::NAME, square_flags()),
            (mandelbrot::NAME, mandelbrot_flags()),
            (command::NAME, map::flags()),
        ] {
            let flags: Vec<&str> = flags.iter().map(|flag| flag.long).collect();
            assert!(JOBS.contains(&(name, &flags[..])));
        }
    }

    #[test]
    fn a_picture_and_its_view() {
        let whole = View::new((1920, 1080), (-0.65, 0.0), 1.0, 1000);
        let words = "--size 1920x1080 --center -0.65,0 --zoom 1 --iterations 1000";
        let picture = Picture::new(whole, words.into());
        assert_eq!(ok("mandelbrot").job, Job::Mandelbrot(picture));
        let line = "--size 1x32_768 --center=0.25,-1e-3 --zoom 1e12 --iterations 1000000";
        let part = View::new((1, 32_768), (0.25, -0.001), 1e12, 1_000_000);
        let picture = Picture::new(part, line.replace('=', " "));
        assert_eq!(
            ok(&format!("mandelbrot {line}")).job,
            Job::Mandelbrot(picture)
        );
        for (line, reason) in [
            ("5", "\"5\"; how large it gets is --size"),
            (
                "--size 5",
                "--size is \"5\", not two numbers as in 1920x1080",
            ),
            ("--size 0x5", "a side of --size is 0, but must be from 1"),
            ("--size 5x32769", "a side of --size is 32769, but must be"),
            (
                "--center 1",
                "--center is \"1\", not two numbers as in -0.65,0",
            ),
            (
                "--center 1,nan",
                "a part of --center is \"nan\", not a number from -4 to 4",
            ),
            (
                "--zoom inf",
                "--zoom is \"inf\", not a number from 0.01 to 1000000000000",
            ),
            ("--iterations 0", "--iterations is 0, but must be from 1"),
            (
                "--format tsv",
                "--format is for rows of text; mandelbrot writes a picture",
            ),
            ("--unordered", "--unordered is for rows"),
            ("--details", "--details is for rows"),
            ("--count 5", "--count belongs to the job square"),
        ] {
            let error = error(&format!("mandelbrot {line}"));
            assert!(error.contains(reason), "{line}: {error}");
        }
    }
}
