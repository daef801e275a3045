//! What somebody may have meant who has written a name that is none.

/// Of these names the one that takes the fewest changes to get to, when that is few enough for its length.
pub(super) fn nearest<'a>(written: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = names.map(|name| (strsim::osa_distance(written, name), name)).min()?;
    (near.0 * 3 <= written.len() + 1).then_some(near.1)
}

/// In brackets, after what is wrong.
pub(super) fn advice(near: Option<&str>, otherwise: &str) -> String {
    near.map_or_else(|| otherwise.to_owned(), |near| format!("did you mean {near}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_letter_in_a_short_name_and_more_in_a_long_one() {
        let names = || ["read", "readv", "openat", "renameat2"].into_iter();
        for (written, near) in [
            ("raed", Some("read")),
            ("opnat", Some("openat")),
            ("rename2", Some("renameat2")),
            ("socket", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, names()), near, "{written}");
        }
    }
}
