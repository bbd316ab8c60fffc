//! One worker that is checked.
//!
//! What it is: how far it has got, what it said and did, and what its silence or its end means in
//! words. What it is not: what moves it on.
//!
//! Invariant: a defect says what is wrong and what to do about it.

use crate::format::printable;
use crate::frame::Frame;
use crate::limits::CHECK_ANSWER_TIMEOUT;
use crate::rate::Rate;
use crate::role::{CloseReason, ConnId, Sink};
use crate::time::{Duration, Time};
use crate::words::{Bytes, PerTime, count};

/// What a worker that can be used said and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// As it says itself.
    pub release: String,
    /// Tasks it runs at once.
    pub slots: u16,
    /// Tasks that one head may have sent it.
    pub credit_tasks: u32,
    /// The bytes of their inputs.
    pub credit_bytes: u32,
    /// From a `Ping` to its `Pong`, the median of a few.
    pub round_trip: Duration,
    /// Empty tasks while the other workers did the same; `None` if next to none were answered.
    pub rate: Option<Rate>,
}

impl Finding {
    /// All of it in words, with what only the caller knows.
    pub fn words(&self, has_key: bool, kernel: &str) -> String {
        let key = if has_key { "key" } else { "no key" };
        let us = self.round_trip.as_micros();
        let rate = match self.rate {
            Some(rate) => format!("{} tasks of {kernel}", PerTime(rate)),
            None => format!("too busy to answer tasks of {kernel} at once"),
        };
        format!(
            "release {}, {key}, {}, credit {} and {}, round trip {}.{:02} ms, {rate}",
            printable(self.release.as_bytes()),
            count(self.slots.into(), "slot"),
            count(self.credit_tasks.into(), "task"),
            Bytes(self.credit_bytes.into()),
            us / 1000,
            us / 10 % 100
        )
    }
}

/// One worker.
pub(super) struct Subject {
    pub name: String,
    pub stage: Stage,
    /// Bytes in its outbox.
    pub unsent_bytes: usize,
    pub owes_pong: bool,
}

pub(super) enum Stage {
    Dialing,
    Greeting(ConnId),
    /// It was welcomed; `sent_at` is when the `Ping` was that has no `Pong` yet.
    Pinging {
        conn: ConnId,
        finding: Finding,
        trips: Vec<Duration>,
        sent_at: Time,
    },
    /// It can be used and waits for the others, so that their tasks do not slow its pongs.
    Waiting {
        conn: ConnId,
        finding: Finding,
    },
    Measuring {
        conn: ConnId,
        finding: Finding,
        in_flight: u32,
        /// When the first outcomes came; before that is the way there and back, not throughput.
        began_at: Option<Time>,
        /// Outcomes after those.
        tasks: u64,
    },
    /// The time is over; what was sent comes back, or the worker would complain of a lost head.
    Draining {
        conn: ConnId,
        finding: Finding,
        in_flight: u32,
    },
    Usable(Finding),
    Defective(String),
}

impl Subject {
    /// One that is about to be dialled.
    pub fn new(name: String) -> Subject {
        Subject {
            name,
            stage: Stage::Dialing,
            unsent_bytes: 0,
            owes_pong: false,
        }
    }

    pub fn send(&mut self, conn: ConnId, frame: Frame<'_>, out: &mut impl Sink) {
        self.unsent_bytes += frame.encoded_bytes();
        out.send(conn, frame);
    }

    pub fn conn(&self) -> Option<ConnId> {
        match self.stage {
            Stage::Greeting(conn)
            | Stage::Pinging { conn, .. }
            | Stage::Waiting { conn, .. }
            | Stage::Measuring { conn, .. }
            | Stage::Draining { conn, .. } => Some(conn),
            Stage::Dialing | Stage::Usable(_) | Stage::Defective(_) => None,
        }
    }

    /// Whether it is known that it can be used, or that it cannot.
    pub fn is_reached(&self) -> bool {
        !matches!(
            self.stage,
            Stage::Dialing | Stage::Greeting(_) | Stage::Pinging { .. }
        )
    }

    fn port(&self) -> &str {
        self.name.rsplit(':').next().expect("there is always one")
    }

    /// What its silence means, `CHECK_ANSWER_TIMEOUT` after the dial.
    pub fn silence(&self) -> String {
        let (within, port) = (CHECK_ANSWER_TIMEOUT.as_secs(), self.port());
        match self.stage {
            Stage::Greeting(_) => format!(
                "it took the connection, but no greeting came within {within} s: is it a worker that \
                 listens on port {port}, and is that running, not stopped?"
            ),
            Stage::Pinging { .. } => format!(
                "it greeted, but did not answer further within {within} s: is its machine \
                 overloaded, or the network between?"
            ),
            _ => format!(
                "no answer within {within} s: is the machine up, does a firewall let port {port} \
                 through?"
            ),
        }
    }

    /// What it means that its connection has ended.
    pub fn end(&self, reason: &CloseReason) -> String {
        match (reason, &self.stage) {
            (CloseReason::Protocol(_), _) | (_, Stage::Greeting(_)) => reason.advice(false),
            _ => format!("{reason} in the middle of the check; see what it says on its machine"),
        }
    }
}
