//! `HOST[:PORT]` as people write it.
//!
//! What it is: [`Address`] and the list of them that `--workers` takes. What it is not: name
//! look-up; whether a name exists is found out when it is dialled.
//!
//! Invariant: an address prints as something that parses to itself, and that
//! `std::net::ToSocketAddrs` takes.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::limits::PORT_DEFAULT;

/// Longest host name and longest part of one (RFC 1035, section 2.3.4).
const NAME_LEN_MAX: usize = 253;
const LABEL_LEN_MAX: usize = 63;

/// Where a worker is, or listens: a host and a TCP port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    host: Host,
    /// The TCP port.
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Ip(IpAddr),
    /// In lower case.
    Name(String),
}

impl Address {
    /// This machine only, at the usual port.
    pub const LOOPBACK: Address = Address {
        host: Host::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        port: PORT_DEFAULT,
    };

    /// Every address of this machine, at the usual port.
    pub const ANYWHERE: Address = Address {
        host: Host::Ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        port: PORT_DEFAULT,
    };

    /// The host alone: a name, or an address without brackets.
    pub fn host(&self) -> String {
        match &self.host {
            Host::Ip(ip) => ip.to_string(),
            Host::Name(name) => name.clone(),
        }
    }

    /// Whether only this machine can reach it. Of the names only `localhost` is known to be so.
    pub fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Ip(ip) => ip.to_canonical().is_loopback(),
            Host::Name(name) => name == "localhost",
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address {
            host: Host::Ip(address.ip()),
            port: address.port(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            Host::Ip(IpAddr::V4(ip)) => write!(f, "{ip}:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    /// A name, an IPv4 address, `[::1]` with or without port, or a bare `::1`.
    fn from_str(typed: &str) -> Result<Address, String> {
        let (host, port) = if let Some(bracketed) = typed.strip_prefix('[') {
            let (ip, port) = bracketed
                .split_once(']')
                .ok_or_else(|| format!("{typed:?} lacks its closing bracket"))?;
            let port = match port.strip_prefix(':') {
                None if port.is_empty() => None,
                None => return Err(format!("{typed:?} has no colon before its port")),
                port => port,
            };
            (ipv6(ip)?, port)
        } else if typed.matches(':').count() > 1 {
            (ipv6(typed)?, None)
        } else {
            match typed.split_once(':') {
                Some((host, port)) => (name_or_ipv4(host, typed)?, Some(port)),
                None => (name_or_ipv4(typed, typed)?, None),
            }
        };
        let port = match port {
            None => PORT_DEFAULT,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits
                .parse()
                .map_err(|_| format!("{typed:?} has the port {digits:?}; {PORTS}"))?,
            Some(other) => return Err(format!("{typed:?} has the port {other:?}; {PORTS}")),
        };
        Ok(Address { host, port })
    }
}

const PORTS: &str = "ports are numbers up to 65535";

fn ipv6(typed: &str) -> Result<Host, String> {
    match typed.parse::<Ipv6Addr>() {
        Ok(ip) => Ok(Host::Ip(ip.into())),
        Err(_) => Err(format!(
            "{typed:?} is no IPv6 address, and HOST:PORT has one colon"
        )),
    }
}

fn name_or_ipv4(host: &str, typed: &str) -> Result<Host, String> {
    if host.is_empty() {
        return Err(format!("{typed:?} has no host"));
    }
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return Ok(Host::Ip(ip.into()));
    }
    let labels = host.strip_suffix('.').unwrap_or(host).split('.');
    // No top-level domain is a number, but resolvers take "10.1" for 10.0.0.1.
    let last = labels.clone().next_back().unwrap_or_default();
    if last.bytes().all(|b| b.is_ascii_digit()) && !last.is_empty() {
        return Err(format!(
            "{host:?} is no IPv4 address: four numbers up to 255"
        ));
    }
    if host.len() <= NAME_LEN_MAX && labels.into_iter().all(is_label) {
        Ok(Host::Name(host.to_ascii_lowercase()))
    } else {
        Err(format!("{host:?} is neither a host name nor an address"))
    }
}

/// Letters, digits, inner hyphens, and the underscores that container networks use.
fn is_label(label: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=LABEL_LEN_MAX).contains(&label.len())
        && label.bytes().all(is_inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// The comma-separated list of workers.
///
/// # Errors
/// Names the first part that is empty, no address, without a usable port, or there twice.
pub fn workers(typed: &str) -> Result<Vec<Address>, String> {
    let mut workers: Vec<Address> = Vec::new();
    for (i, part) in typed.split(',').enumerate() {
        if part.is_empty() {
            return Err(format!("part {} of {typed:?} is empty", i + 1));
        }
        let worker: Address = part.parse()?;
        if worker.port == 0 {
            return Err(format!("{part:?} has port 0, at which nobody listens"));
        }
        if workers.contains(&worker) {
            return Err(format!("{part:?} names {worker} a second time"));
        }
        workers.push(worker);
    }
    Ok(workers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::ToSocketAddrs;

    fn print(typed: &str) -> String {
        match typed.parse::<Address>() {
            Ok(address) => address.to_string(),
            Err(reason) => reason,
        }
    }

    #[test]
    fn every_way_to_write_an_address() {
        for (typed, printed) in [
            ("10.0.0.11", "10.0.0.11:5000"),
            ("10.0.0.11:81", "10.0.0.11:81"),
            ("worker-1", "worker-1:5000"),
            ("Worker_1.Example.com.:65535", "worker_1.example.com.:65535"),
            ("10.example", "10.example:5000"),
            ("::1", "[::1]:5000"),
            ("[::1]", "[::1]:5000"),
            ("[::1]:5000", "[::1]:5000"),
            ("FE80:0:0::1", "[fe80::1]:5000"),
            ("[2001:db8::5:1]:0", "[2001:db8::5:1]:0"),
        ] {
            assert_eq!(print(typed), printed);
            assert_eq!(print(printed), printed, "parses to itself");
        }
        for numeric in ["10.0.0.11", "::1"] {
            assert!(print(numeric).to_socket_addrs().is_ok());
        }
    }

    #[test]
    fn every_way_to_write_none() {
        let long = format!("{}.example", "a".repeat(64));
        for (typed, reason) in [
            ("", "has no host"),
            (":5000", "has no host"),
            ("[::1", "closing bracket"),
            ("[::1]5000", "no colon"),
            ("[10.0.0.1]", "no IPv6 address"),
            ("::g", "no IPv6 address"),
            ("http://10.0.0.1:5000", "no IPv6 address"),
            ("http://w", "port \"//w\""),
            ("w:", "port \"\""),
            ("w:65536", "port \"65536\""),
            ("w:+1", "port \"+1\""),
            ("10.0.0.256", "no IPv4 address"),
            ("10.1", "no IPv4 address"),
            ("5000", "no IPv4 address"),
            ("a b", "neither a host name"),
            ("a..b", "neither a host name"),
            (".", "neither a host name"),
            ("-w", "neither a host name"),
            ("--local", "neither a host name"),
            ("wörker", "neither a host name"),
            (&long, "neither a host name"),
            (&"a.".repeat(200), "neither a host name"),
        ] {
            let answer = print(typed);
            assert!(answer.contains(reason), "{typed}: {answer}");
        }
    }

    #[test]
    fn loopback_is_what_only_this_machine_reaches() {
        let is_loopback = |typed: &str| typed.parse::<Address>().unwrap().is_loopback();
        for typed in [
            "127.0.0.1",
            "127.9.9.9:0",
            "::1",
            "LOCALHOST",
            "::ffff:127.0.0.1",
        ] {
            assert!(is_loopback(typed), "{typed}");
        }
        for typed in ["0.0.0.0", "::", "10.0.0.11", "example.com"] {
            assert!(!is_loopback(typed), "{typed}");
        }
        assert_eq!(Address::LOOPBACK.to_string(), "127.0.0.1:5000");
    }

    #[test]
    fn a_list_names_its_bad_part() {
        let list = workers("10.0.0.11:5000,10.0.0.12,::1").unwrap();
        let printed: Vec<String> = list.iter().map(Address::to_string).collect();
        assert_eq!(printed, ["10.0.0.11:5000", "10.0.0.12:5000", "[::1]:5000"]);
        for (typed, reason) in [
            ("", "part 1 of \"\" is empty"),
            ("a,", "part 2 of \"a,\" is empty"),
            ("a,,b", "part 2 of \"a,,b\" is empty"),
            ("a,b:0", "\"b:0\" has port 0, at which nobody listens"),
            ("a,A:5000", "\"A:5000\" names a:5000 a second time"),
            ("[::1],::1", "\"::1\" names [::1]:5000 a second time"),
            (
                "a,b:x",
                "\"b:x\" has the port \"x\"; ports are numbers up to 65535",
            ),
        ] {
            assert_eq!(workers(typed).unwrap_err(), reason);
        }
    }
}
