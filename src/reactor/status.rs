//! Those who look at the status page.
//!
//! What it is: their listener and their connections, each of which asks once, is answered once and
//! leaves. What it is not: the wording of a response, or part of the table of connections: visitors
//! speak no frames, and no role hears of them.
//!
//! Invariants: a visitor is gone `STATUS_TIMEOUT` after it came, whatever it does; there are at most
//! `STATUS_VISITORS_MAX`, of whom the oldest makes room; what one does in a turn is bounded. So
//! neither scanners nor slow readers cost the run anything.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};

use mio::Interest;
use mio::Token;
use mio::net::{TcpListener, TcpStream};
use slab::Slab;

use super::{Deadline, Reactor};
use crate::gauge::Gauge;
use crate::limits::{
    ACCEPT_PAUSE, ACCEPTS_PER_TURN, STATUS_REQUEST_BYTES_MAX, STATUS_TIMEOUT, STATUS_VISITORS_MAX,
};
use crate::overview::Overview;
use crate::role::Role;
use crate::status;
use crate::time::Time;

/// The token of the first visitor's slot, far above those of connections; the listener's is below it.
pub(super) const VISITORS: usize = usize::MAX / 2;
const LISTENER: Token = Token(VISITORS - 1);
/// Pieces that one visitor may send or be sent in a turn.
const PIECES_MAX: usize = 64;

/// The status page's side of the reactor.
pub(super) struct Status {
    listener: TcpListener,
    /// Somebody may wait to be accepted.
    is_visited: bool,
    visitors: Slab<Visitor>,
    /// Slots whose sockets may have become ready.
    ready: Vec<usize>,
    /// How many have come.
    count: u64,
}

struct Visitor {
    stream: TcpStream,
    /// How many came before.
    number: u64,
    stage: Stage,
}

enum Stage {
    /// So much of its request is here.
    Asks(Vec<u8>),
    /// So many bytes of the response have gone.
    Reads(Vec<u8>, usize),
    /// It has been told that there is no more. What it still sends is dropped, because the kernel
    /// answers unread bytes with a reset, which destroys what the visitor has not read yet.
    Leaves,
}

impl Status {
    /// The listener, or the socket of a visitor, may be ready.
    pub fn note(&mut self, token: Token) {
        match token.0.checked_sub(VISITORS) {
            Some(slot) => self.ready.push(slot),
            None => self.is_visited = true,
        }
    }
}

impl Reactor {
    /// Serves the status page on `address`; returns the address with its real port.
    ///
    /// # Errors
    /// If it cannot be bound.
    pub fn serve_status(&mut self, address: SocketAddr) -> io::Result<SocketAddr> {
        let mut listener = TcpListener::bind(address)?;
        let registry = self.poll.registry();
        registry.register(&mut listener, LISTENER, Interest::READABLE)?;
        let address = listener.local_addr()?;
        self.status = Some(Status {
            listener,
            is_visited: true,
            visitors: Slab::new(),
            ready: Vec::new(),
            count: 0,
        });
        Ok(address)
    }

    /// Lets visitors in and serves those that are ready.
    pub(super) fn receive_visitors(&mut self, role: &impl Role, now: Time) {
        let Some(status) = &mut self.status else {
            return;
        };
        if status.is_visited {
            self.admit_visitors(now);
        }
        let status = self.status.as_mut().expect("it is there");
        let gauge = self.gauge.as_ref();
        let look = || Overview {
            head_cpu: gauge.and_then(Gauge::cpu),
            ..role.overview(now).expect("a role that leads is watched")
        };
        for slot in std::mem::take(&mut status.ready) {
            if let Some(visitor) = status.visitors.get_mut(slot)
                && !visitor.serve(&mut self.read_buffer, look)
            {
                status.visitors.remove(slot);
                self.timers.cancel(Deadline::Visitor(slot));
            }
        }
    }

    /// Somebody may have waited for descriptors.
    pub(super) fn look_for_visitors(&mut self) {
        if let Some(status) = &mut self.status {
            status.is_visited = true;
        }
    }

    /// A visitor has had its time.
    pub(super) fn dismiss_visitor(&mut self, slot: usize) {
        let status = self.status.as_mut().expect("it had a visitor");
        status.visitors.remove(slot);
    }

    fn admit_visitors(&mut self, now: Time) {
        let status = self.status.as_mut().expect("it is there");
        for _ in 0..ACCEPTS_PER_TURN {
            match status.listener.accept() {
                Ok((mut stream, _)) => {
                    if status.visitors.len() == STATUS_VISITORS_MAX {
                        let visitors = status.visitors.iter();
                        let oldest = visitors.min_by_key(|(_, visitor)| visitor.number);
                        let (slot, _) = oldest.expect("there are some");
                        status.visitors.remove(slot);
                        self.timers.cancel(Deadline::Visitor(slot));
                    }
                    let slot = status.visitors.vacant_key();
                    let token = Token(VISITORS + slot);
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    let registry = self.poll.registry();
                    if registry.register(&mut stream, token, interest).is_err() {
                        continue;
                    }
                    status.visitors.insert(Visitor {
                        stream,
                        number: status.count,
                        stage: Stage::Asks(Vec::new()),
                    });
                    status.count += 1;
                    let until = now + STATUS_TIMEOUT;
                    self.timers.set(Deadline::Visitor(slot), until);
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    kind => {
                        status.is_visited = false;
                        if kind != ErrorKind::WouldBlock {
                            // Out of descriptors or memory, and no new edge will tell of it.
                            self.timers.set(Deadline::Accept, now + ACCEPT_PAUSE);
                        }
                        return;
                    }
                },
            }
        }
        self.is_busy = true;
    }
}

impl Visitor {
    /// Goes on as far as its socket does; false once there is nothing more to do for it.
    fn serve<'a>(&mut self, buffer: &mut [u8], look: impl Fn() -> Overview<'a>) -> bool {
        for _ in 0..PIECES_MAX {
            let moved = match &mut self.stage {
                Stage::Asks(request) => {
                    let room = STATUS_REQUEST_BYTES_MAX - request.len();
                    let read = self.stream.read(&mut buffer[..room]);
                    if let Ok(count) = read {
                        request.extend_from_slice(&buffer[..count]);
                        if let Some(response) = status::answer(request, &look) {
                            self.stage = Stage::Reads(response, 0);
                        }
                    }
                    read
                }
                Stage::Reads(response, sent) => {
                    let written = self.stream.write(&response[*sent..]);
                    if let Ok(count) = written {
                        *sent += count;
                        if *sent == response.len() {
                            // If it fails the connection is broken, which the next read will tell.
                            let _ = self.stream.shutdown(Shutdown::Write);
                            self.stage = Stage::Leaves;
                        }
                    }
                    written
                }
                Stage::Leaves => self.stream.read(buffer),
            };
            match moved {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
        // Who sends so much without pause wants nothing.
        false
    }
}
