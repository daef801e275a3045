//! Ending the pod's TCP connections that a fault hits: the process at the pod's end gets ECONNABORTED; the
//! other end is sent a reset, which a partition that drops keeps from it.

use std::net::IpAddr;

use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use nix::errno::Errno;
use pod_chaos_protocol::{Direction, Failure};

use super::selection::{Packet, Selection};
use crate::{
    error::Doing,
    kernel::{self, Kernel},
    netlink::{Netlink, address, socket_diagnosis},
};

/// Ends those that the selection hits in any of its directions, over these interfaces. How many it ended.
pub fn kill(kernel: &mut Kernel, selection: &Selection, links: &[i32]) -> Result<u32, Failure> {
    let own = address::list(&mut kernel.route).doing(|| "list the addresses".to_owned())?;
    let over =
        |local: IpAddr| own.iter().any(|own| own.address == local && links.contains(&own.link));
    let inside =
        |remote: IpAddr| remote.is_loopback() || own.iter().any(|own| own.address == remote);
    let mut diagnosis = Netlink::open(NETLINK_SOCK_DIAG)
        .doing(|| "open a socket to the kernel's socket diagnosis".to_owned())?;
    let connections = socket_diagnosis::tcp_connections(&mut diagnosis)
        .doing(|| "list the TCP connections".to_owned())?;
    let mut killed = 0;
    for connection in connections {
        let (local, remote) = (connection.local, connection.remote);
        let packet = Packet::tcp(remote, local.port());
        let hit = Direction::BOTH.iter().any(|direction| selection.hits(*direction, &packet));
        if !hit || !over(local.ip()) || inside(remote.ip()) {
            continue;
        }
        match diagnosis.request(&socket_diagnosis::destroy(&connection)) {
            Ok(()) => killed += 1,
            // It has ended by itself.
            Err(refusal) if refusal.errno == Errno::ENOENT => {}
            Err(refusal) if refusal.errno == Errno::EOPNOTSUPP => {
                return Err(kernel::lacks(&["the killing of sockets (CONFIG_INET_DIAG_DESTROY)"]));
            }
            refused => refused.doing(|| format!("end the connection {local} → {remote}"))?,
        }
    }
    Ok(killed)
}
