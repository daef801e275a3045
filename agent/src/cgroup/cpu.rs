//! What a control group may use of processors, and has used.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{field, folder, own, read};

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
        own("processors", Self::find)
    }

    fn find(groups: &str, mount: &Path) -> Option<Self> {
        let v1 = || {
            Some(Self::V1 {
                cpu: folder(groups, "cpu", &mount.join("cpu"), "cpu.cfs_quota_us")?,
                account: folder(groups, "cpuacct", &mount.join("cpuacct"), "cpuacct.usage")?,
            })
        };
        v1().or_else(|| folder(groups, "", mount, "cpu.stat").map(Self::V2))
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

/// Neither `max` nor -1 is a limit.
fn limit(quota: &str, period: &str) -> Option<f64> {
    let quota: u32 = quota.trim().parse().ok()?;
    let period: u32 = period.trim().parse().ok().filter(|period| *period > 0)?;
    Some(f64::from(quota) / f64::from(period))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Fake;

    #[test]
    fn finds_the_group_by_its_path_and_else_at_the_root() {
        let fake = Fake::new("cgroup-cpu");
        let mount = &fake.0;
        assert_eq!(Cpu::find("0::/\n", mount), None);
        fake.write("cpu.stat", "usage_usec 2000\nthrottled_usec 30\n");
        let root = Cpu::find("0::/../other\n", mount).unwrap();
        assert_eq!(root, Cpu::V2(mount.clone()));
        assert_eq!(root.limit().unwrap(), None);
        fake.write("pods/one/cpu.stat", "usage_usec 1\n");
        fake.write("pods/one/cpu.max", "150000 100000\n");
        let own = Cpu::find("0::/pods/one\n", mount).unwrap();
        assert_eq!(own.limit().unwrap(), Some(1.5));
        let (used, throttled) = (Duration::from_millis(2), Duration::from_micros(30));
        assert_eq!(root.time().unwrap(), CpuTime { used, throttled });
        fake.write("cpu/cpu.cfs_quota_us", "-1\n");
        fake.write("cpu/cpu.cfs_period_us", "100000\n");
        fake.write("cpu/cpu.stat", "nr_periods 1\nthrottled_time 30000\n");
        fake.write("cpuacct/cpuacct.usage", "2000000\n");
        let v1 = Cpu::find("5:cpuacct:/a\n4:cpu:/a\n0::/\n", mount).unwrap();
        assert_eq!(v1.limit().unwrap(), None);
        assert_eq!(v1.time().unwrap(), CpuTime { used, throttled });
    }
}
