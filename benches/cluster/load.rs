//! What the measured tasks are: on the head's side and on the worker's.
//!
//! What it is: [`Load`], a workload that checks every outcome and keeps the times, and the kernels
//! that the shipped worker lacks. What it is not: a job anyone needs.
//!
//! Invariant: every task is delivered once, in order, done, and with the right output.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use teamster::kernel::{Delivery, Kernel, KernelError, Kernels, Next, Stop, Workload};
use teamster::kernels::{builtin, square};

use teamster::frame::Status;

use crate::args::Args;

/// Payload of an echo: the default limit.
pub const ECHO_BYTES: usize = 1 << 20;
/// Of a mix every so many-th task is so many times as long.
const LONG_EVERY: u64 = 100;
const LONG_FACTOR: u32 = 1000;
/// Deliveries between two marks.
const MARK_EVERY: u64 = 1_000_000;

/// Kinds of tasks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Squares a number.
    Empty,
    /// Gives back 1 MiB.
    Echo,
    /// Squares a number after so many rounds of a loop.
    Spin { rounds: u32 },
    /// The same, one in a hundred a thousand times as long.
    Mix { rounds: u32 },
}

impl Work {
    pub fn parse(args: &Args) -> Work {
        match args.text("work") {
            "empty" => Work::Empty,
            "echo" => Work::Echo,
            "spin" => Work::Spin {
                rounds: args.number("rounds"),
            },
            "mix" => Work::Mix {
                rounds: args.number("rounds"),
            },
            other => panic!("no work is called {other}"),
        }
    }

    /// Rounds of the loop for one task.
    pub fn rounds(self, task: u64) -> u32 {
        match self {
            Work::Empty | Work::Echo => 0,
            Work::Spin { rounds } => rounds,
            Work::Mix { rounds } if is_long(task) => rounds * LONG_FACTOR,
            Work::Mix { rounds } => rounds,
        }
    }
}

fn is_long(task: u64) -> bool {
    task % LONG_EVERY == LONG_EVERY - 1
}

/// The job of a measured run.
pub struct Load {
    work: Work,
    count: u64,
    sent: u64,
    delivered: u64,
    /// When the first task was taken, the latest was, and the latest was delivered.
    pub first: Instant,
    latest: Instant,
    pub last: Instant,
    /// Of each task from taken to delivered, if one at a time is in flight.
    pub round_trips_us: Option<Vec<f64>>,
    /// Of each short task of a mix.
    pub waits_us: Vec<f64>,
    /// When each million was delivered.
    pub marks: Vec<Instant>,
}

impl Load {
    pub fn new(work: Work, count: u64, is_one_at_a_time: bool) -> Load {
        let now = Instant::now();
        Load {
            work,
            count,
            sent: 0,
            delivered: 0,
            first: now,
            latest: now,
            last: now,
            round_trips_us: is_one_at_a_time.then(Vec::new),
            waits_us: Vec::new(),
            marks: Vec::new(),
        }
    }
}

impl Workload for Load {
    fn kernel(&self) -> &str {
        match self.work {
            Work::Empty => square::NAME,
            Work::Echo => "echo",
            Work::Spin { .. } | Work::Mix { .. } => "spin",
        }
    }

    fn describe(&self) -> String {
        format!("{} --count {}", self.kernel(), self.count)
    }

    fn setup(&self) -> Vec<u8> {
        match self.work {
            Work::Empty => 0_u32.to_be_bytes().to_vec(),
            _ => Vec::new(),
        }
    }

    #[inline(always)]
    fn next(&mut self, input: &mut Vec<u8>) -> Next {
        if self.sent == self.count {
            return Next::End;
        }
        let task = self.sent;
        self.sent += 1;
        if task == 0 || self.round_trips_us.is_some() {
            self.latest = Instant::now();
        }
        if task == 0 {
            self.first = self.latest;
        }
        match self.work {
            Work::Empty => input.extend_from_slice(&task.to_be_bytes()),
            Work::Echo => {
                input.resize(ECHO_BYTES, 7);
                stamp(input, task);
            }
            Work::Spin { .. } | Work::Mix { .. } => {
                input.extend_from_slice(&task.to_be_bytes());
                input.extend_from_slice(&self.work.rounds(task).to_be_bytes());
            }
        }
        Next::Task
    }

    #[inline(always)]
    fn deliver(&mut self, delivery: &Delivery<'_>, _: &mut Vec<u8>) {
        let task = self.delivered;
        assert_eq!(delivery.task, task, "in order, each once");
        assert_eq!(delivery.status, Status::Done, "task {task}");
        let is_right = match self.work {
            Work::Echo => is_stamped(delivery.output, task),
            _ => *delivery.output == task.wrapping_mul(task).to_be_bytes(),
        };
        assert!(is_right, "the output of task {task}");
        self.delivered += 1;
        if let Some(round_trips_us) = &mut self.round_trips_us {
            round_trips_us.push(self.latest.elapsed().as_nanos() as f64 / 1e3);
        }
        if matches!(self.work, Work::Mix { .. }) && !is_long(task) {
            self.waits_us.push(delivery.queue_us.into());
        }
        if self.delivered.is_multiple_of(MARK_EVERY) {
            self.marks.push(Instant::now());
        }
        if self.delivered == self.count {
            self.last = Instant::now();
        }
    }

    fn finish(&mut self, _: &mut Vec<u8>) -> bool {
        self.delivered == self.count
    }
}

/// Writes a number at both ends of a payload.
pub fn stamp(payload: &mut [u8], number: u64) {
    let (head, tail) = payload.split_at_mut(ECHO_BYTES - 8);
    head[..8].copy_from_slice(&number.to_be_bytes());
    tail.copy_from_slice(&number.to_be_bytes());
}

/// Whether a payload is as long as it should be and has that number at both ends.
pub fn is_stamped(payload: &[u8], number: u64) -> bool {
    let stamp = number.to_be_bytes();
    payload.len() == ECHO_BYTES && payload.starts_with(&stamp) && payload.ends_with(&stamp)
}

/// What the measured workers offer.
pub fn kernels() -> Kernels {
    builtin()
        .with("echo", |_| Ok(Arc::new(Echo)))
        .with("spin", |_| Ok(Arc::new(Spin)))
}

struct Echo;

impl Kernel for Echo {
    fn run(&self, input: &[u8], _: &Stop, output: &mut Vec<u8>) -> Result<(), KernelError> {
        output.extend_from_slice(input);
        Ok(())
    }
}

struct Spin;

impl Kernel for Spin {
    fn run(&self, input: &[u8], _: &Stop, output: &mut Vec<u8>) -> Result<(), KernelError> {
        let (number, rounds) = input.split_at(8);
        let number = u64::from_be_bytes(number.try_into().expect("8 bytes"));
        spin(u32::from_be_bytes(rounds.try_into().expect("4 bytes")));
        output.extend_from_slice(&number.wrapping_mul(number).to_be_bytes());
        Ok(())
    }
}

/// Work that takes CPU time and not merely time: whoever shares the processor makes it longer. The
/// loop exists once: of two copies one may straddle a cache line, and be a tenth slower than what was
/// measured.
#[inline(never)]
pub fn spin(rounds: u32) {
    let mut x = 1_u64;
    for _ in 0..rounds {
        x = black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
}

/// How many rounds take `time` on this machine while nobody disturbs it.
pub fn rounds_in(time: Duration) -> u32 {
    const TRIED: u32 = 1_000_000;
    let measure = |_| {
        let start = Instant::now();
        spin(TRIED);
        start.elapsed()
    };
    let fastest = (0..20).map(measure).min().expect("there are some");
    (time.as_nanos() * u128::from(TRIED) / fastest.as_nanos()) as u32
}
