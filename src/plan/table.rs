//! Tables of distributions in files of the user's.

use std::{fs::File, io::Read as _, path::Path};

use pod_chaos_protocol::{BadDistribution, BadOption, Distribution, Slot, Table};

/// Why a distribution could not be had.
#[derive(Debug, thiserror::Error)]
pub enum BadTable {
    /// Neither a name nor a file.
    #[error("{name}, and no file: {error}")]
    NoFile {
        /// What it is not.
        name: BadDistribution,
        /// Why it cannot be read.
        error: std::io::Error,
    },
    /// A file of something else.
    #[error("{path}: {error}")]
    File {
        /// As given.
        path: String,
        /// What is wrong with it.
        error: BadDistribution,
    },
    /// What a slot has besides a distribution.
    #[error(transparent)]
    Slot(#[from] BadOption),
}

/// Bytes of a file that are read: more than a table can have.
const FILE_MAX: u64 = 1 << 20;

/// A distribution by its name, or from a file.
pub fn distribution(text: &str) -> Result<Distribution, BadTable> {
    // `table` alone is what is left of one when the kernel has it.
    match text.parse() {
        Ok(known) if known != Distribution::SomeTable => Ok(known),
        known => {
            let name = known.err().unwrap_or_else(|| BadDistribution::Name(text.to_owned()));
            let content =
                read(Path::new(text)).map_err(|error| BadTable::NoFile { name, error })?;
            let table = Table::from_file(&content)
                .map_err(|error| BadTable::File { path: text.to_owned(), error })?;
            Ok(Distribution::Table(table))
        }
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut content = String::new();
    File::open(path)?.take(FILE_MAX).read_to_string(&mut content)?;
    Ok(content)
}

/// A slot, whose distribution may be in a file.
pub fn slot(text: &str) -> Result<Slot, BadTable> {
    let mut words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
    if let ["distribution", name, ..] = *words.iter().map(String::as_str).collect::<Vec<_>>() {
        words[1] = distribution(name)?.to_string();
    }
    Ok(words.join(" ").parse()?)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_name_wins_over_a_file() {
        assert_eq!(distribution("normal").unwrap(), Distribution::Normal);
        assert_eq!(
            distribution("gauss").unwrap_err().to_string(),
            "`gauss` is not a distribution (uniform, normal, pareto, paretonormal or a table), \
             and no file: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn files_are_read() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "# steps\n-8192 0\n8192").unwrap();
        let path = &file.path().to_str().unwrap().to_owned();
        assert_eq!(distribution(path).unwrap().to_string(), "table:-8192,0,8192");
        assert_eq!(
            slot(&format!("distribution {path} 1ms 100us bytes 9")).unwrap().to_string(),
            "distribution table:-8192,0,8192 1ms 100us bytes 9"
        );
        writeln!(file, "many").unwrap();
        let error = distribution(path).unwrap_err().to_string();
        assert!(error.ends_with(
            ": `many` is not a whole number from -32768 to 32767, as a table is made of"
        ));
    }
}
