//! The driver's promises and its end.
//!
//! What it is: the reactor with roles that do nothing but what a test needs. What it is not: a test of
//! the roles.
//!
//! Invariant: a role here sees what the reactor tells it, unchanged.

use super::*;
use crate::buffer::Buffer;
use crate::frame::{Frame, HEADER_BYTES, Outcome, Status, Task, opening};
use crate::limits::{READ_BUDGET_BYTES, READ_BUFFER_BYTES, SOCKETS_MAX};
use crate::payload::Bytes;
use crate::role::{Attempt, Sink};
use std::io::Write;
use std::net::SocketAddr;
use std::thread;

/// Closes every connection at once unless it is to listen, and counts.
#[derive(Default)]
struct Closer {
    listens: bool,
    opened: usize,
    heard: usize,
    closed: usize,
    /// Slots of those that have greeted.
    greeted: Vec<u32>,
    /// Ends the run with its first connection.
    ends: bool,
}

impl Role for Closer {
    fn handle(&mut self, event: Event<'_>, _: Time, out: &mut impl Sink) {
        match event {
            Event::Opened { conn, .. } => {
                self.opened += 1;
                if !self.listens {
                    out.close(conn);
                }
                if self.ends {
                    out.exit(Exit::Done);
                }
            }
            Event::Heard { .. } => self.heard += 1,
            Event::Frame { conn, .. } => self.greeted.push(conn.slot),
            Event::Closed { .. } => self.closed += 1,
            _ => {}
        }
    }

    fn flush(&mut self, _: Time, _: &mut impl Sink) {}

    fn next_deadline(&self) -> Option<Time> {
        None
    }

    fn handle_timeout(&mut self, _: Time, _: &mut impl Sink) {}
}

fn listening() -> (Reactor, SocketAddr) {
    let mut reactor = Reactor::new(Side::Worker, 0).unwrap();
    let address = reactor.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    (reactor, address)
}

#[test]
fn a_peer_that_outlasts_its_close_is_closed_once() {
    let (mut reactor, address) = listening();
    let _peer = std::net::TcpStream::connect(address).unwrap();
    let mut closer = Closer::default();
    while closer.closed == 0 {
        reactor.turn(&mut closer).unwrap();
    }
    let later = reactor.now() + LINGER_TIMEOUT;
    reactor.time_out(&mut closer, later);
    reactor.reap(&mut closer, later);
    assert!(reactor.conns.is_empty(), "it had its time");
    assert_eq!((closer.opened, closer.closed), (1, 1));
}

#[test]
fn strangers_do_not_keep_it_from_ending() {
    let (mut reactor, address) = listening();
    let strangers = thread::spawn(move || {
        let mut strangers = Vec::new();
        for _ in 0..30 {
            strangers.extend(std::net::TcpStream::connect(address));
            thread::sleep(Duration::from_millis(100));
        }
    });
    let mut closer = Closer {
        ends: true,
        ..Closer::default()
    };
    reactor.run(&mut closer).unwrap();
    assert_eq!(closer.opened, 1, "nobody comes in after the end");
    strangers.join().unwrap();
}

#[test]
fn an_end_is_noticed_together_with_the_last_bytes_and_after_them() {
    for is_together in [true, false] {
        let (mut reactor, address) = listening();
        let mut peer = std::net::TcpStream::connect(address).unwrap();
        peer.write_all(&opening(Side::Head)).unwrap();
        let mut peer = Some(peer).filter(|_| !is_together);
        let mut closer = Closer {
            listens: true,
            ..Closer::default()
        };
        while closer.closed == 0 {
            reactor.turn(&mut closer).unwrap();
            if closer.heard > 0 {
                peer = None;
            }
        }
        assert_eq!((closer.opened, closer.heard, closer.closed), (1, 1, 1));
        drop(peer);
    }
}

#[test]
fn who_has_not_greeted_makes_room_and_who_has_stays() {
    let (mut reactor, address) = listening();
    let connect = || std::net::TcpStream::connect(address).unwrap();
    let mut closer = Closer {
        listens: true,
        ..Closer::default()
    };
    let mut greeting = opening(Side::Head).to_vec();
    let (payload_max, release) = (1, "test");
    Frame::Hello {
        payload_max,
        release,
    }
    .encode(&mut greeting);
    let mut head = connect();
    head.write_all(&greeting).unwrap();
    let mut crowd = Vec::new();
    for opened in 1..=SOCKETS_MAX + 20 {
        while closer.opened < opened || closer.greeted.is_empty() {
            reactor.turn(&mut closer).unwrap();
        }
        crowd.push(connect());
    }
    while closer.opened < SOCKETS_MAX + 21 {
        reactor.turn(&mut closer).unwrap();
    }
    assert_eq!(reactor.conns.len(), SOCKETS_MAX);
    assert_eq!(closer.closed, 21);
    let (made_room, stayed) = crowd.split_at(21);
    // An end may still be on its way when the reactor is done with it.
    for (i, mut stream) in made_room.iter().enumerate() {
        stream.set_read_timeout(Some(LINGER_TIMEOUT)).unwrap();
        let end = stream.read_to_end(&mut Vec::new());
        let is_waiting = |error: io::Error| error.kind() == ErrorKind::WouldBlock;
        assert!(!end.is_err_and(is_waiting), "connection {i} is open");
    }
    for (i, mut stream) in stayed.iter().enumerate() {
        stream.set_nonblocking(true).unwrap();
        let end = stream.read_to_end(&mut Vec::new());
        assert_eq!(end.unwrap_err().kind(), ErrorKind::WouldBlock, "{i}");
    }
    assert!(reactor.conns[closer.greeted[0] as usize].is_open());
}

#[test]
fn a_peer_that_takes_nothing_is_given_up_and_one_that_takes_anything_is_not() {
    let (mut reactor, address) = listening();
    let mut peer = std::net::TcpStream::connect(address).unwrap();
    let mut closer = Closer {
        listens: true,
        ..Closer::default()
    };
    while closer.opened == 0 {
        reactor.turn(&mut closer).unwrap();
    }
    let (slot, _) = reactor.conns.iter().next().unwrap();
    let conn = reactor.conns[slot].id(slot);
    // More than sockets hold, twice.
    let output = &vec![0; 64 << 20][..];
    let frame = Frame::Outcome(Outcome {
        attempt: Attempt { task: 0, number: 1 },
        status: Status::Done,
        run_us: 0,
        output: output.into(),
    });
    reactor.outlet().send(conn, frame);
    reactor.is_busy = true;
    let send_until_stuck = |reactor: &mut Reactor, closer: &mut Closer| {
        loop {
            reactor.turn(closer).unwrap();
            if reactor.conns[slot].is_stuck {
                return reactor.now();
            }
        }
    };
    let first = send_until_stuck(&mut reactor, &mut closer);
    reactor.time_out(&mut closer, first + STALL_TIMEOUT / 2);
    // It takes what is there so far.
    peer.set_nonblocking(true).unwrap();
    while peer.read(&mut [0; 1 << 16]).is_ok() {}
    let second = send_until_stuck(&mut reactor, &mut closer);
    assert!(second > first);
    reactor.time_out(&mut closer, first + STALL_TIMEOUT);
    reactor.reap(&mut closer, second);
    assert_eq!(closer.closed, 0);
    reactor.time_out(&mut closer, second + STALL_TIMEOUT);
    reactor.reap(&mut closer, second);
    assert_eq!(closer.closed, 1);
}

#[test]
#[cfg(feature = "noise")]
fn what_is_said_before_the_handshake_is_sealed_after_it_also_if_it_is_the_last() {
    use crate::frame::{Outbox, Refusal};
    use crate::key::Key;

    /// Turns everyone away at once.
    struct Refuser {
        closed: usize,
    }

    const REFUSE: Frame<'static> = Frame::Refuse {
        refusal: Refusal::Busy,
        reason: "full",
    };

    impl Role for Refuser {
        fn handle(&mut self, event: Event<'_>, _: Time, out: &mut impl Sink) {
            match event {
                Event::Opened { conn, .. } => {
                    out.send(conn, REFUSE);
                    out.close(conn);
                }
                Event::Closed { .. } => self.closed += 1,
                _ => {}
            }
        }

        fn flush(&mut self, _: Time, _: &mut impl Sink) {}

        fn next_deadline(&self) -> Option<Time> {
            None
        }

        fn handle_timeout(&mut self, _: Time, _: &mut impl Sink) {}
    }

    let keys = Keys::from(Key::new([7; 32]));
    let (mut reactor, address) = listening();
    reactor.set_keys(keys.clone()).unwrap();
    let mut peer = std::net::TcpStream::connect(address).unwrap();
    let mut channel = Channel::new(Side::Head, &keys, [1; 32]);
    let mut outbox = Outbox::without_opening();
    let mut refuser = Refuser { closed: 0 };
    while refuser.closed == 0 {
        reactor.turn(&mut refuser).unwrap();
    }
    peer.write_all(channel.pending(&mut outbox)).unwrap();
    let (slot, _) = reactor.conns.iter().next().unwrap();
    while !reactor.conns[slot].is_done() {
        reactor.turn(&mut refuser).unwrap();
    }
    let (mut sent, mut plain) = (Vec::new(), vec![0; PLAIN_BYTES_MAX]);
    peer.read_to_end(&mut sent).unwrap();
    let said = channel.open(&mut &sent[..], &mut plain).unwrap();
    let mut refuse = Vec::new();
    REFUSE.encode(&mut refuse);
    assert_eq!(plain[..said], refuse);
}

/// Counts the frames of each turn.
#[derive(Default)]
struct Turns {
    frames: usize,
    most: usize,
    closed: bool,
}

impl Role for Turns {
    fn handle(&mut self, event: Event<'_>, _: Time, _: &mut impl Sink) {
        match event {
            Event::Frame { .. } => self.frames += 1,
            Event::Closed { .. } => self.closed = true,
            _ => {}
        }
    }

    fn flush(&mut self, _: Time, _: &mut impl Sink) {
        self.most = self.most.max(std::mem::take(&mut self.frames));
    }

    fn next_deadline(&self) -> Option<Time> {
        None
    }

    fn handle_timeout(&mut self, _: Time, _: &mut impl Sink) {}
}

#[test]
fn a_turn_takes_a_buffer_of_small_frames_and_its_budget_of_large_ones() {
    let large = Buffer::LARGE_BYTES;
    let task_bytes = HEADER_BYTES + 12;
    for (input_bytes, most) in [
        (0, READ_BUFFER_BYTES / task_bytes + 1),
        (2 * large, READ_BUDGET_BYTES / (2 * large) + 2),
    ] {
        let mut reactor = Reactor::new(Side::Worker, 2 * large).unwrap();
        let address = reactor.listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let peer = thread::spawn(move || {
            let mut bytes = opening(Side::Head).to_vec();
            let release = "";
            Frame::Hello {
                payload_max: 0,
                release,
            }
            .encode(&mut bytes);
            let input = vec![0; input_bytes];
            while bytes.len() < 2 * READ_BUDGET_BYTES {
                let input = Bytes::from(&input);
                let attempt = Attempt { task: 0, number: 1 };
                Frame::Task(Task { attempt, input }).encode(&mut bytes);
            }
            let mut peer = std::net::TcpStream::connect(address).unwrap();
            peer.write_all(&bytes).unwrap();
        });
        let mut turns = Turns::default();
        while !turns.closed {
            reactor.turn(&mut turns).unwrap();
        }
        peer.join().unwrap();
        assert!((1..=most).contains(&turns.most), "{}", turns.most);
    }
}
