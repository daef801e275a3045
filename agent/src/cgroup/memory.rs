//! What a control group may use of memory, and uses.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{field, folder, own, read};

/// Limits from here on are none: version 1 says the largest number of whole pages.
const NO_LIMIT: u64 = 1 << 60;

/// The memory of the control group (Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Version 1: the folder of the controller `memory`.
    V1(PathBuf),
    /// Version 2: its folder.
    V2(PathBuf),
}

impl Memory {
    /// Of this process.
    pub fn own() -> io::Result<Self> {
        own("memory", Self::find)
    }

    fn find(groups: &str, mount: &Path) -> Option<Self> {
        let v1 = folder(groups, "memory", &mount.join("memory"), "memory.usage_in_bytes");
        v1.map(Self::V1).or_else(|| folder(groups, "", mount, "memory.current").map(Self::V2))
    }

    /// How many bytes it may use; `None` is all there are.
    pub fn limit(&self) -> io::Result<Option<u64>> {
        let limit = match self {
            // That of its parents too.
            Self::V1(folder) => field("hierarchical_memory_limit", &read(folder, "memory.stat")?),
            Self::V2(folder) => read(folder, "memory.max")?.trim().parse().unwrap_or(NO_LIMIT),
        };
        Ok((limit < NO_LIMIT).then_some(limit))
    }

    /// How many bytes it uses, without the parts of files that have not been touched for long: what the kubelet
    /// counts as the working set.
    pub fn used(&self) -> io::Result<u64> {
        let (folder, unused) = match self {
            Self::V1(folder) => (folder, "total_inactive_file"),
            Self::V2(folder) => (folder, "inactive_file"),
        };
        Ok(self.charged()?.saturating_sub(field(unused, &read(folder, "memory.stat")?)))
    }

    /// How many bytes it is charged for, those too.
    pub fn charged(&self) -> io::Result<u64> {
        let current = match self {
            Self::V1(folder) => read(folder, "memory.usage_in_bytes")?,
            Self::V2(folder) => read(folder, "memory.current")?,
        };
        current.trim().parse().map_err(io::Error::other)
    }

    /// How often the kernel has killed one of its processes because the limit was reached.
    pub fn kills(&self) -> io::Result<u64> {
        let text = match self {
            Self::V1(folder) => read(folder, "memory.oom_control")?,
            Self::V2(folder) => read(folder, "memory.events")?,
        };
        Ok(field("oom_kill", &text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Fake;

    #[test]
    fn reads_version_1() {
        let fake = Fake::new("cgroup-memory-1");
        let stat =
            "cache 5\ninactive_file 9\nhierarchical_memory_limit 65536\ntotal_inactive_file 1000\n";
        fake.write("memory/a/memory.usage_in_bytes", "5000\n");
        fake.write("memory/a/memory.stat", stat);
        fake.write("memory/a/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n");
        let own = Memory::find("4:memory:/a\n0::/\n", &fake.0).unwrap();
        assert!(matches!(own, Memory::V1(_)));
        assert_eq!((own.used().unwrap(), own.limit().unwrap()), (4000, Some(65536)));
        assert_eq!(own.kills().unwrap(), 3);
        fake.write("memory/a/memory.stat", "hierarchical_memory_limit 9223372036854771712\n");
        assert_eq!(own.limit().unwrap(), None);
    }

    #[test]
    fn reads_version_2() {
        let fake = Fake::new("cgroup-memory-2");
        fake.write("memory.current", "5000\n");
        fake.write("memory.stat", "anon 1\ninactive_file 1000\nactive_file 7\n");
        fake.write("memory.max", "max\n");
        fake.write("memory.events", "low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 0\n");
        let own = Memory::find("0::/\n", &fake.0).unwrap();
        assert!(matches!(own, Memory::V2(_)));
        assert_eq!((own.used().unwrap(), own.limit().unwrap()), (4000, None));
        assert_eq!(own.charged().unwrap(), 5000);
        assert_eq!(own.kills().unwrap(), 1);
        fake.write("memory.max", "65536\n");
        assert_eq!(own.limit().unwrap(), Some(65536));
    }
}
