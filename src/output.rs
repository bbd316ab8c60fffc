//! Where results go: standard output or a file, on a thread of its own.
//!
//! What it is: a queue of text and the one thread that may block on it. What it is not: a formatter,
//! or a bound of its own; the head hands over no more than `OUTPUT_BYTES_MAX` beyond what was
//! acknowledged.
//!
//! Invariant: a file is replaced whole or not at all; until then the results are in a temporary file
//! beside it.

use std::fs::{self, File};
use std::io::{self, ErrorKind, IsTerminal, Stdout, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};

use crate::mailbox::{Mailbox, Notice};
use crate::messages;

/// The output of a head.
#[derive(Debug)]
pub struct Output {
    queue: Sender<Vec<u8>>,
    thread: JoinHandle<io::Result<()>>,
    pending: Option<Pending>,
}

/// A file to be written, that takes the place of another.
#[derive(Debug)]
pub struct Replacement {
    file: File,
    /// `None` if it is written where it is.
    pending: Option<Pending>,
}

/// A file that is not in its place yet; unless it gets there, nothing is left of it.
#[derive(Debug)]
struct Pending {
    file: File,
    temporary: PathBuf,
    target: PathBuf,
}

impl Replacement {
    /// For `target`; see [`Output::to_file`].
    ///
    /// # Errors
    /// If the temporary file beside it cannot be created, or `target` can only be a directory.
    pub fn open(target: &Path) -> io::Result<Replacement> {
        let typed = target.as_os_str().as_encoded_bytes();
        if typed.ends_with(b"/") || typed.ends_with(b"/.") {
            return Err(ErrorKind::IsADirectory.into());
        }
        let mut permissions = None;
        let target = match fs::metadata(target) {
            Ok(there) if there.is_dir() => return Err(ErrorKind::IsADirectory.into()),
            Ok(there) if !there.is_file() => {
                let file = File::options().write(true).open(target)?;
                let pending = None;
                return Ok(Replacement { file, pending });
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
        Ok(Replacement {
            file: pending.file.try_clone()?,
            pending: Some(pending),
        })
    }

    /// Puts what was written in its place.
    ///
    /// # Errors
    /// What kept it from being written for good.
    pub fn finish(self) -> io::Result<()> {
        match &self.pending {
            Some(pending) => pending.put_at(&pending.target),
            None => Ok(()),
        }
    }
}

impl Write for Replacement {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.file.write(text)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Pending {
    fn put_at(&self, place: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.temporary, place)
    }
}

/// Standard output where the progress line may stand, too.
struct Terminal(Stdout);

impl Write for Terminal {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let stdout = &mut self.0;
        let write = |text: &[u8]| stdout.write_all(text).and_then(|()| stdout.flush());
        messages::above_line(text, write).map(|()| text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // Once it is in its place there is nothing to remove.
        let _ = fs::remove_file(&self.temporary);
    }
}

impl Output {
    /// Standard output.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn to_stdout(mailbox: Mailbox) -> io::Result<Output> {
        let stdout = io::stdout();
        match stdout.is_terminal() && io::stderr().is_terminal() {
            true => Output::start(Terminal(stdout), None, mailbox),
            false => Output::start(stdout, None, mailbox),
        }
    }

    /// A file that takes the place of `target` when all is written. What is there and no file (a
    /// pipe, `/dev/null`) is written as it is, and of a link the file that it names.
    ///
    /// # Errors
    /// If the temporary file beside it cannot be created, or `target` can only be a directory.
    pub fn to_file(target: &Path, mailbox: Mailbox) -> io::Result<Output> {
        let Replacement { file, pending } = Replacement::open(target)?;
        Output::start(file, pending, mailbox)
    }

    fn start(
        mut sink: impl Write + Send + 'static,
        pending: Option<Pending>,
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
            pending,
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
        written?;
        let Some(pending) = &self.pending else {
            return Ok(None);
        };
        let mut place = pending.target.clone();
        if !is_complete {
            place.as_mut_os_string().push(".partial");
        }
        pending.put_at(&place)?;
        Ok((!is_complete).then_some(place))
    }
}
