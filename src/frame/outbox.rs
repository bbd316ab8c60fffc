//! Frames on their way to a socket.
//!
//! What it is: a queue of chunks per connection; frames are encoded into them once and leave in
//! whatever pieces the socket takes. Small frames share a chunk; a large payload is one of its own,
//! shared with whoever keeps it. What it is not: a queue of frames, which would cost an allocation
//! each.
//!
//! Invariant: `start` is within the first of the chunks and `last`, and at its end only if that is
//! `last`; what follows it, and the chunks behind, are what is still to be written, in order.

use std::collections::VecDeque;
use std::iter;

use byteorder::{BigEndian, ByteOrder};

use super::{Frame, HEADER_BYTES, Side, field, opening};
use crate::buffer::Buffer;
use crate::payload::{Bytes, Payload};

/// Bytes waiting to be written to one connection.
#[derive(Debug)]
pub struct Outbox {
    /// What takes no further frame.
    chunks: VecDeque<Payload>,
    /// The chunk behind them, which does.
    last: Vec<u8>,
    /// So much of the first has been written.
    start: usize,
}

impl Outbox {
    /// A chunk this long takes no further frame.
    const CHUNK_BYTES: usize = 256 << 10;

    /// An outbox whose first bytes are the opening of `side`.
    pub fn new(side: Side) -> Outbox {
        Outbox {
            last: opening(side).to_vec(),
            ..Outbox::without_opening()
        }
    }

    /// An empty one: the opening goes another way.
    pub fn without_opening() -> Outbox {
        Outbox {
            chunks: VecDeque::new(),
            last: Vec::new(),
            start: 0,
        }
    }

    /// Appends `frame`; returns the bytes it added. The role that sends bounds the total: it counts
    /// what it sent against [`Event::Sent`](crate::role::Event::Sent).
    #[inline(always)]
    pub fn push(&mut self, frame: &Frame<'_>) -> usize {
        let bytes = frame.encoded_bytes();
        if bytes >= Buffer::LARGE_BYTES || self.last.len() >= Outbox::CHUNK_BYTES {
            self.push_chunk(*frame);
        } else {
            frame.encode(&mut self.last);
        }
        bytes
    }

    /// Appends `frame`: what is before its payload, and then that, as a chunk if it is large.
    #[cold]
    fn push_chunk(&mut self, mut frame: Frame<'_>) {
        if self.last.len() >= Outbox::CHUNK_BYTES {
            self.end_chunk();
        }
        let body_bytes = frame.encoded_bytes() - HEADER_BYTES;
        let payload = match &mut frame {
            Frame::Task(task) => std::mem::take(&mut task.input),
            Frame::Outcome(outcome) => std::mem::take(&mut outcome.output),
            _ => Bytes::default(),
        };
        let begin = self.last.len();
        frame.encode(&mut self.last);
        let length = u32::try_from(body_bytes).expect("a body is below 4 GiB");
        BigEndian::write_u32(&mut self.last[begin..][field::LENGTH], length);
        match payload.len() {
            Buffer::LARGE_BYTES.. => {
                self.end_chunk();
                self.chunks.push_back(Payload::from(payload));
            }
            _ => self.last.extend_from_slice(&payload),
        }
    }

    fn end_chunk(&mut self) {
        self.chunks.push_back(Payload::take(&mut self.last));
    }

    /// What is to be written, in pieces, of which only the last may be empty.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let chunks = self.chunks.iter().map(|chunk| &chunk[..]);
        let starts = iter::once(self.start).chain(iter::repeat(0));
        let pieces = chunks.chain(iter::once(&self.last[..]));
        pieces.zip(starts).map(|(piece, start)| &piece[start..])
    }

    /// What is to be written next; more may follow it.
    pub fn pending(&self) -> &[u8] {
        let first = self.chunks.front().map_or(&self.last[..], |chunk| chunk);
        &first[self.start..]
    }

    /// How much is to be written in all.
    pub fn pending_bytes(&self) -> usize {
        self.pieces().map(<[u8]>::len).sum()
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
        self.start += count;
        while let Some(first) = self.chunks.front()
            && self.start >= first.len()
        {
            self.start -= first.len();
            self.chunks.pop_front();
        }
        if self.chunks.is_empty() && self.start >= self.last.len() {
            assert!(self.start == self.last.len(), "more written than pending");
            self.start = 0;
            self.last.clear();
            if self.last.capacity() >= 2 * Outbox::CHUNK_BYTES {
                drop(Buffer::from(std::mem::take(&mut self.last)));
            }
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Task;
    use crate::role::Attempt;

    #[test]
    fn large_frames_go_out_between_small_ones() {
        let large = vec![7; Outbox::CHUNK_BYTES];
        fn task(input: &[u8]) -> Frame<'_> {
            Frame::Task(Task {
                attempt: Attempt { task: 1, number: 1 },
                input: input.into(),
            })
        }
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
        assert!(outbox.chunks.is_empty() && outbox.last.capacity() < 2 * Outbox::CHUNK_BYTES);
    }

    #[test]
    fn a_large_payload_waits_without_a_copy() {
        let payload = Payload::from(&[7; Buffer::LARGE_BYTES][..]);
        let attempt = Attempt { task: 1, number: 1 };
        let mut outbox = Outbox::without_opening();
        for _ in 0..2 {
            outbox.push(&Frame::Ping);
            outbox.push(&Frame::Task(Task {
                attempt,
                input: payload.lend(),
            }));
        }
        let pieces: Vec<&[u8]> = outbox.pieces().collect();
        assert_eq!(pieces.len(), 5);
        assert_eq!(pieces[1].as_ptr(), payload.as_ptr());
        assert_eq!(pieces[3].as_ptr(), payload.as_ptr());
        // Several may be written at once.
        let bytes = outbox.pending_bytes();
        outbox.consume(bytes / 2 + 1);
        assert_eq!(outbox.pending_bytes(), bytes - bytes / 2 - 1);
        outbox.consume(outbox.pending_bytes());
        assert!(outbox.is_empty());
    }
}
