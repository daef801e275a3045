//! How delays are spread around their mean.

use std::{fmt, str::FromStr};

use crate::serde_as_text;

/// Why a distribution was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadDistribution {
    /// None of the known ones.
    #[error("`{0}` is not a distribution (uniform, normal, pareto, paretonormal or a table)")]
    Name(String),
    /// Not a number that fits into 16 bits.
    #[error("`{0}` is not a whole number from -32768 to 32767, as a table is made of")]
    Entry(String),
    /// Too few or too many numbers.
    #[error("a table has 1 to 16384 numbers, and not {0}")]
    Length(usize),
}

/// A shape. Around a delay d with a jitter j, a packet is held for d + x·j, where x is drawn from it.
///
/// As text its name; a table is `table:` and its numbers with commas between them, in one word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Distribution {
    /// Evenly from -1 to 1.
    #[default]
    Uniform,
    /// The bell curve: mean 0, standard deviation 1.
    Normal,
    /// Most just below the mean, few far above it.
    Pareto,
    /// A quarter normal, three quarters Pareto.
    Paretonormal,
    /// One that the user brought.
    Table(Table),
    /// One that the user brought, as far as it is known afterwards: the kernel does not give it back.
    SomeTable,
}

impl Distribution {
    /// Whether it is the one that the kernel needs no table for.
    pub const fn is_uniform(&self) -> bool {
        matches!(self, Self::Uniform)
    }

    /// Its name: what it prints as, without the numbers of a table.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Normal => "normal",
            Self::Pareto => "pareto",
            Self::Paretonormal => "paretonormal",
            Self::Table(_) | Self::SomeTable => "table",
        }
    }

    /// How many numbers it is made of that have to be sent with it.
    pub fn entries(&self) -> usize {
        if let Self::Table(table) = self { table.entries().len() } else { 0 }
    }

    /// The same, as it is known when only its name is.
    #[must_use]
    pub fn without_numbers(self) -> Self {
        if let Self::Table(_) = self { Self::SomeTable } else { self }
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())?;
        if let Self::Table(table) = self {
            for (index, entry) in table.entries().iter().enumerate() {
                write!(out, "{}{entry}", if index == 0 { ':' } else { ',' })?;
            }
        }
        Ok(())
    }
}

impl FromStr for Distribution {
    type Err = BadDistribution;

    fn from_str(text: &str) -> Result<Self, BadDistribution> {
        match text {
            "uniform" => Ok(Self::Uniform),
            "normal" => Ok(Self::Normal),
            "pareto" => Ok(Self::Pareto),
            "paretonormal" => Ok(Self::Paretonormal),
            "table" => Ok(Self::SomeTable),
            _ => {
                let numbers = text
                    .strip_prefix("table:")
                    .ok_or_else(|| BadDistribution::Name(text.chars().take(40).collect()))?;
                Table::from_numbers(numbers.split(',')).map(Self::Table)
            }
        }
    }
}

serde_as_text!(Distribution);

/// Quantiles of a distribution at even distances, scaled: 8192 is one jitter above the mean
/// (`NETEM_DIST_SCALE`, linux/pkt_sched.h). At least one and at most 16384 (`NETEM_DIST_MAX`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table(Vec<i16>);

impl Table {
    /// `NETEM_DIST_MAX`.
    pub const ENTRIES_MAX: usize = 16384;
    /// `NETEM_DIST_SCALE`.
    pub const SCALE: i16 = 8192;

    /// From its numbers, in any order: the kernel picks among them evenly.
    pub fn new(entries: Vec<i16>) -> Result<Self, BadDistribution> {
        if (1..=Self::ENTRIES_MAX).contains(&entries.len()) {
            Ok(Self(entries))
        } else {
            Err(BadDistribution::Length(entries.len()))
        }
    }

    /// From the text of a file as `tc` has them: numbers with white space between them; `#` starts a
    /// comment that goes to the end of the line.
    pub fn from_file(text: &str) -> Result<Self, BadDistribution> {
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
        Self::from_numbers(lines.flat_map(str::split_whitespace))
    }

    fn from_numbers<'a>(numbers: impl Iterator<Item = &'a str>) -> Result<Self, BadDistribution> {
        let entry = |text: &str| {
            text.parse().map_err(|_| BadDistribution::Entry(text.chars().take(40).collect()))
        };
        // No more than are needed to see that they are too many.
        Self::new(numbers.take(Self::ENTRIES_MAX + 1).map(entry).collect::<Result<_, _>>()?)
    }

    /// Its numbers.
    pub fn entries(&self) -> &[i16] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_files_as_tc_has_them() {
        let table = Table::from_file("# made by hand\n-8192 0\n\t8192 # one jitter\n\n").unwrap();
        assert_eq!(table.entries(), [-8192, 0, 8192]);
        assert_eq!(Distribution::Table(table).to_string(), "table:-8192,0,8192");
    }

    #[test]
    fn refuses_what_is_no_table_with_the_reason() {
        for (text, want) in [
            ("# nothing\n", "a table has 1 to 16384 numbers, and not 0"),
            (
                "1 2 three",
                "`three` is not a whole number from -32768 to 32767, as a table is made of",
            ),
            (
                "1 40000",
                "`40000` is not a whole number from -32768 to 32767, as a table is made of",
            ),
        ] {
            assert_eq!(Table::from_file(text).unwrap_err().to_string(), want);
        }
        let many = "0 ".repeat(Table::ENTRIES_MAX + 1);
        assert_eq!(Table::from_file(&many), Err(BadDistribution::Length(16385)));
        assert_eq!(
            "gauss".parse::<Distribution>().unwrap_err().to_string(),
            "`gauss` is not a distribution (uniform, normal, pareto, paretonormal or a table)"
        );
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(entries in proptest::collection::vec(any::<i16>(), 1..50)) {
            let table = Distribution::Table(Table::new(entries).unwrap());
            prop_assert_eq!(table.to_string().parse(), Ok(table));
        }

        #[test]
        fn no_text_panics(text in ".{0,20}") {
            let _ = text.parse::<Distribution>();
            let _ = Table::from_file(&text);
        }
    }
}
