//! `ADDRESS[/BITS]`: the addresses that share their first bits.
//!
//! What it is: [`Network`], as people write it, and whether an address is in it. What it is not: a
//! list of them, or what is done with an address that is in none.
//!
//! Invariant: there is one kind of address. An IPv4 address is the IPv6 address mapped to it, so that
//! it does not matter as which of the two it was typed or comes, and `::/0` is everything.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Bits of an address, and those before the IPv4 part of a mapped one.
const BITS_MAX: u32 = 128;
const MAPPED_BITS: u32 = 96;

/// The addresses that share their first `bits` bits with `first`, whose others are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: u128,
    bits: u32,
}

impl Network {
    /// Whether it has this address.
    pub fn contains(self, address: IpAddr) -> bool {
        masked(number(address), self.bits) == self.first
    }
}

/// Whether what a browser calls a machine, `HOST[:PORT]`, is an address or `localhost`. Any other name
/// is whatever its owner says it is.
pub fn is_address_or_localhost(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        // A colon within the brackets of an IPv6 address comes before no port.
        Some((name, port)) if !port.ends_with(']') => (name, port),
        _ => (host, "0"),
    };
    let ip: Option<IpAddr> = match name.strip_prefix('[').and_then(|n| n.strip_suffix(']')) {
        Some(v6) => v6.parse().ok().filter(IpAddr::is_ipv6),
        None => name.parse().ok().filter(IpAddr::is_ipv4),
    };
    let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    is_port && (ip.is_some() || name.eq_ignore_ascii_case("localhost"))
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

/// `number` with all but its first `bits` bits zero.
fn masked(number: u128, bits: u32) -> u128 {
    number & u128::MAX.checked_shl(BITS_MAX - bits).unwrap_or(0)
}

impl FromStr for Network {
    type Err = String;

    /// An address alone is a network of one.
    fn from_str(typed: &str) -> Result<Network, String> {
        let (address, bits) = match typed.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (typed, None),
        };
        let ip: IpAddr = address.parse().map_err(|_| {
            format!("{typed:?} is no ADDRESS[/BITS], such as 10.0.0.10, 10.0.0.0/24 or fd00::/8")
        })?;
        let before = if ip.is_ipv4() { MAPPED_BITS } else { 0 };
        let max = BITS_MAX - before;
        let bits = match bits {
            None => max,
            Some(digits) => (digits.parse().ok())
                .filter(|&bits| bits <= max && !digits.starts_with('+'))
                .ok_or_else(|| format!("{typed:?} has {digits:?} bits; they are 0 to {max}"))?,
        };
        let network = Network {
            first: masked(number(ip), before + bits),
            bits: before + bits,
        };
        if network.first != number(ip) {
            // One of the two is a slip, and to guess which lets in too many or too few.
            return Err(format!(
                "{typed:?} has more than {bits} bits; did you mean {network}, or {ip}?"
            ));
        }
        Ok(network)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = if self.bits < MAPPED_BITS {
            0
        } else {
            MAPPED_BITS
        };
        let ip = std::net::Ipv6Addr::from(self.first);
        match ip.to_ipv4_mapped().filter(|_| before > 0) {
            Some(ip) => write!(f, "{ip}/{}", self.bits - before),
            None => write!(f, "{ip}/{}", self.bits),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn network(typed: &str) -> Network {
        typed.parse().unwrap_or_else(|reason| panic!("{reason}"))
    }

    #[test]
    fn only_addresses_and_localhost_are_names_nobody_else_can_give() {
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1",
            "10.0.0.10:80",
            "[::1]",
            "[fd00::1]:8080",
        ] {
            assert!(is_address_or_localhost(host), "{host}");
        }
        for host in [
            "",
            ":80",
            "evil.example",
            "127.0.0.1.evil.example:80",
            "localhost.evil.example",
            "localhost:",
            "localhost:x",
            "::1",
            "[127.0.0.1]",
            "[::1",
            "127.0.0.1@evil.example",
        ] {
            assert!(!is_address_or_localhost(host), "{host}");
        }
    }

    #[test]
    fn an_address_is_in_a_network_by_its_first_bits() {
        for (typed, inside, outside) in [
            (
                "10.0.0.10",
                &["10.0.0.10", "::ffff:10.0.0.10"][..],
                &["10.0.0.11", "::a00:a"][..],
            ),
            ("10.0.0.10/32", &["10.0.0.10"], &["10.0.0.11"]),
            (
                "10.0.0.10/31",
                &["10.0.0.10", "10.0.0.11"],
                &["10.0.0.9", "10.0.0.12"],
            ),
            (
                "10.0.0.0/8",
                &["10.255.255.255"],
                &["11.0.0.0", "9.255.255.255", "127.0.0.1"],
            ),
            ("128.0.0.0/1", &["255.0.0.1"], &["127.0.0.1"]),
            (
                "0.0.0.0/0",
                &["1.2.3.4", "::ffff:1.2.3.4"],
                &["::1", "fd00::1"],
            ),
            ("::/0", &["1.2.3.4", "::1", "ffff::"], &[]),
            ("::ffff:10.0.0.0/104", &["10.1.2.3"], &["11.0.0.0", "::1"]),
            ("::1", &["::1"], &["::", "127.0.0.1"]),
            ("fd00::/127", &["fd00::1"], &["fd00::2"]),
            ("fd00::1/128", &["fd00::1"], &["fd00::"]),
            ("fd00::/8", &["fdff::1"], &["fe00::"]),
        ] {
            for address in inside {
                assert!(
                    network(typed).contains(address.parse().unwrap()),
                    "{typed} {address}"
                );
            }
            for address in outside {
                assert!(
                    !network(typed).contains(address.parse().unwrap()),
                    "{typed} {address}"
                );
            }
        }
    }

    #[test]
    fn a_network_prints_as_something_that_parses_to_itself() {
        for (typed, printed) in [
            ("10.0.0.10", "10.0.0.10/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::/0", "::/0"),
            ("FD00::/8", "fd00::/8"),
        ] {
            assert_eq!(network(typed).to_string(), printed);
            assert_eq!(network(printed), network(typed));
        }
    }

    #[test]
    fn slips_are_not_guessed_at() {
        for (typed, reason) in [
            (
                "",
                "\"\" is no ADDRESS[/BITS], such as 10.0.0.10, 10.0.0.0/24 or fd00::/8",
            ),
            ("/8", "no ADDRESS"),
            ("head-1", "no ADDRESS"),
            ("10.0.0", "no ADDRESS"),
            ("10.0.0.10:5000", "no ADDRESS"),
            ("10.0.0.10,10.0.0.11", "no ADDRESS"),
            ("[::1]", "no ADDRESS"),
            ("fe80::1%eth0", "no ADDRESS"),
            ("10.0.0.0/", "has \"\" bits; they are 0 to 32"),
            ("10.0.0.0/33", "has \"33\" bits; they are 0 to 32"),
            ("10.0.0.0/+8", "has \"+8\" bits"),
            ("10.0.0.0/-8", "has \"-8\" bits"),
            ("10.0.0.0/8/8", "has \"8/8\" bits"),
            ("10.0.0.0/255.0.0.0", "has \"255.0.0.0\" bits"),
            ("::/129", "has \"129\" bits; they are 0 to 128"),
            (
                "10.0.0.10/24",
                "more than 24 bits; did you mean 10.0.0.0/24, or 10.0.0.10?",
            ),
            (
                "fd00::1/8",
                "more than 8 bits; did you mean fd00::/8, or fd00::1?",
            ),
        ] {
            let answer = typed.parse::<Network>().unwrap_err();
            assert!(answer.contains(reason), "{typed}: {answer}");
        }
    }
}
