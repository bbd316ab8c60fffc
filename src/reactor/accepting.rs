//! Connections that others open.
//!
//! What it is: the part of the reactor that listens, and the limits at its door: who has yet to
//! prove itself makes room for who comes later. What it is not: a judge of what proves a peer, or of
//! who may stay; those are the decoder's and the role's.
//!
//! Invariants: a connection that is proven is never closed to make room. Whoever connects is let in
//! or turned away, not left waiting, as long as one descriptor is left; running out of the last is a
//! pause, never an end, and never a spin.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use log::{debug, warn};
use mio::Interest;
use mio::net::{TcpListener, TcpStream};

use super::connection::{Stage, describe};
use super::{Deadline, LISTENER, Reactor};
use crate::limiter::RateLimiter;
use crate::limits::{
    ACCEPT_PAUSE, ACCEPTS_PER_TURN, SOCKETS_MAX, STARVED_QUIET, STRANGER_LINES_INTERVAL,
    STRANGER_LINES_MAX,
};
use crate::network::Network;
use crate::role::{CloseReason, Role};
use crate::time::Time;

#[derive(Debug)]
pub(super) struct Listener {
    pub socket: TcpListener,
    /// Sticky, as a connection's.
    pub readable: bool,
    pub is_paused: bool,
    /// Who may connect; everyone if it names nobody.
    allowed: Vec<Network>,
    /// A descriptor to let go when there is no other: with it one more connection can be accepted,
    /// if only to close it or another.
    reserve: Option<File>,
    /// When descriptors last ran out.
    starved_at: Option<Time>,
    /// What is said of those that are turned away.
    turned_away: RateLimiter,
}

impl Listener {
    fn allows(&self, peer: SocketAddr) -> bool {
        self.allowed.is_empty() || self.allowed.iter().any(|n| n.contains(peer.ip()))
    }

    fn restore_reserve(&mut self) {
        if self.reserve.is_none() {
            self.reserve = File::open("/dev/null").ok();
        }
    }

    /// Tells the user that descriptors have run out, though not each time.
    fn say_starved(&mut self, error: &io::Error, now: Time) {
        let last = self.starved_at.replace(now);
        if last.is_none_or(|at| now > at + STARVED_QUIET) {
            warn!(
                "no room for more connections ({}): those that have not greeted are closed for new \
                 ones; `ulimit -n` says how many files may be open",
                describe(error)
            );
        }
    }
}

impl Reactor {
    /// Accepts connections on `address`, from everyone; returns the address with its real port.
    ///
    /// # Errors
    /// If it cannot be bound.
    pub fn listen(&mut self, address: SocketAddr) -> io::Result<SocketAddr> {
        self.listen_for(address, &[])
    }

    /// Accepts connections on `address` from the networks `allowed`, or from everyone if there are
    /// none; returns the address with its real port.
    ///
    /// # Errors
    /// If it cannot be bound.
    pub fn listen_for(
        &mut self,
        address: SocketAddr,
        allowed: &[Network],
    ) -> io::Result<SocketAddr> {
        let mut socket = TcpListener::bind(address)?;
        let registry = self.poll.registry();
        registry.register(&mut socket, LISTENER, Interest::READABLE)?;
        let address = socket.local_addr()?;
        self.listener = Some(Listener {
            socket,
            readable: true,
            is_paused: false,
            allowed: allowed.to_vec(),
            reserve: None,
            starved_at: None,
            turned_away: RateLimiter::new(STRANGER_LINES_MAX, STRANGER_LINES_INTERVAL),
        });
        Ok(address)
    }

    /// Accepts what waits, within the turn's budget.
    pub(super) fn accept(&mut self, role: &mut impl Role, now: Time) {
        for count in 0..ACCEPTS_PER_TURN {
            let Some(listener) = &mut self.listener else {
                return;
            };
            if !listener.readable || listener.is_paused {
                return;
            }
            if count == 0 {
                // Not again in this turn: what was let go for a connection is for that.
                listener.restore_reserve();
            }
            match listener.socket.accept() {
                Ok((stream, peer)) => self.admit(stream, peer, role, now),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => listener.readable = false,
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    _ => {
                        // Out of descriptors or memory. Without the reserve the next try may succeed.
                        listener.say_starved(&error, now);
                        if listener.reserve.take().is_some() {
                            continue;
                        }
                        // The connection stays in the backlog, and no new edge will tell of it;
                        // but the end of this turn may free a descriptor.
                        if self.doomed.is_empty() {
                            listener.is_paused = true;
                            self.timers.set(Deadline::Accept, now + ACCEPT_PAUSE);
                        }
                        return;
                    }
                },
            }
        }
        self.is_busy = true;
    }

    /// Lets a connection in if there is room, or can be made.
    fn admit(&mut self, stream: TcpStream, peer: SocketAddr, role: &mut impl Role, now: Time) {
        let listener = self.listener.as_ref().expect("it has just accepted");
        if !listener.allows(peer) {
            return self.say_turned_away(peer, "--allow does not name it", now);
        }
        let has_descriptor = listener.reserve.is_some();
        let has_room = has_descriptor && self.conns.len() - self.doomed.len() < SOCKETS_MAX;
        if !has_room && !self.doom_oldest_unproven() {
            return self.say_turned_away(peer, "there is no room for it", now);
        }
        // A connection that breaks right here was none.
        if let Err(error) = self.open_accepted(stream, peer, role, now) {
            debug!("connection from {peer} broke at once: {error}");
        }
    }

    fn say_turned_away(&mut self, peer: SocketAddr, why: &str, now: Time) {
        let listener = self.listener.as_mut().expect("it has just accepted");
        match listener.turned_away.admit(now) {
            Ok(()) => warn!("connection from {peer} turned away: {why}"),
            Err(until) => self.timers.set(Deadline::LeftOut, until),
        }
    }

    /// Makes up for the lines that were left out.
    pub(super) fn say_left_out(&mut self, now: Time) {
        if let Some(listener) = &mut self.listener {
            let (count, seconds) = listener.turned_away.take_left_out(now);
            warn!("connections turned away in the last {seconds} s: {count} more");
        }
    }

    /// Makes room; false if all who are there have proven themselves. The oldest has had the most
    /// time to, and a head needs little.
    fn doom_oldest_unproven(&mut self) -> bool {
        let conns = self.conns.iter();
        let unproven = conns.filter(|(_, c)| !c.is_proven() && !matches!(c.stage, Stage::Doomed));
        let Some((slot, _)) = unproven.min_by_key(|(_, c)| c.generation) else {
            return false;
        };
        let reason = "it had not greeted yet and made room for a newer one".to_owned();
        self.doom(slot, Some(CloseReason::Broken(reason)));
        true
    }

    fn open_accepted(
        &mut self,
        stream: TcpStream,
        peer: SocketAddr,
        role: &mut impl Role,
        now: Time,
    ) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let slot = self.register(stream, Stage::Open)?;
        self.conns[slot].writable = true;
        let conn = self.conns[slot].id(slot);
        self.opened(conn, None, &peer.to_string(), role, now);
        Ok(())
    }
}
