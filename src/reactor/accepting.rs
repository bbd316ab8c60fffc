//! Connections that others open.
//!
//! What it is: the part of the reactor that listens. What it is not: a judge of who may stay; that is
//! the role's.
//!
//! Invariant: running out of descriptors is a pause, never an end, and never a spin.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use log::{debug, warn};
use mio::Interest;
use mio::net::{TcpListener, TcpStream};

use super::connection::{Stage, describe};
use super::{Deadline, LISTENER, Reactor};
use crate::limits::{ACCEPT_PAUSE, ACCEPTS_PER_TURN, SOCKETS_MAX};
use crate::role::Role;
use crate::time::Time;

#[derive(Debug)]
pub(super) struct Listener {
    pub socket: TcpListener,
    /// Sticky, as a connection's.
    pub readable: bool,
    pub is_paused: bool,
    /// The user was told why it pauses.
    pub is_starved: bool,
}

impl Reactor {
    /// Accepts connections on `address`; returns the address with its real port.
    ///
    /// # Errors
    /// If it cannot be bound.
    pub fn listen(&mut self, address: SocketAddr) -> io::Result<SocketAddr> {
        let mut socket = TcpListener::bind(address)?;
        let registry = self.poll.registry();
        registry.register(&mut socket, LISTENER, Interest::READABLE)?;
        let address = socket.local_addr()?;
        self.listener = Some(Listener {
            socket,
            readable: true,
            is_paused: false,
            is_starved: false,
        });
        Ok(address)
    }

    /// Accepts what waits, within the turn's budget and while there is room.
    pub(super) fn accept(&mut self, role: &mut impl Role, now: Time) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = &mut self.listener else {
                return;
            };
            if !listener.readable || listener.is_paused || self.conns.len() >= SOCKETS_MAX {
                return;
            }
            match listener.socket.accept() {
                Ok((stream, peer)) => {
                    listener.is_starved = false;
                    // A connection that breaks right here was none.
                    if let Err(error) = self.open_accepted(stream, peer, role, now) {
                        debug!("connection from {peer} broke at once: {error}");
                    }
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => listener.readable = false,
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    _ => {
                        // Out of descriptors or memory. The connection stays in the backlog, and no
                        // new edge will tell of it.
                        if !std::mem::replace(&mut listener.is_starved, true) {
                            warn!("cannot accept connections for now: {}", describe(&error));
                        }
                        listener.is_paused = true;
                        self.timers.set(Deadline::Accept, now + ACCEPT_PAUSE);
                    }
                },
            }
        }
        self.is_busy = true;
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
