//! Which packets are lost.

use std::{fmt, str::FromStr};

use crate::{
    BadOption, Chance, Percentage, serde_as_text,
    words::{Words, write_spaced},
};

const USAGE: &str = "[random] PERCENT [CORRELATION] | state P13 [P31 [P32 [P23 [P14]]]] | \
                     gemodel P [R [1-H [1-K]]]";

/// A model of loss, in `tc`'s words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// `1%`, `1% 25%`: each packet by itself, or a little as the one before.
    Random(Chance),
    /// `state …`: a chain of four states.
    State(FourStates),
    /// `gemodel …`: a chain of two states.
    Gemodel(GilbertElliott),
}

/// A Markov chain of four states ("loss state" of tc-netem(8)): 1 packets arrive, 2 they arrive within a
/// burst of losses, 3 they are lost within a burst, 4 one is lost alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FourStates {
    p13: Percentage,
    p31: Percentage,
    p32: Percentage,
    p23: Percentage,
    p14: Percentage,
}

/// A Markov chain of a good and a bad state ("loss gemodel" of tc-netem(8)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GilbertElliott {
    /// From good to bad.
    pub p: Percentage,
    /// From bad to good.
    pub r: Percentage,
    /// 1-h: lost while bad.
    pub bad: Percentage,
    /// 1-k: lost while good.
    pub good: Percentage,
}

impl FourStates {
    /// The probabilities in the order in which `tc` takes them: p13, p31, p32, p23, p14. Refuses two ways
    /// out of one state that are more than certain together.
    pub fn new([p13, p31, p32, p23, p14]: [Percentage; 5]) -> Result<Self, BadOption> {
        let fit = |one: Percentage, other: Percentage, which| {
            // Both may have been rounded up, by half a step each.
            let sum = u64::from(one.scaled()) + u64::from(other.scaled());
            if sum > u64::from(u32::MAX) + 1 {
                return Err(BadOption::MoreThanAll(one, other, which));
            }
            Ok(())
        };
        fit(p13, p14, "p13 and p14 lead out of state 1")?;
        fit(p31, p32, "p31 and p32 lead out of state 3")?;
        Ok(Self { p13, p31, p32, p23, p14 })
    }

    /// In the order in which `tc` takes them: p13, p31, p32, p23, p14.
    pub const fn probabilities(self) -> [Percentage; 5] {
        [self.p13, self.p31, self.p32, self.p23, self.p14]
    }
}

impl Loss {
    /// None at all.
    pub const NONE: Self = Self::Random(Chance::NONE);

    /// Whether no packet is ever lost.
    pub const fn is_none(&self) -> bool {
        match self {
            Self::Random(chance) => chance.is_none(),
            Self::State(chain) => chain.p13.is_zero() && chain.p14.is_zero(),
            Self::Gemodel(chain) => {
                chain.good.is_zero() && (chain.p.is_zero() || chain.bad.is_zero())
            }
        }
    }
}

impl Default for Loss {
    fn default() -> Self {
        Self::NONE
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random(chance) => chance.fmt(out),
            Self::State(FourStates { p13, p31, p32, p23, p14 }) => {
                write_spaced(out, &[&"state", p13, p31, p32, p23, p14])
            }
            Self::Gemodel(GilbertElliott { p, r, bad, good }) => {
                write_spaced(out, &[&"gemodel", p, r, bad, good])
            }
        }
    }
}

impl FromStr for Loss {
    type Err = BadOption;

    /// What is left out is what `tc` takes for it.
    fn from_str(text: &str) -> Result<Self, BadOption> {
        let mut words = Words::new(text, USAGE);
        let loss = if words.skip("state") {
            let p13: Percentage = words.value()?;
            let p31 = words.number()?.unwrap_or(p13.complement());
            let p32 = words.number()?.unwrap_or(Percentage::ZERO);
            let p23 = words.number()?.unwrap_or(Percentage::ALL);
            let p14 = words.number()?.unwrap_or(Percentage::ZERO);
            Self::State(FourStates::new([p13, p31, p32, p23, p14])?)
        } else if words.skip("gemodel") {
            let p: Percentage = words.value()?;
            let r = words.number()?.unwrap_or(p.complement());
            let bad = words.number()?.unwrap_or(Percentage::ALL);
            let good = words.number()?.unwrap_or(Percentage::ZERO);
            Self::Gemodel(GilbertElliott { p, r, bad, good })
        } else {
            words.skip("random");
            Self::Random(Chance::read(&mut words)?)
        };
        words.end()?;
        Ok(loss)
    }
}

serde_as_text!(Loss);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_tcs_words_and_fills_in_tcs_defaults() {
        for (text, printed) in [
            ("1%", "1%"),
            ("random 1 25", "1% 25%"),
            ("state 10%", "state 10% 90% 0% 100% 0%"),
            ("state 10% 50% 25% 75% 1%", "state 10% 50% 25% 75% 1%"),
            ("state 50% 50% 50% 50% 50%", "state 50% 50% 50% 50% 50%"),
            ("gemodel 1%", "gemodel 1% 99% 100% 0%"),
            ("gemodel 1% 10% 70% 0.1%", "gemodel 1% 10% 70% 0.1%"),
        ] {
            assert_eq!(text.parse::<Loss>().unwrap().to_string(), printed, "{text}");
        }
    }

    #[test]
    fn knows_when_nothing_is_lost() {
        for text in ["0%", "state 0%", "gemodel 0%", "gemodel 10% 10% 0% 0%"] {
            assert!(text.parse::<Loss>().unwrap().is_none(), "{text}");
        }
        for text in ["0.1%", "state 0% 0% 0% 0% 1%", "gemodel 0% 0% 0% 1%"] {
            assert!(!text.parse::<Loss>().unwrap().is_none(), "{text}");
        }
    }

    #[test]
    fn refuses_what_makes_no_sense_with_the_reason() {
        for (text, want) in [
            (
                "state 60% 10% 10% 10% 50%",
                "60% and 50% are more than 100% together (p13 and p14 lead out of state 1)",
            ),
            (
                "state 10% 60% 50%",
                "60% and 50% are more than 100% together (p31 and p32 lead out of state 3)",
            ),
            ("gemodel 1% 101%", "`101%` is not between 0% and 100%"),
        ] {
            assert_eq!(text.parse::<Loss>().unwrap_err().to_string(), want, "{text}");
        }
        for text in ["", "state", "gemodel", "burst 1%", "gemodel 1% 1% 1% 1% 1%"] {
            assert!(text.parse::<Loss>().is_err(), "{text}");
        }
    }
}
