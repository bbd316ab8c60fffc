//! One head as the worker sees it.
//!
//! What it is: how far it has greeted, what it holds of its credit, and whether its attempts may run.
//! What it is not: the attempts; those are in the pool.
//!
//! Invariant: `tasks` and `bytes` are within the credit the head was given.

use std::collections::BTreeSet;

use super::WorkerConfig;
use crate::frame::{Frame, Kind, Refusal};
use crate::limits::{OUTBOX_BYTES_HIGH, OUTBOX_BYTES_LOW};
use crate::role::{Attempt, ConnId, Line, Sink, Usage};
use crate::silence::Silence;
use crate::time::{Duration, Time};

/// One head.
pub(super) struct Session {
    pub peer: String,
    pub phase: Phase,
    pub silence: Silence,
    /// Attempts taken and not answered.
    pub tasks: u32,
    /// Their input bytes.
    pub bytes: usize,
    /// Bytes in the outbox.
    pub unsent_bytes: usize,
    /// Those of them that the head was heard not to need. One may be answered already when that is
    /// heard, so this is for messages only.
    pub unwanted: BTreeSet<Attempt>,
    /// The pool starts nothing of it: the head reads too little of what is there, or is lost.
    pub paused: bool,
    /// What was used when that was last looked at before its job, or by its latest `Usage`. (To look
    /// when it comes would leave runs that are over in no time without a figure.)
    pub told: Usage,
}

pub(super) enum Phase {
    /// Must greet until then.
    Greeting { until: Time },
    /// Has been welcomed and must name its job first.
    Welcomed { payload_bytes_max: usize },
    /// Sends tasks.
    Working { payload_bytes_max: usize },
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} tasks)", self.peer, self.tasks)
    }
}

impl Session {
    /// Whether its peer has shown itself to be a head.
    pub fn is_proven(&self) -> bool {
        !matches!(self.phase, Phase::Greeting { .. })
    }

    #[inline(always)]
    pub fn send(&mut self, conn: ConnId, frame: Frame<'_>, out: &mut impl Sink) {
        self.send_on(frame, &mut out.line(conn));
    }

    /// The same for one of several in a row.
    #[inline(always)]
    pub fn send_on(&mut self, frame: Frame<'_>, line: &mut impl Line) {
        self.unsent_bytes += frame.encoded_bytes();
        line.send(frame);
    }

    pub fn deadline(&self) -> Time {
        match self.phase {
            Phase::Greeting { until } => until,
            _ => self.silence.deadline(),
        }
    }

    /// Notes that the head does not need an attempt.
    pub fn cancelled(&mut self, attempt: Attempt) {
        if self.unwanted.len() < self.tasks as usize {
            self.unwanted.insert(attempt);
        }
    }

    /// Gives back the credit of an attempt.
    #[inline(always)]
    pub fn answered(&mut self, attempt: Attempt, input_bytes: usize) {
        self.tasks -= 1;
        self.bytes -= input_bytes;
        if !self.unwanted.is_empty() {
            self.unwanted.remove(&attempt);
        }
    }

    /// Attempts whose outcomes the head waits for.
    pub fn wanted_tasks(&self) -> usize {
        (self.tasks as usize).saturating_sub(self.unwanted.len())
    }

    /// Has the pool wait while the head does not read or is lost, and go on afterwards.
    #[inline(always)]
    pub fn pause_or_resume(&mut self, conn: ConnId, out: &mut impl Sink) {
        let is_full = match self.paused {
            false => self.unsent_bytes > OUTBOX_BYTES_HIGH,
            true => self.unsent_bytes >= OUTBOX_BYTES_LOW,
        };
        let paused = self.silence.is_lost() || is_full;
        if paused != std::mem::replace(&mut self.paused, paused) {
            out.pause(conn, paused);
        }
    }

    /// Says what was used since it was last said, if that is anything. (Also if the head does not
    /// read: it is little, and who reads nothing is closed for it.)
    pub fn tell_usage(&mut self, conn: ConnId, usage: Usage, out: &mut impl Sink) {
        // Differences of whole milliseconds, so that no fraction is lost.
        let since = |now: Duration, then: Duration| {
            u32::try_from(now.as_millis() - then.as_millis()).unwrap_or(u32::MAX)
        };
        let cpu_ms = since(usage.cpu, self.told.cpu);
        let waited_ms = since(usage.waited, self.told.waited);
        if (cpu_ms, waited_ms) != (0, 0) {
            self.told = usage;
            self.send(conn, Frame::Usage { cpu_ms, waited_ms }, out);
        }
    }

    /// Accounts for a task, within the credit it was given.
    #[inline(always)]
    pub fn take(
        &mut self,
        config: &WorkerConfig,
        input: &[u8],
        payload_bytes_max: usize,
    ) -> Result<(), Refused> {
        if input.len() > payload_bytes_max {
            return Err(Refused::protocol(format!(
                "an input of {} bytes where {payload_bytes_max} are agreed",
                input.len()
            )));
        }
        let bytes = self.bytes + input.len();
        let exceeds_bytes = self.tasks > 0 && bytes > config.credit_bytes as usize;
        if self.tasks >= config.credit_tasks || exceeds_bytes {
            return Err(Refused::protocol(
                "more tasks than it has credit for".into(),
            ));
        }
        self.tasks += 1;
        self.bytes = bytes;
        Ok(())
    }
}

/// A head that is turned away, and why.
pub(super) struct Refused {
    pub refusal: Refusal,
    pub reason: String,
}

impl Refused {
    pub fn protocol(reason: String) -> Refused {
        Refused {
            refusal: Refusal::Protocol,
            reason,
        }
    }

    pub fn busy(reason: String) -> Refused {
        Refused {
            refusal: Refusal::Busy,
            reason,
        }
    }

    pub fn untimely(kind: Kind) -> Refused {
        Refused::protocol(format!("{kind:?} frame at the wrong moment"))
    }
}
