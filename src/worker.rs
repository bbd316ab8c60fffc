//! The worker's side of every session, without sockets, clock or threads.
//!
//! What it is: a [`Role`] that greets heads, hands their tasks to the pool and sends each outcome
//! to the session it came from. What it is not: the pool, or a scheduler; attempts run in the order
//! in which they come.
//!
//! Invariants: every `Task` is answered by exactly one `Outcome` unless its session ends; no
//! session holds more than the credit it was given; the outcome of a session that is over is
//! dropped.

mod attempts;
mod session;

use std::collections::BTreeSet;
use std::{iter, slice};

use log::{debug, error, info, warn};

use crate::conns::Conns;
use crate::format::printable;
use crate::frame::{Frame, Refusal, Task};
use crate::kernel::Kernels;
use crate::limiter::RateLimiter;
use crate::limits::{
    CONNECTIONS_MAX, CREDIT_BYTES, CREDIT_TASKS, GRACE_DEFAULT, GREETING_TIMEOUT,
    OUTBOX_BYTES_HIGH, PING_HEAD_AFTER, STRANGER_LINES_INTERVAL, STRANGER_LINES_MAX,
};
use crate::role::{Attempt, CloseReason, ConnId, Event, Execution, Exit, Role, Sink, Usage};
use crate::silence::{Passed, Silence};
use crate::time::{Duration, Time, Timers};
use crate::words::count;
use session::{Phase, Refused, Session};

/// What a worker is told when it starts.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Threads that compute.
    pub slots: u16,
    /// Longest input and output, in bytes.
    pub payload_bytes_max: usize,
    /// Attempts one session may hold.
    pub credit_tasks: u32,
    /// Input bytes one session may hold.
    pub credit_bytes: u32,
    /// What it can compute.
    pub kernels: Kernels,
    /// How long kernels may go on once it is told to end.
    pub grace: Duration,
    /// Drawn at random when the process begins.
    pub incarnation: u64,
}

impl WorkerConfig {
    /// The defaults of `limits.rs`, for `slots` threads.
    pub fn new(slots: u16, kernels: Kernels) -> WorkerConfig {
        WorkerConfig {
            slots,
            payload_bytes_max: crate::limits::PAYLOAD_BYTES_DEFAULT,
            credit_tasks: CREDIT_TASKS,
            credit_bytes: CREDIT_BYTES,
            kernels,
            grace: GRACE_DEFAULT,
            incarnation: 0,
        }
    }
}

/// The worker.
#[derive(Debug)]
pub struct Worker {
    config: WorkerConfig,
    /// Threads that compute now.
    slots: u16,
    sessions: Conns<Session>,
    timers: Timers<Timer>,
    /// As last measured.
    usage: Usage,
    /// What is said of peers that have not greeted.
    strangers: RateLimiter,
    /// It is about to end, with this.
    ending: Option<Exit>,
    /// And waits for nothing any more.
    is_out_of_time: bool,
    /// Sessions that were sent a `Ping` this turn.
    pongs_due: Vec<ConnId>,
}

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// A session's greeting, or its next threshold of silence.
    Session(ConnId),
    /// The end of the time to finish what runs.
    Grace,
    /// There is room to say how many strangers nothing was said of.
    LeftOut,
}

impl Worker {
    /// A worker without sessions.
    pub fn new(config: WorkerConfig) -> Worker {
        assert!(config.slots > 0, "a worker has at least one slot");
        Worker {
            slots: config.slots,
            config,
            sessions: Conns::new(),
            timers: Timers::new(),
            usage: Usage::default(),
            strangers: RateLimiter::new(STRANGER_LINES_MAX, STRANGER_LINES_INTERVAL),
            ending: None,
            is_out_of_time: false,
            pongs_due: Vec::new(),
        }
    }

    /// Attempts and input bytes held of each session, for the simulator's ledger.
    pub fn held(&mut self) -> impl Iterator<Item = (ConnId, u32, usize)> {
        let sessions = self.sessions.iter_mut();
        sessions.map(|(conn, session)| (conn, session.tasks, session.bytes))
    }

    fn opened(&mut self, conn: ConnId, peer: &str, now: Time, out: &mut impl Sink) {
        let until = now + GREETING_TIMEOUT;
        let session = Session {
            peer: peer.to_owned(),
            phase: Phase::Greeting { until },
            silence: Silence::new(PING_HEAD_AFTER, now),
            tasks: 0,
            bytes: 0,
            unsent_bytes: 0,
            unwanted: BTreeSet::new(),
            paused: false,
            told: Usage::default(),
        };
        self.sessions.insert(conn, session);
        self.timers.set(Timer::Session(conn), until);
        if self.ending.is_some() {
            self.refuse(conn, &Refused::busy("it is about to end".into()), now, out);
        }
    }

    /// A head has proven itself, and is served if there is room. Those that have not take no room
    /// here: how many of them there are is the driver's to bound.
    fn greeted(
        &mut self,
        conn: ConnId,
        payload_max: u32,
        now: Time,
        out: &mut impl Sink,
    ) -> Result<(), Refused> {
        let sessions = self.sessions.iter_mut();
        if sessions.filter(|(_, s)| s.is_proven()).count() >= CONNECTIONS_MAX {
            return Err(Refused::busy(format!(
                "it serves {CONNECTIONS_MAX} connections already"
            )));
        }
        let session = self.sessions.get_mut(conn).expect("its frame was for it");
        let ours = self.config.payload_bytes_max;
        session.phase = Phase::Welcomed {
            payload_bytes_max: ours.min(payload_max as usize),
        };
        session.silence = Silence::new(PING_HEAD_AFTER, now);
        self.timers.set(Timer::Session(conn), session.deadline());
        let welcome = Frame::Welcome {
            slots: self.slots,
            credit_tasks: self.config.credit_tasks,
            credit_bytes: self.config.credit_bytes,
            payload_max: ours as u32,
            incarnation: self.config.incarnation,
            release: env!("CARGO_PKG_VERSION"),
        };
        session.send(conn, welcome, out);
        Ok(())
    }

    #[cold]
    fn frame(
        &mut self,
        conn: ConnId,
        frame: &Frame<'_>,
        now: Time,
        out: &mut impl Sink,
    ) -> Result<(), Refused> {
        let Some(session) = self.sessions.get_mut(conn) else {
            return Ok(());
        };
        match (&session.phase, *frame) {
            (
                Phase::Greeting { .. },
                Frame::Hello {
                    payload_max,
                    release,
                },
            ) => {
                let release = printable(release.as_bytes());
                debug!("head {} runs release {release}", session.peer);
                self.greeted(conn, payload_max, now, out)
            }
            (
                &Phase::Welcomed { payload_bytes_max },
                Frame::Job {
                    timeout_ms,
                    kernel,
                    setup,
                },
            ) => {
                let opened = self.config.kernels.open(kernel, setup);
                let refused = |reason| Refused {
                    refusal: Refusal::Job,
                    reason,
                };
                let timeout = Duration::from_millis(timeout_ms.into());
                let timeout = (timeout_ms > 0).then_some(timeout);
                out.prepare(conn, opened.map_err(refused)?, timeout);
                info!("head {} sends tasks for kernel {kernel}", session.peer);
                session.phase = Phase::Working { payload_bytes_max };
                session.told = self.usage;
                Ok(())
            }
            (Phase::Working { .. }, Frame::Cancel { attempt, running }) => {
                // It gives credit back; a head that reads no answers gets none for cancelling.
                if session.unsent_bytes <= OUTBOX_BYTES_HIGH {
                    session.cancelled(attempt);
                    out.cancel(conn, attempt, running);
                }
                Ok(())
            }
            (Phase::Welcomed { .. } | Phase::Working { .. }, Frame::Ping) => {
                // Else it would wake once more, to find that there was no silence.
                self.timers.set(Timer::Session(conn), session.deadline());
                if self.pongs_due.last() != Some(&conn) {
                    self.pongs_due.push(conn);
                }
                Ok(())
            }
            (Phase::Welcomed { .. } | Phase::Working { .. }, Frame::Pong) => Ok(()),
            (_, frame) => Err(Refused::untimely(frame.kind())),
        }
    }

    /// Tells the heads that wait for something.
    fn measured(&mut self, usage: Usage, out: &mut impl Sink) {
        self.usage = usage;
        let sessions = self.sessions.iter_mut();
        for (conn, session) in sessions.filter(|(_, session)| session.tasks > 0) {
            session.tell_usage(conn, usage, out);
        }
    }

    fn sent(&mut self, conn: ConnId, bytes: usize, out: &mut impl Sink) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        session.unsent_bytes -= bytes;
        session.pause_or_resume(conn, out);
    }

    fn heard(&mut self, conn: ConnId, now: Time, out: &mut impl Sink) {
        if let Some(session) = self.sessions.get_mut(conn)
            && session.silence.heard(now)
        {
            info!("head {} is heard again", session.peer);
            self.timers.set(Timer::Session(conn), session.deadline());
            session.pause_or_resume(conn, out);
        }
    }

    /// Whether to say how a session has ended. Who has greeted is never left out; the others could
    /// fill a disk with lines.
    fn may_say(&mut self, session: &Session, now: Time) -> bool {
        if session.is_proven() {
            return true;
        }
        let admitted = self.strangers.admit(now);
        if let Err(until) = admitted {
            self.timers.set(Timer::LeftOut, until);
        }
        admitted.is_ok()
    }

    fn closed(&mut self, conn: ConnId, reason: &CloseReason, now: Time, out: &mut impl Sink) {
        let Some(session) = self.end(conn, out) else {
            return;
        };
        if !self.may_say(&session, now) {
            return;
        }
        match reason {
            CloseReason::Protocol(_) => warn!("connection from {} closed: {reason}", session.peer),
            _ if session.wanted_tasks() > 0 => warn!(
                "head {} is gone ({reason}); {} dropped",
                session.peer,
                count(session.wanted_tasks() as u64, "task")
            ),
            _ => info!("head {} is gone ({reason})", session.peer),
        }
    }

    fn refuse(&mut self, conn: ConnId, refused: &Refused, now: Time, out: &mut impl Sink) {
        let Some(mut session) = self.end(conn, out) else {
            return;
        };
        let Refused { refusal, reason } = refused;
        if self.may_say(&session, now) {
            warn!("head {} turned away: {reason}", session.peer);
        }
        let (refusal, reason) = (*refusal, crate::frame::cut(reason));
        session.send(conn, Frame::Refuse { refusal, reason }, out);
        out.close(conn);
    }

    /// Forgets a session and has the pool forget it.
    fn end(&mut self, conn: ConnId, out: &mut impl Sink) -> Option<Session> {
        let session = self.sessions.remove(conn)?;
        self.timers.cancel(Timer::Session(conn));
        if matches!(session.phase, Phase::Working { .. }) {
            out.revoke(conn);
        }
        Some(session)
    }

    fn overdue(&mut self, conn: ConnId, now: Time, out: &mut impl Sink) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        if let Phase::Greeting { until } = session.phase {
            assert!(now >= until, "the timer is the greeting's");
            let session = self.end(conn, out).expect("it was just there");
            if self.may_say(&session, now) {
                warn!(
                    "connection from {} closed: no greeting within {} s",
                    session.peer,
                    GREETING_TIMEOUT.as_secs()
                );
            }
            out.close(conn);
            return;
        }
        while let Some(passed) = session.silence.check(now) {
            match passed {
                Passed::Ask => session.send(conn, Frame::Ping, out),
                Passed::Lost => {
                    warn!(
                        "head {} is silent; nothing more is started for it",
                        session.peer
                    );
                    session.pause_or_resume(conn, out);
                }
                Passed::Close => {
                    let tasks = count(session.tasks.into(), "task");
                    warn!("head {} stayed silent; {tasks} dropped", session.peer);
                    self.end(conn, out);
                    out.close(conn);
                    return;
                }
            }
        }
        self.timers.set(Timer::Session(conn), session.deadline());
    }

    /// Begins to end: tells the heads, hands back what has not started, lets the rest finish.
    fn drain(&mut self, exit: Exit, now: Time, out: &mut impl Sink) {
        if self.ending.is_some() {
            return;
        }
        self.ending = Some(exit);
        let mut held = 0;
        for (conn, session) in self.sessions.iter_mut() {
            held += session.tasks;
            if session.is_proven() {
                session.send(conn, Frame::Drain, out);
            }
            if matches!(session.phase, Phase::Working { .. }) {
                out.recall(conn);
            }
        }
        let grace = self.config.grace;
        self.timers.set(Timer::Grace, now + grace);
        if held > 0 {
            info!(
                "about to end: what runs has {} s to finish",
                grace.as_secs()
            );
        }
    }

    /// A kernel that does not end takes its thread with it; without any left the worker is of no
    /// use, which its supervisor can mend by starting it again.
    fn slots_changed(&mut self, count: u16, hung: Option<Attempt>, now: Time, out: &mut impl Sink) {
        let total = self.config.slots;
        match hung {
            Some(attempt) => warn!(
                "task {} does not stop although its time is over; slots left: {count} of {total}",
                attempt.task
            ),
            None => info!("a kernel has stopped after all; slots: {count} of {total}"),
        }
        self.slots = count;
        if self.ending.is_some() {
            return;
        }
        if count == 0 {
            error!("no slot is left: this worker ends (exit code 1), to be started again");
            return self.drain(Exit::Failed, now, out);
        }
        for (conn, session) in self.sessions.iter_mut() {
            if session.is_proven() {
                session.send(conn, Frame::Slots { slots: count }, out);
            }
        }
    }

    /// Once a worker that is about to end has answered everything, it closes its sessions, and ends
    /// with the last of them, or when its time is over.
    fn end_if_drained(&mut self, out: &mut impl Sink) {
        let Some(exit) = self.ending else {
            return;
        };
        let sessions = self.sessions.iter_mut();
        let idle = sessions.filter(|(_, s)| s.tasks == 0 && s.unsent_bytes == 0);
        let idle: Vec<ConnId> = idle.map(|(conn, _)| conn).collect();
        for conn in idle {
            self.end(conn, out);
            out.close(conn);
        }
        if self.sessions.count() == 0 || self.is_out_of_time {
            out.exit(exit);
        }
    }
}

impl Role for Worker {
    #[inline(always)]
    fn handle(&mut self, event: Event<'_>, now: Time, out: &mut impl Sink) {
        match event {
            Event::Opened { conn, peer, .. } => self.opened(conn, peer, now, out),
            Event::Heard { conn } => self.heard(conn, now, out),
            Event::Frame { conn, frame } => {
                let taken = match *frame {
                    Frame::Task(task) => self.tasks(conn, iter::once(task), out),
                    _ => self.frame(conn, frame, now, out),
                };
                if let Err(refused) = taken {
                    self.refuse(conn, &refused, now, out);
                }
            }
            Event::Sent { conn, bytes } => self.sent(conn, bytes, out),
            Event::Closed { conn, reason } => self.closed(conn, &reason, now, out),
            Event::Completed(done) => self.completed(slice::from_ref(done), out),
            Event::Measured(usage) => self.measured(usage, out),
            Event::Slots { count, hung } => self.slots_changed(count, hung, now, out),
            Event::Interrupted => self.drain(Exit::Done, now, out),
            Event::DialFailed { .. }
            | Event::Input { .. }
            | Event::InputFailed { .. }
            | Event::Written { .. }
            | Event::OutputFailed { .. }
            | Event::Recorded { .. }
            | Event::JournalFailed { .. } => {
                unreachable!("a worker neither dials nor reads nor writes")
            }
        }
    }

    #[inline(always)]
    fn handle_tasks<'a>(
        &mut self,
        conn: ConnId,
        tasks: impl Iterator<Item = Task<'a>>,
        now: Time,
        out: &mut impl Sink,
    ) {
        if let Err(refused) = self.tasks(conn, tasks, out) {
            self.refuse(conn, &refused, now, out);
        }
    }

    #[inline(always)]
    fn handle_completed(&mut self, done: &[Execution], _: Time, out: &mut impl Sink) {
        self.completed(done, out);
    }

    fn flush(&mut self, _now: Time, out: &mut impl Sink) {
        // One Pong per turn and none into a full outbox: a peer that asks without reading the
        // answers cannot make it grow.
        for conn in self.pongs_due.drain(..) {
            if let Some(session) = self.sessions.get_mut(conn)
                && session.unsent_bytes < OUTBOX_BYTES_HIGH
            {
                session.send(conn, Frame::Pong, out);
            }
        }
        self.end_if_drained(out);
    }

    fn awaited(&self) -> usize {
        let sessions = self.sessions.values();
        sessions.map(|session| session.tasks as usize).sum()
    }

    fn next_deadline(&self) -> Option<Time> {
        self.timers.next()
    }

    fn handle_timeout(&mut self, now: Time, out: &mut impl Sink) {
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Session(conn) => self.overdue(conn, now, out),
                Timer::LeftOut => {
                    let (count, seconds) = self.strangers.take_left_out(now);
                    warn!(
                        "connections that came to nothing before they greeted, in the last \
                         {seconds} s: {count} more"
                    );
                }
                Timer::Grace => {
                    let held: u32 = self.sessions.iter_mut().map(|(_, s)| s.tasks).sum();
                    // With nothing held only a head that does not read keeps a session open.
                    if held > 0 {
                        let (tasks, after) = (count(held.into(), "task"), self.config.grace);
                        warn!(
                            "{tasks} still running after {} s: ending all the same",
                            after.as_secs()
                        );
                    }
                    self.is_out_of_time = true;
                }
            }
        }
    }
}
