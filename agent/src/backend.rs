//! How a fault is done on this kernel, by what the kernel does and not by its version.

use nix::errno::Errno;
use pod_chaos_protocol::{Backend, Direction, Failure};

use crate::{error::Doing, kernel::Kernel, netlink::qdisc};

/// The index of the loopback interface, in every network namespace.
const LOOPBACK: i32 = 1;

/// How netem gets the packets of these directions.
pub fn by_netem(directions: &[Direction]) -> Backend {
    match directions {
        [Direction::Egress, Direction::Ingress] => Backend::NetdevBoth,
        [Direction::Ingress] => Backend::NetdevIngress,
        _ => Backend::NetdevEgress,
    }
}

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
    Ok(by_netem(directions))
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
