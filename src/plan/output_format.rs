//! How data is printed on stdout, in kubectl's words.

use std::{fmt, str::FromStr};

use jsonpath_rust::{JsonPath as _, parser::parse_json_path};
use serde_json::Value;

/// Why a format was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFormat {
    /// No such format.
    #[error("`{0}` is not a format (text, wide, json, yaml, name or jsonpath=PATH)")]
    Unknown(String),
    /// Not a path.
    #[error("`{0}` is not a JSONPath, as {{.faults[*].pod}}: {1}")]
    Path(String, String),
}

/// A format.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OutputFormat {
    /// Sentences and tables.
    #[default]
    Text,
    /// Tables of more columns.
    Wide,
    /// A document; of what goes on for a while, a line for each event, and at last what it has come to.
    Json,
    /// A document.
    Yaml,
    /// The pods of that document, as kubectl takes them.
    Name,
    /// What is found at that path of the document.
    Path(Path),
}

impl OutputFormat {
    /// The names of all, as one begins to write them.
    pub const NAMES: [&str; 6] = ["text", "wide", "json", "yaml", "name", "jsonpath="];

    /// Whether it is for people.
    pub const fn is_text(&self) -> bool {
        matches!(self, Self::Text | Self::Wide)
    }
}

/// A JSONPath (RFC 9535), written as kubectl has it: in braces, and without `$`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    /// What is found there, with blanks in between; text without quotes.
    pub fn find(&self, document: &Value) -> String {
        let found = document.query(&self.0).unwrap_or_default();
        let text = |value: &&Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        found.iter().map(text).collect::<Vec<_>>().join(" ")
    }
}

/// kubectl takes `.age-ms` for a name, the RFC only `['age-ms']`. Filters are left as they are.
fn with_dashes_quoted(path: &str) -> String {
    let (mut text, mut depth, mut rest) = (String::new(), 0_u32, path);
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '.' if depth == 0 => rest[1..].find(['.', '[', ' ']).map_or(rest.len(), |at| at + 1),
            _ => first.len_utf8(),
        };
        let (part, after) = rest.split_at(end);
        match part.strip_prefix('.') {
            Some(name) if name.contains('-') => {
                // Of `..name` the dots stay.
                let dot = if text.ends_with('.') { "." } else { "" };
                text = format!("{text}{dot}['{name}']");
            }
            _ => text.push_str(part),
        }
        match first {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        rest = after;
    }
    text
}

impl FromStr for OutputFormat {
    type Err = BadFormat;

    fn from_str(text: &str) -> Result<Self, BadFormat> {
        match text.split_once('=').unwrap_or((text, "")) {
            ("text", "") => Ok(Self::Text),
            ("wide", "") => Ok(Self::Wide),
            ("json", "") => Ok(Self::Json),
            ("yaml", "") => Ok(Self::Yaml),
            ("name", "") => Ok(Self::Name),
            ("jsonpath", path) => {
                let bare = path.strip_prefix('{').and_then(|it| it.strip_suffix('}'));
                let bare = bare.unwrap_or(path).trim();
                let whole =
                    if bare.starts_with('$') { bare.to_owned() } else { format!("${bare}") };
                let whole = with_dashes_quoted(&whole);
                let bad =
                    |error: &dyn fmt::Display| BadFormat::Path(path.to_owned(), error.to_string());
                parse_json_path(&whole).map_err(|error| bad(&error))?;
                Ok(Self::Path(Path(whole)))
            }
            _ => Err(BadFormat::Unknown(text.to_owned())),
        }
    }
}

impl fmt::Display for OutputFormat {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => out.write_str("text"),
            Self::Wide => out.write_str("wide"),
            Self::Json => out.write_str("json"),
            Self::Yaml => out.write_str("yaml"),
            Self::Name => out.write_str("name"),
            Self::Path(Path(path)) => write!(out, "jsonpath={{{path}}}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_are_written_as_kubectl_has_them() {
        let document = json!({"faults": [{"pod": "a", "age-ms": 1}, {"pod": "b", "age-ms": 2}]});
        for (path, found) in [
            ("{.faults[*].pod}", "a b"),
            (".faults[0].pod", "a"),
            ("{$.faults[*]['age-ms']}", "1 2"),
            ("{.faults[?@.pod=='b']['age-ms']}", "2"),
            ("{.faults[*].age-ms}", "1 2"),
            ("{..age-ms}", "1 2"),
            ("{.faults[?@.pod=='b'].age-ms}", "2"),
            ("{.nothing}", ""),
        ] {
            match format!("jsonpath={path}").parse().unwrap() {
                OutputFormat::Path(path) => assert_eq!(path.find(&document), found),
                other => panic!("{path}: {other:?}"),
            }
        }
        for text in ["xml", "", "json=1", "jsonpath={.a[}"] {
            assert!(text.parse::<OutputFormat>().is_err(), "{text}");
        }
        for text in ["text", "wide", "json", "yaml", "name"] {
            assert_eq!(text.parse::<OutputFormat>().unwrap().to_string(), text);
        }
    }
}
