//! What encryption costs by itself: sealing and opening in one process, without sockets or tasks.
//!
//! What it is: the two channels of a session side by side. What it is not: other ciphers than those of
//! the session.
//!
//! Invariant: only sealing and opening are timed.

use std::time::{Duration, Instant};

use teamster::channel::{Channel, PLAIN_BYTES_MAX};
use teamster::frame::{Frame, Outbox, Side, Task};
use teamster::key::{Key, Keys};
use teamster::role::Attempt;

use crate::load::ECHO_BYTES;

/// What both sides of a keyed measurement have.
pub fn keys() -> Keys {
    Keys::from(Key::new([7; 32]))
}

/// Seals and opens `count` payloads as often as an echo does: out and back.
pub fn seconds(count: u64) -> f64 {
    let channel = |side| Channel::new(side, &keys(), [1; 32]);
    let (mut head, mut worker) = (channel(Side::Head), channel(Side::Worker));
    let mut outbox = Outbox::without_opening();
    for _ in 0..2 {
        pass(&mut head, &mut worker, &mut outbox);
        pass(&mut worker, &mut head, &mut outbox);
    }
    // The first record of a head must be short.
    outbox.push(&Frame::Ping);
    pass(&mut head, &mut worker, &mut outbox);
    let input = &[7; ECHO_BYTES][..];
    let attempt = Attempt { task: 0, number: 1 };
    let mut spent = Duration::ZERO;
    for _ in 0..count {
        outbox.push(&Frame::Task(Task {
            attempt,
            input: input.into(),
        }));
        spent += pass(&mut head, &mut worker, &mut outbox);
        outbox.push(&Frame::Task(Task {
            attempt,
            input: input.into(),
        }));
        spent += pass(&mut worker, &mut head, &mut outbox);
    }
    spent.as_secs_f64()
}

/// Has one side's bytes reach the other; returns how long that takes.
fn pass(from: &mut Channel, to: &mut Channel, outbox: &mut Outbox) -> Duration {
    let mut plain = [0; PLAIN_BYTES_MAX];
    let start = Instant::now();
    while from.has_pending(outbox) {
        let pending = from.pending(outbox);
        let (mut rest, count) = (pending, pending.len());
        while !rest.is_empty() {
            to.open(&mut rest, &mut plain).expect("it was sealed so");
        }
        from.consume(count);
    }
    start.elapsed()
}
