//! What must hold of the wire and of a journal for any bytes at all.
//!
//! What it is: the bodies of the fuzz targets in `fuzz/`, one function each; `tests/seeds.rs` runs
//! them under plain `cargo test`, and the other tests of the wire share their checks. What it is
//! not: part of the interface.
//!
//! Invariant: a body returns for every input, or it has found a bug.

mod arguments;
mod command;
mod journal;
mod roles;
mod session;

use std::borrow::Cow;

use byteorder::{BigEndian, ByteOrder};

use crate::frame::{
    Decoder, Frame, FrameError, HEADER_BYTES, Kind, Outcome, Side, Status, Task, opening,
};
use crate::payload::Bytes;
use crate::rng::SplitMix64;
use crate::role::Attempt;

pub use arguments::arguments;
pub use command::command;
pub use journal::journal;
pub use roles::roles;
pub use session::session;

/// Longest payload here: short enough that fuzzing reaches both sides of the limit.
pub const PAYLOAD_BYTES_MAX: usize = 1024;
/// And where there is to be a frame that is read straight into the decoder.
const LARGE_PAYLOAD_BYTES_MAX: usize = 256 << 10;

/// Any bytes, to both sides: what they decode encodes to the bytes it came from.
pub fn frame(bytes: &[u8]) {
    for ours in [Side::Head, Side::Worker] {
        decode(ours, bytes, []);
    }
}

/// A side, a seed and a stream (see [`split_chunks`]): cut anywhere, the stream gives the same
/// frames and the same error.
pub fn chunks(bytes: &[u8]) {
    let Some((ours, seed, stream)) = split_chunks(bytes) else {
        return;
    };
    let mut rng = SplitMix64::new(seed);
    let is_small = bytes[0] < 0x80;
    let (stream, limit, doublings) = match is_small {
        true => (Cow::from(stream), PAYLOAD_BYTES_MAX, 12),
        false => {
            let stream = behind_large_frame(ours.peer(), &mut rng, stream);
            (Cow::from(stream), LARGE_PAYLOAD_BYTES_MAX, 19)
        }
    };
    let mut at = 0;
    let cuts = std::iter::from_fn(|| {
        // Mostly short pieces, some empty, a few longer than any frame.
        let longest = 1 << rng.below(doublings);
        at += rng.below(longest) as usize;
        (at < stream.len()).then_some(at)
    });
    let cut = decode_within(limit, ours, &stream, cuts);
    assert_eq!(cut, decode_within(limit, ours, &stream, []));
}

/// What `side` sends before `stream`: all that it takes for a frame longer than a fuzzer makes.
fn behind_large_frame(side: Side, rng: &mut SplitMix64, stream: &[u8]) -> Vec<u8> {
    let mut whole = opening(side).to_vec();
    greeting(side).encode(&mut whole);
    let attempt = Attempt { task: 7, number: 1 };
    let payload = vec![b'p'; rng.below(LARGE_PAYLOAD_BYTES_MAX as u64) as usize];
    let frame = match side {
        Side::Head => Frame::Task(Task {
            attempt,
            input: Bytes::from(&payload),
        }),
        Side::Worker => Frame::Outcome(Outcome {
            attempt,
            status: Status::Done,
            run_us: 0,
            output: Bytes::from(&payload),
        }),
    };
    frame.encode(&mut whole);
    whole.extend(stream);
    whole
}

/// Reads an input of [`chunks`]: who receives (`h` or `w`, any even or odd byte; with its top bit set
/// the stream comes behind a large frame), a seed for the cutting, and the stream.
pub fn split_chunks(bytes: &[u8]) -> Option<(Side, u64, &[u8])> {
    let [ours, seed, stream @ ..] = bytes else {
        return None;
    };
    let ours = match ours % 2 {
        0 => Side::Head,
        _ => Side::Worker,
    };
    Some((ours, u64::from(*seed), stream))
}

/// What a decoder made of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The kinds of the frames, in order.
    pub kinds: Vec<Kind>,
    /// The frames, encoded again.
    pub bytes: Vec<u8>,
    /// What ended it.
    pub error: Option<FrameError>,
}

/// Feeds `stream`, cut at the positions `cuts` (ascending), to the decoder of `ours`, and checks at
/// every step what always holds.
pub fn decode(ours: Side, stream: &[u8], cuts: impl IntoIterator<Item = usize>) -> Trace {
    decode_within(PAYLOAD_BYTES_MAX, ours, stream, cuts)
}

fn decode_within(
    payload_bytes_max: usize,
    ours: Side,
    stream: &[u8],
    cuts: impl IntoIterator<Item = usize>,
) -> Trace {
    let mut decoder = Decoder::new(ours, payload_bytes_max);
    let mut trace = Trace::default();
    let mut fed_bytes = 0;
    // The end comes twice: an empty piece must change nothing.
    for cut in cuts.into_iter().chain([stream.len(); 2]) {
        let piece = &stream[fed_bytes..cut];
        let in_room = decoder.room().map(|room| {
            let count = room.len().min(piece.len());
            room[..count].copy_from_slice(&piece[..count]);
            count
        });
        let mut frames = match in_room {
            Some(count) => decoder.advance(count),
            None => decoder.feed(piece),
        };
        fed_bytes += in_room.unwrap_or(piece.len());
        loop {
            // As the reactor does: however it is cut, what is in a row must be what comes alone.
            for task in frames.tasks() {
                trace.take(&Frame::Task(task), &stream[..fed_bytes]);
            }
            for outcome in frames.outcomes() {
                trace.take(&Frame::Outcome(outcome), &stream[..fed_bytes]);
            }
            let Some(next) = frames.next() else {
                break;
            };
            match next {
                Ok(frame) => trace.take(&frame, &stream[..fed_bytes]),
                Err(error) => {
                    assert_eq!(frames.next(), Some(Err(error.clone())), "errors are final");
                    let first = trace.error.get_or_insert_with(|| error.clone());
                    assert_eq!(*first, error, "the first error stays");
                    break;
                }
            }
        }
        trace.check(ours, &stream[..fed_bytes], decoder.partial_bytes());
    }
    trace
}

impl Trace {
    /// Notes `frame`, which must be what `fed` goes on with.
    fn take(&mut self, frame: &Frame<'_>, fed: &[u8]) {
        assert_eq!(self.error, None, "no frame follows an error");
        let start = self.bytes.len();
        let added_bytes = frame.encode(&mut self.bytes);
        assert_eq!(added_bytes, frame.encoded_bytes());
        assert_eq!(self.bytes.len(), start + added_bytes);
        assert!(
            fed[HEADER_BYTES..][start..].starts_with(&self.bytes[start..]),
            "{frame:?} was not encoded like this"
        );
        self.kinds.push(frame.kind());
    }

    /// Checks where the bytes in `fed` are once all frames have been taken.
    fn check(&self, ours: Side, fed: &[u8], partial_bytes: usize) {
        let taken_bytes = match fed.get(..HEADER_BYTES) {
            Some(first) if self.error.is_none() => {
                assert_eq!(first, opening(ours.peer()));
                HEADER_BYTES + self.bytes.len()
            }
            _ => self.bytes.len(),
        };
        let left = &fed[taken_bytes..];
        if self.error.is_some() {
            assert!(partial_bytes <= left.len());
            return;
        }
        assert_eq!(partial_bytes, left.len(), "every byte is taken or kept");
        if left.len() >= HEADER_BYTES {
            let body_bytes = BigEndian::read_u32(left) as usize;
            assert!(partial_bytes < HEADER_BYTES + body_bytes, "a whole frame");
        }
    }
}

/// The bytes of an example on a page in `docs/`, where everything in a line after two spaces is a
/// remark.
pub fn bytes(hex: &str) -> Vec<u8> {
    hex.lines()
        .flat_map(|line| line.trim().split("  ").next().unwrap_or("").split(' '))
        .filter(|digits| !digits.is_empty())
        .map(|digits| u8::from_str_radix(digits, 16).expect("two hexadecimal digits"))
        .collect()
}

/// A byte example of `docs/PROTOCOL.md`: `side` sends `frame` as the bytes in `hex`.
pub fn example(side: Side, frame: Frame<'_>, hex: &str) {
    let bytes = bytes(hex);
    let mut encoded = Vec::new();
    frame.encode(&mut encoded);
    assert_eq!(encoded, bytes);

    let mut stream = opening(side).to_vec();
    if !frame.kind().opens(side) {
        greeting(side).encode(&mut stream);
    }
    let mut decoder = Decoder::new(side.peer(), PAYLOAD_BYTES_MAX);
    let mut before = decoder.feed(&stream);
    while let Some(next) = before.next() {
        next.expect("a greeting");
    }
    let mut frames = decoder.feed(&bytes);
    assert_eq!(frames.next(), Some(Ok(frame)));
    assert_eq!(frames.next(), None);
}

/// A greeting of `side`, for streams that are about something else.
pub fn greeting(side: Side) -> Frame<'static> {
    match side {
        Side::Head => Frame::Hello {
            payload_max: PAYLOAD_BYTES_MAX as u32,
            release: "0.1.0",
        },
        Side::Worker => Frame::Welcome {
            slots: 1,
            credit_tasks: 64,
            credit_bytes: 1 << 20,
            incarnation: 7,
            payload_max: PAYLOAD_BYTES_MAX as u32,
            release: "0.1.0",
        },
    }
}
