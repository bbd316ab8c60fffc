//! The wire, from outside: what is encoded decodes, however it was cut, and everything else is an
//! error by name. What always holds of a decoder is checked at every step in `fuzzing::decode`.

use teamster::frame::{
    Decoder, FIXED_BYTES_MAX, Frame, FrameError, HEADER_BYTES, Kind, Outbox, Outcome, Refusal,
    Side, Status, Task, opening,
};
use teamster::fuzzing::{PAYLOAD_BYTES_MAX, Trace, decode, greeting};
use teamster::limits::GREETING_BYTES_MAX;
use teamster::payload::Bytes;
use teamster::rng::SplitMix64;
use teamster::role::Attempt;

const SIDES: [Side; 2] = [Side::Head, Side::Worker];

#[test]
fn every_kind_round_trips_with_random_contents() {
    for seed in 0..2_000 {
        let mut rng = SplitMix64::new(seed);
        let contents = Contents::random(&mut rng);
        for kind in Kind::ALL {
            let frame = contents.frame(kind, &mut rng);
            for side in SIDES.into_iter().filter(|&side| kind.is_sent_by(side)) {
                let mut stream = stream(side, &[]);
                if !kind.opens(side) {
                    greeting(side).encode(&mut stream);
                }
                let mut decoder = Decoder::new(side.peer(), PAYLOAD_BYTES_MAX);
                drain(&mut decoder, &stream).unwrap();
                let mut encoded = Vec::new();
                frame.encode(&mut encoded);
                let mut frames = decoder.feed(&encoded);
                assert_eq!(frames.next(), Some(Ok(frame)), "seed {seed}");
                assert_eq!(frames.next(), None, "seed {seed}");
            }
        }
    }
}

#[test]
fn whatever_decodes_encodes_to_itself() {
    let (mut still_whole, mut errors) = (0, 0);
    for seed in 0..20_000 {
        let mut rng = SplitMix64::new(seed);
        let side = SIDES[rng.below(2) as usize];
        let mut stream = random_stream(side, &mut rng);
        for _ in 0..=rng.below(3) {
            mutate(&mut stream, &mut rng);
        }
        match decode(side.peer(), &stream, []).error {
            None => still_whole += 1,
            Some(_) => errors += 1,
        }
    }
    assert!(
        still_whole > 1_000 && errors > 1_000,
        "{still_whole} whole, {errors} errors: the mutations are too mild or too wild"
    );
}

#[test]
fn any_two_cuts_change_nothing() {
    for side in SIDES {
        let stream = stream_of_all_kinds(side);
        let whole = decode(side.peer(), &stream, []);
        assert_eq!(whole.error, None);
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let cut = decode(side.peer(), &stream, [first, second]);
                assert_eq!(cut, whole, "{side} cut at {first} and {second}");
            }
        }
    }
}

#[test]
fn one_byte_at_a_time_changes_nothing() {
    for seed in 0..200 {
        let mut rng = SplitMix64::new(seed);
        let side = SIDES[rng.below(2) as usize];
        let mut stream = random_stream(side, &mut rng);
        if rng.chance(50) {
            mutate(&mut stream, &mut rng);
        }
        let whole = decode(side.peer(), &stream, []);
        let bytewise = decode(side.peer(), &stream, 0..stream.len());
        assert_eq!(bytewise, whole, "seed {seed}");
    }
}

#[test]
fn errors_of_the_opening() {
    use FrameError::{Keyed, NotTeamster, SameSide, Version};
    for (side, other) in [(b'h', b'w'), (b'w', b'h')] {
        let ours = if side == b'h' {
            Side::Worker
        } else {
            Side::Head
        };
        assert_smallest(ours, b"HTTP/1.1", NotTeamster);
        assert_smallest(ours, b"SM\r\n\0\x03h\0", NotTeamster);
        let opening = |version, side, keyed| [b'T', b'M', b'\r', b'\n', 0, version, side, keyed];
        for theirs in [0, 2, 4] {
            let opening = opening(theirs as u8, side, 0);
            assert_smallest(ours, &opening, Version { theirs });
        }
        assert_smallest(ours, &opening(3, other, 0), SameSide);
        assert_smallest(ours, &opening(3, b'?', 0), SameSide);
        assert_smallest(ours, &opening(3, side, 1), Keyed);
    }
}

#[test]
fn errors_of_a_header() {
    use FrameError::{Direction, NotGreeted, Reserved, UnknownKind};
    use Side::{Head, Worker};
    let first = |side, header: &[u8], error| {
        assert_smallest(Side::peer(side), &[&opening(side), header].concat(), error);
    };
    let later = |side, header: &[u8], error| {
        let before = stream(side, &[greeting(side)]);
        assert_smallest(side.peer(), &[&before, header].concat(), error);
    };
    for side in SIDES {
        first(side, &header(0, Kind::Ping as u8), NotGreeted);
        for reserved in [[1, 0, 0], [0, 1, 0], [0, 0, 1]] {
            let header = [&[0, 0, 0, 0, Kind::Ping as u8], &reserved[..]].concat();
            later(side, &header, Reserved);
        }
        for byte in [0, 13, 255] {
            later(side, &header(0, byte), UnknownKind(byte));
        }
        for kind in Kind::ALL {
            if !kind.is_sent_by(side) {
                first(side, &header(0, kind as u8), Direction(kind));
                later(side, &header(0, kind as u8), Direction(kind));
            }
        }
    }
    first(Head, &header(13, Kind::Task as u8), NotGreeted);
    first(Worker, &header(17, Kind::Outcome as u8), NotGreeted);
    let too_long = |body_bytes, limit_bytes| FrameError::TooLong {
        body_bytes,
        limit_bytes,
    };
    first(Head, &header(257, Kind::Hello as u8), too_long(257, 256));
    let limit_bytes = PAYLOAD_BYTES_MAX + FIXED_BYTES_MAX;
    let above = limit_bytes as u32 + 1;
    later(
        Head,
        &header(above, Kind::Task as u8),
        too_long(above, limit_bytes),
    );
}

#[test]
fn errors_of_a_body() {
    let assert_body = |kind: Kind, body: &[&[u8]], error| {
        let side = if kind.is_sent_by(Side::Head) {
            Side::Head
        } else {
            Side::Worker
        };
        let greeting = greeting(side);
        let before = if kind.opens(side) {
            &[][..]
        } else {
            &[greeting]
        };
        let mut bytes = stream(side, before);
        bytes.extend(frame_bytes(kind, &body.concat()));
        assert_smallest(side.peer(), &bytes, error);
    };
    for (kind, fixed_bytes) in [
        (Kind::Hello, 4),
        (Kind::Welcome, 22),
        (Kind::Refuse, 1),
        (Kind::Job, 5),
        (Kind::Task, 12),
        (Kind::Outcome, 17),
        (Kind::Cancel, 13),
        (Kind::Slots, 2),
        (Kind::Usage, 8),
    ] {
        assert_body(kind, &[], FrameError::Short { kind });
        assert_body(
            kind,
            &[&vec![1; fixed_bytes - 1]],
            FrameError::Short { kind },
        );
    }
    let kind = Kind::Job;
    assert_body(kind, &[b"\0\0\0\0\x02s"], FrameError::Short { kind });
    for kind in [Kind::Ping, Kind::Pong, Kind::Drain] {
        assert_body(kind, &[b"?"], FrameError::Trailing { kind });
    }
    for (kind, fixed_bytes) in [(Kind::Cancel, 13), (Kind::Slots, 2), (Kind::Usage, 8)] {
        assert_body(
            kind,
            &[&[1; 14][..=fixed_bytes]],
            FrameError::Trailing { kind },
        );
    }
    for (kind, fixed_bytes) in [(Kind::Hello, 4), (Kind::Welcome, 22)] {
        let body = [&[1; 22][..fixed_bytes], &[b'r'; 33]];
        assert_body(kind, &body, FrameError::Trailing { kind });
    }

    let value =
        |kind, body: &[&[u8]], what| assert_body(kind, body, FrameError::Value { kind, what });
    value(Kind::Welcome, &[&[0; 2], &[1; 20]], "no slots");
    value(Kind::Welcome, &[&[1; 2], &[0; 4], &[1; 16]], "no credit");
    value(Kind::Refuse, &[&[0]], "unknown refusal");
    value(Kind::Refuse, &[&[4]], "unknown refusal");
    value(Kind::Task, &[&[0; 12]], "attempt 0");
    value(Kind::Outcome, &[&[0; 17]], "attempt 0");
    value(Kind::Outcome, &[&[1; 12], &[4], &[0; 4]], "unknown status");
    value(Kind::Cancel, &[&[0; 13]], "attempt 0");
    value(Kind::Cancel, &[&[1; 12], &[2]], "unknown extent");
    value(Kind::Slots, &[&[0; 2]], "no slots");
    let not_utf8 = "text that is not UTF-8";
    value(Kind::Hello, &[&[0; 4], &[0xff]], not_utf8);
    value(Kind::Welcome, &[&[1; 22], &[0xff]], not_utf8);
    value(Kind::Refuse, &[&[1], &[0xff]], not_utf8);
    value(Kind::Job, &[&[1; 5], &[0xff]], not_utf8);
}

#[test]
fn nothing_follows_an_error() {
    let mut decoder = Decoder::new(Side::Worker, 0);
    let error = drain(&mut decoder, b"GET / HTTP/1.1\r\n\r\n").unwrap_err();
    assert_eq!(error, FrameError::NotTeamster);
    let valid = stream(Side::Head, &[greeting(Side::Head), Frame::Ping]);
    for bytes in [&valid[..], &[]] {
        assert_eq!(drain(&mut decoder, bytes), Err(error.clone()));
    }
    assert_eq!(decoder.partial_bytes(), 0);
}

#[test]
fn a_body_may_be_as_long_as_agreed_and_no_longer() {
    for payload_bytes_max in [0, 1, PAYLOAD_BYTES_MAX, 1 << 20] {
        let limit_bytes = payload_bytes_max + FIXED_BYTES_MAX;
        let mut decoder = Decoder::new(Side::Worker, payload_bytes_max);
        drain(&mut decoder, &stream(Side::Head, &[greeting(Side::Head)])).unwrap();
        let mut body = vec![1; limit_bytes];
        let at_limit = frame_bytes(Kind::Task, &body);
        assert_eq!(drain(&mut decoder, &at_limit), Ok(1));
        body.push(1);
        let above = frame_bytes(Kind::Task, &body);
        let error = FrameError::TooLong {
            body_bytes: body.len() as u32,
            limit_bytes,
        };
        assert_eq!(drain(&mut decoder, &above[..HEADER_BYTES]), Err(error));
    }
}

#[test]
fn a_stranger_gets_256_bytes() {
    let reason = "r".repeat(GREETING_BYTES_MAX);
    let refusal = Refusal::Busy;
    for (reason, expected) in [
        (&reason[1..], Ok(1)),
        (
            &reason[..],
            Err(FrameError::TooLong {
                body_bytes: 257,
                limit_bytes: 256,
            }),
        ),
    ] {
        let mut decoder = Decoder::new(Side::Head, 1 << 20);
        let bytes = stream(Side::Worker, &[Frame::Refuse { refusal, reason }]);
        assert_eq!(drain(&mut decoder, &bytes), expected);
    }
    // The greeting opens the door: the frame behind it may be longer, even in the same piece.
    let long = Frame::Refuse {
        refusal,
        reason: &reason,
    };
    let bytes = stream(Side::Worker, &[greeting(Side::Worker), long]);
    assert_eq!(drain(&mut Decoder::new(Side::Head, 1 << 20), &bytes), Ok(2));
}

#[test]
fn a_claim_of_4_gib_costs_nothing() {
    let claims = [
        stream(Side::Head, &[]),
        stream(Side::Head, &[greeting(Side::Head)]),
    ];
    for before in claims {
        let mut decoder = Decoder::new(Side::Worker, 64 << 20);
        drain(&mut decoder, &before).unwrap();
        for byte in [0xff, 0xff, 0xff, 0xff, Kind::Hello as u8, 0, 0] {
            drain(&mut decoder, &[byte]).unwrap();
            assert!(decoder.partial_bytes() < HEADER_BYTES);
        }
        let error = drain(&mut decoder, &[0]).unwrap_err();
        assert!(matches!(
            error,
            FrameError::TooLong {
                body_bytes: u32::MAX,
                ..
            }
        ));
        assert_eq!(decoder.partial_bytes(), 0);
    }
}

#[test]
fn only_the_beginning_of_one_unit_is_kept() {
    let stream = stream_of_all_kinds(Side::Worker);
    let ends = ends(&stream);
    let mut decoder = Decoder::new(Side::Head, PAYLOAD_BYTES_MAX);
    for (at, byte) in stream.iter().enumerate() {
        drain(&mut decoder, &[*byte]).unwrap();
        let fed_bytes = at + 1;
        let start = ends.iter().rev().find(|&&end| end <= fed_bytes).unwrap();
        assert_eq!(
            decoder.partial_bytes(),
            fed_bytes - start,
            "after {fed_bytes} bytes"
        );
    }
}

#[test]
fn an_outbox_gives_every_byte_once_and_in_order() {
    for seed in 0..500 {
        let mut rng = SplitMix64::new(seed);
        let side = SIDES[rng.below(2) as usize];
        let mut outbox = Outbox::new(side);
        let mut expected = opening(side).to_vec();
        let mut written = Vec::new();
        for _ in 0..50 {
            if rng.chance(50) {
                let contents = Contents::random(&mut rng);
                let kind = Kind::ALL[rng.below(Kind::ALL.len() as u64) as usize];
                let frame = contents.frame(kind, &mut rng);
                assert_eq!(outbox.push(&frame), frame.encode(&mut expected));
            }
            let pending = outbox.pending();
            let count = rng.below(pending.len() as u64 + 1) as usize;
            written.extend_from_slice(&pending[..count]);
            outbox.consume(count);
            assert_eq!(outbox.is_empty(), written.len() == expected.len());
        }
        written.extend_from_slice(outbox.pending());
        assert_eq!(written, expected, "seed {seed}");
    }
}

#[test]
#[should_panic(expected = "more written than pending")]
fn an_outbox_panics_when_more_is_written_than_pending() {
    let mut outbox = Outbox::new(Side::Head);
    outbox.push(&Frame::Ping);
    outbox.consume(5);
    outbox.consume(2 * HEADER_BYTES - 5 + 1);
}

/// `bytes` are an error at their last byte and not before, also when they come one by one. It is
/// permanent if it is in the opening.
fn assert_smallest(ours: Side, bytes: &[u8], error: FrameError) {
    let but_one = &bytes[..bytes.len() - 1];
    assert_eq!(decode(ours, but_one, []).error, None, "{error}: too early");
    let whole = decode(ours, bytes, []);
    assert_eq!(whole.error, Some(error.clone()));
    assert_eq!(decode(ours, bytes, 0..bytes.len()), whole);
    assert_eq!(error.is_permanent(), bytes.len() == HEADER_BYTES, "{error}");
}

/// Feeds `bytes`; the number of frames in them, or the error.
fn drain(decoder: &mut Decoder, bytes: &[u8]) -> Result<usize, FrameError> {
    let mut frames = decoder.feed(bytes);
    let mut count = 0;
    while let Some(next) = frames.next() {
        next?;
        count += 1;
    }
    Ok(count)
}

/// What `side` sends if it sends `frames`.
fn stream(side: Side, frames: &[Frame<'_>]) -> Vec<u8> {
    let mut bytes = opening(side).to_vec();
    for frame in frames {
        frame.encode(&mut bytes);
    }
    bytes
}

fn header(body_bytes: u32, kind: u8) -> Vec<u8> {
    [&body_bytes.to_be_bytes()[..], &[kind, 0, 0, 0]].concat()
}

fn frame_bytes(kind: Kind, body: &[u8]) -> Vec<u8> {
    [&header(body.len() as u32, kind as u8), body].concat()
}

/// A short stream with every kind that `side` sends.
fn stream_of_all_kinds(side: Side) -> Vec<u8> {
    let contents = Contents {
        bytes: vec![1, 2, 3],
        text: "tü".to_owned(),
    };
    let mut rng = SplitMix64::new(1);
    let kinds = Kind::ALL.into_iter().filter(|kind| kind.is_sent_by(side));
    let frames: Vec<_> = kinds.map(|kind| contents.frame(kind, &mut rng)).collect();
    let stream = stream(side, &frames);
    let Trace { kinds, .. } = decode(side.peer(), &stream, []);
    assert_eq!(kinds.len(), frames.len());
    stream
}

/// A greeting and up to eight other frames of `side`.
fn random_stream(side: Side, rng: &mut SplitMix64) -> Vec<u8> {
    let mut bytes = stream(side, &[greeting(side)]);
    for _ in 0..rng.below(9) {
        let kind = Kind::ALL[rng.below(Kind::ALL.len() as u64) as usize];
        if kind.is_sent_by(side) {
            let contents = Contents::random(rng);
            contents.frame(kind, rng).encode(&mut bytes);
        }
    }
    bytes
}

/// Flips a bit, cuts a piece out, or inserts one.
fn mutate(stream: &mut Vec<u8>, rng: &mut SplitMix64) {
    let at = rng.below(stream.len() as u64) as usize;
    let end = (at + 1 + rng.below(16) as usize).min(stream.len());
    match rng.below(4) {
        0 => stream[at] ^= 1 << rng.below(8),
        1 => drop(stream.drain(at..end)),
        2 => stream.truncate(at + 1),
        _ => {
            let piece = stream[at..end].to_vec();
            stream.splice(at..at, piece);
        }
    }
    if stream.is_empty() {
        stream.push(0);
    }
}

/// Where the opening and each frame of a valid stream end.
fn ends(stream: &[u8]) -> Vec<usize> {
    let mut ends = vec![0, HEADER_BYTES];
    while let Some(length) = stream
        .get(ends[ends.len() - 1]..)
        .filter(|rest| !rest.is_empty())
    {
        let body_bytes = u32::from_be_bytes(length[..4].try_into().unwrap()) as usize;
        ends.push(ends[ends.len() - 1] + HEADER_BYTES + body_bytes);
    }
    ends
}

/// What random frames borrow from.
struct Contents {
    bytes: Vec<u8>,
    text: String,
}

impl Contents {
    fn random(rng: &mut SplitMix64) -> Contents {
        // As many short as long ones, and some of the longest.
        let longest = 1 << rng.below(11);
        let length = rng.below(longest + 1);
        Contents {
            bytes: (0..length).map(|_| rng.next() as u8).collect(),
            // At most 8 characters of at most 4 bytes: as long as a release may be.
            text: (0..rng.below(9))
                .map(|_| char::from_u32(rng.below(0x11_0000) as u32).unwrap_or('x'))
                .collect(),
        }
    }

    fn frame<'a>(&'a self, kind: Kind, rng: &mut SplitMix64) -> Frame<'a> {
        let attempt = Attempt {
            task: rng.next(),
            number: (rng.next() as u32).max(1),
        };
        match kind {
            Kind::Hello => Frame::Hello {
                payload_max: rng.next() as u32,
                release: &self.text,
            },
            Kind::Welcome => Frame::Welcome {
                slots: (rng.next() as u16).max(1),
                credit_tasks: (rng.next() as u32).max(1),
                credit_bytes: rng.next() as u32,
                payload_max: rng.next() as u32,
                incarnation: rng.next(),
                release: &self.text,
            },
            Kind::Refuse => Frame::Refuse {
                refusal: [Refusal::Job, Refusal::Busy, Refusal::Protocol][rng.below(3) as usize],
                reason: &self.text,
            },
            Kind::Job => Frame::Job {
                timeout_ms: rng.next() as u32,
                kernel: &self.text,
                setup: &self.bytes[..self.bytes.len().min(PAYLOAD_BYTES_MAX - 32)],
            },
            Kind::Task => Frame::Task(Task {
                attempt,
                input: Bytes::from(&self.bytes),
            }),
            Kind::Outcome => Frame::Outcome(Outcome {
                attempt,
                status: [
                    Status::Done,
                    Status::Failed,
                    Status::Returned,
                    Status::TimedOut,
                ][rng.below(4) as usize],
                run_us: rng.next() as u32,
                output: Bytes::from(&self.bytes),
            }),
            Kind::Ping => Frame::Ping,
            Kind::Pong => Frame::Pong,
            Kind::Drain => Frame::Drain,
            Kind::Cancel => Frame::Cancel {
                attempt,
                running: rng.chance(50),
            },
            Kind::Slots => Frame::Slots {
                slots: (rng.next() as u16).max(1),
            },
            Kind::Usage => Frame::Usage {
                cpu_ms: rng.next() as u32,
                waited_ms: rng.next() as u32,
            },
        }
    }
}
