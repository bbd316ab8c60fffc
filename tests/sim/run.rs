//! One run: a head, its workers, and the world between them.
//!
//! What it is: the loop that takes what happens next, tells the process it concerns, and has the ledger
//! look at every step. What it is not: the faults (`faults.rs`) or the oracles (`ledger.rs`).
//!
//! Invariant: the run ends with the head's exit, within the bound its plan states.

use teamster::frame::Side;
use teamster::head::Head;
use teamster::limits::{DOUBTS_MAX, LATE_AFTER_MIN, LOST_AFTER, OUTPUT_BYTES_MAX};
use teamster::role::Exit;
use teamster::time::{Duration, Time};
use teamster::worker::{Worker, WorkerConfig};

use crate::faults::{Counts, Kind};
use crate::job::Job;
use crate::lives::new_head;
use crate::node::Node;
use crate::oracle;
use crate::plan::{Plan, SLOW_NET_US_MAX};
use crate::pool::Pool;
use crate::rim::{Conn, News, Rim};
use crate::trace::enter;
use crate::world::{What, World};

/// More steps than any run needs: what goes on without end stops here.
const STEPS_MAX: u64 = 2_000_000;
/// The scheduler's whole table is walked every so many turns of the head.
const CHECK_EVERY: u64 = 32;

pub struct Run {
    pub world: World,
    pub head: Node<Head<Job>>,
    pub workers: Vec<Option<Host>>,
    lives: u32,
    head_turns: u64,
    steps: u64,
    /// Since when the head has had no worker to use.
    pub unusable_since: Option<Time>,
}

/// A worker's process while it lives.
pub struct Host {
    node: Node<Worker>,
    life: u32,
    credit_tasks: u32,
    /// It has been told to end.
    pub is_draining: bool,
}

impl std::ops::Deref for Host {
    type Target = Node<Worker>;

    fn deref(&self) -> &Node<Worker> {
        &self.node
    }
}

impl std::ops::DerefMut for Host {
    fn deref_mut(&mut self) -> &mut Node<Worker> {
        &mut self.node
    }
}

/// What a run leaves behind.
pub struct Report {
    pub hash: u64,
    pub ended: Time,
    pub strikes: Counts,
    pub pauses: u64,
    pub hung: u64,
    pub steps: u64,
}

impl Run {
    pub fn new(plan: Plan, prints: bool) -> Run {
        let mut run = Run {
            head: new_head(&plan, plan.tasks.clone()),
            workers: (0..plan.workers).map(|_| None).collect(),
            world: World::new(plan, prints),
            lives: 0,
            head_turns: 0,
            steps: 0,
            unusable_since: None,
        };
        for node in 1..=run.world.plan.workers {
            run.start(node);
        }
        run.head.rim.wake(Time::ZERO, &mut run.world);
        let us = run.world.rng.below(run.world.plan.fault_gap_us);
        run.world.push(Time::from_micros(us), What::Strike);
        if let Some(at) = run.world.plan.interrupt {
            run.world.push(at, What::Interrupt);
        }
        if let Some(at) = run.world.plan.gone {
            run.world.push(at, What::Gone);
        }
        run
    }

    /// Runs to the end.
    ///
    /// # Panics
    /// If an oracle does not hold.
    pub fn run(mut self) -> Report {
        self.run_until(|_| false);
        self.check_end();
        self.check_journal();
        Report {
            hash: self.world.trace.hash(),
            ended: self.world.now,
            strikes: self.world.ledger.strikes,
            pauses: self.world.ledger.pauses,
            hung: self.world.ledger.hung,
            steps: self.steps,
        }
    }

    /// Runs until `is_there`, or to the end.
    pub fn run_until(&mut self, is_there: impl Fn(&Run) -> bool) {
        let ends_before = self.world.plan.ends_before();
        while self.head.rim.exit.is_none() && !is_there(self) {
            enter("simulator", self.world.now);
            let Some(what) = self.world.pop() else {
                crate::trace::fail("ends-in-time", "nothing will ever happen again");
            };
            self.steps += 1;
            let now = self.world.now;
            enter("simulator", now);
            oracle!(
                "ends-in-time",
                now < ends_before,
                "calm since {}, and still {:?}",
                self.world.plan.calm,
                self.head.role.scheduler().counts()
            );
            oracle!("no-storm", self.steps < STEPS_MAX, "{} steps", self.steps);
            self.step(what);
        }
    }

    fn step(&mut self, what: What) {
        match what {
            What::Turn { node } => self.turn(node),
            What::Arrival { cable, end } | What::Space { cable, end } => {
                let node = match end {
                    0 => 0,
                    _ => self.world.cables[cable].node,
                };
                self.wake(node);
            }
            What::Return {
                node,
                life,
                thread,
                serial,
            } => self.kernel_returns(node, life, thread, serial),
            What::Dial { life, .. }
            | What::Written { life, .. }
            | What::Input { life }
            | What::Sync { life }
            | What::Recorded { life, .. }
                if life != self.world.head_life => {}
            What::Dial { dial, .. } => self.decide(dial),
            What::Sync { .. } => self.sync(),
            What::Recorded { count, .. } => {
                self.head.rim.recorded += count;
                self.wake(0);
            }
            What::Written { bytes, .. } => {
                self.head.rim.unwritten -= bytes;
                self.head.rim.written += bytes;
                self.wake(0);
            }
            What::Input { .. } => self.supply(),
            What::Strike => self.strike(),
            What::Restart { node } => self.start(node),
            What::Resume { node } => self.wake(node),
            What::Kill {
                node,
                life,
                thread,
                serial,
            } => self.kill(node, life, thread, serial),
            What::Gone => self.gone(),
            What::Interrupt => self.interrupt(),
        }
    }

    /// The next piece of the input is there.
    fn supply(&mut self) {
        let supply = self.world.plan.supply.as_ref().expect("it was asked for");
        let count = 1 + self.world.rng.below(supply.piece_tasks_max);
        let count = count.min(self.head.role.workload().unfed());
        self.head.rim.input = Some(count as usize);
        self.wake(0);
    }

    fn wake(&mut self, node: usize) {
        let now = self.world.now;
        let rim = match node {
            0 => Some(&mut self.head.rim),
            _ => self.workers[node - 1].as_mut().map(|host| &mut host.rim),
        };
        if let Some(rim) = rim {
            rim.wake(now, &mut self.world);
        }
    }

    /// Starts a worker: another life, with other slots and another credit.
    fn start(&mut self, node: usize) {
        if self.world.plan.gone.is_some_and(|at| at <= self.world.now) {
            return;
        }
        self.lives += 1;
        let life = self.lives;
        let mut config: WorkerConfig = self.world.plan.worker_config(&mut self.world.rng);
        config.incarnation = u64::from(life);
        self.world.weather[node].is_down = false;
        let pool = Pool::new(node, life, config.slots);
        let rim = Rim::new(node, Side::Worker, config.payload_bytes_max, Some(pool));
        let credit_tasks = config.credit_tasks;
        let role = Worker::new(config);
        self.workers[node - 1] = Some(Host {
            node: Node { role, rim },
            life,
            credit_tasks,
            is_draining: false,
        });
    }

    fn turn(&mut self, node: usize) {
        let now = self.world.now;
        if node == 0 {
            if self.head.rim.turn_at != Some(now) {
                return;
            }
            if now < self.head.rim.muted_until {
                self.head.rim.turn_at = None;
                return self.head.rim.wake(now, &mut self.world);
            }
            self.head.turn(&mut self.world);
            return self.after_head_turn();
        }
        let Some(host) = &mut self.workers[node - 1] else {
            return;
        };
        if host.rim.turn_at != Some(now) {
            return;
        }
        if now < host.rim.muted_until {
            host.rim.turn_at = None;
            return host.rim.wake(now, &mut self.world);
        }
        host.turn(&mut self.world);
        if let Some(exit) = host.rim.exit {
            let pool = host.rim.pool.as_ref().expect("workers have pools");
            let is_told = match exit {
                Exit::Done => host.is_draining,
                Exit::Failed => pool.was_useless(),
                _ => false,
            };
            oracle!("exit-code", is_told, "worker {node} exits with {exit:?}");
            // A session that was closed earlier may have been, for the head's silence, before this
            // worker was told to end.
            let conns = host.rim.conns.iter().flatten();
            let ends_now = |conn: &&Conn| !conn.is_over && conn.closing.is_none_or(|at| at == now);
            for conn in conns.filter(ends_now) {
                self.world.ledger.worker_ends(conn.cable);
            }
            return self.ended(node);
        }
        self.check_worker(node);
    }

    fn after_head_turn(&mut self) {
        let life = self.world.head_life;
        for dial in std::mem::take(&mut self.head.rim.dials) {
            let us = 2 * self.world.delay_us(dial as usize + 1);
            let at = self.world.after_us(us);
            self.world.push(at, What::Dial { dial, life });
        }
        let bytes = std::mem::take(&mut self.head.rim.to_write);
        if bytes > 0 {
            let us = self.world.rng.below(20_000);
            let at = self.world.after_us(us).max(self.world.output_stalls);
            let part = 1 + self.world.rng.below(bytes as u64) as usize;
            for bytes in [part, bytes - part] {
                self.world.push(at, What::Written { bytes, life });
            }
        }
        let limit = OUTPUT_BYTES_MAX + self.world.plan.text_bytes;
        let unwritten = self.head.rim.unwritten;
        // At its end it hands over all it has.
        let is_over = self.head.rim.exit.is_some();
        oracle!(
            "bounds",
            is_over || unwritten <= limit,
            "{unwritten} unwritten bytes"
        );
        self.head_turns += 1;
        self.check_head();
    }

    fn check_head(&mut self) {
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

    /// Since when the head has had no worker to use.
    fn note_usable(&mut self) {
        let head = &self.head.role;
        let mut workers = 0..self.world.plan.workers as u32;
        let has_usable = workers.any(|worker| {
            let is_up = head.credit(worker).is_some() && !head.is_lost(worker);
            head.is_usable(worker) || (is_up && head.scheduler().doubted(worker) >= DOUBTS_MAX)
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
        let has_task = counts.ready > 0 || (head.workload().has_next() && scheduler.has_room());
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
            oracle!(
                "work-conserving",
                !(has_task && is_idle),
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

    fn check_worker(&mut self, node: usize) {
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

    fn kernel_returns(&mut self, node: usize, life: u32, thread: usize, serial: u64) {
        let Some(host) = &mut self.workers[node - 1] else {
            return;
        };
        if host.life != life {
            return;
        }
        if self.world.now < host.rim.muted_until {
            // A stopped process does not compute either.
            let at = host.rim.muted_until + Duration::from_micros(1);
            let what = What::Return {
                node,
                life,
                thread,
                serial,
            };
            return self.world.push(at, what);
        }
        let pool = host.rim.pool.as_mut().expect("workers have pools");
        if pool.end(thread, serial, &mut self.world) {
            pool.start(&mut self.world);
            host.rim.wake(self.world.now, &mut self.world);
        }
    }

    /// A pool thread has come to a task that kills its process.
    fn kill(&mut self, node: usize, life: u32, thread: usize, serial: u64) {
        let Some(host) = self.workers[node - 1]
            .as_ref()
            .filter(|host| host.life == life)
        else {
            return;
        };
        if self.world.now < host.rim.muted_until {
            let at = host.rim.muted_until + Duration::from_micros(1);
            let what = What::Kill {
                node,
                life,
                thread,
                serial,
            };
            return self.world.push(at, what);
        }
        let pool = host.rim.pool.as_ref().expect("workers have pools");
        if let Some(task) = pool.killer(thread, serial) {
            self.poison(node, task);
        }
    }

    /// A dial meets what there is at the other end.
    fn decide(&mut self, dial: u32) {
        let life = self.world.head_life;
        let node = dial as usize + 1;
        let now = self.world.now;
        let weather = self.world.weather[node];
        let in_flight = self.head.role.scheduler().counts().in_flight > 0;
        if weather.is_down || now < weather.refusing {
            if self.world.rng.chance(30) {
                // Nobody answers; the network asks again a second later.
                let at = self.world.after_us(1_000_000);
                return self.world.push(at, What::Dial { dial, life });
            }
            if now < weather.refusing {
                self.world.ledger.strike(Kind::Refused, in_flight);
            }
            self.head.rim.news.push(News::DialFailed { dial });
            return self.wake(0);
        }
        let is_deaf = now < weather.deaf;
        if is_deaf {
            self.world.ledger.strike(Kind::NoGreeting, in_flight);
        }
        let cable = self.world.connect(node, is_deaf);
        let host = self.workers[node - 1].as_mut().expect("it is not down");
        self.world.cables[cable].is_struck |=
            host.is_draining || now < host.rim.muted_until || now < self.head.rim.muted_until;
        if !is_deaf {
            let dial = None;
            host.rim.news.push(News::Opened { cable, dial });
        }
        let dial = Some(dial);
        self.head.rim.news.push(News::Opened { cable, dial });
        self.wake(0);
        self.wake(node);
    }

    fn check_end(&mut self) {
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
