//! From the dial to the end of a session.
//!
//! What it is: the part of the head that keeps links: greeting, silence, loss, dialling again. What it
//! is not: what travels on a session that is up; that is in `outcome.rs` and `work.rs`.
//!
//! Invariant: whatever ends a connection goes through [`Head::disconnect`], so no link keeps a stale
//! one and no task stays behind on it.

use log::{Level, error, info, log, warn};

use super::link::{Link, Session, State};
use super::{Head, Timer};
use crate::format::printable;
use crate::frame::{Frame, FrameError, Kind, Refusal};
use crate::kernel::Workload;
use crate::limits::{BREACHES_MAX, GREETING_TIMEOUT, LOST_AFTER};
use crate::role::{CloseReason, ConnId, Sink};
use crate::scheduler::Loss;
use crate::silence::Passed;
use crate::time::Time;
use crate::words::{count, tasks_go};

impl<W: Workload> Head<W> {
    pub(super) fn opened(&mut self, conn: ConnId, index: u32, now: Time, out: &mut impl Sink) {
        let link = &mut self.links[index as usize];
        assert!(matches!(link.state, State::Dialing), "one dial at a time");
        self.conns.insert(conn, index);
        let until = now + GREETING_TIMEOUT;
        self.timers.set(Timer::Greeting(index), until);
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

    #[cold]
    pub(super) fn frame(
        &mut self,
        conn: ConnId,
        frame: &Frame<'_>,
        now: Time,
        out: &mut impl Sink,
    ) {
        let Some(&mut index) = self.conns.get_mut(conn) else {
            return;
        };
        let link = &mut self.links[index as usize];
        match (&mut link.state, *frame) {
            (State::Greeting { .. }, Frame::Welcome { .. }) => {
                self.welcome(index, *frame, now, out);
            }
            (State::Greeting { .. } | State::Up(_), Frame::Refuse { refusal, reason }) => {
                let reason = format!("it refused: {}", printable(reason.as_bytes()));
                out.close(conn);
                match refusal {
                    Refusal::Job => self.bar(index, &reason, now, out),
                    Refusal::Busy | Refusal::Protocol => self.leave(index, &reason, now),
                }
            }
            (State::Up(_), Frame::Ping) => {
                if self.pongs_due.last() != Some(&index) {
                    self.pongs_due.push(index);
                }
            }
            (State::Up(session), Frame::Pong) => {
                link.backoff.reset();
                // Else it is asked again only when it would be lost, and asks itself meanwhile.
                let silence = session.silence.deadline();
                self.timers.set(Timer::Silence(index), silence);
                if !session.is_proven {
                    self.prove(index);
                }
            }
            (State::Up(session), Frame::Drain) => {
                session.is_draining = true;
                info!(
                    "worker {} is about to end; it gets no more tasks",
                    link.name
                );
                self.note_unusable(now);
            }
            (State::Up(session), Frame::Slots { slots }) => {
                let level = match std::mem::replace(&mut session.has_lost_slots, true) {
                    false => Level::Warn,
                    true => Level::Debug,
                };
                log!(
                    level,
                    "worker {} computes with {} now, not {}",
                    link.name,
                    count(slots.into(), "slot"),
                    link.slots
                );
                session.set_slots(slots);
                link.count_slot_time(now);
                link.slots = slots;
            }
            (State::Up(_), Frame::Usage { cpu_ms, waited_ms }) => {
                link.used(cpu_ms, waited_ms, now);
            }
            (_, frame) => self.untimely(index, frame.kind(), now, out),
        }
    }

    /// A frame came that does not belong to this part of a session.
    #[cold]
    pub(super) fn untimely(&mut self, index: u32, kind: Kind, now: Time, out: &mut impl Sink) {
        let reason = format!("{kind:?} frame at the wrong moment");
        self.breach(index, &reason, now, out);
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
                incarnation,
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
            "worker {} is up: {}, release {}",
            link.name,
            count(slots.into(), "slot"),
            printable(release.as_bytes())
        );
        // A process that lived on through the loss of its connection was not killed by a task.
        match link.incarnation.replace(incarnation) == Some(incarnation) {
            true => self.scheduler.forgive(index),
            false => self.scheduler.convict(index),
        }
        self.timers.cancel(Timer::Greeting(index));
        let mut session = Session::new(conn, slots, credit_tasks, credit_bytes, unsent_bytes, now);
        let silence = session.silence.deadline();
        self.timers.set(Timer::Silence(index), silence);
        let timeout = self.config.timeout.unwrap_or_default();
        let job = Frame::Job {
            timeout_ms: u32::try_from(timeout.as_millis()).expect("the command line allows less"),
            kernel: self.workload.kernel(),
            setup: &self.workload.setup(),
        };
        session.send(job, out);
        link.came_up(session, slots, now);
        self.note_usable();
    }

    pub(super) fn heard(&mut self, conn: ConnId, now: Time) {
        let Some(&mut index) = self.conns.get_mut(conn) else {
            return;
        };
        let link = &mut self.links[index as usize];
        let State::Up(session) = &mut link.state else {
            return;
        };
        session.probed_at = None;
        if session.silence.heard(now) {
            warn!("worker {} is heard again", link.name);
            let silence = session.silence.deadline();
            link.trouble.clear();
            self.timers.set(Timer::Silence(index), silence);
            self.scheduler.forgive(index);
            self.use_again(index);
        }
    }

    pub(super) fn sent(&mut self, conn: ConnId, bytes: usize) {
        if let Some(&mut index) = self.conns.get_mut(conn) {
            let link = &mut self.links[index as usize];
            link.sent_bytes += bytes as u64;
            match &mut link.state {
                State::Greeting { unsent_bytes, .. } => *unsent_bytes -= bytes,
                State::Up(session) => session.unsent_bytes -= bytes,
                _ => unreachable!("only these have a connection"),
            }
        }
    }

    pub(super) fn closed(
        &mut self,
        conn: ConnId,
        reason: &CloseReason,
        now: Time,
        out: &mut impl Sink,
    ) {
        let Some(&mut index) = self.conns.get_mut(conn) else {
            return;
        };
        let advice = reason.advice(self.links[index as usize].session().is_some());
        match reason {
            CloseReason::Protocol(error) if error.is_permanent() => {
                self.bar(index, &advice, now, out);
            }
            // Or it was about to end just then; that does not happen again and again.
            CloseReason::Protocol(FrameError::WrongKey) => {
                self.count_breach(index, &advice, now, out);
            }
            _ => self.lose(index, &advice, now),
        }
    }

    /// Closes a worker's connection for what it did there, and dials it again later.
    pub(super) fn hang_up(&mut self, index: u32, reason: &str, now: Time, out: &mut impl Sink) {
        if let Some(conn) = self.links[index as usize].conn() {
            out.close(conn);
        }
        self.leave(index, reason, now);
    }

    /// The same for what only a broken worker says. One that does nothing else is of no use: its
    /// greetings alone would keep the run alive for ever.
    pub(super) fn breach(&mut self, index: u32, reason: &str, now: Time, out: &mut impl Sink) {
        if let Some(conn) = self.links[index as usize].conn() {
            out.close(conn);
        }
        self.count_breach(index, reason, now, out);
    }

    fn count_breach(&mut self, index: u32, reason: &str, now: Time, out: &mut impl Sink) {
        let link = &mut self.links[index as usize];
        link.breaches += 1;
        match link.breaches < BREACHES_MAX {
            true => self.leave(index, reason, now),
            false => self.bar(index, reason, now, out),
        }
    }

    /// The worker's connection is gone, or never came to be: its tasks go elsewhere, and it is
    /// dialled again.
    pub(super) fn lose(&mut self, index: u32, reason: &str, now: Time) {
        let link = &self.links[index as usize];
        let cause = format!("{}: {reason}", link.name);
        let loss = link.loss(&cause);
        self.redial(index, reason, &loss, now);
    }

    /// The same where no task can be to blame.
    fn leave(&mut self, index: u32, reason: &str, now: Time) {
        self.redial(index, reason, &Loss::Planned, now);
    }

    fn redial(&mut self, index: u32, reason: &str, loss: &Loss<'_>, now: Time) {
        let returned = self.disconnect(index, loss, now);
        let link = &mut self.links[index as usize];
        let wait = link.backoff.next(&mut self.rng);
        self.timers.set(Timer::Redial(index), now + wait);
        link.say_lost(reason, returned);
    }

    /// The worker will never be of use to this run.
    fn bar(&mut self, index: u32, reason: &str, now: Time, out: &mut impl Sink) {
        let returned = self.disconnect(index, &Loss::Planned, now);
        let link = &mut self.links[index as usize];
        link.bar(reason);
        error!("worker {} cannot be used: {reason}", link.name);
        if returned > 0 {
            let tasks = tasks_go(returned as u64);
            warn!("{tasks} from worker {} elsewhere", link.name);
        }
        let is_barred = |state: &State| matches!(state, State::Barred);
        if self.links.iter().all(|link| is_barred(&link.state)) {
            self.give_up("no worker can be used: giving up", now, out);
        }
    }

    /// Forgets a link's connection and takes its tasks back; returns how many.
    fn disconnect(&mut self, index: u32, loss: &Loss<'_>, now: Time) -> usize {
        self.trace_loss(index, now);
        let link = &mut self.links[index as usize];
        if let Some(conn) = link.conn() {
            self.conns.remove(conn);
        }
        link.count_slot_time(now);
        link.state = State::Waiting;
        self.timers.cancel(Timer::Greeting(index));
        self.timers.cancel(Timer::Silence(index));
        let returned = self.scheduler.end_session(index, loss);
        match loss {
            Loss::Planned => link.tally.returned += returned as u64,
            Loss::Unplanned { .. } => link.tally.lost += returned as u64,
        }
        self.note_unusable(now);
        returned
    }

    /// Perhaps one usable worker more: with one that has shown it there is no giving up, and others
    /// may yet come.
    pub(super) fn note_usable(&mut self) {
        self.judges_until = None;
        if self.links.iter().any(Link::is_proven) {
            self.timers.cancel(Timer::GiveUp);
        }
    }

    /// A session is more than its greeting: a worker that greets and hangs up, again and again, would
    /// keep the run alive for ever.
    #[cold]
    pub(super) fn prove(&mut self, index: u32) {
        self.links[index as usize].up().is_proven = true;
        self.note_usable();
    }

    /// The time to give up has come. Who has only just greeted has a little more to show what it is,
    /// and who is about to end finishes what it runs.
    pub(super) fn time_to_give_up(&mut self, now: Time, out: &mut impl Sink) {
        let is_awaited = |(index, link): (usize, &Link)| {
            let holds_tasks = self.scheduler.held_tasks(index as u32) > 0;
            link.is_usable() || (link.is_ending() && holds_tasks)
        };
        if self.links.iter().enumerate().any(is_awaited) {
            return self.timers.set(Timer::GiveUp, now + LOST_AFTER);
        }
        let wait_s = self.config.give_up.as_secs_f64();
        let reason = format!(
            "no worker could be used for {wait_s} s (--give-up): giving up; head check with the same \
             --workers says what to do"
        );
        self.give_up(&reason, now, out);
    }

    /// Perhaps one usable worker less: without any, the time to give up begins to run.
    pub(super) fn note_unusable(&mut self, now: Time) {
        if !self.links.iter().any(|link| link.is_usable()) {
            let until = now + self.config.give_up;
            self.timers.set_if_new(Timer::GiveUp, until);
        }
    }

    pub(super) fn check_silence(&mut self, index: u32, now: Time, out: &mut impl Sink) {
        loop {
            let link = &mut self.links[index as usize];
            let State::Up(session) = &mut link.state else {
                return;
            };
            match session.silence.check(now) {
                Some(Passed::Ask) => session.send(Frame::Ping, out),
                Some(Passed::Lost) => {
                    let silent = format!("silent for {} s", LOST_AFTER.as_secs());
                    let cause = format!("{}: {silent}", link.name);
                    let loss = link.loss(&cause);
                    let returned = self.scheduler.take_back(index, &loss);
                    link.tally.lost += returned as u64;
                    let (name, tasks) = (&link.name, tasks_go(returned as u64));
                    warn!("worker {name} {silent}; {tasks} elsewhere");
                    link.trouble = silent;
                    self.note_unusable(now);
                }
                Some(Passed::Close) => return self.hang_up(index, "it stayed silent", now, out),
                None => {
                    let next = session.silence.deadline();
                    return self.timers.set(Timer::Silence(index), next);
                }
            }
        }
    }

    /// One `Pong` per turn, and none into a full outbox: a peer that asks without reading the
    /// answers cannot make it grow.
    pub(super) fn answer_pings(&mut self, out: &mut impl Sink) {
        for index in self.pongs_due.drain(..) {
            if let State::Up(session) = &mut self.links[index as usize].state
                && session.has_room(1, 0, 0)
            {
                session.send(Frame::Pong, out);
            }
        }
    }
}
