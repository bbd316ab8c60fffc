//! Two channels and whoever is between them.
//!
//! What it is: every change of every byte, every cut, replay and reflection, without a socket. What
//! it is not: a test of the ciphers, which are the crate's.
//!
//! Invariant: what the decoder of one side gets is a beginning of what the other's outbox had.

use super::*;
use crate::frame::{Frame, Task, opening};
use crate::key::Key;
use crate::role::Attempt;

fn keys(seed: u8) -> Keys {
    Keys::from(Key::new([seed; 32]))
}

/// A side of a session, with what it was given to say and what it has heard.
struct End {
    channel: Channel,
    outbox: Outbox,
    heard: Vec<u8>,
    sent: usize,
    error: Option<FrameError>,
}

impl End {
    fn new(side: Side, keys: &Keys, secret: u8) -> End {
        End {
            channel: Channel::new(side, keys, [secret; 32]),
            outbox: Outbox::without_opening(),
            heard: Vec::new(),
            sent: 0,
            error: None,
        }
    }

    fn say(&mut self, payload: &[u8]) -> Vec<u8> {
        let attempt = Attempt { task: 1, number: 1 };
        let frame = Frame::Task(Task {
            attempt,
            input: payload.into(),
        });
        self.outbox.push(&frame);
        let mut said = Vec::new();
        frame.encode(&mut said);
        said
    }

    /// All it would write.
    fn write(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.channel.has_pending(&self.outbox) {
            // In two pieces, for the accounts.
            let pending = self.channel.pending(&mut self.outbox);
            let half = pending.len().div_ceil(2);
            bytes.extend_from_slice(&pending[..half]);
            self.sent += self.channel.consume(half);
        }
        assert!(self.channel.pending(&mut self.outbox).is_empty());
        bytes
    }

    fn read(&mut self, mut bytes: &[u8]) {
        let mut plain = [0; PLAIN_BYTES_MAX];
        while !bytes.is_empty() {
            match self.channel.open(&mut bytes, &mut plain) {
                Ok(count) => self.heard.extend_from_slice(&plain[..count]),
                Err(error) => {
                    let first = self.error.get_or_insert(error.clone());
                    assert_eq!(*first, error, "the first error stays");
                    return;
                }
            }
        }
    }
}

fn pair() -> (End, End) {
    let head = End::new(Side::Head, &keys(7), 1);
    (head, End::new(Side::Worker, &keys(7), 2))
}

/// Two ends that have shaken hands, and the bytes of each.
fn joined() -> (End, End, Vec<u8>, Vec<u8>) {
    let (mut head, mut worker) = pair();
    let from_head = head.write();
    worker.read(&from_head);
    let from_worker = worker.write();
    head.read(&from_worker);
    assert!(!head.channel.is_shaking_hands() && !worker.channel.is_shaking_hands());
    (head, worker, from_head, from_worker)
}

/// A whole session: what each side sends, and what of that was text.
fn session() -> ([Vec<u8>; 2], [Vec<u8>; 2]) {
    let (mut head, mut worker, mut from_head, mut from_worker) = joined();
    let mut said = [Vec::new(), Vec::new()];
    for payload in [&b"first"[..], b"second"] {
        said[0].extend(head.say(payload));
        let bytes = head.write();
        worker.read(&bytes);
        from_head.extend(bytes);
        said[1].extend(worker.say(payload));
        let bytes = worker.write();
        head.read(&bytes);
        from_worker.extend(bytes);
    }
    assert_eq!([&worker.heard, &head.heard], [&said[0], &said[1]]);
    ([from_head, from_worker], said)
}

#[test]
fn what_one_side_says_the_other_hears() {
    let (mut head, mut worker, ..) = joined();
    let mut said = Vec::new();
    for bytes in [0, 1, 1000, PLAIN_BYTES_MAX, 200_000, 300_000, 5] {
        said.extend(head.say(&vec![bytes as u8; bytes]));
        if bytes % 2 == 0 {
            let written = head.write();
            worker.read(&written);
        }
    }
    let written = head.write();
    worker.read(&written);
    assert!(worker.heard == said);
    assert_eq!(head.sent, said.len(), "it counts what the outbox had");
    assert_eq!(worker.error, None);
}

#[test]
fn a_batch_is_one_record() {
    let (mut head, ..) = joined();
    let said: usize = (0..500).map(|_| head.say(b"x").len()).sum();
    assert_eq!(head.write().len(), LENGTH_BYTES + said + TAG_BYTES);
}

#[test]
fn a_stream_may_be_cut_anywhere() {
    let ([from_head, _], [said, _]) = session();
    for step in 1..from_head.len() {
        let mut worker = End::new(Side::Worker, &keys(7), 2);
        for piece in from_head.chunks(step) {
            worker.read(piece);
        }
        assert_eq!((&worker.heard, &worker.error), (&said, &None), "{step}");
        assert_eq!(worker.channel.partial_bytes(), 0);
    }
}

/// The worker drawn again has the same secret: nothing but the change makes the difference.
#[test]
fn any_changed_byte_ends_the_session_before_it_is_heard() {
    let ([from_head, from_worker], [said_head, said_worker]) = session();
    let streams = [
        (Side::Worker, &from_head, said_head),
        (Side::Head, &from_worker, said_worker),
    ];
    for (side, stream, said) in streams {
        for at in 0..stream.len() {
            for change in [1, 0x80, 0xff] {
                let (mut head, worker) = pair();
                let mut end = worker;
                if side == Side::Head {
                    head.write();
                    end = head;
                }
                let mut changed = stream.clone();
                changed[at] ^= change;
                end.read(&changed);
                let what = format!("byte {at} to the {side}");
                assert!(said.starts_with(&end.heard), "{what}");
                assert!(end.heard.len() < said.len(), "{what}");
                // A length that grew waits for more.
                assert!(
                    end.error.is_some() || end.channel.partial_bytes() > 0,
                    "{what}"
                );
            }
        }
    }
}

#[test]
fn a_stream_that_ends_early_is_a_beginning() {
    let ([from_head, _], [said, _]) = session();
    for end in 0..from_head.len() {
        let mut worker = End::new(Side::Worker, &keys(7), 2);
        worker.read(&from_head[..end]);
        assert!(said.starts_with(&worker.heard) && worker.heard.len() < said.len());
        assert_eq!(worker.error, None);
    }
}

#[test]
fn a_recording_gets_an_answer_and_no_session() {
    let ([from_head, from_worker], _) = session();
    let mut worker = End::new(Side::Worker, &keys(7), 3);
    worker.read(&from_head);
    assert_eq!(worker.error, Some(FrameError::Forged));
    assert!(worker.heard.is_empty());
    let mut head = End::new(Side::Head, &keys(7), 4);
    head.write();
    head.read(&from_worker);
    assert_eq!(head.error, Some(FrameError::Forged));
    assert!(head.heard.is_empty());
}

#[test]
fn a_record_counts_once_and_in_its_turn() {
    let order = [(0, 0), (1, 0), (0, 2), (2, 1)];
    for (first, second) in order {
        let (mut head, mut worker, ..) = joined();
        let records: Vec<Vec<u8>> = (0..3)
            .map(|i| {
                head.say(&[i]);
                head.write()
            })
            .collect();
        worker.read(&records[first]);
        worker.read(&records[second]);
        assert_eq!(worker.error, Some(FrameError::Forged), "{first} {second}");
    }
}

#[test]
fn nobody_is_taken_for_his_own_peer() {
    let (mut head, ..) = pair();
    let opening_and_message = head.write();
    head.read(&opening_and_message);
    assert_eq!(head.error, Some(FrameError::SameSide));
    // Nor after an opening of the right side.
    let (mut head, ..) = pair();
    let mut reflected = keyed_opening(Side::Worker).to_vec();
    reflected.extend_from_slice(&head.write()[HEADER_BYTES..]);
    head.read(&reflected);
    assert_eq!(head.error, Some(FrameError::Forged));
    let (mut head, mut worker, ..) = joined();
    head.say(b"x");
    let record = head.write();
    head.read(&record);
    assert_eq!(head.error, Some(FrameError::Forged));
    worker.read(&record);
    assert_eq!(worker.error, None);
}

#[test]
fn a_wrong_key_and_random_bytes_are_answered_alike() {
    let mut stranger = End::new(Side::Head, &keys(8), 1);
    let wrong = stranger.write();
    let mut random = keyed_opening(Side::Head).to_vec();
    random.extend([0x5a; MESSAGE_BYTES]);
    for bytes in [wrong, random] {
        let mut worker = End::new(Side::Worker, &keys(7), 2);
        worker.say(b"never seen");
        worker.read(&bytes);
        assert_eq!(worker.error, Some(FrameError::WrongKey));
        assert_eq!(worker.write(), keyed_opening(Side::Worker));
    }
    let reason = stranger.channel.explain(CloseReason::Peer);
    assert_eq!(reason, CloseReason::Peer, "the worker said nothing yet");
    stranger.read(&keyed_opening(Side::Worker));
    let reason = stranger.channel.explain(CloseReason::Peer);
    assert_eq!(reason, CloseReason::Protocol(FrameError::WrongKey));
}

#[test]
fn either_of_two_keys_opens() {
    let both = Keys::parse(format!("{:064x}\n{:064x}", 1, 2).as_bytes()).unwrap();
    for (number, fits) in [(1, true), (2, true), (3, false)] {
        let one = Keys::parse(format!("{number:064x}").as_bytes()).unwrap();
        let mut head = End::new(Side::Head, &one, 1);
        let mut worker = End::new(Side::Worker, &both, 2);
        worker.read(&head.write());
        assert_eq!(
            !worker.channel.is_shaking_hands() && worker.error.is_none(),
            fits
        );
        if fits {
            head.read(&worker.write());
            let said = head.say(b"x");
            worker.read(&head.write());
            assert_eq!(worker.heard, said);
        }
    }
}

#[test]
fn a_key_on_one_side_only_is_told_apart() {
    for (side, error) in [
        (Side::Head, FrameError::Unkeyed),
        (Side::Worker, FrameError::Unkeyed),
    ] {
        let mut end = End::new(side, &keys(7), 1);
        end.read(&opening(side.peer()));
        assert_eq!(end.error, Some(error));
    }
}

#[test]
fn who_has_proven_nothing_gets_no_further_than_256_bytes() {
    let (mut head, mut worker, ..) = joined();
    head.say(&[0; GREETING_BYTES_MAX]);
    let record = head.write();
    worker.read(&record[..LENGTH_BYTES]);
    assert_eq!(worker.error, Some(FrameError::Forged), "at its length");
    // One that is within it proves the head, and then records may be long.
    let (mut head, mut worker, ..) = joined();
    head.say(b"x");
    head.write().chunks(1).for_each(|byte| worker.read(byte));
    head.say(&[0; GREETING_BYTES_MAX]);
    worker.read(&head.write());
    assert_eq!(worker.error, None);
}

#[test]
fn nothing_is_claimed_by_a_length() {
    let (_, mut worker, ..) = joined();
    worker.read(&[0, 198]);
    assert!(worker.channel.partial.capacity() <= 8);
    for length in [0, TAG_BYTES as u8] {
        let (mut head, ..) = joined();
        head.read(&[0, length]);
        assert_eq!(head.error, Some(FrameError::Forged));
    }
}
