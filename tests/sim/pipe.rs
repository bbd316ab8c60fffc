//! One direction of one connection.
//!
//! What it is: bytes on their way, cut into chunks that arrive in order, each in its time; and how it
//! ends. What it is not: aware of who writes or reads.
//!
//! Invariant: it holds at most `capacity` bytes, in transit and unread together; what arrives is a
//! prefix of what was written.

use std::collections::VecDeque;

use teamster::role::CloseReason;
use teamster::time::Time;

pub struct Pipe {
    bytes: VecDeque<u8>,
    /// What has not arrived yet: when it will, and how much.
    chunks: VecDeque<(Time, usize)>,
    arrived: usize,
    capacity: usize,
    /// The last arrival: nothing overtakes.
    last: Time,
    end: Option<(Time, CloseReason)>,
    /// A byte of what is written next changes, this says which and how.
    pub garble: Option<u64>,
    /// The writer found it full and wants to be told of space.
    pub blocked: bool,
}

impl Pipe {
    pub fn new(capacity: usize) -> Pipe {
        Pipe {
            bytes: VecDeque::new(),
            chunks: VecDeque::new(),
            arrived: 0,
            capacity,
            last: Time::ZERO,
            end: None,
            garble: None,
            blocked: false,
        }
    }

    pub fn space(&self) -> usize {
        self.capacity - self.bytes.len()
    }

    /// Takes bytes that arrive at `at`, or after those before them; says when.
    pub fn write(&mut self, bytes: &[u8], at: Time) -> Time {
        assert!(bytes.len() <= self.space(), "a pipe has a bound");
        let start = self.bytes.len();
        self.bytes.extend(bytes);
        if let Some(which) = self.garble.take() {
            let at = start + (which >> 3) as usize % bytes.len();
            self.bytes[at] ^= 1 << (which & 7);
        }
        self.last = self.last.max(at);
        self.chunks.push_back((self.last, bytes.len()));
        self.last
    }

    /// Takes bytes that will never arrive.
    pub fn swallow(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// Whether the reader would find something.
    pub fn is_readable(&mut self, now: Time) -> bool {
        while let Some(&(at, bytes)) = self.chunks.front() {
            if at > now {
                break;
            }
            self.chunks.pop_front();
            self.arrived += bytes;
        }
        self.arrived > 0
    }

    /// Moves up to `budget` arrived bytes into `into`.
    pub fn read(&mut self, budget: usize, into: &mut Vec<u8>) {
        let count = budget.min(self.arrived);
        self.arrived -= count;
        into.extend(self.bytes.drain(..count));
    }

    /// Why nothing will come any more, once all that arrived is read.
    pub fn ended(&self, now: Time) -> Option<&CloseReason> {
        match &self.end {
            Some((at, reason)) if *at <= now && self.arrived == 0 => Some(reason),
            _ => None,
        }
    }

    /// Ends after what is in transit; says when. Only the first end counts.
    pub fn finish(&mut self, at: Time, reason: CloseReason) -> Time {
        let at = self.last.max(at);
        self.last = at;
        self.end.get_or_insert((at, reason));
        at
    }

    /// Loses what has not arrived.
    pub fn drop_transit(&mut self) {
        self.chunks.clear();
        self.bytes.truncate(self.arrived);
        self.last = Time::ZERO;
    }
}
