//! Where results go: standard output or a file, on a thread of its own.
//!
//! What it is: a queue of text and the one thread that may block on it. What it is not: a formatter,
//! or a bound of its own; the head hands over no more than `OUTPUT_BYTES_MAX` beyond what was
//! acknowledged.
//!
//! Invariant: a file is replaced whole or not at all; until then the results are in a temporary file
//! beside it.

use std::io::{self, ErrorKind, IsTerminal, Stdout, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};

use crate::mailbox::{Mailbox, Notice};
use crate::messages;

mod replacement;
mod sorter;

pub use replacement::Replacement;
pub use sorter::Places;
use sorter::Sorter;

/// The output of a head.
#[derive(Debug)]
pub struct Output {
    queue: Sender<Vec<u8>>,
    thread: JoinHandle<io::Result<()>>,
    file: Option<Replacement>,
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

impl Output {
    /// Standard output. With `places` the texts are parcels, for those as well.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn to_stdout(places: Option<Places>, mailbox: Mailbox) -> io::Result<Output> {
        let stdout = io::stdout();
        match stdout.is_terminal() && io::stderr().is_terminal() {
            true => Output::start(Terminal(stdout), places, None, mailbox),
            false => Output::start(stdout, places, None, mailbox),
        }
    }

    /// A file that takes the place of `target` when all is written. What is there and no file (a
    /// pipe, `/dev/null`) is written as it is, and of a link the file that it names. With `places`
    /// the texts are parcels, for those as well.
    ///
    /// # Errors
    /// If the temporary file beside it cannot be created, or `target` can only be a directory.
    pub fn to_file(target: &Path, places: Option<Places>, mailbox: Mailbox) -> io::Result<Output> {
        let file = Replacement::open(target)?;
        Output::start(file.writer()?, places, Some(file), mailbox)
    }

    fn start(
        output: impl Write + Send + 'static,
        places: Option<Places>,
        file: Option<Replacement>,
        mailbox: Mailbox,
    ) -> io::Result<Output> {
        match places {
            None => Output::spawn(output, file, mailbox),
            Some(places) => Output::spawn(Sorter { output, places }, file, mailbox),
        }
    }

    fn spawn(
        mut sink: impl Write + Send + 'static,
        file: Option<Replacement>,
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
        written?;
        match self.file {
            Some(file) => file.finish(is_complete),
            None => Ok(None),
        }
    }
}
