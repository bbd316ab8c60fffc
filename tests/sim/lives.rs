//! The head's lives.
//!
//! What it is: how a head starts, dies, and goes on from its journal as the real program does; and
//! what the journal must tell after the end. What it is not: the disk, or what a worker makes of it.
//!
//! Invariant: a life has its own clock, connections and attempts; it shares nothing with the one
//! before but the journal.

use teamster::frame::Side;
use teamster::head::{Head, HeadConfig, Misfit, Relief};
use teamster::journal::{Outcome, Record};
use teamster::limits::REPLAY_BYTES;
use teamster::recorder::End;
use teamster::role::{CloseReason, Exit};
use teamster::time::Time;

use crate::disk::Disk;
use crate::faults::Kind;
use crate::job::{Job, Tasks};
use crate::node::Node;
use crate::oracle;
use crate::plan::Plan;
use crate::rim::Rim;
use crate::run::Run;
use crate::world::What;

/// A head that dies all the time would never come to the end of a task.
const LIVES_MAX: u32 = 8;

pub fn new_head(plan: &Plan, tasks: Tasks) -> Node<Head<Job>> {
    let names = (1..=plan.workers).map(|node| format!("w{node}")).collect();
    let mut config = HeadConfig::new(names);
    config.payload_bytes_max = plan.tasks.payload_bytes_max;
    config.ordered = plan.ordered;
    config.give_up = plan.give_up;
    config.seed = plan.seed;
    config.attempts_max = plan.attempts_max;
    // Some of those that run nothing twice move what has not started, others not even that.
    config.relief = match plan.duplicates {
        true => Relief::Duplicate,
        false if plan.seed.is_multiple_of(2) => Relief::HandBack,
        false => Relief::None,
    };
    config.retries = plan.retries;
    config.timeout = plan.timeout;
    config.is_journalled = plan.is_journalled;
    Node {
        role: Head::new(
            config,
            Job::new(tasks, plan.text_bytes, plan.supply.is_some()),
        ),
        rim: Rim::new(0, Side::Head, plan.tasks.payload_bytes_max, None),
    }
}

/// Has a head read the journal; `note` sees each outcome first.
fn replay(
    head: &mut Head<Job>,
    disk: &Disk,
    mut note: impl FnMut(&Outcome<'_>),
) -> Result<End, Misfit> {
    let mut reader = disk.reader();
    loop {
        match reader.read() {
            Ok(Some(Record::Outcome(outcome))) => {
                note(&outcome);
                while !head.replay(&outcome)? {
                    feed(head);
                }
                head.take_text(REPLAY_BYTES);
            }
            Ok(Some(Record::Mark(_))) => {}
            Ok(None) => break,
            Err(error) => crate::trace::fail("durable", &format!("the journal {error}")),
        }
    }
    while !head.end_replay() {
        feed(head);
    }
    Ok(reader.end())
}

/// Whatever is asked for before the run comes in small pieces.
fn feed(head: &mut Head<Job>) {
    let count = head.workload().unfed().min(3);
    head.feed(&vec![0; count as usize]);
}

impl Run {
    /// A batch is durable; the head is told in two parts.
    pub fn sync(&mut self) {
        let (now, life) = (self.world.now, self.world.head_life);
        let count = self.world.disk.sync();
        let part = self.world.rng.below(count as u64 + 1) as usize;
        let us = self.world.rng.below(5_000);
        for (at, count) in [(now, part), (self.world.after_us(us), count - part)] {
            if count > 0 {
                self.world.push(at, What::Recorded { count, life });
            }
        }
        if self.world.disk.is_busy() {
            self.world.sync_later();
        }
    }

    pub fn crash_head(&mut self) {
        // While it is down it cannot die.
        if self.world.now < self.head.rim.born || self.world.head_life >= LIVES_MAX {
            return;
        }
        let in_flight = self.head.role.scheduler().counts().in_flight > 0;
        self.world.ledger.strike(Kind::HeadCrash, in_flight);
        self.break_cables();
        self.world.disk.crash(&mut self.world.rng);
        let at = self.until(1_000, 20_000_000);
        self.restart_head(at);
    }

    /// Its connections end as those of any process that dies.
    fn break_cables(&mut self) {
        let is_silent = self.world.rng.chance(20);
        for cable in 0..self.world.cables.len() {
            if !self.world.cables[cable].attached[0] {
                continue;
            }
            self.world.cables[cable].is_struck = true;
            // A machine that loses its power does not say so.
            if is_silent {
                self.world.deaden(cable);
            } else if self.world.rng.chance(50) {
                self.world.cables[cable].pipes[1].drop_transit();
            }
            let reason = CloseReason::Broken("connection reset by peer".into());
            self.world.detach(cable, 0, reason);
        }
    }

    /// A new head begins at `at`, with what the journal has.
    fn restart_head(&mut self, at: Time) {
        self.world.head_life += 1;
        let tasks = self.world.plan.tasks.clone();
        self.head = new_head(&self.world.plan, tasks);
        self.head.rim.born = at;
        self.head.rim.muted_until = at;
        self.unusable_since = None;
        self.world.ledger.new_head();
        let records = &mut self.world.ledger.records;
        records.begin_replay();
        let note = |outcome: &Outcome<'_>| records.read(outcome);
        let end = match replay(&mut self.head.role, &self.world.disk, note) {
            Ok(end) => end,
            Err(misfit) => crate::trace::fail("durable", &format!("refused: {misfit}")),
        };
        self.world.ledger.records.end_replay();
        let broken = self.world.disk.go_on(end);
        oracle!("durable", broken == 0, "{broken} bytes were durable once");
        self.head.rim.wake(at, &mut self.world);
    }

    /// After the end the journal tells the whole run once more, and fits no other job.
    pub fn check_journal(&mut self) {
        if !self.world.plan.is_journalled {
            return;
        }
        let exit = self.head.rim.exit;
        self.world.disk.close();
        let now = self.world.now;
        self.restart_head(now);
        if matches!(exit, Some(Exit::Done | Exit::Failed)) {
            self.head.turn(&mut self.world);
            oracle!(
                "durable",
                self.head.rim.exit == exit && self.head.rim.dials.is_empty(),
                "a run that ended with {exit:?} ends again with {:?}, dialling {:?}",
                self.head.rim.exit,
                self.head.rim.dials
            );
        }
        self.check_delivered();
        let delivered = self.world.ledger.delivered_count();
        oracle!(
            "durable",
            self.head.rim.exit.is_none() || delivered == self.world.plan.tasks.count,
            "{delivered} tasks are delivered again"
        );
        self.check_other_input();
    }

    /// A head whose job has another input refuses the journal at that task.
    fn check_other_input(&mut self) {
        let recorded = self.world.ledger.records.tasks();
        if recorded.is_empty() {
            return;
        }
        let task = recorded[self.world.rng.below(recorded.len() as u64) as usize];
        let mut tasks = self.world.plan.tasks.clone();
        tasks.changed = Some(task);
        let mut head = new_head(&self.world.plan, tasks).role;
        let refused = replay(&mut head, &self.world.disk, |_| {}).err();
        oracle!(
            "other-input",
            refused == Some(Misfit::OtherInput(task)),
            "task {task} has another input, and that is {refused:?}"
        );
    }
}
