//! Transport protocols and their ports.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use crate::serde_as_text;

/// Why a protocol or a list of ports was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadPorts {
    /// Not a list of numbers and ranges.
    #[error("`{0}` is not a list of ports (write it as 80, 80,443 or 8000-8100)")]
    Syntax(String),
    /// 0, or above 65535.
    #[error("`{0}`: ports go from 1 to 65535")]
    Outside(String),
    /// The first port of a range is above its last.
    #[error("`{0}`: a range starts with its lower port")]
    Backwards(String),
    /// Not a protocol that is known here.
    #[error("`{0}` is not a protocol (tcp, udp or icmp)")]
    Protocol(String),
}

/// What an IP packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP over IPv4, ICMPv6 over IPv6.
    Icmp,
}

impl Protocol {
    /// Those that have ports.
    pub const WITH_PORTS: [Self; 2] = [Self::Tcp, Self::Udp];

    /// Whether it has ports.
    pub fn has_ports(self) -> bool {
        Self::WITH_PORTS.contains(&self)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        })
    }
}

impl FromStr for Protocol {
    type Err = BadPorts;

    fn from_str(text: &str) -> Result<Self, BadPorts> {
        let all = [Self::Tcp, Self::Udp, Self::Icmp];
        let found = all.into_iter().find(|one| text.eq_ignore_ascii_case(&one.to_string()));
        found.ok_or_else(|| BadPorts::Protocol(text.to_owned()))
    }
}

serde_as_text!(Protocol);

/// At least one port: ranges in ascending order that neither overlap nor touch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports(Vec<(u16, u16)>);

impl Ports {
    /// The ranges, in ascending order, with gaps between them.
    pub fn ranges(&self) -> impl Iterator<Item = RangeInclusive<u16>> {
        self.0.iter().map(|(first, last)| *first..=*last)
    }

    /// All of these; `None` when there are none.
    pub fn from_ranges(ranges: impl IntoIterator<Item = RangeInclusive<u16>>) -> Option<Self> {
        let mut sorted: Vec<_> = ranges
            .into_iter()
            .filter(|range| !range.is_empty())
            .map(RangeInclusive::into_inner)
            .collect();
        sorted.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::new();
        for (first, last) in sorted {
            match merged.last_mut() {
                Some(before) if u32::from(first) <= u32::from(before.1) + 1 => {
                    before.1 = before.1.max(last);
                }
                _ => merged.push((first, last)),
            }
        }
        (!merged.is_empty()).then_some(Self(merged))
    }

    /// Whether it has a port in common with `other`.
    pub fn meets(&self, other: &Self) -> bool {
        self.0.iter().any(|a| other.0.iter().any(|b| a.0 <= b.1 && b.0 <= a.1))
    }

    /// Whether it has all ports of `other`.
    pub fn covers(&self, other: &Self) -> bool {
        other.0.iter().all(|b| self.0.iter().any(|a| a.0 <= b.0 && b.1 <= a.1))
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(out, "{comma}{first}")?;
            if last > first {
                write!(out, "-{last}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Ports {
    type Err = BadPorts;

    fn from_str(text: &str) -> Result<Self, BadPorts> {
        let number = |word: &str| {
            if word.is_empty() || !word.bytes().all(|b| b.is_ascii_digit()) {
                return Err(BadPorts::Syntax(text.to_owned()));
            }
            match word.parse() {
                Ok(0) | Err(_) => Err(BadPorts::Outside(text.to_owned())),
                Ok(port) => Ok(port),
            }
        };
        let range = |word: &str| {
            let (first, last) = word.split_once('-').unwrap_or((word, word));
            let (first, last) = (number(first.trim())?, number(last.trim())?);
            if first > last {
                return Err(BadPorts::Backwards(text.to_owned()));
            }
            Ok(first..=last)
        };
        let ranges: Vec<_> =
            text.split(',').map(|word| range(word.trim())).collect::<Result<_, _>>()?;
        Self::from_ranges(ranges).ok_or_else(|| BadPorts::Syntax(text.to_owned()))
    }
}

serde_as_text!(Ports);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ports(text: &str) -> Ports {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn lists_are_sorted_and_merged() {
        for (text, want) in [
            ("80", "80"),
            ("443,80", "80,443"),
            ("80,81", "80-81"),
            ("1-65535", "1-65535"),
            ("8000-8100, 8050-8200", "8000-8200"),
            ("1-100,5", "1-100"),
        ] {
            assert_eq!(ports(text).to_string(), want, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_none_with_the_reason() {
        let message = |text: &str| text.parse::<Ports>().unwrap_err().to_string();
        assert_eq!(
            message("http"),
            "`http` is not a list of ports (write it as 80, 80,443 or 8000-8100)"
        );
        assert_eq!(message(""), "`` is not a list of ports (write it as 80, 80,443 or 8000-8100)");
        assert_eq!(message("0"), "`0`: ports go from 1 to 65535");
        assert_eq!(message("65536"), "`65536`: ports go from 1 to 65535");
        assert_eq!(message("90-80"), "`90-80`: a range starts with its lower port");
        assert!("TCP".parse::<Protocol>().is_ok() && "sctp".parse::<Protocol>().is_err());
    }

    #[test]
    fn knows_what_two_lists_have_in_common() {
        assert!(ports("80-90").meets(&ports("1,90")) && !ports("80-90").meets(&ports("79,91")));
        assert!(
            ports("80-90").covers(&ports("80,85-90")) && !ports("80-90").covers(&ports("80,91"))
        );
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(
            ranges in proptest::collection::vec((1u16.., 0u16..300), 1..6)
        ) {
            let value = Ports::from_ranges(
                ranges.into_iter().map(|(first, more)| first..=first.saturating_add(more)),
            ).unwrap();
            prop_assert_eq!(value.to_string().parse(), Ok(value.clone()));
            let json = serde_json::to_string(&value).unwrap();
            prop_assert_eq!(serde_json::from_str::<Ports>(&json).unwrap(), value);
        }

        #[test]
        fn no_text_panics(text in "[0-9,-]{0,20}") {
            let _ = text.parse::<Ports>();
        }
    }
}
