//! Everything that is not a process: the clock, the queue of what will happen, the network.
//!
//! What it is: one ordered queue over virtual time, the cables between head and workers, and the
//! weather that faults make. What it is not: a process; those are `Node`s, and the run has them.
//!
//! Invariant: the queue is ordered by time, then by the order of insertion, so that a seed is a run.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use teamster::channel::{Channel, PLAIN_BYTES_MAX};
use teamster::frame::Side;
use teamster::key::{KEY_BYTES, Key, Keys};
use teamster::rng::SplitMix64;
use teamster::role::CloseReason;
use teamster::time::{Duration, Time};

use crate::disk::Disk;
use crate::ledger::Ledger;
use crate::pipe::Pipe;
use crate::plan::{Plan, SLOW_NET_US_MAX, SYNC_US_MAX};
use crate::trace::Trace;

/// What will happen. Nodes are numbered: 0 is the head, the others are workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// A node looks around.
    Turn { node: usize },
    /// Bytes, or their end, reach an end of a cable.
    Arrival { cable: usize, end: usize },
    /// A pipe has room again for the end that writes.
    Space { cable: usize, end: usize },
    /// The kernel of a pool thread returns.
    Return {
        node: usize,
        life: u32,
        thread: usize,
        serial: u64,
    },
    /// A dial is decided.
    Dial { dial: u32, life: u32 },
    /// The output has taken so many bytes.
    Written { bytes: usize, life: u32 },
    /// The next piece of the head's input is there.
    Input { life: u32 },
    /// The disk has synced a batch, or begins with one.
    Sync { life: u32 },
    /// The head can be told of so many durable records.
    Recorded { count: usize, life: u32 },
    /// The next fault.
    Strike,
    /// A crashed worker starts again.
    Restart { node: usize },
    /// A stopped process goes on.
    Resume { node: usize },
    /// A pool thread comes to a task that kills the process.
    Kill {
        node: usize,
        life: u32,
        thread: usize,
        serial: u64,
    },
    /// All workers die for good.
    Gone,
    /// The head is told to end.
    Interrupt,
}

/// The ends of a cable.
pub fn end_of(side: Side) -> usize {
    match side {
        Side::Head => 0,
        Side::Worker => 1,
    }
}

/// What a connection is made of.
pub struct Cable {
    pub node: usize,
    /// The pipe that each end reads.
    pub pipes: [Pipe; 2],
    /// Which ends a process still has.
    pub attached: [bool; 2],
    pub line: Line,
    /// Some fault has touched it: only then may it be lost.
    pub is_struck: bool,
    /// A byte on it was changed.
    pub is_garbled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    Fine,
    /// Bytes vanish, and nobody says so.
    Dead,
    /// It is reset.
    Cut,
}

/// What faults do to one worker and the way to it, until when.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    pub is_down: bool,
    pub slow_network: Time,
    pub slow: Time,
    pub slow_factor: u64,
    pub failing: Time,
    pub refusing: Time,
    /// Some attempts take very long and do not heed a stop.
    pub hanging: Time,
    /// Some attempts are cancelled, though the head needs them and sends others.
    pub cancelling: Time,
    pub black_hole: Time,
    /// The black hole says that it could not run what it gets; otherwise that it failed.
    pub returns: bool,
    pub deaf: Time,
    /// Some fault has touched it: only then may it lose tasks.
    pub is_struck: bool,
}

pub struct World {
    pub now: Time,
    /// Which of the head's lives this is: what was under way in an earlier one comes to nothing.
    pub head_life: u32,
    pub plan: Plan,
    pub rng: SplitMix64,
    pub cables: Vec<Cable>,
    pub weather: Vec<Weather>,
    pub output_stalls: Time,
    pub disk: Disk,
    /// Where records are opened.
    pub plain: Vec<u8>,
    pub ledger: Ledger,
    pub trace: Trace,
    queue: BinaryHeap<Reverse<(Time, u64, What)>>,
    pushed: u64,
}

impl World {
    pub fn new(plan: Plan, prints: bool) -> World {
        World {
            now: Time::ZERO,
            head_life: 0,
            rng: SplitMix64::new(plan.seed),
            cables: Vec::new(),
            weather: vec![Weather::default(); plan.workers + 1],
            output_stalls: Time::ZERO,
            disk: Disk::new(&plan.tasks),
            plain: vec![0; if plan.is_keyed { PLAIN_BYTES_MAX } else { 0 }],
            ledger: Ledger::new(&plan),
            trace: Trace::new(prints),
            queue: BinaryHeap::new(),
            pushed: 0,
            plan,
        }
    }

    pub fn push(&mut self, at: Time, what: What) {
        self.pushed += 1;
        self.queue.push(Reverse((at, self.pushed, what)));
    }

    /// Advances the clock to what happens next.
    pub fn pop(&mut self) -> Option<What> {
        let Reverse((at, _, what)) = self.queue.pop()?;
        assert!(at >= self.now, "time does not go back");
        self.now = at;
        Some(what)
    }

    pub fn after_us(&self, us: u64) -> Time {
        self.now + Duration::from_micros(us)
    }

    /// From now on this worker and its connections may be lost.
    pub fn touch(&mut self, node: usize) {
        self.weather[node].is_struck = true;
        self.ledger.touched(node as u32 - 1);
        for cable in &mut self.cables {
            cable.is_struck |= cable.node == node;
        }
    }

    /// The disk takes its time, now and then much of it.
    pub fn sync_later(&mut self) {
        let us = match self.rng.chance(3) {
            true => self.rng.below(SYNC_US_MAX),
            false => self.rng.below(60_000),
        };
        let life = self.head_life;
        self.push(self.after_us(us), What::Sync { life });
    }

    /// One way to a worker, or back.
    pub fn delay_us(&mut self, node: usize) -> u64 {
        let latency_us = self.plan.latency_us;
        let us = latency_us + self.rng.below(latency_us + 1) / 2;
        if self.now < self.weather[node].slow_network {
            us + self.rng.below(SLOW_NET_US_MAX)
        } else {
            us
        }
    }

    /// Joins the head with a worker, or with nobody who listens.
    pub fn connect(&mut self, node: usize, is_deaf: bool) -> usize {
        let pipe_bytes = self.plan.pipe_bytes;
        self.cables.push(Cable {
            node,
            pipes: [Pipe::new(pipe_bytes), Pipe::new(pipe_bytes)],
            attached: [true, !is_deaf],
            line: Line::Fine,
            is_struck: is_deaf || self.now < self.weather[node].slow_network,
            is_garbled: false,
        });
        self.cables.len() - 1
    }

    /// Takes bytes from an end; returns how many.
    pub fn write(&mut self, cable: usize, from: usize, bytes: &[u8]) -> usize {
        let to = 1 - from;
        let node = self.cables[cable].node;
        let is_heard = self.cables[cable].attached[to];
        let space = self.cables[cable].pipes[to].space();
        let mut count = bytes.len().min(space);
        if bytes.is_empty() {
            return 0;
        }
        if self.cables[cable].line == Line::Cut || !is_heard {
            return bytes.len();
        }
        if count < bytes.len() {
            self.cables[cable].pipes[to].blocked = true;
        }
        if count == 0 {
            return 0;
        }
        if self.cables[cable].line == Line::Dead {
            self.cables[cable].pipes[to].swallow(&bytes[..count]);
            return count;
        }
        if self.rng.chance(self.plan.cut_percent) {
            count = 1 + self.rng.below(count as u64) as usize;
        }
        let us = self.delay_us(node);
        let at = self.after_us(us);
        let at = self.cables[cable].pipes[to].write(&bytes[..count], at);
        self.push(at, What::Arrival { cable, end: to });
        count
    }

    /// Reads at an end; tells the writer if it waited for the space.
    pub fn read(&mut self, cable: usize, end: usize, budget: usize, into: &mut Vec<u8>) {
        let pipe = &mut self.cables[cable].pipes[end];
        pipe.read(budget, into);
        if std::mem::take(&mut pipe.blocked) {
            let us = self.delay_us(self.cables[cable].node);
            let (at, end) = (self.after_us(us), 1 - end);
            self.push(at, What::Space { cable, end });
        }
    }

    /// A process lets go of its end; the other hears of it in time.
    pub fn detach(&mut self, cable: usize, end: usize, reason: CloseReason) {
        self.cables[cable].attached[end] = false;
        let other = 1 - end;
        if self.cables[cable].line == Line::Fine && self.cables[cable].attached[other] {
            self.finish(cable, other, reason);
        }
    }

    fn finish(&mut self, cable: usize, end: usize, reason: CloseReason) {
        let us = self.delay_us(self.cables[cable].node);
        let at = self.after_us(us);
        let at = self.cables[cable].pipes[end].finish(at, reason);
        self.push(at, What::Arrival { cable, end });
    }

    /// The network resets a connection.
    pub fn cut(&mut self, cable: usize) {
        for end in 0..2 {
            self.cables[cable].pipes[end].drop_transit();
            self.finish(
                cable,
                end,
                CloseReason::Broken("connection reset by peer".into()),
            );
        }
        self.cables[cable].line = Line::Cut;
        self.cables[cable].is_struck = true;
    }

    /// A byte that is written next changes on its way to `end`.
    pub fn garble(&mut self, cable: usize, end: usize) {
        self.cables[cable].pipes[end].garble = Some(self.rng.next());
        self.cables[cable].is_garbled = true;
    }

    /// The channel of a new connection, in a keyed run.
    pub fn channel(&mut self, side: Side) -> Option<Channel> {
        if !self.plan.is_keyed {
            return None;
        }
        let keys = Keys::from(Key::new([7; KEY_BYTES]));
        let secret = std::array::from_fn(|_| self.rng.below(256) as u8);
        Some(Channel::new(side, &keys, secret))
    }

    /// From now on bytes vanish both ways.
    pub fn deaden(&mut self, cable: usize) {
        for pipe in &mut self.cables[cable].pipes {
            pipe.drop_transit();
        }
        self.cables[cable].line = Line::Dead;
        self.cables[cable].is_struck = true;
    }

    /// The connections to a worker that both sides still have.
    pub fn cables_to(&self, node: usize) -> Vec<usize> {
        let is_its = |cable: &Cable| {
            cable.node == node && cable.line == Line::Fine && cable.attached == [true; 2]
        };
        (0..self.cables.len())
            .filter(|&i| is_its(&self.cables[i]))
            .collect()
    }
}
