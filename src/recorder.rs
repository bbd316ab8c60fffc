//! The journal's file: opened, locked, read and written.
//!
//! What it is: [`JournalFile`], which makes sure that a file is this run's journal and nobody else's;
//! its [`Reader`]; and the [`Recorder`], the one thread that may block on it. What it is not: the
//! format (`journal.rs`), or a judge of what the outcomes in it mean.
//!
//! Invariant: a file that is not this run's journal is not changed.

mod commit;
mod reader;

use std::fmt::Display;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use log::warn;

use crate::journal::{HEADER_START_BYTES, Header};
use crate::mailbox::Mailbox;
use crate::role::Exit;
use crate::time::Duration;

const IN_USE: &str = "is in use by another head";

pub use commit::{Recorded, Recorder, Storage};
pub use reader::{End, ReadError, Reader};

/// Why a run cannot have its journal.
#[derive(Debug)]
pub struct Unusable {
    /// `Journal` if it does not fit, `Output` if it cannot be written.
    pub exit: Exit,
    /// In words, with what to do.
    pub reason: String,
}

/// A journal that is open, this run's, and locked until this is dropped.
#[derive(Debug)]
pub struct JournalFile {
    file: File,
    path: PathBuf,
    /// Offset of the first record.
    records_at: u64,
}

impl JournalFile {
    /// Opens the journal of the job that `header` tells, or begins one where there is none or nothing
    /// in it. What is there already is gone on with only if the run `resumes`.
    ///
    /// # Errors
    /// See [`Unusable`].
    pub fn open(path: &Path, header: &Header, resumes: bool) -> Result<JournalFile, Unusable> {
        let bytes = header.encode();
        let journal = JournalFile {
            file: open(path).map_err(|error| misfit(path, format!("cannot be opened: {error}")))?,
            path: path.to_owned(),
            records_at: bytes.len() as u64,
        };
        let found = (journal.lock())
            .and_then(|()| journal.start(bytes.len()).map_err(cannot_be_read))
            .map_err(|reason| misfit(path, reason))?;
        // One that says only whose it is holds nothing that could be lost.
        let is_used = match found.len() {
            0 => false,
            len if len == bytes.len() => (journal.has_records()).map_err(|e| broken(path, &e))?,
            _ => true,
        };
        if is_used && !resumes && bytes.starts_with(&found) {
            let hint = "is there already: add --resume to go on with it, or remove it";
            return Err(misfit(path, hint));
        }
        // A header that was being written when its head died has no records behind it.
        if found.len() < bytes.len() && bytes.starts_with(&found) {
            journal
                .begin(&bytes)
                .map_err(|error| broken(path, &error))?;
        } else if found != bytes {
            let foreign = journal.foreign(header).map_err(cannot_be_read);
            return Err(misfit(path, foreign.unwrap_or_else(|reason| reason)));
        } else {
            // A head that was killed has left records that are written and not durable.
            let synced = journal.file.sync_all();
            synced.map_err(|error| broken(path, &error))?;
        }
        Ok(journal)
    }

    /// Reads the records.
    ///
    /// # Errors
    /// If the system refuses to go there.
    pub fn reader(&self) -> Result<Reader<&File>, ReadError> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.records_at))?;
        Ok(Reader::new(file, self.records_at))
    }

    /// What the user is told if it cannot be gone on with: its name, and then `reason`.
    pub fn misfit(&self, reason: impl Display) -> Unusable {
        misfit(&self.path, reason)
    }

    /// Cuts what is torn and starts the thread that goes on behind it; see [`Recorder::start`].
    ///
    /// # Errors
    /// If it cannot be cut, or there is no thread.
    pub fn record(
        self,
        end: End,
        sync_after: Duration,
        mailbox: Mailbox,
    ) -> Result<Recorder, Unusable> {
        let JournalFile { file, path, .. } = self;
        let what = format!("cannot write journal {}", path.display());
        let start = || {
            if end.torn_bytes > 0 {
                warn!(
                    "journal {}: the last {} bytes, from byte {}, were never durable and are cut",
                    path.display(),
                    end.torn_bytes,
                    end.at
                );
                file.set_len(end.at)?;
                file.sync_all()?;
            }
            (&file).seek(SeekFrom::Start(end.at))?;
            Recorder::start(file, end, sync_after, what, mailbox)
        };
        start().map_err(|error| broken(&path, &error))
    }

    /// Makes sure that it is a file and nobody else's.
    fn lock(&self) -> Result<(), String> {
        let is_file = self.file.metadata().map_err(cannot_be_read)?.is_file();
        if !is_file {
            return Err("is not a regular file".into());
        }
        match self.file.try_lock() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => Err(IN_USE.into()),
            Err(TryLockError::Error(error)) => Err(format!("cannot be locked: {error}")),
        }
    }

    /// Its first `bytes`, or as many as there are.
    fn start(&self, bytes: usize) -> io::Result<Vec<u8>> {
        let mut start = Vec::new();
        (&self.file).seek(SeekFrom::Start(0))?;
        (&self.file).take(bytes as u64).read_to_end(&mut start)?;
        Ok(start)
    }

    fn has_records(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.len() > self.records_at)
    }

    /// Writes the header of a journal without records, durably, so that the file is found again.
    fn begin(&self, header: &[u8]) -> io::Result<()> {
        self.file.set_len(0)?;
        (&self.file).seek(SeekFrom::Start(0))?;
        (&self.file).write_all(header)?;
        self.file.sync_all()?;
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        File::open(folder)?.sync_all()
    }

    /// In words, why a file that begins with something else than `own` is not this run's.
    fn foreign(&self, own: &Header) -> io::Result<String> {
        let start = self.start(HEADER_START_BYTES)?;
        let header_bytes = match start.first_chunk().map(Header::encoded_bytes) {
            Some(Ok(bytes)) => bytes,
            Some(Err(_)) | None => start.len(),
        };
        Ok(match Header::parse(&self.start(header_bytes)?) {
            Err(reason) => reason,
            Ok(other) => format!(
                "is of another job: {:?}; this one is {:?}: name another file, or remove it",
                other.description, own.description
            ),
        })
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path)
}

fn cannot_be_read(error: io::Error) -> String {
    ReadError::Failed(error).to_string()
}

fn misfit(path: &Path, what: impl Display) -> Unusable {
    Unusable {
        exit: Exit::Journal,
        reason: format!("journal {} {what}", path.display()),
    }
}

fn broken(path: &Path, error: &io::Error) -> Unusable {
    Unusable {
        exit: Exit::Output,
        reason: format!("cannot write journal {}: {error}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::thread;

    fn header(description: &str) -> Header {
        Header::new("k", &[], description)
    }

    /// Opens a journal of ours. Tests beside these start programs, and one that is just being started
    /// still has all our files, and with them their locks.
    fn open(path: &Path, header: &Header, resumes: bool) -> Result<JournalFile, Unusable> {
        loop {
            match JournalFile::open(path, header, resumes) {
                Err(refused) if refused.reason.ends_with(IN_USE) => thread::yield_now(),
                opened => return opened,
            }
        }
    }

    fn refused(path: &Path, description: &str, resumes: bool) -> String {
        let refused = open(path, &header(description), resumes).unwrap_err();
        assert_eq!(refused.exit, Exit::Journal);
        let start = format!("journal {} ", path.display());
        refused.reason.strip_prefix(&start).unwrap().to_owned()
    }

    #[test]
    fn a_new_one_has_a_header_and_is_gone_on_with_only_when_asked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        for resumes in [false, true] {
            drop(open(&path, &header("one"), resumes).unwrap());
            let mut bytes = header("one").encode();
            assert_eq!(fs::read(&path).unwrap(), bytes);
            drop(open(&path, &header("one"), false).unwrap());
            bytes.push(0);
            fs::write(&path, &bytes).unwrap();
            assert!(refused(&path, "one", false).contains("add --resume to go on"));
            drop(open(&path, &header("one"), true).unwrap());
            // Once more with one that is there and empty.
            fs::write(&path, "").unwrap();
        }
    }

    #[test]
    fn a_torn_header_is_begun_again_when_asked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let whole = header("one").encode();
        for cut in 1..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            refused(&path, "one", false);
            drop(open(&path, &header("one"), true).unwrap());
            assert_eq!(fs::read(&path).unwrap(), whole);
        }
    }

    #[test]
    fn any_bit_of_a_header_changed_is_refused_and_the_file_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let whole = header("one").encode();
        for bit in 0..whole.len() * 8 {
            let mut changed = whole.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &changed).unwrap();
            let reason = refused(&path, "one", true);
            let expected = match bit / 8 {
                0..6 => "is not a journal",
                6..8 => "of the format, this release reads",
                _ => "has a damaged header",
            };
            assert!(reason.contains(expected), "bit {bit}: {reason}");
            assert_eq!(fs::read(&path).unwrap(), changed);
        }
    }

    #[test]
    fn another_job_is_told_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        drop(open(&path, &header("one"), false).unwrap());
        for other in ["two", "one and more", ""] {
            assert_eq!(
                refused(&path, other, true),
                format!(
                    "is of another job: \"one\"; this one is {other:?}: name another file, or \
                     remove it"
                )
            );
        }
        fs::write(&path, "some notes\n").unwrap();
        for resumes in [false, true] {
            assert_eq!(refused(&path, "one", resumes), "is not a journal");
        }
        assert_eq!(fs::read(&path).unwrap(), b"some notes\n");
    }

    #[test]
    fn what_cannot_be_a_journal_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(refused(dir.path(), "one", true).starts_with("cannot be opened: Is a directory"));
        let nowhere = dir.path().join("none/journal");
        assert!(refused(&nowhere, "one", true).starts_with("cannot be opened: No such file"));
        let null = Path::new("/dev/null");
        assert_eq!(refused(null, "one", true), "is not a regular file");
    }

    #[test]
    fn nobody_else_has_it_at_the_same_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let first = JournalFile::open(&path, &header("one"), false).unwrap();
        for (description, resumes) in [("one", true), ("two", false)] {
            let refused = JournalFile::open(&path, &header(description), resumes).unwrap_err();
            assert_eq!(refused.exit, Exit::Journal);
            assert!(refused.reason.ends_with(IN_USE), "{}", refused.reason);
        }
        drop(first);
        drop(open(&path, &header("one"), true).unwrap());
    }
}
