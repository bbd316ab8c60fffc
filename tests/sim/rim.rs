//! The reactor's twin: what stands between a role and the world.
//!
//! What it is: the connections of one process, with their real `Outbox` and `Decoder`, and the sink
//! its role answers into. What it is not: the order of a turn; that is in `node.rs`.
//!
//! Invariant: a role that asks for what the contract of `Sink` forbids fails the run at that call.

use std::collections::BTreeSet;
use std::sync::Arc;

use teamster::channel::{Channel, PLAIN_BYTES_MAX};
use teamster::frame::{Decoder, Frame, HEADER_BYTES, Outbox, Outcome, Side, Task};
use teamster::kernel::Kernel;
use teamster::limits::{OUTBOX_BYTES_MAX, USAGE_INTERVAL, USAGE_PAUSE};
use teamster::payload::Bytes;
use teamster::role::{Attempt, CloseReason, ConnId, Exit, Sink, Usage};
use teamster::time::{Duration, Time};

use crate::faults::Kind;
use crate::oracle;
use crate::pool::Pool;
use crate::world::{What, World, end_of};

/// A connection that is closed keeps trying to write what it has for so long.
const LINGER: Duration = Duration::from_secs(5);

/// What the world has to tell a process about connections.
#[derive(Clone, Copy, Debug)]
pub enum News {
    Opened {
        cable: usize,
        dial: Option<u32>,
    },
    DialFailed {
        dial: u32,
    },
    /// A frame of the head's that no head has sent.
    Cancel {
        conn: ConnId,
        attempt: Attempt,
        running: bool,
    },
}

pub struct Conn {
    pub id: ConnId,
    pub cable: usize,
    /// In a keyed run.
    pub channel: Option<Channel>,
    pub decoder: Option<Decoder>,
    pub outbox: Outbox,
    /// Bytes of the opening that are still in the outbox: the role does not hear of them.
    opening_left: usize,
    /// Written since the role was last told.
    pub sent: usize,
    /// Since when something has come in part, and no frame.
    pub partial_since: Option<Time>,
    /// The role asked for its end.
    pub closing: Option<Time>,
    /// It is over and the role is to be told.
    pub is_over: bool,
}

pub struct Rim {
    pub node: usize,
    pub side: Side,
    payload_bytes_max: usize,
    pub conns: Vec<Option<Conn>>,
    generations: Vec<u32>,
    pub news: Vec<News>,
    /// Asked for in this turn.
    pub dials: Vec<u32>,
    pub dialing: Vec<u32>,
    pub pool: Option<Pool>,
    /// Sessions the pool knows.
    pub prepared: BTreeSet<ConnId>,
    /// Output bytes: handed over in this turn, not written yet, written and not told.
    pub to_write: usize,
    pub unwritten: usize,
    pub written: usize,
    /// The role has asked for a piece of its input.
    is_reading: bool,
    /// Which is so long, and there.
    pub input: Option<usize>,
    /// Records that are durable and the role does not know yet.
    pub recorded: usize,
    /// When its process began: there its clock reads zero.
    pub born: Time,
    pub exit: Option<Exit>,
    /// It was told to end and the role does not know yet.
    pub interrupted: bool,
    pub muted_until: Time,
    pub busy_until: Time,
    pub turn_at: Option<Time>,
    /// When the role was last told what its process has had of its machine.
    measured_at: Time,
    /// What the role was told and what it answered, counted.
    pub told: u64,
    pub answered: u64,
    /// Turns that a deadline caused and in which nothing happened.
    pub idle_turns: u64,
}

impl Conn {
    /// Writes what the world takes.
    fn write(&mut self, end: usize, world: &mut World) {
        loop {
            let pending = match &mut self.channel {
                None => self.outbox.pending(),
                Some(channel) => channel.pending(&mut self.outbox),
            };
            let count = world.write(self.cable, end, pending);
            if count == 0 {
                return;
            }
            let sent = match &mut self.channel {
                None => self.outbox.consume(count),
                Some(channel) => channel.consume(count),
            };
            let opening = sent.min(self.opening_left);
            self.opening_left -= opening;
            self.sent += sent - opening;
        }
    }

    fn is_done(&self) -> bool {
        let is_sealed = |channel: &Channel| channel.has_pending(&self.outbox);
        self.outbox.is_empty() && !self.channel.as_ref().is_some_and(is_sealed)
    }
}

impl Rim {
    pub fn new(node: usize, side: Side, payload_bytes_max: usize, pool: Option<Pool>) -> Rim {
        Rim {
            node,
            side,
            payload_bytes_max,
            conns: Vec::new(),
            generations: Vec::new(),
            news: Vec::new(),
            dials: Vec::new(),
            dialing: Vec::new(),
            pool,
            prepared: BTreeSet::new(),
            to_write: 0,
            unwritten: 0,
            written: 0,
            is_reading: false,
            input: None,
            recorded: 0,
            born: Time::ZERO,
            exit: None,
            interrupted: false,
            muted_until: Time::ZERO,
            busy_until: Time::ZERO,
            turn_at: None,
            measured_at: Time::ZERO,
            told: 0,
            answered: 0,
            idle_turns: 0,
        }
    }

    /// What the process' clock reads.
    pub fn clock(&self, now: Time) -> Time {
        Time::ZERO + now.since(self.born)
    }

    /// When its clock will read so.
    pub fn world_time(&self, clock: Time) -> Time {
        self.born + clock.since(Time::ZERO)
    }

    /// When a role that waits for attempts is to be told what its process has had, if so many are
    /// about to be told.
    pub fn measure_at(&self, awaited: usize, finished: usize) -> Option<Time> {
        let wait = match finished < awaited {
            true => USAGE_INTERVAL,
            false => USAGE_PAUSE,
        };
        (awaited > 0).then_some(self.measured_at + wait)
    }

    /// What the process has had, which the role is about to be told.
    pub fn measure(&mut self, world: &World) -> Usage {
        self.measured_at = world.now;
        let pool = self.pool.as_mut().expect("workers have pools");
        pool.measure(world)
    }

    /// The piece of input that has come.
    pub fn take_input(&mut self) -> Option<usize> {
        let input = self.input.take();
        self.is_reading &= input.is_none();
        input
    }

    /// Has the process look around at `at`, or as soon as it can.
    pub fn wake(&mut self, at: Time, world: &mut World) {
        let at = at.max(world.now).max(self.busy_until).max(self.muted_until);
        if self.turn_at.is_none_or(|earlier| at < earlier) {
            self.turn_at = Some(at);
            world.push(at, What::Turn { node: self.node });
        }
    }

    /// Gives a connection the lowest free slot, as a slab does, and a generation of its own.
    pub fn open(&mut self, cable: usize, channel: Option<Channel>) -> ConnId {
        let free = self.conns.iter().position(Option::is_none);
        let slot = free.unwrap_or_else(|| {
            self.conns.push(None);
            self.generations.push(0);
            self.conns.len() - 1
        });
        self.generations[slot] += 1;
        let id = ConnId {
            slot: slot as u32,
            generation: self.generations[slot],
        };
        let (side, limit) = (self.side, self.payload_bytes_max);
        let (decoder, outbox, opening_left) = match channel {
            None => (Decoder::new(side, limit), Outbox::new(side), HEADER_BYTES),
            Some(_) => (
                Decoder::without_opening(side, limit),
                Outbox::without_opening(),
                0,
            ),
        };
        self.conns[slot] = Some(Conn {
            id,
            cable,
            channel,
            decoder: Some(decoder),
            outbox,
            opening_left,
            sent: 0,
            partial_since: None,
            closing: None,
            is_over: false,
        });
        id
    }

    /// The connection, if the role may still speak of it.
    pub fn live(&mut self, id: ConnId) -> Option<&mut Conn> {
        let conn = self.conns.get_mut(id.slot as usize)?.as_mut()?;
        (conn.id == id && conn.closing.is_none()).then_some(conn)
    }

    fn expect(&mut self, id: ConnId, call: &str) -> &mut Conn {
        let Some(conn) = self.live(id) else {
            crate::trace::fail("driver-contract", &format!("{call} on {id}, which is over"));
        };
        conn
    }

    /// What a connection that is being closed still hears is dropped, but for the handshake: its last
    /// words are sealed once that is over.
    pub fn shake_on(&mut self, slot: usize, world: &mut World) {
        let end = end_of(self.side);
        let conn = self.conns[slot].as_mut().expect("the caller has it");
        let channel = conn.channel.as_mut();
        let Some(channel) = channel.filter(|channel| channel.is_shaking_hands()) else {
            return;
        };
        if world.cables[conn.cable].pipes[end].is_readable(world.now) {
            let mut bytes = Vec::new();
            world.read(conn.cable, end, world.plan.read_budget, &mut bytes);
            let opened = channel.open(&mut &bytes[..], &mut [0; PLAIN_BYTES_MAX]);
            oracle!("right-bytes", opened.is_ok(), "{}: {opened:?}", conn.id);
        }
    }

    /// The write pass: outboxes into pipes, and the end of those that were closed.
    pub fn write_all(&mut self, world: &mut World) {
        let end = end_of(self.side);
        let mut wake_at = None;
        for conn in self.conns.iter_mut().flatten().filter(|conn| !conn.is_over) {
            conn.write(end, world);
            if conn.sent > 0 && conn.closing.is_none() {
                wake_at = Some(world.now);
            }
            if let Some(asked_at) = conn.closing {
                let until = asked_at + LINGER;
                if conn.is_done() || world.now >= until {
                    conn.is_over = true;
                    world.detach(conn.cable, end, CloseReason::Peer);
                    wake_at = Some(world.now);
                } else if wake_at.is_none_or(|at| until < at) {
                    wake_at = Some(until);
                }
            }
        }
        if let Some(at) = wake_at {
            self.wake(at, world);
        }
    }
}

/// The sink of one call of a role.
pub struct Deck<'a> {
    pub rim: &'a mut Rim,
    pub world: &'a mut World,
}

impl Deck<'_> {
    fn note(&mut self, what: &'static str, numbers: [u64; 3]) {
        self.rim.answered += 1;
        let (now, node) = (self.world.now, self.rim.node);
        self.world.trace.note(now, node, what, numbers);
    }
}

/// A frame in a few words.
pub fn label(frame: &Frame<'_>) -> (&'static str, u64, u64) {
    let of = |attempt: &Attempt| attempt.task << 8 | u64::from(attempt.number);
    match frame {
        Frame::Hello { .. } => ("Hello", 0, 0),
        Frame::Welcome {
            slots,
            credit_tasks,
            ..
        } => ("Welcome", u64::from(*slots), u64::from(*credit_tasks)),
        Frame::Refuse { reason, .. } => ("Refuse", 0, reason.len() as u64),
        Frame::Job {
            timeout_ms, setup, ..
        } => ("Job", u64::from(*timeout_ms), setup.len() as u64),
        Frame::Task(Task { attempt, input }) => ("Task", of(attempt), input.len() as u64),
        Frame::Outcome(Outcome {
            attempt, output, ..
        }) => ("Outcome", of(attempt), output.len() as u64),
        Frame::Ping => ("Ping", 0, 0),
        Frame::Pong => ("Pong", 0, 0),
        Frame::Drain => ("Drain", 0, 0),
        Frame::Cancel { attempt, running } => ("Cancel", of(attempt), u64::from(*running)),
        Frame::Slots { slots } => ("Slots", u64::from(*slots), 0),
        Frame::Usage { cpu_ms, waited_ms } => ("Usage", (*cpu_ms).into(), (*waited_ms).into()),
    }
}

impl Sink for Deck<'_> {
    fn dial(&mut self, dial: u32) {
        self.note("dial", [u64::from(dial), 0, 0]);
        let dialing = self.rim.dialing.contains(&dial);
        oracle!("driver-contract", !dialing, "{dial} dialled twice at once");
        self.rim.dialing.push(dial);
        self.rim.dials.push(dial);
    }

    fn send(&mut self, id: ConnId, frame: Frame<'_>) {
        let (kind, a, b) = label(&frame);
        self.note(kind, [u64::from(id.slot), a, b]);
        let side = self.rim.side;
        let conn = self.rim.expect(id, "send");
        let (cable, before) = (conn.cable, conn.outbox.pending_bytes());
        let added = conn.outbox.push(&frame);
        let after = conn.outbox.pending_bytes();
        oracle!(
            "wire-length",
            after - before == added && added == frame.encoded_bytes(),
            "{kind} says {} bytes and appends {}",
            frame.encoded_bytes(),
            after - before
        );
        oracle!(
            "bounds",
            before <= HEADER_BYTES || after <= OUTBOX_BYTES_MAX,
            "outbox of {id} holds {after} bytes"
        );
        self.world.ledger.sends(side, cable, &frame);
    }

    fn close(&mut self, id: ConnId) {
        self.note("close", [u64::from(id.slot), 0, 0]);
        let now = self.world.now;
        let side = self.rim.side;
        let conn = self.rim.expect(id, "close");
        conn.closing = Some(now);
        let cable = conn.cable;
        oracle!(
            "no-loss",
            self.world.cables[cable].is_struck,
            "{side} closes {id}, which no fault has touched"
        );
        self.world.ledger.session_over(side, cable);
    }

    fn prepare(&mut self, id: ConnId, kernel: Arc<dyn Kernel>, timeout: Option<Duration>) {
        self.note("prepare", [u64::from(id.slot), 0, 0]);
        self.rim.expect(id, "prepare");
        let is_first = self.rim.prepared.insert(id);
        oracle!("driver-contract", is_first, "{id} prepared twice");
        let pool = self.rim.pool.as_mut().expect("workers have pools");
        pool.prepare(id, kernel, timeout);
    }

    fn submit(&mut self, id: ConnId, attempt: Attempt, input: Bytes<'_>) {
        self.note("submit", [u64::from(id.slot), attempt.task, 0]);
        let conn = self.rim.expect(id, "submit");
        self.world.ledger.submits(conn.cable, attempt, &input);
        let is_prepared = self.rim.prepared.contains(&id);
        oracle!("driver-contract", is_prepared, "{id} is not prepared");
        let pool = self.rim.pool.as_mut().expect("workers have pools");
        pool.submit(id, attempt, input, self.world.now);
        let World {
            now,
            rng,
            weather,
            plan,
            ..
        } = &mut *self.world;
        if *now < weather[self.rim.node].cancelling && rng.chance(20) {
            let running = rng.chance(70);
            let us = rng.below(2 * plan.run_us);
            self.rim.news.push(News::Cancel {
                conn: id,
                attempt,
                running,
            });
            self.rim.wake(self.world.after_us(us), self.world);
            self.world.ledger.strike(Kind::Cancel, true);
        }
    }

    fn revoke(&mut self, id: ConnId) {
        self.note("revoke", [u64::from(id.slot), 0, 0]);
        // A session may also be revoked as the answer to its `Closed`.
        let pool = self.rim.pool.as_mut().expect("workers have pools");
        pool.revoke(id, self.world);
        self.rim.prepared.remove(&id);
    }

    fn recall(&mut self, id: ConnId) {
        self.note("recall", [u64::from(id.slot), 0, 0]);
        self.rim.expect(id, "recall");
        let pool = self.rim.pool.as_mut().expect("workers have pools");
        pool.recall(id);
    }

    fn cancel(&mut self, id: ConnId, attempt: Attempt, running: bool) {
        self.note(
            "cancel",
            [u64::from(id.slot), attempt.task, u64::from(running)],
        );
        self.rim.expect(id, "cancel");
        let pool = self.rim.pool.as_mut().expect("workers have pools");
        pool.cancel(id, attempt, running, self.world);
    }

    fn pause(&mut self, id: ConnId, paused: bool) {
        self.note("pause", [u64::from(id.slot), u64::from(paused), 0]);
        self.rim.expect(id, "pause");
        let pool = self.rim.pool.as_mut().expect("workers have pools");
        pool.pause(id, paused);
        self.world.ledger.pauses += u64::from(paused);
    }

    fn record(&mut self, records: &[u8], count: usize) {
        self.note("record", [records.len() as u64, count as u64, 0]);
        self.world.ledger.records.hand_over(records, count);
        if self.world.disk.append(records, count) {
            self.world.sync_later();
        }
    }

    fn read(&mut self) {
        self.note("read", [0; 3]);
        let is_first = !std::mem::replace(&mut self.rim.is_reading, true);
        oracle!("driver-contract", is_first, "it reads twice at once");
        let supply = self.world.plan.supply.as_ref();
        let us = supply.expect("its job is fed").wait_us_max;
        let us = self.world.rng.below(us + 1);
        let life = self.world.head_life;
        self.world
            .push(self.world.after_us(us), What::Input { life });
    }

    fn write(&mut self, bytes: &[u8]) {
        self.note("write", [bytes.len() as u64, 0, 0]);
        self.rim.to_write += bytes.len();
        self.rim.unwritten += bytes.len();
    }

    fn exit(&mut self, exit: Exit) {
        self.note("exit", [u64::from(exit.code()), 0, 0]);
        let is_first = self.rim.exit.replace(exit).is_none();
        oracle!("driver-contract", is_first, "two exits");
    }
}
