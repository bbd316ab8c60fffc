//! What both command lines share: flags, their parsing by getopts, and errors that help.
//!
//! What it is: one table from which getopts is told what to accept, and `--help` (`help.rs`) and
//! the manual page what to say. What it is not: the meaning of any flag.
//!
//! Invariant: a flag is accepted exactly if `--help` shows it, or that of a job.

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use getopts::{Fail, HasArg, Matches, Occur};

use super::Early;
use crate::frame::PROTOCOL_VERSION;
use crate::keyfile;
use crate::limits::{PAYLOAD_BYTES_DEFAULT, PAYLOAD_BYTES_MAX};
use crate::role::Exit;
use crate::words::digits;

/// One flag.
pub(super) struct Flag {
    /// One letter, or nothing.
    pub short: &'static str,
    pub long: &'static str,
    /// What its value is called; nothing if it takes none.
    pub value: &'static str,
    pub about: String,
    /// Whether it may be given more than once.
    pub is_repeatable: bool,
}

impl Flag {
    pub fn new(
        short: &'static str,
        long: &'static str,
        value: &'static str,
        about: impl Into<String>,
    ) -> Flag {
        Flag {
            short,
            long,
            value,
            about: about.into(),
            is_repeatable: false,
        }
    }

    pub fn repeatable(self) -> Flag {
        Flag {
            is_repeatable: true,
            ..self
        }
    }

    pub fn payload_max() -> Flag {
        let (default, max) = (PAYLOAD_BYTES_DEFAULT >> 20, PAYLOAD_BYTES_MAX >> 20);
        let about = format!("largest input or output of a task, up to {max}\n(default {default})");
        Flag::new("", "payload-max", "MIB", about)
    }

    pub fn key_file() -> Flag {
        let (variable, path) = (keyfile::VARIABLE, keyfile::DEFAULT_PATH);
        let about =
            format!("the key that heads and workers share (default:\n${variable}, else {path})");
        Flag::new("", "key-file", "FILE", about)
    }

    pub fn common() -> [Flag; 3] {
        [
            Flag::new("q", "quiet", "", "say only what went wrong"),
            Flag::new("h", "help", "", "print the options"),
            Flag::new("V", "version", "", "release and protocol version"),
        ]
    }
}

/// Exit codes, ascending, and what each says.
pub(super) type Exits = &'static [(Exit, &'static str)];

/// One program's command line, and what there is to say of it.
pub(super) struct Program {
    pub name: &'static str,
    /// What tells more, beside `--help`: a job's name or nothing.
    pub job: &'static str,
    /// How it is called.
    pub usage: &'static str,
    /// What it does, in paragraphs.
    pub about: &'static str,
    /// What it can be told to do, with arguments.
    pub jobs: Vec<(&'static str, String)>,
    /// Groups of flags, each with its title.
    pub groups: Vec<(String, Vec<Flag>)>,
    /// Those that another `--help` shows.
    pub hidden: Vec<(String, Vec<Flag>)>,
    /// Command lines.
    pub examples: &'static [&'static str],
    /// How it ends, in each way of being called.
    pub exits: &'static [(&'static str, Exits)],
    /// A paragraph; none if it is empty.
    pub limits: String,
}

impl Program {
    /// Tells flags and positional arguments apart. Asked for help or version, it does nothing else.
    pub fn parse(&self, args: impl IntoIterator<Item = OsString>) -> Result<Matches, Early> {
        let mut typed = Vec::new();
        for arg in args {
            typed.push(arg.into_string().map_err(|arg| {
                self.usage(&format!(
                    "{arg:?} is not UTF-8; arguments and file names must be"
                ))
            })?);
        }
        self.find_long_with_one_dash(&typed)?;
        let mut options = getopts::Options::new();
        for flag in self.flags() {
            let has_value = if flag.value.is_empty() {
                HasArg::No
            } else {
                HasArg::Yes
            };
            let occur = match flag.is_repeatable {
                true => Occur::Multi,
                false => Occur::Optional,
            };
            options.opt(flag.short, flag.long, "", "", has_value, occur);
        }
        let matches = (options.parse(&typed)).map_err(|fail| self.explain(&fail, &typed))?;
        if matches.opt_present("help") {
            return Err(Early::Answer(self.help()));
        }
        if matches.opt_present("version") {
            let release = env!("CARGO_PKG_VERSION");
            let version = format!(
                "{} {release} (Teamster, protocol {PROTOCOL_VERSION})",
                self.name
            );
            return Err(Early::Answer(version));
        }
        Ok(matches)
    }

    /// The end of a program that was called wrongly.
    pub fn usage(&self, reason: &str) -> Early {
        let (name, job) = (self.name, self.job);
        Early::Usage(format!("{name}: {reason}\nTry '{name}{job} --help'."))
    }

    pub fn flags(&self) -> impl Iterator<Item = &Flag> + Clone {
        let groups = self.groups.iter().chain(&self.hidden);
        groups.flat_map(|(_, flags)| flags)
    }

    /// `-workers` would be `-w orkers` to getopts, which nobody ever meant.
    fn find_long_with_one_dash(&self, typed: &[String]) -> Result<(), Early> {
        for arg in typed.iter().take_while(|arg| *arg != "--") {
            let name = arg
                .strip_prefix('-')
                .and_then(|rest| rest.split('=').next());
            if self.flags().any(|flag| Some(flag.long) == name) {
                return Err(self.usage(&format!("unknown option {arg}; did you mean -{arg}?")));
            }
        }
        Ok(())
    }

    fn explain(&self, fail: &Fail, typed: &[String]) -> Early {
        let shown = |name: &str| match name.chars().count() {
            1 => format!("-{name}"),
            _ => format!("--{name}"),
        };
        self.usage(&match fail {
            Fail::UnrecognizedOption(name) if name.parse::<u8>().is_ok_and(|n| n < 10) => {
                let is_meant = |arg: &&String| arg.starts_with(&shown(name));
                match typed.iter().find(is_meant) {
                    Some(arg) => format!("{arg} is negative; numbers here are 0 or more"),
                    None => format!("unknown option {}", shown(name)),
                }
            }
            Fail::UnrecognizedOption(name) => {
                let hint = match name.chars().count() {
                    1 => String::new(),
                    _ => did_you_mean("--", name, self.flags().map(|flag| flag.long)),
                };
                format!("unknown option {}{hint}", shown(name))
            }
            Fail::ArgumentMissing(name) => {
                let is_it = |flag: &&Flag| flag.long == name || flag.short == name;
                let value = self
                    .flags()
                    .find(is_it)
                    .map_or("a value", |flag| flag.value);
                format!("{} needs its {value}", shown(name))
            }
            Fail::UnexpectedArgument(name) => format!("{} takes no value", shown(name)),
            Fail::OptionDuplicated(name) => format!("{} is given twice", shown(name)),
            Fail::OptionMissing(name) => format!("{} is missing", shown(name)),
        })
    }
}

/// `; did you mean PREFIXnear?` for the candidate nearest to `typed`, or nothing if none is near.
pub(super) fn did_you_mean<'a>(
    prefix: &str,
    typed: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> String {
    let distance = |candidate: &str| match !typed.is_empty() && candidate.starts_with(typed) {
        true => 1,
        false => edit_distance(typed, candidate),
    };
    match candidates.map(|c| (distance(c), c)).min() {
        Some((distance, near)) if distance <= 1 + near.len() / 4 => {
            format!("; did you mean {prefix}{near}?")
        }
        _ => String::new(),
    }
}

/// Levenshtein's: how many letters must be put in, left out or changed to make one word the other.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &to) in b.iter().enumerate() {
            let changed = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// A whole number in digits, with `_` between them if one likes. `what` names it in errors.
pub(super) fn whole(what: &str, typed: &str, range: RangeInclusive<u64>) -> Result<u64, String> {
    let digits = digits(typed.strip_prefix('-').unwrap_or(typed))
        .ok_or_else(|| format!("{what} is {typed:?}, not a whole number in digits"))?;
    match digits.parse() {
        Ok(number) if range.contains(&number) && !typed.starts_with('-') => Ok(number),
        _ => Err(format!(
            "{what} is {typed}, but must be from {} to {}",
            grouped(*range.start()),
            grouped(*range.end())
        )),
    }
}

/// A time in seconds, whole or with a decimal point, above 0.
pub(super) fn seconds(what: &str, typed: &str) -> Result<Duration, String> {
    let is_number = typed.starts_with(|c: char| c.is_ascii_digit())
        && typed.chars().all(|c| c.is_ascii_digit() || c == '.');
    typed
        .parse()
        .ok()
        .filter(|_| is_number)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|wait| !wait.is_zero())
        .ok_or_else(|| {
            format!("{what} is {typed:?}, not a number of seconds above 0, as 60 or 0.5")
        })
}

/// The value of `--payload-max`, in bytes.
pub(super) fn payload_max_bytes(matches: &Matches) -> Result<usize, String> {
    match matches.opt_str("payload-max") {
        None => Ok(PAYLOAD_BYTES_DEFAULT),
        Some(typed) => {
            let max = (PAYLOAD_BYTES_MAX >> 20) as u64;
            Ok((whole("--payload-max", &typed, 1..=max)? as usize) << 20)
        }
    }
}

/// The file that a flag names; `instead` is what to do if none was meant.
pub(super) fn file(
    matches: &Matches,
    flag: &str,
    instead: &str,
) -> Result<Option<PathBuf>, String> {
    let Some(typed) = matches.opt_str(flag) else {
        return Ok(None);
    };
    if typed.is_empty() {
        return Err(format!("--{flag} needs the name of a file"));
    }
    // `-o --quiet` is a forgotten name far more often than a file called so.
    if typed.starts_with('-') {
        return Err(format!(
            "--{flag} is {typed:?}; for a file of that name write ./{typed}, {instead}"
        ));
    }
    Ok(Some(typed.into()))
}

/// The value of `--key-file`.
pub(super) fn key_file(matches: &Matches) -> Result<Option<PathBuf>, String> {
    file(
        matches,
        "key-file",
        "for the usual one leave --key-file out",
    )
}

/// Digits in groups of three, as they may be typed.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push('_');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Splits at spaces, which is how tests write command lines.
    pub fn split(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    /// Asserts that a help text fits a terminal of 80 columns and one large screen.
    pub fn assert_fits_a_screen(help: &str) {
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "too wide: {line}");
            assert_eq!(line, line.trim_end());
        }
        assert!(help.lines().count() <= 80, "{help}");
    }

    fn program() -> Program {
        let mut flags = vec![
            Flag::new("w", "workers", "LIST", "about\nit"),
            Flag::new("", "local", "N", "it"),
        ];
        flags.extend(Flag::common());
        Program {
            name: "test",
            job: "",
            usage: "test [OPTIONS]",
            about: "Tests.",
            jobs: Vec::new(),
            groups: vec![("Flags".into(), flags)],
            hidden: Vec::new(),
            examples: &["test -q"],
            exits: &[(
                "Exit codes",
                &[(Exit::Done, "done"), (Exit::Usage, "bad usage")],
            )],
            limits: "none.".into(),
        }
    }

    fn error(line: &str) -> String {
        match program().parse(split(line)) {
            Err(Early::Usage(text)) => {
                let reason = text.strip_suffix("\nTry 'test --help'.").unwrap();
                reason.strip_prefix("test: ").unwrap().to_owned()
            }
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn flags_and_arguments_mix_until_two_dashes() {
        let matches = program()
            .parse(split("a -w1 b --local=2 -q -- --local -5"))
            .unwrap();
        assert_eq!(matches.free, ["a", "b", "--local", "-5"]);
        assert_eq!(matches.opt_str("workers").unwrap(), "1");
        assert_eq!(matches.opt_str("local").unwrap(), "2");
        assert!(matches.opt_present("quiet"));
    }

    #[test]
    fn mistakes_are_told_apart() {
        for (line, reason) in [
            (
                "--wrokers x",
                "unknown option --wrokers; did you mean --workers?",
            ),
            ("--loc 1", "unknown option --loc; did you mean --local?"),
            ("--elephant", "unknown option --elephant"),
            ("-x", "unknown option -x"),
            (
                "-workers x",
                "unknown option -workers; did you mean --workers?",
            ),
            (
                "-local=2",
                "unknown option -local=2; did you mean --local=2?",
            ),
            ("-5", "-5 is negative; numbers here are 0 or more"),
            ("1 -17", "-17 is negative; numbers here are 0 or more"),
            ("-q5", "unknown option -5"),
            ("-w", "-w needs its LIST"),
            ("--local", "--local needs its N"),
            ("--quiet=1", "--quiet takes no value"),
            ("-q -q", "--quiet is given twice"),
            ("-wa --workers b", "--workers is given twice"),
        ] {
            assert_eq!(error(line), reason);
        }
    }

    #[cfg(unix)]
    #[test]
    fn bytes_that_are_no_text_are_refused() {
        use std::os::unix::ffi::OsStringExt;
        let early = program().parse([OsString::from_vec(vec![0xff])]);
        assert!(matches!(early, Err(Early::Usage(text)) if text.contains("not UTF-8")));
    }

    #[test]
    fn help_shows_every_flag() {
        let expected = "Usage: test [OPTIONS]
Tests.

Flags:
  -w, --workers LIST            about
                                it
      --local N                 it
  -q, --quiet                   say only what went wrong
  -h, --help                    print the options
  -V, --version                 release and protocol version

Examples:
  test -q

Exit codes: 0 done; 2 bad usage.

Limits: none. RUST_LOG=debug tells more.";
        for line in ["-h", "--help", "-q --help 5", "-V -h"] {
            let early = program().parse(split(line)).unwrap_err();
            assert_eq!(early, Early::Answer(expected.into()));
        }
    }

    #[test]
    fn version_names_release_and_protocol() {
        for line in ["-V", "--version"] {
            let Err(Early::Answer(text)) = program().parse(split(line)) else {
                panic!("no answer to {line}");
            };
            assert!(text.starts_with("test "));
            assert!(text.contains(env!("CARGO_PKG_VERSION")));
        }
    }

    #[test]
    fn distances_between_words() {
        for (a, b, distance) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("quiet", "quit", 1),
        ] {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
        }
    }

    #[test]
    fn whole_numbers() {
        for (typed, number) in [("0", 0), ("007", 7), ("1_000", 1000), ("1_0__0", 100)] {
            assert_eq!(whole("N", typed, 0..=1000), Ok(number));
        }
        for typed in ["", "-", "_1", "1_", "1e3", "0x1", "+1", " 1", "1.0", "١"] {
            let reason = format!("N is {typed:?}, not a whole number in digits");
            assert_eq!(whole("N", typed, 0..=1000), Err(reason));
        }
        for typed in ["0", "1001", "-5", "99999999999999999999999999"] {
            let reason = format!("N is {typed}, but must be from 1 to 1_000");
            assert_eq!(whole("N", typed, 1..=1000), Err(reason));
        }
        assert_eq!(
            whole("N", &u64::MAX.to_string(), 0..=u64::MAX),
            Ok(u64::MAX)
        );
    }

    #[test]
    fn seconds_are_above_zero() {
        for (typed, ms) in [("60", 60_000), ("0.5", 500), ("1.", 1000), ("2.25", 2250)] {
            assert_eq!(seconds("S", typed), Ok(Duration::from_millis(ms)));
        }
        let endless = "9".repeat(400);
        for typed in [
            "", "0", "0.0", "-1", "+1", "1e3", "inf", "nan", "1.2.3", ".", "5s", &endless,
        ] {
            assert!(seconds("S", typed).is_err(), "{typed}");
        }
    }

    #[test]
    fn groups_of_three() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1_000"),
            (1_234_567, "1_234_567"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }
}
