//! Frames of one kind in a row.
//!
//! What it is: the way of the two kinds that come by the million. What is the same for all frames of
//! a row is asked once, and each is lent as its fields: a [`Frame`](super::Frame) that may be any kind
//! has to be stored and loaded again. What it is not: a second opinion on what is
//! right: whatever is not plainly the next of the row ends it, and is left to
//! [`Frames::next`](super::Frames::next).
//!
//! Invariant: it takes whole frames only, and each was checked as `next` would.

use byteorder::{BigEndian, ByteOrder};

use super::{FrameError, HEADER_BYTES, Kind, Status, field, read_attempt, split_payload};
use crate::payload::Bytes;
use crate::role::Attempt;

/// What a frame says that is a [`Kind::Task`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task<'a> {
    /// Which attempt of which task.
    pub attempt: Attempt,
    /// Input for the kernel.
    pub input: Bytes<'a>,
}

/// What a frame says that is a [`Kind::Outcome`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// Which attempt of which task.
    pub attempt: Attempt,
    /// How it ended.
    pub status: Status,
    /// How long the kernel ran, in microseconds; `u32::MAX` if longer.
    pub run_us: u32,
    /// The output, or the error's text.
    pub output: Bytes<'a>,
}

impl<'a> Task<'a> {
    /// Reads a body.
    #[inline(always)]
    pub(super) fn parse(body: Bytes<'a>) -> Result<Task<'a>, FrameError> {
        let kind = Kind::Task;
        let (fixed, input) = split_payload::<{ field::TASK_END }>(kind, body)?;
        let attempt = read_attempt(kind, fixed)?;
        Ok(Task { attempt, input })
    }
}

impl<'a> Outcome<'a> {
    /// Reads a body.
    #[inline(always)]
    pub(super) fn parse(body: Bytes<'a>) -> Result<Outcome<'a>, FrameError> {
        let kind = Kind::Outcome;
        let (fixed, output) = split_payload::<{ field::OUTCOME_END }>(kind, body)?;
        Ok(Outcome {
            attempt: read_attempt(kind, fixed)?,
            status: match fixed[field::OUTCOME_STATUS] {
                0 => Status::Done,
                1 => Status::Failed,
                2 => Status::Returned,
                3 => Status::TimedOut,
                _ => {
                    let what = "unknown status";
                    return Err(FrameError::Value { kind, what });
                }
            },
            run_us: BigEndian::read_u32(&fixed[field::OUTCOME_RUN_US]),
            output,
        })
    }
}

/// What can stand in a row.
pub(super) trait Item {
    const KIND: Kind;
}

impl Item for Task<'_> {
    const KIND: Kind = Kind::Task;
}

impl Item for Outcome<'_> {
    const KIND: Kind = Kind::Outcome;
}

/// The row at the beginning of `rest`, of which it takes off what it lends.
pub(super) struct Row<'r, 'a, P> {
    /// Longest body; `None` where no row can be.
    limit_bytes: Option<usize>,
    rest: &'r mut &'a [u8],
    parse: P,
}

impl<'r, 'a, P> Row<'r, 'a, P> {
    pub fn new(limit_bytes: Option<usize>, rest: &'r mut &'a [u8], parse: P) -> Row<'r, 'a, P> {
        Row {
            limit_bytes,
            rest,
            parse,
        }
    }
}

impl<'a, T: Item, P: Fn(Bytes<'a>) -> Result<T, FrameError>> Iterator for Row<'_, 'a, P> {
    type Item = T;

    #[inline(always)]
    fn next(&mut self) -> Option<T> {
        let limit_bytes = self.limit_bytes?;
        let (header, rest) = self.rest.split_first_chunk::<HEADER_BYTES>()?;
        // The kind and the reserved bytes behind it.
        if BigEndian::read_u32(&header[field::KIND..]) != u32::from(T::KIND as u8) << 24 {
            return None;
        }
        let body_bytes = BigEndian::read_u32(&header[field::LENGTH]) as usize;
        if body_bytes > limit_bytes {
            return None;
        }
        let (body, rest) = rest.split_at_checked(body_bytes)?;
        let item = (self.parse)(Bytes::from(body)).ok()?;
        *self.rest = rest;
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Decoder, Frame, Side, opening};

    const HELLO: Frame<'static> = Frame::Hello {
        payload_max: 0,
        release: "",
    };

    fn task(number: u64, input: &[u8]) -> Task<'_> {
        Task {
            attempt: Attempt {
                task: number,
                number: 1,
            },
            input: Bytes::from(input),
        }
    }

    /// A worker's decoder that has had the greeting.
    fn greeted() -> Decoder {
        let mut decoder = Decoder::new(Side::Worker, 100);
        let mut bytes = opening(Side::Head).to_vec();
        HELLO.encode(&mut bytes);
        assert_eq!(decoder.feed(&bytes).next(), Some(Ok(HELLO)));
        decoder
    }

    #[test]
    fn a_row_goes_as_far_as_whole_frames_of_its_kind() {
        let mut decoder = greeted();
        let mut bytes = Vec::new();
        for number in 0..3 {
            Frame::Task(task(number, b"in")).encode(&mut bytes);
        }
        Frame::Ping.encode(&mut bytes);
        Frame::Task(task(3, b"")).encode(&mut bytes);
        let whole = bytes.len();
        Frame::Task(task(4, b"")).encode(&mut bytes);
        let (first, rest) = bytes.split_at(whole + 10);
        let mut frames = decoder.feed(first);
        let expected: Vec<Task> = (0..3).map(|number| task(number, b"in")).collect();
        assert_eq!(frames.outcomes().count(), 0);
        assert_eq!(frames.tasks().collect::<Vec<_>>(), expected);
        assert_eq!(frames.tasks().count(), 0, "a ping is next");
        assert_eq!(frames.next(), Some(Ok(Frame::Ping)));
        assert_eq!(frames.tasks().collect::<Vec<_>>(), [task(3, b"")]);
        assert_eq!(frames.next(), None);
        let mut frames = decoder.feed(rest);
        assert_eq!(frames.tasks().count(), 0, "it begins in what was kept");
        assert_eq!(frames.next(), Some(Ok(Frame::Task(task(4, b"")))));
    }

    #[test]
    fn what_is_not_right_ends_a_row_and_is_told_by_next() {
        let right = {
            let mut bytes = Vec::new();
            Frame::Task(task(7, b"input")).encode(&mut bytes);
            bytes
        };
        let changes: [(usize, u8); 4] = [(7, 1), (4, Kind::Outcome as u8), (2, 1), (19, 0)];
        for (at, value) in changes {
            let mut bytes = right.repeat(2);
            bytes[right.len() + at] = value;
            let mut decoder = greeted();
            let mut frames = decoder.feed(&bytes);
            assert_eq!(frames.tasks().count(), 1, "byte {at}");
            assert!(matches!(frames.next(), Some(Err(_))), "byte {at}");
            assert_eq!(frames.tasks().count(), 0, "nothing follows an error");
        }
    }

    #[test]
    fn nothing_is_in_a_row_before_the_greeting() {
        let mut bytes = Vec::new();
        Frame::Task(task(0, b"")).encode(&mut bytes);
        let mut decoder = Decoder::without_opening(Side::Worker, 100);
        let mut frames = decoder.feed(&bytes);
        assert_eq!(frames.tasks().count(), 0);
        assert_eq!(frames.next(), Some(Err(FrameError::NotGreeted)));
    }
}
