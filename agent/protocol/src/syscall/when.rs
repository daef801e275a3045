//! Which invocations of a system call are hit.

use std::{fmt, num::NonZeroU32, str::FromStr};

use crate::serde_as_text;

/// Why such a range was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadWhen {
    /// Not of this form.
    #[error("`{0}` does not say which invocations (write it as 3, 3.., 3..7, 3..+2 or 3..7+2)")]
    Syntax(String),
    /// Never.
    #[error("`{0}` ends before it begins")]
    Order(String),
}

/// Invocations by number, as strace's `when=` has them (strace(1), "Tampering"): `FIRST[..LAST][+STEP]`.
///
/// | text | hits |
/// |---|---|
/// | `3` | the third |
/// | `3..` (strace: `3+`) | the third and all after it |
/// | `3..7` | the third to the seventh |
/// | `3..+2` (strace: `3+2`) | the third, the fifth, the seventh, … |
/// | `3..7+2` | the third, the fifth, the seventh |
///
/// As with strace each thread counts for itself, each call for itself, from the moment that it is traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct When {
    first: NonZeroU32,
    /// Inclusive.
    last: Option<NonZeroU32>,
    step: NonZeroU32,
}

impl When {
    /// Every one.
    pub const ALWAYS: Self = Self { first: NonZeroU32::MIN, last: None, step: NonZeroU32::MIN };

    /// Whether the invocation with this number, counted from 1, is hit.
    pub const fn matches(self, number: u32) -> bool {
        let first = self.first.get();
        let ended = matches!(self.last, Some(last) if number > last.get());
        number >= first && !ended && (number - first).is_multiple_of(self.step.get())
    }

    /// Whether it is every one.
    pub fn is_always(&self) -> bool {
        *self == Self::ALWAYS
    }
}

impl Default for When {
    fn default() -> Self {
        Self::ALWAYS
    }
}

impl fmt::Display for When {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last, step } = *self;
        write!(out, "{first}")?;
        match last {
            Some(last) if last == first => {}
            Some(last) => write!(out, "..{last}")?,
            None => out.write_str("..")?,
        }
        if step > NonZeroU32::MIN { write!(out, "+{step}") } else { Ok(()) }
    }
}

impl FromStr for When {
    type Err = BadWhen;

    fn from_str(text: &str) -> Result<Self, BadWhen> {
        let syntax = || BadWhen::Syntax(text.to_owned());
        let number = |part: &str| {
            let digits = part.bytes().all(|b| b.is_ascii_digit());
            part.parse::<NonZeroU32>().ok().filter(|_| digits).ok_or_else(syntax)
        };
        let (range, step) = match text.trim().split_once('+') {
            Some((range, step)) => (range, Some(step)),
            None => (text.trim(), None),
        };
        let (first, last) = match range.split_once("..") {
            None => (number(range)?, step.is_none().then(|| number(range)).transpose()?),
            Some((first, "")) => (number(first)?, None),
            Some((first, last)) => (number(first)?, Some(number(last)?)),
        };
        // `3+` is strace's for what is `3..` here.
        let step = step
            .filter(|step| !step.is_empty())
            .map(number)
            .transpose()?
            .unwrap_or(NonZeroU32::MIN);
        if last.is_some_and(|last| last < first) {
            return Err(BadWhen::Order(text.to_owned()));
        }
        // So that there is one way to say it.
        let step = if last == Some(first) { NonZeroU32::MIN } else { step };
        Ok(Self { first, last, step })
    }
}

serde_as_text!(When);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hits_what_strace_hits() {
        for (text, hits) in [
            ("3", &[3][..]),
            ("3..", &[3, 4, 5, 6, 7, 8, 9]),
            ("3+", &[3, 4, 5, 6, 7, 8, 9]),
            ("3..7", &[3, 4, 5, 6, 7]),
            ("3..+2", &[3, 5, 7, 9]),
            ("3+2", &[3, 5, 7, 9]),
            ("3..8+2", &[3, 5, 7]),
            ("1..", &[1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ] {
            let when: When = text.parse().unwrap();
            let hit: Vec<u32> = (1..10).filter(|number| when.matches(*number)).collect();
            assert_eq!(hit, hits, "{text}");
        }
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        for text in [
            "",
            "0",
            "..",
            "..3",
            "-1",
            "3...7",
            "3..7+0",
            "x",
            "1..2..3",
            "+2",
            "4294967296",
            "3..+-1",
        ] {
            assert_eq!(text.parse::<When>(), Err(BadWhen::Syntax(text.to_owned())), "{text}");
        }
        assert_eq!("7..3".parse::<When>().unwrap_err().to_string(), "`7..3` ends before it begins");
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(first in 1u32.., length: Option<u32>, step in 1u32..) {
            let mut text = format!("{first}..");
            if let Some(last) = length.map(|length| first.saturating_add(length)) {
                text.push_str(&last.to_string());
            }
            let when: When = format!("{text}+{step}").parse().unwrap();
            prop_assert_eq!(when.to_string().parse(), Ok(when));
        }

        #[test]
        fn no_text_panics(text in ".{0,20}") {
            let _ = text.parse::<When>();
        }
    }
}
