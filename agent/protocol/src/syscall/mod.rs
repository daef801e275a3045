//! System calls of a running program that fail, take long, or are followed by a signal.

mod calls;
mod catalogue;
mod error;
mod nearest;
mod path;
mod when;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::{
    calls::{Architecture, BadCall, Call, Calls, Chosen, Set},
    catalogue::FileArgument,
    error::{BadErrorNumber, ErrorNumber},
    path::{BadPath, PathPattern},
    when::{BadWhen, When},
};
use crate::{Latency, Percentage, SignalName};

/// What is done to which system calls. All conditions have to hold for a call to be hit; all that is to be done
/// is done to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SyscallFault {
    /// Which calls.
    pub calls: Calls,
    /// They are not carried out, and fail with this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorNumber>,
    /// Their thread waits for this long before they are carried out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub delay_enter: Latency,
    /// And for this long before it learns of their result.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub delay_exit: Latency,
    /// Their thread gets this signal as they begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<SignalName>,
    /// Which invocations, of those that meet the other conditions.
    #[serde(default, skip_serializing_if = "When::is_always")]
    pub when: When,
    /// Only when they are about one of these files; about any when there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<PathPattern>,
    /// Only when they are given one of these descriptors; any when there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub descriptors: Vec<u32>,
    /// How likely each of these invocations is hit.
    #[serde(default = "always", skip_serializing_if = "is_certain")]
    pub probability: Percentage,
    /// Where the dice for that start; each thread has dice of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

const fn always() -> Percentage {
    Percentage::ALL
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(time: &Latency) -> bool {
    *time == Latency::ZERO
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_certain(probability: &Percentage) -> bool {
    *probability == Percentage::ALL
}

/// Why a fault makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadSyscallFault {
    /// Of any kind.
    #[error("nothing would be done to the calls")]
    Nothing,
    /// None.
    #[error("no system call is named")]
    NoCalls,
    /// It does not return, or has no result.
    #[error("{0} cannot fail")]
    WithoutResult(&'static str),
    /// None of the calls takes any.
    #[error("none of these calls is about a file")]
    NoFiles,
    /// None of the calls takes any.
    #[error("none of these calls takes a descriptor")]
    NoDescriptors,
    /// Never.
    #[error("a probability of 0% hits nothing")]
    Never,
    /// No dice are thrown.
    #[error("a seed needs a probability below 100%")]
    SeedWithoutProbability,
}

impl BadSyscallFault {
    /// What to do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Nothing => "give an error, a delay or a signal",
            Self::NoCalls => "give calls, as openat,read, or a set of them, as file",
            Self::WithoutResult(_) => "leave it out, or give only a delay or a signal",
            Self::NoFiles => "leave the path out, or name calls as openat, read or the set file",
            Self::NoDescriptors => {
                "leave the descriptor out, or name calls as read or the set desc"
            }
            Self::Never => "give more, or leave it out",
            Self::SeedWithoutProbability => "give a probability with it, as 10%",
        }
    }
}

impl SyscallFault {
    /// Refuses what makes no sense together.
    pub fn check(&self) -> Result<(), BadSyscallFault> {
        let Self { error, delay_enter, delay_exit, signal, .. } = self;
        let fails = error.is_some();
        let chosen = self.calls.chosen(fails);
        let files = |one: &Chosen| !one.files.is_empty();
        let descriptors =
            |one: &Chosen| one.files.iter().any(|file| !matches!(file, FileArgument::Path(_)));
        let without_result = self.calls.without_result().filter(|_| fails);
        let refusals = [
            (
                !fails && is_zero(delay_enter) && is_zero(delay_exit) && signal.is_none(),
                BadSyscallFault::Nothing,
            ),
            (chosen.is_empty(), BadSyscallFault::NoCalls),
            (
                without_result.is_some(),
                BadSyscallFault::WithoutResult(without_result.unwrap_or_default()),
            ),
            (!self.paths.is_empty() && !chosen.iter().any(files), BadSyscallFault::NoFiles),
            (
                !self.descriptors.is_empty() && !chosen.iter().any(descriptors),
                BadSyscallFault::NoDescriptors,
            ),
            (self.probability.is_zero(), BadSyscallFault::Never),
            (
                self.seed.is_some() && is_certain(&self.probability),
                BadSyscallFault::SeedWithoutProbability,
            ),
        ];
        let refusal =
            refusals.into_iter().find_map(|(applies, refusal)| applies.then_some(refusal));
        refusal.map_or(Ok(()), Err)
    }
}

/// In a few words: `openat,read: error EACCES, when 3.., path /data/*`.
impl fmt::Display for SyscallFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { error, delay_enter, delay_exit, signal, when, probability, seed, .. } = self;
        write!(out, "{}", self.calls)?;
        let mut separator = ": ";
        let mut write = |text: fmt::Arguments<'_>| {
            let written = write!(out, "{separator}{text}");
            separator = ", ";
            written
        };
        if let Some(error) = error {
            write(format_args!("error {error}"))?;
        }
        for (name, delay) in [("delay-enter", delay_enter), ("delay-exit", delay_exit)] {
            if !is_zero(delay) {
                write(format_args!("{name} {delay}"))?;
            }
        }
        if let Some(signal) = signal {
            write(format_args!("signal {signal}"))?;
        }
        if !when.is_always() {
            write(format_args!("when {when}"))?;
        }
        for path in &self.paths {
            write(format_args!("path {path}"))?;
        }
        for descriptor in &self.descriptors {
            write(format_args!("fd {descriptor}"))?;
        }
        if !is_certain(probability) {
            write(format_args!("probability {probability}"))?;
        }
        if let Some(seed) = seed {
            write(format_args!("seed {seed}"))?;
        }
        Ok(())
    }
}

/// System calls that were counted since a fault has been in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CallCounts {
    /// Those that were named and have been made, in the order of their numbers.
    pub calls: Vec<CallCount>,
    /// Calls by another architecture's numbers (of 32-bit programs), which are left alone.
    #[serde(default, skip_serializing_if = "is_none")]
    pub foreign: u64,
    /// Calls that were not hit because the kernel did not let the agent see which file they were about. They are among
    /// those that were seen.
    #[serde(default, skip_serializing_if = "is_none")]
    pub unresolved: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_none(count: &u64) -> bool {
    *count == 0
}

impl CallCounts {
    /// Of all calls together: how many were made, and how many were hit.
    pub fn total(&self) -> (u64, u64) {
        let add = |(seen, hit), one: &CallCount| (seen + one.seen, hit + one.hit);
        self.calls.iter().fold((0, 0), add)
    }
}

/// How many of the calls are named when they are printed.
const NAMED: usize = 4;

/// As `7 of 12 calls hit (openat 7 of 9, read 0 of 3)`.
impl fmt::Display for CallCounts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seen, hit) = self.total();
        write!(out, "{hit} of {seen} calls hit")?;
        if self.calls.len() > 1 {
            let each = self.calls.iter().take(NAMED);
            let each: Vec<_> =
                each.map(|one| format!("{} {} of {}", one.call, one.hit, one.seen)).collect();
            let rest = if self.calls.len() > NAMED { ", …" } else { "" };
            write!(out, " ({}{rest})", each.join(", "))?;
        }
        for (count, which) in
            [(self.foreign, "of 32-bit programs"), (self.unresolved, "about unknown files")]
        {
            if count > 0 {
                let plural = if count == 1 { "" } else { "s" };
                write!(out, "; {count} call{plural} {which} left alone")?;
            }
        }
        Ok(())
    }
}

/// How often a call was made since the fault has been in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CallCount {
    /// Its name.
    pub call: String,
    /// By all threads together, hit or not.
    pub seen: u64,
    /// Invocations that were hit.
    pub hit: u64,
    /// Invocations that have come to their end.
    #[serde(default)]
    pub ended: u64,
    /// How long these took together, in microseconds, with what held them up.
    #[serde(default)]
    pub took_us: u64,
}

impl CallCount {
    /// What has been counted since the same call was counted `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            call: self.call.clone(),
            seen: self.seen.saturating_sub(before.seen),
            hit: self.hit.saturating_sub(before.hit),
            ended: self.ended.saturating_sub(before.ended),
            took_us: self.took_us.saturating_sub(before.took_us),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(json: &str) -> SyscallFault {
        serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
    }

    #[test]
    fn prints_in_a_few_words_and_is_read_back() {
        let all = fault(
            r#"{"calls":["open","read","%network"],"error":"EACCES","delay-enter":"1s",
                "delay-exit":"10ms","signal":"SIGUSR1","when":"3..+2","paths":["/data/*"],
                "descriptors":[3,4],"probability":"10%","seed":7}"#,
        );
        assert_eq!(
            all.to_string(),
            "open,read,%network: error EACCES, delay-enter 1s, delay-exit 10ms, signal SIGUSR1, \
             when 3..+2, path /data/*, fd 3, fd 4, probability 10%, seed 7"
        );
        assert_eq!(all.check(), Ok(()));
        assert_eq!(fault(&serde_json::to_string(&all).unwrap()), all);
        let least = r#"{"calls":["openat"],"error":"ENOENT"}"#;
        assert_eq!(serde_json::to_string(&fault(least)).unwrap(), least);
        assert_eq!(fault(least).to_string(), "openat: error ENOENT");
    }

    #[test]
    fn refuses_what_makes_no_sense_together() {
        for (json, want) in [
            (r#"{"calls":["read"]}"#, BadSyscallFault::Nothing),
            (r#"{"calls":[],"error":"EIO"}"#, BadSyscallFault::NoCalls),
            (
                r#"{"calls":["exit_group"],"error":"EIO"}"#,
                BadSyscallFault::WithoutResult("exit_group"),
            ),
            (r#"{"calls":["getpid"],"error":"EIO","paths":["/x"]}"#, BadSyscallFault::NoFiles),
            (
                r#"{"calls":["getpid"],"error":"EIO","descriptors":[1]}"#,
                BadSyscallFault::NoDescriptors,
            ),
            (r#"{"calls":["read"],"error":"EIO","probability":"0%"}"#, BadSyscallFault::Never),
            (
                r#"{"calls":["read"],"error":"EIO","seed":1}"#,
                BadSyscallFault::SeedWithoutProbability,
            ),
        ] {
            assert_eq!(fault(json).check(), Err(want), "{json}");
        }
        let delayed = fault(r#"{"calls":["exit_group"],"delay-enter":"1s"}"#);
        assert_eq!(delayed.check(), Ok(()));
    }

    #[test]
    fn counts_are_said_in_a_few_words() {
        let count = |call: &str, seen, hit| CallCount {
            call: call.to_owned(),
            seen,
            hit,
            ..CallCount::default()
        };
        let mut counts = CallCounts { calls: vec![count("openat", 9, 7)], ..CallCounts::default() };
        assert_eq!(counts.to_string(), "7 of 9 calls hit");
        counts.calls.push(count("read", 3, 0));
        (counts.foreign, counts.unresolved) = (2, 1);
        assert_eq!(
            counts.to_string(),
            "7 of 12 calls hit (openat 7 of 9, read 0 of 3); 2 calls of 32-bit programs left alone; \
             1 call about unknown files left alone"
        );
    }
}
