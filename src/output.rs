//! Where results go: standard output or a file, on a thread of its own.
//!
//! What it is: a queue of text and the one thread that may block on it. What it is not: a formatter,
//! or a bound of its own; the head hands over no more than `OUTPUT_BYTES_MAX` beyond what was
//! acknowledged.
//!
//! Invariant: a file is replaced whole or not at all; until then the results are in a temporary file
//! beside it.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};

use crate::mailbox::{Mailbox, Notice};

mod sorter;

pub use sorter::Places;
use sorter::Sorter;

/// The output of a head.
#[derive(Debug)]
pub struct Output {
    queue: Sender<Vec<u8>>,
    thread: JoinHandle<io::Result<()>>,
    file: Option<Pending>,
}

/// A file that is not in its place yet; unless it gets there, nothing is left of it.
#[derive(Debug)]
struct Pending {
    file: File,
    temporary: PathBuf,
    target: PathBuf,
}

impl Drop for Pending {
    fn drop(&mut self) {
        // Once it is in its place there is nothing to remove.
        let _ = fs::remove_file(&self.temporary);
    }
}

impl Output {
    /// Standard output. With `places` the texts are parcels, for those as well.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn to_stdout(places: Option<Places>, mailbox: Mailbox) -> io::Result<Output> {
        Output::start(io::stdout(), places, None, mailbox)
    }

    /// A file that takes the place of `target` when all is written. What is there and no file (a
    /// pipe, `/dev/null`) is written as it is, and of a link the file that it names. With `places`
    /// the texts are parcels, for those as well.
    ///
    /// # Errors
    /// If the temporary file beside it cannot be created, or `target` can only be a directory.
    pub fn to_file(target: &Path, places: Option<Places>, mailbox: Mailbox) -> io::Result<Output> {
        let typed = target.as_os_str().as_encoded_bytes();
        if typed.ends_with(b"/") || typed.ends_with(b"/.") {
            return Err(ErrorKind::IsADirectory.into());
        }
        let mut permissions = None;
        let target = match fs::metadata(target) {
            Ok(there) if there.is_dir() => return Err(ErrorKind::IsADirectory.into()),
            Ok(there) if !there.is_file() => {
                let file = File::options().write(true).open(target)?;
                return Output::start(file, places, None, mailbox);
            }
            Ok(there) => {
                permissions = Some(there.permissions());
                target.canonicalize()?
            }
            Err(_) => target.to_owned(),
        };
        let name = target.file_name().ok_or(ErrorKind::IsADirectory)?;
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}.tmp", std::process::id()));
        let temporary = target.with_file_name(temporary);
        let pending = Pending {
            file: File::create(&temporary)?,
            temporary,
            target,
        };
        if let Some(permissions) = permissions {
            // Some file systems have none.
            let _ = pending.file.set_permissions(permissions);
        }
        Output::start(pending.file.try_clone()?, places, Some(pending), mailbox)
    }

    fn start(
        output: impl Write + Send + 'static,
        places: Option<Places>,
        file: Option<Pending>,
        mailbox: Mailbox,
    ) -> io::Result<Output> {
        match places {
            None => Output::spawn(output, file, mailbox),
            Some(places) => Output::spawn(Sorter { output, places }, file, mailbox),
        }
    }

    fn spawn(
        mut sink: impl Write + Send + 'static,
        file: Option<Pending>,
        mailbox: Mailbox,
    ) -> io::Result<Output> {
        let (queue, texts) = mpsc::channel::<Vec<u8>>();
        let work = move || {
            for text in texts {
                if let Err(error) = sink.write_all(&text) {
                    let reader_gone = error.kind() == ErrorKind::BrokenPipe;
                    mailbox.post(Notice::OutputFailed { reader_gone });
                    return Err(error);
                }
                mailbox.post(Notice::Written { bytes: text.len() });
            }
            sink.flush()
        };
        let thread = thread::Builder::new().name("output".into()).spawn(work)?;
        Ok(Output {
            queue,
            thread,
            file,
        })
    }

    /// Hands over text; answered by a `Written` or `OutputFailed` notice.
    pub fn write(&self, text: &[u8]) {
        // If the thread has ended, its notice has been posted.
        let _ = self.queue.send(text.to_vec());
    }

    /// Waits until all is written and, if `is_complete`, puts the file in its place; else leaves it
    /// as `FILE.partial` and returns that name.
    ///
    /// # Errors
    /// What kept the output from being written.
    pub fn finish(self, is_complete: bool) -> io::Result<Option<PathBuf>> {
        drop(self.queue);
        let written = self
            .thread
            .join()
            .expect("the output thread does not panic");
        let Some(Pending {
            file,
            temporary,
            target,
        }) = &self.file
        else {
            return written.map(|()| None);
        };
        let mut place = target.clone();
        if !is_complete {
            place.as_mut_os_string().push(".partial");
        }
        written?;
        file.sync_all()?;
        fs::rename(temporary, &place)?;
        Ok((!is_complete).then_some(place))
    }
}
