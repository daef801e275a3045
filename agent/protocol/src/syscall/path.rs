//! Files by path.

use std::{fmt, str::FromStr};

use crate::serde_as_text;

/// Why a path was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadPath {
    /// It would depend on who reads it.
    #[error("`{0}` does not begin at the root (write it as /etc/passwd or /data/*)")]
    Relative(String),
    /// No program could name it.
    #[error("a path of more than {max} bytes, or with a zero byte", max = PathPattern::LENGTH_MAX)]
    TooLong,
}

/// A path from the container's root, where `*` stands for any characters, `/` too: `/etc/passwd`, `/data/*`.
///
/// It is compared with the path that a program names, taken from where the program is, without `.`, `..` and
/// double slashes. Symbolic links are not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern(String);

impl PathPattern {
    /// The longest that a program can name (PATH_MAX, linux/limits.h).
    pub const LENGTH_MAX: usize = 4096;

    /// Whether this path is meant.
    pub fn matches(&self, path: &[u8]) -> bool {
        let mut parts = self.0.as_bytes().split(|byte| *byte == b'*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = path.strip_prefix(first) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        for part in parts {
            let Some(at) = find(rest, part) else { return false };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}

/// Where `part` first is in `text`.
fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    if part.is_empty() {
        return Some(0);
    }
    text.windows(part.len()).position(|window| window == part)
}

impl fmt::Display for PathPattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl FromStr for PathPattern {
    type Err = BadPath;

    fn from_str(text: &str) -> Result<Self, BadPath> {
        if !text.starts_with('/') {
            return Err(BadPath::Relative(text.to_owned()));
        }
        if text.len() > Self::LENGTH_MAX || text.contains('\0') {
            return Err(BadPath::TooLong);
        }
        Ok(Self(text.to_owned()))
    }
}

serde_as_text!(PathPattern);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_star_is_any_characters() {
        for (pattern, path, want) in [
            ("/etc/passwd", "/etc/passwd", true),
            ("/etc/passwd", "/etc/passwd-", false),
            ("/etc/passwd", "/etc", false),
            ("/data/*", "/data/a/b", true),
            ("/data/*", "/data", false),
            ("/data*", "/data", true),
            ("/*/log/*.txt", "/var/log/a/b.txt", true),
            ("/*/log/*.txt", "/var/log/.txtx", false),
            ("/a*a", "/a", false),
            ("/**", "/x", true),
        ] {
            let matches = pattern.parse::<PathPattern>().unwrap().matches(path.as_bytes());
            assert_eq!(matches, want, "{pattern} {path}");
        }
        assert!("etc".parse::<PathPattern>().is_err());
        assert!("".parse::<PathPattern>().is_err());
    }

    proptest! {
        #[test]
        fn a_path_with_a_part_left_out_still_matches(a in "[a-c/]{0,8}", b in "[a-c/]{0,8}", c in "[a-c/]{0,8}") {
            let pattern: PathPattern = format!("/{a}*{c}").parse().unwrap();
            let path = format!("/{a}{b}{c}");
            prop_assert!(pattern.matches(path.as_bytes()));
        }
    }
}
