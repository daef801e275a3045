//! A place to try to reach while a fault runs, and afterwards.

use std::{fmt, net::IpAddr, str::FromStr};

use crate::{HostName, serde_as_text};

/// Why a probe was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a host and its port (write it as db:5432, 10.0.0.1:80 or [fd00::1]:443)")]
pub struct BadProbe(String);

/// A TCP port of a host, which the pod is tried to reach: written as `db:5432`, `10.0.0.1:80`, `[fd00::1]:443`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Probe {
    /// Where.
    pub host: ProbeHost,
    /// Which port, not zero.
    pub port: u16,
}

/// A host by address or by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ProbeHost {
    /// By address.
    Address(IpAddr),
    /// By name; its first address counts.
    Name(HostName),
}

impl fmt::Display for Probe {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            ProbeHost::Address(IpAddr::V6(address)) => write!(out, "[{address}]:{}", self.port),
            ProbeHost::Address(address) => write!(out, "{address}:{}", self.port),
            ProbeHost::Name(name) => write!(out, "{name}:{}", self.port),
        }
    }
}

impl FromStr for Probe {
    type Err = BadProbe;

    fn from_str(text: &str) -> Result<Self, BadProbe> {
        let bad = || BadProbe(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let digits = port.bytes().all(|b| b.is_ascii_digit());
        let port = port.parse().ok().filter(|port| *port != 0 && digits).ok_or_else(bad)?;
        let in_brackets = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match (in_brackets, host.parse()) {
            (Some(host), _) => ProbeHost::Address(IpAddr::V6(host.parse().map_err(|_| bad())?)),
            (None, Ok(IpAddr::V4(address))) => ProbeHost::Address(IpAddr::V4(address)),
            _ => ProbeHost::Name(host.parse().map_err(|_| bad())?),
        };
        Ok(Self { host, port })
    }
}

serde_as_text!(Probe);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_host_and_a_port() {
        for text in ["db:5432", "db.example.com.:1", "10.0.0.1:80", "[fd00::1]:443"] {
            assert_eq!(text.parse::<Probe>().map(|probe| probe.to_string()), Ok(text.to_owned()));
        }
        for text in [
            "db",
            ":80",
            "db:0",
            "db:http",
            "fd00::1:80",
            "[10.0.0.1]:80",
            "db:+80",
            "10.0.0:80",
            "db:70000",
        ] {
            assert_eq!(text.parse::<Probe>(), Err(BadProbe(text.to_owned())));
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[0-9a-f.:\\[\\]]{0,24}") {
            if let Ok(probe) = text.parse::<Probe>() {
                prop_assert_eq!(probe.to_string().parse(), Ok(probe));
            }
        }
    }
}
