//! What a whole run is held to: after each turn, and at its end.
//!
//! What it is: the oracles that look at the head, its workers and the weather together. What it is not:
//! the ledger, which holds each task to its life (`ledger.rs`), or the loop that has both look.
//!
//! Invariant: nothing here changes the course of a run.

use teamster::limits::{DOUBTS_MAX, LATE_AFTER_MIN, LOST_AFTER, OUTPUT_BYTES_MAX};
use teamster::role::Exit;
use teamster::time::{Duration, Time};

use crate::node::Node;
use crate::oracle;
use crate::plan::SLOW_NET_US_MAX;
use crate::run::Run;
use crate::trace::enter;

/// The scheduler's whole table is walked every so many turns of the head.
const CHECK_EVERY: u64 = 32;

impl Run {
    pub fn check_head(&mut self) {
        let head = &self.head.role;
        for worker in 0..self.world.plan.workers as u32 {
            let (is_lost, is_aside) = (head.is_lost(worker), head.is_aside(worker));
            self.world.ledger.look_at(worker, is_lost, is_aside);
        }
        self.world.ledger.check_resent();
        self.note_usable();
        self.world.ledger.judge_records();
        self.check_delivered();
        let head = &self.head.role;
        for worker in 0..self.world.plan.workers as u32 {
            if let Some((credit, held)) = head.credit(worker) {
                self.world.ledger.check_head(worker, credit, held);
            }
        }
        self.check_idle_workers();
        if self.head_turns.is_multiple_of(CHECK_EVERY) && self.head.rim.exit.is_none() {
            enter("scheduler-check", self.world.now);
            head.scheduler().check();
        }
    }

    /// What the job got since the last look.
    pub fn check_delivered(&mut self) {
        let known = self.world.ledger.delivered_count() as usize;
        for got in &self.head.role.workload().delivered[known..] {
            self.world.ledger.delivered(got);
        }
    }

    /// Since when the head has had no worker to use, but for those that only greeted.
    fn note_usable(&mut self) {
        let head = &self.head.role;
        let mut workers = 0..self.world.plan.workers as u32;
        let has_usable = workers.any(|worker| {
            let is_up = head.credit(worker).is_some() && !head.is_lost(worker);
            let is_doubted = head.scheduler().doubted(worker) >= DOUBTS_MAX;
            head.is_proven(worker) && (head.is_usable(worker) || (is_up && is_doubted))
        });
        match has_usable {
            true => self.unusable_since = None,
            false => _ = self.unusable_since.get_or_insert(self.world.now),
        }
    }

    /// After a turn nothing is left that could have been done in it.
    fn check_idle_workers(&self) {
        let (head, rim) = (&self.head.role, &self.head.rim);
        let scheduler = head.scheduler();
        let counts = scheduler.counts();
        if rim.exit.is_some() {
            return;
        }
        let has_fresh = head.workload().has_next() && scheduler.has_room();
        let has_task = has_fresh || counts.ready > 0;
        for worker in 0..self.world.plan.workers as u32 {
            oracle!(
                "no-loss",
                !head.is_lost(worker) || self.world.weather[worker as usize + 1].is_struck,
                "worker {worker}, which no fault has touched, is taken for lost"
            );
            oracle!(
                "throttled",
                !head.is_throttled(worker)
                    || self.world.weather[worker as usize + 1].slow > Time::ZERO,
                "worker {worker}, which was never slow, is taken for throttled"
            );
            let is_idle = head.is_usable(worker) && scheduler.held_tasks(worker) == 0;
            // (Without another worker nothing is kept for one, or the run would not end.)
            let has_task = || has_fresh || counts.ready > self.world.ledger.kept_from(worker);
            oracle!(
                "work-conserving",
                !(is_idle && has_task()),
                "worker {worker} has nothing to do, and there is work: {counts:?}"
            );
        }
        if !has_task && self.world.plan.duplicates {
            self.check_tail();
        }
        let workers = 0..self.world.plan.workers as u32;
        let at_living: u32 = workers
            .filter(|&worker| !head.is_lost(worker))
            .map(|worker| scheduler.held_tasks(worker))
            .sum();
        oracle!(
            "lost-returns",
            counts.in_flight <= at_living as usize,
            "{} tasks in flight, workers that are not lost hold {at_living}",
            counts.in_flight
        );
        oracle!(
            "work-conserving",
            counts.answered == 0
                || counts.answered < counts.open()
                || rim.unwritten >= OUTPUT_BYTES_MAX,
            "{} outcomes wait for nothing",
            counts.answered
        );
    }

    /// While a worker is idle, what waits at another is asked back, and what is late is made twice.
    fn check_tail(&self) {
        let (head, now) = (&self.head.role, self.head.rim.clock(self.world.now));
        let scheduler = head.scheduler();
        let workers = 0..self.world.plan.workers as u32;
        let is_idle = |worker: &u32| {
            let has_nothing = scheduler.held_tasks(*worker) == 0;
            has_nothing && head.is_usable(*worker) && !head.is_probed(*worker)
        };
        let Some(idle) = workers.clone().find(is_idle) else {
            return;
        };
        let asked: u32 = workers
            .clone()
            .map(|worker| scheduler.recalled(worker))
            .sum();
        for worker in workers.filter(|worker| head.credit(*worker).is_some()) {
            let surplus = self.world.ledger.surplus(worker);
            oracle!(
                "tail",
                asked > 0 || surplus == 0 || head.is_lost(worker) || head.is_probed(worker),
                "worker {idle} is idle, {worker} has {surplus} that wait, none is asked back"
            );
            let typical = scheduler
                .typical_run()
                .unwrap_or(Duration::from_secs(86_400));
            let late_after = (typical * 3 / 2).max(LATE_AFTER_MIN);
            let is_tail = asked == 0 && head.workload().is_at_end() && scheduler.has_room();
            let is_late = |(.., since): (u64, usize, Time)| {
                is_tail && worker != idle && now >= since + late_after
            };
            oracle!(
                "tail",
                !scheduler.longest_held(worker).is_some_and(is_late),
                "worker {idle} is idle, and what {worker} has is late"
            );
        }
    }

    pub fn check_worker(&mut self, node: usize) {
        let Some(host) = &mut self.workers[node - 1] else {
            return;
        };
        let limit = host.credit_tasks;
        let Node { role, rim } = &mut host.node;
        for (conn, tasks, bytes) in role.held() {
            if let Some(live) = rim.live(conn) {
                let cable = live.cable;
                self.world
                    .ledger
                    .check_worker(conn, cable, limit, tasks, bytes);
            }
        }
    }

    pub fn check_end(&mut self) {
        enter("simulator", self.world.now);
        let exit = self.head.rim.exit.expect("the run is over");
        let finished = self.head.role.workload().finished;
        self.world.ledger.check_end(exit, finished);
        if exit == Exit::NoWorker {
            self.check_give_up();
        }
        let mut counted = 0;
        for (index, (_, tally)) in self.head.role.tallies().enumerate() {
            counted += tally.done + tally.failed;
            oracle!(
                "no-loss",
                self.world.weather[index + 1].is_struck || tally.lost == 0,
                "worker {index}, which no fault has touched: {tally:?}"
            );
        }
        let expected = self.world.ledger.counted();
        // What came in the turn in which it was cut short is not recorded any more.
        let is_early = matches!(exit, Exit::Interrupted | Exit::NoWorker);
        let is_cut = self.world.plan.is_journalled && is_early;
        // A failure that is tried again is the worker's, too.
        let has_retries = self.world.plan.retries > 0;
        oracle!(
            "tallies",
            counted == expected || ((is_cut || has_retries) && counted > expected),
            "the workers' tallies have {counted} outcomes, {expected} counted"
        );
        self.check_idle();
    }

    /// The head gave up neither early nor late.
    fn check_give_up(&self) {
        let plan = &self.world.plan;
        let now = self.world.now;
        let waited = now.since(self.unusable_since.unwrap_or(now));
        oracle!(
            "give-up",
            waited >= plan.give_up,
            "no usable worker for {waited:?}, it may be {:?}",
            plan.give_up
        );
        if let Some(gone) = plan.gone {
            // A death may be heard of by silence alone, after what was still on its way.
            let delay = Duration::from_micros(2 * SLOW_NET_US_MAX) + LOST_AFTER;
            let until = gone.max(plan.calm) + plan.give_up + delay + Duration::from_secs(1);
            oracle!("give-up", now <= until, "workers are gone since {gone}");
        }
    }

    /// An idle process sleeps until a deadline that has a reason: few turns do nothing.
    fn check_idle(&self) {
        let seconds = self.world.now.as_micros() / 1_000_000;
        let limit = 100 + 2 * seconds * (1 + self.world.plan.workers as u64);
        let workers = self.workers.iter().flatten().map(|host| &host.rim);
        for rim in workers.chain([&self.head.rim]) {
            let (idle, node) = (rim.idle_turns, rim.node);
            oracle!(
                "no-storm",
                idle <= limit,
                "node {node}: {idle} idle turns in {seconds} s"
            );
        }
    }
}
