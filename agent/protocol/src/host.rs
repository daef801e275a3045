//! Other ends that are known by name.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{BadEndpoint, BadPorts, Endpoint, Ports, Protocol, serde_as_text};

/// Why a host was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadHost {
    /// Not a name that could be looked up.
    #[error("`{0}` is not a host's name (write it as db.example.com, db:5432 or db:53/udp)")]
    Syntax(String),
    /// Its ports or its protocol.
    #[error(transparent)]
    Ports(#[from] BadPorts),
    /// ICMP has types and no ports.
    #[error("`{0}`: icmp has no ports")]
    NoPorts(String),
}

/// The name of a host: labels of letters, digits, dashes and underscores (RFC 1123, section 2.1; RFC 8552), at
/// most 63 characters each and 253 together. The last one is not a number, so that no mistyped address is one.
/// With a dot at its end it is looked up as it is, without the pod's search list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

impl HostName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl FromStr for HostName {
    type Err = BadHost;

    fn from_str(text: &str) -> Result<Self, BadHost> {
        let name = text.strip_suffix('.').unwrap_or(text);
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let number = |label: &str| label.bytes().all(|b| b.is_ascii_digit());
        let last = name.rsplit('.').next().unwrap_or_default();
        if name.len() <= 253 && name.split('.').all(is_label) && !number(last) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadHost::Syntax(text.to_owned()))
        }
    }
}

serde_as_text!(HostName);

/// Packets to or from all addresses that a name has, of this protocol, with these ports at the other end; what
/// is not said may be anything. Written as `db.example.com`, `db:5432`, `db:53/udp`, `db/icmp`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host {
    /// Its name.
    pub name: HostName,
    /// What it speaks.
    pub protocol: Option<Protocol>,
    /// Its ports.
    pub ports: Option<Ports>,
}

impl Host {
    /// It at one of its addresses; `None` is wherever it may be.
    pub fn at(&self, address: Option<crate::Cidr>) -> Endpoint {
        Endpoint { address, protocol: self.protocol, ports: self.ports.clone() }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.name)?;
        if let Some(ports) = &self.ports {
            write!(out, ":{ports}")?;
        }
        self.protocol.map_or(Ok(()), |protocol| write!(out, "/{protocol}"))
    }
}

impl FromStr for Host {
    type Err = BadHost;

    fn from_str(text: &str) -> Result<Self, BadHost> {
        let (rest, protocol) = match text.rsplit_once('/') {
            Some((rest, word)) => (rest, Some(word)),
            None => (text, None),
        };
        let (name, ports) = match rest.split_once(':') {
            Some((name, ports)) => (name, Some(ports)),
            None => (rest, None),
        };
        // The name first: without one, what follows it means nothing.
        let name = name.parse().map_err(|_| BadHost::Syntax(text.to_owned()))?;
        let protocol = protocol.map(str::parse::<Protocol>).transpose()?;
        let ports = ports.map(str::parse::<Ports>).transpose()?;
        if ports.is_some() && protocol.is_some_and(|protocol| !protocol.has_ports()) {
            return Err(BadHost::NoPorts(text.to_owned()));
        }
        Ok(Self { name, protocol, ports })
    }
}

serde_as_text!(Host);

/// One word of the user's for the other end: where it is, or what it is called.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    /// By address.
    Endpoint(Endpoint),
    /// By name.
    Host(Host),
}

impl fmt::Display for Peer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(endpoint) => write!(out, "{endpoint}"),
            Self::Host(host) => write!(out, "{host}"),
        }
    }
}

impl FromStr for Peer {
    type Err = BadEndpoint;

    fn from_str(text: &str) -> Result<Self, BadEndpoint> {
        match (text.parse(), text.parse()) {
            (Ok(endpoint), _) => Ok(Self::Endpoint(endpoint)),
            (Err(_), Ok(host)) => Ok(Self::Host(host)),
            // A host, but for its ports.
            (Err(BadEndpoint::Syntax(_)), Err(BadHost::Ports(error))) if !text.contains("//") => {
                Err(error.into())
            }
            (Err(BadEndpoint::Syntax(_)), Err(BadHost::NoPorts(text))) => {
                Err(BadEndpoint::NoPorts(text))
            }
            (Err(error), _) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tells_addresses_from_names() {
        let read = |text: &str| match text.parse::<Peer>() {
            Ok(Peer::Endpoint(endpoint)) => format!("at {endpoint}"),
            Ok(Peer::Host(host)) => format!("called {host}"),
            Err(error) => error.to_string(),
        };
        for (text, want) in [
            ("10.0.0.1:80", "at 10.0.0.1:80"),
            ("fd00::1", "at fd00::1"),
            (":53", "at :53"),
            ("/icmp", "at /icmp"),
            ("any", "at any"),
            ("db", "called db"),
            ("db:5432", "called db:5432"),
            ("db.example.com.", "called db.example.com."),
            ("3scale.example.com:80,443/tcp", "called 3scale.example.com:80,443/tcp"),
            ("_sip._tcp.example.com", "called _sip._tcp.example.com"),
            ("cafe:80", "called cafe:80"),
            ("db/icmp", "called db/icmp"),
            ("db:0", "`0`: ports go from 1 to 65535"),
            (
                "db:postgres",
                "`postgres` is not a list of ports (write it as 80, 80,443 or 8000-8100)",
            ),
            ("db/sctp", "`sctp` is not a protocol (tcp, udp or icmp)"),
            ("db:80/icmp", "`db:80/icmp`: icmp has no ports"),
            ("10.0.0.1/40", "`10.0.0.1/40`: an address of this kind has 32 bits"),
        ] {
            assert_eq!(read(text), want, "{text}");
        }
        for text in ["", "10.0.0.300", "http://db/x", "-db", "db_-.x", "a..b", "dä", "1.2.3", "db:"]
        {
            assert!(text.parse::<Peer>().is_err(), "{text}: {}", read(text));
        }
        assert!("a".repeat(64).parse::<HostName>().is_err());
        assert!(
            "a.".repeat(127).parse::<HostName>().is_ok()
                && "a.".repeat(128).parse::<HostName>().is_err()
        );
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(
            name in "[a-z][a-z0-9]{0,8}(\\.[a-z][a-z0-9-]{0,5}[a-z]){0,3}\\.?",
            protocol in proptest::option::of("(tcp|udp)"),
            ports in proptest::option::of("([1-9][0-9]{0,3},?){1,3}[1-9]"),
        ) {
            let value = Host {
                name: name.parse().unwrap(),
                protocol: protocol.map(|text| text.parse().unwrap()),
                ports: ports.and_then(|text| text.parse().ok()),
            };
            prop_assert_eq!(value.to_string().parse::<Host>(), Ok(value.clone()));
            prop_assert_eq!(value.to_string().parse::<Peer>(), Ok(Peer::Host(value)));
        }

        #[test]
        fn no_text_panics(text in "[0-9a-f.:/\\[\\]_,tcp-]{0,24}") {
            let _ = (text.parse::<Host>(), text.parse::<Peer>());
        }
    }
}
