//! Connections that this side opens.
//!
//! What it is: the part of the reactor that dials: look-up, non-blocking connect in mio's six steps,
//! one address of a host after the other. What it is not: a decision to dial again; that is the
//! role's.
//!
//! Invariant: every dial ends in exactly one `Opened` or `DialFailed`, by its deadline at the latest.

use std::io::ErrorKind;
use std::net::SocketAddr;

use mio::net::TcpStream;

use super::connection::{Stage, describe};
use super::{Deadline, Reactor};
use crate::limits::DIAL_TIMEOUT;
use crate::role::{Event, Role};
use crate::time::Time;

impl Reactor {
    /// Begins the dials of this turn.
    pub(super) fn dial(&mut self, role: &mut impl Role, now: Time) {
        for dial in std::mem::take(&mut self.notes.dials) {
            let lookups = self
                .lookups
                .as_mut()
                .expect("a role that dials has targets");
            match lookups.begin(dial) {
                Some(address) => {
                    self.connect(dial, vec![address], now + DIAL_TIMEOUT, role, now);
                }
                None => self.timers.set(Deadline::Lookup(dial), now + DIAL_TIMEOUT),
            }
        }
    }

    /// Begins to connect to the first of `addresses` that the system does not refuse at once. It
    /// gets its share of the time: one that never answers must not hide the others.
    fn connect(
        &mut self,
        dial: u32,
        mut addresses: Vec<SocketAddr>,
        until: Time,
        role: &mut impl Role,
        now: Time,
    ) {
        let mut reason = String::new();
        while !addresses.is_empty() {
            let address = addresses.remove(0);
            let share = until.since(now) / (addresses.len() as u32 + 1);
            let stage = Stage::Connecting {
                dial,
                others: addresses.clone(),
                until,
            };
            let begun = TcpStream::connect(address).and_then(|stream| self.register(stream, stage));
            match begun {
                Ok(slot) => {
                    let conn = self.conns[slot].id(slot);
                    return self.timers.set(Deadline::Conn(conn), now + share);
                }
                Err(error) => reason = describe(&error),
            }
        }
        self.dial_failed(dial, &reason, role, now);
    }

    /// An address did not answer or refused: the next one, or the end of the dial.
    pub(super) fn connect_failed(
        &mut self,
        slot: usize,
        reason: &str,
        role: &mut impl Role,
        now: Time,
    ) {
        let Stage::Connecting {
            dial,
            others,
            until,
        } = &mut self.conns[slot].stage
        else {
            unreachable!("the caller matched it");
        };
        let (dial, others, until) = (*dial, std::mem::take(others), *until);
        self.doom(slot, None);
        if others.is_empty() {
            self.dial_failed(dial, reason, role, now);
        } else {
            self.connect(dial, others, until, role, now);
        }
    }

    pub(super) fn dial_failed(&mut self, dial: u32, reason: &str, role: &mut impl Role, now: Time) {
        role.handle(Event::DialFailed { dial, reason }, now, &mut self.outlet());
        self.is_busy = true;
    }

    /// Looks at the connects that became writable: mio's six steps.
    pub(super) fn finish_dials(&mut self, role: &mut impl Role, now: Time) {
        for i in 0..self.notes.write_list.len() {
            let slot = self.notes.write_list[i];
            let connection = &mut self.conns[slot];
            let conn = connection.id(slot);
            let Stage::Connecting { dial, .. } = connection.stage else {
                continue;
            };
            let stream = &connection.stream;
            let ready = match (stream.take_error(), stream.peer_addr()) {
                (Ok(Some(error)) | Err(error), _) => Err(error),
                // A dial to a free port of this machine may get that very port for its own end.
                (_, Ok(peer)) if stream.local_addr().is_ok_and(|own| own == peer) => {
                    Err(ErrorKind::ConnectionRefused.into())
                }
                (_, Ok(peer)) => stream.set_nodelay(true).map(|()| peer),
                (_, Err(error)) if error.kind() == ErrorKind::NotConnected => continue,
                (_, Err(error)) => Err(error),
            };
            match ready {
                Ok(peer) => {
                    connection.stage = Stage::Open;
                    self.timers.cancel(Deadline::Conn(conn));
                    self.opened(conn, Some(dial), &peer.to_string(), role, now);
                }
                Err(error) => self.connect_failed(slot, &describe(&error), role, now),
            }
        }
    }

    pub(super) fn resolved(
        &mut self,
        dial: u32,
        result: Result<Vec<SocketAddr>, String>,
        role: &mut impl Role,
        now: Time,
    ) {
        if let Some(lookups) = &mut self.lookups {
            lookups.ended(dial);
        }
        if !self.timers.cancel(Deadline::Lookup(dial)) {
            return; // The dial has failed meanwhile.
        }
        match result {
            Ok(addresses) => {
                self.connect(dial, addresses, now + DIAL_TIMEOUT, role, now);
            }
            Err(reason) => self.dial_failed(dial, &reason, role, now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Target;
    use super::*;
    use crate::frame::Side;
    use crate::role::Sink;
    use std::net::TcpListener;

    /// Takes note of how its dials end.
    #[derive(Default)]
    struct Dialer {
        peers: Vec<String>,
        failures: Vec<String>,
    }

    impl Role for Dialer {
        fn handle(&mut self, event: Event<'_>, _: Time, _: &mut impl Sink) {
            match event {
                Event::Opened { peer, .. } => self.peers.push(peer.to_owned()),
                Event::DialFailed { reason, .. } => self.failures.push(reason.to_owned()),
                _ => {}
            }
        }

        fn flush(&mut self, _: Time, _: &mut impl Sink) {}

        fn next_deadline(&self) -> Option<Time> {
            None
        }

        fn handle_timeout(&mut self, _: Time, _: &mut impl Sink) {}
    }

    /// Dials a host that has these addresses.
    fn dial(addresses: Vec<SocketAddr>) -> Dialer {
        let mut reactor = Reactor::new(Side::Head, 0).unwrap();
        let (host, port) = ("localhost".into(), 1);
        reactor.set_targets(vec![Target { host, port }]);
        let mut dialer = Dialer::default();
        let until = Time::ZERO + DIAL_TIMEOUT;
        reactor.connect(0, addresses, until, &mut dialer, Time::ZERO);
        while dialer.peers.is_empty() && dialer.failures.is_empty() {
            reactor.turn(&mut dialer).unwrap();
        }
        dialer
    }

    /// As where a name has an IPv6 address and a firewall that swallows what goes there.
    #[test]
    fn an_address_that_never_answers_leaves_time_for_the_next() {
        let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let silent = silent.unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        silent.bind(&any.into()).unwrap();
        silent.listen(0).unwrap();
        let mute = silent.local_addr().unwrap().as_socket().unwrap();
        let _filler = std::net::TcpStream::connect(mute).unwrap();
        let listener = TcpListener::bind(any).unwrap();
        let open = listener.local_addr().unwrap();

        let mut reactor = Reactor::new(Side::Head, 0).unwrap();
        let mut dialer = Dialer::default();
        let until = Time::ZERO + DIAL_TIMEOUT;
        reactor.connect(0, vec![mute, open], until, &mut dialer, Time::ZERO);
        reactor.time_out(&mut dialer, Time::ZERO + DIAL_TIMEOUT / 2);
        while dialer.peers.is_empty() && dialer.failures.is_empty() {
            reactor.turn(&mut dialer).unwrap();
        }
        assert_eq!(dialer.peers, [open.to_string()]);

        reactor.connect(1, vec![mute, mute], until, &mut dialer, Time::ZERO);
        reactor.time_out(&mut dialer, Time::ZERO + DIAL_TIMEOUT / 2);
        assert!(dialer.failures.is_empty(), "the second has its time");
        reactor.time_out(&mut dialer, until);
        assert_eq!(dialer.failures, ["no answer to connect within 10 s"]);
    }

    /// As where `localhost` is `::1` first and the worker listens on 127.0.0.1.
    #[test]
    fn addresses_are_tried_one_after_the_other() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let open = listener.local_addr().unwrap();
        let closed = |ip: &str| SocketAddr::new(ip.parse().unwrap(), open.port());
        let dialer = dial(vec![closed("::1"), closed("127.77.9.1"), open]);
        assert_eq!(dialer.peers, [open.to_string()]);
        assert!(dialer.failures.is_empty(), "one answer per dial");
        let dialer = dial(vec![closed("::1"), closed("127.77.9.1")]);
        assert_eq!(
            dialer.failures,
            ["connection refused: nothing listens there"]
        );
    }
}
