//! Bytes into frames, however the network cut them.
//!
//! What it is: a pure transformation of a byte stream that was cut anywhere into openings checked
//! and frames lent. What it is not: a buffer between socket and role: whole frames are lent straight
//! from the caller's bytes, only an incomplete one is copied into `tail`.
//!
//! Invariant: `tail` holds the beginning of at most one unit (opening or frame), grows only by bytes
//! that arrived, and never holds more than the unit's length.

use byteorder::{BigEndian, ByteOrder};

use super::{FIXED_BYTES_MAX, Frame, FrameError, HEADER_BYTES, Kind, Side, check_opening, field};
use crate::limits::GREETING_BYTES_MAX;

/// Decoder of one direction of one connection.
#[derive(Debug)]
pub struct Decoder {
    ours: Side,
    stage: Stage,
    payload_bytes_max: usize,
    tail: Vec<u8>,
    failed: Option<FrameError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Opening,
    Greeting,
    Open,
}

/// Where the next whole frame lies.
enum Unit {
    /// In the first so many bytes of what was fed.
    Fed(usize),
    /// In the tail, which it fills.
    Tail,
}

impl Decoder {
    /// Tail capacity kept between frames; anything above it is given back. A frame of the default
    /// size fits in, growth by doubling included.
    const IDLE_BYTES: usize = 2 << 20;

    /// A decoder for what the peer of `ours` sends, with payloads up to `payload_bytes_max`.
    pub fn new(ours: Side, payload_bytes_max: usize) -> Decoder {
        Decoder {
            ours,
            stage: Stage::Opening,
            payload_bytes_max,
            tail: Vec::new(),
            failed: None,
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

    /// Bytes held of a frame that is not complete.
    pub fn partial_bytes(&self) -> usize {
        self.tail.len()
    }

    /// Length of the frame that begins with `header`, after all checks a header alone allows.
    fn frame_bytes(&self, header: &[u8]) -> Result<usize, FrameError> {
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
            Stage::Open => self.payload_bytes_max.saturating_add(FIXED_BYTES_MAX),
        };
        let body_bytes = BigEndian::read_u32(&header[field::LENGTH]);
        match usize::try_from(body_bytes) {
            Ok(bytes) if bytes <= limit_bytes => Ok(HEADER_BYTES + bytes),
            _ => Err(FrameError::TooLong {
                body_bytes,
                limit_bytes,
            }),
        }
    }

    fn fail(&mut self, error: FrameError) -> FrameError {
        self.tail = Vec::new();
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

impl Frames<'_> {
    /// The next whole frame; `None` once all fed bytes are used up.
    ///
    /// # Errors
    /// The first error is final: it is returned now and at every later call.
    #[allow(clippy::should_implement_trait)] // It lends, which `Iterator` cannot.
    pub fn next(&mut self) -> Option<Result<Frame<'_>, FrameError>> {
        if let Some(error) = &self.decoder.failed {
            return Some(Err(error.clone()));
        }
        let unit = match self.next_unit() {
            Ok(unit) => unit?,
            Err(error) => return Some(Err(self.decoder.fail(error))),
        };
        let Decoder { tail, failed, .. } = &mut *self.decoder;
        let whole: &[u8] = match unit {
            Unit::Tail => {
                self.lent_tail = true;
                tail
            }
            Unit::Fed(bytes) => {
                let (whole, rest) = self.rest.split_at(bytes);
                self.rest = rest;
                whole
            }
        };
        let kind = Kind::from_byte(whole[field::KIND]).expect("the header was checked");
        let frame = Frame::parse(kind, &whole[HEADER_BYTES..]);
        if let Err(error) = &frame {
            *failed = Some(error.clone());
        }
        Some(frame)
    }

    /// Finds the next whole frame, or moves what there is of it into the tail.
    fn next_unit(&mut self) -> Result<Option<Unit>, FrameError> {
        if std::mem::take(&mut self.lent_tail) {
            self.decoder.tail.clear();
            self.decoder.tail.shrink_to(Decoder::IDLE_BYTES);
        }
        if self.decoder.stage == Stage::Opening {
            if !self.fill_tail(HEADER_BYTES) {
                return Ok(None);
            }
            let opening = self.decoder.tail[..].try_into().expect("8 bytes");
            check_opening(self.decoder.ours, opening)?;
            self.decoder.tail.clear();
            self.decoder.stage = Stage::Greeting;
        }
        let unit = self.next_frame()?;
        if unit.is_some() {
            self.decoder.stage = Stage::Open;
        }
        Ok(unit)
    }

    fn next_frame(&mut self) -> Result<Option<Unit>, FrameError> {
        if self.decoder.tail.is_empty() && self.rest.len() >= HEADER_BYTES {
            let bytes = self.decoder.frame_bytes(self.rest)?;
            if self.rest.len() >= bytes {
                return Ok(Some(Unit::Fed(bytes)));
            }
        }
        if !self.fill_tail(HEADER_BYTES) {
            return Ok(None);
        }
        let bytes = self.decoder.frame_bytes(&self.decoder.tail)?;
        Ok(self.fill_tail(bytes).then_some(Unit::Tail))
    }

    /// Tops the tail up to `target_bytes`; false if the fed bytes run out before.
    fn fill_tail(&mut self, target_bytes: usize) -> bool {
        let tail = &mut self.decoder.tail;
        let missing = target_bytes.saturating_sub(tail.len());
        let (taken, rest) = self.rest.split_at(missing.min(self.rest.len()));
        tail.extend_from_slice(taken);
        self.rest = rest;
        tail.len() >= target_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::opening;
    use crate::role::Attempt;

    #[test]
    fn memory_of_a_large_frame_is_given_back() {
        let input = vec![0; 8 << 20];
        let attempt = Attempt { task: 0, number: 1 };
        let hello = Frame::Hello {
            payload_max: 0,
            release: "",
        };
        let task = Frame::Task {
            attempt,
            input: &input,
        };
        let mut stream = opening(Side::Head).to_vec();
        hello.encode(&mut stream);
        task.encode(&mut stream);

        let mut decoder = Decoder::new(Side::Worker, input.len());
        let mut frames = 0;
        for piece in stream.chunks(64 << 10) {
            let mut fed = decoder.feed(piece);
            while let Some(next) = fed.next() {
                next.unwrap();
                frames += 1;
            }
        }
        assert_eq!(frames, 2);
        assert!(decoder.tail.capacity() <= Decoder::IDLE_BYTES);
    }
}
