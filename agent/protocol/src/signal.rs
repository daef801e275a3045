//! Signals, and who gets them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Processes, serde_as_text};

/// The signals of Linux that are not real-time ones, by their numbers from 1 on, which are the same on x86 and
/// ARM (signal(7)).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// A signal: `HUP`, `SIGHUP` and `1` are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalName(u8);

impl SignalName {
    /// What cannot be handled.
    pub const KILL: Self = Self(9);
    /// What asks for an end.
    pub const TERM: Self = Self(15);
    /// What stops a process until [`SignalName::CONT`].
    pub const STOP: Self = Self(19);
    /// What has it go on.
    pub const CONT: Self = Self(18);

    /// As the kernel counts, from 1 on.
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// Not a signal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a signal; write one as HUP, SIGHUP or 1 (1 to 31)")]
pub struct BadSignal(String);

impl FromStr for SignalName {
    type Err = BadSignal;

    fn from_str(text: &str) -> Result<Self, BadSignal> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let numbers = 1..=31;
        let found = numbers.clone().zip(NAMES).find(|(_, known)| *known == name);
        let number = found.map(|(number, _)| number).or_else(|| upper.parse().ok());
        number
            .filter(|number| numbers.contains(number))
            .map(Self)
            .ok_or_else(|| BadSignal(text.to_owned()))
    }
}

/// As `SIGHUP`.
impl fmt::Display for SignalName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "SIG{}", NAMES[usize::from(self.0) - 1])
    }
}

serde_as_text!(SignalName);

/// A signal for processes of one container, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SignalPlan {
    /// Who gets it: those that match, else the container's main process.
    pub target: Processes,
    /// Which one. `None` is what ends the process: SIGTERM if it is handled, else SIGKILL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<SignalName>,
}

/// A signal that a process gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ProcessSignal {
    /// The process's id, in the container's process namespace.
    pub pid: u32,
    /// Its name, as `ps -o comm` prints it.
    pub name: String,
    /// The signal.
    pub signal: SignalName,
    /// What the process makes of it.
    pub disposition: Disposition,
}

/// What a process makes of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Disposition {
    /// It has a handler, or blocks it and reads it elsewhere (signalfd(2)).
    Handled,
    /// Nothing.
    Ignored,
    /// What the kernel does then: most signals end the process (signal(7)).
    Default,
}

impl fmt::Display for Disposition {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Handled => "handled",
            Self::Ignored => "ignored",
            Self::Default => "default action",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_named_or_numbered() {
        for text in ["HUP", "SIGHUP", "hup", "1"] {
            assert_eq!(text.parse::<SignalName>().unwrap().number(), 1);
        }
        for signal in 1..=31 {
            let signal = SignalName(signal);
            assert_eq!(signal.to_string().parse::<SignalName>().unwrap(), signal);
        }
        assert_eq!(
            (SignalName::KILL.to_string(), SignalName::TERM.to_string()),
            ("SIGKILL".into(), "SIGTERM".into())
        );
        assert_eq!(
            (SignalName::STOP.to_string(), SignalName::CONT.to_string()),
            ("SIGSTOP".into(), "SIGCONT".into())
        );
        for text in ["", "SIG", "0", "32", "-9", "RTMIN", "HUPP"] {
            assert!(text.parse::<SignalName>().is_err(), "{text}");
        }
    }
}
