//! What will happen in a run, all of it drawn from one seed.
//!
//! What it is: the list of [`Fault`]s and [`Plan`]. What it is not: the doing; that is `fault.rs`.
//!
//! Invariant: the same seed gives the same plan.

use std::time::Duration;

use teamster::channel::IS_AVAILABLE;
use teamster::rng::SplitMix64;

use crate::job::Work;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A worker is killed with signal 9 and started again.
    Kill,
    /// So are both, at once.
    KillBoth,
    /// A worker is told to end, which it does in good order, and started again.
    Drain,
    /// A worker is stopped and goes on: too short to be lost, and long enough.
    Stop5,
    Stop15,
    /// The head is, for as long: what the workers sent meanwhile must be read before it judges them.
    StopHead,
    /// Its cable is out: long enough to be lost, and for its connection to be closed.
    Down20,
    Down90,
    /// See [`crate::proxy::Mode`].
    Delay,
    Reset,
    Cut,
    Stall,
    Dribble,
    Corrupt,
    /// A worker gets a tenth of a processor.
    Quota,
    /// A worker comes late.
    Join,
}

impl Fault {
    pub const ALL: [Fault; 16] = [
        Fault::Kill,
        Fault::KillBoth,
        Fault::Stop5,
        Fault::Stop15,
        Fault::StopHead,
        Fault::Down20,
        Fault::Down90,
        Fault::Delay,
        Fault::Reset,
        Fault::Cut,
        Fault::Stall,
        Fault::Dribble,
        Fault::Quota,
        Fault::Join,
        Fault::Drain,
        Fault::Corrupt,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::KillBoth => "killboth",
            Fault::Stop5 => "stop5",
            Fault::Stop15 => "stop15",
            Fault::StopHead => "stophead",
            Fault::Down20 => "down20",
            Fault::Down90 => "down90",
            Fault::Delay => "delay",
            Fault::Reset => "reset",
            Fault::Cut => "cut",
            Fault::Stall => "stall",
            Fault::Dribble => "dribble",
            Fault::Corrupt => "corrupt",
            Fault::Quota => "quota",
            Fault::Join => "join",
            Fault::Drain => "drain",
        }
    }

    /// Whether the head talks to the victim through the proxy.
    pub fn needs_proxy(self) -> bool {
        matches!(
            self,
            Fault::Delay
                | Fault::Reset
                | Fault::Cut
                | Fault::Stall
                | Fault::Dribble
                | Fault::Corrupt
        )
    }

    /// Whether it must not cost a single attempt: no worker is silent for 10 s, only slow.
    pub fn loses_nothing(self) -> bool {
        matches!(
            self,
            Fault::Stop5 | Fault::StopHead | Fault::Delay | Fault::Dribble | Fault::Quota
        )
    }

    /// Whether nobody may be blamed for it: the head prints what it counts against tasks.
    pub fn blames_nobody(self) -> bool {
        self == Fault::Drain
    }

    /// Shortest and longest time for which it lasts, in milliseconds.
    fn lasts_ms(self) -> (u64, u64) {
        match self {
            Fault::Kill | Fault::KillBoth | Fault::Drain => (0, 3_000),
            Fault::Stop5 => (5_000, 5_000),
            Fault::Stop15 | Fault::StopHead | Fault::Stall => (15_000, 15_000),
            Fault::Down20 => (20_000, 20_000),
            Fault::Down90 => (90_000, 90_000),
            Fault::Delay | Fault::Dribble | Fault::Corrupt => (3_000, 8_000),
            // Between the first and the second.
            Fault::Reset | Fault::Cut => (300, 2_000),
            Fault::Quota | Fault::Join => (0, 0),
        }
    }

    /// How long the job goes on after it, in milliseconds: the victim should be back in time.
    fn tail_ms(self) -> (u64, u64) {
        match self {
            // A retransmission may come as late as 13 s after the cable is in again.
            Fault::Down20 => (1_000, 16_000),
            Fault::Down90 => (3_000, 12_000),
            _ => (1_000, 5_000),
        }
    }
}

/// One run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub fault: Fault,
    /// Which worker.
    pub victim: usize,
    pub slots: [u32; 2],
    /// All have a key.
    pub is_keyed: bool,
    pub work: Work,
    /// When, from the start of the head.
    pub at: Duration,
    /// For how long.
    pub lasts: Duration,
    /// The second worker that is killed comes back later by this; a delay is so long; how it is cut;
    /// how often it changes bytes.
    pub extra_ms: u64,
    /// The head must have ended so long after its start.
    pub bound: Duration,
}

impl Plan {
    /// Draws one; `forced` names the fault, otherwise the seed chooses that too.
    pub fn new(seed: u64, forced: Option<Fault>) -> Plan {
        let count = Fault::ALL.len() as u64;
        let fault = forced.unwrap_or(Fault::ALL[(seed % count) as usize]);
        let mut rng = SplitMix64::new(seed);
        let mut between = |(low, high): (u64, u64)| low + rng.below(high - low + 1);
        let victim = between((0, 1)) as usize;
        let slots = [between((1, 3)) as u32, between((1, 3)) as u32];
        let at_ms = between((50, 3_000));
        let lasts_ms = between(fault.lasts_ms());
        let tail_ms = between(fault.tail_ms());
        let work_ms = between((5, 100));
        let extra_ms = between((20, 800));
        let can_compute = matches!(
            fault,
            Fault::Kill | Fault::KillBoth | Fault::Reset | Fault::Cut | Fault::Down20
        );
        let computes = fault == Fault::Quota || (can_compute && between((1, 100)) <= 25);
        let work = if computes {
            Work::Primes
        } else {
            // Both work before and after, the other one alone in between.
            let both = u64::from(slots[0] + slots[1]) * (at_ms + tail_ms);
            let alone = match fault {
                // Nobody is given anything.
                Fault::StopHead => 0,
                _ => u64::from(slots[1 - victim]) * lasts_ms,
            };
            let count = (both + alone) / work_ms;
            Work::Square { count, work_ms }
        };
        let lasts = Duration::from_millis(lasts_ms);
        // As if the slower worker did it alone, and the fault came on top. Then what a lost worker
        // costs: 10 s until it is noticed, up to 13 s until it is heard, and as much to spare.
        let worst = work.time(slots[0].min(slots[1])) + lasts;
        Plan {
            seed,
            fault,
            victim,
            slots,
            // Every other time around the faults; without a key nobody notices a changed byte.
            is_keyed: fault == Fault::Corrupt || (IS_AVAILABLE && seed / count % 2 == 1),
            work,
            at: Duration::from_millis(at_ms),
            lasts,
            extra_ms,
            bound: worst + Duration::from_secs(45),
        }
    }

    /// The same fault, drawn anew: for a run that does not count.
    pub fn again(&self) -> Plan {
        let seed = self.seed + 100_000 * Fault::ALL.len() as u64;
        Plan::new(seed, Some(self.fault))
    }

    /// How long it will last, so that long ones can be started first.
    pub fn time(&self) -> Duration {
        self.at + self.lasts + self.work.time(self.slots[0] + self.slots[1])
    }
}
