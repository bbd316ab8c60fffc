//! What there is to see of a run at one moment.
//!
//! What it is: [`Overview`], which the head fills on demand, and which progress line, summary, report
//! and status page are different renderings of; so they never disagree. What it is not: kept
//! anywhere, or counted for: nearly all of it is what the head has to know anyway.
//!
//! Invariant: what is lent here is text of users and peers; whoever shows it makes it harmless.

use std::fmt;

use crate::frame::Status;
use crate::rate::Rate;
use crate::role::{Exit, Usage};
use crate::time::Duration;

/// A run at one moment.
#[derive(Clone, Debug)]
pub struct Overview<'a> {
    /// The job and its arguments.
    pub job: String,
    /// How it ended, if it has.
    pub ended: Option<Exit>,
    /// Since the first dial.
    pub elapsed: Duration,
    /// Processor time of the head's own process, if the system tells it.
    pub head_cpu: Option<Duration>,
    /// Where the tasks are.
    pub tasks: Tasks,
    /// The recent rate, once it is known.
    pub rate: Option<Rate>,
    /// Until the end at that rate, once it is known.
    pub left: Option<Duration>,
    /// Why nothing runs, if nothing does and the run has not ended.
    pub idle: Option<String>,
    /// Failed tasks by reason, in the order of the first of each.
    pub failures: Vec<Failure<'a>>,
    /// How many failed for yet other reasons.
    pub failures_other: u64,
    /// In the order in which they were named.
    pub workers: Vec<Worker<'a>>,
}

/// How many tasks are where. All but `total` and `replayed` add up to those that were begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tasks {
    /// How many there are in all, if that is known yet.
    pub total: Option<u64>,
    /// How much of the job is done, in thousandths, if that is known.
    pub share_milli: Option<u64>,
    /// Wait to be sent.
    pub ready: u64,
    /// Are at a worker: running, or queued there.
    pub in_flight: u64,
    /// Failed, which is not believed yet.
    pub doubted: u64,
    /// Have an outcome that is not durable yet.
    pub recording: u64,
    /// Are done.
    pub done: u64,
    /// Have failed for good.
    pub failed: u64,
    /// Were answered in an earlier run (`--resume`).
    pub replayed: u64,
}

/// Failed tasks that have a reason in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure<'a> {
    /// How many.
    pub count: u64,
    /// How they ended.
    pub status: Status,
    /// The reason of the first: any bytes.
    pub reason: &'a [u8],
    /// Its number.
    pub task: u64,
    /// The worker that said so; `None` if the head did.
    pub worker: Option<&'a str>,
}

/// One worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worker<'a> {
    /// As it was named.
    pub name: &'a str,
    /// How the head stands with it.
    pub standing: Standing,
    /// Threads that compute; as it said when it was last up, 0 before.
    pub slots: u16,
    /// Of those it had, how many are held by kernels that do not end.
    pub slots_hung: u16,
    /// Attempts it holds.
    pub in_flight: u32,
    /// What it did.
    pub tally: Tally,
    /// How long its kernels ran for outcomes that came, summed over its slots.
    pub run_time: Duration,
    /// How long its slots were there for the head, summed.
    pub slot_time: Duration,
    /// What its process had of its machine meanwhile, if it says so.
    pub usage: Option<Usage>,
    /// Input bytes of tasks, with all that went to it beside them.
    pub sent_bytes: u64,
    /// Output bytes of outcomes.
    pub received_bytes: u64,
    /// Since it was last heard, if it is connected.
    pub silence: Option<Duration>,
}

impl Worker<'_> {
    /// How much of its slots' time its kernels ran, in thousandths.
    pub fn busy_milli(&self) -> u64 {
        share_milli(self.run_time, self.slot_time)
    }
}

/// An outcome may have been computed before a loss and come after it; still nobody works more than
/// all the time.
fn share_milli(part: Duration, whole: Duration) -> u64 {
    (part.as_micros() * 1000 / whole.as_micros().max(1)).min(1000) as u64
}

/// What a worker did, counted in attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Outcomes `done` that counted.
    pub done: u64,
    /// Outcomes `failed` and `timeout` that counted.
    pub failed: u64,
    /// Attempts taken back because it was lost.
    pub lost: u64,
    /// Attempts it handed back without running them.
    pub returned: u64,
    /// Outcomes that came after another one counted.
    pub late: u64,
}

/// How the head stands with a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It waits for its time to be dialled again.
    Waiting,
    /// A connection to it is being made.
    Dialing,
    /// It is connected and has not said what it offers yet.
    Greeting,
    /// The run was over before it had answered.
    Unanswered,
    /// It takes tasks.
    Up,
    /// It takes tasks, but does not get the processors that it could use.
    Throttled,
    /// It has been silent for too long.
    Lost,
    /// It is about to end and takes no more tasks.
    Draining,
    /// It fails what others can do, and gets no tasks for a while.
    Aside,
    /// It cannot be used in this run.
    Barred,
}

impl Standing {
    /// Every one.
    pub const ALL: [Standing; 10] = [
        Standing::Waiting,
        Standing::Dialing,
        Standing::Greeting,
        Standing::Unanswered,
        Standing::Up,
        Standing::Throttled,
        Standing::Lost,
        Standing::Draining,
        Standing::Aside,
        Standing::Barred,
    ];

    /// Whether it is given tasks.
    pub const fn takes_tasks(self) -> bool {
        matches!(self, Standing::Up | Standing::Throttled)
    }

    /// One word, as in reports.
    pub const fn word(self) -> &'static str {
        match self {
            Standing::Waiting => "unreachable",
            Standing::Dialing => "dialling",
            Standing::Greeting => "greeting",
            Standing::Unanswered => "unanswered",
            Standing::Up => "up",
            Standing::Throttled => "throttled",
            Standing::Lost => "lost",
            Standing::Draining => "draining",
            Standing::Aside => "aside",
            Standing::Barred => "unusable",
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl Overview<'_> {
    /// Workers that take tasks now.
    pub fn up(&self) -> usize {
        let workers = self.workers.iter();
        workers.filter(|w| w.standing.takes_tasks()).count()
    }

    /// How many of those do not get the processors that they could use.
    pub fn throttled(&self) -> usize {
        let workers = self.workers.iter();
        workers
            .filter(|w| w.standing == Standing::Throttled)
            .count()
    }

    /// Processor time of all workers that say what they had.
    pub fn workers_cpu(&self) -> Option<Duration> {
        let usages = self.workers.iter().filter_map(|worker| worker.usage);
        usages.map(|usage| usage.cpu).reduce(|sum, cpu| sum + cpu)
    }

    /// Slots of all workers that were up at some time.
    pub fn slots(&self) -> u64 {
        self.workers
            .iter()
            .map(|worker| u64::from(worker.slots))
            .sum()
    }

    /// How much of all slots' time kernels ran, in thousandths.
    pub fn busy_milli(&self) -> u64 {
        share_milli(
            self.workers.iter().map(|worker| worker.run_time).sum(),
            self.workers.iter().map(|worker| worker.slot_time).sum(),
        )
    }

    /// Over the whole run.
    pub fn mean_rate(&self) -> Option<Rate> {
        let tasks = (self.tasks.done + self.tasks.failed).saturating_sub(self.tasks.replayed);
        let span = self.elapsed;
        (tasks > 0 && span.as_micros() > 0).then_some(Rate { tasks, span })
    }

    /// Attempts that run now, as far as the head can tell: as many as there are slots for.
    pub fn running(&self) -> u64 {
        let there = self.workers.iter().filter(|w| w.standing != Standing::Lost);
        there
            .map(|w| u64::from(w.in_flight.min(w.slots.into())))
            .sum()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A worker that is up.
    pub fn worker(name: &str) -> Worker<'_> {
        Worker {
            name,
            standing: Standing::Up,
            slots: 3,
            slots_hung: 0,
            in_flight: 5,
            tally: Tally {
                done: 300,
                failed: 4,
                ..Tally::default()
            },
            run_time: Duration::from_millis(9_500),
            slot_time: Duration::from_secs(10),
            usage: Some(Usage {
                cpu: Duration::from_millis(9_400),
                waited: Duration::from_millis(70),
            }),
            sent_bytes: 1536,
            received_bytes: 96,
            silence: Some(Duration::from_millis(20)),
        }
    }

    /// A run for the renderings to show.
    pub fn overview() -> Overview<'static> {
        Overview {
            job: "square --count 1000".into(),
            ended: None,
            elapsed: Duration::from_millis(6_300),
            head_cpu: Some(Duration::from_millis(310)),
            tasks: Tasks {
                total: Some(1000),
                share_milli: Some(304),
                ready: 2,
                in_flight: 5,
                done: 300,
                failed: 4,
                ..Tasks::default()
            },
            rate: Some(Rate {
                tasks: 482,
                span: Duration::from_secs(10),
            }),
            left: Some(Duration::from_millis(14_400)),
            idle: None,
            failures: vec![Failure {
                count: 4,
                status: Status::Failed,
                reason: b"n is \"odd\"\x1b",
                task: 17,
                worker: Some("a:1"),
            }],
            failures_other: 0,
            workers: vec![
                worker("a:1"),
                Worker {
                    standing: Standing::Waiting,
                    slots: 0,
                    in_flight: 0,
                    tally: Tally::default(),
                    usage: None,
                    silence: None,
                    ..worker("b\"\\<b>:2")
                },
            ],
        }
    }
}
