//! Room on a disk that is taken.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    Percentage, Size,
    size::{Rounded, write_held},
};

/// A file without a name that takes room on the file system of a folder of the container's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DiskFill {
    /// The folder, as the container sees it.
    pub path: String,
    /// How much.
    pub load: DiskLoad,
    /// Whether the node may run short of room, and evict pods.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_node_pressure: bool,
}

/// An amount of room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskLoad {
    /// So much that this part of the file system is used, as `df` counts.
    To(Percentage),
    /// So much, whatever is used.
    Size(Size),
}

/// As `fill /data to 90%`.
impl fmt::Display for DiskFill {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.load {
            DiskLoad::To(percent) => write!(out, "fill {} to {percent}", self.path),
            DiskLoad::Size(size) => write!(out, "fill {} with {size}", self.path),
        }
    }
}

/// How full a file system is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DiskUsage {
    /// Bytes that are used.
    pub used: u64,
    /// Bytes that are left to who is not root.
    pub available: u64,
    /// What of those used is the fault's.
    #[serde(default)]
    pub held: u64,
}

/// As `54.0 GiB used of 60.0 GiB (90%), of which the fault holds 20.0 GiB`; in percent as `df` rounds it.
impl fmt::Display for DiskUsage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.used + self.available;
        let percent = (u128::from(self.used) * 100).div_ceil(u128::from(all.max(1)));
        write!(out, "{} used of {} ({percent}%)", Rounded(self.used), Rounded(all))?;
        write_held(out, self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_filled() {
        let json = r#"{"path":"/data","load":{"to":"90%"},"allow-node-pressure":true}"#;
        let fill: DiskFill = serde_json::from_str(json).unwrap();
        assert_eq!(fill.to_string(), "fill /data to 90%");
        assert_eq!(serde_json::to_string(&fill).unwrap(), json);
        let usage = DiskUsage { used: 89 << 30, available: 11 << 30, held: 1 << 30 };
        let text = "89.0 GiB used of 100.0 GiB (89%), of which the fault holds 1.0 GiB";
        assert_eq!(usage.to_string(), text);
    }
}
