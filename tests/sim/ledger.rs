//! What every side said, and whether it adds up.
//!
//! What it is: an account of attempts, credits and outcomes kept from the frames themselves, against
//! which the roles' own accounts are held. What it is not: a copy of the scheduler; it decides nothing.
//!
//! Invariant: each oracle has a name, and a run that breaks it ends at that step.

use std::collections::{BTreeMap, BTreeSet};

use teamster::frame::{Frame, Outcome, Refusal, Side, Status, Task};
use teamster::limits::FAST_FAILURE;
use teamster::role::{Attempt, ConnId, Exit};

use crate::blames::Blames;
use crate::faults::{Counts, Kind};
use crate::job::{Delivered, Tasks};
use crate::oracle;
use crate::plan::Plan;
use crate::records::Records;
use crate::trace::mix;

pub struct Ledger {
    tasks: Tasks,
    ordered: bool,
    retries: u32,
    /// What goes over each cable, by its number.
    wires: BTreeMap<usize, Wire>,
    /// The cable of each worker's latest connection.
    latest: BTreeMap<u32, usize>,
    /// By task: the number of its latest attempt.
    attempts: Vec<u32>,
    /// By task: the outcomes that reached the head on a living session and may count: fast failures,
    /// which the head may doubt, up to the first outcome that it may not.
    answers: Vec<Vec<First>>,
    failed_on_purpose: BTreeMap<Attempt, u32>,
    /// Attempts that ran for too long.
    timed_out: BTreeSet<Attempt>,
    delivered: Vec<bool>,
    delivered_count: u64,
    failed_count: u64,
    answered_count: u64,
    pub strikes: Counts,
    pub pauses: u64,
    /// Threads that were written off.
    pub hung: u64,
    next_in_order: u64,
    has_gap: bool,
    /// Attempts that a black hole answered.
    swallowed: BTreeSet<Attempt>,
    /// Some worker can always tell what a black hole cannot.
    has_anchor: bool,
    blames: Blames,
    is_journalled: bool,
    pub records: Records,
}

struct First {
    status: Status,
    output_hash: u64,
    attempt: Attempt,
    is_doubtful: bool,
}

/// What one session holds, as either side knows it: attempts and the lengths of their inputs.
#[derive(Default)]
struct Wire {
    credit: Option<(u32, u32)>,
    /// The head knows that the worker is about to end.
    is_draining: bool,
    /// The worker has said `Welcome`, and that it is about to end.
    has_welcomed: bool,
    has_said_drain: bool,
    at_head: BTreeMap<Attempt, usize>,
    /// What the head has said it does not need there.
    cancelled: BTreeSet<Attempt>,
    at_worker: BTreeMap<Attempt, usize>,
}

/// Whether some worker always works, and never fails fast on its own account.
fn has_anchor(plan: &Plan) -> bool {
    const HARMLESS: [Kind; 6] = [
        Kind::BlackHole,
        Kind::HeadCrash,
        Kind::Slow,
        Kind::SlowNet,
        Kind::Stall,
        Kind::Pause,
    ];
    let never_fails = plan.tasks.output_bytes_max <= plan.tasks.payload_bytes_max;
    plan.anchor.is_some() && plan.has_only(&HARMLESS) && plan.poison.is_empty() && never_fails
}

fn hash(bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(bytes.len() as u64, |hash, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(hash, u64::from_le_bytes(word))
    })
}

impl Ledger {
    pub fn new(plan: &Plan) -> Ledger {
        let count = plan.tasks.count as usize;
        Ledger {
            tasks: plan.tasks.clone(),
            ordered: plan.ordered,
            retries: plan.retries,
            wires: BTreeMap::new(),
            latest: BTreeMap::new(),
            attempts: vec![0; count],
            answers: (0..count).map(|_| Vec::new()).collect(),
            failed_on_purpose: BTreeMap::new(),
            timed_out: BTreeSet::new(),
            delivered: vec![false; count],
            delivered_count: 0,
            failed_count: 0,
            answered_count: 0,
            strikes: Counts::default(),
            pauses: 0,
            hung: 0,
            next_in_order: 0,
            has_gap: false,
            swallowed: BTreeSet::new(),
            has_anchor: has_anchor(plan),
            blames: Blames::new(plan),
            is_journalled: plan.is_journalled,
            records: Records::default(),
        }
    }

    /// Another head begins: with new sessions, and attempts that are counted anew.
    pub fn new_head(&mut self) {
        self.latest.clear();
        self.attempts.fill(0);
        self.answers.iter_mut().for_each(Vec::clear);
        self.delivered.fill(false);
        self.delivered_count = 0;
        self.failed_count = 0;
        self.answered_count = 0;
        self.next_in_order = 0;
        self.has_gap = false;
        self.blames.new_head();
    }

    /// A fault struck; in flight or not.
    pub fn strike(&mut self, kind: Kind, in_flight: bool) {
        self.strikes.add(kind, in_flight);
    }

    pub fn failed_on_purpose(&mut self, attempt: Attempt) {
        *self.failed_on_purpose.entry(attempt).or_default() += 1;
    }

    pub fn timed_out(&mut self, attempt: Attempt) {
        self.timed_out.insert(attempt);
    }

    pub fn dialled(&mut self, dial: u32, cable: usize) {
        self.latest.insert(dial, cable);
        self.blames.dialled(dial, cable);
    }

    /// A session is over on one side.
    pub fn session_over(&mut self, side: Side, cable: usize) {
        let wire = self.wires.entry(cable).or_default();
        match side {
            Side::Head => {
                let held = std::mem::take(&mut wire.at_head);
                let is_planned = wire.is_draining;
                let is_session = wire.credit.take().is_some();
                self.blames
                    .session_over(cable, held.keys(), is_planned, is_session);
            }
            Side::Worker => wire.at_worker.clear(),
        }
    }

    /// Bytes arrived.
    pub fn heard(&mut self, side: Side, cable: usize) {
        if side == Side::Head {
            self.blames.heard(cable);
        }
    }

    /// What the head thinks of a worker after its turn.
    pub fn look_at(&mut self, worker: u32, is_lost: bool, is_aside: bool) {
        let cable = self.latest.get(&worker);
        let wire = cable.and_then(|cable| self.wires.get(cable));
        if let (Some(&cable), Some(wire)) = (cable, wire) {
            let held = wire.at_head.keys();
            let is_planned = wire.is_draining;
            let kept = held.clone().filter(|attempt| {
                let latest = self.attempts[attempt.task as usize];
                attempt.number == latest && !wire.cancelled.contains(attempt)
            });
            self.blames
                .look_at(cable, held, kept, is_planned, (is_lost, is_aside));
        }
    }

    /// How many of the attempts that a worker holds wait there, and could wait elsewhere.
    pub fn surplus(&self, worker: u32) -> usize {
        let cable = self.latest[&worker];
        self.blames
            .surplus(cable, self.wires[&cable].at_head.keys())
    }

    /// How many tasks wait for another worker than this.
    pub fn kept_from(&self, worker: u32) -> usize {
        self.blames.kept_from(worker)
    }

    /// Whatever was sent again had a reason.
    pub fn check_resent(&mut self) {
        self.blames.check_resent();
    }

    /// A fault has touched a worker or the way to it.
    pub fn touched(&mut self, worker: u32) {
        self.blames.touched(worker);
    }

    /// A task killed a worker.
    pub fn killed(&mut self, worker: u32, task: u64) {
        self.blames.killed(worker, task);
    }

    /// A black hole answers an attempt.
    pub fn swallowed(&mut self, attempt: Attempt) {
        self.failed_on_purpose(attempt);
        self.swallowed.insert(attempt);
    }

    /// A role sends a frame.
    pub fn sends(&mut self, side: Side, cable: usize, frame: &Frame<'_>) {
        match *frame {
            Frame::Task(Task { attempt, input }) => self.task_sent(cable, attempt, &input),
            Frame::Outcome(Outcome { attempt, .. }) => {
                let wire = self.wires.entry(cable).or_default();
                oracle!(
                    "conservation",
                    wire.at_worker.remove(&attempt).is_some(),
                    "an outcome of {attempt} without its task, or a second one"
                );
            }
            Frame::Refuse { refusal, reason } => {
                let is_busy = refusal == Refusal::Busy;
                oracle!("no-refusal", is_busy, "{side} refuses: {reason}");
            }
            Frame::Welcome { .. } => self.wires.entry(cable).or_default().has_welcomed = true,
            Frame::Drain => self.wires.entry(cable).or_default().has_said_drain = true,
            Frame::Cancel { attempt, .. } => {
                let wire = self.wires.entry(cable).or_default();
                wire.cancelled.insert(attempt);
            }
            _ => {}
        }
    }

    /// A worker ends while a session stands, or with its end.
    pub fn worker_ends(&mut self, cable: usize) {
        let wire = self.wires.entry(cable).or_default();
        oracle!(
            "drain",
            !wire.has_welcomed || wire.has_said_drain,
            "a worker ends and has not told the head on cable {cable}"
        );
    }

    fn task_sent(&mut self, cable: usize, attempt: Attempt, input: &[u8]) {
        let latest = &mut self.attempts[attempt.task as usize];
        oracle!(
            "attempt-unique",
            attempt.number == *latest + 1,
            "{attempt} is sent after number {latest}"
        );
        *latest = attempt.number;
        self.records.sent(attempt.task);
        self.blames.sent(cable, attempt);
        self.check_input(attempt, input);
        let wire = self.wires.entry(cable).or_default();
        wire.at_head.insert(attempt, input.len());
        let (tasks, bytes) = (wire.at_head.len(), wire.at_head.values().sum::<usize>());
        let Some((credit_tasks, credit_bytes)) = wire.credit else {
            crate::trace::fail("credit-head", "a task before the credit for it");
        };
        oracle!(
            "credit-head",
            tasks <= credit_tasks as usize && (tasks == 1 || bytes <= credit_bytes as usize),
            "{tasks} tasks of {bytes} bytes in flight, credit {credit_tasks} and {credit_bytes}"
        );
    }

    fn check_input(&self, attempt: Attempt, input: &[u8]) {
        let mut expected = Vec::new();
        self.tasks.input(attempt.task, &mut expected);
        oracle!(
            "right-bytes",
            input == expected,
            "{attempt} has another task's input"
        );
    }

    /// A worker gives an attempt to its pool.
    pub fn submits(&mut self, cable: usize, attempt: Attempt, input: &[u8]) {
        self.check_input(attempt, input);
        let is_held = self.wires[&cable].at_worker.contains_key(&attempt);
        oracle!("conservation", is_held, "{attempt} was not received");
    }

    /// A frame reaches a role.
    pub fn hears(&mut self, side: Side, cable: usize, frame: &Frame<'_>) {
        let wire = self.wires.entry(cable).or_default();
        match *frame {
            Frame::Welcome {
                credit_tasks,
                credit_bytes,
                incarnation,
                slots,
                ..
            } => {
                wire.credit = Some((credit_tasks, credit_bytes));
                self.blames.greeted(cable, incarnation, slots);
            }
            Frame::Drain => wire.is_draining = true,
            Frame::Slots { slots } => self.blames.slots(cable, slots),
            Frame::Task(Task { attempt, input }) => {
                let is_new = wire.at_worker.insert(attempt, input.len()).is_none();
                oracle!("attempt-unique", is_new, "{attempt} arrives twice");
            }
            Frame::Outcome(Outcome {
                attempt,
                status,
                output,
                run_us,
            }) => {
                oracle!(
                    "conservation",
                    wire.at_head.remove(&attempt).is_some(),
                    "{attempt} is answered on a session that does not hold it"
                );
                let answers = &mut self.answers[attempt.task as usize];
                let is_open = answers.last().is_none_or(|last| last.is_doubtful);
                let is_short = u128::from(run_us) < FAST_FAILURE.as_micros();
                let is_fast = status == Status::Failed && is_short;
                let is_doubtful = status.is_failure()
                    && (is_fast || self.retries > 0 || self.blames.is_aside(cable));
                let is_firm = status == Status::Done || (status.is_failure() && !is_fast);
                self.blames.answered(cable, attempt, is_firm, is_doubtful);
                if is_open && status != Status::Returned {
                    answers.push(First {
                        status,
                        output_hash: hash(&output),
                        attempt,
                        is_doubtful,
                    });
                }
            }
            Frame::Refuse { refusal, .. } => {
                let is_busy = refusal == Refusal::Busy;
                oracle!("no-refusal", is_busy, "{side} is refused");
            }
            _ => {}
        }
    }

    /// Holds the head's own account of one worker against the frames.
    pub fn check_head(&self, worker: u32, credit: u32, held: u32) {
        let wire = &self.wires[&self.latest[&worker]];
        oracle!(
            "credit-head",
            held as usize == wire.at_head.len() && held <= credit,
            "worker {worker} holds {held} of {credit}, sent and unanswered are {}",
            wire.at_head.len()
        );
    }

    /// Holds a worker's own account of one session against the frames.
    pub fn check_worker(&self, conn: ConnId, cable: usize, limit: u32, tasks: u32, bytes: usize) {
        let Some(wire) = self.wires.get(&cable) else {
            return;
        };
        let expected = (wire.at_worker.len(), wire.at_worker.values().sum::<usize>());
        oracle!(
            "credit-worker",
            expected == (tasks as usize, bytes) && tasks <= limit,
            "{conn} holds {tasks} tasks of {bytes} bytes (credit {limit}), unanswered are \
             {expected:?}"
        );
    }

    /// The job got an outcome.
    pub fn delivered(&mut self, got: &Delivered) {
        let task = got.task as usize;
        oracle!(
            "delivered-once",
            task < self.delivered.len() && !self.delivered[task],
            "task {task} is delivered twice, or does not exist"
        );
        oracle!(
            "delivered-order",
            !self.ordered || got.task >= self.next_in_order,
            "task {task} is delivered after {}",
            self.next_in_order
        );
        self.has_gap |= got.task != self.next_in_order;
        self.next_in_order = got.task + 1;
        self.delivered[task] = true;
        self.delivered_count += 1;
        self.failed_count += u64::from(got.status.is_failure());
        match self.is_journalled {
            true => self.records.delivered(got),
            false => self.judge(got),
        }
    }

    /// With a journal an outcome is judged when it is handed over: whoever delivers it then has not
    /// seen how it came about.
    pub fn judge_records(&mut self) {
        for outcome in self.records.take_fresh() {
            self.judge(&outcome);
        }
    }

    /// Holds an outcome against what the workers answered.
    fn judge(&mut self, got: &Delivered) {
        let task = got.task as usize;
        if self.tasks.input_bytes(got.task) > self.tasks.payload_bytes_max {
            oracle!(
                "right-bytes",
                got.status == Status::Failed && got.attempts == 0,
                "task {task} is too long and was tried"
            );
            return;
        }
        if got.output.starts_with(b"given up") {
            let text = String::from_utf8_lossy(&got.output);
            self.blames.check_given_up(got.task, &text, got.attempts);
            return;
        }
        self.answered_count += 1;
        let answers = &self.answers[task];
        let is_it = |it: &&First| it.status == got.status && it.output_hash == hash(&got.output);
        let Some(first) = answers.iter().find(is_it) else {
            crate::trace::fail(
                "first-counts",
                &format!("task {task}: not the first outcome counts"),
            );
        };
        oracle!(
            "right-bytes",
            self.is_right(first.attempt, got),
            "task {task}: {:?} with {} bytes from {}",
            got.status,
            got.output.len(),
            got.worker
        );
        self.check_swallowed(first.attempt, got);
        let failures = answers.iter().filter(|answer| answer.status.is_failure());
        oracle!(
            "retries",
            got.status == Status::Done || failures.count() > self.retries as usize,
            "task {task} is recorded as failed and could be tried again"
        );
    }

    /// No black hole decides a task while another worker could. One that later did a task has shown
    /// itself to be none, and is believed.
    fn check_swallowed(&self, attempt: Attempt, got: &Delivered) {
        if self.has_anchor && got.status == Status::Failed && self.swallowed.contains(&attempt) {
            oracle!(
                "black-hole",
                self.blames.is_believed(attempt),
                "{attempt} failed in a black hole, and that is recorded"
            );
        }
    }

    fn is_right(&self, attempt: Attempt, got: &Delivered) -> bool {
        if got.status == Status::TimedOut {
            let is_it = got.output.starts_with(b"it ran for longer than --timeout ");
            return is_it && self.timed_out.contains(&attempt);
        }
        // Of the attempts of that name that several heads made, one may have failed on purpose.
        if got.status == Status::Failed && self.failed_on_purpose.contains_key(&attempt) {
            let text = format!("planned failure of {attempt}");
            if got.output == text.as_bytes() {
                return true;
            }
        }
        let mut input = Vec::new();
        self.tasks.input(got.task, &mut input);
        let output = self.tasks.output(&input);
        match got.status {
            Status::Done => output == got.output,
            Status::Failed => output.len() > self.tasks.payload_bytes_max,
            Status::Returned | Status::TimedOut => false,
        }
    }

    /// The run is over.
    pub fn check_end(&self, exit: Exit, finished: bool) {
        let is_early = matches!(exit, Exit::Interrupted | Exit::NoWorker);
        let expected = match self.failed_count {
            _ if exit == Exit::Interrupted && self.strikes.all[Kind::Interrupt as usize] > 0 => {
                exit
            }
            _ if exit == Exit::NoWorker => exit,
            0 => Exit::Done,
            _ => Exit::Failed,
        };
        oracle!("exit-code", exit == expected, "{exit:?}, not {expected:?}");
        let count = self.tasks.count;
        oracle!("delivered-once", finished, "the job is not told of the end");
        oracle!(
            "delivered-once",
            is_early || self.delivered_count == count,
            "{} of {count} tasks delivered at the end",
            self.delivered_count
        );
        oracle!(
            "delivered-order",
            is_early || !self.ordered || !self.has_gap,
            "a task is missing"
        );
        for (task, answers) in self.answers.iter().enumerate() {
            let has_answer = answers.last().is_some_and(|last| !last.is_doubtful);
            oracle!(
                "delivered-once",
                !has_answer || self.delivered[task] || (is_early && self.is_journalled),
                "task {task} was answered and is not delivered"
            );
        }
        self.blames.check_end(is_early);
    }

    pub fn delivered_count(&self) -> u64 {
        self.delivered_count
    }

    /// Tasks that a worker's answer decided.
    pub fn counted(&self) -> u64 {
        self.answered_count
    }
}
