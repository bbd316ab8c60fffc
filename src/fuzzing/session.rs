//! A keyed channel against any bytes, in each of its states.
//!
//! What it is: a stream that is genuine up to some point and anything from there on, or a genuine one
//! with changes, cut anywhere. What it is not: an attack on the ciphers.
//!
//! Invariant: what the channel lets through is a beginning of what the peer has said.

use super::greeting;
use crate::channel::{self, Channel, LENGTH_BYTES, MESSAGE_BYTES, PLAIN_BYTES_MAX, TAG_BYTES};
use crate::frame::{Frame, FrameError, HEADER_BYTES, Outbox, Side, Task};
use crate::key::{Key, Keys};
use crate::limits::GREETING_BYTES_MAX;
use crate::rng::SplitMix64;
use crate::role::Attempt;

/// Lengths of the inputs that the peer sends, each in a record behind that of its greeting.
const INPUTS_BYTES: [usize; 4] = [0, 1, 300, 2000];

/// Who receives (even: a head) and how the stream comes about, a seed for the cutting, and bytes for
/// the stream. Returns what ended the session.
pub fn session(bytes: &[u8]) -> Option<FrameError> {
    let [how, seed, rest @ ..] = bytes else {
        return None;
    };
    if !channel::IS_AVAILABLE {
        return None;
    }
    let side = match how % 2 {
        0 => Side::Head,
        _ => Side::Worker,
    };
    let (mut stream, said) = genuine(side);
    // Any bytes from the beginning, or behind the opening, the handshake, all records.
    match how >> 1 & 7 {
        0 => stream.clear(),
        1 => stream.truncate(HEADER_BYTES),
        2 => stream.truncate(HEADER_BYTES + MESSAGE_BYTES),
        3 => {}
        _ => {
            change(&mut stream, rest);
            return feed(side, &stream, &said, (*seed).into());
        }
    }
    stream.extend_from_slice(rest);
    feed(side, &stream, &said, (*seed).into())
}

/// The same for all of a side: a stream that suits one suits the others.
fn channel(side: Side) -> Channel {
    let secret = match side {
        Side::Head => [1; 32],
        Side::Worker => [2; 32],
    };
    Channel::new(side, &Keys::from(Key::new([7; 32])), secret)
}

/// What an honest peer sends to `side`, and what of that is text.
fn genuine(side: Side) -> (Vec<u8>, Vec<u8>) {
    let (mut own, mut peer) = (channel(side), channel(side.peer()));
    let (mut stream, mut said) = (Vec::new(), Vec::new());
    let mut outbox = Outbox::without_opening();
    for _ in 0..2 {
        pass(&mut own, &mut peer, &mut outbox);
        stream.extend(pass(&mut peer, &mut own, &mut outbox));
    }
    let attempt = Attempt { task: 1, number: 1 };
    let inputs = INPUTS_BYTES.map(|bytes| vec![0xa5; bytes]);
    let tasks = inputs.iter().map(|input| {
        Frame::Task(Task {
            attempt,
            input: input.into(),
        })
    });
    for frame in [greeting(side.peer())].into_iter().chain(tasks) {
        outbox.push(&frame);
        frame.encode(&mut said);
        stream.extend(pass(&mut peer, &mut own, &mut outbox));
    }
    (stream, said)
}

/// Has all that one honest side can send reach the other; returns it.
fn pass(from: &mut Channel, to: &mut Channel, outbox: &mut Outbox) -> Vec<u8> {
    let (mut sent, mut plain) = (Vec::new(), [0; PLAIN_BYTES_MAX]);
    while from.has_pending(outbox) {
        let pending = from.pending(outbox);
        sent.extend_from_slice(pending);
        let count = pending.len();
        from.consume(count);
    }
    let mut rest = &sent[..];
    while !rest.is_empty() {
        to.open(&mut rest, &mut plain).expect("both are honest");
    }
    sent
}

/// Changes, drops, doubles and inserts, as four bytes each say: what, where (two), and with what.
fn change(stream: &mut Vec<u8>, changes: &[u8]) {
    for change in changes.chunks_exact(4) {
        if stream.is_empty() {
            return;
        }
        let at = usize::from(u16::from_be_bytes([change[1], change[2]])) % stream.len();
        match change[0] % 5 {
            0 => stream[at] ^= change[3],
            1 => stream.truncate(at),
            2 => stream.insert(at, change[3]),
            3 => drop(stream.remove(at)),
            _ => {
                let end = stream.len().min(at + 8 * usize::from(change[3]));
                stream.extend_from_within(at..end);
            }
        }
    }
}

/// Feeds a stream, cut anywhere, and checks at each step what always holds.
fn feed(side: Side, stream: &[u8], said: &[u8], seed: u64) -> Option<FrameError> {
    let mut channel = channel(side);
    let (mut heard, mut plain) = (Vec::new(), [0; PLAIN_BYTES_MAX]);
    let mut rng = SplitMix64::new(seed);
    let mut rest = stream;
    while !rest.is_empty() {
        let longest = 1 << rng.below(12);
        let (mut piece, after) = rest.split_at(rest.len().min(1 + rng.below(longest) as usize));
        rest = after;
        while !piece.is_empty() {
            match channel.open(&mut piece, &mut plain) {
                Ok(count) => heard.extend_from_slice(&plain[..count]),
                Err(error) => {
                    assert_eq!(channel.open(&mut rest, &mut plain), Err(error.clone()));
                    assert_eq!(channel.partial_bytes(), 0, "nothing is kept");
                    return Some(error);
                }
            }
        }
        assert!(said.starts_with(&heard), "the peer has said nothing else");
        let is_proven = !heard.is_empty() || side == Side::Head;
        let longest = match is_proven {
            true => LENGTH_BYTES + PLAIN_BYTES_MAX + TAG_BYTES,
            false => GREETING_BYTES_MAX,
        };
        assert!(channel.partial_bytes() < longest, "within its bound");
    }
    None
}
