//! Which losses there were, and who pays for them.
//!
//! What it is: for each task the losses that its worker's frames and silences prove, for each worker
//! what became of it, and the oracles about both: what it costs when something is lost. What it is not:
//! a copy of the scheduler's blame; it does not know who was running.
//!
//! Invariant: a loss is on a task's account until the worker proves to have lived.

use std::collections::BTreeMap;

use teamster::role::Attempt;
use teamster::time::Duration;

use crate::faults::Kind;
use crate::oracle;
use crate::plan::Plan;

pub struct Blames {
    plan: Plan,
    /// Which worker each cable goes to.
    nodes: BTreeMap<usize, u32>,
    workers: Vec<Worker>,
    tasks: Vec<Task>,
    /// Tasks sent in this turn whose last attempt its worker still holds, and over which cable.
    resent: Vec<(Attempt, usize)>,
}

#[derive(Default)]
struct Worker {
    incarnation: Option<u64>,
    slots: usize,
    /// As the head had it after its last turn.
    is_lost: bool,
    is_aside: bool,
    /// It was heard again since.
    is_back: bool,
    /// Tasks that its losses are on the account of, and that it may be forgiven.
    blamed: Vec<u64>,
    /// What could have cost it a session, and what has.
    touched: u64,
    sessions_lost: u64,
    /// Attempts that it failed, since it last did one.
    doubtful: Vec<Attempt>,
    /// It has done one at some time.
    has_worked: bool,
}

#[derive(Default)]
struct Task {
    fate: Fate,
    /// The older of two attempts that were made because it was late.
    twin: Option<(usize, u32)>,
    duplicates: usize,
    losses: Vec<Loss>,
    /// The account each time it was full.
    full: Vec<Vec<Loss>>,
    /// Workers it killed.
    kills: Vec<u32>,
    is_given_up: bool,
    is_believed: Option<Attempt>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Loss {
    worker: u32,
    /// The worker held nothing else.
    was_alone: bool,
    /// It held no more than it runs at once.
    is_certain: bool,
}

fn next(attempt: Attempt) -> Attempt {
    Attempt {
        task: attempt.task,
        number: attempt.number + 1,
    }
}

/// What became of a task's latest attempt.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Fate {
    /// It may be sent.
    #[default]
    Back,
    /// A worker has it.
    Held { cable: usize, number: u32 },
    /// It was failed, and that may not count.
    Doubtful,
    /// It was answered for good.
    Answered,
}

impl Blames {
    pub fn new(plan: &Plan) -> Blames {
        Blames {
            nodes: BTreeMap::new(),
            workers: (0..plan.workers).map(|_| Worker::default()).collect(),
            tasks: (0..plan.tasks.count).map(|_| Task::default()).collect(),
            resent: Vec::new(),
            plan: plan.clone(),
        }
    }

    /// Another head blames nobody yet.
    pub fn new_head(&mut self) {
        self.tasks
            .iter_mut()
            .for_each(|task| *task = Task::default());
        self.resent.clear();
        for worker in &mut self.workers {
            *worker = Worker {
                touched: worker.touched,
                sessions_lost: worker.sessions_lost,
                ..Worker::default()
            };
        }
    }

    pub fn dialled(&mut self, worker: u32, cable: usize) {
        self.nodes.insert(cable, worker);
        self.workers[worker as usize].is_lost = false;
    }

    pub fn touched(&mut self, worker: u32) {
        self.workers[worker as usize].touched += 1;
    }

    pub fn killed(&mut self, worker: u32, task: u64) {
        self.tasks[task as usize].kills.push(worker);
    }

    /// The process behind a cable has a name: the same as before, or another.
    pub fn greeted(&mut self, cable: usize, incarnation: u64, slots: u16) {
        let worker = self.nodes[&cable];
        let its = &mut self.workers[worker as usize];
        its.slots = usize::from(slots);
        match its.incarnation.replace(incarnation) == Some(incarnation) {
            true => self.forgive(worker),
            false => its.blamed.clear(),
        }
    }

    /// The worker computes with another number of threads.
    pub fn slots(&mut self, cable: usize, slots: u16) {
        self.workers[self.nodes[&cable] as usize].slots = usize::from(slots);
    }

    pub fn heard(&mut self, cable: usize) {
        let worker = self.nodes[&cable];
        let its = &mut self.workers[worker as usize];
        if std::mem::take(&mut its.is_lost) {
            its.is_back = true;
            self.forgive(worker);
        }
    }

    fn forgive(&mut self, worker: u32) {
        for task in std::mem::take(&mut self.workers[worker as usize].blamed) {
            let losses = &mut self.tasks[task as usize].losses;
            if let Some(index) = losses.iter().rposition(|loss| loss.worker == worker) {
                losses.remove(index);
            }
        }
    }

    pub fn sent(&mut self, cable: usize, attempt: Attempt) {
        let task = &mut self.tasks[attempt.task as usize];
        let is_open = task.fate != Fate::Answered;
        oracle!("attempts", is_open, "{attempt} is sent after an answer");
        if let Fate::Held { cable: other, .. } = task.fate {
            self.resent.push((attempt, other));
        }
        let number = attempt.number;
        task.fate = Fate::Held { cable, number };
    }

    pub fn answered(&mut self, cable: usize, attempt: Attempt, is_firm: bool, is_doubtful: bool) {
        let its = &mut self.workers[self.nodes[&cable] as usize];
        if is_firm {
            for believed in its.doubtful.drain(..) {
                self.tasks[believed.task as usize].is_believed = Some(believed);
            }
            its.has_worked = true;
        } else if is_doubtful {
            its.doubtful.push(attempt);
            if its.has_worked {
                // A few failures of a worker that has shown that it can work are believed.
                self.tasks[attempt.task as usize].is_believed = Some(attempt);
            }
        }
        let number = attempt.number;
        let task = &mut self.tasks[attempt.task as usize];
        task.twin.take_if(|twin| *twin == (cable, number));
        if is_firm && !is_doubtful {
            task.fate = Fate::Answered;
        } else if task.fate == (Fate::Held { cable, number }) {
            task.fate = if is_doubtful {
                Fate::Doubtful
            } else {
                Fate::Back
            };
        }
    }

    /// How many of the attempts held over a cable wait, and stand for tasks that nobody blames.
    pub fn surplus<'a>(
        &self,
        cable: usize,
        held: impl Iterator<Item = &'a Attempt> + Clone,
    ) -> usize {
        let waiting = held.clone().count();
        let waiting = waiting.saturating_sub(self.workers[self.nodes[&cable] as usize].slots);
        let is_movable = |attempt: &&Attempt| {
            let task = &self.tasks[attempt.task as usize];
            let number = attempt.number;
            task.fate == (Fate::Held { cable, number }) && task.losses.is_empty()
        };
        held.filter(is_movable).count().min(waiting)
    }

    /// How many tasks wait for another worker than this: it ended with them each time, and once more
    /// would be the last.
    pub fn kept_from(&self, worker: u32) -> usize {
        let is_kept = |task: &&Task| {
            task.fate == Fate::Back
                && !task.losses.is_empty()
                && task.losses.len() + 1 >= self.plan.attempts_max as usize
                && task.losses.iter().all(|loss| loss.worker == worker)
        };
        self.tasks.iter().filter(is_kept).count()
    }

    pub fn is_aside(&self, cable: usize) -> bool {
        self.workers[self.nodes[&cable] as usize].is_aside
    }

    /// Whether the worker that failed this attempt did another one later.
    pub fn is_believed(&self, attempt: Attempt) -> bool {
        self.tasks[attempt.task as usize].is_believed == Some(attempt)
    }

    /// A session has ended at the head, with these attempts unanswered.
    pub fn session_over<'a>(
        &mut self,
        cable: usize,
        held: impl Iterator<Item = &'a Attempt> + Clone,
        is_planned: bool,
        is_session: bool,
    ) {
        let Some(&worker) = self.nodes.get(&cable) else {
            return;
        };
        self.take_back(cable, held, is_planned);
        let its = &mut self.workers[worker as usize];
        its.sessions_lost += u64::from(is_session);
        oracle!(
            "sessions",
            its.sessions_lost <= its.touched,
            "worker {worker} has lost {} sessions to {} faults",
            its.sessions_lost,
            its.touched
        );
    }

    /// What the head thinks of a worker after its turn; `kept` are the latest attempts of their tasks
    /// that it holds.
    pub fn look_at<'a>(
        &mut self,
        cable: usize,
        held: impl Iterator<Item = &'a Attempt> + Clone,
        kept: impl Iterator<Item = &'a Attempt>,
        is_planned: bool,
        (is_lost, is_aside): (bool, bool),
    ) {
        let worker = self.nodes[&cable] as usize;
        let its = &mut self.workers[worker];
        let was_lost = std::mem::replace(&mut its.is_lost, is_lost);
        let was_aside = std::mem::replace(&mut its.is_aside, is_aside);
        let is_back = std::mem::take(&mut its.is_back) && !is_lost;
        if is_lost && !was_lost {
            self.take_back(cable, held.clone(), is_planned);
        }
        if is_aside && !was_aside {
            self.workers[worker].doubtful.clear();
            self.take_back(cable, held, true);
        }
        if is_back || (was_aside && !is_aside) {
            self.take_up(cable, kept);
        }
    }

    /// The worker is of use again: what it kept and nobody was sent since stands for its task.
    fn take_up<'a>(&mut self, cable: usize, kept: impl Iterator<Item = &'a Attempt>) {
        for attempt in kept {
            let task = &mut self.tasks[attempt.task as usize];
            if task.fate == Fate::Back && task.losses.is_empty() {
                let number = attempt.number;
                task.fate = Fate::Held { cable, number };
            }
        }
    }

    /// The attempts on a cable no longer stand for their tasks.
    fn take_back<'a>(
        &mut self,
        cable: usize,
        held: impl Iterator<Item = &'a Attempt> + Clone,
        is_planned: bool,
    ) {
        let worker = self.nodes[&cable];
        let was_alone = held.clone().count() == 1;
        let is_live = |attempt: &Attempt| {
            let number = attempt.number;
            let task = &self.tasks[attempt.task as usize];
            task.fate == (Fate::Held { cable, number })
                || task.twin == Some((cable, number))
                || self.resent.contains(&(next(*attempt), cable))
        };
        let live: Vec<Attempt> = held.filter(|attempt| is_live(attempt)).copied().collect();
        let is_certain = live.len() <= self.workers[worker as usize].slots;
        for attempt in live {
            let number = attempt.number;
            let task = &mut self.tasks[attempt.task as usize];
            // Otherwise it was sent again in this same turn: it was lost before.
            if task.fate == (Fate::Held { cable, number }) {
                task.fate = Fate::Back;
            }
            task.twin.take_if(|twin| *twin == (cable, number));
            if !is_planned {
                task.losses.push(Loss {
                    worker,
                    was_alone,
                    is_certain,
                });
                if task.losses.len() >= self.plan.attempts_max as usize {
                    task.full.push(task.losses.clone());
                }
                self.workers[worker as usize].blamed.push(attempt.task);
            }
        }
    }

    /// Whatever was sent again while its worker still had it had a reason.
    pub fn check_resent(&mut self) {
        for (attempt, cable) in self.resent.drain(..) {
            let worker = &self.workers[self.nodes[&cable] as usize];
            if worker.is_lost || worker.is_aside {
                continue;
            }
            let task = &mut self.tasks[attempt.task as usize];
            oracle!(
                "attempts",
                self.plan.duplicates && task.twin.is_none() && task.losses.is_empty(),
                "{attempt} is sent while the one before is at a worker that is well"
            );
            task.twin = Some((cable, attempt.number - 1));
            task.duplicates += 1;
        }
    }

    /// A task was given up, for these reasons.
    pub fn check_given_up(&mut self, number: u64, text: &str, attempts: u32) {
        let task = &mut self.tasks[number as usize];
        task.is_given_up = true;
        let (_, causes) = text.split_once('(').unwrap_or_default();
        let (causes, _) = causes
            .rsplit_once(") ")
            .or(causes.rsplit_once("); "))
            .unwrap_or_default();
        // Two that were lost in one turn may be told in either order. A cause may go on with advice.
        let mut names: Vec<&str> = causes
            .split("; ")
            .filter_map(|cause| Some(cause.split_once(": ")?.0))
            .collect();
        names.sort();
        let is_it = |losses: &&Vec<Loss>| {
            let mut named: Vec<u32> = losses.iter().map(|loss| loss.worker + 1).collect();
            named.sort();
            let named = named.iter().map(|worker| format!("w{worker}"));
            named.eq(names.iter().copied())
        };
        // The same workers may have been lost before, and forgiven.
        let mut accounts = task.full.iter().filter(is_it).peekable();
        oracle!(
            "given-up",
            accounts.peek().is_some(),
            "task {number} is given up without so many losses: {text}"
        );
        let attempts_max = self.plan.attempts_max;
        let is_sure = |losses: &&Vec<Loss>| {
            let last = losses.last().expect("there is one at least");
            match attempts_max {
                // Of two attempts at once the first to be lost may be the one that counts.
                1 => losses.iter().any(|loss| loss.is_certain),
                _ => last.is_certain && last.was_alone,
            }
        };
        let Some(losses) = accounts.find(is_sure) else {
            crate::trace::fail(
                "given-up",
                &format!("others may be to blame for the last loss of task {number}: {text}"),
            );
        };
        oracle!(
            "given-up",
            attempts as usize <= losses.len(),
            "task {number}: {attempts} losses are told, there were {}",
            losses.len()
        );
        // Kinds that end neither a process nor a connection nor silence it for long.
        // One that ends before what it has to say has left did not say that it ends.
        let is_told = self.plan.grace >= LONG_GRACE || !self.plan.kinds.contains(&Kind::Drain);
        let is_innocent =
            !self.plan.poison.contains(&number) && self.plan.has_only(&HARMLESS) && is_told;
        oracle!(
            "given-up",
            !is_innocent || self.plan.attempts_max == 1,
            "task {number} kills nobody and is given up"
        );
    }

    pub fn check_end(&self, is_early: bool) {
        const GENTLE: [Kind; 3] = [Kind::Slow, Kind::Stall, Kind::Pause];
        for &poison in &self.plan.poison {
            let task = &self.tasks[poison as usize];
            // With a timeout it may also run out of that.
            let is_alone = self.plan.poison.len() == 1
                && self.plan.attempts_max > 1
                && self.plan.timeout.is_none();
            if is_early || !is_alone || !self.plan.has_only(&GENTLE) {
                continue;
            }
            let kills = self.plan.attempts_max as usize;
            let kills = kills..=kills + task.duplicates;
            oracle!(
                "given-up",
                task.is_given_up && kills.contains(&task.kills.len()),
                "task {poison} has killed {} of {} workers",
                task.kills.len(),
                self.plan.attempts_max
            );
        }
    }
}

/// In this every outbox can be written.
const LONG_GRACE: Duration = Duration::from_secs(1);
/// Kinds for which nobody is to blame: none of them ends a process that did not say so. A slow network
/// is none of them: behind a narrow pipe, or a pause, it makes a worker silent for too long.
const HARMLESS: [Kind; 8] = [
    Kind::Slow,
    Kind::Stall,
    Kind::Pause,
    Kind::Failure,
    Kind::BlackHole,
    Kind::Drain,
    Kind::Hang,
    Kind::Cancel,
];
