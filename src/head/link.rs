//! One worker as the head sees it.
//!
//! What it is: the state of the connection to it, what it granted, and what it did so far. What it is
//! not: the attempts it holds; those are in the scheduler's table.
//!
//! Invariant: a link has a connection in `Greeting` and `Up` and in no other state.

use log::{Level, debug, log, warn};

use super::trust::{Outcomes, Trust};
use crate::depth::Depth;
use crate::frame::{FIXED_BYTES_MAX, Frame, HEADER_BYTES, Status};
use crate::limits::{OUTBOX_BYTES_LITTLE, OUTBOX_BYTES_MAX, PING_AFTER};
use crate::overview::Tally;
use crate::rng::Backoff;
use crate::role::{Attempt, ConnId, Line, Sink, Usage};
use crate::scheduler::Loss;
use crate::silence::Silence;
use crate::throttle::Throttle;
use crate::time::{Duration, Time};
use crate::words::tasks_go;

/// A worker this head was told of.
#[derive(Debug)]
pub(super) struct Link {
    pub name: String,
    pub state: State,
    pub backoff: Backoff,
    pub tally: Tally,
    /// As it said when it was last up; 0 before.
    pub slots: u16,
    /// Which process it was then.
    pub incarnation: Option<u64>,
    pub trust: Trust,
    pub outcomes: Outcomes,
    /// Breaches of the protocol since its last outcome that counted.
    pub breaches: u32,
    /// How long its kernels ran, in microseconds.
    pub run_us: u64,
    /// What its process had of its machine meanwhile, once it has said so.
    pub usage: Option<Usage>,
    /// How often it was found to be throttled.
    throttles: u32,
    /// For how long it was set aside at most.
    pub aside_max: Duration,
    pub sent_bytes: u64,
    /// Output bytes.
    pub received_bytes: u64,
    /// Slots times the time that they were there, in microseconds, until `slots_since`.
    slot_us: u64,
    slots_since: Time,
    outage: Outage,
    /// Why it is of no use; empty before anything was wrong with it, and once it is up.
    pub trouble: String,
}

/// What was said of a worker that cannot be used: each outage is worth one warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outage {
    /// Its first dial is not decided yet.
    Untried,
    /// It is, or was until now, of use.
    None,
    /// The user has been told.
    Said,
}

/// Where a link stands.
#[derive(Debug)]
pub(super) enum State {
    /// For its time to be dialled.
    Waiting,
    /// For the connection.
    Dialing,
    /// For the `Welcome`.
    Greeting {
        conn: ConnId,
        /// Bytes in the outbox.
        unsent_bytes: usize,
    },
    /// It takes tasks (unless it is lost).
    Up(Session),
    /// It will never take any.
    Barred,
}

/// A greeted connection.
#[derive(Debug)]
pub(super) struct Session {
    pub conn: ConnId,
    pub credit_tasks: u32,
    pub silence: Silence,
    pub depth: Depth,
    pub throttle: Throttle,
    /// It said that it is about to end.
    pub is_draining: bool,
    /// It has shown that it is of use: by an outcome, or by living on.
    pub is_proven: bool,
    /// Bytes in the outbox.
    pub unsent_bytes: usize,
    /// It said that its slots are not what they were.
    pub has_lost_slots: bool,
    /// It was asked for a sign of life then, and has not been heard since.
    pub probed_at: Option<Time>,
    /// It was last asked then to hand an attempt back.
    pub recalled_at: Time,
    slots: u16,
    /// As it said when it greeted; fewer compute while a kernel does not end.
    slots_max: u16,
    credit_bytes: u32,
}

impl Tally {
    #[inline(always)]
    pub(super) fn count(&mut self, status: Status) {
        match status {
            Status::Done => self.done += 1,
            Status::Failed | Status::TimedOut => self.failed += 1,
            Status::Returned => self.returned += 1,
        }
    }
}

impl Link {
    pub fn new(name: &str) -> Link {
        Link {
            name: name.to_owned(),
            state: State::Waiting,
            backoff: Backoff::new(),
            tally: Tally::default(),
            slots: 0,
            incarnation: None,
            trust: Trust::new(),
            outcomes: Outcomes::default(),
            breaches: 0,
            run_us: 0,
            usage: None,
            throttles: 0,
            aside_max: Duration::ZERO,
            sent_bytes: 0,
            received_bytes: 0,
            slot_us: 0,
            slots_since: Time::ZERO,
            outage: Outage::Untried,
            trouble: String::new(),
        }
    }

    pub fn conn(&self) -> Option<ConnId> {
        match &self.state {
            State::Greeting { conn, .. } => Some(*conn),
            State::Up(session) => Some(session.conn),
            State::Waiting | State::Dialing | State::Barred => None,
        }
    }

    pub fn session(&self) -> Option<&Session> {
        match &self.state {
            State::Up(session) => Some(session),
            _ => None,
        }
    }

    /// The session of a link that is up.
    pub fn up(&mut self) -> &mut Session {
        match &mut self.state {
            State::Up(session) => session,
            _ => unreachable!("a link in use is up"),
        }
    }

    /// Up, and neither lost nor draining nor set aside.
    pub fn is_usable(&self) -> bool {
        let is_there = |s: &Session| !s.silence.is_lost() && !s.is_draining;
        self.session().is_some_and(is_there) && !self.trust.is_aside()
    }

    /// Up and not lost, but about to end.
    pub fn is_ending(&self) -> bool {
        let is_there = |s: &Session| !s.silence.is_lost() && s.is_draining;
        self.session().is_some_and(is_there)
    }

    /// Usable, and more than a greeting.
    pub fn is_proven(&self) -> bool {
        self.is_usable() && self.session().is_some_and(|session| session.is_proven)
    }

    /// What it means for its tasks that it is lost now, for this `cause`.
    pub fn loss<'a>(&self, cause: &'a str) -> Loss<'a> {
        match self.session() {
            Some(session) if session.is_draining => Loss::Planned,
            // A kernel that did not end there may have killed it, though its attempt was answered:
            // nobody else is certainly to blame.
            Some(session) if session.slots < session.slots_max => {
                Loss::Unplanned { slots: 0, cause }
            }
            _ => Loss::Unplanned {
                slots: u32::from(self.slots),
                cause,
            },
        }
    }

    /// Its first dial is decided, one way or the other.
    pub fn was_tried(&self) -> bool {
        self.outage != Outage::Untried
    }

    /// It was greeted.
    pub fn came_up(&mut self, session: Session, slots: u16, now: Time) {
        self.slots = slots;
        self.slots_since = now;
        self.state = State::Up(session);
        self.outage = Outage::None;
        self.trouble.clear();
    }

    /// How long its slots have been there, summed.
    pub fn slot_time(&self, now: Time) -> Duration {
        let slots = self.session().map_or(0, |_| u32::from(self.slots));
        Duration::from_micros(self.slot_us) + now.since(self.slots_since) * slots
    }

    /// Its slots change now, or go.
    pub fn count_slot_time(&mut self, now: Time) {
        let us = self.slot_time(now).as_micros();
        self.slot_us = u64::try_from(us).unwrap_or(u64::MAX);
        self.slots_since = now;
    }

    /// It says what its process had of its machine since it last did.
    pub fn used(&mut self, cpu_ms: u32, waited_ms: u32, now: Time) {
        let usage = self.usage.get_or_insert_default();
        usage.cpu += Duration::from_millis(cpu_ms.into());
        usage.waited += Duration::from_millis(waited_ms.into());
        let session = self.up();
        if !session.throttle.note(cpu_ms, waited_ms, now) {
            return;
        }
        let is_throttled = session.throttle.is_throttled();
        session.depth.set_throttled(is_throttled);
        self.throttles += u32::from(is_throttled);
        // The first time aloud, and its end, as it may come and go.
        let level = match self.throttles {
            ..=1 => Level::Warn,
            _ => Level::Info,
        };
        let name = &self.name;
        match is_throttled {
            true => log!(
                level,
                "worker {name} is throttled: most of the time it waits for a processor, and it gets \
                 less to do; is it limited, or is its machine busy with something else?"
            ),
            false => log!(level, "worker {name} gets its processors again"),
        }
    }

    /// It will not be of use, which the user has been told.
    pub fn bar(&mut self, reason: &str) {
        self.state = State::Barred;
        self.outage = Outage::Said;
        self.trouble = reason.to_owned();
    }

    /// Tells the user that it could not run an attempt: the first time aloud.
    pub fn say_returned(&mut self, attempt: Attempt, reason: &str) {
        let level = match self.tally.returned {
            0 => Level::Warn,
            _ => Level::Debug,
        };
        log!(
            level,
            "worker {} could not run task {}: {reason}",
            self.name,
            attempt.task
        );
    }

    /// Tells the user that it cannot be used now: the first time aloud, then for those who debug.
    pub fn say_lost(&mut self, reason: &str, returned: usize) {
        let name = &self.name;
        match self.outage {
            Outage::Said => debug!("worker {name} still cannot be used: {reason}"),
            Outage::Untried => {
                warn!("worker {name} cannot be used yet: {reason}; it is tried again");
            }
            Outage::None if returned == 0 => {
                warn!("worker {name} is gone: {reason}; it is dialled again");
            }
            Outage::None => {
                let tasks = tasks_go(returned as u64);
                warn!("worker {name} is gone: {reason}; {tasks} elsewhere");
            }
        }
        self.outage = Outage::Said;
        self.trouble = reason.to_owned();
    }
}

impl Session {
    pub fn new(
        conn: ConnId,
        slots: u16,
        tasks: u32,
        bytes: u32,
        unsent_bytes: usize,
        now: Time,
    ) -> Session {
        Session {
            conn,
            credit_tasks: tasks,
            silence: Silence::new(PING_AFTER, now),
            depth: Depth::new(slots, tasks, now),
            throttle: Throttle::new(now),
            is_draining: false,
            is_proven: false,
            unsent_bytes,
            has_lost_slots: false,
            slots_max: slots,
            probed_at: None,
            recalled_at: now,
            slots,
            credit_bytes: bytes,
        }
    }

    /// How many of its slots are held by kernels that do not end.
    pub fn slots_hung(&self) -> u16 {
        self.slots_max.saturating_sub(self.slots)
    }

    /// It computes with another number of threads from now on.
    pub fn set_slots(&mut self, slots: u16) {
        self.slots = slots;
        self.depth.set_slots(slots);
    }

    #[inline(always)]
    pub fn send(&mut self, frame: Frame<'_>, out: &mut impl Sink) {
        let conn = self.conn;
        self.send_on(frame, &mut out.line(conn));
    }

    /// The same for one of several in a row.
    #[inline(always)]
    pub fn send_on(&mut self, frame: Frame<'_>, line: &mut impl Line) {
        self.unsent_bytes += frame.encoded_bytes();
        line.send(frame);
    }

    /// How many attempts it should hold: one per slot, or its depth.
    pub fn tasks_wanted(&mut self, is_ahead: bool, now: Time) -> u32 {
        if is_ahead {
            self.depth.tasks(now)
        } else {
            self.credit_tasks.min(u32::from(self.slots))
        }
    }

    /// The same for a task to one that could hold more of them.
    #[inline(always)]
    pub fn may_hold(&self, held_tasks: u32, held_bytes: usize, input_bytes: usize) -> bool {
        assert!(held_tasks < self.credit_tasks, "credit is a promise");
        self.has_room(held_tasks, held_bytes, input_bytes)
    }

    /// Whether it may be sent a task with so many input bytes. A worker that holds nothing takes any
    /// task, and an outbox with little in it any frame.
    #[inline(always)]
    pub fn has_room(&self, held_tasks: u32, held_bytes: usize, input_bytes: usize) -> bool {
        let fits_credit = held_tasks == 0 || held_bytes + input_bytes <= self.credit_bytes as usize;
        let frame_bytes = HEADER_BYTES + FIXED_BYTES_MAX + input_bytes;
        let fits_outbox = self.unsent_bytes < OUTBOX_BYTES_LITTLE
            || self.unsent_bytes + frame_bytes <= OUTBOX_BYTES_MAX;
        fits_credit && fits_outbox
    }
}
