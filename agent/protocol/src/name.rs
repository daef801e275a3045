//! Names that end up in the kernel: interfaces and fault ids.

use std::{fmt, str::FromStr};

use crate::serde_as_text;

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadName {
    /// The kernel would not take it.
    #[error("`{0}` is not an interface name (1 to 15 characters, no space, no slash)")]
    Interface(String),
    /// Everything inside the pod talks over it, and the kubelet never does.
    #[error("loopback is never hit")]
    Loopback,
    /// Not eight hexadecimal digits.
    #[error("`{0}` is not a fault's id (eight digits 0-9a-f)")]
    FaultId(String),
}

/// The name of a network interface: 1 to 15 bytes, no white space, no `/`, `:`, not `.` or `..`
/// (`dev_valid_name()` in net/core/dev.c), and never loopback.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interface(String);

impl Interface {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl FromStr for Interface {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let fits = (1..=15).contains(&text.len())
            && text != "."
            && text != ".."
            && !text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c == '\0');
        match (fits, text) {
            (false, _) => Err(BadName::Interface(text.to_owned())),
            (true, "lo") => Err(BadName::Loopback),
            (true, _) => Ok(Self(text.to_owned())),
        }
    }
}

serde_as_text!(Interface);

/// What tells one fault from another, in names of links and tables: eight hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FaultId(u32);

impl FaultId {
    /// From any number; random ones are unlikely to meet.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number that it was made from.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for FaultId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:08x}", self.0)
    }
}

impl FromStr for FaultId {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let fits = text.len() == 8
            && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        match u32::from_str_radix(text, 16) {
            Ok(number) if fits => Ok(Self(number)),
            _ => Err(BadName::FaultId(text.to_owned())),
        }
    }
}

serde_as_text!(FaultId);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn takes_interface_names_as_the_kernel_does() {
        for name in ["eth0", "net1", "eth0.100", "a", "0123456789abcde"] {
            assert!(name.parse::<Interface>().is_ok(), "{name}");
        }
        for name in ["", ".", "..", "a/b", "a b", "a:b", "0123456789abcdef", "a\0"] {
            assert_eq!(name.parse::<Interface>(), Err(BadName::Interface(name.to_owned())));
        }
        assert_eq!("lo".parse::<Interface>(), Err(BadName::Loopback));
    }

    proptest! {
        #[test]
        fn ids_are_read_back(number: u32) {
            let id = FaultId::new(number);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn no_text_panics(text in ".{0,20}") {
            let _ = text.parse::<FaultId>();
            let _ = text.parse::<Interface>();
        }
    }
}
