//! What every side said, and whether it adds up.
//!
//! What it is: an account of attempts, credits and outcomes kept from the frames themselves, against
//! which the roles' own accounts are held. What it is not: a copy of the scheduler; it decides nothing.
//!
//! Invariant: each oracle has a name, and a run that breaks it ends at that step.

use std::collections::BTreeMap;

use teamster::frame::{Frame, Refusal, Side, Status};
use teamster::role::{Attempt, ConnId, Exit};

use crate::faults::{Counts, Kind};
use crate::job::{Delivered, Tasks};
use crate::oracle;
use crate::plan::Plan;
use crate::trace::mix;

pub struct Ledger {
    tasks: Tasks,
    ordered: bool,
    /// What goes over each cable, by its number.
    wires: BTreeMap<usize, Wire>,
    /// The cable of each worker's latest connection.
    latest: BTreeMap<u32, usize>,
    /// By task: the number of its latest attempt.
    attempts: Vec<u32>,
    /// By task: the first outcome that reached the head on a living session.
    first: Vec<Option<First>>,
    failed_on_purpose: BTreeMap<Attempt, u32>,
    delivered: Vec<bool>,
    delivered_count: u64,
    failed_count: u64,
    pub strikes: Counts,
    pub pauses: u64,
}

struct First {
    status: Status,
    output_hash: u64,
    attempt: Attempt,
}

/// What one session holds, as either side knows it: attempts and the lengths of their inputs.
#[derive(Default)]
struct Wire {
    credit: Option<(u32, u32)>,
    at_head: BTreeMap<Attempt, usize>,
    at_worker: BTreeMap<Attempt, usize>,
}

fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(bytes.len() as u64, |hash, &byte| mix(hash, u64::from(byte)))
}

impl Ledger {
    pub fn new(plan: &Plan) -> Ledger {
        let count = plan.tasks.count as usize;
        Ledger {
            tasks: plan.tasks.clone(),
            ordered: plan.ordered,
            wires: BTreeMap::new(),
            latest: BTreeMap::new(),
            attempts: vec![0; count],
            first: (0..count).map(|_| None).collect(),
            failed_on_purpose: BTreeMap::new(),
            delivered: vec![false; count],
            delivered_count: 0,
            failed_count: 0,
            strikes: Counts::default(),
            pauses: 0,
        }
    }

    /// A fault struck; in flight or not.
    pub fn strike(&mut self, kind: Kind, in_flight: bool) {
        self.strikes.add(kind, in_flight);
    }

    pub fn failed_on_purpose(&mut self, attempt: Attempt) {
        *self.failed_on_purpose.entry(attempt).or_default() += 1;
    }

    pub fn dialled(&mut self, dial: u32, cable: usize) {
        self.latest.insert(dial, cable);
    }

    /// A session is over on one side.
    pub fn session_over(&mut self, side: Side, cable: usize) {
        let wire = self.wires.entry(cable).or_default();
        match side {
            Side::Head => wire.at_head.clear(),
            Side::Worker => wire.at_worker.clear(),
        }
    }

    /// A role sends a frame.
    pub fn sends(&mut self, side: Side, cable: usize, frame: &Frame<'_>) {
        match *frame {
            Frame::Task { attempt, input } => self.task_sent(cable, attempt, input),
            Frame::Outcome { attempt, .. } => {
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
            _ => {}
        }
    }

    fn task_sent(&mut self, cable: usize, attempt: Attempt, input: &[u8]) {
        let latest = &mut self.attempts[attempt.task as usize];
        oracle!(
            "attempt-unique",
            attempt.number == *latest + 1,
            "{attempt} is sent after number {latest}"
        );
        *latest = attempt.number;
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
                ..
            } => wire.credit = Some((credit_tasks, credit_bytes)),
            Frame::Task { attempt, input } => {
                let is_new = wire.at_worker.insert(attempt, input.len()).is_none();
                oracle!("attempt-unique", is_new, "{attempt} arrives twice");
            }
            Frame::Outcome {
                attempt,
                status,
                output,
                ..
            } => {
                oracle!(
                    "conservation",
                    wire.at_head.remove(&attempt).is_some(),
                    "{attempt} is answered on a session that does not hold it"
                );
                self.first[attempt.task as usize].get_or_insert_with(|| First {
                    status,
                    output_hash: hash(output),
                    attempt,
                });
            }
            Frame::Refuse { .. } => oracle!("no-refusal", false, "{side} is refused"),
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
            !self.ordered || got.task == self.delivered_count,
            "task {task} is delivered in place {}",
            self.delivered_count
        );
        self.delivered[task] = true;
        self.delivered_count += 1;
        self.failed_count += u64::from(got.status == Status::Failed);
        if self.tasks.input_bytes(got.task) > self.tasks.payload_bytes_max {
            oracle!(
                "right-bytes",
                got.status == Status::Failed && got.attempts == 0,
                "task {task} is too long and was tried"
            );
            return;
        }
        let Some(first) = &self.first[task] else {
            crate::trace::fail("first-counts", &format!("nobody answered task {task}"));
        };
        oracle!(
            "first-counts",
            first.status == got.status && first.output_hash == hash(&got.output),
            "task {task}: not the first outcome counts, {}",
            first.attempt
        );
        oracle!(
            "right-bytes",
            self.is_right(first.attempt, got),
            "task {task}: {:?} with {} bytes from {}",
            got.status,
            got.output.len(),
            got.worker
        );
    }

    fn is_right(&self, attempt: Attempt, got: &Delivered) -> bool {
        if self.failed_on_purpose.contains_key(&attempt) {
            let text = format!("planned failure of {attempt}");
            return got.status == Status::Failed && got.output == text.as_bytes();
        }
        let mut input = Vec::new();
        self.tasks.input(got.task, &mut input);
        let output = self.tasks.output(&input);
        match got.status {
            Status::Done => output == got.output,
            Status::Failed => output.len() > self.tasks.payload_bytes_max,
        }
    }

    /// The run is over.
    pub fn check_end(&self, exit: Exit, finished: bool) {
        let expected = match self.failed_count {
            0 => Exit::Done,
            _ => Exit::Failed,
        };
        oracle!("exit-code", exit == expected, "{exit:?}, not {expected:?}");
        let count = self.tasks.count;
        oracle!(
            "delivered-once",
            self.delivered_count == count && finished,
            "{} of {count} tasks delivered at the end",
            self.delivered_count
        );
    }

    pub fn delivered_count(&self) -> u64 {
        self.delivered_count
    }

    /// Outcomes of both kinds that workers' answers decided.
    pub fn counted(&self) -> u64 {
        self.first.iter().flatten().count() as u64
    }
}
