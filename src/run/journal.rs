//! A journal around a run: opened before it, replayed into it, and told of after it.
//!
//! What it is: the order in which that is done, and its messages. What it is not: the file, which is
//! the recorder's, or what its records mean, which is the head's.
//!
//! Invariant: what the journal holds has been replayed before the first worker is dialled.

use std::io;
use std::path::Path;

use log::{error, warn};

use super::{Failure, failure};
use crate::head::Head;
use crate::journal::{Header, Record};
use crate::kernel::Workload;
use crate::kernels::Job;
use crate::limits::{REPLAY_BYTES, REPLAY_RECORDS};
use crate::options::HeadOptions;
use crate::reactor::Reactor;
use crate::recorder::JournalFile;
use crate::role::Exit;
use crate::serial::Compared;
use crate::time::Duration;
use crate::words::count;

/// The journal and how long a record may wait for its sync, if one is asked for.
pub(super) fn open_journal(
    options: &HeadOptions,
) -> Result<Option<(JournalFile, Duration)>, Failure> {
    let Some(journal) = &options.journal else {
        return Ok(None);
    };
    let order = match options.unordered {
        false => "in input order",
        true => "unordered",
    };
    let job = &options.job;
    let description = format!("{}, {order}", job.describe());
    let header = Header::new(job.kernel(), &job.setup(), &description);
    let file = JournalFile::open(&journal.path, &header, journal.resumes)?;
    Ok(Some((file, journal.sync_after)))
}

/// Takes what the journal holds as done, and goes on with it. If a signal or the end of the output
/// comes first the journal stays as it is, and the role's first turn is its last.
pub(super) fn replay(
    file: JournalFile,
    sync_after: Duration,
    role: &mut Head<Compared<Job>>,
    reactor: &mut Reactor,
) -> Result<(), Failure> {
    let mut reader = file.reader().map_err(|error| file.misfit(error))?;
    let mut records = 0;
    while let Some(record) = reader.read().map_err(|error| file.misfit(error))? {
        if let Record::Outcome(outcome) = record {
            let misfit = |misfit| file.misfit(format!("does not fit: {misfit}"));
            while !role.replay(&outcome).map_err(misfit)? {
                if !feed(role, reactor)? {
                    return Ok(());
                }
            }
        }
        records += 1;
        let text = role.take_text(REPLAY_BYTES);
        if text.is_some() || records % REPLAY_RECORDS == 0 {
            let goes_on = reactor.write_through(&text.unwrap_or_default());
            if !goes_on.map_err(failure("the event loop failed"))? {
                return Ok(());
            }
        }
    }
    while !role.end_replay() {
        if !feed(role, reactor)? {
            return Ok(());
        }
    }
    let end = reader.end();
    reactor.set_journal(file.record(end, sync_after, reactor.mailbox())?);
    Ok(())
}

/// Waits for a piece of the job's input before the run; false if that is over before it begins.
fn feed(role: &mut Head<Compared<Job>>, reactor: &mut Reactor) -> Result<bool, Failure> {
    let piece = reactor.read_through();
    let piece = piece.map_err(failure("the event loop failed"))?;
    if let Some(bytes) = &piece {
        role.feed(bytes);
    }
    Ok(piece.is_some())
}

/// A journal that could not be written is the run's failure, also at its very end.
pub(super) fn check_journal(result: &io::Result<()>, exit: Exit) -> Exit {
    match result {
        // If that is why the run has ended, it has been said.
        Err(error) if exit != Exit::Output => {
            error!("cannot write the journal: {error}");
            Exit::Output
        }
        _ => exit,
    }
}

/// After a run that has not come to its end. Without a number the journal was not read to its end.
pub(super) fn say_how_to_go_on(path: &Path, outcomes: Option<u64>, exit: Exit) {
    let path = path.display();
    let how = match exit {
        // The failures are in it, too.
        Exit::Failed => "--resume and a larger --max-failures go on from there",
        _ => "the same command with --resume goes on from there",
    };
    match outcomes {
        Some(number) => warn!("{} in {path}: {how}", count(number, "outcome")),
        None => warn!("{path} is as it was: {how}"),
    }
}
