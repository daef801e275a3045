//! Which packets overtake others.

use std::{fmt, num::NonZeroU32, str::FromStr};

use crate::{BadOption, Chance, serde_as_text, words::Words};

const USAGE: &str = "PERCENT [CORRELATION] [gap DISTANCE]";

/// Packets that are sent at once, while the others are delayed: `25%`, `25% 50%`, `25% gap 5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reorder {
    chance: Chance,
    gap: NonZeroU32,
}

impl Reorder {
    /// No packet.
    pub const NONE: Self = Self { chance: Chance::NONE, gap: NonZeroU32::MIN };

    /// Refuses a gap between packets when there are none.
    pub fn new(chance: Chance, gap: NonZeroU32) -> Result<Self, BadOption> {
        if chance.is_none() && gap != NonZeroU32::MIN {
            return Err(BadOption::GapOfNothing);
        }
        Ok(Self { chance, gap })
    }

    /// How likely a packet is sent at once, when it is its turn.
    pub const fn chance(self) -> Chance {
        self.chance
    }

    /// Every how many packets it may be: 1 is any of them.
    pub const fn gap(self) -> NonZeroU32 {
        self.gap
    }

    /// Whether no packet is ever reordered.
    pub const fn is_none(&self) -> bool {
        self.chance.is_none()
    }
}

impl Default for Reorder {
    fn default() -> Self {
        Self::NONE
    }
}

impl fmt::Display for Reorder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.chance.fmt(out)?;
        if self.gap == NonZeroU32::MIN { Ok(()) } else { write!(out, " gap {}", self.gap) }
    }
}

impl FromStr for Reorder {
    type Err = BadOption;

    fn from_str(text: &str) -> Result<Self, BadOption> {
        let mut words = Words::new(text, USAGE);
        let chance = Chance::read(&mut words)?;
        let gap = if words.skip("gap") { words.whole(1, i64::from(u32::MAX))? } else { 1 };
        words.end()?;
        let gap = u32::try_from(gap).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
        Self::new(chance, gap)
    }
}

serde_as_text!(Reorder);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_tcs_words() {
        for text in ["25%", "25% 50%", "25% gap 5", "25% 50% gap 5"] {
            assert_eq!(text.parse::<Reorder>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses_what_makes_no_sense_with_the_reason() {
        for (text, want) in [
            ("gap 5", "`gap` is not a percentage (write it as 10%, 0.1% or 10)"),
            ("0% gap 5", "a gap needs a percentage above 0% of packets that are reordered"),
            ("25% gap 0", "`0` is not a whole number from 1 to 4294967295"),
            (
                "25% gap",
                "something is missing (write it as `PERCENT [CORRELATION] [gap DISTANCE]`)",
            ),
        ] {
            assert_eq!(text.parse::<Reorder>().unwrap_err().to_string(), want, "{text}");
        }
    }
}
