//! From a worker's name to its addresses, off the reactor's thread.
//!
//! What it is: one look-up at a time per target, each on a short-lived thread of its own: the
//! system's resolver blocks, for many seconds when a name server is dead, and one bad name must not
//! hold back the others. What it is not: a cache; a worker that moved is found at the next dial.
//!
//! Invariant: per target at most one look-up runs, so there are at most as many threads as targets.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::thread;

use crate::mailbox::{Mailbox, Notice};

/// A host and a port, as the user gave them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// A name, or an address without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

/// The targets a head may dial.
#[derive(Debug)]
pub(super) struct Lookups {
    targets: Vec<Target>,
    is_running: Vec<bool>,
    mailbox: Mailbox,
}

impl Lookups {
    pub fn new(targets: Vec<Target>, mailbox: Mailbox) -> Lookups {
        Lookups {
            is_running: vec![false; targets.len()],
            targets,
            mailbox,
        }
    }

    /// The target's address if it is written as one; else begins a look-up, which ends in a
    /// `Resolved` notice, unless one is under way already.
    pub fn begin(&mut self, dial: u32) -> Option<SocketAddr> {
        let Target { host, port } = &self.targets[dial as usize];
        if let Ok(address) = host.parse::<IpAddr>() {
            return Some(SocketAddr::new(address, *port));
        }
        if std::mem::replace(&mut self.is_running[dial as usize], true) {
            return None;
        }
        let (host, port, mailbox) = (host.clone(), *port, self.mailbox.clone());
        let look_up = move || {
            let result = (&host[..], port).to_socket_addrs();
            let result = match result.map(Iterator::collect::<Vec<_>>) {
                Ok(addresses) if addresses.is_empty() => Err(format!("{host} has no address")),
                Ok(addresses) => Ok(addresses),
                Err(_) => Err(format!("no address is known for the name {host}")),
            };
            mailbox.post(Notice::Resolved { dial, result });
        };
        let spawned = thread::Builder::new().name("lookup".into()).spawn(look_up);
        if let Err(error) = spawned {
            let result = Err(format!("no thread to look its name up: {error}"));
            self.mailbox.post(Notice::Resolved { dial, result });
        }
        None
    }

    /// The target's look-up ended.
    pub fn ended(&mut self, dial: u32) {
        self.is_running[dial as usize] = false;
    }
}
