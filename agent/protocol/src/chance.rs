//! What happens to some packets and not to others.

use std::{fmt, str::FromStr};

use crate::{
    BadOption, Percentage, serde_as_text,
    words::{Words, write_spaced},
};

const USAGE: &str = "PERCENT [CORRELATION]";

/// How likely something happens to a packet, and how much that depends on the packet before:
/// `1%` or `1% 25%`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chance {
    probability: Percentage,
    correlation: Percentage,
}

impl Chance {
    /// It never happens.
    pub const NONE: Self = Self { probability: Percentage::ZERO, correlation: Percentage::ZERO };

    /// Refuses a correlation of what never happens.
    pub fn new(probability: Percentage, correlation: Percentage) -> Result<Self, BadOption> {
        if probability.is_zero() && !correlation.is_zero() {
            return Err(BadOption::CorrelationOfNothing(correlation));
        }
        Ok(Self { probability, correlation })
    }

    /// How likely it is for a packet.
    pub const fn probability(self) -> Percentage {
        self.probability
    }

    /// How much of the dice's last throw is in the next.
    pub const fn correlation(self) -> Percentage {
        self.correlation
    }

    /// Whether it never happens.
    pub const fn is_none(&self) -> bool {
        self.probability.is_zero()
    }

    pub(crate) fn read(words: &mut Words<'_>) -> Result<Self, BadOption> {
        Self::new(words.value()?, words.number()?.unwrap_or_default())
    }
}

impl fmt::Display for Chance {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values: [&dyn fmt::Display; 2] = [&self.probability, &self.correlation];
        write_spaced(out, &values[..if self.correlation.is_zero() { 1 } else { 2 }])
    }
}

impl FromStr for Chance {
    type Err = BadOption;

    fn from_str(text: &str) -> Result<Self, BadOption> {
        let mut words = Words::new(text, USAGE);
        let chance = Self::read(&mut words)?;
        words.end()?;
        Ok(chance)
    }
}

serde_as_text!(Chance);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_a_correlation() {
        let chance: Chance = "1 25%".parse().unwrap();
        assert_eq!(chance.to_string(), "1% 25%");
        assert_eq!("1%".parse::<Chance>().unwrap().to_string(), "1%");
        assert!("0".parse::<Chance>().unwrap().is_none());
    }

    #[test]
    fn refuses_what_makes_no_sense_with_the_reason() {
        for (text, want) in [
            ("", "something is missing (write it as `PERCENT [CORRELATION]`)"),
            ("1% often", "`often` is not expected here (write it as `PERCENT [CORRELATION]`)"),
            ("1% 2% 3%", "`3%` is not expected here (write it as `PERCENT [CORRELATION]`)"),
            ("120%", "`120%` is not between 0% and 100%"),
            ("0% 25%", "a correlation of 25% needs a percentage above 0% that it correlates"),
        ] {
            assert_eq!(text.parse::<Chance>().unwrap_err().to_string(), want, "{text}");
        }
    }
}
