//! Lists of faults on system calls that are gone through one after another.

use std::{fs, path::Path};

use pod_chaos_protocol::{Call, SyscallFault};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::exit::{Error, Exit};

/// The list that comes along.
const PREMADE: &str = include_str!("premade.yaml");

/// Some calls, each by itself with each of some faults.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    each: Vec<Call>,
    /// As [`SyscallFault`] has it, without the calls.
    with: Vec<Map<String, Value>>,
}

/// The faults that come along, in their order.
pub fn premade() -> Result<Vec<SyscallFault>, Error> {
    parse(PREMADE, "the premade list")
}

/// Those of a file, YAML or JSON.
pub fn of_file(path: &Path) -> Result<Vec<SyscallFault>, Error> {
    let name = path.display().to_string();
    let text = fs::read_to_string(path)
        .map_err(|error| Error::new(Exit::Usage, format_args!("reading {name}: {error}")))?;
    parse(&text, &name)
}

fn parse(text: &str, name: &str) -> Result<Vec<SyscallFault>, Error> {
    let bad = |error: &dyn std::fmt::Display| {
        Error::new(Exit::Usage, format_args!("{name} is not a list of faults: {error}")).hint(
            "as `- each: [open, read]` and below it `  with: [{error: EIO}, {delay-enter: 1s}]`",
        )
    };
    let groups: Vec<Group> = serde_saphyr::from_str(text).map_err(|error| bad(&error))?;
    let mut faults = Vec::new();
    for Group { each, with } in groups {
        for call in each {
            for fault in &with {
                let mut fault = fault.clone();
                fault.insert("calls".to_owned(), Value::from(vec![call.to_string()]));
                let fault: SyscallFault =
                    serde_json::from_value(fault.into()).map_err(|error| bad(&error))?;
                fault.check().map_err(|error| bad(&format_args!("{call}: {error}")))?;
                faults.push(fault);
            }
        }
    }
    if faults.is_empty() { Err(bad(&"it is empty")) } else { Ok(faults) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_premade_list_makes_sense_and_names_each_fault_once() {
        let faults: Vec<_> = premade().unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(faults.iter().collect::<BTreeSet<_>>().len(), faults.len());
        assert_eq!((faults.len(), &*faults[0]), (56, "open: error EACCES"));
        assert_eq!(faults.last().unwrap(), "sendfile: delay-enter 5s");
    }

    #[test]
    fn refuses_what_makes_no_sense_with_the_reason() {
        for (text, why) in [
            ("[]", "it is empty"),
            ("- each: [opnat]\n  with: [{error: EIO}]", "`opnat` is not a system call"),
            ("- each: [open]\n  with: [{}]", "open: nothing would be done"),
            ("- each: [open]\n  with: [{eror: EIO}]", "unknown field `eror`"),
            ("- each: [open]\n  with: [{calls: [read], error: EWHAT}]", "EWHAT"),
            ("- faults: []", "unknown field"),
        ] {
            let error = parse(text, "list").unwrap_err();
            assert!(error.messages[0].contains(why), "{error}");
        }
    }
}
