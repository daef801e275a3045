//! The control group that this process is in, of version 1 or 2 (cgroups(7)): what it may use, and has used.
//!
//! A container sees its own control group as the root of `/sys/fs/cgroup`, or, where the runtime gives it no
//! namespace of its own, by the path in `/proc/self/cgroup`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

/// Where control groups are mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// What a control group has used of processors since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// Processor time.
    pub used: Duration,
    /// Time that it had to wait because its limit was reached.
    pub throttled: Duration,
}

/// The processors of the control group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cpu {
    /// Version 1: the folders of the controllers `cpu` and `cpuacct`.
    V1 {
        /// Of `cpu`.
        cpu: PathBuf,
        /// Of `cpuacct`.
        account: PathBuf,
    },
    /// Version 2: its folder.
    V2(PathBuf),
}

impl Cpu {
    /// Of this process.
    pub fn own() -> io::Result<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup")?;
        let found = Self::find(&groups, Path::new(MOUNT));
        found.ok_or_else(|| {
            io::Error::other(format!("no control group for processors below {MOUNT}"))
        })
    }

    /// `groups` as in `/proc/PID/cgroup`: lines of `ID:CONTROLLERS:PATH`, without controllers for version 2.
    fn find(groups: &str, mount: &Path) -> Option<Self> {
        let folder = |controller: &str, below: &Path, file: &str| {
            let line = |line: &str| -> Option<PathBuf> {
                let mut parts = line.splitn(3, ':').skip(1);
                let here = parts.next()?.split(',').any(|one| one == controller);
                here.then_some(parts.next()?).map(|path| below.join(path.trim_start_matches('/')))
            };
            let by_path = groups.lines().find_map(line)?;
            [by_path, below.to_owned()].into_iter().find(|folder| folder.join(file).exists())
        };
        let v1 = || {
            Some(Self::V1 {
                cpu: folder("cpu", &mount.join("cpu"), "cpu.cfs_quota_us")?,
                account: folder("cpuacct", &mount.join("cpuacct"), "cpuacct.usage")?,
            })
        };
        v1().or_else(|| folder("", mount, "cpu.stat").map(Self::V2))
    }

    /// How many processors it may use at a time; `None` is all there are.
    pub fn limit(&self) -> io::Result<Option<f64>> {
        let (quota, period) = match self {
            Self::V1 { cpu, .. } => {
                (read(cpu, "cpu.cfs_quota_us")?, read(cpu, "cpu.cfs_period_us")?)
            }
            Self::V2(folder) => {
                // `MAX PERIOD`. The root has none.
                let max = read(folder, "cpu.max").unwrap_or_default();
                let (quota, period) = max.trim().split_once(' ').unwrap_or(("max", ""));
                (quota.to_owned(), period.to_owned())
            }
        };
        Ok(limit(&quota, &period))
    }

    /// What it has used.
    pub fn time(&self) -> io::Result<CpuTime> {
        match self {
            Self::V1 { cpu, account } => Ok(CpuTime {
                used: Duration::from_nanos(field(
                    "all",
                    &format!("all {}", read(account, "cpuacct.usage")?),
                )),
                throttled: Duration::from_nanos(field("throttled_time", &read(cpu, "cpu.stat")?)),
            }),
            Self::V2(folder) => {
                let stat = read(folder, "cpu.stat")?;
                Ok(CpuTime {
                    used: Duration::from_micros(field("usage_usec", &stat)),
                    throttled: Duration::from_micros(field("throttled_usec", &stat)),
                })
            }
        }
    }
}

fn read(folder: &Path, file: &str) -> io::Result<String> {
    let path = folder.join(file);
    fs::read_to_string(&path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// Neither `max` nor -1 is a limit.
fn limit(quota: &str, period: &str) -> Option<f64> {
    let quota: u32 = quota.trim().parse().ok()?;
    let period: u32 = period.trim().parse().ok().filter(|period| *period > 0)?;
    Some(f64::from(quota) / f64::from(period))
}

/// A line `NAME NUMBER`; 0 where there is none.
fn field(name: &str, text: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_group_by_its_path_and_else_at_the_root() {
        let mount = std::env::temp_dir().join(format!("pod-chaos-cgroup-{}", std::process::id()));
        let touch = |path: &str, text: &str| {
            let path = mount.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(Cpu::find("0::/\n", &mount), None);
        touch("cpu.stat", "usage_usec 2000\nthrottled_usec 30\n");
        let root = Cpu::find("0::/../other\n", &mount).unwrap();
        assert_eq!(root, Cpu::V2(mount.clone()));
        assert_eq!(root.limit().unwrap(), None);
        touch("pods/one/cpu.stat", "usage_usec 1\n");
        touch("pods/one/cpu.max", "150000 100000\n");
        let own = Cpu::find("0::/pods/one\n", &mount).unwrap();
        assert_eq!(own.limit().unwrap(), Some(1.5));
        let (used, throttled) = (Duration::from_millis(2), Duration::from_micros(30));
        assert_eq!(root.time().unwrap(), CpuTime { used, throttled });
        touch("cpu/cpu.cfs_quota_us", "-1\n");
        touch("cpu/cpu.cfs_period_us", "100000\n");
        touch("cpu/cpu.stat", "nr_periods 1\nthrottled_time 30000\n");
        touch("cpuacct/cpuacct.usage", "2000000\n");
        let v1 = Cpu::find("5:cpuacct:/a\n4:cpu:/a\n0::/\n", &mount).unwrap();
        assert_eq!(v1.limit().unwrap(), None);
        assert_eq!(v1.time().unwrap(), CpuTime { used, throttled });
        fs::remove_dir_all(&mount).unwrap();
    }
}
