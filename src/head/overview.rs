//! What the head can tell of a run.
//!
//! What it is: the part of the head that fills an [`Overview`]. What it is not: a counter; that is
//! done where things happen.
//!
//! Invariant: looking changes nothing.

use super::link::{Link, State};
use super::replay::FORMER;
use super::{Head, Timer};
use crate::kernel::Workload;
use crate::limits::OUTPUT_BYTES_MAX;
use crate::overview::{Failure, Overview, Standing, Tasks, Worker};
use crate::scheduler::NO_WORKER;
use crate::time::{Duration, Time};
use crate::words::count;

impl<W: Workload> Head<W> {
    /// The run as it stands now.
    pub fn look(&self, now: Time) -> Overview<'_> {
        let now = self.ended.map_or(now, |(_, at)| at);
        let failures = &self.failures;
        let groups = failures.groups().iter();
        let tasks = self.tasks();
        Overview {
            job: self.workload.describe(),
            ended: self.ended.map(|(exit, _)| exit),
            elapsed: now.since(self.first_dial_at.unwrap_or(now)),
            // The driver knows.
            head_cpu: None,
            rate: self.meter.rate(now),
            left: self.left(now),
            idle: self.why_idle(&tasks, now),
            failures: groups
                .map(|group| Failure {
                    count: group.count,
                    status: group.status,
                    reason: &group.reason,
                    task: group.task,
                    worker: self.name_of(group.worker),
                })
                .collect(),
            failures_other: failures.others(),
            workers: (0..self.links.len() as u32)
                .map(|index| self.worker(index, now))
                .collect(),
            tasks,
        }
    }

    /// Has the meter know of what was done in this turn.
    #[inline(always)]
    pub(super) fn measure(&mut self, now: Time) {
        let answered = self.scheduler.answered();
        let is_news = match self.meter.tasks() {
            Some(tasks) => tasks != answered,
            None => self.scheduler.counts().in_flight > 0,
        };
        if is_news {
            self.meter.note(now, answered, self.work().0);
        }
    }

    /// How much is done and how much there is, in whatever the job counts; 0 if it does not know.
    fn work(&self) -> (u64, u64) {
        let answered = self.scheduler.answered();
        let begun = self.scheduler.end();
        match (self.tasks_total(), self.workload.share()) {
            (Some(total), None) => (answered, total),
            // What was handed out is done but for the tasks that are still open.
            (_, Some((taken, total))) => {
                let done = u128::from(taken) * u128::from(answered) / u128::from(begun.max(1));
                (done as u64, total)
            }
            (None, None) => (0, 0),
        }
    }

    fn tasks_total(&self) -> Option<u64> {
        match self.exhausted {
            true => Some(self.scheduler.end()),
            false => self.workload.tasks_total(),
        }
    }

    fn left(&self, now: Time) -> Option<Duration> {
        let (done, total) = self.work();
        let answered = self.scheduler.answered() - self.replayed;
        // The first to answer are the shortest: before every slot could have, they prove nothing.
        let is_known = total > 0 && answered >= u64::from(self.slots()) && self.ended.is_none();
        is_known.then(|| self.meter.left(now, total - done))?
    }

    fn tasks(&self) -> Tasks {
        let counts = self.scheduler.counts();
        let failed = self.scheduler.failed();
        let (done, total) = self.work();
        Tasks {
            total: self.tasks_total(),
            share_milli: (u128::from(done) * 1000)
                .checked_div(total.into())
                .map(|milli| milli as u64),
            ready: counts.ready as u64,
            in_flight: counts.in_flight as u64,
            doubted: counts.doubted as u64,
            recording: counts.recording as u64,
            done: self.scheduler.answered() - failed - counts.recording as u64,
            failed,
            replayed: self.replayed,
        }
    }

    fn worker(&self, index: u32, now: Time) -> Worker<'_> {
        let link = &self.links[index as usize];
        let session = link.session();
        Worker {
            name: &link.name,
            standing: match (self.ended, standing(link)) {
                (Some(_), _) if !link.was_tried() => Standing::Unanswered,
                // Nobody is, once it is over: whether it was just then is mere chance.
                (Some(_), Standing::Dialing | Standing::Greeting) => Standing::Waiting,
                (_, standing) => standing,
            },
            slots: link.slots,
            slots_hung: session.map_or(0, |session| session.slots_hung()),
            in_flight: self.scheduler.held_tasks(index),
            tally: link.tally,
            run_time: Duration::from_micros(link.run_us),
            slot_time: link.slot_time(now),
            usage: link.usage,
            sent_bytes: link.sent_bytes,
            received_bytes: link.received_bytes,
            silence: session.map(|session| now.since(session.silence.since())),
        }
    }

    /// A worker of this run or of an earlier one; `None` if the head itself answered.
    pub(super) fn name_of(&self, index: u32) -> Option<&str> {
        match index {
            NO_WORKER => None,
            FORMER.. => Some(&self.former[(index - FORMER) as usize]),
            _ => Some(&self.links[index as usize].name),
        }
    }

    /// One sentence for whoever wonders.
    fn why_idle(&self, tasks: &Tasks, now: Time) -> Option<String> {
        if tasks.in_flight > 0 || self.ended.is_some() {
            return None;
        }
        if self.unwritten_bytes >= OUTPUT_BYTES_MAX {
            return Some("nobody reads the results: go on reading them".into());
        }
        if self.exhausted && tasks.ready + tasks.doubted == 0 {
            return Some(match tasks.recording {
                0 => "all tasks are answered; the results are being written".into(),
                number => {
                    let outcomes = count(number, "outcome");
                    format!("the journal is being written: {outcomes} not on disk yet")
                }
            });
        }
        if !self.links.iter().any(Link::is_usable) {
            return Some(self.why_none_is_usable(now));
        }
        if tasks.doubted > 0 {
            let failures = count(tasks.doubted, "failure");
            return Some(format!("another worker has to confirm {failures}"));
        }
        Some("no task is ready: the job's input has not come yet".into())
    }

    fn why_none_is_usable(&self, now: Time) -> String {
        let counts = Standing::ALL.map(|standing| {
            let links = self.links.iter();
            (
                standing,
                links
                    .filter(|link| self::standing(link) == standing)
                    .count(),
            )
        });
        let some = counts.iter().filter(|(_, count)| *count > 0);
        let parts: Vec<String> = some
            .map(|(standing, count)| format!("{count} {standing}"))
            .collect();
        let end = match self.timers.get(Timer::GiveUp) {
            Some(at) => format!(
                "; the run ends in {} s (--give-up)",
                at.since(now).as_secs()
            ),
            None => String::new(),
        };
        format!("no worker can take tasks ({}){end}", parts.join(", "))
    }
}

fn standing(link: &Link) -> Standing {
    match &link.state {
        State::Waiting => Standing::Waiting,
        State::Dialing => Standing::Dialing,
        State::Greeting { .. } => Standing::Greeting,
        State::Barred => Standing::Barred,
        State::Up(session) if session.silence.is_lost() => Standing::Lost,
        State::Up(session) if session.is_draining => Standing::Draining,
        State::Up(_) if link.trust.is_aside() => Standing::Aside,
        State::Up(session) if session.throttle.is_throttled() => Standing::Throttled,
        State::Up(_) => Standing::Up,
    }
}
