//! Tasks in, outcomes out.
//!
//! What it is: the part of the worker that comes by the million, taken a row at a time. What it is
//! not: the greeting, or what is said of a session.
//!
//! Invariant: a task that is taken is submitted, or answered at once.

use log::debug;

use super::session::{Phase, Refused, Session};
use super::{Worker, WorkerConfig};
use crate::frame::{Frame, Kind, Outcome, Status, Task};
use crate::limits::OUTBOX_BYTES_HIGH;
use crate::payload::Bytes;
use crate::role::{ConnId, Execution, Sink};
use crate::words::count;

/// Why tasks come back from a worker that is about to end.
const DRAINING: &str = "the worker is about to end";

impl Worker {
    /// The one frame that comes by the million has a way of its own.
    #[inline(always)]
    pub(super) fn tasks<'a>(
        &mut self,
        conn: ConnId,
        mut tasks: impl Iterator<Item = Task<'a>>,
        out: &mut impl Sink,
    ) -> Result<(), Refused> {
        let Some(session) = self.sessions.get_mut(conn) else {
            return Ok(());
        };
        let Phase::Working { payload_bytes_max } = session.phase else {
            return match tasks.next() {
                Some(_) => Err(Refused::untimely(Kind::Task)),
                None => Ok(()),
            };
        };
        let mut refused = Ok(());
        let taking = Taking {
            session,
            config: &self.config,
            payload_bytes_max,
            tasks,
            refused: &mut refused,
        };
        if self.ending.is_none() {
            out.submit_all(conn, taking);
            return refused;
        }
        // They were on their way when this worker said that it would end.
        let returned =
            |task: Task| Execution::returned(conn, task.attempt, task.input.len(), DRAINING);
        let done: Vec<Execution> = taking.map(returned).collect();
        self.completed(&done, out);
        refused
    }

    /// The pool has finished attempts, maybe of several sessions.
    pub(super) fn completed(&mut self, done: &[Execution], out: &mut impl Sink) {
        for row in done.chunk_by(|a, b| a.conn == b.conn) {
            self.answer(row[0].conn, row, out);
        }
    }

    /// Sends the outcomes of attempts of one session.
    #[inline(always)]
    fn answer(&mut self, conn: ConnId, row: &[Execution], out: &mut impl Sink) {
        let Some(session) = self.sessions.get_mut(conn) else {
            let (outcomes, first) = (count(row.len() as u64, "outcome"), row[0].attempt);
            debug!("{outcomes} dropped, that of {first} first: their session is over");
            return;
        };
        let &mut Session {
            phase: Phase::Working { payload_bytes_max },
            ..
        } = session
        else {
            unreachable!("only a working session submits");
        };
        let mut line = out.line(conn);
        for done in row {
            session.answered(done.attempt, done.input_bytes as usize);
            let is_too_long = done.payload.len() > payload_bytes_max;
            let too_long = is_too_long.then(|| too_long(done.payload.len(), payload_bytes_max));
            let (status, output) = match &too_long {
                None => (done.status, done.payload.lend()),
                Some(reason) => (Status::Failed, Bytes::from(reason)),
            };
            let outcome = Frame::Outcome(Outcome {
                attempt: done.attempt,
                status,
                run_us: done.run_us,
                output,
            });
            session.send_on(outcome, &mut line);
        }
        drop(line);
        // Nothing else can change by it.
        if session.unsent_bytes > OUTBOX_BYTES_HIGH {
            session.pause_or_resume(conn, out);
        }
    }
}

/// The tasks of a row that a session takes, up to the first that breaks its bounds. (A closure would
/// be as good, but for being called for each.)
struct Taking<'w, I> {
    session: &'w mut Session,
    config: &'w WorkerConfig,
    payload_bytes_max: usize,
    tasks: I,
    refused: &'w mut Result<(), Refused>,
}

impl<'a, I: Iterator<Item = Task<'a>>> Iterator for Taking<'_, I> {
    type Item = Task<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<Task<'a>> {
        let task = self.tasks.next()?;
        let taken = self
            .session
            .take(self.config, &task.input, self.payload_bytes_max);
        match taken {
            Ok(()) => Some(task),
            Err(refused) => {
                *self.refused = Err(refused);
                None
            }
        }
    }
}

/// Why an output is not sent.
#[cold]
fn too_long(bytes: usize, limit_bytes: usize) -> String {
    format!(
        "its output of {bytes} bytes is longer than the {limit_bytes} allowed; raise --payload-max \
         on both sides"
    )
}
