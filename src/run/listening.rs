//! Where the programs listen.
//!
//! What it is: addresses bound, and what to do about those that cannot be. What it is not: a judge of
//! who may connect.
//!
//! Invariant: an error names the flag that chose the address.

use std::io;
use std::net::SocketAddr;

use log::warn;

use super::{Failure, failure};
use crate::network::Network;
use crate::options::Address;
use crate::reactor::{self, Reactor};
use crate::role::Exit;

/// Listens on the first address of the name that can be bound.
pub(super) fn listen(
    reactor: &mut Reactor,
    address: &Address,
    allow: &[Network],
) -> Result<SocketAddr, Failure> {
    let what = format!("cannot listen on {address}");
    let resolved = reactor::addresses(&address.host(), address.port);
    let mut error = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for candidate in resolved.map_err(failure(&what))? {
        match reactor.listen_for(candidate, allow) {
            Ok(bound) => return Ok(bound),
            Err(refused) => error = refused,
        }
    }
    Err(Failure {
        exit: Exit::Output,
        reason: format!("{what}: {error}{}", bind_hint(&error, "--listen")),
    })
}

/// Serves the status page from now on.
pub(super) fn serve_status(
    reactor: &mut Reactor,
    address: SocketAddr,
) -> Result<SocketAddr, Failure> {
    if !address.ip().is_loopback() {
        warn!(
            "whoever reaches {address} may read how this run goes; `--status {}` keeps that to \
             this machine, and `ssh -L {0}:127.0.0.1:{0} HERE` brings it to another",
            address.port()
        );
    }
    let what = format!("cannot serve the status page on {address}");
    reactor.serve_status(address).map_err(|error| Failure {
        exit: Exit::Output,
        reason: format!("{what}: {error}{}", bind_hint(&error, "--status")),
    })
}

/// What to do about an address that cannot be had.
fn bind_hint(error: &io::Error, flag: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("; another program does, choose another port with {flag}")
        }
        io::ErrorKind::AddrNotAvailable => "; that is not an address of this machine".into(),
        _ => String::new(),
    }
}
