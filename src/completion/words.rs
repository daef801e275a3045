//! A command line that is not finished, read for the flags that say where to look.

use std::ffi::OsString;

/// The words before and at the one that is completed.
pub(super) struct Words<'a>(pub(super) &'a [OsString]);

impl Words<'_> {
    /// What there is of the word that is completed.
    pub(super) fn typed(&self) -> String {
        self.0.last().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// The value of a flag, the last one if there are several: `--namespace demo`, `--namespace=demo`, `-n demo`
    /// or `-ndemo`. The word that is completed counts as none.
    pub(super) fn value(&self, long: &str, short: Option<char>) -> Option<String> {
        let words: Vec<_> = self.0.iter().map(|word| word.to_string_lossy()).collect();
        let (_, before) = words.split_last()?;
        let long = format!("--{long}");
        let short = short.map(|letter| format!("-{letter}"));
        let mut found = None;
        for (at, word) in before.iter().enumerate() {
            if *word == long || Some(&**word) == short.as_deref() {
                found = before.get(at + 1).map(ToString::to_string).or(found);
            } else if let Some(value) = word.strip_prefix(&long).and_then(|it| it.strip_prefix('='))
            {
                found = Some(value.to_owned());
            } else if let Some(value) = short.as_deref().and_then(|short| word.strip_prefix(short))
            {
                found = Some(value.trim_start_matches('=').to_owned());
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(words: &str) -> Option<String> {
        let words: Vec<OsString> = words.split(' ').map(OsString::from).collect();
        Words(&words).value("namespace", Some('n'))
    }

    #[test]
    fn finds_a_flag_however_it_is_written() {
        for words in
            ["-n demo -p ", "-ndemo ", "-n=demo ", "--namespace demo ", "--namespace=demo "]
        {
            assert_eq!(value(words).as_deref(), Some("demo"), "{words}");
        }
        assert_eq!(value("-n one -n two -p ").as_deref(), Some("two"));
    }

    #[test]
    fn what_is_being_typed_is_no_value_yet() {
        for words in ["-n de", "--namespace=de", "-n ", "", "disrupt -p web"] {
            assert_eq!(value(words), None, "{words}");
        }
    }
}
