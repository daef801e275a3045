//! Data that is printed as a whole, in the formats that are not for people.

use std::io::{Write as _, stdout};

use serde_json::Value;

use crate::{exit::Error, plan::OutputFormat};

/// Prints a document, or the names of the `pods` that it is about, each once. As text it is JSON: who has sentences
/// for it prints those.
pub fn print<'a>(
    format: &OutputFormat,
    document: &Value,
    pods: impl IntoIterator<Item = &'a str>,
) -> Result<(), Error> {
    let mut out = stdout();
    match format {
        OutputFormat::Text | OutputFormat::Wide | OutputFormat::Json => {
            writeln!(out, "{document}")?;
        }
        OutputFormat::Yaml => {
            let text = serde_saphyr::to_string(document);
            let text = text.map_err(|error| Error::internal("writing YAML", error))?;
            write!(out, "{text}")?;
        }
        OutputFormat::Path(path) => writeln!(out, "{}", path.find(document))?,
        OutputFormat::Name => {
            let mut names: Vec<_> = pods.into_iter().collect();
            names.dedup();
            for name in names {
                writeln!(out, "pod/{name}")?;
            }
        }
    }
    Ok(())
}
