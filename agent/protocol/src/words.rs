//! Options of netem as text: words with white space between them, as `tc` takes them.

use std::{fmt, str::FromStr};

use crate::{BadDistribution, BadPercentage, BadRate, BadTime, Percentage};

/// Why the words of an option were refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadOption {
    /// A word that has no place here.
    #[error("`{word}` is not expected here (write it as `{usage}`)")]
    Unexpected {
        /// As given.
        word: String,
        /// What would be.
        usage: &'static str,
    },
    /// The end, where something has to follow.
    #[error("something is missing (write it as `{usage}`)")]
    Missing {
        /// What would be right.
        usage: &'static str,
    },
    /// Not a number, or out of its bounds.
    #[error("`{word}` is not a whole number from {least} to {most}")]
    Number {
        /// As given.
        word: String,
        /// Lower bound.
        least: i64,
        /// Upper bound.
        most: i64,
    },
    /// A word that has to be a percentage.
    #[error(transparent)]
    Percentage(#[from] BadPercentage),
    /// A word that has to be a length of time.
    #[error(transparent)]
    Time(#[from] BadTime),
    /// A word that has to be a rate.
    #[error(transparent)]
    Rate(#[from] BadRate),
    /// A word that has to be a distribution.
    #[error(transparent)]
    Distribution(#[from] BadDistribution),
    /// What never happens has no correlation.
    #[error("a correlation of {0} needs a percentage above 0% that it correlates")]
    CorrelationOfNothing(Percentage),
    /// No packet is ever reordered, so there is no distance between two of them.
    #[error("a gap needs a percentage above 0% of packets that are reordered")]
    GapOfNothing,
    /// Two ways out of the same state.
    #[error("{0} and {1} are more than 100% together ({2})")]
    MoreThanAll(Percentage, Percentage, &'static str),
    /// A cell would take no time at all, or less.
    #[error("a cell overhead of {overhead} takes away all of a cell of {size} bytes")]
    CellOverhead {
        /// Bytes.
        overhead: i64,
        /// Bytes.
        size: u32,
    },
    /// The packets are not cut into cells.
    #[error("a cell overhead needs a cell size")]
    OverheadWithoutCell,
    /// The shortest time is above the longest.
    #[error("the shortest time between slots ({min}) is above the longest ({max})")]
    SlotOrder {
        /// As given.
        min: String,
        /// As given.
        max: String,
    },
    /// Slots without a distance are no slots.
    #[error("slots need a time between them above 0")]
    NoSlots,
    /// The kernel's arithmetic.
    #[error("the time between slots varies by {0}, more than netem can do, 2.147483647s")]
    SlotSpread(String),
    /// Slots would have to come before each other.
    #[error("the jitter of slots ({jitter}) is larger than the delay between them ({delay})")]
    SlotJitter {
        /// As given.
        delay: String,
        /// As given.
        jitter: String,
    },
}

/// The words of an option, one after the other.
pub(crate) struct Words<'a> {
    words: std::iter::Peekable<std::str::SplitWhitespace<'a>>,
    usage: &'static str,
}

impl<'a> Words<'a> {
    pub(crate) fn new(text: &'a str, usage: &'static str) -> Self {
        Self { words: text.split_whitespace().peekable(), usage }
    }

    /// Takes the next word when it is this one.
    pub(crate) fn skip(&mut self, word: &str) -> bool {
        self.words.next_if(|next| *next == word).is_some()
    }

    /// The next word, which has to be there.
    pub(crate) fn word(&mut self) -> Result<&'a str, BadOption> {
        self.words.next().ok_or(BadOption::Missing { usage: self.usage })
    }

    /// The next word as a value, which has to be there.
    pub(crate) fn value<T: FromStr>(&mut self) -> Result<T, BadOption>
    where
        BadOption: From<T::Err>,
    {
        Ok(self.word()?.parse()?)
    }

    /// The next word as a value, when it starts as a number does.
    pub(crate) fn number<T: FromStr>(&mut self) -> Result<Option<T>, BadOption>
    where
        BadOption: From<T::Err>,
    {
        let numeric = |word: &&str| {
            word.starts_with(|c: char| c.is_ascii_digit() || c == '.' || c == '-' || c == '+')
        };
        Ok(self.words.next_if(numeric).map(str::parse).transpose()?)
    }

    /// The next word as a whole number within these bounds, which has to be there.
    pub(crate) fn whole(&mut self, least: i64, most: i64) -> Result<i64, BadOption> {
        let word = self.word()?;
        let number = word.parse().ok().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| BadOption::Number { word: word.to_owned(), least, most })
    }

    /// As [`Words::whole`], when there is another word.
    pub(crate) fn optional_whole(
        &mut self,
        least: i64,
        most: i64,
    ) -> Result<Option<i64>, BadOption> {
        self.words.peek().is_some().then_some(()).map(|()| self.whole(least, most)).transpose()
    }

    /// Nothing may follow.
    pub(crate) fn end(mut self) -> Result<(), BadOption> {
        match self.words.next() {
            None => Ok(()),
            Some(word) => Err(BadOption::Unexpected { word: word.to_owned(), usage: self.usage }),
        }
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&mut self) -> bool {
        self.words.peek().is_none()
    }
}

/// Writes values with spaces between them.
pub(crate) fn write_spaced(
    out: &mut fmt::Formatter<'_>,
    values: &[&dyn fmt::Display],
) -> fmt::Result {
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            out.write_str(" ")?;
        }
        value.fmt(out)?;
    }
    Ok(())
}
