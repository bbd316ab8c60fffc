//! One run: a head, its workers, and the world between them.
//!
//! What it is: the loop that takes what happens next, tells the process it concerns, and has the ledger
//! look at every step. What it is not: the faults (`faults.rs`) or the oracles (`ledger.rs`,
//! `oracles.rs`).
//!
//! Invariant: the run ends with the head's exit, within the bound its plan states.

use teamster::frame::Side;
use teamster::head::Head;
use teamster::limits::OUTPUT_BYTES_MAX;
use teamster::role::Exit;
use teamster::time::{Duration, Time};
use teamster::worker::{Worker, WorkerConfig};

use crate::faults::{Counts, Kind};
use crate::job::Job;
use crate::lives::new_head;
use crate::node::Node;
use crate::oracle;
use crate::plan::Plan;
use crate::pool::Pool;
use crate::rim::{Conn, News, Rim};
use crate::trace::enter;
use crate::world::{What, World};

/// More steps than any run needs: what goes on without end stops here.
const STEPS_MAX: u64 = 2_000_000;

pub struct Run {
    pub world: World,
    pub head: Node<Head<Job>>,
    pub workers: Vec<Option<Host>>,
    lives: u32,
    pub head_turns: u64,
    steps: u64,
    /// Since when the head has had no worker to use.
    pub unusable_since: Option<Time>,
}

/// A worker's process while it lives.
pub struct Host {
    pub node: Node<Worker>,
    life: u32,
    pub credit_tasks: u32,
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
}
