//! The threads beside the reactor: input, output and journal, and what all helper threads report; and
//! who watches over the loop itself.
//!
//! What it is: the part of the reactor that sets them up, hands over and takes notices. What it is
//! not: those threads, or that supervisor.
//!
//! Invariant: each is handed something at most once per turn and never waited for, except by
//! `write_through` and `read_through` before the run.

use std::io;

use super::{Deadline, Reactor};
use crate::input::Input;
use crate::mailbox::{Mailbox, Notice};
use crate::output::Output;
use crate::recorder::Recorder;
use crate::role::{Event, Role};
use crate::supervisor::Supervisor;
use crate::time::{Duration, Time};
use crate::trace::Trace;

impl Reactor {
    /// Says where the role's input comes from.
    pub fn set_input(&mut self, input: Input) {
        self.input = Some(input);
    }

    /// Says where the role's writes go.
    pub fn set_output(&mut self, output: Output) {
        self.output = Some(output);
    }

    /// Where helper threads report to this reactor.
    pub fn mailbox(&self) -> Mailbox {
        self.mailbox.clone()
    }

    /// Takes the output back after a run, to finish it.
    pub fn take_output(&mut self) -> Option<Output> {
        self.output.take()
    }

    /// Says where the role's records go.
    pub fn set_journal(&mut self, journal: Recorder) {
        self.journal = Some(journal);
    }

    /// Takes the journal back after a run, to finish it.
    pub fn take_journal(&mut self) -> Option<Recorder> {
        self.journal.take()
    }

    /// Says where the role's spans go.
    pub fn set_trace(&mut self, trace: Trace) {
        self.trace = Some(trace);
    }

    /// Takes the trace back after a run, to finish it.
    pub fn take_trace(&mut self) -> Option<Trace> {
        self.trace.take()
    }

    /// Says who wants to know whether this reactor goes round. Until the run nothing is said.
    pub fn set_supervisor(&mut self, supervisor: Supervisor) {
        self.supervisor = Some(supervisor);
    }

    /// Gives the sign of life that is due, and sees to the next. Without a supervisor that wants it
    /// there is no such deadline.
    pub(super) fn say_alive(&mut self, now: Time) {
        if let Some(supervisor) = &self.supervisor
            && let Some(every) = supervisor.alive_every()
        {
            supervisor.alive();
            self.timers.set(Deadline::Alive, now + every);
        }
    }

    /// Writes `text` before the run and waits until it is written. False if a signal has come or the
    /// output takes nothing further, which the role is told in its first turn; then there is no use
    /// in going on. Without any text it only looks for signals.
    ///
    /// # Errors
    /// If polling itself fails.
    pub fn write_through(&mut self, text: &[u8]) -> io::Result<bool> {
        if !text.is_empty() {
            self.ahead_bytes += text.len();
            self.output.as_ref().expect("it is set").write(text);
        }
        loop {
            let timeout = (self.ahead_bytes == 0).then_some(Duration::ZERO);
            self.poll(timeout)?;
            self.mailbox.take(&mut self.notices);
            for notice in self.notices.drain(..) {
                match notice {
                    Notice::Written { bytes } => self.ahead_bytes -= bytes,
                    other => {
                        self.mailbox.post(other);
                        return Ok(false);
                    }
                }
            }
            if self.is_interrupted || self.ahead_bytes == 0 {
                return Ok(!self.is_interrupted);
            }
        }
    }

    /// Waits before the run for the next piece of the input. `None` if a signal has come or it
    /// cannot be read, or the output takes nothing further; which the role is told in its first
    /// turn.
    ///
    /// # Errors
    /// If polling itself fails.
    pub fn read_through(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.input.as_ref().expect("it is set").ask();
        let mut piece = None;
        while piece.is_none() && !self.is_interrupted {
            self.poll(None)?;
            self.mailbox.take(&mut self.notices);
            for notice in self.notices.drain(..) {
                match notice {
                    Notice::Input { bytes } => piece = Some(bytes),
                    other => {
                        self.mailbox.post(other);
                        return Ok(None);
                    }
                }
            }
        }
        Ok(piece.filter(|_| !self.is_interrupted))
    }

    /// Hands the turn's records to the journal.
    pub(super) fn record(&mut self) {
        let notes = &mut self.notes;
        if notes.records_count > 0 {
            let journal = self.journal.as_ref();
            let journal = journal.expect("a role that records has a journal");
            journal.append(&mut notes.records, notes.records_count);
            notes.records_count = 0;
        }
    }

    /// Hands the turn's spans to the trace.
    pub(super) fn add_to_trace(&mut self) {
        if !self.notes.spans.is_empty() {
            let trace = self.trace.as_mut();
            let trace = trace.expect("a role that is traced has a trace");
            trace.add(&mut self.notes.spans);
        }
    }

    pub(super) fn take_notices(&mut self, role: &mut impl Role, now: Time) {
        self.mailbox.take(&mut self.notices);
        let mut notices = std::mem::take(&mut self.notices);
        for notice in notices.drain(..) {
            match notice {
                Notice::Input { bytes } => {
                    let bytes = &bytes[..];
                    role.handle(Event::Input { bytes }, now, &mut self.outlet());
                }
                Notice::InputFailed { reason } => {
                    role.handle(Event::InputFailed { reason }, now, &mut self.outlet());
                }
                // From before the run: the role knows nothing of it.
                Notice::Written { bytes } if self.ahead_bytes > 0 => self.ahead_bytes -= bytes,
                Notice::Written { bytes } => {
                    role.handle(Event::Written { bytes }, now, &mut self.outlet());
                }
                Notice::OutputFailed { reader_gone } => {
                    let event = Event::OutputFailed { reader_gone };
                    role.handle(event, now, &mut self.outlet());
                }
                Notice::Recorded { count } => {
                    role.handle(Event::Recorded { count }, now, &mut self.outlet());
                }
                Notice::JournalFailed { reason } => {
                    role.handle(Event::JournalFailed { reason }, now, &mut self.outlet());
                }
                Notice::Resolved { dial, result } => self.resolved(dial, result, role, now),
            }
        }
        self.notices = notices;
    }
}
