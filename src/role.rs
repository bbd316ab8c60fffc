//! The boundary between the pure roles and everything that touches the world.
//!
//! What it is: the events a role is told, the sink it answers into, and the names both share. What
//! it is not: code that does anything. The reactor and the simulator are the two drivers of a
//! [`Role`]; neither knows which role it drives.
//!
//! Invariant: a role is a pure function of its events and their times. The sink is write-only, so a
//! recorded list of events replays a run exactly.

use std::fmt;
use std::sync::Arc;

use crate::frame::{Frame, FrameError, Outcome, Status, Task};
use crate::kernel::Kernel;
use crate::overview::Overview;
use crate::payload::{Bytes, Payload};
use crate::time::{Duration, Time};

/// One connection, for as long as it lives. Slots are reused, generations never, so that a late
/// timer or completion cannot reach a stranger in the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    /// Index into the driver's table of connections.
    pub slot: u32,
    /// Which of the connections that used the slot.
    pub generation: u32,
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}

/// One try of one task. Unique in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt {
    /// The task's number, from 0 in the order of the input.
    pub task: u64,
    /// Counts the task's attempts from 1.
    pub number: u32,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.task, self.number)
    }
}

/// One attempt at the pool: on its way there, and, when it is completed, on its way back.
#[derive(Clone, Debug)]
pub struct Execution {
    /// The session that sent it.
    pub conn: ConnId,
    /// Which attempt.
    pub attempt: Attempt,
    /// How it ended.
    pub status: Status,
    /// The input; the output, or the error's text, in its place once there is one.
    pub payload: Payload,
    /// Length of the input.
    pub input_bytes: u32,
    /// How long the kernel ran, in microseconds; `u32::MAX` if longer.
    pub run_us: u32,
}

impl Execution {
    /// An attempt that is to be run.
    pub fn new(conn: ConnId, Task { attempt, input }: Task<'_>) -> Execution {
        let mut execution = Execution::nothing();
        execution.set(conn, Task { attempt, input });
        execution
    }

    /// What is where none is.
    pub(crate) fn nothing() -> Execution {
        Execution {
            conn: ConnId {
                slot: 0,
                generation: 0,
            },
            attempt: Attempt { task: 0, number: 0 },
            status: Status::Returned,
            payload: Payload::EMPTY,
            input_bytes: 0,
            run_us: 0,
        }
    }

    /// Becomes that of a task, in its place: see [`Payload::set`].
    #[inline(always)]
    pub fn set(&mut self, conn: ConnId, task: Task<'_>) {
        self.conn = conn;
        self.attempt = task.attempt;
        self.status = Status::Returned;
        self.input_bytes = task.input.len() as u32;
        self.run_us = 0;
        self.payload.set(task.input);
    }

    /// It has not run, for this reason.
    pub fn came_back(&mut self, reason: &str) {
        self.status = Status::Returned;
        self.run_us = 0;
        self.payload.set(reason.as_bytes());
    }

    /// What is said of an attempt that was not run, and why.
    pub fn returned(conn: ConnId, attempt: Attempt, input_bytes: usize, reason: &str) -> Execution {
        Execution {
            conn,
            attempt,
            status: Status::Returned,
            payload: Payload::from(reason.as_bytes()),
            input_bytes: input_bytes as u32,
            run_us: 0,
        }
    }
}

/// What a process, with the programs it has started, has had of its machine since it began to look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// How long its threads ran on a processor, summed.
    pub cpu: Duration,
    /// How long they could have run and got no processor, summed; but for the time in which the
    /// process had the use of half its machine or more, and waited for itself.
    pub waited: Duration,
}

/// When an attempt ran, for a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Which worker of the head's list.
    pub worker: u32,
    /// How many it runs at once.
    pub slots: u16,
    /// Which attempt.
    pub attempt: Attempt,
    /// When it was sent.
    pub sent_at: Time,
    /// When it was answered, or lost.
    pub ended_at: Time,
    /// How it ended and how long its kernel ran; `None` if it was lost.
    pub ran: Option<(Status, Duration)>,
}

/// Why a connection is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The role asked for it.
    Asked,
    /// The peer closed its side.
    Peer,
    /// The transport failed; the operating system's words.
    Broken(String),
    /// The peer sent something that is not the protocol.
    Protocol(FrameError),
}

impl CloseReason {
    /// What it means to the side that dialled, and what to do about it.
    pub fn advice(&self, has_greeted: bool) -> String {
        match self {
            CloseReason::Protocol(FrameError::NotTeamster) => {
                format!("{self}; is that the port of a worker?")
            }
            CloseReason::Protocol(FrameError::SameSide) => {
                format!("{self}; name the address of a worker instead")
            }
            // These say themselves what to do.
            CloseReason::Protocol(
                FrameError::Version { .. }
                | FrameError::Keyed
                | FrameError::Unkeyed
                | FrameError::WrongKey
                | FrameError::Forged,
            ) => self.to_string(),
            CloseReason::Protocol(_) => format!("{self}; install the same release on both"),
            _ if has_greeted => self.to_string(),
            _ => format!(
                "{self} before it greeted; is it a worker, and does its --allow include this \
                 machine?"
            ),
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::Asked => f.write_str("closed by this side"),
            CloseReason::Peer => f.write_str("closed by the other side"),
            CloseReason::Broken(text) => f.write_str(text),
            CloseReason::Protocol(error) => error.fmt(f),
        }
    }
}

/// What a role is told.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// A connection stands: one that was dialled (and as which number), or an accepted one.
    Opened {
        /// Its name from now on.
        conn: ConnId,
        /// The argument of [`Sink::dial`], or `None` if the peer dialled.
        dial: Option<u32>,
        /// The peer, for messages.
        peer: &'a str,
    },
    /// A dial came to nothing.
    DialFailed {
        /// The argument of [`Sink::dial`].
        dial: u32,
        /// In words.
        reason: &'a str,
    },
    /// Bytes arrived, whether or not they complete a frame; at most once per connection and turn,
    /// before the frames.
    Heard {
        /// From where.
        conn: ConnId,
    },
    /// A frame arrived.
    Frame {
        /// From where.
        conn: ConnId,
        /// What. Lent, as all the role does with most of them is to read a few fields.
        frame: &'a Frame<'a>,
    },
    /// So many bytes of what was sent have gone to the transport (the opening is not counted).
    Sent {
        /// To where.
        conn: ConnId,
        /// How many.
        bytes: usize,
    },
    /// The connection is no more.
    Closed {
        /// Which.
        conn: ConnId,
        /// Why.
        reason: CloseReason,
    },
    /// What this process has had of its machine so far, neither of which ever falls. Told while the
    /// pool owes the role attempts, once in `USAGE_INTERVAL`, and before the last of them is told,
    /// unless it was just told; never where the system does not tell.
    Measured(Usage),
    /// The pool finished an attempt.
    Completed(&'a Execution),
    /// The pool has another number of threads that compute: a kernel does not end although its time
    /// is over, or one of those has ended after all.
    Slots {
        /// How many compute now; 0 if none.
        count: u16,
        /// The attempt whose kernel goes on, if one more does.
        hung: Option<Attempt>,
    },
    /// The next piece of the job's input; an empty one is its end.
    Input {
        /// As much as there was, up to a bound.
        bytes: &'a [u8],
    },
    /// The job's input cannot be read any further.
    InputFailed {
        /// In words.
        reason: String,
    },
    /// So many bytes of what was written have reached the output.
    Written {
        /// How many.
        bytes: usize,
    },
    /// The oldest so many of the records that were not durable are durable now.
    Recorded {
        /// How many.
        count: usize,
    },
    /// The journal takes nothing further, and what is not durable yet may be lost.
    JournalFailed {
        /// In words.
        reason: String,
    },
    /// The user, or the system, wants the program to end.
    Interrupted,
    /// The output takes nothing further.
    OutputFailed {
        /// Its reader has gone away (`head | head -5`), which is no error.
        reader_gone: bool,
    },
}

/// What a role answers. Calls take effect in their order; none gives anything back.
pub trait Sink {
    /// Dials target number `dial`; answered by one `Opened` or `DialFailed`.
    fn dial(&mut self, dial: u32);
    /// Appends a frame to a connection's outbox.
    fn send(&mut self, conn: ConnId, frame: Frame<'_>);
    /// Where frames for one connection go, to send several in a row.
    #[inline(always)]
    fn line(&mut self, conn: ConnId) -> impl Line {
        (self, conn)
    }
    /// Closes a connection once its outbox is written. Of it follows only its `Closed`.
    fn close(&mut self, conn: ConnId);
    /// Tells the pool which kernel the attempts of a session run, and how long each may take. Once,
    /// before the first.
    fn prepare(&mut self, conn: ConnId, kernel: Arc<dyn Kernel>, timeout: Option<Duration>);
    /// Gives an attempt to the pool; answered by one `Completed` unless revoked. Roles call
    /// `submit_all`; this is what a sink without a better way for a row has to have.
    fn submit(&mut self, conn: ConnId, attempt: Attempt, input: Bytes<'_>);
    /// The same for attempts in a row.
    #[inline(always)]
    fn submit_all<'a>(&mut self, conn: ConnId, tasks: impl Iterator<Item = Task<'a>>) {
        tasks.for_each(|task| self.submit(conn, task.attempt, task.input));
    }
    /// Forgets a session in the pool: drops what has not started and asks what runs to stop.
    fn revoke(&mut self, conn: ConnId);
    /// Takes back what the pool has not started of a session: each comes back as `Completed` with
    /// the status `Returned`.
    fn recall(&mut self, conn: ConnId);
    /// Takes back one attempt that the pool has not started, as `recall` does; if it is `running`,
    /// asks it to stop when that is wanted, and then it comes back the same way. Nothing happens for
    /// one that the pool does not hold.
    fn cancel(&mut self, conn: ConnId, attempt: Attempt, running: bool);
    /// Whether the pool may start attempts of a session.
    fn pause(&mut self, conn: ConnId, paused: bool);
    /// Appends so many whole records to the journal; answered by `Recorded` in pieces.
    fn record(&mut self, records: &[u8], count: usize);
    /// Asks for the next piece of the job's input; answered by one `Input` or `InputFailed`. Not
    /// again before that.
    fn read(&mut self);
    /// Appends to the output; answered by `Written` in pieces.
    fn write(&mut self, bytes: &[u8]);
    /// Notes when an attempt ran, if a trace is wanted.
    fn trace(&mut self, _span: Span) {}
    /// Ends the driver after this turn.
    fn exit(&mut self, exit: Exit);
}

/// A [`Sink`] as far as it goes to one connection.
pub trait Line {
    /// Appends a frame to the connection's outbox.
    fn send(&mut self, frame: Frame<'_>);
}

impl<S: Sink + ?Sized> Line for (&mut S, ConnId) {
    #[inline(always)]
    fn send(&mut self, frame: Frame<'_>) {
        self.0.send(self.1, frame);
    }
}

/// How a program ends: the documented exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Every task done.
    Done,
    /// Head: some task failed for good, results differ from the serial run, or of the workers that
    /// were checked some cannot be used. Worker: no slot is left.
    Failed,
    /// Bad usage, or a key that cannot be used.
    Usage,
    /// No worker could be used.
    NoWorker,
    /// The journal does not fit: it is another job's or another input's, damaged, or in use. Or the
    /// input cannot be read.
    Journal,
    /// The output, the journal or a key could not be written, or no socket be opened.
    Output,
    /// Interrupted; what was done has been written. Worker: told to end a second time.
    Interrupted,
    /// The reader of standard output went away.
    ReaderGone,
}

impl Exit {
    /// The process' exit code.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::NoWorker => 3,
            Exit::Journal => 4,
            Exit::Output => 5,
            Exit::Interrupted => 130,
            Exit::ReaderGone => 141,
        }
    }
}

/// A state machine without sockets, clock or threads.
///
/// # What a driver promises
/// 1. Every [`Sink::dial`] gets exactly one [`Event::Opened`] or [`Event::DialFailed`].
/// 2. Every `Opened` gets exactly one [`Event::Closed`].
/// 3. After `Closed` nothing of that connection follows.
/// 4. The events of one connection arrive in order.
/// 5. `now` never goes back and is read once per turn.
///
/// A turn is any number of `handle` (or `handle_tasks`, `handle_outcomes`, `handle_completed`, each in
/// the place of as many), then `handle_timeout` if a deadline has passed, then `flush`.
pub trait Role {
    /// Takes note of an event; answers only what cannot wait.
    fn handle(&mut self, event: Event<'_>, now: Time, out: &mut impl Sink);
    /// Takes tasks that arrived in a row: as many as it likes, but none once it has closed the
    /// connection. Those that it leaves come as frames. (Tasks come by the million, and in a row much
    /// has to be asked only once.)
    fn handle_tasks<'a>(
        &mut self,
        _conn: ConnId,
        _tasks: impl Iterator<Item = Task<'a>>,
        _now: Time,
        _out: &mut impl Sink,
    ) {
    }
    /// The same for outcomes.
    fn handle_outcomes<'a>(
        &mut self,
        _conn: ConnId,
        _outcomes: impl Iterator<Item = Outcome<'a>>,
        _now: Time,
        _out: &mut impl Sink,
    ) {
    }
    /// Takes all that the pool has finished at once.
    #[inline(always)]
    fn handle_completed(&mut self, done: &[Execution], now: Time, out: &mut impl Sink) {
        for done in done {
            self.handle(Event::Completed(done), now, out);
        }
    }
    /// Does the work of the turn: delivers results, assigns tasks.
    fn flush(&mut self, now: Time, out: &mut impl Sink);
    /// When [`Role::handle_timeout`] wants to be called next. Calling early is harmless.
    fn next_deadline(&self) -> Option<Time>;
    /// Attempts that the pool owes it.
    fn awaited(&self) -> usize {
        0
    }
    /// What there is to see of the run, for a role that leads one.
    fn overview(&self, _now: Time) -> Option<Overview<'_>> {
        None
    }
    /// Does what is due. Afterwards `next_deadline()` is `None` or later than `now`.
    fn handle_timeout(&mut self, now: Time, out: &mut impl Sink);
}
