//! A process that lives from task to task.
//!
//! What it is: [`Lasting`], and the exchange of one line, or one block of bytes, for another. What it
//! is not: a queue; one question is asked at a time, and the next after its answer.
//!
//! Invariant: a process that has answered out of step, or not at all, is never asked again.

use std::io::{self, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use mio::Interest;
use mio::unix::pipe::Sender;

use super::guard::wait_within;
use super::runner::{Heard, Process, Runner, STDIN, go_on, look, pauses, read};
use super::{Job, host};
use crate::command::{Ended, Mode};
use crate::kernel::{KernelError, Stop};
use crate::limits::{LAST_WORDS_BYTES, LOOK_MAX, PROGRAM_GRACE};

/// A process and the end of its input.
pub(super) struct Lasting {
    pub(super) process: Process,
    /// None once it is told that there is nothing more ...
    stdin: Option<Sender>,
    /// ... which was then.
    closed_at: Option<Instant>,
}

impl Lasting {
    /// Tells it that there is nothing more.
    pub(super) fn close(&mut self) {
        self.stdin = None;
        self.closed_at.get_or_insert_with(Instant::now);
    }

    /// Waits for its end for as long as it has, since it was told, to end by itself.
    pub(super) fn wait(&mut self) {
        let since = self.closed_at.map_or(Duration::ZERO, |at| at.elapsed());
        wait_within(&mut self.process.child, PROGRAM_GRACE.saturating_sub(since));
    }

    /// Writes once. Says whether it took anything.
    fn tell(&mut self, unsent: &mut &[u8]) -> bool {
        let Some(stdin) = &mut self.stdin else {
            return false;
        };
        match stdin.write(unsent) {
            Ok(count) => {
                *unsent = &unsent[count..];
                true
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
            Err(_) => {
                // It reads no more. Its answer, if it gives one, is as good as any.
                self.close();
                false
            }
        }
    }
}

impl Runner {
    /// Has the process that lives on answer one line, and starts it if there is none.
    pub(super) fn exchange(
        &mut self,
        job: &Job,
        line: &[u8],
        stop: &Stop,
        output: &mut Vec<u8>,
    ) -> Result<(), KernelError> {
        let mut lasting = self.ready(job)?;
        let answered = self.ask(&mut lasting, job, line, stop).and_then(|at| {
            let answer = match job.command.mode() {
                Mode::Lengths => 4..at,
                _ => 0..at,
            };
            self.report(job, Ended::Exited(0), answer, output)
        });
        match answered {
            Ok(()) => self.lasting = Some(lasting),
            Err(_) => self.kill(&mut lasting.process.child),
        }
        answered
    }

    /// The process, from before or a new one.
    fn ready(&mut self, job: &Job) -> Result<Lasting, KernelError> {
        if let Some(mut lasting) = self.lasting.take() {
            match read(&mut lasting.process.stdout, &mut self.piece) {
                // (What it started may hold its output open beyond its end.)
                Heard::Nothing
                    if self.is_guarded() && look(&mut lasting.process.child)?.is_none() =>
                {
                    return Ok(lasting);
                }
                // It has ended while nothing was asked of it, or says what nobody asked for: no task
                // that has yet to be asked is to blame, and what came before has its answer.
                Heard::Nothing | Heard::End | Heard::Bytes(_) => {
                    self.kill(&mut lasting.process.child);
                }
            }
        }
        let mut process = self.start(job, &[], Stdio::piped())?;
        let mut stdin = Sender::from(process.child.stdin.take().expect("it is a pipe"));
        let registry = self.poll.registry();
        let watched = (stdin.set_nonblocking(true))
            .and_then(|()| registry.register(&mut stdin, STDIN, Interest::WRITABLE));
        if let Err(error) = watched {
            self.kill(&mut process.child);
            return Err(host("cannot watch a program", &error));
        }
        Ok(Lasting {
            process,
            stdin: Some(stdin),
            closed_at: None,
        })
    }

    /// Sends the line and takes in the answer; says where in what was heard it ends.
    fn ask(
        &mut self,
        lasting: &mut Lasting,
        job: &Job,
        line: &[u8],
        stop: &Stop,
    ) -> Result<usize, KernelError> {
        let question = match job.command.mode() {
            Mode::Lengths => [&(line.len() as u32).to_be_bytes(), line].concat(),
            _ => [line, b"\n"].concat(),
        };
        let mut unsent = &question[..];
        let (mut pauses, mut looked_at) = (pauses(), Instant::now());
        self.stdout.clear();
        loop {
            go_on(stop)?;
            let is_told = !unsent.is_empty() && lasting.tell(&mut unsent);
            let seen = self.stdout.len();
            let is_heard = self.hear(&mut lasting.process, job)?;
            if let Some(end) = self.answer_end(job, seen)? {
                return Ok(end);
            }
            if lasting.process.stdout.is_none() {
                return Err(self.ended_early(lasting, job));
            }
            let is_silent = !is_told && !is_heard && self.wait(pauses.next())?;
            // What it has left behind may hold its output open, or write for ever.
            if !is_silent && looked_at.elapsed() < LOOK_MAX {
                continue;
            }
            looked_at = Instant::now();
            if look(&mut lasting.process.child)?.is_some() {
                return Err(self.ended_early(lasting, job));
            }
        }
    }

    /// Where the answer ends, if it is complete. Before `seen` it does not.
    fn answer_end(&self, job: &Job, seen: usize) -> Result<Option<usize>, KernelError> {
        let (end, whole) = match job.command.mode() {
            Mode::Lengths => {
                let Some((length, _)) = self.stdout.split_first_chunk() else {
                    return Ok(None);
                };
                let end = 4 + u32::from_be_bytes(*length) as usize;
                if end > job.report_bytes_max {
                    return Err(job.too_long());
                }
                (end, end)
            }
            _ => {
                let newline = self.stdout[seen..].iter().position(|&byte| byte == b'\n');
                let Some(newline) = newline else {
                    return Ok(None);
                };
                (seen + newline, seen + newline + 1)
            }
        };
        match self.stdout.len() {
            bytes if bytes < whole => Ok(None),
            bytes if bytes == whole => Ok(Some(end)),
            _ => Err(out_of_step(job)),
        }
    }

    fn ended_early(&mut self, lasting: &mut Lasting, job: &Job) -> KernelError {
        let how = match wait_within(&mut lasting.process.child, PROGRAM_GRACE) {
            Some(status) => format!("ended ({status})"),
            None => "closed its output".into(),
        };
        let stderr = self.stderr.take();
        let words = &stderr[stderr.len().saturating_sub(LAST_WORDS_BYTES)..];
        let mut reason = format!("{} {how} before it answered; {ANEW}", job.name());
        if !words.is_empty() {
            let words = String::from_utf8_lossy(words);
            reason.push_str(&format!("; its last words: {}", words.trim_end()));
        }
        KernelError::Failed(reason)
    }
}

const ANEW: &str = "the next task gets a new process";

fn out_of_step(job: &Job) -> KernelError {
    let one = match job.command.mode() {
        Mode::Lengths => "block of bytes",
        _ => "line",
    };
    KernelError::Failed(format!(
        "{} wrote more than one {one} for one task; {ANEW}",
        job.name()
    ))
}
