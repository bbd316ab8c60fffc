//! What a worker's outcomes are worth.
//!
//! What it is: the part of the head that takes outcomes, doubts those that may be the worker's own
//! fault, and sets such workers aside. What it is not: the rule for that ([`Trust`]), or the table.
//!
//! Invariant: a doubted failure is confirmed or overruled before the run ends as done.
//!
//! [`Trust`]: super::trust::Trust

use log::{Level, log};

use super::link::{Link, State};
use super::{Head, Timer};
use crate::format::printable;
use crate::frame::{Kind, Outcome, Status};
use crate::kernel::Workload;
use crate::limits::{DOUBT_TIMEOUT, FAST_FAILURE};
use crate::role::{ConnId, Sink};
use crate::scheduler::{Loss, Verdict};
use crate::time::{Duration, Time};
use crate::words::tasks_go;

impl<W: Workload> Head<W> {
    /// Takes the outcomes that have arrived on a connection in a row.
    #[inline(always)]
    pub(super) fn take_row<'a>(
        &mut self,
        conn: ConnId,
        mut outcomes: impl Iterator<Item = Outcome<'a>>,
        now: Time,
        out: &mut impl Sink,
    ) {
        // A breach ends the connection.
        while let Some(&mut index) = self.conns.get_mut(conn)
            && let Some(outcome) = self.take_done(index, &mut outcomes, now)
        {
            self.outcome(index, outcome, now, out);
        }
    }

    /// Takes outcomes for as long as they are what nearly all are: done, by a worker that nothing is
    /// held against. Less is asked for each of them, and what they come to is noted once. Returns the
    /// first that is not.
    #[inline(always)]
    fn take_done<'a>(
        &mut self,
        index: u32,
        outcomes: &mut impl Iterator<Item = Outcome<'a>>,
        now: Time,
    ) -> Option<Outcome<'a>> {
        let link = &mut self.links[index as usize];
        let State::Up(session) = &mut link.state else {
            return outcomes.next();
        };
        if self.config.is_traced || !link.trust.is_sound() {
            return outcomes.next();
        }
        let (sums, other) = self.scheduler.answer_row(index, outcomes, now);
        if sums.tasks > 0 {
            let (done, bytes) = (u64::from(sums.tasks), sums.output_bytes as u64);
            session.depth.ran_row(done, sums.run_us, bytes);
            link.run_us += sums.run_us;
            link.received_bytes += bytes;
            link.outcomes.done += done;
            self.outcomes.done += done;
            link.tally.done += done;
            link.backoff.reset();
            link.breaches = 0;
            self.last_outcome_at = now;
            if !session.is_proven {
                self.prove(index);
            }
        }
        other
    }

    /// Takes one outcome, whatever it is.
    fn outcome(&mut self, index: u32, outcome: Outcome<'_>, now: Time, out: &mut impl Sink) {
        let (attempt, status, run_us) = (outcome.attempt, outcome.status, outcome.run_us);
        if self.config.is_traced {
            let run = Duration::from_micros(run_us.into());
            self.trace_answer(index, attempt, (status, run), now);
        }
        let link = &mut self.links[index as usize];
        let State::Up(session) = &mut link.state else {
            return self.untimely(index, Kind::Outcome, now, out);
        };
        if status != Status::Returned {
            session.depth.ran(run_us, outcome.output.len());
        }
        let is_unproven = !session.is_proven;
        link.run_us += u64::from(run_us);
        link.received_bytes += outcome.output.len() as u64;
        self.outcomes.count(status);
        link.outcomes.count(status);
        let (verdict, counted_as) = match status {
            Status::Done => (self.answer(index, &outcome, now), Some(status)),
            Status::Failed | Status::TimedOut => self.failed(index, &outcome, now),
            Status::Returned => (self.returned(index, &outcome), Some(status)),
        };
        if status == Status::Done || (status.is_failure() && !is_fast(&outcome)) {
            self.worked(index);
        }
        if is_unproven {
            self.prove(index);
        }
        let link = &mut self.links[index as usize];
        match verdict {
            Verdict::Counted => {
                if let Some(status) = counted_as {
                    link.backoff.reset();
                    link.breaches = 0;
                    link.tally.count(status);
                    self.last_outcome_at = now;
                }
            }
            Verdict::Late => link.tally.late += 1,
            Verdict::Stranger => {
                let reason = format!("it answered {attempt}, which it was not sent");
                self.breach(index, &reason, now, out);
            }
        }
    }

    /// It is the task's answer.
    fn answer(&mut self, index: u32, outcome: &Outcome<'_>, now: Time) -> Verdict {
        let &Outcome {
            attempt,
            status,
            run_us,
            output,
        } = outcome;
        (self.scheduler).answer(index, attempt, status, output, run_us, now)
    }

    /// It is a failure, which may be the worker's own fault. Says what it is counted as, too, unless
    /// it is in doubt: then it is counted once it is confirmed.
    fn failed(
        &mut self,
        index: u32,
        outcome: &Outcome<'_>,
        now: Time,
    ) -> (Verdict, Option<Status>) {
        let &Outcome {
            attempt,
            status,
            run_us,
            output,
        } = outcome;
        let is_final = status == Status::Failed && self.workload.is_final(&output);
        let link = &mut self.links[index as usize];
        if link.trust.is_aside() && !is_final {
            // What a worker that was set aside still fails says nothing of the task.
            let verdict = self.scheduler.put_back(index, attempt);
            return (verdict, Some(Status::Returned));
        }
        if is_fast(outcome) && self.config.workers.len() > 1 {
            link.trust.failed_fast(self.outcomes - link.outcomes);
            self.has_strikes = true;
            if !is_final {
                let verdict = (self.scheduler).doubt(index, attempt, &output, run_us, now);
                return (verdict, None);
            }
        }
        (self.answer(index, outcome, now), Some(status))
    }

    /// It is none: the worker has not run the attempt.
    fn returned(&mut self, index: u32, outcome: &Outcome<'_>) -> Verdict {
        let attempt = outcome.attempt;
        let link = &mut self.links[index as usize];
        if !link.up().is_draining && !self.scheduler.is_unwanted(index, attempt) {
            link.trust.could_not_run();
            self.has_strikes = true;
            link.say_returned(attempt, &printable(&outcome.output));
        }
        self.scheduler.put_back(index, attempt)
    }

    /// The worker has shown that it can do what it is for: it is believed, and of use again.
    fn worked(&mut self, index: u32) {
        let link = &mut self.links[index as usize];
        link.tally.failed += self.scheduler.confirm(index) as u64;
        let was_aside = link.trust.is_aside();
        link.trust.worked();
        if was_aside {
            self.timers.cancel(Timer::Aside(index));
            self.use_again(index);
        }
    }

    /// Sets aside the workers that have shown to be broken.
    pub(super) fn judge(&mut self, now: Time) {
        if !self.has_strikes {
            return;
        }
        self.has_strikes = self.scheduler.counts().doubted > 0;
        for index in 0..self.links.len() as u32 {
            let link = &self.links[index as usize];
            let elsewhere = self.outcomes - link.outcomes;
            if link.is_usable() && link.trust.is_broken(elsewhere) {
                self.set_aside(index, now);
            }
        }
    }

    fn set_aside(&mut self, index: u32, now: Time) {
        let overruled = self.scheduler.overrule(index);
        let returned = overruled + self.scheduler.take_back(index, &Loss::Planned);
        let link = &mut self.links[index as usize];
        let until = link.trust.set_aside(now);
        self.timers.set(Timer::Aside(index), until);
        let wait = until.since(now);
        // Aloud only if it is for longer than ever: where it can do some it comes and goes.
        let level = match wait > link.aside_max {
            true => Level::Warn,
            false => Level::Info,
        };
        link.aside_max = link.aside_max.max(wait);
        log!(
            level,
            "worker {} cannot do what the others can; it is set aside for {} s, {} elsewhere",
            link.name,
            wait.as_secs(),
            tasks_go(returned as u64)
        );
        self.note_unusable(now);
    }

    /// A worker that was set aside gets another chance.
    pub(super) fn try_again(&mut self, index: u32) {
        let link = &mut self.links[index as usize];
        link.trust.try_again(self.outcomes - link.outcomes);
        self.use_again(index);
    }

    /// A worker that got nothing for a while may get tasks again, and keeps those it holds.
    pub(super) fn use_again(&mut self, index: u32) {
        self.scheduler.take_up(index);
        self.note_usable();
    }

    /// Nothing is in flight, and only doubts are left to wait for: they are settled now. A worker that
    /// is not there might tell; it gets a little time, again and again for as long as the run would
    /// wait for it (`--give-up`). From then on nobody waits for one that is switched off: every few
    /// failures would take as long. Says whether there were any.
    pub(super) fn settle_if_stuck(&mut self, now: Time) -> bool {
        let counts = self.scheduler.counts();
        if counts.doubted == 0 || counts.in_flight > 0 {
            self.timers.cancel(Timer::Doubt);
            return false;
        }
        let is_awaited = |state: &State| match state {
            State::Waiting | State::Dialing | State::Greeting { .. } => true,
            State::Up(session) => session.silence.is_lost(),
            State::Barred => false,
        };
        if self.links.iter().any(|link| is_awaited(&link.state)) {
            let give_up = self.config.give_up;
            let until = *self.judges_until.get_or_insert(now + give_up);
            if now < until {
                let next = until.min(now + DOUBT_TIMEOUT);
                self.timers.set_if_new(Timer::Doubt, next);
                return false;
            }
        }
        self.settle_doubts(now);
        true
    }

    /// Believes what is doubted of workers that are credible, or if no other could tell; else has
    /// another worker try it.
    pub(super) fn settle_doubts(&mut self, now: Time) {
        for index in 0..self.links.len() as u32 {
            if self.scheduler.doubted(index) == 0 {
                continue;
            }
            let is_judge = |link: &Link| link.is_usable() && !link.trust.is_suspected();
            let is_credible = self.links[index as usize].trust.is_credible();
            if !is_credible && self.links.iter().any(is_judge) {
                self.set_aside(index, now);
            } else {
                let confirmed = self.scheduler.confirm(index) as u64;
                self.links[index as usize].tally.failed += confirmed;
            }
        }
    }
}

/// Whether it failed so soon that the worker may be to blame. One that ran out of time has tried for
/// long, however little that was.
fn is_fast(outcome: &Outcome<'_>) -> bool {
    let is_short = Duration::from_micros(outcome.run_us.into()) < FAST_FAILURE;
    outcome.status == Status::Failed && is_short
}
