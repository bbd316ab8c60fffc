//! The head's side of every session, without sockets, clock or threads.
//!
//! What it is: a [`Role`] that dials the workers, keeps their sessions, fills them with attempts and
//! hands the outcomes to the job. What it is not: the table of tasks ([`Scheduler`]), or the job.
//!
//! Invariants: every worker it was told of is in exactly one state (`link.rs`); nothing is assigned
//! to a worker that is not usable, or beyond its credit; the run ends, with an exit that says how.

mod link;
mod outcome;
mod overview;
mod replay;
mod session;
mod tail;
mod tracing;
mod trust;
mod work;

use std::iter;

use log::{error, warn};

use crate::conns::Conns;
use crate::failures::Failures;
use crate::frame::{Frame, Outcome};
use crate::kernel::Workload;
use crate::limits::{
    ATTEMPTS_DEFAULT, DOUBTS_MAX, GIVE_UP_DEFAULT, GREETING_TIMEOUT, PAYLOAD_BYTES_DEFAULT,
    SETTLE_TIMEOUT, TROUBLES_MAX,
};
use crate::overview::{Overview, Tally};
use crate::rate::Meter;
use crate::rng::SplitMix64;
use crate::role::{ConnId, Event, Exit, Role, Sink, Span};
use crate::scheduler::Scheduler;
use crate::time::{Duration, Time, Timers};
use crate::words::count;

pub use crate::scheduler::Misfit;
use link::{Link, State};
use trust::Outcomes;
use work::Gaps;

/// What idle workers may do for the others at the end of a run; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Relief {
    /// Nothing.
    None,
    /// Take over what has not started.
    HandBack,
    /// Run what is late a second time.
    Duplicate,
}

/// What a head is told when it starts.
#[derive(Clone, Debug)]
pub struct HeadConfig {
    /// The workers' names, for messages; their positions are what it dials.
    pub workers: Vec<String>,
    /// Longest input and output, in bytes.
    pub payload_bytes_max: usize,
    /// Deliver in input order.
    pub ordered: bool,
    /// Without any usable worker for so long, or with none that does more than greet: give up.
    pub give_up: Duration,
    /// Losses while running at which a task is given up; at least 1.
    pub attempts_max: u32,
    /// How often a task that failed is tried again.
    pub retries: u32,
    /// Failed tasks above which the run is ended early.
    pub failures_max: Option<u64>,
    /// Whether it then waits for what is in flight.
    pub ends_softly: bool,
    /// How long a kernel may run for one attempt, in whole milliseconds.
    pub timeout: Option<Duration>,
    /// Whether outcomes are recorded before they are delivered.
    pub is_journalled: bool,
    /// What may be done only to end sooner.
    pub relief: Relief,
    /// Whether it is noted when each attempt ran.
    pub is_traced: bool,
    /// For the jitter of the back-off.
    pub seed: u64,
}

impl HeadConfig {
    /// The defaults of `limits.rs` for these workers.
    pub fn new(workers: Vec<String>) -> HeadConfig {
        HeadConfig {
            workers,
            payload_bytes_max: PAYLOAD_BYTES_DEFAULT,
            ordered: true,
            give_up: GIVE_UP_DEFAULT,
            attempts_max: ATTEMPTS_DEFAULT,
            retries: 0,
            failures_max: None,
            ends_softly: false,
            timeout: None,
            is_journalled: false,
            relief: Relief::Duplicate,
            is_traced: false,
            seed: 0,
        }
    }
}

/// The head of one run.
#[derive(Debug)]
pub struct Head<W> {
    config: HeadConfig,
    workload: W,
    /// The workload has no more tasks.
    exhausted: bool,
    supply: Supply,
    scheduler: Scheduler,
    links: Vec<Link>,
    /// Which link a connection is.
    conns: Conns<u32>,
    timers: Timers<Timer>,
    rng: SplitMix64,
    /// Links that were sent a `Ping` this turn.
    pongs_due: Vec<u32>,
    /// Where the next turn begins to assign, so that none is always served first.
    first_link: usize,
    settled: bool,
    /// Nothing more is sent; the run ends with what is in flight.
    is_halting: bool,
    window_full_said: bool,
    /// Outcomes of all workers.
    outcomes: Outcomes,
    /// Some worker has a strike against it.
    has_strikes: bool,
    /// Until when workers that are not there are waited for to judge a doubt. `None` before anyone had
    /// to, and since the latest of them came.
    judges_until: Option<Time>,
    /// Output bytes handed over and not yet written.
    unwritten_bytes: usize,
    /// How, and when.
    ended: Option<(Exit, Time)>,
    /// It ended before every task was delivered.
    is_cut_short: bool,
    first_dial_at: Option<Time>,
    last_outcome_at: Time,
    /// There is a deadline for what is late.
    is_tail: bool,
    /// Workers of earlier runs, whose outcomes the journal has.
    former: Vec<String>,
    replayed: u64,
    meter: Meter,
    /// Of the tasks that were delivered.
    failures: Failures,
    /// For the trace, until the end of the turn.
    spans: Vec<Span>,
    /// Buffers kept from turn to turn.
    input: Vec<u8>,
    text: Vec<u8>,
    records: Vec<u8>,
}

/// Where the head is with the input of a job that has some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Supply {
    /// The job has said nothing of it since it was last fed.
    Enough,
    /// The job has used up what it was fed.
    Wanted,
    /// The next piece was asked for.
    Asked,
}

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// Dial that worker again.
    Redial(u32),
    /// It must have greeted.
    Greeting(u32),
    /// Its next threshold of silence.
    Silence(u32),
    /// It has been set aside long enough.
    Aside(u32),
    /// Doubts are settled without those who are not there.
    Doubt,
    /// Workers that have not been heard from no longer hold the others back.
    Settle,
    /// Something may be late, or mute.
    Tail,
    /// The run ends for want of workers.
    GiveUp,
}

impl<W: Workload> Head<W> {
    /// A head that will dial all workers in its first turn.
    pub fn new(config: HeadConfig, workload: W) -> Head<W> {
        let count = config.workers.len();
        assert!(count > 0, "a head has at least one worker");
        let mut timers = Timers::new();
        for index in 0..count as u32 {
            timers.set(Timer::Redial(index), Time::ZERO);
        }
        timers.set(Timer::Settle, Time::ZERO + SETTLE_TIMEOUT);
        timers.set(Timer::GiveUp, Time::ZERO + config.give_up);
        let scheduler = Scheduler::new(count, config.ordered, config.attempts_max);
        let mut scheduler = scheduler.retrying(config.retries);
        if config.is_journalled {
            scheduler = scheduler.journalled();
        }
        Head {
            scheduler,
            links: config.workers.iter().map(|name| Link::new(name)).collect(),
            rng: SplitMix64::new(config.seed),
            config,
            workload,
            exhausted: false,
            supply: Supply::Enough,
            conns: Conns::new(),
            timers,
            pongs_due: Vec::new(),
            first_link: 0,
            settled: false,
            is_halting: false,
            window_full_said: false,
            outcomes: Outcomes::default(),
            has_strikes: false,
            judges_until: None,
            unwritten_bytes: 0,
            ended: None,
            is_cut_short: false,
            first_dial_at: None,
            last_outcome_at: Time::ZERO,
            is_tail: false,
            former: Vec::new(),
            replayed: 0,
            meter: Meter::default(),
            failures: Failures::default(),
            spans: Vec::new(),
            input: Vec::new(),
            text: Vec::new(),
            records: Vec::new(),
        }
    }

    /// The job, with all that was delivered to it.
    pub fn workload(&self) -> &W {
        &self.workload
    }

    /// The same, for what it is told beside its outcomes.
    pub fn workload_mut(&mut self) -> &mut W {
        &mut self.workload
    }

    /// The table of tasks.
    pub fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    /// Name and count of each worker, in the order given.
    pub fn tallies(&self) -> impl Iterator<Item = (&str, Tally)> {
        self.links.iter().map(|link| (&link.name[..], link.tally))
    }

    /// Slots of all workers that were up at some time.
    pub fn slots(&self) -> u32 {
        self.links.iter().map(|link| u32::from(link.slots)).sum()
    }

    /// Whether the run ended before every task was delivered.
    pub fn is_cut_short(&self) -> bool {
        self.is_cut_short
    }

    /// From the first dial to the last outcome that counted.
    pub fn elapsed(&self) -> Duration {
        self.last_outcome_at
            .since(self.first_dial_at.unwrap_or(self.last_outcome_at))
    }

    /// What is wrong with the workers, of no more than `TROUBLES_MAX`.
    pub fn trouble(&self) -> String {
        let links = self.links.iter().filter(|link| !link.trouble.is_empty());
        let others = links.clone().count().saturating_sub(TROUBLES_MAX);
        let mut parts: Vec<String> = links
            .take(TROUBLES_MAX)
            .map(|link| format!("worker {}: {}", link.name, link.trouble))
            .collect();
        if others > 0 {
            parts.push(format!("and {others} more"));
        }
        parts.join("; ")
    }

    /// The credit a connected worker granted and the attempts it holds, for the simulator's ledger.
    pub fn credit(&self, worker: u32) -> Option<(u32, u32)> {
        let session = self.links[worker as usize].session()?;
        Some((session.credit_tasks, self.scheduler.held_tasks(worker)))
    }

    /// Whether a worker is connected and silent for too long, for the simulator's ledger.
    pub fn is_lost(&self, worker: u32) -> bool {
        let session = self.links[worker as usize].session();
        session.is_some_and(|session| session.silence.is_lost())
    }

    /// Whether a worker is set aside, for the simulator's ledger.
    pub fn is_aside(&self, worker: u32) -> bool {
        self.links[worker as usize].trust.is_aside()
    }

    /// Whether a worker does not get its processors, for the simulator's ledger.
    pub fn is_throttled(&self, worker: u32) -> bool {
        let session = self.links[worker as usize].session();
        session.is_some_and(|session| session.throttle.is_throttled())
    }

    /// Whether a worker was asked for a sign of life that has not come, for the simulator's ledger.
    pub fn is_probed(&self, worker: u32) -> bool {
        let session = self.links[worker as usize].session();
        session.is_some_and(|session| session.probed_at.is_some())
    }

    /// Whether a worker may be given tasks, for the simulator's ledger.
    pub fn is_usable(&self, worker: u32) -> bool {
        self.links[worker as usize].is_usable() && self.scheduler.doubted(worker) < DOUBTS_MAX
    }

    /// Whether a worker has done more than greet, for the simulator's ledger.
    pub fn is_proven(&self, worker: u32) -> bool {
        self.links[worker as usize].is_proven()
    }

    /// Ends the run without a worker, unless all there is left to do is to deliver.
    fn give_up(&mut self, reason: &str, now: Time, out: &mut impl Sink) {
        let counts = self.scheduler.counts();
        if !self.exhausted || counts.undone() > 0 {
            for link in self.links.iter_mut().filter(|link| !link.was_tried()) {
                link.trouble = "it has not answered yet".into();
                error!("worker {}: {}", link.name, link.trouble);
            }
            error!("{reason}");
            self.end(Exit::NoWorker, now, out);
        }
    }

    /// Ends the run. What is done but could not be delivered in its turn is delivered now.
    fn end(&mut self, mut exit: Exit, now: Time, out: &mut impl Sink) {
        if self.ended.is_some() {
            return;
        }
        self.timers = Timers::new();
        (0..self.links.len() as u32).for_each(|index| self.trace_loss(index, now));
        // What came in this turn is done, and need not be done again by a resumed run.
        self.record(out);
        let counts = self.scheduler.counts();
        let undone = counts.undone();
        // What the journal has not taken yet is not reported as done.
        self.is_cut_short = undone + counts.recording > 0 || !self.exhausted;
        if !matches!(exit, Exit::Output | Exit::ReaderGone) {
            while self.deliver_next(Gaps::Skip) {}
            let is_sound = self.workload.finish(&mut self.text);
            self.write_text(out);
            if exit == Exit::Done && (!is_sound || self.scheduler.failed() > 0) {
                exit = Exit::Failed;
            }
            if undone > 0 || !self.exhausted {
                warn!("not every task is done; the results so far are written");
            }
            if counts.recording > 0 {
                let tasks = count(counts.recording as u64, "task");
                warn!("{tasks} done and in the journal, but not in the results");
            }
        }
        self.write_spans(out);
        self.ended = Some((exit, now));
        out.exit(exit);
    }

    fn time_out(&mut self, timer: Timer, now: Time, out: &mut impl Sink) {
        match timer {
            Timer::Redial(index) => {
                self.first_dial_at.get_or_insert(now);
                self.links[index as usize].state = State::Dialing;
                out.dial(index);
            }
            Timer::Greeting(index) => {
                let reason = format!("no greeting within {} s", GREETING_TIMEOUT.as_secs());
                self.hang_up(index, &reason, now, out);
            }
            Timer::Silence(index) => self.check_silence(index, now, out),
            Timer::Aside(index) => self.try_again(index),
            Timer::Doubt => self.settle_doubts(now),
            Timer::Settle => self.settled = true,
            // The flush looks at all that may be late.
            Timer::Tail => self.is_tail = false,
            Timer::GiveUp => self.time_to_give_up(now, out),
        }
    }
}

impl<W: Workload> Role for Head<W> {
    #[inline(always)]
    fn handle(&mut self, event: Event<'_>, now: Time, out: &mut impl Sink) {
        if self.ended.is_some() {
            return;
        }
        match event {
            Event::Opened { conn, dial, .. } => {
                self.opened(conn, dial.expect("a head only dials"), now, out);
            }
            Event::DialFailed { dial, reason } => self.lose(dial, reason, now),
            Event::Heard { conn } => self.heard(conn, now),
            Event::Frame { conn, frame } => match *frame {
                Frame::Outcome(outcome) => self.take_row(conn, iter::once(outcome), now, out),
                _ => self.frame(conn, frame, now, out),
            },
            Event::Sent { conn, bytes } => self.sent(conn, bytes),
            Event::Closed { conn, reason } => self.closed(conn, &reason, now, out),
            Event::Input { bytes } => self.feed(bytes),
            Event::InputFailed { reason } => {
                error!("{reason}");
                self.end(Exit::Journal, now, out);
            }
            Event::Written { bytes } => self.unwritten_bytes -= bytes,
            Event::Recorded { count } => self.scheduler.recorded(count),
            Event::Interrupted => self.end(Exit::Interrupted, now, out),
            Event::OutputFailed { reader_gone: true } => self.end(Exit::ReaderGone, now, out),
            Event::OutputFailed { reader_gone: false } => self.end(Exit::Output, now, out),
            Event::JournalFailed { reason } => {
                error!("{reason}");
                self.end(Exit::Output, now, out);
            }
            Event::Completed(_) | Event::Slots { .. } | Event::Measured(_) => {
                unreachable!("a head computes nothing")
            }
        }
    }

    #[inline(always)]
    fn handle_outcomes<'a>(
        &mut self,
        conn: ConnId,
        outcomes: impl Iterator<Item = Outcome<'a>>,
        now: Time,
        out: &mut impl Sink,
    ) {
        if self.ended.is_none() {
            self.take_row(conn, outcomes, now, out);
        }
    }

    fn flush(&mut self, now: Time, out: &mut impl Sink) {
        if self.ended.is_some() {
            return;
        }
        self.answer_pings(out);
        self.judge(now);
        self.halt_if_due();
        self.deliver(out);
        self.assign(now, out);
        self.ask(out);
        self.scheduler.check_sums();
        self.measure(now);
        self.write_spans(out);
        self.end_if_done(now, out);
    }

    fn next_deadline(&self) -> Option<Time> {
        self.timers.next()
    }

    fn overview(&self, now: Time) -> Option<Overview<'_>> {
        Some(self.look(now))
    }

    fn handle_timeout(&mut self, now: Time, out: &mut impl Sink) {
        while let Some(timer) = self.timers.pop_due(now) {
            self.time_out(timer, now, out);
        }
    }
}

#[cfg(test)]
mod tests;
