//! Hitting a part of the traffic only.

use std::{fmt, num::NonZeroU32, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::serde_as_text;

/// Why a share was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a share of connections (more than 0 and at most 100 %, two decimals: 30, 0.5%)"
)]
pub struct BadShare(String);

/// Which of the packets that match are hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Sample {
    /// One packet in so many, the first, then every so many later.
    Every(NonZeroU32),
    /// This share of connections: all packets of a connection are hit, in both directions, or none.
    Connections(Share),
}

impl fmt::Display for Sample {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(number) => write!(out, "one packet in {number}"),
            Self::Connections(share) => write!(out, "{share} of connections"),
        }
    }
}

/// A part of the whole, in hundredths of a percent: from 0.01 % to 100 %.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u16);

impl Share {
    /// All of it.
    pub const WHOLE: Self = Self(10_000);

    /// Of ten thousand.
    pub const fn of_ten_thousand(self) -> u16 {
        self.0
    }

    /// From so many of ten thousand; `None` for none and for more than all.
    pub fn from_ten_thousandths(number: u16) -> Option<Self> {
        (1..=Self::WHOLE.0).contains(&number).then_some(Self(number))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 100, self.0 % 100);
        match (rest, rest % 10) {
            (0, _) => write!(out, "{whole}%"),
            (_, 0) => write!(out, "{whole}.{}%", rest / 10),
            _ => write!(out, "{whole}.{rest:02}%"),
        }
    }
}

impl FromStr for Share {
    type Err = BadShare;

    fn from_str(text: &str) -> Result<Self, BadShare> {
        let bad = || BadShare(text.to_owned());
        let number = text.trim();
        let number = number.strip_suffix('%').unwrap_or(number).trim_end();
        let (whole, rest) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(rest) || rest.len() > 2 || whole.len() > 3 {
            return Err(bad());
        }
        let rest: u16 = format!("{rest:0<2}").parse().map_err(|_| bad())?;
        let whole: u16 = whole.parse().map_err(|_| bad())?;
        Self::from_ten_thousandths(whole.saturating_mul(100).saturating_add(rest)).ok_or_else(bad)
    }
}

serde_as_text!(Share);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_percents_with_and_without_the_sign() {
        for (text, want) in
            [("30", 3000), ("30%", 3000), ("0.5%", 50), ("0.01", 1), ("100 %", 10_000)]
        {
            assert_eq!(text.parse::<Share>().unwrap().of_ten_thousand(), want, "{text}");
        }
        for text in
            ["", "0", "0.00", "101", "656", "100.01", "-1", "1.234", "x", "%", "1e2", "99999"]
        {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(number in 1u16..=10_000) {
            let share = Share::from_ten_thousandths(number).unwrap();
            prop_assert_eq!(share.to_string().parse(), Ok(share));
        }

        #[test]
        fn no_text_panics(text in ".{0,12}") {
            let _ = text.parse::<Share>();
        }
    }
}
