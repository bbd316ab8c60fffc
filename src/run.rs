//! What the two programs do once their command line is understood.
//!
//! What it is: the join between options, roles and reactor, and every line the programs print beside
//! results. What it is not: a parser, or a loop.
//!
//! Invariant: each function returns the process' exit code and leaves nothing half-written.

mod check;
mod journal;
mod listening;
mod local;
mod map;
mod telling;

use std::ffi::OsString;
use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use log::{LevelFilter, error, info, warn};

use crate::alone;
use crate::command;
use crate::frame::Side;
use crate::gauge::Gauge;
use crate::head::{Head, HeadConfig};
use crate::kernel::{Kernels, Stop};
use crate::kernels::{Job, builtin};
use crate::key::Keys;
use crate::keyfile;
use crate::messages::{self, say};
use crate::options::{Address, Cluster, HeadOptions, JournalOptions, WorkerOptions};
use crate::output::{Output, Replacement};
use crate::program;
use crate::progress::Progress;
use crate::reactor::{Reactor, Target};
use crate::recorder::{Recorded, Recorder, Unusable};
use crate::role::Exit;
use crate::serial::{self, Compared, Serial};
use crate::signals;
use crate::supervisor::Supervisor;
use crate::trace::Trace;
use crate::worker::{Worker, WorkerConfig};
use journal::{check_journal, open_journal, replay, say_how_to_go_on};
use listening::{listen, serve_status};
use local::local_config;
pub(crate) use local::{local_keys, start_local};
use telling::{
    compare, finish_trace, is_terminal, open_file, say_comparison, say_summary, seconds,
    write_report,
};

/// Runs `head`.
pub fn head(options: &HeadOptions) -> u8 {
    lead(options, builtin())
}

/// Runs a head whose workers within this process have kernels of one's own.
pub fn lead(options: &HeadOptions, kernels: Kernels) -> u8 {
    messages::start("head", level(options.quiet, LevelFilter::Warn));
    finish(match &options.job {
        _ if options.is_check => check::check(options),
        Job::Map(job) if options.dry_run => map::dry_run(job, options.output.as_deref()),
        _ => run_head(options, kernels),
    })
}

/// Runs `worker` until it is told to end.
pub fn worker(options: &WorkerOptions) -> u8 {
    serve(options, builtin())
}

/// The program `worker` with kernels of one's own instead of the built-in ones: it understands the
/// same command line, given without the program's name, prints the same lines, and runs until it is
/// told to end. What it returns is the process' exit code, which `--help` explains.
///
/// ```no_run
/// use std::process::ExitCode;
/// use teamster::Kernels;
///
/// fn main() -> ExitCode {
///     let kernels = Kernels::new().with_fn("reverse", |input| {
///         Ok(input.iter().rev().copied().collect())
///     });
///     teamster::worker(std::env::args_os().skip(1), kernels)
/// }
/// ```
pub fn own_worker(args: impl IntoIterator<Item = OsString>, kernels: Kernels) -> ExitCode {
    ExitCode::from(match WorkerOptions::parse(args) {
        Ok(options) => serve(&options, kernels),
        Err(early) => early.report(),
    })
}

/// Runs a worker with kernels of one's own until it is told to end.
pub fn serve(options: &WorkerOptions, kernels: Kernels) -> u8 {
    messages::start("worker", level(options.quiet, LevelFilter::Info));
    finish(match &options.single {
        None => run_worker(options, kernels),
        Some(single) => {
            let (stdin, stdout) = (io::stdin(), io::stdout());
            Ok(alone::run(
                single,
                &kernels,
                options.payload_max_bytes,
                stdin,
                stdout,
            ))
        }
    })
}

fn level(quiet: bool, level: LevelFilter) -> LevelFilter {
    if quiet { LevelFilter::Error } else { level }
}

/// The exit code, once the messages are out.
fn finish(ran: Result<Exit, Failure>) -> u8 {
    let exit = ran.unwrap_or_else(|Failure { exit, reason }| {
        error!("{reason}");
        exit
    });
    messages::finish();
    exit.code()
}

/// Why a program could not do its work, and the exit code for that.
struct Failure {
    exit: Exit,
    reason: String,
}

/// Of the system, with what was attempted.
fn failure(what: &str) -> impl FnOnce(io::Error) -> Failure + '_ {
    move |error| Failure {
        exit: Exit::Output,
        reason: format!("{what}: {error}"),
    }
}

impl From<Unusable> for Failure {
    fn from(Unusable { exit, reason }: Unusable) -> Failure {
        Failure { exit, reason }
    }
}

/// Of the command line, or of what it names.
fn usage(reason: String) -> Failure {
    Failure {
        exit: Exit::Usage,
        reason,
    }
}

fn run_head(options: &HeadOptions, kernels: Kernels) -> Result<Exit, Failure> {
    let keys = head_keys(options)?;
    let kernels = map::local_kernels(options, kernels)?;
    let mut reactor = new_reactor(Side::Head, options.payload_max_bytes, keys.as_ref())
        .map_err(failure("cannot start the event loop"))?;
    // Before there is a file that would be left behind.
    let (signals, stop) = catch_signals(options).map_err(failure("cannot catch signals"))?;
    // Before any work is done: a result that cannot be kept or written is no use.
    let journal = open_journal(options)?;
    check_files(options)?;
    reactor.set_output(open_output(options, &reactor)?);
    let report = open_file(options.report.as_deref())?;
    let trace = open_file(options.trace.as_deref())?;
    if let Some(address) = options.status {
        let address = serve_status(&mut reactor, address)?;
        if !options.quiet {
            say(&format!("Status page: http://{address}/"));
        }
    }
    map::open_input(options, &mut reactor)?;
    let serial = match options.compare {
        true => match run_serially(options, &kernels, &stop)? {
            None => return Ok(Exit::Interrupted),
            serial => serial,
        },
        false => None,
    };
    let (names, targets) = workers(options, &kernels, keys.as_ref())?;
    reactor.set_targets(targets);
    if let Some(trace) = trace {
        let trace = Trace::start(trace, names.clone());
        reactor.set_trace(trace.map_err(failure("cannot start the trace"))?);
    }
    let job = Compared::new(options.job.clone(), options.compare);
    let mut role = Head::new(head_config(options, names), job);
    reactor
        .watch_signals(signals)
        .map_err(failure("cannot watch for signals"))?;
    if let Some((file, sync_after)) = journal {
        replay(file, sync_after, &mut role, &mut reactor)?;
    }
    if let Some(progress) = Progress::new(options.progress, is_terminal()) {
        reactor.set_progress(progress);
    }
    tell_supervisor(&mut reactor, "Running");
    // The serial run was no part of it.
    reactor.set_gauge(Gauge::new());
    if let Job::Map(job) = role.workload_mut().job_mut() {
        job.begin(map::epoch_ms());
    }
    let ran = reactor.run(&mut role);
    messages::show(String::new());
    let exit = ran.map_err(failure("the event loop failed"))?;
    Ok(conclude(options, &role, &mut reactor, serial, report, exit))
}

/// Waits until all that was done is where it belongs, and says what became of the run.
fn conclude(
    options: &HeadOptions,
    role: &Head<Compared<Job>>,
    reactor: &mut Reactor,
    serial: Option<Serial>,
    report: Option<Replacement>,
    mut exit: Exit,
) -> Exit {
    let recorded = reactor.take_journal().map(Recorder::finish);
    if let Some(Recorded { result, .. }) = &recorded {
        exit = check_journal(result, exit);
    }
    let output = reactor.take_output().expect("it was set above");
    exit = finish_output(output, exit, !role.is_cut_short());
    if let Some(JournalOptions { path, .. }) = &options.journal
        && (role.is_cut_short() || exit == Exit::Output)
    {
        let count = recorded.map(|recorded| role.replayed() + recorded.count);
        say_how_to_go_on(path, count, exit);
    }
    let comparison = serial.map(|serial| compare(role, &serial));
    if let Some(comparison) = &comparison {
        say_comparison(comparison, role, options.quiet);
        if !comparison.is_identical && exit == Exit::Done {
            exit = Exit::Failed;
        }
    }
    let mut overview = role.look(reactor.now());
    // What has happened since to results and journal is part of it.
    overview.ended = Some(exit);
    overview.head_cpu = reactor.cpu();
    if !options.quiet {
        say_summary(&overview);
    }
    if let Some(report) = report {
        exit = write_report(report, &overview, comparison.as_ref());
    }
    if let Some(trace) = reactor.take_trace() {
        exit = finish_trace(trace, exit);
    }
    exit
}

fn head_config(options: &HeadOptions, names: Vec<String>) -> HeadConfig {
    let mut config = HeadConfig::new(names);
    config.is_traced = options.trace.is_some();
    config.payload_bytes_max = options.payload_max_bytes;
    config.is_journalled = options.journal.is_some();
    config.ordered = !options.unordered;
    config.give_up = options.give_up;
    config.attempts_max = options.attempts_max;
    config.retries = options.retries;
    config.failures_max = options.failures_max;
    config.ends_softly = options.ends_softly;
    config.relief = options.relief;
    config.timeout = options.timeout;
    config.seed = u64::from(std::process::id());
    config
}

/// The key to workers elsewhere; those inside this process get one that nobody else has, so that
/// no other user of this machine has them work for him.
fn head_keys(options: &HeadOptions) -> Result<Option<Keys>, Failure> {
    match &options.cluster {
        Cluster::Local(_) => local_keys().map_err(failure("cannot make a key for local workers")),
        Cluster::Remote(workers) => {
            remote_keys(workers, options.key_file.as_deref()).map_err(usage)
        }
    }
}

pub(crate) fn remote_keys(
    workers: &[Address],
    key_file: Option<&Path>,
) -> Result<Option<Keys>, String> {
    let keys = keyfile::find(key_file)?;
    if keys.is_none() && !workers.iter().all(Address::is_loopback) {
        warn!(
            "no key: whoever is between this head and its workers can read and change all they \
             send; head --keygen FILE makes one"
        );
    }
    Ok(keys)
}

/// Of two things in one file one would destroy the other, by whatever names they do.
fn check_files(options: &HeadOptions) -> Result<(), Failure> {
    let journal = options.journal.as_ref().map(|journal| &journal.path);
    let files = [
        ("output", options.output.as_ref()),
        ("journal", journal),
        ("joblog", options.joblog.as_ref()),
        ("report", options.report.as_ref()),
        ("trace", options.trace.as_ref()),
    ];
    let files = files
        .into_iter()
        .filter_map(|(flag, path)| Some((flag, path?)));
    // What is no file, as /dev/null, may be all of them.
    let is_special = |path: &Path| fs::metadata(path).is_ok_and(|there| !there.is_file());
    let files: Vec<_> = files.filter(|(_, path)| !is_special(path)).collect();
    let id = |path: &Path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    let is_same = |a: &Path, b: &Path| a == b || (id(a).is_some() && id(a) == id(b));
    for (index, (flag, path)) in files.iter().enumerate() {
        if let Some((other, _)) = files[..index]
            .iter()
            .find(|(_, other)| is_same(other, path))
        {
            let path = path.display();
            return Err(usage(format!("--{other} and --{flag} are both {path}")));
        }
    }
    Ok(())
}

fn open_output(options: &HeadOptions, reactor: &Reactor) -> Result<Output, Failure> {
    let (places, mailbox) = (map::open_places(options)?, reactor.mailbox());
    match &options.output {
        None if matches!(options.job, Job::Mandelbrot(_)) && io::stdout().is_terminal() => Err(
            usage("a terminal shows no picture; say where it goes with -o FILE".into()),
        ),
        None => Output::to_stdout(places, mailbox).map_err(failure("cannot write standard output")),
        Some(path) => {
            let what = format!("cannot write {}", path.display());
            Output::to_file(path, places, mailbox).map_err(failure(&what))
        }
    }
}

/// Waits until the results are where they belong. A failure there is the run's.
fn finish_output(output: Output, exit: Exit, is_complete: bool) -> Exit {
    match output.finish(is_complete) {
        Ok(None) => exit,
        Ok(Some(place)) => {
            warn!("results so far are in {}", place.display());
            exit
        }
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::ReaderGone,
        Err(error) => {
            error!("cannot write the results: {error}");
            Exit::Output
        }
    }
}

/// Where signals arrive, and for a serial run what they raise.
fn catch_signals(options: &HeadOptions) -> io::Result<(UnixStream, Arc<Stop>)> {
    let stop = Arc::new(Stop::new());
    if options.compare {
        signals::raise(Arc::clone(&stop))?;
    }
    Ok((signals::catch(Exit::Interrupted.code())?, stop))
}

/// `None` if a signal came first.
fn run_serially(
    options: &HeadOptions,
    kernels: &Kernels,
    stop: &Stop,
) -> Result<Option<Serial>, Failure> {
    let ran = serial::run(options.job.clone(), kernels, stop, |_, _, _| {});
    let serial = ran.map_err(|reason| Failure {
        exit: Exit::Usage,
        reason,
    })?;
    if stop.is_raised() {
        warn!("interrupted in the serial run; there are no results");
        return Ok(None);
    }
    if !options.quiet {
        say(&format!("Serial time: {}", seconds(serial.elapsed)));
    }
    Ok(Some(serial))
}

/// Names and targets of the workers, after starting the embedded ones.
fn workers(
    options: &HeadOptions,
    kernels: &Kernels,
    keys: Option<&Keys>,
) -> Result<(Vec<String>, Vec<Target>), Failure> {
    let addresses = match &options.cluster {
        Cluster::Remote(addresses) => addresses.clone(),
        Cluster::Local(count) => {
            let mut addresses = Vec::new();
            for _ in 0..*count {
                let config = local_config(options, kernels);
                let started = start_local(config, keys.cloned(), None);
                addresses.push(
                    started
                        .map_err(failure("cannot start a local worker"))?
                        .into(),
                );
            }
            addresses
        }
    };
    let names = addresses.iter().map(Address::to_string).collect();
    let targets = addresses.iter().map(|address| Target {
        host: address.host(),
        port: address.port,
    });
    Ok((names, targets.collect()))
}

pub(crate) fn new_reactor(
    side: Side,
    payload_bytes_max: usize,
    keys: Option<&Keys>,
) -> io::Result<Reactor> {
    let mut reactor = Reactor::new(side, payload_bytes_max)?;
    if let Some(keys) = keys {
        reactor.set_keys(keys.clone())?;
    }
    Ok(reactor)
}

fn run_worker(options: &WorkerOptions, kernels: Kernels) -> Result<Exit, Failure> {
    let keys = worker_keys(options)?;
    let address = options.address(keys.is_some()).map_err(usage)?;
    if keys.is_none() && options.listen.is_none() {
        info!("no key, so only this machine can reach it; head --keygen FILE makes one");
    }
    let programs = options.programs(keys.is_some()).map_err(usage)?;
    let map = program::opener(programs, options.payload_max_bytes);
    let kernels = kernels.with(command::NAME, map);
    let mut reactor = new_reactor(Side::Worker, options.payload_max_bytes, keys.as_ref())
        .map_err(failure("cannot start the event loop"))?;
    let address = listen(&mut reactor, &address, &options.allow)?;
    let slots = u16::try_from(options.slots).expect("the command line allows fewer");
    reactor
        .start_pool(slots)
        .map_err(failure("cannot start the pool"))?;
    let mut config = WorkerConfig::new(slots, kernels);
    config.payload_bytes_max = options.payload_max_bytes;
    config.grace = options.grace;
    config.incarnation = incarnation();
    let signals = signals::catch(Exit::Interrupted.code());
    reactor
        .watch_signals(signals.map_err(failure("cannot catch signals"))?)
        .map_err(failure("cannot watch for signals"))?;
    // A worker whose standard output is closed works all the same.
    let mut stdout = io::stdout();
    let status = format!("Listening on {address}");
    let _ = writeln!(stdout, "{status}").and_then(|()| stdout.flush());
    tell_supervisor(&mut reactor, &status);
    reactor.set_gauge(Gauge::new());
    reactor
        .run(&mut Worker::new(config))
        .map_err(failure("the event loop failed"))
}

/// The keys that heads may have, unless the worker is to do without.
fn worker_keys(options: &WorkerOptions) -> Result<Option<Keys>, Failure> {
    if !options.is_insecure {
        return keyfile::find(options.key_file.as_deref()).map_err(usage);
    }
    if let Ok(Some(path)) = keyfile::implicit() {
        warn!("--insecure: the key in {} is not used", path.display());
    }
    Ok(None)
}

/// Lets the supervisor know that the program can be used, and go on knowing that it lives.
fn tell_supervisor(reactor: &mut Reactor, status: &str) {
    match Supervisor::from_env() {
        Ok(None) => {}
        Ok(Some(supervisor)) => {
            supervisor.ready(status);
            reactor.set_supervisor(supervisor);
        }
        Err(error) => warn!("cannot tell the supervisor at $NOTIFY_SOCKET anything: {error}"),
    }
}

/// A number that no other process has: the standard library's own source of hash seeds.
fn incarnation() -> u64 {
    RandomState::new().build_hasher().finish()
}
