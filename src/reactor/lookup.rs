//! From a worker's name to its addresses, off the reactor's thread.
//!
//! What it is: one look-up at a time per target, each on a short-lived thread of its own: the
//! system's resolver blocks, for many seconds when a name server is dead, and one bad name must not
//! hold back the others. What it is not: a cache; a worker that moved is found at the next dial.
//!
//! Invariant: per target at most one look-up runs, so there are at most as many threads as targets.
//! Nothing a system is configured with gets its code into a static program.

use std::io;
#[cfg(not(target_feature = "crt-static"))]
use std::net::ToSocketAddrs;
use std::net::{IpAddr, SocketAddr};
#[cfg(any(test, target_feature = "crt-static"))]
use std::process::{Command, Stdio};
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
            let result = match addresses(&host, port) {
                Ok(addresses) if !addresses.is_empty() => Ok(addresses),
                _ => Err(format!("no address is known for the name {host}")),
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

/// The addresses that a name, or an address, stands for on this system. (A static build would carry
/// the C library's look-up with it, 128 KB, and could not use the modules that it needs.)
///
/// # Errors
/// If it stands for none; some systems say so by giving none.
pub fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    #[cfg(target_feature = "crt-static")]
    return ask_getent(host, port).ok_or_else(|| io::ErrorKind::NotFound.into());
    #[cfg(not(target_feature = "crt-static"))]
    return Ok((host, port).to_socket_addrs()?.collect());
}

/// What the system's own program for the purpose says; `None` where there is none.
///
/// The C library loads whatever modules /etc/nsswitch.conf names. Within a static program, modules
/// made for another release of it end that program with a signal.
#[cfg(any(test, target_feature = "crt-static"))]
fn ask_getent(host: &str, port: u16) -> Option<Vec<SocketAddr>> {
    let mut getent = Command::new("getent");
    getent.args(["ahosts", "--", host]).stdin(Stdio::null());
    let answer = getent.stderr(Stdio::null()).output().ok()?;
    let lines = String::from_utf8_lossy(&answer.stdout);
    Some(
        lines
            .lines()
            .filter_map(|line| stream_address(line, port))
            .collect(),
    )
}

/// Of a line such as `10.0.0.11 STREAM worker-1`. There is one for each kind of socket.
#[cfg(any(test, target_feature = "crt-static"))]
fn stream_address(line: &str, port: u16) -> Option<SocketAddr> {
    let mut words = line.split_whitespace();
    let ip: IpAddr = words.next()?.parse().ok()?;
    (words.next()? == "STREAM").then(|| SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn getent_knows_what_every_system_knows() {
        let home = SocketAddr::from((Ipv4Addr::LOCALHOST, 5000));
        assert!(ask_getent("localhost", 5000).unwrap().contains(&home));
        assert_eq!(ask_getent("no-such-name.invalid", 5000), Some(Vec::new()));
        assert_eq!(ask_getent("--help", 5000), Some(Vec::new()));
        assert_eq!(addresses("127.0.0.1", 5000).unwrap(), [home]);
    }

    #[test]
    fn a_line_of_getent_gives_an_address_for_streams_only() {
        let address = |line| stream_address(line, 5000).map(|address| address.to_string());
        assert_eq!(
            address("10.0.0.11       STREAM worker-1"),
            Some("10.0.0.11:5000".into())
        );
        assert_eq!(address("fd00::1 STREAM"), Some("[fd00::1]:5000".into()));
        for other in ["10.0.0.11       DGRAM", "10.0.0.11", "STREAM worker-1", ""] {
            assert_eq!(address(other), None, "{other:?}");
        }
    }
}
