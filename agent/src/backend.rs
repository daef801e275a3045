//! How a fault is done on this kernel, by what the kernel does and not by its version.

use nix::errno::Errno;
use pod_chaos_protocol::{Backend, Direction, Failure, FailureKind};

use crate::{
    error::{Doing, KernelError, failure},
    kernel::{self, Kernel},
    netlink::{
        nftables::{self, Chain, Family, Hook, TableId},
        qdisc,
    },
};

/// The index of the loopback interface, in every network namespace.
const LOOPBACK: i32 = 1;

/// The one that was asked for, else the best that this kernel can do to traffic of these directions. Changes
/// nothing.
pub fn choose(
    kernel: &mut Kernel,
    wanted: Option<Backend>,
    directions: &[Direction],
) -> Result<Backend, Failure> {
    if let Some(backend) = wanted {
        return Ok(backend);
    }
    for kind in ["tbf", "netem"] {
        if !knows_qdisc(kernel, kind)? {
            return Ok(Backend::Userspace);
        }
    }
    // Which the agent needs as well, to do it by itself.
    if directions.contains(&Direction::Egress) && !has_egress_hook(kernel)? {
        return Ok(Backend::Prio);
    }
    Ok(Backend::by_netem(directions))
}

/// Linux has the egress hook of nf_tables from here on.
const WITH_EGRESS_HOOK: (u32, u32) = (5, 16);

/// Whether nf_tables has the egress hook. Where every kernel of this age has it, it is not tried: that takes a
/// dozen milliseconds, in which the kernel waits for all readers of what never was.
fn has_egress_hook(kernel: &mut Kernel) -> Result<bool, Failure> {
    if kernel::version().is_some_and(|version| version >= WITH_EGRESS_HOOK) {
        return Ok(true);
    }
    takes_hook(kernel, Hook::Egress.number())
}

/// Whether a chain of the family `netdev` can hook in there. It is asked for with something that cannot be
/// done, so that nothing is.
pub fn takes_hook(kernel: &mut Kernel, hook: u32) -> Result<bool, Failure> {
    let table = TableId { family: Family::Netdev, name: "pod-chaos-probe" };
    let nowhere = TableId { family: Family::Netdev, name: "pod-chaos-nowhere" };
    let (name, device) = ("probe".to_owned(), Some("lo".to_owned()));
    let chain = Chain { name, hook: Some(hook), device };
    let messages = [
        nftables::new_table(table, ""),
        nftables::new_chain(table, &chain),
        nftables::delete_table(nowhere),
    ];
    match nftables::transact(&mut kernel.netfilter, &messages) {
        Err((Some(1), refusal)) if refusal.errno == Errno::EOPNOTSUPP => Ok(false),
        Err((Some(2), refusal)) if refusal.errno == Errno::ENOENT => Ok(true),
        Err((_, refusal)) => {
            let doing = "find out whether nf_tables has a hook".to_owned();
            Err(KernelError::new(doing, refusal).into())
        }
        Ok(()) => {
            let message = format!("the kernel deleted the {nowhere}, which there is not");
            Err(failure(FailureKind::Kernel, message, None))
        }
    }
}

/// Whether the kernel has this kind of qdisc, or a module of it that it can load. It is asked for one without
/// any parameters, which no kernel makes: it says so if it knows the kind (`netem_init`, `tbf_init`: EINVAL).
fn knows_qdisc(kernel: &mut Kernel, kind: &str) -> Result<bool, Failure> {
    match kernel.route.request(&qdisc::ask_for(LOOPBACK, kind)) {
        Err(refusal) if refusal.errno == Errno::EINVAL => Ok(true),
        // Of a kernel without any qdiscs: EOPNOTSUPP.
        Err(refusal) if matches!(refusal.errno, Errno::ENOENT | Errno::EOPNOTSUPP) => Ok(false),
        answer => {
            answer.doing(|| format!("find out whether there is a qdisc {kind}"))?;
            Ok(true)
        }
    }
}
