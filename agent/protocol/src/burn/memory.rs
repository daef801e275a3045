//! Memory that is used up.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    Percentage, RunTime, Size,
    size::{Rounded, write_held},
};

/// Memory that is held beside what the container's own processes use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MemoryBurn {
    /// How much.
    pub load: MemoryLoad,
    /// In how much time it grows to that, evenly; at once when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ramp: Option<RunTime>,
    /// Whether the node's other pods may be harmed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_node_pressure: bool,
}

/// An amount of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryLoad {
    /// So much that the container as a whole uses this part of its limit, up to [`MemoryLoad::TO_MAX`].
    To(Percentage),
    /// So much, whatever the container uses; with a limit, no more than leads to [`MemoryLoad::TO_MAX`] of it.
    Size(Size),
    /// All there is, until the kernel kills a process of the container for it.
    Oom,
}

/// Why an amount of memory was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadMemory {
    /// Nothing.
    #[error("0% of the limit is nothing")]
    Nothing,
    /// So much that the container would not live on.
    #[error("{0} of the limit leaves the container nothing to live on (up to 98% is held)")]
    TooMuch(Percentage),
}

impl MemoryLoad {
    /// The part of a limit that is never exceeded, as a fraction: what is above serves the kernel and the container's
    /// next breath.
    pub const TO_MAX: f64 = 0.98;

    /// Whether it makes sense.
    pub fn check(self) -> Result<(), BadMemory> {
        match self {
            Self::To(percent) if percent.is_zero() => Err(BadMemory::Nothing),
            Self::To(percent) if percent.fraction() > Self::TO_MAX + 1e-6 => {
                Err(BadMemory::TooMuch(percent))
            }
            _ => Ok(()),
        }
    }
}

/// As `hold memory up to 80% of the limit`.
impl fmt::Display for MemoryBurn {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.load {
            MemoryLoad::To(percent) => write!(out, "hold memory up to {percent} of the limit")?,
            MemoryLoad::Size(size) => write!(out, "hold {size} of memory")?,
            MemoryLoad::Oom => out.write_str("hold memory until the kernel kills")?,
        }
        self.ramp.map_or(Ok(()), |ramp| write!(out, ", growing for {ramp}"))
    }
}

/// What a container's processes use of memory, by its control group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MemoryUsage {
    /// In bytes, without the parts of files that the kernel can drop at once (the working set, as `kubectl top` has
    /// it).
    pub used: u64,
    /// What of that is held by the fault.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub held: u64,
    /// How much it may use; `None` is all that the node has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde wants it")]
const fn is_zero(bytes: &u64) -> bool {
    *bytes == 0
}

/// As `51.2 MiB used of 64.0 MiB (80%), of which the fault holds 49.0 MiB`.
impl fmt::Display for MemoryUsage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} used", Rounded(self.used))?;
        if let Some(limit) = self.limit {
            let percent = u128::from(self.used) * 100 / u128::from(limit.max(1));
            write!(out, " of {} ({percent}%)", Rounded(limit))?;
        }
        write_held(out, self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_held() {
        let burn = |load| MemoryBurn { load, ramp: None, allow_node_pressure: false }.to_string();
        let to = MemoryLoad::To("80%".parse().unwrap());
        assert_eq!(burn(to), "hold memory up to 80% of the limit");
        assert_eq!(burn(MemoryLoad::Size("64Mi".parse().unwrap())), "hold 64Mi of memory");
        let usage = MemoryUsage { used: 48 << 20, held: 40 << 20, limit: Some(64 << 20) };
        let text = "48.0 MiB used of 64.0 MiB (75%), of which the fault holds 40.0 MiB";
        assert_eq!(usage.to_string(), text);
        let free = MemoryUsage { held: 0, limit: None, ..usage };
        assert_eq!(free.to_string(), "48.0 MiB used");
    }

    #[test]
    fn refuses_nothing_and_everything() {
        let check = |text: &str| MemoryLoad::To(text.parse().unwrap()).check();
        assert_eq!(check("0%"), Err(BadMemory::Nothing));
        assert!(matches!(check("99%"), Err(BadMemory::TooMuch(_))));
        assert_eq!((check("98%"), check("1%")), (Ok(()), Ok(())));
        assert_eq!(MemoryLoad::Oom.check(), Ok(()));
    }

    #[test]
    fn is_read_back() {
        for json in [
            r#"{"load":{"to":"80%"},"ramp":"5s"}"#,
            r#"{"load":{"size":"64Mi"},"allow-node-pressure":true}"#,
            r#"{"load":"oom"}"#,
        ] {
            let burn: MemoryBurn = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&burn).unwrap(), json);
        }
    }
}
