//! The job `map`, the head's side: a program for each line of the input.
//!
//! What it is: the workload that makes a task of every line, and of every report what the user
//! sees: results, standard error with its task in front, a log, a folder. What it is not: a reader
//! of standard input, or a writer of files; lines come in pieces and results leave as parcels. What
//! travels, and what `{}` becomes, is in `command.rs`.
//!
//! Invariant: task n is line n + 1, whatever is in it: a line that no program could take is a
//! failed task, so nothing is lost and the numbers agree.

use std::borrow::Cow;

use crate::command::{CommandLine, Ended, Mode, NAME, Report, Unfit};
use crate::format::{Format, Row, Rows, Value, printable};
use crate::frame::Status;
use crate::kernel::{Delivery, Next, Workload};
use crate::lines::Lines;
use crate::parcel::{self, Parcel};

mod log;
mod show;

pub use log::HEAD as LOG_HEAD;
use log::Log;
pub use show::quoted;
use show::{failure, prefixed};

/// What of a map job is chosen, beside its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choices {
    /// Lines end with a zero byte instead of a line's end.
    pub is_null: bool,
    /// How results are written.
    pub rows: Rows,
    /// There is a log.
    pub has_log: bool,
    /// There is a folder.
    pub has_folder: bool,
    /// Longest line, in bytes.
    pub line_bytes_max: usize,
}

/// A command, and the lines that it is run for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    command: CommandLine,
    choices: Choices,
    lines: Lines,
    log: Option<Log>,
    /// Every answer was a report.
    is_sound: bool,
}

impl Map {
    /// A job that has not begun.
    pub fn new(command: CommandLine, choices: Choices) -> Map {
        let end = if choices.is_null { 0 } else { b'\n' };
        Map {
            command,
            choices,
            lines: Lines::new(end, choices.line_bytes_max),
            log: choices.has_log.then(Log::default),
            is_sound: true,
        }
    }

    /// The command, as it was typed.
    pub fn command(&self) -> &CommandLine {
        &self.command
    }

    /// The run begins at this time, in milliseconds since 1970: so its log can tell the time.
    pub fn begin(&mut self, epoch_ms: u64) {
        if let Some(log) = &mut self.log {
            log.begin(epoch_ms);
        }
    }

    /// The command for one line, as a shell would take it.
    ///
    /// # Errors
    /// Why no machine could run it.
    pub fn shown(&self, line: &[u8]) -> Result<Vec<u8>, Unfit> {
        Ok(quoted(&self.command.argv(line)?))
    }

    /// What a delivery says, and in words why it is a failure if it is one.
    fn judge<'a>(&mut self, delivery: &Delivery<'a>) -> (Option<Report<'a>>, Option<String>) {
        let report = Report::decode(delivery.output);
        let failed = match (delivery.status, &report) {
            (Status::Done, Some(_)) => None,
            (Status::Done, None) => {
                self.is_sound = false;
                Some(format!(
                    "worker {} answered something else than a report; install the same release on \
                     both",
                    delivery.worker
                ))
            }
            (_, Some(report)) => Some(report.ended.to_string()),
            (_, None) => Some(printable(delivery.output)),
        };
        (report, failed)
    }

    /// Appends the results of one task.
    fn put(
        &self,
        delivery: &Delivery<'_>,
        stdout: &[u8],
        failed: Option<&str>,
        text: &mut Vec<u8>,
    ) {
        if self.choices.rows.format == Format::Text {
            // Also of a program that failed: as a shell's loop would have it.
            text.extend_from_slice(stdout);
            if failed.is_none() && self.command.mode() != Mode::PerTask {
                text.push(b'\n');
            }
            return;
        }
        let value = match failed {
            None => Value::Bytes(stdout),
            Some(reason) => Value::Failed(reason),
        };
        let row = Row::new(delivery, value);
        self.choices.rows.append_quietly(&row, text);
    }
}

impl Workload for Map {
    fn kernel(&self) -> &str {
        NAME
    }

    fn describe(&self) -> String {
        let null = if self.choices.is_null { " --null" } else { "" };
        let mode = match self.command.mode() {
            Mode::PerTask => "",
            Mode::Lines => " --persistent",
            Mode::Lengths => " --persistent --length-prefixed",
        };
        let command = quoted(self.command.words());
        let command = String::from_utf8_lossy(&command);
        format!("{NAME}{null}{mode} -- {command}")
    }

    fn setup(&self) -> Vec<u8> {
        self.command.encode()
    }

    fn next(&mut self, input: &mut Vec<u8>) -> Next {
        let next = self.lines.next(input);
        if let (Next::Task, Some(log)) = (next, &mut self.log) {
            log.note(&self.command, input);
        }
        next
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.lines.feed(bytes);
    }

    fn unfit(&self, input: &[u8]) -> Option<String> {
        let unfit = self.command.check(input).err()?;
        Some(unfit.to_string())
    }

    fn reason<'a>(&self, output: &'a [u8]) -> Cow<'a, [u8]> {
        match Report::decode(output) {
            Some(report) => Cow::Owned(report.ended.to_string().into_bytes()),
            None => Cow::Borrowed(output),
        }
    }

    fn is_final(&self, output: &[u8]) -> bool {
        // The program ran, and may have done something.
        Report::decode(output).is_some()
    }

    fn deliver(&mut self, delivery: &Delivery<'_>, text: &mut Vec<u8>) {
        let (report, failed) = self.judge(delivery);
        let (stdout, stderr) = report.map_or((&[][..], &[][..]), |its| (its.stdout, its.stderr));
        let mut errors = prefixed(delivery, stderr);
        if let Some(reason) = &failed {
            errors.extend_from_slice(failure(delivery, reason).as_bytes());
        }
        Parcel::Errors(&errors).encode(text);
        parcel::output(text, |text| {
            self.put(delivery, stdout, failed.as_deref(), text);
        });
        let ended: Option<Ended> = report.map(|report| report.ended);
        if let Some(log) = &mut self.log {
            let row = log.row(delivery, ended, stdout.len());
            Parcel::Log(&row).encode(text);
        }
        if self.choices.has_folder {
            let line = delivery.task + 1;
            let stderr = if report.is_some() { stderr } else { &errors };
            let parcel = Parcel::Folder {
                line,
                stdout,
                stderr,
            };
            parcel.encode(text);
        }
    }

    fn finish(&mut self, _: &mut Vec<u8>) -> bool {
        self.is_sound
    }
}

#[cfg(test)]
mod tests;
