//! The other end of a packet's way: an address, a protocol, ports.

use std::{fmt, str::FromStr};

use crate::{BadCidr, BadPorts, Cidr, Ports, Protocol, serde_as_text};

/// Why an endpoint was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadEndpoint {
    /// Nothing of it could be read.
    #[error(
        "`{0}` is not an address, a CIDR or a name, with ports or without \
         (write it as 10.0.0.0/8, 10.0.0.1:80, [fd00::1]:443, :53, 10.0.0.1:53/udp or db:5432)"
    )]
    Syntax(String),
    /// Its address.
    #[error(transparent)]
    Address(#[from] BadCidr),
    /// Its ports or its protocol.
    #[error(transparent)]
    Ports(#[from] BadPorts),
    /// ICMP has types and no ports.
    #[error("`{0}`: icmp has no ports")]
    NoPorts(String),
}

/// Packets to or from these addresses, of this protocol, with these ports at the other end; what is not
/// said may be anything. Written as `10.0.0.0/8`, `10.0.0.1:80,443`, `[fd00::/64]:443`, `:53/udp`,
/// `10.0.0.1/icmp`. Ports without a protocol are those of TCP and UDP.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Where it is.
    pub address: Option<Cidr>,
    /// What it speaks.
    pub protocol: Option<Protocol>,
    /// Its ports.
    pub ports: Option<Ports>,
}

impl Endpoint {
    /// Whether every packet of `other` is also one of this.
    pub fn covers(&self, other: &Self) -> bool {
        let address = match (self.address, other.address) {
            (None, _) => true,
            (Some(own), Some(other)) => own.covers(other),
            (Some(_), None) => false,
        };
        let protocol = self.protocol.is_none() || self.protocol == other.protocol;
        // Ports imply a protocol that has some.
        let ports = match (&self.ports, &other.ports) {
            (None, _) => true,
            (Some(own), Some(other)) => own.covers(other),
            (Some(_), None) => false,
        };
        address && protocol && ports
    }
}

impl From<Cidr> for Endpoint {
    fn from(address: Cidr) -> Self {
        Self { address: Some(address), protocol: None, ports: None }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.address, &self.ports) {
            (Some(address), None) => write!(out, "{address}")?,
            (Some(address), Some(ports)) if address.first().is_ipv6() => {
                write!(out, "[{address}]:{ports}")?;
            }
            (Some(address), Some(ports)) => write!(out, "{address}:{ports}")?,
            (None, Some(ports)) => write!(out, ":{ports}")?,
            (None, None) if self.protocol.is_none() => out.write_str("any")?,
            (None, None) => {}
        }
        self.protocol.map_or(Ok(()), |protocol| write!(out, "/{protocol}"))
    }
}

impl FromStr for Endpoint {
    type Err = BadEndpoint;

    fn from_str(text: &str) -> Result<Self, BadEndpoint> {
        if text == "any" {
            return Ok(Self { address: None, protocol: None, ports: None });
        }
        // `/tcp` at the end is a protocol, `/8` a prefix.
        let (rest, protocol) = match text.rsplit_once('/') {
            Some((rest, word)) if word.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                // In `fd00::/ab`, or a URL, it is neither.
                let known = word.parse::<Protocol>();
                (
                    rest,
                    Some(known.map_err(|error| {
                        if text.contains("//") {
                            BadEndpoint::Syntax(text.to_owned())
                        } else {
                            error.into()
                        }
                    })?),
                )
            }
            _ => (text, None),
        };
        let (address, ports) = split(rest).ok_or_else(|| BadEndpoint::Syntax(text.to_owned()))?;
        let looks_like_one = |address: &str| {
            address.contains(':') || address.starts_with(|c: char| c.is_ascii_digit())
        };
        let address = match address {
            "" => None,
            address if looks_like_one(address) => Some(address.parse()?),
            _ => return Err(BadEndpoint::Syntax(text.to_owned())),
        };
        let ports = ports.map(str::parse).transpose()?;
        if (&address, protocol, &ports) == (&None, None, &None) {
            return Err(BadEndpoint::Syntax(text.to_owned()));
        }
        if ports.is_some() && protocol.is_some_and(|protocol| !protocol.has_ports()) {
            return Err(BadEndpoint::NoPorts(text.to_owned()));
        }
        Ok(Self { address, protocol, ports })
    }
}

/// Address and ports; IPv6 with ports needs brackets.
fn split(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, after) = rest.split_once(']')?;
        let bare = !address.is_empty() && after.is_empty();
        return if bare {
            Some((address, None))
        } else {
            Some((address, Some(after.strip_prefix(':')?)))
        };
    }
    match text.split_once(':') {
        // More than one colon: IPv6.
        Some((_, rest)) if rest.contains(':') => Some((text, None)),
        Some((address, ports)) => Some((address, Some(ports))),
        None => Some((text, None)),
    }
}

serde_as_text!(Endpoint);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn endpoint(text: &str) -> Endpoint {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn reads_every_form() {
        for (text, address, protocol, ports) in [
            ("10.0.0.0/8", Some("10.0.0.0/8"), None, None),
            ("10.0.0.1:80", Some("10.0.0.1"), None, Some("80")),
            ("10.0.0.0/8:80,443", Some("10.0.0.0/8"), None, Some("80,443")),
            ("10.0.0.1:53/udp", Some("10.0.0.1"), Some("udp"), Some("53")),
            ("10.0.0.0/8/icmp", Some("10.0.0.0/8"), Some("icmp"), None),
            ("fd00::/8", Some("fd00::/8"), None, None),
            ("fd00::1", Some("fd00::1"), None, None),
            ("[fd00::1]:443", Some("fd00::1"), None, Some("443")),
            ("[fd00::/64]:443/tcp", Some("fd00::/64"), Some("tcp"), Some("443")),
            ("[fd00::1]", Some("fd00::1"), None, None),
            (":53", None, None, Some("53")),
            (":8000-8100/tcp", None, Some("tcp"), Some("8000-8100")),
            ("/icmp", None, Some("icmp"), None),
        ] {
            let want = Endpoint {
                address: address.map(|text| text.parse().unwrap()),
                protocol: protocol.map(|text| text.parse().unwrap()),
                ports: ports.map(|text| text.parse().unwrap()),
            };
            assert_eq!(endpoint(text), want, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_none_with_the_reason() {
        let message = |text: &str| text.parse::<Endpoint>().unwrap_err().to_string();
        for text in [
            "",
            "example.com",
            "example.com:80",
            "http://10.0.0.1/x",
            "[]",
            "[fd00::1",
            "[fd00::1]80",
        ] {
            assert!(message(text).contains("write it as 10.0.0.0/8"), "{text}: {}", message(text));
        }
        assert_eq!(message("10.0.0.1/sctp"), "`sctp` is not a protocol (tcp, udp or icmp)");
        assert_eq!(message("10.0.0.1:80/icmp"), "`10.0.0.1:80/icmp`: icmp has no ports");
        assert_eq!(message("10.0.0.1:0"), "`0`: ports go from 1 to 65535");
        assert_eq!(message("10.0.0.1/40"), "`10.0.0.1/40`: an address of this kind has 32 bits");
        assert!(message("10.0.0.300").contains("is not an IP address"));
    }

    #[test]
    fn covers_what_is_narrower() {
        let covers = |a: &str, b: &str| endpoint(a).covers(&endpoint(b));
        assert!(covers("10.0.0.0/8", "10.0.0.1:80/tcp") && covers(":80", "10.0.0.1:80"));
        assert!(covers("any", "10.0.0.1") && covers("/tcp", "10.0.0.1:80/tcp"));
        assert!(!covers("10.0.0.1:80", "10.0.0.1") && !covers("/tcp", "10.0.0.1:80"));
        assert!(!covers("10.0.0.1", "any") && !covers("/udp", "10.0.0.1/tcp"));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(
            address in proptest::option::of("(10\\.[1-9]{1,2}\\.0\\.0/16|fd0[0-9]::/64|10\\.9\\.8\\.7|fe80::1)"),
            protocol in proptest::option::of("(tcp|udp)"),
            ports in proptest::option::of("([1-9][0-9]{0,3},?){1,3}[1-9]"),
        ) {
            let value = Endpoint {
                address: address.map(|text| text.parse().unwrap()),
                protocol: protocol.map(|text| text.parse().unwrap()),
                ports: ports.and_then(|text| text.parse().ok()),
            };
            prop_assert_eq!(value.to_string().parse(), Ok(value.clone()));
            let json = serde_json::to_string(&value).unwrap();
            prop_assert_eq!(serde_json::from_str::<Endpoint>(&json).unwrap(), value);
        }

        #[test]
        fn no_text_panics(text in "[0-9a-f.:/\\[\\],tcp-]{0,24}") {
            let _ = text.parse::<Endpoint>();
        }
    }
}
