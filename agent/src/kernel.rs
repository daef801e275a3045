//! The two ways into the kernel that faults take.

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use nix::{errno::Errno, sys::utsname::uname};
use pod_chaos_protocol::{Failure, FailureKind};

use crate::{
    error::{Doing, KernelError, failure},
    netlink::{Netlink, Refusal},
};

/// Sockets to the kernel, in this network namespace.
#[derive(Debug)]
pub struct Kernel {
    /// Links, routes, qdiscs.
    pub route: Netlink,
    /// nf_tables.
    pub netfilter: Netlink,
}

impl Kernel {
    /// Opens them.
    pub fn open() -> Result<Self, Failure> {
        let route =
            Netlink::open(NETLINK_ROUTE).doing(|| "open a socket to rtnetlink".to_owned())?;
        let netfilter = Netlink::open(NETLINK_NETFILTER)
            .map_err(|refusal| without_nf_tables("open a socket to nfnetlink", refusal))?;
        Ok(Self { route, netfilter })
    }
}

/// The kernel's release, as `uname -r` prints it.
pub fn release() -> String {
    uname().map_or_else(
        |_| "unknown".to_owned(),
        |names| names.release().to_string_lossy().into_owned(),
    )
}

/// The first two numbers of it.
pub fn version() -> Option<(u32, u32)> {
    first_two(&release())
}

fn first_two(release: &str) -> Option<(u32, u32)> {
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// Recognizes a kernel without nf_tables by how it refuses to talk about it.
pub fn without_nf_tables(doing: &str, refusal: Refusal) -> Failure {
    match refusal.errno {
        // No nfnetlink; no such subsystem of it; no such family in it.
        Errno::EPROTONOSUPPORT | Errno::EINVAL | Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT => {
            lacks(&["nf_tables"])
        }
        _ => KernelError::new(doing.to_owned(), refusal).into(),
    }
}

/// This kernel lacks parts without which the fault cannot be done.
pub fn lacks(parts: &[&str]) -> Failure {
    let hint = if parts.iter().any(|part| part.contains("egress")) {
        "nf_tables has the egress hook from Linux 5.16 on, with CONFIG_NETFILTER_EGRESS"
    } else if parts.iter().any(|part| part.starts_with("sch_")) {
        "on RHEL, Amazon Linux 2023 and their kin, install kernel-modules-extra on the node; older \
         WSL2 and minikube kernels are built without it"
    } else {
        "the node's kernel must have it built in or as a module that it can load"
    };
    let message = format!("this kernel ({}) lacks {}", release(), parts.join(", "));
    failure(FailureKind::Unsupported, message, Some(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_begin_with_two_numbers() {
        for (release, want) in [
            ("6.1.0-28-amd64", Some((6, 1))),
            ("5.15.167.4-microsoft-standard-WSL2", Some((5, 15))),
            ("6.12", Some((6, 12))),
            ("unknown", None),
        ] {
            assert_eq!(first_two(release), want, "{release}");
        }
    }
}
