//! Amounts of memory and of room on disks.

use std::{fmt, str::FromStr};

use crate::serde_as_text;

/// Why a size was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadSize {
    /// Not a number, or a unit that does not exist.
    #[error("`{0}` is not a size (write it as 512Ki, 64Mi, 1.5Gi, 500M or, in bytes, 4096)")]
    Syntax(String),
    /// Not a single byte.
    #[error("`{0}` is less than a byte")]
    TooSmall(String),
    /// Above the limit.
    #[error("`{0}` is more than 1024Ti, the most that is allowed")]
    TooLarge(String),
}

/// Units, the one that is printed first. A bare number counts bytes.
const UNITS: [(&str, u64); 9] = [
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
    ("", 1),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
];

/// From one byte to 1024 TiB, in whole bytes. As text like a quantity of Kubernetes
/// (k8s.io/apimachinery/pkg/api/resource): `64Mi`, `1.5Gi`, `500M`, `4096`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

impl Size {
    /// The most that is allowed.
    pub const MAX: Self = Self(1 << 50);

    /// In bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = BadSize;

    fn from_str(text: &str) -> Result<Self, BadSize> {
        let syntax = || BadSize::Syntax(text.to_owned());
        let too_large = || BadSize::TooLarge(text.to_owned());
        let trimmed = text.trim();
        let split =
            trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(split);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(syntax)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.len() + fraction.len() == 0 || fraction.contains('.') {
            return Err(syntax());
        }
        // What is finer is less than a byte.
        let fraction = &fraction[..fraction.len().min(15)];
        let digits: u128 = format!("0{whole}{fraction}").parse().map_err(|_| too_large())?;
        let place = 10u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
        let bytes = digits.checked_mul(u128::from(*scale)).ok_or_else(too_large)? / place;
        match u64::try_from(bytes).map(Self) {
            Ok(Self(0)) => Err(BadSize::TooSmall(text.to_owned())),
            Ok(size) if size <= Self::MAX => Ok(size),
            _ => Err(too_large()),
        }
    }
}

/// In the largest unit that leaves no rest.
impl fmt::Display for Size {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |(_, scale): &&(&str, u64)| self.0.is_multiple_of(*scale);
        let (unit, scale) = UNITS.iter().find(whole).unwrap_or(&("", 1));
        write!(out, "{}{unit}", self.0 / scale)
    }
}

serde_as_text!(Size);

/// Bytes as a person reads them: `12.5 MiB`.
pub(crate) struct Rounded(pub u64);

impl fmt::Display for Rounded {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let large = |(_, scale): &&(&str, u64)| self.0 >= *scale;
        match UNITS[..4].iter().find(large) {
            Some((unit, scale)) => {
                let tenths = u128::from(self.0) * 10 / u128::from(*scale);
                write!(out, "{}.{} {unit}B", tenths / 10, tenths % 10)
            }
            None => write!(out, "{} B", self.0),
        }
    }
}

/// Says what part of an amount is a fault's, if any: `, of which the fault holds 12.5 MiB`.
pub(crate) fn write_held(out: &mut fmt::Formatter<'_>, bytes: u64) -> fmt::Result {
    if bytes == 0 {
        return Ok(());
    }
    write!(out, ", of which the fault holds {}", Rounded(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_sizes_as_kubernetes_writes_them() {
        for (text, bytes) in [
            ("4096", 4096),
            ("64Mi", 64 << 20),
            ("1.5Gi", 3 << 29),
            (".5Ki", 512),
            ("500M", 500_000_000),
            ("1k", 1000),
            ("1024Ti", 1 << 50),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_size_with_the_reason() {
        for text in ["", "Mi", "ten", "1.2.3", "-1", "1e3", "64MB", "64 Mi", "80%"] {
            assert_eq!(text.parse::<Size>(), Err(BadSize::Syntax(text.to_owned())));
        }
        for text in ["0", "0Mi", "0.0001Ki"] {
            assert_eq!(text.parse::<Size>(), Err(BadSize::TooSmall(text.to_owned())));
        }
        for text in ["1025Ti", "99999999999999999999999999999999999999999999"] {
            assert_eq!(text.parse::<Size>(), Err(BadSize::TooLarge(text.to_owned())));
        }
    }

    #[test]
    fn rounds_for_people() {
        assert_eq!(Rounded(13 << 19).to_string(), "6.5 MiB");
        assert_eq!(Rounded(1000).to_string(), "1000 B");
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(bytes in 1u64..=(1 << 50)) {
            let value = Size(bytes);
            prop_assert_eq!(value.to_string().parse(), Ok(value));
        }

        #[test]
        fn no_text_panics(text in ".{0,20}") {
            let _ = text.parse::<Size>();
        }
    }
}
