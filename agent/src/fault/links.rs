//! The links that a fault's packets go through: pairs, where what the first one sends the second receives, and
//! single ones, which give what they are to send back to where it came in.

use std::{
    thread,
    time::{Duration, Instant},
};

use nix::errno::Errno;
use pod_chaos_protocol::{Direction, Failure, FailureKind, FaultId};

use super::{
    INGRESS_KIND, PAIR_KIND, clear::own_links, entry_address, ingress_name, link_alias, way_in,
    way_out,
};
use crate::{
    error::{Doing, KernelError, failure},
    kernel::{self, Kernel},
    netlink::{
        Message,
        link::{self, Link},
    },
};

/// For how long a link may be without the carrier that it has.
const PATIENCE: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(1);

/// The two links for packets of one direction over one interface.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Into which packets go.
    pub entry: Link,
    /// From which they come out.
    pub exit: Link,
}

impl Pair {
    /// Makes it, down, for packets in this direction over the interface at this position among those of the
    /// fault. No packet comes near it yet.
    pub fn make(
        kernel: &mut Kernel,
        id: FaultId,
        (number, direction): (usize, Direction),
        mtu: u32,
    ) -> Result<Self, Failure> {
        let names = [&*way_in(id, number, direction), &*way_out(id, number, direction)];
        let message = link::create_pair(names, entry_address(id), mtu);
        let [entry, exit] = make(kernel, id, names, &message, PAIR_KIND)?;
        Ok(Self { entry, exit })
    }

    /// Sets it up.
    pub fn set_up(&self, kernel: &mut Kernel) -> Result<(), KernelError> {
        // The second link first: the kernel uses a link's qdiscs from the moment when it is up and has a
        // carrier, which for the first of a pair to be set up is only noticed later, by a worker thread.
        set_up(kernel, &self.exit)?;
        set_up(kernel, &self.entry)
    }

    /// Waits until the second link sends as well: what it is given before is lost. A busy machine takes some
    /// tens of milliseconds for it.
    pub fn wait_for_exit(&self, kernel: &mut Kernel) -> Result<(), Failure> {
        let Link { index, name, .. } = &self.exit;
        let start = Instant::now();
        while !link::is_operational(&mut kernel.route, *index)
            .doing(|| format!("read the state of the link {name}"))?
        {
            if start.elapsed() > PATIENCE {
                let message = format!("the link {name} has no carrier");
                return Err(failure(FailureKind::Kernel, message, None));
            }
            thread::sleep(STEP);
        }
        Ok(())
    }
}

/// Makes the link for packets that the interface at this position receives; down, as [`Pair::make`].
pub fn make_single(
    kernel: &mut Kernel,
    id: FaultId,
    number: usize,
    mtu: u32,
) -> Result<Link, Failure> {
    let name = &*ingress_name(id, number);
    let [link] = make(kernel, id, [name], &link::create_ifb(name, mtu), INGRESS_KIND)?;
    Ok(link)
}

/// Sets a link up.
pub fn set_up(kernel: &mut Kernel, Link { index, name, .. }: &Link) -> Result<(), KernelError> {
    kernel.route.request(&link::set_up(*index)).doing(|| format!("set the link {name} up"))
}

/// Makes links of this kind, and marks them as the fault's.
fn make<const COUNT: usize>(
    kernel: &mut Kernel,
    id: FaultId,
    names: [&str; COUNT],
    message: &Message,
    kind: &str,
) -> Result<[Link; COUNT], Failure> {
    kernel.route.request(message).map_err(|refusal| match refusal.errno {
        Errno::EOPNOTSUPP => kernel::lacks(&[kind]),
        _ => KernelError::new(format!("make the link {}", names[0]), refusal).into(),
    })?;
    let links = own_links(kernel, id)?;
    let made: Vec<_> = names
        .iter()
        .filter_map(|name| links.iter().find(|link| link.name == *name).cloned())
        .collect();
    let made = <[Link; COUNT]>::try_from(made).map_err(|_| {
        let message = format!("the link {} was gone as soon as it was made", names[0]);
        failure(FailureKind::Kernel, message, None)
    })?;
    for Link { index, name, .. } in &made {
        let mut request = |message: &Message, what: &str| {
            kernel.route.request(message).doing(|| format!("{what} of the link {name}"))
        };
        request(&link::set_alias(*index, &link_alias(id)), "set the alias")?;
        // Else it would get an address that the pod's processes can see. A kernel without IPv6 refuses.
        let _ = request(&link::set_no_addresses(*index), "switch off the addresses");
    }
    Ok(made)
}
