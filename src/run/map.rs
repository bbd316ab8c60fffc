//! What a run of the job `map` needs that no other does.
//!
//! What it is: its input, its log and folder, its program for the workers inside this process, and
//! the run that runs nothing (`--dry-run`). What it is not: the job.
//!
//! Invariant: without `--workers` exactly the named program can run, and for this head only.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use log::error;

use super::telling::open_file;
use super::{Failure, failure, usage};
use crate::channel;
use crate::command;
use crate::input::Input;
use crate::kernel::{Kernels, Next, Workload};
use crate::kernels::Job;
use crate::kernels::map::{LOG_HEAD, Map};
use crate::limits::INPUT_BYTES;
use crate::messages::say;
use crate::options::{Cluster, HeadOptions};
use crate::output::Places;
use crate::program::{self, Programs};
use crate::reactor::Reactor;
use crate::role::Exit;

/// Starts to read standard input, if the job does.
pub(super) fn open_input(options: &HeadOptions, reactor: &mut Reactor) -> Result<(), Failure> {
    if let Job::Map(_) = options.job {
        if io::stdin().is_terminal() && !options.quiet {
            say("head: reading lines from the terminal; Ctrl-D ends them");
        }
        let input = Input::from_stdin(reactor.mailbox());
        reactor.set_input(input.map_err(failure("cannot read standard input"))?);
    }
    Ok(())
}

/// Where the results of the job go beside the output; `None` if it knows of no such places.
pub(super) fn open_places(options: &HeadOptions) -> Result<Option<Places>, Failure> {
    let Job::Map(_) = options.job else {
        return Ok(None);
    };
    let (log, folder) = (options.joblog.as_deref(), options.results.as_deref());
    let places = Places::open(log, folder, LOG_HEAD);
    places.map(Some).map_err(failure("cannot write"))
}

/// Milliseconds since 1970.
pub(super) fn epoch_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// What workers inside this process offer: for `map` its program as well.
pub(super) fn local_kernels(options: &HeadOptions, kernels: Kernels) -> Result<Kernels, Failure> {
    let (Job::Map(map), Cluster::Local(_)) = (&options.job, &options.cluster) else {
        return Ok(kernels);
    };
    if !channel::IS_AVAILABLE {
        return Err(usage(
            "this build has no encryption, so that every user of this machine could have the \
             program run; build it with the feature noise, or use --workers"
                .into(),
        ));
    }
    let path = find(&map.command().words()[0]).map_err(usage)?;
    let programs = Programs::at_home(&path).map_err(usage)?;
    let open = program::opener(programs, options.payload_max_bytes);
    Ok(kernels.with(command::NAME, open))
}

/// The program that a command means here, as a shell would find it.
fn find(command: &[u8]) -> Result<PathBuf, String> {
    let name = OsStr::from_bytes(command);
    if command.contains(&b'/') {
        return Ok(name.into());
    }
    let is_program = |path: &PathBuf| {
        let metadata = fs::metadata(path);
        metadata.is_ok_and(|its| its.is_file() && its.permissions().mode() & 0o111 != 0)
    };
    let folders = env::var_os("PATH").unwrap_or_default();
    let mut paths = env::split_paths(&folders).map(|folder| Path::new(".").join(folder).join(name));
    paths.find(is_program).ok_or_else(|| {
        format!(
            "there is no program {} in any folder of PATH",
            name.display()
        )
    })
}

/// Prints the commands and runs none of them.
pub(super) fn dry_run(map: &Map, output: Option<&Path>) -> Result<Exit, Failure> {
    let printed = match open_file(output)? {
        None => print_commands(map.clone(), io::stdout()),
        Some(mut file) => {
            print_commands(map.clone(), &mut file).and_then(|exit| file.finish(true).map(|_| exit))
        }
    };
    match printed {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Exit::ReaderGone),
        printed => printed.map_err(failure("cannot print the commands")),
    }
}

fn print_commands(mut map: Map, out: impl Write) -> io::Result<Exit> {
    let mut out = BufWriter::new(out);
    let (mut piece, mut line) = (vec![0; INPUT_BYTES], Vec::new());
    let mut exit = Exit::Done;
    for number in 1.. {
        line.clear();
        loop {
            match map.next(&mut line) {
                Next::Task => break,
                Next::Later => {
                    out.flush()?;
                    let count = io::stdin().read(&mut piece)?;
                    map.feed(&piece[..count]);
                }
                Next::End => {
                    out.flush()?;
                    return Ok(exit);
                }
            }
        }
        match map.shown(&line) {
            Ok(mut shown) => {
                shown.push(b'\n');
                out.write_all(&shown)?;
            }
            Err(unfit) => {
                error!("line {number} cannot be run: {unfit}");
                exit = Exit::Failed;
            }
        }
    }
    unreachable!("lines are not endless")
}
