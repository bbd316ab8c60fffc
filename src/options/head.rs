//! The command line of `head`.
//!
//! What it is: [`HeadOptions`], all of it but the job's own part. What it is not: the run.
//!
//! Invariant: two heads with equal options do the same.

mod flags;

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use getopts::Matches;

use super::address::{self, Address};
use super::cli::{
    Program, did_you_mean, file, grouped, key_file, payload_max_bytes, seconds, whole,
};
use super::{Early, THREADS_MAX, job};
use crate::command;
use crate::format::{Format, Rows};
use crate::kernels::Job;
use crate::limits::{ATTEMPTS_DEFAULT, GIVE_UP_DEFAULT, SYNC_DEFAULT};
use crate::progress::When;
use crate::time::Duration;

const LOCAL_DEFAULT: u64 = 2;
/// More losses than this say nothing new of a task.
const ATTEMPTS_MAX: u64 = 1000;
/// What has failed so often will fail again.
const RETRIES_MAX: u64 = 1000;
/// Nobody waits longer than a minute for a result that is there.
const SYNC_MS_MAX: u64 = 60_000;

/// Which workers do the work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cluster {
    /// So many one-slot workers inside this process; at least 1.
    Local(usize),
    /// These; at least one, none twice.
    Remote(Vec<Address>),
}

/// How `head` keeps a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalOptions {
    /// Its file.
    pub path: PathBuf,
    /// Whether to go on with what is there.
    pub resumes: bool,
    /// How long a record may wait for others that are synced with it.
    pub sync_after: Duration,
}

/// What `head` was asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadOptions {
    /// Who computes.
    pub cluster: Cluster,
    /// The file with the key to remote workers, if it is not where it usually is.
    pub key_file: Option<PathBuf>,
    /// What; it knows how its results are written.
    pub job: Job,
    /// Whether to run it serially first.
    pub compare: bool,
    /// How long to go on without any usable worker; above zero.
    pub give_up: Duration,
    /// Losses while running at which a task is given up; at least 1.
    pub attempts_max: u32,
    /// How often a task that failed is tried again.
    pub retries: u32,
    /// Failed tasks above which the run is ended early.
    pub failures_max: Option<u64>,
    /// Whether it then waits for what is in flight.
    pub ends_softly: bool,
    /// Whether a task may run twice only to end sooner; never a program of `map`.
    pub duplicates: bool,
    /// Whether one that has not started may be handed back only to end sooner.
    pub hands_back: bool,
    /// How long one attempt may run, in whole milliseconds that fit 32 bits.
    pub timeout: Option<Duration>,
    /// Where the results go; `None` is standard output.
    pub output: Option<PathBuf>,
    /// Where the log of `map` goes.
    pub joblog: Option<PathBuf>,
    /// Under which folder `map` puts the outputs of each task.
    pub results: Option<PathBuf>,
    /// Whether to print the commands of `map` and run none.
    pub dry_run: bool,
    /// Where every outcome is recorded before it is delivered.
    pub journal: Option<JournalOptions>,
    /// Whether results are written as they come rather than in input order.
    pub unordered: bool,
    /// Largest task input or output, in bytes.
    pub payload_max_bytes: usize,
    /// Whether to say only what went wrong.
    pub quiet: bool,
    /// When to tell how far it is.
    pub progress: When,
    /// Where the status page is served.
    pub status: Option<SocketAddr>,
    /// Where the run is reported in figures.
    pub report: Option<PathBuf>,
    /// Where it is written down when each attempt ran.
    pub trace: Option<PathBuf>,
}

impl HeadOptions {
    /// Understands a command line, given without the program's name.
    ///
    /// # Errors
    /// The end of the program: an answer that was asked for, or what is wrong.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<HeadOptions, Early> {
        let mut args: Vec<OsString> = args.into_iter().collect();
        let end = args.iter().position(|arg| arg == "--");
        let own = &args[..end.unwrap_or(args.len())];
        let is_map = own.iter().any(|arg| arg == command::NAME);
        let program = flags::program(is_map);
        let mut matches = match program.parse(own.iter().cloned()) {
            // An option of the command's, most likely.
            Err(Early::Usage(_)) if is_map && end.is_none() => {
                return Err(program.usage(job::map::NO_COMMAND));
            }
            parsed => parsed?,
        };
        let mut command = None;
        match end {
            Some(end) if matches.free.first().is_some_and(|job| job == command::NAME) => {
                command = Some(args.split_off(end + 1));
            }
            Some(_) => matches = program.parse(args)?,
            None => {}
        }
        match keygen(&program, &matches).map_err(|reason| program.usage(&reason))? {
            Some(path) => Err(Early::Keygen(path)),
            None => understand(&matches, command).map_err(|reason| program.usage(&reason)),
        }
    }
}

/// The file for a new key, if that is all that is wanted.
fn keygen(program: &Program, matches: &Matches) -> Result<Option<PathBuf>, String> {
    let path = file(matches, "keygen", "for no new key leave --keygen out")?;
    let mut others = program.flags().filter(|flag| flag.long != "keygen");
    let is_alone = matches.free.is_empty() && !others.any(|flag| matches.opt_present(flag.long));
    match path {
        Some(_) if !is_alone => Err("--keygen FILE stands alone: it runs no job".into()),
        path => Ok(path),
    }
}

fn understand(matches: &Matches, command: Option<Vec<OsString>>) -> Result<HeadOptions, String> {
    let rows = Rows {
        format: format(matches)?,
        details: matches.opt_present("details"),
    };
    let job = job::parse(matches, command, rows)?;
    let (failures_max, ends_softly) = failures(matches)?;
    let hands_back = !matches.opt_present("no-duplicates");
    Ok(HeadOptions {
        cluster: cluster(matches)?,
        key_file: key_file_to_workers(matches)?,
        compare: matches.opt_present("compare") || matches.free.is_empty(),
        give_up: match matches.opt_str("give-up") {
            Some(typed) => seconds("--give-up", &typed)?,
            None => GIVE_UP_DEFAULT,
        },
        attempts_max: match matches.opt_str("attempts") {
            Some(typed) => whole("--attempts", &typed, 1..=ATTEMPTS_MAX)? as u32,
            None => ATTEMPTS_DEFAULT,
        },
        retries: match matches.opt_str("retries") {
            Some(typed) => whole("--retries", &typed, 0..=RETRIES_MAX)? as u32,
            None => 0,
        },
        failures_max,
        ends_softly,
        timeout: match matches.opt_str("timeout") {
            Some(typed) => Some(timeout(&typed)?),
            None => None,
        },
        duplicates: hands_back && !matches!(job, Job::Map(_)),
        hands_back,
        job,
        output: file(matches, "output", "for standard output leave --output out")?,
        joblog: file(matches, "joblog", "for none leave --joblog out")?,
        results: file(matches, "results", "for none leave --results out")?,
        dry_run: matches.opt_present("dry-run"),
        journal: journal(matches)?,
        unordered: matches.opt_present("unordered"),
        payload_max_bytes: payload_max_bytes(matches)?,
        quiet: matches.opt_present("quiet"),
        progress: progress(matches)?,
        status: match matches.opt_str("status") {
            Some(typed) => Some(status(&typed)?),
            None => None,
        },
        report: file(matches, "report", "for none leave --report out")?,
        trace: file(matches, "trace", "for none leave --trace out")?,
    })
}

fn cluster(matches: &Matches) -> Result<Cluster, String> {
    match (matches.opt_str("workers"), matches.opt_str("local")) {
        (Some(_), Some(_)) => {
            Err("--workers and --local exclude each other; give one of them".into())
        }
        (Some(list), None) => match address::workers(&list) {
            Ok(workers) => Ok(Cluster::Remote(workers)),
            Err(reason) => Err(format!("--workers: {reason}")),
        },
        (None, Some(typed)) => Ok(Cluster::Local(
            whole("--local", &typed, 1..=THREADS_MAX)? as usize
        )),
        (None, None) => Ok(Cluster::Local(LOCAL_DEFAULT as usize)),
    }
}

fn key_file_to_workers(matches: &Matches) -> Result<Option<PathBuf>, String> {
    match key_file(matches)? {
        Some(_) if !matches.opt_present("workers") => {
            Err("--key-file is for --workers; those inside this process need none".into())
        }
        path => Ok(path),
    }
}

fn format(matches: &Matches) -> Result<Format, String> {
    let Some(typed) = matches.opt_str("format") else {
        return Ok(Format::default());
    };
    typed.parse().map_err(|()| {
        let hint = did_you_mean("", &typed, Format::NAMES.into_iter());
        let names = Format::NAMES.join(", ");
        format!("--format is {typed:?}, which is none of {names}{hint}")
    })
}

/// A port alone is one of loopback: who wants others to look has to say so.
fn status(typed: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = typed.parse() {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    typed.parse().map_err(|_| {
        format!("--status is {typed:?}, neither a port nor ADDRESS:PORT, such as 127.0.0.1:8080")
    })
}

fn progress(matches: &Matches) -> Result<When, String> {
    let names = ["auto", "always", "never"];
    match matches.opt_str("progress").as_deref() {
        _ if matches.opt_present("quiet") => Ok(When::Never),
        None | Some("auto") => Ok(When::Auto),
        Some("always") => Ok(When::Always),
        Some("never") => Ok(When::Never),
        Some(typed) => {
            let hint = did_you_mean("", typed, names.into_iter());
            let names = names.join(", ");
            Err(format!(
                "--progress is {typed:?}, which is none of {names}{hint}"
            ))
        }
    }
}

/// After how many failures the run ends, and whether softly.
fn failures(matches: &Matches) -> Result<(Option<u64>, bool), String> {
    match (matches.opt_str("max-failures"), matches.opt_str("halt")) {
        (Some(_), Some(_)) => Err("--max-failures and --halt exclude each other".into()),
        (Some(typed), None) => {
            let max = whole("--max-failures", &typed, 0..=u64::MAX)?;
            Ok((Some(max), false))
        }
        (None, Some(typed)) => job::map::halt(&typed),
        (None, None) => Ok((None, false)),
    }
}

fn timeout(typed: &str) -> Result<Duration, String> {
    let ms = seconds("--timeout", typed)?.as_millis();
    match u32::try_from(ms) {
        Ok(ms @ 1..) => Ok(Duration::from_millis(ms.into())),
        _ => Err(format!(
            "--timeout is {typed}, but must be from 0.001 to {}",
            grouped(u64::from(u32::MAX / 1000))
        )),
    }
}

fn journal(matches: &Matches) -> Result<Option<JournalOptions>, String> {
    let Some(path) = file(matches, "journal", "for none leave --journal out")? else {
        let lone = ["resume", "sync-ms"]
            .into_iter()
            .find(|flag| matches.opt_present(flag));
        return match lone {
            Some(flag) => Err(format!("--{flag} needs --journal FILE")),
            None => Ok(None),
        };
    };
    // The results would take the journal's place.
    if matches
        .opt_str("output")
        .is_some_and(|output| path == Path::new(&output))
    {
        return Err(format!(
            "--output and --journal are both {}",
            path.display()
        ));
    }
    let sync_after = match matches.opt_str("sync-ms") {
        Some(typed) => Duration::from_millis(whole("--sync-ms", &typed, 0..=SYNC_MS_MAX)?),
        None => SYNC_DEFAULT,
    };
    Ok(Some(JournalOptions {
        path,
        resumes: matches.opt_present("resume"),
        sync_after,
    }))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::cli::tests::{assert_fits_a_screen, split};
    use super::*;
    use crate::kernels::primes::Primes;
    use crate::kernels::square::Squares;

    /// What a command line means.
    pub fn ok(line: &str) -> HeadOptions {
        HeadOptions::parse(split(line)).unwrap_or_else(|early| panic!("{line}: {early:?}"))
    }

    /// What is wrong with a command line.
    pub fn error(line: &str) -> String {
        match HeadOptions::parse(split(line)) {
            Err(Early::Usage(text)) => {
                let reason = text.strip_suffix(" --help'.").unwrap();
                let reason = reason.trim_end_matches(" map");
                let reason = reason.strip_suffix("\nTry 'head").unwrap();
                reason.strip_prefix("head: ").unwrap().to_owned()
            }
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn nothing_typed_is_the_demonstration() {
        let expected = HeadOptions {
            cluster: Cluster::Local(2),
            key_file: None,
            job: Job::Square(Squares::new(10, 1000, Rows::default())),
            compare: true,
            give_up: Duration::from_secs(60),
            attempts_max: 3,
            retries: 0,
            failures_max: None,
            ends_softly: false,
            duplicates: true,
            hands_back: true,
            timeout: None,
            output: None,
            joblog: None,
            results: None,
            dry_run: false,
            journal: None,
            unordered: false,
            payload_max_bytes: 1 << 20,
            quiet: false,
            progress: When::Auto,
            status: None,
            report: None,
            trace: None,
        };
        assert_eq!(ok(""), expected);
    }

    #[test]
    fn workers() {
        let expected = ["10.0.0.11:5000", "w:81", "[::1]:5000"].map(|w| w.parse().unwrap());
        let expected = Cluster::Remote(expected.to_vec());
        for flag in ["-w ", "-w", "--workers ", "--workers="] {
            assert_eq!(ok(&format!("{flag}10.0.0.11,w:81,::1")).cluster, expected);
        }
        assert_eq!(error("-w a,,b"), "--workers: part 2 of \"a,,b\" is empty");
        assert!(error("-w a:x").contains("\"a:x\" has the port \"x\""));
        assert!(error("--workers --local").contains("\"--local\" is neither"));
        assert!(error("-w a --local 2").contains("exclude each other"));
    }

    #[test]
    fn local() {
        for n in [1, 1024] {
            let line = format!("--local {n}");
            assert_eq!(ok(&line).cluster, Cluster::Local(n));
        }
        for typed in ["0", "1025", "-1"] {
            let expected = format!("--local is {typed}, but must be from 1 to 1_024");
            assert_eq!(error(&format!("--local {typed}")), expected);
        }
        assert!(error("--local two").contains("not a whole number"));
    }

    #[test]
    fn a_key_file_is_for_workers_elsewhere() {
        assert_eq!(ok("-w a --key-file k").key_file, Some("k".into()));
        assert_eq!(ok("-w a").key_file, None);
        for line in ["--key-file k", "--local 2 --key-file k"] {
            let reason = error(line);
            assert!(
                reason.starts_with("--key-file is for --workers"),
                "{reason}"
            );
        }
        assert_eq!(
            error("-w a --key-file="),
            "--key-file needs the name of a file"
        );
        assert!(error("-w a --key-file -q").contains("write ./-q"));
    }

    #[test]
    fn a_new_key_is_made_and_nothing_else() {
        let early = HeadOptions::parse(split("--keygen k")).unwrap_err();
        assert_eq!(early, Early::Keygen("k".into()));
        for line in ["--keygen k square", "-w a --keygen k", "--keygen k -q"] {
            assert_eq!(error(line), "--keygen FILE stands alone: it runs no job");
        }
        assert_eq!(error("--keygen="), "--keygen needs the name of a file");
        assert_eq!(error("--keygen"), "--keygen needs its FILE");
    }

    #[test]
    fn attempts_and_failures() {
        assert_eq!(ok("--attempts 1").attempts_max, 1);
        assert!(error("--attempts 0").starts_with("--attempts is 0, but must be from 1"));
        assert_eq!(ok("--max-failures 0").failures_max, Some(0));
        assert_eq!(ok("--retries 2").retries, 2);
        assert!(error("--retries 1001").starts_with("--retries is 1001, but must be from 0"));
        let ends = |line| (ok(line).duplicates, ok(line).hands_back);
        assert_eq!(ends("square"), (true, true));
        assert_eq!(ends("--no-duplicates"), (false, false));
        assert_eq!(
            ends("map -- x"),
            (false, true),
            "programs have side effects"
        );
        assert!(error("--max-failures some").contains("not a whole number"));
    }

    #[test]
    fn compare_is_the_default_only_without_a_job() {
        assert!(ok("--count 5").compare);
        assert!(!ok("square").compare);
        assert!(!ok("primes 1 2").compare);
        assert!(ok("square --compare").compare);
        assert!(ok("-c primes 1 2").compare);
    }

    #[test]
    fn give_up() {
        assert_eq!(ok("--give-up 5").give_up, Duration::from_secs(5));
        assert_eq!(ok("--give-up 0.25").give_up, Duration::from_millis(250));
        for typed in ["0", "-1", "soon"] {
            assert!(error(&format!("--give-up {typed}")).starts_with("--give-up is"));
        }
    }

    #[test]
    fn timeout() {
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!(ok("--timeout 1.5").timeout, ms(1500));
        assert_eq!(ok("--timeout 0.001").timeout, ms(1));
        assert_eq!(ok("--timeout 4294967").timeout, ms(4_294_967_000));
        for typed in ["0.0009", "4294968"] {
            let expected = format!("--timeout is {typed}, but must be from 0.001 to 4_294_967");
            assert_eq!(error(&format!("--timeout {typed}")), expected);
        }
        assert!(error("--timeout 0").starts_with("--timeout is \"0\", not a number"));
    }

    #[test]
    fn output_file() {
        assert_eq!(ok("-o out.tsv").output, Some("out.tsv".into()));
        assert_eq!(ok("--output=./-x").output, Some("./-x".into()));
        assert!(error("-o --quiet").contains("write ./--quiet"));
        assert!(error("-o -").contains("leave --output out"));
        assert_eq!(error("--output="), "--output needs the name of a file");
        assert_eq!(error("-o"), "-o needs its FILE");
    }

    #[test]
    fn formats_and_details() {
        for (line, format, details) in [
            ("square", Format::Text, false),
            ("square --format text --details", Format::Text, true),
            ("square --format tsv", Format::Tsv, false),
            ("square --format=json --details", Format::Json, true),
        ] {
            let rows = Rows { format, details };
            let expected = Job::Square(Squares::new(10, 1000, rows));
            assert_eq!(ok(line).job, expected);
        }
        let rows = Rows {
            format: Format::Json,
            details: true,
        };
        let job = ok("--details primes 1 --format json 2").job;
        assert_eq!(job, Job::Primes(Primes::new(1, 2, rows)));
        assert_eq!(
            error("--format jsn"),
            "--format is \"jsn\", which is none of text, tsv, json; did you mean json?"
        );
    }

    #[test]
    fn a_journal_and_how_it_is_kept() {
        assert_eq!(ok("square").journal, None);
        let mut journal = JournalOptions {
            path: "j".into(),
            resumes: false,
            sync_after: SYNC_DEFAULT,
        };
        assert_eq!(ok("--journal j").journal, Some(journal.clone()));
        journal.resumes = true;
        journal.sync_after = Duration::ZERO;
        let line = "--resume --sync-ms 0 --journal j";
        assert_eq!(ok(line).journal, Some(journal));
        for (line, reason) in [
            ("--resume", "--resume needs --journal FILE"),
            ("--sync-ms 5", "--sync-ms needs --journal FILE"),
            (
                "--journal j --sync-ms 60001",
                "--sync-ms is 60001, but must",
            ),
            (
                "--journal --resume",
                "write ./--resume, for none leave --journal out",
            ),
            ("--journal=", "--journal needs the name of a file"),
            ("--journal j -o j", "--output and --journal are both j"),
        ] {
            assert!(
                error(line).starts_with(reason) || error(line).ends_with(reason),
                "{line}"
            );
        }
    }

    #[test]
    fn unordered_and_quiet() {
        assert!(ok("--unordered").unordered);
        assert!(ok("-q").quiet && ok("--quiet").quiet);
    }

    #[test]
    fn watching() {
        assert_eq!(ok("--progress always").progress, When::Always);
        assert_eq!(ok("--progress never").progress, When::Never);
        assert_eq!(ok("--progress always -q").progress, When::Never);
        assert!(error("--progress evr").contains("did you mean never?"));
        for (typed, address) in [
            ("8080", "127.0.0.1:8080"),
            ("[::1]:0", "[::1]:0"),
            ("0.0.0.0:80", "0.0.0.0:80"),
        ] {
            let address = Some(address.parse().unwrap());
            assert_eq!(ok(&format!("--status {typed}")).status, address);
        }
        assert!(error("--status here").contains("neither a port nor ADDRESS:PORT"));
        assert_eq!(ok("--trace t.json").trace, Some("t.json".into()));
        assert_eq!(ok("--report r.json").report, Some("r.json".into()));
    }

    #[test]
    fn payload_max() {
        assert_eq!(ok("--payload-max 64").payload_max_bytes, 64 << 20);
        for typed in ["0", "65", "1.5"] {
            assert!(error(&format!("--payload-max {typed}")).starts_with("--payload-max is"));
        }
    }

    #[test]
    fn help_and_version() {
        for line in ["-h", "primes --help", "-V", "--version -w x:y"] {
            let early = HeadOptions::parse(split(line)).unwrap_err();
            assert!(matches!(early, Early::Answer(_)), "{line}");
        }
    }

    #[test]
    fn the_help_of_map_fits_and_tells_its_own() {
        let help = flags::program(true).help();
        assert_fits_a_screen(&help);
        assert!(help.contains("--persistent") && !help.contains("--count"));
    }

    #[test]
    fn help_fits_and_tells_the_limits() {
        let help = flags::program(false).help();
        assert_fits_a_screen(&help);
        for part in ["65_536 tasks", "16 MiB ahead", "64 MiB at most", "141 the"] {
            assert!(help.contains(part), "{part}");
        }
    }
}
