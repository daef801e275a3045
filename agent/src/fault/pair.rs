//! The pair of links that a fault's packets go through: what the first one sends, the second receives.

use nix::errno::Errno;
use pod_chaos_protocol::{Failure, FailureKind, FaultId};

use super::{entry_address, entry_name, exit_name, link_alias, owner_of};
use crate::{
    error::{Doing, KernelError, failure},
    kernel::{self, Kernel},
    netlink::{
        Message,
        link::{self, Link},
    },
};

/// The two links of a fault.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Into which packets go.
    pub entry: Link,
    /// From which they come out.
    pub exit: Link,
}

/// Makes it, down. No packet comes near it yet.
pub fn make(kernel: &mut Kernel, id: FaultId, mtu: u32) -> Result<Pair, Failure> {
    let (name, exit) = (&entry_name(id), &exit_name(id));
    let pair = link::create_pair([name, exit], entry_address(id), mtu);
    kernel.route.request(&pair).map_err(|refusal| match refusal.errno {
        Errno::EOPNOTSUPP => kernel::lacks(&["veth"]),
        _ => KernelError::new(format!("make the link {name}"), refusal).into(),
    })?;
    let links = own_links(kernel, id)?;
    let find = |name: &str| links.iter().find(|link| link.name == name).cloned();
    let (Some(entry), Some(exit)) = (find(name), find(exit)) else {
        let message = format!("the link {name} was gone as soon as it was made");
        return Err(failure(FailureKind::Kernel, message, None));
    };
    for Link { index, name, .. } in [&entry, &exit] {
        let mut request = |message: &Message, what: &str| {
            kernel.route.request(message).doing(|| format!("{what} of the link {name}"))
        };
        request(&link::set_alias(*index, &link_alias(id)), "set the alias")?;
        // Else it would get an address that the pod's processes can see. A kernel without IPv6 refuses.
        let _ = request(&link::set_no_addresses(*index), "switch off the addresses");
    }
    Ok(Pair { entry, exit })
}

/// Sets it up.
pub fn set_up(kernel: &mut Kernel, pair: &Pair) -> Result<(), KernelError> {
    // The second link first: the kernel uses a link's qdiscs from the moment when it is up and has a
    // carrier, which for the first of a pair to be set up is only noticed later, by a worker thread.
    for Link { index, name, .. } in [&pair.exit, &pair.entry] {
        let message = link::set_up(*index);
        kernel.route.request(&message).doing(|| format!("set the link {name} up"))?;
    }
    Ok(())
}

/// Those of the fault's own links that are there.
pub fn own_links(kernel: &mut Kernel, id: FaultId) -> Result<Vec<Link>, KernelError> {
    let links = link::list(&mut kernel.route).doing(|| "list the interfaces".to_owned())?;
    Ok(links.into_iter().filter(|link| owner_of(link) == Some(id)).collect())
}

/// The one of the fault's links into which packets go.
pub fn entry_of(id: FaultId, links: &[Link]) -> Option<&Link> {
    links.iter().find(|link| link.name == entry_name(id))
}
