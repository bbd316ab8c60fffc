//! The job that the simulated farm works on.
//!
//! What it is: inputs known from the task's number, a kernel whose output is known from the input, and
//! a workload that compares what it is delivered. What it is not: a judge of order or count; those
//! are the ledger's.
//!
//! Invariant: every byte follows from the seed, so right and wrong are known without a second table.

use std::sync::Arc;

use teamster::frame::Status;
use teamster::kernel::{Delivery, Kernel, KernelError, Kernels, Next, Stop, Workload};
use teamster::rng::SplitMix64;

use crate::trace::mix;

pub const KERNEL: &str = "mirror";

/// Which tasks there are.
#[derive(Clone, Debug)]
pub struct Tasks {
    pub seed: u64,
    pub count: u64,
    pub input_bytes_max: usize,
    pub output_bytes_max: usize,
    pub payload_bytes_max: usize,
    /// How many of a hundred inputs are longer than allowed.
    pub oversize_percent: u64,
    /// The input that has become another since the journal was begun.
    pub changed: Option<u64>,
}

impl Tasks {
    pub fn input_bytes(&self, task: u64) -> usize {
        let mut rng = SplitMix64::new(mix(self.seed, task));
        if rng.chance(self.oversize_percent) {
            return self.payload_bytes_max + 1;
        }
        rng.below(self.input_bytes_max as u64 + 1) as usize
    }

    pub fn input(&self, task: u64, input: &mut Vec<u8>) {
        fill(mix(!self.seed, task), self.input_bytes(task), input);
        if self.changed == Some(task) {
            input.push(0);
        }
    }

    /// The output for an input, whether or not it may travel.
    pub fn output(&self, input: &[u8]) -> Vec<u8> {
        let mut output = Vec::new();
        Mirror::new(self.seed, self.output_bytes_max).compute(input, &mut output);
        output
    }
}

fn fill(seed: u64, bytes: usize, out: &mut Vec<u8>) {
    let mut rng = SplitMix64::new(seed);
    while out.len() < bytes {
        out.extend_from_slice(&rng.next().to_le_bytes());
    }
    out.truncate(bytes);
}

struct Mirror {
    seed: u64,
    output_bytes_max: usize,
}

impl Mirror {
    fn new(seed: u64, output_bytes_max: usize) -> Mirror {
        Mirror {
            seed,
            output_bytes_max,
        }
    }

    fn compute(&self, input: &[u8], output: &mut Vec<u8>) {
        let hash = input.chunks(8).fold(self.seed, |hash, chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            mix(hash, u64::from_le_bytes(word) ^ chunk.len() as u64)
        });
        let bytes = hash % (self.output_bytes_max as u64 + 1);
        fill(hash, bytes as usize, output);
    }
}

impl Kernel for Mirror {
    fn run(&self, input: &[u8], _: &Stop, output: &mut Vec<u8>) -> Result<(), KernelError> {
        self.compute(input, output);
        Ok(())
    }
}

/// What a worker offers.
pub fn kernels() -> Kernels {
    Kernels::new().with(KERNEL, |setup| {
        let (seed, bytes) = setup
            .split_first_chunk()
            .ok_or("the set-up has two numbers")?;
        let bytes = bytes.try_into().map_err(|_| "the set-up has two numbers")?;
        let output_bytes_max = u64::from_be_bytes(bytes) as usize;
        Ok(Arc::new(Mirror::new(
            u64::from_be_bytes(*seed),
            output_bytes_max,
        )))
    })
}

/// One outcome as the job got it, or the journal.
#[derive(PartialEq, Eq)]
pub struct Delivered {
    pub task: u64,
    pub status: Status,
    pub output: Vec<u8>,
    pub worker: String,
    pub attempts: u32,
}

/// The head's side.
pub struct Job {
    tasks: Tasks,
    next: u64,
    /// Tasks that it was fed; one byte stands for each.
    fed: u64,
    /// It knows that there are no more.
    is_fed_up: bool,
    /// The head has been told so.
    is_at_end: bool,
    text_bytes: usize,
    pub finished: bool,
    pub delivered: Vec<Delivered>,
}

impl Job {
    /// A job that is fed, or that knows its tasks.
    pub fn new(tasks: Tasks, text_bytes: usize, is_fed: bool) -> Job {
        Job {
            fed: if is_fed { 0 } else { tasks.count },
            is_fed_up: !is_fed,
            is_at_end: false,
            tasks,
            next: 0,
            text_bytes,
            finished: false,
            delivered: Vec::new(),
        }
    }
}

impl Job {
    /// Whether the head has asked for a task after the last one.
    pub fn is_at_end(&self) -> bool {
        self.is_at_end
    }

    /// Whether it has a task to give.
    pub fn has_next(&self) -> bool {
        self.next < self.fed
    }

    /// Tasks that it was not fed yet.
    pub fn unfed(&self) -> u64 {
        self.tasks.count - self.fed
    }
}

impl Workload for Job {
    fn kernel(&self) -> &str {
        KERNEL
    }

    fn describe(&self) -> String {
        KERNEL.into()
    }

    fn setup(&self) -> Vec<u8> {
        let bytes = self.tasks.output_bytes_max as u64;
        [self.tasks.seed.to_be_bytes(), bytes.to_be_bytes()].concat()
    }

    fn next(&mut self, input: &mut Vec<u8>) -> Next {
        if !self.has_next() {
            self.is_at_end = self.is_fed_up;
            return match self.is_fed_up {
                true => Next::End,
                false => Next::Later,
            };
        }
        self.tasks.input(self.next, input);
        self.next += 1;
        Next::Task
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.fed += bytes.len() as u64;
        self.is_fed_up = bytes.is_empty();
    }

    fn deliver(&mut self, delivery: &Delivery<'_>, text: &mut Vec<u8>) {
        self.delivered.push(Delivered {
            task: delivery.task,
            status: delivery.status,
            output: delivery.output.to_vec(),
            worker: delivery.worker.to_owned(),
            attempts: delivery.attempts,
        });
        text.resize(text.len() + self.text_bytes, b'.');
    }

    fn finish(&mut self, _: &mut Vec<u8>) -> bool {
        self.finished = true;
        true
    }
}
