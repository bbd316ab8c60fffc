//! What goes wrong.
//!
//! What it is: the kinds of faults, how each strikes a run, and how often each did. What it is not:
//! the plan, which says which kinds a seed has and when the calm begins.
//!
//! Invariant: no effect of a fault outlives the calm, except that a dead connection stays dead.

use teamster::role::CloseReason;
use teamster::time::Time;

use crate::plan::RESTART_US_MAX;
use crate::run::Run;
use crate::world::What;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Kind {
    /// A worker dies, and starts again with other slots.
    Crash,
    /// A worker is stopped and goes on.
    Mute,
    /// The head is.
    MuteHead,
    /// The bytes of a connection vanish from now on.
    HalfOpen,
    /// A connection is reset.
    Cut,
    /// Attempts take much longer.
    Slow,
    /// Attempts fail.
    Failure,
    /// A worker's connections are accepted, and nobody answers.
    NoGreeting,
    /// A worker refuses connections.
    Refused,
    /// Delays of seconds.
    SlowNet,
    /// The output takes nothing.
    Stall,
    /// A worker is stopped, for less than a peer may be silent.
    Pause,
    /// A worker answers everything at once, without running it.
    BlackHole,
    /// A worker is told to end, and starts again.
    Drain,
    /// Attempts do not end for long, nor when they are asked to stop.
    Hang,
    /// Attempts are cancelled.
    Cancel,
    /// The head dies, and another goes on with its journal.
    HeadCrash,
    /// A byte of a keyed session changes on its way.
    Garble,
    /// A task kills the worker that runs it.
    Poison,
    /// The head is told to end.
    Interrupt,
    /// All workers die and do not come back.
    Gone,
}

impl Kind {
    pub const ALL: [Kind; 21] = [
        Kind::Crash,
        Kind::Mute,
        Kind::MuteHead,
        Kind::HalfOpen,
        Kind::Cut,
        Kind::Slow,
        Kind::Failure,
        Kind::NoGreeting,
        Kind::Refused,
        Kind::SlowNet,
        Kind::Stall,
        Kind::Pause,
        Kind::BlackHole,
        Kind::Drain,
        Kind::Hang,
        Kind::Cancel,
        Kind::HeadCrash,
        Kind::Garble,
        Kind::Poison,
        Kind::Interrupt,
        Kind::Gone,
    ];

    /// Those that strike again and again in any run; the others have their place in the plan.
    pub const RECURRING: usize = 17;

    pub const NAMES: [&str; Kind::ALL.len()] = [
        "crash",
        "mute",
        "mute-head",
        "half-open",
        "cut",
        "slow",
        "failure",
        "no-greeting",
        "refused",
        "slow-net",
        "stall",
        "pause",
        "black-hole",
        "drain",
        "hang",
        "cancel",
        "head-crash",
        "garble",
        "poison",
        "interrupt",
        "gone",
    ];
}

/// How often each kind struck, and how often of these with an attempt in flight where it did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub all: [u64; Kind::ALL.len()],
    pub in_flight: [u64; Kind::ALL.len()],
}

impl Counts {
    pub fn add(&mut self, kind: Kind, in_flight: bool) {
        self.all[kind as usize] += 1;
        self.in_flight[kind as usize] += u64::from(in_flight);
    }

    pub fn merge(&mut self, other: &Counts) {
        for i in 0..Kind::ALL.len() {
            self.all[i] += other.all[i];
            self.in_flight[i] += other.in_flight[i];
        }
    }
}

impl Run {
    /// Draws the next fault and the time of the one after it.
    pub fn strike(&mut self) {
        let world = &mut self.world;
        if world.now >= world.plan.calm || world.plan.kinds.is_empty() {
            return;
        }
        let gap_us = world.plan.fault_gap_us;
        let us = 1_000 + world.rng.below(2 * gap_us);
        // While the head is stopped nothing new gets in flight.
        let at = world.after_us(us).max(self.head.rim.muted_until);
        world.push(at, What::Strike);
        let kinds = &world.plan.kinds;
        let kind = kinds[world.rng.below(kinds.len() as u64) as usize];
        let node = 1 + world.rng.below(world.plan.workers as u64) as usize;
        let numbers = [kind as u64, node as u64, 0];
        let now = world.now;
        world.trace.note(now, node, "strike", numbers);
        match kind {
            Kind::Crash => self.crash(node),
            Kind::Mute => self.mute(node),
            Kind::MuteHead => self.mute_head(),
            Kind::HalfOpen => self.half_open(node),
            Kind::Cut => self.cut(node, Kind::Cut),
            Kind::Pause => self.pause(node),
            Kind::BlackHole => self.black_hole(node),
            Kind::Drain => self.drain(node),
            // Counted where each attempt hangs.
            Kind::Hang => self.world.weather[node].hanging = self.until(100_000, 60_000_000),
            // Counted where each attempt is cancelled.
            Kind::Cancel => self.world.weather[node].cancelling = self.until(100_000, 60_000_000),
            Kind::HeadCrash => self.crash_head(),
            Kind::Garble => self.garble(node),
            Kind::Slow if now < world.weather[node].slow => {}
            Kind::Slow => {
                let until = self.until(1_000, 60_000_000);
                let factor = 10 + self.world.rng.below(91);
                self.count(Kind::Slow, node);
                self.world.weather[node].slow = until;
                self.world.weather[node].slow_factor = factor;
            }
            // Counted where each attempt fails.
            Kind::Failure => self.world.weather[node].failing = self.until(1_000, 30_000_000),
            // Counted where each dial meets it.
            Kind::NoGreeting => {
                self.cut(node, Kind::NoGreeting);
                self.world.weather[node].deaf = self.until(2_000_000, 30_000_000);
            }
            Kind::Refused => {
                self.cut(node, Kind::Refused);
                self.world.weather[node].refusing = self.until(1_000, 20_000_000);
            }
            Kind::SlowNet if now < world.weather[node].slow_network => {}
            Kind::SlowNet => {
                self.count(Kind::SlowNet, node);
                self.world.weather[node].slow_network = self.until(1_000, 20_000_000);
                self.world.touch(node);
            }
            Kind::Stall if now < world.output_stalls => {}
            Kind::Stall => {
                let in_flight = self.head.role.scheduler().counts().in_flight > 0;
                self.world.ledger.strike(Kind::Stall, in_flight);
                self.world.output_stalls = self.until(1_000_000, 90_000_000);
            }
            Kind::Poison | Kind::Interrupt | Kind::Gone => unreachable!("they do not recur"),
        }
    }

    /// A time from now, spread over the orders of magnitude, and not in the calm unless it is here.
    pub fn until(&mut self, low_us: u64, high_us: u64) -> Time {
        let us = crate::plan::logarithmic(&mut self.world.rng, low_us, high_us);
        let at = self.world.after_us(us).min(self.world.plan.calm);
        at.max(self.world.now)
    }

    fn count(&mut self, kind: Kind, node: usize) {
        let in_flight = self.head.role.scheduler().held_tasks(node as u32 - 1) > 0;
        self.world.ledger.strike(kind, in_flight);
    }

    fn crash(&mut self, node: usize) {
        if self.world.weather[node].is_down {
            return;
        }
        self.count(Kind::Crash, node);
        let is_silent = self.world.rng.chance(20);
        self.die(node, is_silent);
        let at = self.until(1_000, 20_000_000);
        self.world.push(at, What::Restart { node });
    }

    /// A task that a worker has just begun, or gone on with, kills it.
    pub fn poison(&mut self, node: usize, task: u64) {
        self.count(Kind::Poison, node);
        self.world.ledger.killed(node as u32 - 1, task);
        self.die(node, false);
        // Something starts it again, whether or not the calm has begun.
        let us = crate::plan::logarithmic(&mut self.world.rng, 1_000, RESTART_US_MAX);
        let at = self.world.after_us(us);
        self.world.push(at, What::Restart { node });
    }

    /// All workers are gone for good.
    pub fn gone(&mut self) {
        let in_flight = self.head.role.scheduler().counts().in_flight > 0;
        self.world.ledger.strike(Kind::Gone, in_flight);
        for node in 1..=self.world.plan.workers {
            let is_silent = self.world.rng.chance(20);
            self.die(node, is_silent);
        }
    }

    pub fn interrupt(&mut self) {
        let in_flight = self.head.role.scheduler().counts().in_flight > 0;
        self.world.ledger.strike(Kind::Interrupt, in_flight);
        self.head.rim.interrupted = true;
        self.head.rim.wake(self.world.now, &mut self.world);
    }

    /// The worker's process is no more.
    fn die(&mut self, node: usize, is_silent: bool) {
        self.world.touch(node);
        for cable in 0..self.world.cables.len() {
            let its = &self.world.cables[cable];
            if its.node == node && its.attached[1] {
                // A machine that loses its power does not say so.
                if is_silent {
                    self.world.deaden(cable);
                } else if self.world.rng.chance(50) {
                    self.world.cables[cable].pipes[0].drop_transit();
                }
                let reason = CloseReason::Broken("connection reset by peer".into());
                self.world.detach(cable, 1, reason);
                let side = teamster::frame::Side::Worker;
                self.world.ledger.session_over(side, cable);
            }
        }
        self.workers[node - 1] = None;
        self.world.weather[node].is_down = true;
    }

    /// One that has been told to end, and does.
    pub fn ended(&mut self, node: usize) {
        for cable in 0..self.world.cables.len() {
            let its = &self.world.cables[cable];
            if its.node == node && its.attached[1] {
                self.world.detach(cable, 1, CloseReason::Peer);
                let side = teamster::frame::Side::Worker;
                self.world.ledger.session_over(side, cable);
            }
        }
        self.workers[node - 1] = None;
        self.world.weather[node].is_down = true;
        let at = self.until(1_000, 20_000_000);
        self.world.push(at, What::Restart { node });
    }

    fn drain(&mut self, node: usize) {
        let Some(host) = self.workers[node - 1]
            .as_mut()
            .filter(|host| !host.is_draining)
        else {
            return;
        };
        host.is_draining = true;
        host.rim.interrupted = true;
        host.rim.wake(self.world.now, &mut self.world);
        self.count(Kind::Drain, node);
        self.world.touch(node);
    }

    /// Nothing is lost by it: the worker and its connections stay untouched.
    fn pause(&mut self, node: usize) {
        let is_up = |host: &crate::run::Host| host.rim.muted_until <= self.world.now;
        if !self.workers[node - 1].as_ref().is_some_and(is_up)
            || self.head.role.credit(node as u32 - 1).is_none()
        {
            return;
        }
        self.count(Kind::Pause, node);
        let until = self.until(1_000, 5_000_000);
        let worker = self.workers[node - 1].as_mut().expect("it is up");
        worker.rim.muted_until = until;
        self.world.push(until, What::Resume { node });
    }

    fn black_hole(&mut self, node: usize) {
        if self.world.now < self.world.weather[node].black_hole
            || self.world.plan.anchor == Some(node)
        {
            return;
        }
        self.count(Kind::BlackHole, node);
        self.world.weather[node].black_hole = self.until(1_000, 60_000_000);
        self.world.weather[node].returns = self.world.rng.chance(30);
    }

    /// Shorter than `LOST_AFTER`, between that and `CLOSE_AFTER`, or longer than both.
    fn mute_until(&mut self) -> Time {
        match self.world.rng.below(3) {
            0 => self.until(1_000, 9_000_000),
            1 => self.until(10_500_000, 50_000_000),
            _ => self.until(61_000_000, 100_000_000),
        }
    }

    fn mute(&mut self, node: usize) {
        let is_up = |host: &crate::run::Host| host.rim.muted_until <= self.world.now;
        if !self.workers[node - 1].as_ref().is_some_and(is_up) {
            return;
        }
        self.count(Kind::Mute, node);
        self.world.touch(node);
        let until = self.mute_until();
        let worker = self.workers[node - 1].as_mut().expect("it is up");
        worker.rim.muted_until = until;
        self.world.push(until, What::Resume { node });
    }

    fn mute_head(&mut self) {
        if self.world.now < self.head.rim.born {
            return;
        }
        let in_flight = self.head.role.scheduler().counts().in_flight > 0;
        self.world.ledger.strike(Kind::MuteHead, in_flight);
        for node in 1..=self.world.plan.workers {
            self.world.touch(node);
        }
        let until = self.mute_until();
        self.head.rim.muted_until = until;
        self.world.push(until, What::Resume { node: 0 });
    }

    fn half_open(&mut self, node: usize) {
        if let Some(&cable) = self.world.cables_to(node).last() {
            self.count(Kind::HalfOpen, node);
            self.world.touch(node);
            self.world.deaden(cable);
        }
    }

    /// Where the handshake is over: before, the head would take it for another key.
    fn garble(&mut self, node: usize) {
        if self.head.role.credit(node as u32 - 1).is_none() {
            return;
        }
        if let Some(&cable) = self.world.cables_to(node).last() {
            self.count(Kind::Garble, node);
            self.world.touch(node);
            let end = self.world.rng.below(2) as usize;
            self.world.garble(cable, end);
        }
    }

    fn cut(&mut self, node: usize, kind: Kind) {
        let cables = self.world.cables_to(node);
        if !cables.is_empty() && kind == Kind::Cut {
            self.count(kind, node);
        }
        self.world.touch(node);
        for cable in cables {
            self.world.cut(cable);
        }
    }
}
