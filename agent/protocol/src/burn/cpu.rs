//! Processor time that is used up.

use std::{fmt, num::NonZeroU16};

use serde::{Deserialize, Serialize};

use crate::{Percentage, RunTime};

/// Processor time that is used up, beside what the container's own processes use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CpuBurn {
    /// How much.
    pub load: CpuLoad,
    /// In how much time it grows to that, evenly; at once when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ramp: Option<RunTime>,
}

/// An amount of processor time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum CpuLoad {
    /// So many threads that never pause.
    Workers(NonZeroU16),
    /// A part of a whole.
    Share {
        /// How much of it.
        percent: Percentage,
        /// Of what.
        of: CpuWhole,
    },
}

/// What a percentage is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CpuWhole {
    /// The container's limit.
    Limit,
    /// One processor.
    Core,
    /// All processors of the node.
    Node,
}

/// As `80% of the limit`.
impl fmt::Display for CpuBurn {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.load {
            CpuLoad::Workers(NonZeroU16::MIN) => out.write_str("burn 1 processor")?,
            CpuLoad::Workers(count) => write!(out, "burn {count} processors")?,
            CpuLoad::Share { percent, of } => {
                let whole = match of {
                    CpuWhole::Limit => "the limit",
                    CpuWhole::Core => "a processor",
                    CpuWhole::Node => "the node's processors",
                };
                write!(out, "burn {percent} of {whole}")?;
            }
        }
        self.ramp.map_or(Ok(()), |ramp| write!(out, ", growing for {ramp}"))
    }
}

/// What a container's processes have used of processors in some time, by its control group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CpuUsage {
    /// For how long it was looked at, in milliseconds.
    pub span_ms: u64,
    /// Processor time used, in milliseconds.
    pub used_ms: u64,
    /// For how long they had to wait because the limit was reached, added up over processors, in milliseconds.
    pub throttled_ms: u64,
}

/// In processors: `0.50 processors used, throttled for 0.1 s`.
impl fmt::Display for CpuUsage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hundredths = self.used_ms * 100 / self.span_ms.max(1);
        write!(out, "{}.{:02} processors used", hundredths / 100, hundredths % 100)?;
        if self.throttled_ms > 0 {
            write!(
                out,
                ", throttled for {}.{} s",
                self.throttled_ms / 1000,
                self.throttled_ms % 1000 / 100
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_burnt() {
        let burn = CpuBurn {
            load: CpuLoad::Share { percent: "80%".parse().unwrap(), of: CpuWhole::Limit },
            ramp: Some("5s".parse().unwrap()),
        };
        assert_eq!(burn.to_string(), "burn 80% of the limit, growing for 5s");
        let usage = CpuUsage { span_ms: 2000, used_ms: 1010, throttled_ms: 150 };
        assert_eq!(usage.to_string(), "0.50 processors used, throttled for 0.1 s");
    }

    #[test]
    fn is_read_back() {
        for json in [
            r#"{"load":{"workers":2}}"#,
            r#"{"load":{"share":{"percent":"80%","of":"limit"}},"ramp":"5s"}"#,
        ] {
            let burn: CpuBurn = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&burn).unwrap(), json);
        }
        assert!(serde_json::from_str::<CpuBurn>(r#"{"load":{"workers":0}}"#).is_err());
    }
}
