//! The command line of `head`.
//!
//! What it is: [`HeadOptions`], all of it but the job's own part. What it is not: the run.
//!
//! Invariant: two heads with equal options do the same.

pub(super) mod flags;

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
use crate::head::Relief;
use crate::kernels::Job;
use crate::kernels::square::{COUNT_MAX, Squares};
use crate::limits::{ATTEMPTS_DEFAULT, GIVE_UP_DEFAULT, SYNC_DEFAULT};
use crate::progress::When;
use crate::time::Duration;

/// The word in a job's place that has workers checked.
pub(super) const CHECK: &str = "check";
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
    /// Whether to check the workers instead, which then are remote; the job is what they are asked
    /// to do meanwhile.
    pub is_check: bool,
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
    /// What may be done only to end sooner; no program of `map` runs twice for that.
    pub relief: Relief,
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
            None => understand_check(&program, &matches)
                .and_then(|()| understand(&matches, command))
                .map_err(|reason| program.usage(&reason)),
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

/// Says what means nothing to `head check`, if that is wanted.
fn understand_check(program: &Program, matches: &Matches) -> Result<(), String> {
    if !is_check(matches) {
        return Ok(());
    }
    let mut others = (program.flags()).filter(|flag| !["workers", "key-file"].contains(&flag.long));
    if let Some(flag) = others.find(|flag| matches.opt_present(flag.long)) {
        let long = flag.long;
        return Err(format!(
            "--{long} means nothing to check, which takes --workers and --key-file"
        ));
    }
    match matches.free.get(1) {
        Some(extra) => Err(format!(
            "check takes no arguments, and there is {extra:?}; which workers is --workers"
        )),
        None if !matches.opt_present("workers") => {
            Err("check needs to know which: --workers HOST[:PORT],...".into())
        }
        None => Ok(()),
    }
}

fn is_check(matches: &Matches) -> bool {
    matches.free.first().is_some_and(|job| job == CHECK)
}

fn understand(matches: &Matches, command: Option<Vec<OsString>>) -> Result<HeadOptions, String> {
    let rows = Rows {
        format: format(matches)?,
        details: matches.opt_present("details"),
    };
    let is_check = is_check(matches);
    let job = match is_check {
        true => Job::Square(Squares::new(COUNT_MAX, 0, rows)),
        false => job::parse(matches, command, rows)?,
    };
    let (failures_max, ends_softly) = failures(matches)?;
    let relief = match matches.opt_present("no-duplicates") {
        true => Relief::None,
        false if matches!(job, Job::Map(_)) => Relief::HandBack,
        false => Relief::Duplicate,
    };
    Ok(HeadOptions {
        cluster: cluster(matches)?,
        key_file: key_file_to_workers(matches)?,
        is_check,
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
        relief,
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
pub(super) mod tests;
