//! Bytes into frames, however the network cut them.
//!
//! What it is: a pure transformation of a byte stream that was cut anywhere into openings checked
//! and frames lent. What it is not: a buffer between socket and role: whole frames are lent straight
//! from the caller's bytes, only an incomplete one is copied into `tail`, and the rest of a large one
//! may be read straight into it; complete, it is lent so that it can be kept without another copy.
//!
//! Invariant: the first `filled` bytes of `tail` are the beginning of at most one unit (opening or
//! frame); it never holds more than the unit's length. What it takes from the system is at most twice
//! what arrived: a claim alone costs nothing.

use byteorder::{BigEndian, ByteOrder};

use super::row::Row;
use super::{
    FIXED_BYTES_MAX, Frame, FrameError, HEADER_BYTES, Kind, Outcome, Side, Task, check_opening,
    field,
};
use crate::buffer::Buffer;
use crate::limits::GREETING_BYTES_MAX;
use crate::payload::{Bytes, Payload};

/// Decoder of one direction of one connection.
#[derive(Debug)]
pub struct Decoder {
    ours: Side,
    stage: Stage,
    payload_bytes_max: usize,
    tail: Buffer,
    filled: usize,
    /// The tail of before, while the large frame in it is lent.
    lent: Payload,
    failed: Option<FrameError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Opening,
    Greeting,
    Open,
}

impl Decoder {
    /// A decoder for what the peer of `ours` sends, with payloads up to `payload_bytes_max`.
    pub fn new(ours: Side, payload_bytes_max: usize) -> Decoder {
        Decoder {
            ours,
            stage: Stage::Opening,
            payload_bytes_max,
            tail: Buffer::default(),
            filled: 0,
            lent: Payload::EMPTY,
            failed: None,
        }
    }

    /// The same for a stream whose opening has been taken off and checked.
    pub fn without_opening(ours: Side, payload_bytes_max: usize) -> Decoder {
        Decoder {
            stage: Stage::Greeting,
            ..Decoder::new(ours, payload_bytes_max)
        }
    }

    /// Takes the next bytes of the stream. Call [`Frames::next`] until it returns `None`; to stop
    /// earlier loses bytes and is right only if the connection is closed for it.
    pub fn feed<'a>(&'a mut self, bytes: &'a [u8]) -> Frames<'a> {
        Frames {
            decoder: self,
            rest: bytes,
            lent_tail: false,
        }
    }

    /// Where the next bytes of a large frame belong: to be read there and told to
    /// [`Decoder::advance`], which saves copying them. `None` where nothing is saved.
    pub fn room(&mut self) -> Option<&mut [u8]> {
        if self.stage != Stage::Open || self.filled < HEADER_BYTES {
            return None;
        }
        let (_, frame_bytes) = self.header(self.tail.first_chunk()?).ok()?;
        self.make_room(2 * self.filled, frame_bytes);
        let end = frame_bytes.min(self.tail.len());
        let room = &mut self.tail[self.filled..end];
        // The last of a frame is better read together with the beginning of the next.
        (room.len() >= Buffer::LARGE_BYTES).then_some(room)
    }

    /// Takes the next bytes of the stream, `count` of them, that were read into the room. For the
    /// rest see [`Decoder::feed`].
    ///
    /// # Panics
    /// If there was not so much room.
    pub fn advance(&mut self, count: usize) -> Frames<'_> {
        self.filled += count;
        assert!(
            self.filled <= self.tail.len(),
            "more read than there was room"
        );
        self.feed(&[])
    }

    /// Bytes held of a frame that is not complete.
    pub fn partial_bytes(&self) -> usize {
        self.filled
    }

    /// Whether the peer has greeted.
    pub fn is_greeted(&self) -> bool {
        self.stage == Stage::Open
    }

    /// Lets the tail have `bytes` of the `unit_bytes` it will have in the end. A spare is ours already
    /// and serves to the end; else it grows by doubling.
    fn make_room(&mut self, bytes: usize, unit_bytes: usize) {
        if self.tail.len() >= bytes.min(unit_bytes) {
            return;
        }
        let fresh = || Buffer::zeroed(bytes.max(2 * self.filled).min(unit_bytes));
        let mut tail = Buffer::spare(unit_bytes).unwrap_or_else(fresh);
        tail[..self.filled].copy_from_slice(&self.tail[..self.filled]);
        self.tail = tail;
    }

    /// The tail's unit is done with. A large one's memory is for whoever has kept its payload, or else
    /// for the next need.
    fn clear(&mut self) {
        self.filled = 0;
        self.lent = Payload::EMPTY;
    }

    /// Kind and length of the frame that begins with `header`, after all checks a header alone allows.
    #[inline(always)]
    fn header(&self, header: &[u8; HEADER_BYTES]) -> Result<(Kind, usize), FrameError> {
        if header[field::RESERVED] != [0; 3] {
            return Err(FrameError::Reserved);
        }
        let byte = header[field::KIND];
        let kind = Kind::from_byte(byte).ok_or(FrameError::UnknownKind(byte))?;
        let peer = self.ours.peer();
        if !kind.is_sent_by(peer) {
            return Err(FrameError::Direction(kind));
        }
        let limit_bytes = match self.stage {
            Stage::Opening | Stage::Greeting if !kind.opens(peer) => {
                return Err(FrameError::NotGreeted);
            }
            Stage::Opening | Stage::Greeting => GREETING_BYTES_MAX,
            Stage::Open => self.body_bytes_max(),
        };
        let body_bytes = BigEndian::read_u32(&header[field::LENGTH]);
        match usize::try_from(body_bytes) {
            Ok(bytes) if bytes <= limit_bytes => Ok((kind, HEADER_BYTES + bytes)),
            _ => Err(FrameError::TooLong {
                body_bytes,
                limit_bytes,
            }),
        }
    }

    /// Longest body of a frame after the greeting.
    fn body_bytes_max(&self) -> usize {
        self.payload_bytes_max.saturating_add(FIXED_BYTES_MAX)
    }

    #[cold]
    fn fail(&mut self, error: FrameError) -> FrameError {
        self.tail = Buffer::default();
        self.filled = 0;
        self.failed = Some(error.clone());
        error
    }
}

/// The frames in the bytes fed last; an iterator that lends.
#[derive(Debug)]
pub struct Frames<'a> {
    decoder: &'a mut Decoder,
    rest: &'a [u8],
    /// The tail holds the frame returned last, which is done with at the next call.
    lent_tail: bool,
}

impl<'a> Frames<'a> {
    /// The next whole frame; `None` once all fed bytes are used up.
    ///
    /// # Errors
    /// The first error is final: it is returned now and at every later call.
    #[allow(clippy::should_implement_trait)] // It lends, which `Iterator` cannot.
    #[inline(always)]
    pub fn next(&mut self) -> Option<Result<Frame<'_>, FrameError>> {
        match self.next_fed() {
            Some((kind, body)) => {
                let frame = Frame::parse(kind, Bytes::from(body));
                Some(frame.map_err(|error| self.decoder.fail(error)))
            }
            None => self.next_tail(),
        }
    }

    /// The next frame if it lies whole in what was fed, as nearly all do.
    #[inline(always)]
    fn next_fed(&mut self) -> Option<(Kind, &'a [u8])> {
        let decoder = &mut *self.decoder;
        if decoder.filled > 0 || decoder.stage == Stage::Opening || decoder.failed.is_some() {
            return None;
        }
        let (kind, bytes) = decoder.header(self.rest.first_chunk()?).ok()?;
        let (whole, rest) = self.rest.split_at_checked(bytes)?;
        decoder.stage = Stage::Open;
        self.rest = rest;
        Some((kind, &whole[HEADER_BYTES..]))
    }

    /// The tasks next in what was fed, up to the first frame that is not plainly one.
    #[inline(always)]
    pub fn tasks(&mut self) -> impl Iterator<Item = Task<'a>> {
        Row::new(self.row_limit(Side::Worker), &mut self.rest, Task::parse)
    }

    /// The outcomes next in what was fed, up to the first frame that is not plainly one.
    #[inline(always)]
    pub fn outcomes(&mut self) -> impl Iterator<Item = Outcome<'a>> {
        Row::new(self.row_limit(Side::Head), &mut self.rest, Outcome::parse)
    }

    /// Longest body of a frame in a row, if this is the side that gets such, and one can begin here.
    fn row_limit(&self, side: Side) -> Option<usize> {
        let decoder = &*self.decoder;
        let is_between = decoder.filled == 0 && decoder.failed.is_none();
        let is_open = decoder.stage == Stage::Open && decoder.ours == side;
        (is_between && is_open).then(|| decoder.body_bytes_max())
    }

    /// Whatever else is next: the opening, a frame in pieces, an error, or nothing.
    #[cold]
    fn next_tail(&mut self) -> Option<Result<Frame<'_>, FrameError>> {
        if let Some(error) = &self.decoder.failed {
            return Some(Err(error.clone()));
        }
        if std::mem::take(&mut self.lent_tail) {
            self.decoder.clear();
            return self.next();
        }
        if !self.fill_tail(HEADER_BYTES) {
            return None;
        }
        let header = self.decoder.tail.first_chunk().expect("8 bytes");
        if self.decoder.stage == Stage::Opening {
            if let Err(error) = check_opening(self.decoder.ours, false, header) {
                return Some(Err(self.decoder.fail(error)));
            }
            self.decoder.clear();
            self.decoder.stage = Stage::Greeting;
            return self.next();
        }
        let (kind, bytes) = match self.decoder.header(header) {
            Ok(header) => header,
            Err(error) => return Some(Err(self.decoder.fail(error))),
        };
        if !self.fill_tail(bytes) {
            return None;
        }
        self.decoder.stage = Stage::Open;
        self.lent_tail = true;
        let Decoder {
            tail, lent, failed, ..
        } = &mut *self.decoder;
        let frame = Frame::parse(kind, lend_body(tail, lent, bytes));
        *failed = frame.as_ref().err().cloned();
        Some(frame)
    }

    /// Tops the tail up to `target_bytes`; false if the fed bytes run out before.
    fn fill_tail(&mut self, target_bytes: usize) -> bool {
        let decoder = &mut *self.decoder;
        let missing = target_bytes.saturating_sub(decoder.filled);
        let (taken, rest) = self.rest.split_at(missing.min(self.rest.len()));
        self.rest = rest;
        let filled = decoder.filled + taken.len();
        decoder.make_room(filled, target_bytes);
        decoder.tail[decoder.filled..filled].copy_from_slice(taken);
        decoder.filled = filled;
        filled >= target_bytes
    }
}

/// The body of the frame whose `frame_bytes` are all in `tail`, which a large one leaves.
fn lend_body<'a>(tail: &'a mut Buffer, lent: &'a mut Payload, frame_bytes: usize) -> Bytes<'a> {
    if tail.len() < Buffer::LARGE_BYTES {
        return Bytes::from(&tail[HEADER_BYTES..frame_bytes]);
    }
    *lent = Payload::of(std::mem::take(tail), frame_bytes);
    lent.lend_from(HEADER_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::opening;
    use crate::role::Attempt;

    const LARGE_BYTES: usize = 4 << 20;

    /// A greeting, then a task with so many bytes.
    fn stream(input_bytes: usize) -> Vec<u8> {
        let input: Vec<u8> = (0..input_bytes).map(|i| i as u8).collect();
        let attempt = Attempt { task: 0, number: 1 };
        let hello = Frame::Hello {
            payload_max: 0,
            release: "",
        };
        let task = Frame::Task(Task {
            attempt,
            input: Bytes::from(&input),
        });
        let mut stream = opening(Side::Head).to_vec();
        hello.encode(&mut stream);
        task.encode(&mut stream);
        task.encode(&mut stream);
        stream
    }

    /// Encodes what it lends.
    fn drain(mut frames: Frames<'_>, encoded: &mut Vec<u8>) {
        while let Some(frame) = frames.next() {
            frame.unwrap().encode(encoded);
        }
    }

    #[test]
    fn what_is_read_into_the_room_is_as_good_as_what_is_fed() {
        for piece_bytes in [1000, 64 << 10, 300_000, 1 << 20] {
            let stream = stream(LARGE_BYTES);
            let mut decoder = Decoder::new(Side::Worker, LARGE_BYTES);
            let mut decoded = opening(Side::Head).to_vec();
            let (mut rest, mut in_room) = (&stream[..], 0);
            while !rest.is_empty() {
                let count = match decoder.room() {
                    Some(room) => {
                        let count = piece_bytes.min(room.len());
                        room[..count].copy_from_slice(&rest[..count]);
                        drain(decoder.advance(count), &mut decoded);
                        in_room += count;
                        count
                    }
                    None => {
                        let count = piece_bytes.min(rest.len());
                        drain(decoder.feed(&rest[..count]), &mut decoded);
                        count
                    }
                };
                rest = &rest[count..];
            }
            assert!(decoded == stream, "pieces of {piece_bytes}");
            assert!(in_room > LARGE_BYTES, "pieces of {piece_bytes}: {in_room}");
        }
    }

    #[test]
    fn memory_grows_with_what_arrived_and_is_given_back() {
        let stream = stream(LARGE_BYTES);
        let mut decoder = Decoder::new(Side::Worker, LARGE_BYTES);
        let mut fed_bytes = 0;
        Buffer::forget_spares();
        for piece in stream.chunks(1000) {
            drain(decoder.feed(piece), &mut Vec::new());
            fed_bytes += piece.len();
            let room_bytes = decoder.room().map_or(0, |room| room.len());
            if fed_bytes < LARGE_BYTES {
                // But for the rounding.
                assert!(decoder.tail.len() <= 2 * fed_bytes + Buffer::LARGE_BYTES + 64);
                assert!(room_bytes <= fed_bytes + Buffer::LARGE_BYTES + 64);
            }
        }
        assert_eq!(decoder.partial_bytes(), 0);
        assert_eq!(decoder.feed(&[]).next(), None);
        assert!(decoder.tail.len() < Buffer::LARGE_BYTES);
    }

    #[test]
    fn the_payload_of_a_large_frame_is_kept_without_a_copy() {
        let stream = stream(LARGE_BYTES);
        let mut decoder = Decoder::new(Side::Worker, LARGE_BYTES);
        let mut kept = Vec::new();
        for piece in stream.chunks(100_000) {
            let mut frames = decoder.feed(piece);
            while let Some(frame) = frames.next() {
                if let Frame::Task(Task { input, .. }) = frame.unwrap() {
                    kept.push(Payload::from(input));
                    assert_eq!(kept.last().unwrap().as_ptr(), input.as_ptr());
                }
            }
        }
        assert_eq!(kept.len(), 2);
        for payload in kept {
            assert!(payload.len() == LARGE_BYTES && stream.ends_with(&payload));
        }
    }
}
