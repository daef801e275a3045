//! Blocks of IP addresses.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use crate::serde_as_text;

/// Why a block of addresses was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadCidr {
    /// Not an address, or not a prefix length behind it.
    #[error("`{0}` is not an IP address or a CIDR (write it as 10.0.0.1, 10.0.0.0/8 or fd00::/8)")]
    Syntax(String),
    /// More bits than an address has.
    #[error("`{0}`: an address of this kind has {1} bits")]
    TooLong(String, u8),
}

/// A block of addresses, IPv4 or IPv6: an address whose bits behind the prefix are zero, and the length of
/// the prefix. IPv6 that stands for IPv4 (`::ffff:10.0.0.1`) is IPv4, as it is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// The block of `prefix` bits that this address is in; `None` when it has fewer bits.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let block = match address {
            IpAddr::V4(four) if prefix <= 32 => {
                IpAddr::V4(Ipv4Addr::from_bits(four.to_bits() & mask4(prefix)))
            }
            IpAddr::V6(six) if prefix <= 128 => {
                if let (Some(four), 96..) = (six.to_ipv4_mapped(), prefix) {
                    return Self::new(four.into(), prefix - 96);
                }
                IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() & mask6(prefix)))
            }
            _ => return None,
        };
        Some(Self { address: block, prefix })
    }

    /// The first address.
    pub const fn first(self) -> IpAddr {
        self.address
    }

    /// The last address.
    pub fn last(self) -> IpAddr {
        match self.address {
            IpAddr::V4(four) => Ipv4Addr::from_bits(four.to_bits() | !mask4(self.prefix)).into(),
            IpAddr::V6(six) => Ipv6Addr::from_bits(six.to_bits() | !mask6(self.prefix)).into(),
        }
    }

    /// The length of the prefix, in bits.
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether all of `other` is in it.
    pub fn covers(self, other: Self) -> bool {
        self.address.is_ipv4() == other.address.is_ipv4()
            && self.first() <= other.first()
            && other.last() <= self.last()
    }

    /// Whether all of it is the pod's own loopback.
    pub fn is_loopback(self) -> bool {
        self.first().is_loopback() && self.last().is_loopback()
    }
}

const fn mask4(prefix: u8) -> u32 {
    match u32::MAX.checked_shl(32 - prefix as u32) {
        Some(mask) => mask,
        None => 0,
    }
}

const fn mask6(prefix: u8) -> u128 {
    match u128::MAX.checked_shl(128 - prefix as u32) {
        Some(mask) => mask,
        None => 0,
    }
}

impl From<IpAddr> for Cidr {
    fn from(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self { address, prefix: if address.is_ipv4() { 32 } else { 128 } }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.address)?;
        match (self.address, self.prefix) {
            (IpAddr::V4(_), 32) | (IpAddr::V6(_), 128) => Ok(()),
            (_, prefix) => write!(out, "/{prefix}"),
        }
    }
}

impl FromStr for Cidr {
    type Err = BadCidr;

    fn from_str(text: &str) -> Result<Self, BadCidr> {
        let syntax = || BadCidr::Syntax(text.to_owned());
        let Some((address, prefix)) = text.split_once('/') else {
            return Ok(text.parse::<IpAddr>().map_err(|_| syntax())?.into());
        };
        let address: IpAddr = address.parse().map_err(|_| syntax())?;
        if prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_digit()) {
            return Err(syntax());
        }
        let most = if address.is_ipv4() { 32 } else { 128 };
        let cidr = prefix.parse().ok().and_then(|prefix| Self::new(address, prefix));
        cidr.ok_or_else(|| BadCidr::TooLong(text.to_owned(), most))
    }
}

serde_as_text!(Cidr);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn bits_behind_the_prefix_do_not_count() {
        for (text, want) in [
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3"),
            ("10.1.2.3/32", "10.1.2.3"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("fd00:0::1/8", "fd00::/8"),
            ("::/0", "::/0"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("::ffff:10.1.2.3/104", "10.0.0.0/8"),
        ] {
            assert_eq!(cidr(text).to_string(), want, "{text}");
        }
        assert_eq!(cidr("10.0.0.0/8").last(), cidr("10.255.255.255").first());
        assert_eq!(cidr("fd00::/127").last(), cidr("fd00::1").first());
    }

    #[test]
    fn refuses_what_is_none_with_the_reason() {
        for text in ["", "10.0.0", "10.0.0.1/", "10.0.0.1/x", "10.0.0.1/+8", "example.com", "1/8"] {
            assert_eq!(text.parse::<Cidr>(), Err(BadCidr::Syntax(text.to_owned())), "{text}");
        }
        let message = |text: &str| text.parse::<Cidr>().unwrap_err().to_string();
        assert_eq!(message("10.0.0.1/33"), "`10.0.0.1/33`: an address of this kind has 32 bits");
        assert_eq!(message("::1/999"), "`::1/999`: an address of this kind has 128 bits");
    }

    #[test]
    fn covers_what_is_inside() {
        assert!(cidr("10.0.0.0/8").covers(cidr("10.2.0.0/16")));
        assert!(cidr("10.0.0.0/8").covers(cidr("10.0.0.0/8")));
        assert!(!cidr("10.2.0.0/16").covers(cidr("10.0.0.0/8")));
        assert!(!cidr("0.0.0.0/0").covers(cidr("::1")));
        assert!(cidr("127.0.0.0/9").is_loopback() && !cidr("126.0.0.0/7").is_loopback());
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(bits: u128, prefix in 0u8..=128, four: bool) {
            let address = if four {
                Ipv4Addr::from_bits((bits & 0xffff_ffff).try_into().unwrap()).into()
            } else {
                IpAddr::from(Ipv6Addr::from_bits(bits))
            };
            let prefix = if four { prefix % 33 } else { prefix };
            let value = Cidr::new(address, prefix).unwrap();
            prop_assert!(value.covers(Cidr::from(address)));
            prop_assert_eq!(value.to_string().parse(), Ok(value));
            let json = serde_json::to_string(&value).unwrap();
            prop_assert_eq!(serde_json::from_str::<Cidr>(&json).unwrap(), value);
        }

        #[test]
        fn no_text_panics(text in "[0-9a-f.:/]{0,24}") {
            let _ = text.parse::<Cidr>();
        }
    }
}
