//! The head's side of every session, without sockets, clock or threads.
//!
//! What it is: a [`Role`] that dials the workers, keeps their sessions, fills them with attempts and
//! hands the outcomes to the job. What it is not: the table of tasks ([`Scheduler`]), or the job.
//!
//! Invariants: every worker it was told of is in exactly one [`State`]; nothing is assigned to a
//! worker that is not up, or beyond its credit; the run ends, with an exit that says how.

mod link;

use log::{error, info, warn};

use crate::conns::Conns;
use crate::frame::{Frame, Refusal, Status};
use crate::kernel::{Delivery, Next, Workload};
use crate::limits::{
    GIVE_UP_DEFAULT, GREETING_TIMEOUT, OUTPUT_BYTES_MAX, PAYLOAD_BYTES_DEFAULT, SETTLE_TIMEOUT,
};
use crate::rng::SplitMix64;
use crate::role::{CloseReason, ConnId, Event, Exit, Role, Sink};
use crate::scheduler::{Answer, NO_WORKER, Scheduler, Verdict};
use crate::silence::Passed;
use crate::time::{Duration, Time, Timers};

pub use link::Tally;
use link::{Link, Session, State};

/// What a head is told when it starts.
#[derive(Clone, Debug)]
pub struct HeadConfig {
    /// The workers' names, for messages; their positions are what it dials.
    pub workers: Vec<String>,
    /// Longest input and output, in bytes.
    pub payload_bytes_max: usize,
    /// Deliver in input order.
    pub ordered: bool,
    /// Without any usable worker for so long: give up.
    pub give_up: Duration,
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
    window_full_said: bool,
    /// Output bytes handed over and not yet written.
    unwritten_bytes: usize,
    failed_tasks: u64,
    ended: Option<Exit>,
    first_dial_at: Option<Time>,
    last_outcome_at: Time,
    /// Buffers kept from turn to turn.
    input: Vec<u8>,
    text: Vec<u8>,
}

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Redial(u32),
    Greeting(u32),
    Silence(u32),
    Settle,
    GiveUp,
}

impl<W: Workload> Head<W> {
    /// A head that will dial all workers in its first turn.
    pub fn new(config: HeadConfig, workload: W) -> Head<W> {
        assert!(!config.workers.is_empty(), "a head has at least one worker");
        let mut timers = Timers::new();
        for index in 0..config.workers.len() as u32 {
            timers.set(Timer::Redial(index), Time::ZERO);
        }
        timers.set(Timer::Settle, Time::ZERO + SETTLE_TIMEOUT);
        timers.set(Timer::GiveUp, Time::ZERO + config.give_up);
        Head {
            scheduler: Scheduler::new(config.workers.len(), config.ordered),
            links: config.workers.iter().map(|name| Link::new(name)).collect(),
            rng: SplitMix64::new(config.seed),
            config,
            workload,
            exhausted: false,
            conns: Conns::new(),
            timers,
            pongs_due: Vec::new(),
            first_link: 0,
            settled: false,
            window_full_said: false,
            unwritten_bytes: 0,
            failed_tasks: 0,
            ended: None,
            first_dial_at: None,
            last_outcome_at: Time::ZERO,
            input: Vec::new(),
            text: Vec::new(),
        }
    }

    /// The job, with all that was delivered to it.
    pub fn workload(&self) -> &W {
        &self.workload
    }

    /// The table of tasks.
    pub fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    /// Name and count of each worker, in the order given.
    pub fn tallies(&self) -> impl Iterator<Item = (&str, Tally)> {
        self.links.iter().map(|link| (&link.name[..], link.tally))
    }

    /// From the first dial to the last outcome that counted.
    pub fn elapsed(&self) -> Duration {
        self.last_outcome_at
            .since(self.first_dial_at.unwrap_or(self.last_outcome_at))
    }

    /// The credit a connected worker granted and the attempts it holds, for the simulator's ledger.
    pub fn credit(&self, worker: u32) -> Option<(u32, u32)> {
        let session = self.links[worker as usize].session()?;
        Some((session.credit_tasks, self.scheduler.held_tasks(worker)))
    }

    /// Whether a worker is up and not lost, for the simulator's ledger.
    pub fn is_usable(&self, worker: u32) -> bool {
        self.links[worker as usize].is_usable()
    }

    fn opened(&mut self, conn: ConnId, index: u32, now: Time, out: &mut impl Sink) {
        let link = &mut self.links[index as usize];
        assert!(matches!(link.state, State::Dialing), "one dial at a time");
        self.conns.insert(conn, index);
        self.timers
            .set(Timer::Greeting(index), now + GREETING_TIMEOUT);
        let hello = Frame::Hello {
            payload_max: self.config.payload_bytes_max as u32,
            release: env!("CARGO_PKG_VERSION"),
        };
        link.state = State::Greeting {
            conn,
            unsent_bytes: hello.encoded_bytes(),
        };
        out.send(conn, hello);
    }

    fn frame(&mut self, conn: ConnId, frame: Frame<'_>, now: Time, out: &mut impl Sink) {
        let Some(&mut index) = self.conns.get_mut(conn) else {
            return;
        };
        let link = &mut self.links[index as usize];
        match (&mut link.state, frame) {
            (
                State::Up(session),
                Frame::Outcome {
                    attempt,
                    status,
                    run_us,
                    output,
                },
            ) => {
                let verdict = self
                    .scheduler
                    .answer(index, attempt, status, output, run_us, now);
                session.depth.answered();
                match verdict {
                    Verdict::Counted => {
                        link.backoff.reset();
                        link.tally.count(status);
                        self.last_outcome_at = now;
                    }
                    Verdict::Late => link.tally.late += 1,
                    Verdict::Stranger => {
                        let reason = format!("it answered {attempt}, which it was not sent");
                        self.hang_up(index, &reason, now, out);
                    }
                }
            }
            (State::Greeting { .. }, Frame::Welcome { .. }) => self.welcome(index, frame, now, out),
            (State::Greeting { .. } | State::Up(_), Frame::Refuse { refusal, reason }) => {
                let reason = format!("it refused: {reason}");
                out.close(conn);
                if refusal == Refusal::Job {
                    self.bar(index, &reason, now, out);
                } else {
                    self.lose(index, &reason, now);
                }
            }
            (State::Up(_), Frame::Ping) => self.pongs_due.push(index),
            (State::Up(_), Frame::Pong) => link.backoff.reset(),
            (_, frame) => {
                let reason = format!("{:?} frame at the wrong moment", frame.kind());
                self.hang_up(index, &reason, now, out);
            }
        }
    }

    fn welcome(&mut self, index: u32, frame: Frame<'_>, now: Time, out: &mut impl Sink) {
        let link = &mut self.links[index as usize];
        let (
            &State::Greeting { conn, unsent_bytes },
            Frame::Welcome {
                slots,
                credit_tasks,
                credit_bytes,
                payload_max,
                release,
            },
        ) = (&link.state, frame)
        else {
            unreachable!("the caller matched it");
        };
        if (payload_max as usize) < self.config.payload_bytes_max {
            out.close(conn);
            let reason = format!(
                "it takes payloads of {payload_max} bytes, this run may need {}; \
                 start it with the same --payload-max",
                self.config.payload_bytes_max
            );
            return self.bar(index, &reason, now, out);
        }
        info!(
            "worker {} is up: {slots} slots, release {release}",
            link.name
        );
        self.timers.cancel(Timer::Greeting(index));
        self.timers.cancel(Timer::GiveUp);
        let mut session = Session::new(conn, slots, credit_tasks, credit_bytes, unsent_bytes, now);
        self.timers
            .set(Timer::Silence(index), session.silence.deadline());
        let job = Frame::Job {
            kernel: self.workload.kernel(),
            setup: &self.workload.setup(),
        };
        session.send(job, out);
        link.state = State::Up(session);
        link.tried(true);
    }

    fn heard(&mut self, conn: ConnId, now: Time) {
        let Some(&mut index) = self.conns.get_mut(conn) else {
            return;
        };
        let link = &mut self.links[index as usize];
        if let State::Up(session) = &mut link.state
            && session.silence.heard(now)
        {
            info!("worker {} is heard again", link.name);
            self.timers.cancel(Timer::GiveUp);
            self.timers
                .set(Timer::Silence(index), session.silence.deadline());
        }
    }

    fn sent(&mut self, conn: ConnId, bytes: usize) {
        if let Some(&mut index) = self.conns.get_mut(conn) {
            match &mut self.links[index as usize].state {
                State::Greeting { unsent_bytes, .. } => *unsent_bytes -= bytes,
                State::Up(session) => session.unsent_bytes -= bytes,
                _ => unreachable!("only these have a connection"),
            }
        }
    }

    fn closed(&mut self, conn: ConnId, reason: &CloseReason, now: Time, out: &mut impl Sink) {
        let Some(&mut index) = self.conns.get_mut(conn) else {
            return;
        };
        match reason {
            CloseReason::Protocol(error) if error.is_permanent() => {
                self.bar(index, &error.to_string(), now, out);
            }
            _ => self.lose(index, &reason.to_string(), now),
        }
    }

    /// Closes a worker's connection and dials it again later.
    fn hang_up(&mut self, index: u32, reason: &str, now: Time, out: &mut impl Sink) {
        if let Some(conn) = self.links[index as usize].conn() {
            out.close(conn);
        }
        self.lose(index, reason, now);
    }

    /// The worker's connection is gone, or never came to be: its tasks go elsewhere, and it is
    /// dialled again.
    fn lose(&mut self, index: u32, reason: &str, now: Time) {
        let returned = self.disconnect(index, now);
        let link = &mut self.links[index as usize];
        let wait = link.backoff.next(&mut self.rng);
        self.timers.set(Timer::Redial(index), now + wait);
        link.say_lost(reason, returned);
    }

    /// The worker will never be of use to this run.
    fn bar(&mut self, index: u32, reason: &str, now: Time, out: &mut impl Sink) {
        let returned = self.disconnect(index, now);
        let link = &mut self.links[index as usize];
        link.bar();
        error!("worker {} cannot be used: {reason}", link.name);
        if returned > 0 {
            warn!("{returned} tasks of worker {} go elsewhere", link.name);
        }
        if self
            .links
            .iter()
            .all(|link| matches!(link.state, State::Barred))
        {
            self.give_up("no worker can be used", out);
        }
    }

    /// Ends the run without a worker, unless all there is left to do is to deliver.
    fn give_up(&mut self, reason: &str, out: &mut impl Sink) {
        let counts = self.scheduler.counts();
        if !self.exhausted || counts.ready + counts.in_flight > 0 {
            error!("{reason}: giving up");
            self.end(Exit::NoWorker, out);
        }
    }

    /// Forgets a link's connection and takes its tasks back; returns how many.
    fn disconnect(&mut self, index: u32, now: Time) -> usize {
        let link = &mut self.links[index as usize];
        if let Some(conn) = link.conn() {
            self.conns.remove(conn);
        }
        let was_usable = link.is_usable();
        link.state = State::Waiting;
        link.tried(was_usable);
        self.timers.cancel(Timer::Greeting(index));
        self.timers.cancel(Timer::Silence(index));
        let returned = self.scheduler.end_session(index);
        link.tally.lost += returned as u64;
        if was_usable {
            self.lost_usable(now);
        }
        returned
    }

    /// One usable worker less: without any, the time to give up begins to run.
    fn lost_usable(&mut self, now: Time) {
        if !self.links.iter().any(Link::is_usable) {
            self.timers.set(Timer::GiveUp, now + self.config.give_up);
        }
    }

    fn check_silence(&mut self, index: u32, now: Time, out: &mut impl Sink) {
        let link = &mut self.links[index as usize];
        let State::Up(session) = &mut link.state else {
            return;
        };
        while let Some(passed) = session.silence.check(now) {
            match passed {
                Passed::Ask => session.send(Frame::Ping, out),
                Passed::Lost => {
                    let returned = self.scheduler.take_back(index);
                    link.tally.lost += returned as u64;
                    warn!(
                        "worker {} is silent; {returned} tasks go elsewhere",
                        link.name
                    );
                    if !self.links.iter().any(Link::is_usable) {
                        self.timers.set(Timer::GiveUp, now + self.config.give_up);
                    }
                    return self.check_silence(index, now, out);
                }
                Passed::Close => return self.hang_up(index, "it stayed silent", now, out),
            }
        }
        self.timers
            .set(Timer::Silence(index), session.silence.deadline());
    }

    /// Hands finished tasks to the job and its text to the output, as far as the output keeps up.
    /// Says whether there was any.
    fn deliver(&mut self, out: &mut impl Sink) -> bool {
        let mut has_delivered = false;
        while self.unwritten_bytes + self.text.len() < OUTPUT_BYTES_MAX {
            let Some(answer) = self.scheduler.next_answer() else {
                break;
            };
            self.deliver_one(&answer);
            has_delivered = true;
        }
        self.write_text(out);
        has_delivered
    }

    fn deliver_one(&mut self, answer: &Answer) {
        if answer.status == Status::Failed {
            self.failed_tasks += 1;
        }
        let worker = match answer.worker {
            NO_WORKER => "-",
            index => &self.links[index as usize].name,
        };
        let delivery = Delivery {
            task: answer.task,
            status: answer.status,
            output: &answer.output,
            worker,
            attempts: answer.attempts,
            queue_us: answer.queue_us,
            run_us: answer.run_us,
        };
        self.workload.deliver(&delivery, &mut self.text);
    }

    fn write_text(&mut self, out: &mut impl Sink) {
        if !self.text.is_empty() {
            self.unwritten_bytes += self.text.len();
            out.write(&self.text);
            self.text.clear();
        }
    }

    /// Fills the workers: first a task for every slot of every worker, then what they hold ahead.
    /// While some worker was not heard from yet, nobody gets tasks ahead: they may be its own.
    fn assign(&mut self, now: Time, out: &mut impl Sink) {
        let count = self.links.len();
        self.first_link = (self.first_link + 1) % count;
        if !self.settled {
            self.settled = self.links.iter().all(|link| link.was_tried());
            if self.settled {
                self.timers.cancel(Timer::Settle);
            }
        }
        for is_ahead in [false, true] {
            if is_ahead && !self.settled {
                return;
            }
            for i in 0..count {
                let index = (self.first_link + i) % count;
                if !self.fill(index as u32, is_ahead, now, out) {
                    return;
                }
            }
        }
    }

    /// Fills one worker; false once there are no tasks to be had.
    fn fill(&mut self, index: u32, is_ahead: bool, now: Time, out: &mut impl Sink) -> bool {
        loop {
            let State::Up(session) = &mut self.links[index as usize].state else {
                return true;
            };
            let held = self.scheduler.held_tasks(index);
            if session.silence.is_lost() || held >= session.tasks_wanted(is_ahead, now) {
                return true;
            }
            let Some(input_bytes) = self.scheduler.next_input_bytes() else {
                if self.pull() {
                    continue;
                }
                return false;
            };
            if !session.has_room(held, self.scheduler.held_bytes(index), input_bytes) {
                return true;
            }
            let (attempt, input) = self.scheduler.assign(index, now).expect("one is ready");
            session.send(Frame::Task { attempt, input }, out);
        }
    }

    /// Takes one more task from the job, if the window has room for it.
    fn pull(&mut self) -> bool {
        if self.exhausted {
            return false;
        }
        if !self.scheduler.has_room() {
            self.say_window_full();
            return false;
        }
        self.input.clear();
        if self.workload.next(&mut self.input) == Next::End {
            self.exhausted = true;
            return false;
        }
        let limit = self.config.payload_bytes_max;
        if self.input.len() > limit {
            let reason = format!(
                "its input of {} bytes is longer than the {limit} allowed; raise --payload-max \
                 on both sides",
                self.input.len()
            );
            self.scheduler.add_failed(&reason);
        } else {
            self.scheduler.add(&self.input);
        }
        true
    }

    fn say_window_full(&mut self) {
        if std::mem::replace(&mut self.window_full_said, true) {
            return;
        }
        if let Some((task, Some(worker))) = self.scheduler.oldest() {
            info!(
                "results wait for task {task} at worker {}: no new tasks until it is done \
                 (--unordered does not wait)",
                self.links[worker as usize].name
            );
        }
    }

    fn end(&mut self, exit: Exit, out: &mut impl Sink) {
        if self.ended.is_some() {
            return;
        }
        self.ended = Some(exit);
        self.timers = Timers::new();
        if exit == Exit::NoWorker {
            let open = self.scheduler.counts();
            while let Some(answer) = self.scheduler.next_answer_or_skip() {
                self.deliver_one(&answer);
            }
            error!(
                "{} tasks begun and not done; what was done has been written",
                open.ready + open.in_flight
            );
            self.write_text(out);
        }
        out.exit(exit);
    }
}

impl<W: Workload> Role for Head<W> {
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
            Event::Frame { conn, frame } => self.frame(conn, frame, now, out),
            Event::Sent { conn, bytes } => self.sent(conn, bytes),
            Event::Closed { conn, reason } => self.closed(conn, &reason, now, out),
            Event::Written { bytes } => self.unwritten_bytes -= bytes,
            Event::OutputFailed { reader_gone: true } => self.end(Exit::ReaderGone, out),
            Event::OutputFailed { reader_gone: false } => self.end(Exit::Output, out),
            Event::Completed(_) => unreachable!("a head computes nothing"),
        }
    }

    fn flush(&mut self, now: Time, out: &mut impl Sink) {
        if self.ended.is_some() {
            return;
        }
        self.pongs_due.dedup();
        for index in self.pongs_due.drain(..) {
            if let State::Up(session) = &mut self.links[index as usize].state
                && session.has_room(1, 0, 0)
            {
                session.send(Frame::Pong, out);
            }
        }
        self.deliver(out);
        loop {
            if self.scheduler.counts().open() == 0 {
                // Also without a worker: a job without tasks needs none.
                self.pull();
            }
            self.assign(now, out);
            // A task that is too long has its outcome as soon as it is pulled, and nothing else
            // would call for another turn.
            if !self.deliver(out) {
                break;
            }
        }
        if self.exhausted && self.scheduler.counts().open() == 0 {
            self.workload.finish(&mut self.text);
            self.write_text(out);
            let exit = if self.failed_tasks > 0 {
                Exit::Failed
            } else {
                Exit::Done
            };
            self.end(exit, out);
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        self.timers.next()
    }

    fn handle_timeout(&mut self, now: Time, out: &mut impl Sink) {
        while let Some(timer) = self.timers.pop_due(now) {
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
                Timer::Settle => self.settled = true,
                Timer::GiveUp => {
                    let wait_s = self.config.give_up.as_secs_f64();
                    let reason = format!("no worker could be used for {wait_s} s (--give-up)");
                    self.give_up(&reason, out);
                }
            }
        }
    }
}
