//! Where a job's input comes from: standard input, on a thread of its own.
//!
//! What it is: the one thread that may block on it, and reads one piece ahead of what was asked
//! for, so that neither side waits for the other longer than it must. What it is not: a reader of
//! lines; the job makes tasks of the pieces.
//!
//! Invariant: at most one piece has been read and not asked for.

use std::io::{self, ErrorKind, Read};
use std::sync::mpsc::{self, Sender};
use std::thread;

use crate::limits::INPUT_BYTES;
use crate::mailbox::{Mailbox, Notice};

/// The input of a head's job.
#[derive(Debug)]
pub struct Input(Sender<()>);

impl Input {
    /// Standard input.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn from_stdin(mailbox: Mailbox) -> io::Result<Input> {
        Input::start(io::stdin(), mailbox)
    }

    /// The thread is never waited for: nothing ends a read that no writer ends.
    fn start(mut source: impl Read + Send + 'static, mailbox: Mailbox) -> io::Result<Input> {
        let (asks, asked) = mpsc::channel();
        let work = move || {
            let mut buffer = vec![0; INPUT_BYTES];
            loop {
                let piece = read(&mut source, &mut buffer);
                if asked.recv().is_err() {
                    return;
                }
                match piece {
                    Ok(count) => {
                        let bytes = buffer[..count].to_vec();
                        mailbox.post(Notice::Input { bytes });
                        if count == 0 {
                            return;
                        }
                    }
                    Err(error) => {
                        let reason = format!("cannot read standard input: {error}");
                        return mailbox.post(Notice::InputFailed { reason });
                    }
                }
            }
        };
        thread::Builder::new().name("input".into()).spawn(work)?;
        Ok(Input(asks))
    }

    /// Asks for the next piece; answered by an `Input` or `InputFailed` notice.
    pub fn ask(&self) {
        // Once the thread has ended nothing more is asked for: it has told the end.
        let _ = self.0.send(());
    }
}

/// As much as there is now, at least one byte unless it is the end.
fn read(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match source.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
