//! The supervisor that started this program, if it wants to hear of it.
//!
//! What it is: systemd's notification protocol (`Type=notify`, `WatchdogSec=`): one datagram per fact
//! to the socket that the environment names. What it is not: libsystemd, which would be a library to
//! install; or a thread, since the sign of life must come from the loop whose life it is a sign of.
//!
//! Invariant: nothing here blocks, and nothing depends on being heard: a supervisor that is gone or
//! does not read costs a datagram.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::time::Duration;

/// Where facts about this process go.
#[derive(Debug)]
pub struct Supervisor {
    socket: UnixDatagram,
    address: SocketAddr,
    alive_every: Option<Duration>,
}

impl Supervisor {
    /// The one that the environment names; `None` without one.
    ///
    /// # Errors
    /// If the system refuses a socket, or the name given is none.
    pub fn from_env() -> io::Result<Option<Supervisor>> {
        let Some(name) = env::var_os("NOTIFY_SOCKET") else {
            return Ok(None);
        };
        let number = |name| env::var(name).ok()?.parse::<u64>().ok();
        // The watchdog is meant for one process, which is not always the one that reads this.
        let is_meant = number("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().into());
        let timeout_us = number("WATCHDOG_USEC").filter(|us| is_meant && *us > 0);
        let timeout = timeout_us.map(Duration::from_micros);
        Supervisor::at(name.as_bytes(), timeout).map(Some)
    }

    /// The one that listens at `name`, a path or `@` and an abstract name, and takes a process for
    /// dead that it has not heard of for `timeout`.
    fn at(name: &[u8], timeout: Option<Duration>) -> io::Result<Supervisor> {
        let address = match name.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name)),
        }?;
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Supervisor {
            socket,
            address,
            // Half the time, as systemd's manual has it.
            alive_every: timeout.map(|timeout| timeout / 2),
        })
    }

    /// How often it wants [`Supervisor::alive`]; `None` if not at all.
    pub fn alive_every(&self) -> Option<Duration> {
        self.alive_every
    }

    /// The program can be used; `status` is for people.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// The loop goes round.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// The program has been told to end, and finishes what it does.
    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=Finishing what runs");
    }

    fn send(&self, facts: &str) {
        // There is nobody to tell but the one that does not listen.
        let _ = self.socket.send_to_addr(facts.as_bytes(), &self.address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        let count = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    }

    #[test]
    fn facts_reach_a_path_and_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("teamster-test-{}", std::process::id());
        let by_name = SocketAddr::from_abstract_name(&name).unwrap();
        for (socket, at) in [
            (UnixDatagram::bind(&path), path.to_str().unwrap().to_owned()),
            (UnixDatagram::bind_addr(&by_name), format!("@{name}")),
        ] {
            let socket = socket.unwrap();
            let supervisor = Supervisor::at(at.as_bytes(), None).unwrap();
            supervisor.ready("Listening");
            supervisor.alive();
            supervisor.stopping();
            assert_eq!(heard(&socket), "READY=1\nSTATUS=Listening");
            assert_eq!(heard(&socket), "WATCHDOG=1");
            assert!(heard(&socket).starts_with("STOPPING=1\n"));
            assert_eq!(supervisor.alive_every(), None);
        }
    }

    #[test]
    fn one_that_does_not_read_or_is_gone_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let supervisor = Supervisor::at(path.as_os_str().as_bytes(), None).unwrap();
        (0..10_000).for_each(|_| supervisor.alive());
        drop(socket);
        supervisor.stopping();
    }

    #[test]
    fn a_sign_of_life_comes_in_half_the_time() {
        let timeout = Duration::from_secs(30);
        let supervisor = Supervisor::at(b"@nobody", Some(timeout)).unwrap();
        assert_eq!(supervisor.alive_every(), Some(timeout / 2));
        assert!(Supervisor::at(&[b'/'; 200], None).is_err());
    }
}
