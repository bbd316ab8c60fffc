//! Frames on their way to a socket.
//!
//! What it is: a queue of chunks per connection; frames are encoded into them once and leave in
//! whatever pieces the socket takes. Small frames share a chunk, a large one has its own, whose memory
//! is reused. What it is not: a queue of frames, which would cost an allocation each.
//!
//! Invariant: `start` is within the first chunk, and at its end only if it is empty and alone; what
//! follows it, and the chunks behind, are what is still to be written, in order.

use std::collections::VecDeque;

use super::{Frame, Side, opening};
use crate::buffer::Buffer;

/// Bytes waiting to be written to one connection.
#[derive(Debug)]
pub struct Outbox {
    chunks: VecDeque<Vec<u8>>,
    /// So much of the first chunk has been written.
    start: usize,
}

impl Outbox {
    /// A chunk this long takes no further frame, and such a frame no other's chunk.
    const CHUNK_BYTES: usize = 256 << 10;

    /// An outbox whose first bytes are the opening of `side`.
    pub fn new(side: Side) -> Outbox {
        Outbox {
            chunks: VecDeque::from([opening(side).to_vec()]),
            start: 0,
        }
    }

    /// An empty one: the opening goes another way.
    pub fn without_opening() -> Outbox {
        Outbox {
            chunks: VecDeque::from([Vec::new()]),
            start: 0,
        }
    }

    /// Appends `frame`; returns the bytes it added. The role that sends bounds the total: it counts
    /// what it sent against [`Event::Sent`](crate::role::Event::Sent).
    #[inline(always)]
    pub fn push(&mut self, frame: &Frame<'_>) -> usize {
        let bytes = frame.encoded_bytes();
        let last = self.chunks.back_mut().expect("there is always one");
        if bytes >= Outbox::CHUNK_BYTES || last.len() >= Outbox::CHUNK_BYTES {
            return frame.encode(self.add_chunk(bytes));
        }
        frame.encode(last)
    }

    /// Adds a chunk with room for `bytes`.
    #[cold]
    fn add_chunk(&mut self, bytes: usize) -> &mut Vec<u8> {
        let mut chunk = Vec::from(Buffer::with_room(bytes.max(Outbox::CHUNK_BYTES)));
        chunk.clear();
        if self.is_empty() {
            self.chunks.clear();
        }
        self.chunks.push_back(chunk);
        self.chunks.back_mut().expect("it was just added")
    }

    /// What is to be written next; more may follow it.
    pub fn pending(&self) -> &[u8] {
        &self.chunks[0][self.start..]
    }

    /// How much is to be written in all.
    pub fn pending_bytes(&self) -> usize {
        self.chunks.iter().map(Vec::len).sum::<usize>() - self.start
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.pending().is_empty()
    }

    /// Drops the first `count` pending bytes: they have been written. Returns how many they are.
    ///
    /// # Panics
    /// If fewer are pending.
    pub fn consume(&mut self, count: usize) -> usize {
        assert!(count <= self.pending().len(), "more written than pending");
        self.start += count;
        if !self.is_empty() {
            return count;
        }
        self.start = 0;
        let mut written = self.chunks.pop_front().expect("there is always one");
        if written.len() >= Outbox::CHUNK_BYTES {
            drop(Buffer::from(std::mem::take(&mut written)));
        }
        if self.chunks.is_empty() {
            written.clear();
            self.chunks.push_back(written);
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::role::Attempt;

    #[test]
    fn large_frames_go_out_between_small_ones() {
        let large = vec![7; Outbox::CHUNK_BYTES];
        let attempt = Attempt { task: 1, number: 1 };
        let task = |input| Frame::Task { attempt, input };
        let mut outbox = Outbox::new(Side::Head);
        let (mut expected, mut written) = (opening(Side::Head).to_vec(), Vec::new());
        for round in 0..20 {
            for input in [&large[..round % 3], &large, &large[round..]] {
                outbox.push(&task(input));
                task(input).encode(&mut expected);
            }
            assert_eq!(written.len() + outbox.pending_bytes(), expected.len());
            for part in [3, 2, 2 - round % 2, 1] {
                let piece = &outbox.pending()[..outbox.pending().len() / part];
                let count = piece.len();
                written.extend_from_slice(piece);
                outbox.consume(count);
            }
        }
        while !outbox.is_empty() {
            written.extend_from_slice(outbox.pending());
            outbox.consume(outbox.pending().len());
        }
        assert!(written == expected);
        assert!(outbox.chunks.len() == 1 && outbox.chunks[0].capacity() <= Outbox::CHUNK_BYTES);
    }
}
