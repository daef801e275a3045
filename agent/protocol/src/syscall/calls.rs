//! System calls by name, one by one and in sets.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    catalogue::{FAMILIES, FILE_ARGUMENTS, FileArgument, SETS, WITHOUT_RESULT},
    nearest::{advice, nearest},
};
use crate::serde_as_text;

/// Why the name of a system call was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadCall {
    /// No such call.
    #[error("`{name}` is not a system call ({})", advice(*near, "write it as openat; syscalls(2) lists them"))]
    Unknown {
        /// As written.
        name: String,
        /// What may be meant.
        near: Option<&'static str>,
    },
    /// No such set.
    #[error("`{0}` is not a set of system calls (those are {sets})", sets = Set::LIST)]
    UnknownSet(String),
}

/// What a machine's system calls go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Architecture {
    /// arch/x86/entry/syscalls/syscall_64.tbl.
    X86_64,
    /// include/uapi/asm-generic/unistd.h.
    Aarch64,
}

impl Architecture {
    /// The number of the call with this name, which is one of [`Call`]'s; `None` when there is none here.
    fn number(self, name: &str) -> Option<u32> {
        let number = match (self, name) {
            (Self::X86_64, name) => name.parse::<syscalls::x86_64::Sysno>().ok()?.id(),
            // The same call, which the header of this architecture names otherwise.
            (Self::Aarch64, "newfstatat") => syscalls::aarch64::Sysno::fstatat.id(),
            (Self::Aarch64, name) => name.parse::<syscalls::aarch64::Sysno>().ok()?.id(),
        };
        u32::try_from(number).ok()
    }
}

/// Many calls by what they are about, as strace's `-e trace=%file` has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "strace(1) has them")]
pub enum Set {
    File,
    Desc,
    Process,
    Network,
    Signal,
    Ipc,
    Memory,
    Creds,
    Clock,
}

impl Set {
    /// Their names.
    pub const LIST: &'static str =
        "file, desc, process, network, signal, ipc, memory, creds, clock";
    const NAMES: [(Self, &'static str); 9] = [
        (Self::File, "file"),
        (Self::Desc, "desc"),
        (Self::Process, "process"),
        (Self::Network, "network"),
        (Self::Signal, "signal"),
        (Self::Ipc, "ipc"),
        (Self::Memory, "memory"),
        (Self::Creds, "creds"),
        (Self::Clock, "clock"),
    ];

    /// The names of its calls.
    pub fn calls(self) -> &'static [&'static str] {
        SETS.iter().find(|(set, _)| *set == self).map_or(&[], |(_, calls)| calls)
    }
}

impl fmt::Display for Set {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(set, _)| set == self).map_or("", |(_, name)| name);
        out.write_str(name)
    }
}

impl FromStr for Set {
    type Err = BadCall;

    fn from_str(text: &str) -> Result<Self, BadCall> {
        let name = text.trim();
        let known = Self::NAMES.iter().find(|(_, known)| *known == name);
        known.map(|(set, _)| *set).ok_or_else(|| BadCall::UnknownSet(text.to_owned()))
    }
}

serde_as_text!(Set);

/// One name: of a system call (`openat`), of a function of the C library that may end up in several of them
/// (`open`, see [`Call::calls`]), or of a set (`%file`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Of a call or of a function.
    Named(&'static str),
    /// Of a set.
    Set(Set),
}

impl Call {
    /// The names of the system calls that are meant.
    pub fn calls(&self) -> &[&'static str] {
        match self {
            Self::Set(set) => set.calls(),
            Self::Named(name) => match FAMILIES.iter().find(|(family, _)| family == name) {
                Some((_, calls)) => calls,
                None => std::slice::from_ref(name),
            },
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => out.write_str(name),
            Self::Set(set) => write!(out, "%{set}"),
        }
    }
}

impl FromStr for Call {
    type Err = BadCall;

    fn from_str(text: &str) -> Result<Self, BadCall> {
        let name = text.trim();
        if let Some(set) = name.strip_prefix('%') {
            return set.parse().map(Self::Set);
        }
        let family = FAMILIES.iter().find(|(family, _)| *family == name).map(|(family, _)| *family);
        // x86-64 has all the calls of AArch64.
        let known = || name.parse::<syscalls::x86_64::Sysno>().ok().map(|call| call.name());
        family.or_else(known).map(Self::Named).ok_or_else(|| {
            let families = FAMILIES.iter().map(|(family, _)| *family);
            let all = families.chain(syscalls::x86_64::Sysno::iter().map(|call| call.name()));
            BadCall::Unknown { name: text.to_owned(), near: nearest(name, all) }
        })
    }
}

serde_as_text!(Call);

/// What is known of a system call that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Its name.
    pub name: &'static str,
    /// Its arguments that name files.
    pub files: &'static [FileArgument],
}

/// Some system calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Calls(Vec<Call>);

impl Calls {
    /// All that these names mean together.
    pub const fn new(calls: Vec<Call>) -> Self {
        Self(calls)
    }

    /// Whether no name was given.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The calls that are meant, each once, without those of sets that cannot fail when they have to.
    pub fn chosen(&self, fail: bool) -> Vec<Chosen> {
        let mut chosen: Vec<Chosen> = Vec::new();
        for call in &self.0 {
            let of_set = matches!(call, Call::Set(_));
            for name in call.calls() {
                let skip = of_set && fail && WITHOUT_RESULT.contains(name);
                if !skip && chosen.iter().all(|one| one.name != *name) {
                    chosen.push(Chosen { name, files: files(name) });
                }
            }
        }
        chosen
    }

    /// The same by their numbers on this architecture, and the names of which nothing is left on it.
    pub fn numbers(&self, on: Architecture, fail: bool) -> (BTreeMap<u32, Chosen>, Vec<Call>) {
        let chosen = self.chosen(fail);
        let numbers = chosen.iter().filter_map(|one| Some((on.number(one.name)?, *one))).collect();
        let lacks = |call: &&Call| call.calls().iter().all(|name| on.number(name).is_none());
        (numbers, self.0.iter().filter(lacks).copied().collect())
    }

    /// One that was named itself and that cannot fail.
    pub(super) fn without_result(&self) -> Option<&'static str> {
        let named = self.0.iter().filter(|call| matches!(call, Call::Named(_)));
        named.flat_map(Call::calls).find(|name| WITHOUT_RESULT.contains(name)).copied()
    }
}

/// The arguments of a call that name files.
fn files(name: &str) -> &'static [FileArgument] {
    FILE_ARGUMENTS.iter().find(|(_, names)| names.contains(&name)).map_or(&[], |(files, _)| files)
}

/// `openat,read,%network`.
impl fmt::Display for Calls {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, call) in self.0.iter().enumerate() {
            if index > 0 {
                out.write_str(",")?;
            }
            call.fmt(out)?;
        }
        Ok(())
    }
}

impl FromStr for Calls {
    type Err = BadCall;

    fn from_str(text: &str) -> Result<Self, BadCall> {
        text.split(',').map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(text: &str, on: Architecture) -> Vec<u32> {
        text.parse::<Calls>().unwrap().numbers(on, true).0.into_keys().collect()
    }

    #[test]
    fn numbers_are_the_architectures() {
        // linux/unistd.h of both.
        assert_eq!(numbers("read,openat", Architecture::X86_64), [0, 257]);
        assert_eq!(numbers("read,openat", Architecture::Aarch64), [56, 63]);
        assert_eq!(numbers("newfstatat", Architecture::X86_64), [262]);
        assert_eq!(numbers("newfstatat", Architecture::Aarch64), [79]);
    }

    #[test]
    fn open_means_the_family() {
        assert_eq!(numbers("open", Architecture::X86_64), [2, 85, 257, 437]);
        assert_eq!(numbers("open", Architecture::Aarch64), [56, 437]);
        assert_eq!(numbers("openat", Architecture::X86_64), [257]);
    }

    #[test]
    fn a_call_that_an_architecture_lacks_is_named() {
        let calls: Calls = "time,read".parse().unwrap();
        let (numbers, lacking) = calls.numbers(Architecture::Aarch64, true);
        assert_eq!((numbers.len(), lacking), (1, vec![Call::Named("time")]));
    }

    #[test]
    fn every_name_of_the_catalogue_is_a_call() {
        let known = |name: &str| Architecture::X86_64.number(name).is_some();
        let sets = SETS.iter().flat_map(|(_, names)| names.iter());
        let families = FAMILIES.iter().flat_map(|(_, names)| names.iter());
        let files = FILE_ARGUMENTS.iter().flat_map(|(_, names)| names.iter());
        for name in sets.chain(families).chain(files).chain(&WITHOUT_RESULT) {
            assert!(known(name), "{name}");
        }
        let mut names: Vec<_> = FILE_ARGUMENTS.iter().flat_map(|(_, names)| names.iter()).collect();
        names.sort();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "one is there twice");
    }

    #[test]
    fn every_call_of_aarch64_is_known() {
        for call in syscalls::aarch64::Sysno::iter() {
            let name = if call.name() == "fstatat" { "newfstatat" } else { call.name() };
            // The table has some that only 32-bit architectures have.
            assert!(name.contains("64") || Architecture::X86_64.number(name).is_some(), "{name}");
        }
    }

    #[test]
    fn sets_have_their_calls_but_those_that_cannot_fail() {
        let process: Calls = "%process".parse().unwrap();
        let names = |fail| process.chosen(fail).iter().map(|one| one.name).collect::<Vec<_>>();
        assert!(names(true).contains(&"execve") && !names(true).contains(&"exit_group"));
        assert!(names(false).contains(&"exit_group"));
        let both: Calls = "%file,openat,%file".parse().unwrap();
        assert_eq!(both.chosen(true).len(), Set::File.calls().len());
    }

    #[test]
    fn what_is_printed_is_read_back() {
        for name in SETS.iter().flat_map(|(_, names)| names.iter()) {
            let call: Call = name.parse().unwrap();
            assert_eq!(call.to_string(), *name);
        }
        let calls: Calls = "openat, read,%network".parse().unwrap();
        assert_eq!(calls.to_string(), "openat,read,%network");
        assert_eq!(calls.to_string().parse(), Ok(calls.clone()));
        let json = serde_json::to_string(&calls).unwrap();
        assert_eq!(json, r#"["openat","read","%network"]"#);
        assert_eq!(serde_json::from_str::<Calls>(&json).unwrap(), calls);
    }

    #[test]
    fn refuses_what_is_no_call_with_the_reason() {
        for (text, want) in [
            ("", "`` is not a system call (write it as openat; syscalls(2) lists them)"),
            (
                "read,whatever",
                "`whatever` is not a system call (write it as openat; syscalls(2) lists them)",
            ),
            ("opnat", "`opnat` is not a system call (did you mean openat?)"),
            (
                "recieve",
                "`recieve` is not a system call (write it as openat; syscalls(2) lists them)",
            ),
            (
                "%all",
                "`all` is not a set of system calls (those are file, desc, process, network, signal, \
                 ipc, memory, creds, clock)",
            ),
        ] {
            assert_eq!(text.parse::<Calls>().unwrap_err().to_string(), want);
        }
    }
}
