//! Percentages, as exact as the kernel's netem has them.

use std::{fmt, str::FromStr};

use crate::serde_as_text;

/// Why a percentage was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadPercentage {
    /// Not a number.
    #[error("`{0}` is not a percentage (write it as 10%, 0.1% or 10)")]
    Syntax(String),
    /// Below zero, or above a hundred.
    #[error("`{0}` is not between 0% and 100%")]
    Range(String),
}

/// A part of a whole, 0% to 100%, in steps of 1/4294967295: the `__u32` of linux/pkt_sched.h's
/// `struct tc_netem_qopt` and its like, where the largest number is a certainty.
///
/// As text `10%`, `0.1%` or, as `tc` takes it too, `10`. It prints with no more digits than it needs to be
/// read back as the same number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percentage(u32);

/// Above this many digits after the point every value of 32 bits has been told apart.
const DIGITS_MAX: u32 = 9;

impl Percentage {
    /// Never.
    pub const ZERO: Self = Self(0);
    /// Always.
    pub const ALL: Self = Self(u32::MAX);

    /// From the kernel's number.
    pub const fn from_scaled(scaled: u32) -> Self {
        Self(scaled)
    }

    /// As the kernel has it: 4294967295 is 100%.
    pub const fn scaled(self) -> u32 {
        self.0
    }

    /// As a fraction of one.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / f64::from(u32::MAX)
    }

    /// What is missing to 100%, in the decimals that it prints with: 90% for 10%, although both are rounded
    /// up to a step.
    #[must_use]
    pub fn complement(self) -> Self {
        let (number, digits) = self.decimal();
        Self::nearest(100 * 10u128.pow(digits) - number, digits).unwrap_or_default()
    }

    /// Whether it is nothing at all.
    pub const fn is_zero(&self) -> bool {
        self.0 == 0
    }

    /// The shortest decimal that stands for it: percent times 10 to the power of the digits, and these.
    fn decimal(self) -> (u128, u32) {
        let number = |digits| {
            let number = u128::from(self.0) * 100 * 10u128.pow(digits);
            (number + u128::from(u32::MAX / 2)) / u128::from(u32::MAX)
        };
        let short = |digits: &u32| Self::nearest(number(*digits), *digits) == Some(self);
        let digits = (0..DIGITS_MAX).find(short).unwrap_or(DIGITS_MAX);
        (number(digits), digits)
    }

    /// The nearest to `number` divided by 10 to the power of `digits`, in percent; `None` above 100%.
    fn nearest(number: u128, digits: u32) -> Option<Self> {
        let whole = 100 * 10u128.pow(digits);
        let scaled = (number * u128::from(u32::MAX) + whole / 2) / whole;
        if number > whole { None } else { u32::try_from(scaled).ok().map(Self) }
    }
}

impl fmt::Display for Percentage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, digits) = self.decimal();
        let place = 10u128.pow(digits);
        write!(out, "{}", number / place)?;
        if digits > 0 {
            write!(out, ".{:0width$}", number % place, width = digits as usize)?;
        }
        out.write_str("%")
    }
}

impl FromStr for Percentage {
    type Err = BadPercentage;

    fn from_str(text: &str) -> Result<Self, BadPercentage> {
        let syntax = || BadPercentage::Syntax(text.to_owned());
        let range = || BadPercentage::Range(text.to_owned());
        let trimmed = text.trim();
        let trimmed = trimmed.strip_suffix('%').unwrap_or(trimmed).trim_end();
        let negative = trimmed.starts_with('-');
        let number = trimmed.strip_prefix('-').unwrap_or(trimmed);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || whole.len() + fraction.len() == 0 {
            return Err(syntax());
        }
        // What is finer than this makes no difference in 32 bits.
        let fraction = &fraction[..fraction.len().min(15)];
        if negative || whole.trim_start_matches('0').len() > 3 {
            return Err(range());
        }
        let number = format!("0{whole}{fraction}").parse::<u128>().map_err(|_| range())?;
        Self::nearest(number, u32::try_from(fraction.len()).unwrap_or(0)).ok_or_else(range)
    }
}

serde_as_text!(Percentage);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_percentages_with_and_without_the_sign() {
        for (text, scaled) in [
            ("0", 0),
            ("100%", u32::MAX),
            ("100.000", u32::MAX),
            ("10%", 429_496_730),
            ("10", 429_496_730),
            ("0.1%", 4_294_967),
            (".5 %", 21_474_836),
            // As tc rounds it: it is the half of neither 2³² nor 2³² - 1.
            ("50%", 0x8000_0000),
            ("33.333333333333333333333", 1_431_655_765),
        ] {
            assert_eq!(text.parse(), Ok(Percentage(scaled)), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_percentage_with_the_reason() {
        for text in ["", "%", "ten", "1.2.3%", "1e2", "--1"] {
            let error = text.parse::<Percentage>().unwrap_err();
            assert_eq!(error, BadPercentage::Syntax(text.to_owned()));
        }
        for text in ["-1%", "100.1%", "101", "99999999999999999999999999999999999999999999"] {
            let error = text.parse::<Percentage>().unwrap_err().to_string();
            assert_eq!(error, format!("`{text}` is not between 0% and 100%"));
        }
    }

    #[test]
    fn prints_no_more_digits_than_it_needs() {
        for text in ["0%", "100%", "50%", "0.1%", "33.3%", "99.99%", "0.000001%"] {
            assert_eq!(text.parse::<Percentage>().unwrap().to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(scaled: u32) {
            let value = Percentage(scaled);
            prop_assert_eq!(value.to_string().parse(), Ok(value));
            let json = serde_json::to_string(&value).unwrap();
            prop_assert_eq!(serde_json::from_str::<Percentage>(&json).unwrap(), value);
        }

        #[test]
        fn no_text_panics(text in ".{0,20}") {
            let _ = text.parse::<Percentage>();
        }
    }
}
