//! Regular expressions over names.

use std::{fmt, str::FromStr};

use regex_lite::Regex;

/// Why a regular expression was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a regular expression: {1}")]
pub struct BadPattern(String, String);

/// A regular expression; it may be found anywhere in a name unless it says `^` and `$`.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// Whether it is found in this name.
    pub fn is_in(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0.as_str())
    }
}

impl FromStr for Pattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        Regex::new(text).map(Self).map_err(|error| BadPattern(text.to_owned(), error.to_string()))
    }
}
