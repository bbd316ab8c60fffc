//! Frames on their way to a socket.
//!
//! What it is: one flat buffer per connection; frames are encoded into it once and leave it in
//! whatever pieces the socket takes. What it is not: a queue of frames, which would cost an
//! allocation each.
//!
//! Invariant: `start <= bytes.len()`; `bytes[start..]` is what is still to be written, in order.

use super::{Frame, Side, opening};

/// Bytes waiting to be written to one connection. It begins with the opening.
#[derive(Debug)]
pub struct Outbox {
    bytes: Vec<u8>,
    start: usize,
}

impl Outbox {
    /// Capacity kept when the buffer runs empty; anything above it is given back.
    const IDLE_BYTES: usize = 1 << 20;

    /// An outbox whose first bytes are the opening of `side`.
    pub fn new(side: Side) -> Outbox {
        Outbox {
            bytes: opening(side).to_vec(),
            start: 0,
        }
    }

    /// Appends `frame`; returns the bytes it added. The role that sends bounds the total: it counts
    /// what it sent against [`Event::Sent`](crate::role::Event::Sent).
    pub fn push(&mut self, frame: &Frame<'_>) -> usize {
        self.compact();
        frame.encode(&mut self.bytes)
    }

    /// What is to be written next, all of it.
    pub fn pending(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// Drops the first `count` pending bytes: they have been written.
    ///
    /// # Panics
    /// If fewer are pending.
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.pending().len(), "more written than pending");
        self.start += count;
        if self.is_empty() {
            self.bytes.clear();
            self.bytes.shrink_to(Outbox::IDLE_BYTES);
            self.start = 0;
        }
    }

    /// Moves the pending bytes to the front once the gap is the larger part: each byte is moved at
    /// most once per byte written.
    fn compact(&mut self) {
        if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }
}
