//! The one thread that touches sockets: a hand-written event loop on mio.
//!
//! What it is: the driver of a [`Role`], reading top to bottom in `Reactor::turn`. It keeps the
//! five promises written there. What it is not: aware of tasks; it moves frames, and hands the rest
//! to the pool, the output, the journal and the look-ups, which are the only other threads.
//!
//! Invariants: each socket is registered once, for both directions, edge-triggered; its readiness is
//! two sticky bits that `WouldBlock` clears, or a read that leaves room. Nothing blocks but `poll`,
//! and that only until the next named deadline: there is no tick. A slot is freed at the end of a
//! turn and nowhere else.

mod accepting;
mod computing;
mod connection;
mod dialing;
mod helpers;
mod lookup;
mod outlet;
mod reading;
mod status;
mod watching;

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::sync::Arc;
use std::time::Instant;

use mio::net::{TcpStream, UnixStream};
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;

use crate::channel::{Channel, PLAIN_BYTES_MAX};
use crate::frame::Side;
use crate::gauge::Gauge;
use crate::input::Input;
use crate::key::Keys;
use crate::keyfile;
use crate::limits::{
    DIAL_TIMEOUT, LINGER_TIMEOUT, OUTBOX_BYTES_LITTLE, READ_BUFFER_BYTES, STALL_TIMEOUT,
    STOPPED_AFTER, USAGE_PAUSE,
};
use crate::mailbox::{Mailbox, Notice};
use crate::output::Output;
use crate::pool::{Pool, Reports};
use crate::progress::Progress;
use crate::recorder::Recorder;
use crate::role::{CloseReason, ConnId, Event, Exit, Role};
use crate::supervisor::Supervisor;
use crate::time::{Duration, Time, Timers};
use crate::trace::Trace;
use accepting::Listener;
use connection::{Connection, Stage};
use lookup::Lookups;
pub use lookup::{Target, addresses};
use outlet::{Notes, Outlet};
use status::{Status, VISITORS};

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
const SIGNALS: Token = Token(usize::MAX - 2);

/// The reactor of one role.
pub struct Reactor {
    poll: Poll,
    events: Events,
    waker: Arc<Waker>,
    mailbox: Mailbox,
    start: Instant,
    side: Side,
    payload_bytes_max: usize,
    /// With some every connection is a keyed one, and has a secret of its own from the file.
    keys: Option<(Keys, File)>,
    conns: Slab<Connection>,
    generation: u32,
    listener: Option<Listener>,
    lookups: Option<Lookups>,
    signals: Option<UnixStream>,
    supervisor: Option<Supervisor>,
    /// A signal has arrived and the role does not know it yet.
    is_interrupted: bool,
    pool: Option<Pool>,
    gauge: Option<Gauge>,
    /// When the role was last told of it.
    measured_at: Time,
    /// And how soon it is told again at the earliest.
    measure_pause: Duration,
    input: Option<Input>,
    output: Option<Output>,
    /// Written to the output before the run, and not yet acknowledged.
    ahead_bytes: usize,
    journal: Option<Recorder>,
    trace: Option<Trace>,
    progress: Option<Progress>,
    status: Option<Status>,
    timers: Timers<Deadline>,
    /// Slots that may have something to read.
    read_list: Vec<usize>,
    notes: Notes,
    /// Slots to free at the end of the turn, and what to tell the role of them.
    doomed: Vec<(usize, Option<CloseReason>)>,
    /// The next turn has work already.
    is_busy: bool,
    read_buffer: Box<[u8]>,
    /// Where records are opened.
    plain_buffer: Box<[u8]>,
    reports: Reports,
    notices: Vec<Notice>,
}

/// What the reactor itself waits for; everything else is the role's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Deadline {
    /// A name look-up, until the dial has failed.
    Lookup(u32),
    /// A connect, or the end of a connection that was closed.
    Conn(ConnId),
    /// A frame that has begun must have got on.
    Progress(ConnId),
    /// A socket that took nothing more must take something.
    Stall(ConnId),
    /// Accepting goes on.
    Accept,
    /// There is room to say how many were turned away without a word.
    LeftOut,
    /// How far the run is, is due to be said.
    Redraw,
    /// A visitor of the status page must have gone.
    Visitor(usize),
    /// The supervisor wants a sign of life.
    Alive,
}

impl Reactor {
    /// A reactor for a role that plays `side`, with payloads up to `payload_bytes_max`.
    ///
    /// # Errors
    /// If the system refuses an epoll instance or an eventfd.
    pub fn new(side: Side, payload_bytes_max: usize) -> io::Result<Reactor> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        Ok(Reactor {
            poll,
            events: Events::with_capacity(1024),
            mailbox: Mailbox::new(Arc::clone(&waker)),
            waker,
            start: Instant::now(),
            side,
            payload_bytes_max,
            keys: None,
            conns: Slab::new(),
            generation: 0,
            listener: None,
            lookups: None,
            signals: None,
            supervisor: None,
            is_interrupted: false,
            pool: None,
            gauge: None,
            measured_at: Time::ZERO,
            measure_pause: USAGE_PAUSE,
            input: None,
            output: None,
            ahead_bytes: 0,
            journal: None,
            trace: None,
            progress: None,
            status: None,
            timers: Timers::new(),
            read_list: Vec::new(),
            notes: Notes::default(),
            doomed: Vec::new(),
            is_busy: false,
            read_buffer: vec![0; READ_BUFFER_BYTES].into(),
            plain_buffer: Box::default(),
            reports: Reports::default(),
            notices: Vec::new(),
        })
    }

    /// Has every connection from now on be sealed with the first of these keys if it is dialled, and
    /// with any of them if it is accepted.
    ///
    /// # Errors
    /// If the system gives no randomness.
    pub fn set_keys(&mut self, keys: Keys) -> io::Result<()> {
        // Opened once: no descriptor may be left when a connection needs some.
        self.keys = Some((keys, keyfile::randomness()?));
        self.plain_buffer = vec![0; PLAIN_BYTES_MAX].into();
        Ok(())
    }

    /// Says what the role's dials mean: indices into `targets`.
    pub fn set_targets(&mut self, targets: Vec<Target>) {
        self.lookups = Some(Lookups::new(targets, self.mailbox.clone()));
    }

    /// Says where signals arrive, as bytes: the role is told that it is interrupted.
    ///
    /// # Errors
    /// If the system refuses to watch it.
    pub fn watch_signals(&mut self, signals: std::os::unix::net::UnixStream) -> io::Result<()> {
        signals.set_nonblocking(true)?;
        let mut signals = UnixStream::from_std(signals);
        let registry = self.poll.registry();
        registry.register(&mut signals, SIGNALS, Interest::READABLE)?;
        self.signals = Some(signals);
        Ok(())
    }

    /// Drives `role` until it exits. Its time begins now.
    ///
    /// # Errors
    /// If polling itself fails.
    pub fn run(&mut self, role: &mut impl Role) -> io::Result<Exit> {
        self.start = Instant::now();
        self.say_alive(Time::ZERO);
        loop {
            self.turn(role)?;
            let Some(exit) = self.notes.exit else {
                continue;
            };
            // Connections that are being closed get their time: their peers' last frames depend
            // on it. No new ones, or they might come for ever.
            self.listener = None;
            let is_closing =
                |(_, c): (usize, &Connection)| matches!(c.stage, Stage::Closing { .. });
            if !self.conns.iter().any(is_closing) {
                return Ok(exit);
            }
        }
    }

    /// One turn of the loop.
    fn turn(&mut self, role: &mut impl Role) -> io::Result<()> {
        let now = self.wait(role)?;
        self.accept(role, now);
        self.finish_dials(role, now);
        self.read(role, now);
        self.take_reports(role, now);
        self.take_notices(role, now);
        self.take_signals(role, now);
        self.receive_visitors(role, now);
        self.time_out(role, now);
        self.write(role, now);
        role.flush(now, &mut self.outlet());
        self.record();
        self.add_to_trace();
        self.submit(now);
        self.write(role, now);
        self.submit(now);
        self.dial(role, now);
        self.reap(role, now);
        Ok(())
    }

    /// Sleeps until something happens or the next deadline is due; returns the time.
    fn wait(&mut self, role: &impl Role) -> io::Result<Time> {
        let deadlines = [
            role.next_deadline(),
            self.timers.next(),
            self.next_check(),
            self.next_measure(role),
        ];
        let next = deadlines.into_iter().flatten().min();
        let timeout = match std::mem::take(&mut self.is_busy) || !self.read_list.is_empty() {
            true => Some(Duration::ZERO),
            false => next.map(|at| at.since(self.now())),
        };
        let was_interrupted = !self.poll(timeout)?;
        let now = self.now();
        let is_late = next.is_some_and(|at| now > at + STOPPED_AFTER);
        if was_interrupted || is_late {
            // This process was stopped. Its peers have gone on talking, and must be heard before
            // their silence is judged.
            self.poll(Some(Duration::ZERO))?;
            return Ok(self.now());
        }
        Ok(now)
    }

    /// Polls once and notes what became ready; false if a signal came first.
    fn poll(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {
                self.note_readiness();
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn outlet(&mut self) -> Outlet<'_> {
        Outlet {
            conns: &mut self.conns,
            notes: &mut self.notes,
            input: self.input.as_ref(),
            output: self.output.as_ref(),
        }
    }

    /// Turns events into sticky bits and entries in the lists. Events are hints: a stale one for a
    /// slot that was reused costs one `WouldBlock`.
    fn note_readiness(&mut self) {
        for event in &self.events {
            match event.token() {
                WAKER => {}
                SIGNALS => self.is_interrupted = true,
                LISTENER => {
                    if let Some(listener) = &mut self.listener {
                        listener.readable = true;
                    }
                }
                token if token.0 + 1 >= VISITORS => {
                    if let Some(status) = &mut self.status {
                        status.note(token);
                    }
                }
                Token(slot) => {
                    let Some(connection) = self.conns.get_mut(slot) else {
                        continue;
                    };
                    if event.is_readable() || event.is_error() || event.is_read_closed() {
                        connection.readable = true;
                        connection.is_ending |= event.is_error() || event.is_read_closed();
                        if !std::mem::replace(&mut connection.in_read_list, true) {
                            self.read_list.push(slot);
                        }
                    }
                    if event.is_writable() || event.is_error() || event.is_write_closed() {
                        connection.writable = true;
                        if !std::mem::replace(&mut connection.in_write_list, true) {
                            self.notes.write_list.push(slot);
                        }
                    }
                }
            }
        }
    }

    fn register(&mut self, stream: TcpStream, stage: Stage) -> io::Result<usize> {
        self.generation = self.generation.wrapping_add(1);
        let (side, limit) = (self.side, self.payload_bytes_max);
        let channel = match &mut self.keys {
            None => None,
            Some((keys, random)) => {
                let mut secret = [0; 32];
                random.read_exact(&mut secret)?;
                Some(Channel::new(side, keys, secret))
            }
        };
        let connection = Connection::new(stream, self.generation, stage, side, limit, channel);
        let slot = self.conns.insert(connection);
        let registered = self.poll.registry().register(
            &mut self.conns[slot].stream,
            Token(slot),
            Interest::READABLE | Interest::WRITABLE,
        );
        if registered.is_err() {
            self.conns.remove(slot);
        }
        registered.map(|()| slot)
    }

    fn opened(
        &mut self,
        conn: ConnId,
        dial: Option<u32>,
        peer: &str,
        role: &mut impl Role,
        now: Time,
    ) {
        let slot = conn.slot as usize;
        if !std::mem::replace(&mut self.conns[slot].in_write_list, true) {
            // The opening waits to be written.
            self.notes.write_list.push(slot);
        }
        role.handle(Event::Opened { conn, dial, peer }, now, &mut self.outlet());
    }

    fn take_signals(&mut self, role: &mut impl Role, now: Time) {
        if !std::mem::take(&mut self.is_interrupted) {
            return;
        }
        let mut bytes = [0; 64];
        let signals = self.signals.as_mut().expect("an event came from it");
        // Until it would block, or else there is no next edge.
        while signals.read(&mut bytes).is_ok_and(|count| count > 0) {}
        // From now on its port is its successor's.
        self.listener = None;
        if let Some(supervisor) = &self.supervisor {
            supervisor.stopping();
        }
        role.handle(Event::Interrupted, now, &mut self.outlet());
    }

    /// Does what is due, the reactor's and the role's.
    fn time_out(&mut self, role: &mut impl Role, now: Time) {
        while let Some(deadline) = self.timers.pop_due(now) {
            match deadline {
                Deadline::Accept => {
                    self.look_for_visitors();
                    if let Some(listener) = &mut self.listener {
                        listener.is_paused = false;
                        self.is_busy = true;
                    }
                }
                Deadline::LeftOut => self.say_left_out(now),
                Deadline::Redraw => self.tell_progress(role, now),
                Deadline::Visitor(slot) => self.dismiss_visitor(slot),
                Deadline::Alive => self.say_alive(now),
                Deadline::Lookup(dial) => {
                    self.dial_failed(dial, "its name could not be looked up in time", role, now);
                }
                Deadline::Progress(conn) => self.check_progress(conn, now),
                Deadline::Stall(conn) => self.check_stall(conn, now),
                Deadline::Conn(conn) => {
                    let slot = conn.slot as usize;
                    if let Stage::Connecting { .. } = self.conns[slot].stage {
                        let reason =
                            format!("no answer to connect within {} s", DIAL_TIMEOUT.as_secs());
                        self.connect_failed(slot, &reason, role, now);
                    } else {
                        self.doom(slot, None);
                    }
                }
            }
        }
        if role.next_deadline().is_some_and(|at| at <= now) {
            role.handle_timeout(now, &mut self.outlet());
            let next = role.next_deadline();
            assert!(
                next.is_none_or(|at| at > now),
                "a deadline that is due again spins"
            );
        }
    }

    /// Writes what waits on the connections of the write list, as far as their sockets take it.
    fn write(&mut self, role: &mut impl Role, now: Time) {
        let mut list = std::mem::take(&mut self.notes.write_list);
        for slot in list.drain(..) {
            let connection = &mut self.conns[slot];
            connection.in_write_list = false;
            if !matches!(connection.stage, Stage::Open | Stage::Closing { .. }) {
                continue;
            }
            match connection.write() {
                Err(reason) => self.doom(slot, Some(reason)),
                Ok(bytes) => {
                    let conn = connection.id(slot);
                    let is_stuck = connection.has_pending();
                    let was_stuck = std::mem::replace(&mut connection.is_stuck, is_stuck);
                    if was_stuck && !is_stuck {
                        self.timers.cancel(Deadline::Stall(conn));
                    } else if is_stuck && (!was_stuck || bytes > 0) {
                        self.timers.set(Deadline::Stall(conn), now + STALL_TIMEOUT);
                    }
                    if connection.is_open() && bytes > 0 {
                        // A role that waited for room gets another turn to use it.
                        self.is_busy |= bytes >= OUTBOX_BYTES_LITTLE;
                        role.handle(Event::Sent { conn, bytes }, now, &mut self.outlet());
                    }
                    self.close_if_asked(conn, role, now);
                }
            }
        }
        // For its memory: nothing else is allocated in a turn.
        list.append(&mut self.notes.write_list);
        self.notes.write_list = list;
    }

    /// Ends a connection whose peer may well talk but does not read: what waits for it would wait for
    /// ever. A socket that takes bytes by now, as after a pause of this process, is yet to be tried.
    fn check_stall(&mut self, conn: ConnId, now: Time) {
        let slot = conn.slot as usize;
        if self.conns[slot].writable {
            return self.timers.set(Deadline::Stall(conn), now + STALL_TIMEOUT);
        }
        let seconds = STALL_TIMEOUT.as_secs();
        let reason = format!("it took nothing of what was sent to it for {seconds} s");
        self.doom(slot, Some(CloseReason::Broken(reason)));
    }

    /// The second step of a close, once everything is written: the role is told, and the peer gets
    /// time to read.
    fn close_if_asked(&mut self, conn: ConnId, role: &mut impl Role, now: Time) {
        let slot = conn.slot as usize;
        let connection = &mut self.conns[slot];
        let is_done = connection.is_done();
        let Stage::Closing { is_told, is_shut } = &mut connection.stage else {
            return;
        };
        let was_told = std::mem::replace(is_told, true);
        if !*is_shut && is_done {
            *is_shut = true;
            // If it fails the connection is broken, which the next read will tell.
            let _ = connection.stream.shutdown(std::net::Shutdown::Write);
        }
        if !was_told {
            self.timers.set(Deadline::Conn(conn), now + LINGER_TIMEOUT);
            let reason = CloseReason::Asked;
            role.handle(Event::Closed { conn, reason }, now, &mut self.outlet());
        }
    }

    /// Marks a connection for the end of the turn. `reason` is what the role is told, unless it was
    /// told already.
    fn doom(&mut self, slot: usize, reason: Option<CloseReason>) {
        let connection = &mut self.conns[slot];
        let conn = connection.id(slot);
        for deadline in [Deadline::Progress, Deadline::Stall, Deadline::Conn] {
            self.timers.cancel(deadline(conn));
        }
        let reason = match std::mem::replace(&mut connection.stage, Stage::Doomed) {
            Stage::Doomed => return,
            Stage::Connecting { .. } => None,
            Stage::Open => reason.map(|reason| connection.explain(reason)),
            Stage::Closing { is_told, .. } => (!is_told).then_some(CloseReason::Asked),
        };
        self.doomed.push((slot, reason));
    }

    /// Frees the doomed connections and tells the role.
    fn reap(&mut self, role: &mut impl Role, now: Time) {
        for (slot, reason) in std::mem::take(&mut self.doomed) {
            // There is room to accept, or something the role may do about it.
            self.is_busy = true;
            let mut connection = self.conns.remove(slot);
            let conn = connection.id(slot);
            // Closing the descriptor deregisters it, too; an error here changes nothing.
            let _ = self.poll.registry().deregister(&mut connection.stream);
            self.read_list.retain(|&other| other != slot);
            self.notes.write_list.retain(|&other| other != slot);
            if let Some(reason) = reason {
                role.handle(Event::Closed { conn, reason }, now, &mut self.outlet());
            }
        }
    }
}

#[cfg(test)]
mod tests;
