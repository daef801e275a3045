//! Reading and writing that a disk is kept busy with.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{BadSize, Size, serde_as_text, size::Rounded};

/// Reading and writing of a file without a name, in a folder of the container's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct IoBurn {
    /// The folder, as the container sees it.
    pub path: String,
    /// How much to read; nothing when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<Pace>,
    /// How much to write; nothing when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write: Option<Pace>,
    /// Whether each block that is written is to be on the disk before the next one is (fdatasync(2)).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sync: bool,
    /// What is read or written at a time, up to [`IoBurn::BLOCK_MAX`].
    pub block: Size,
    /// Of the file.
    pub size: Size,
}

/// How fast: as text a size, which is that of a second, or `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// So much a second.
    PerSecond(Size),
    /// As fast as it goes.
    Max,
}

impl FromStr for Pace {
    type Err = BadSize;

    fn from_str(text: &str) -> Result<Self, BadSize> {
        if text == "max" { Ok(Self::Max) } else { text.parse().map(Self::PerSecond) }
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PerSecond(size) => size.fmt(out),
            Self::Max => out.write_str("max"),
        }
    }
}

serde_as_text!(Pace);

impl IoBurn {
    /// The largest block: it is kept in memory.
    pub const BLOCK_MAX: u64 = 16 << 20;

    /// Whether it makes sense.
    pub fn check(&self) -> Result<(), BadIo> {
        match self {
            Self { path, .. } if !path.starts_with('/') => Err(BadIo::Path(path.clone())),
            Self { read: None, write: None, .. } => Err(BadIo::Nothing),
            Self { sync: true, write: None, .. } => Err(BadIo::NothingToSync),
            Self { block, .. } if block.bytes() > Self::BLOCK_MAX => Err(BadIo::Block(*block)),
            Self { block, size, .. } if size < block => Err(BadIo::Small(*size, *block)),
            _ => Ok(()),
        }
    }
}

/// Why a load on a disk was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadIo {
    /// Not absolute.
    #[error("`{0}` is not an absolute path of the container's")]
    Path(String),
    /// Neither reading nor writing.
    #[error("neither reading nor writing is asked for")]
    Nothing,
    /// Only reading.
    #[error("what is only read cannot be synced")]
    NothingToSync,
    /// Too large.
    #[error("a block of {0} is too large (up to 16Mi)")]
    Block(Size),
    /// Smaller than a block.
    #[error("a file of {0} has no room for a block of {1}")]
    Small(Size, Size),
}

/// As `read 20Mi/s and write 5Mi/s with sync at /data`.
impl fmt::Display for IoBurn {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = |what: &str, pace: Option<Pace>| {
            pace.map(|pace| match pace {
                Pace::PerSecond(size) => format!("{what} {size}/s"),
                Pace::Max => format!("{what} as fast as it goes"),
            })
        };
        let ways = [way("read", self.read), way("write", self.write)].into_iter().flatten();
        write!(out, "{}", ways.collect::<Vec<_>>().join(" and "))?;
        if self.sync {
            out.write_str(" with sync")?;
        }
        write!(out, " at {}", self.path)
    }
}

/// What was read and written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct IoUsage {
    /// In how much time, in milliseconds.
    pub span_ms: u64,
    /// Bytes that were read.
    pub read: u64,
    /// Bytes that were written.
    pub written: u64,
    /// Of these, what has come from disks, as the kernel counts (proc_pid_io(5)).
    #[serde(default)]
    pub read_from_disk: u64,
    /// And what has been on its way to disks.
    #[serde(default)]
    pub written_to_disk: u64,
    /// Reads and writes, with their syncs.
    pub operations: u64,
    /// How many of them the kernel refused, as when the disk is full.
    #[serde(default)]
    pub failed: u64,
    /// How long the slowest of them took, in microseconds.
    pub slowest_us: u64,
}

/// As `40.0 MiB read (40.0 MiB from disk), 10.0 MiB written (10.0 MiB to disk) in 2.0 s; …`.
impl fmt::Display for IoUsage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} read ({} from disk), {} written ({} to disk) in {}.{} s; {} operations, {} failed, \
             the slowest took {}.{} ms",
            Rounded(self.read),
            Rounded(self.read_from_disk),
            Rounded(self.written),
            Rounded(self.written_to_disk),
            self.span_ms / 1000,
            self.span_ms % 1000 / 100,
            self.operations,
            self.failed,
            self.slowest_us / 1000,
            self.slowest_us % 1000 / 100
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn burn(json: &str) -> IoBurn {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn says_what_is_read_and_written() {
        let json = r#"{"path":"/data","read":"20Mi","write":"max","sync":true,"block":"64Ki","size":"64Mi"}"#;
        let both = burn(json);
        assert_eq!(both.to_string(), "read 20Mi/s and write as fast as it goes with sync at /data");
        assert_eq!(serde_json::to_string(&both).unwrap(), json);
        assert_eq!(both.check(), Ok(()));
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        let check = |json: &str| burn(json).check();
        let nothing = r#"{"path":"/data","block":"4Ki","size":"4Ki"}"#;
        assert_eq!(check(nothing), Err(BadIo::Nothing));
        let sync = r#"{"path":"/data","read":"max","sync":true,"block":"4Ki","size":"4Ki"}"#;
        assert_eq!(check(sync), Err(BadIo::NothingToSync));
        let path = r#"{"path":"data","read":"max","block":"4Ki","size":"4Ki"}"#;
        assert!(matches!(check(path), Err(BadIo::Path(_))));
        let block = r#"{"path":"/data","read":"max","block":"17Mi","size":"1Gi"}"#;
        assert!(matches!(check(block), Err(BadIo::Block(_))));
        let small = r#"{"path":"/data","read":"max","block":"8Ki","size":"4Ki"}"#;
        assert!(matches!(check(small), Err(BadIo::Small(..))));
    }
}
