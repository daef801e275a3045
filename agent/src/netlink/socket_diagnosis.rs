//! The kernel's view of sockets (linux/sock_diag.h, linux/inet_diag.h).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::{Message, Netlink, Refusal, attribute::Attributes};

/// Of linux/sock_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;

/// Numbers of states (net/tcp_states.h): those of a connection that is being opened, is open, or is being
/// closed. Not those without another end, and not the mere memory of one (TIME_WAIT).
const STATES: [u32; 8] = [1, 2, 3, 4, 5, 8, 9, 11];

/// Length of `struct inet_diag_sockid`: ports, addresses, interface, cookie.
const ID: usize = 48;

/// A TCP connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The pod's end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    family: u8,
    id: [u8; ID],
}

/// `struct inet_diag_req_v2`.
fn request(kind: u16, family: u8, states: u32, id: &[u8; ID]) -> Message {
    let mut header = vec![family, IPPROTO_TCP, 0, 0];
    header.extend_from_slice(&states.to_ne_bytes());
    header.extend_from_slice(id);
    Message::new(kind, &header, &Attributes::new())
}

/// All TCP connections of this network namespace, whoever has them.
pub fn tcp_connections(diagnosis: &mut Netlink) -> Result<Vec<Connection>, Refusal> {
    let states = STATES.into_iter().fold(0, |all, state| all | 1 << state);
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let message = request(SOCK_DIAG_BY_FAMILY, family, states, &[0; ID]);
        found.extend(diagnosis.dump(message, read)?);
    }
    Ok(found)
}

/// Ends it.
pub fn destroy(connection: &Connection) -> Message {
    request(SOCK_DESTROY, connection.family, u32::MAX, &connection.id)
}

/// Reads `struct inet_diag_msg`.
pub(crate) fn read(body: &[u8]) -> Option<Connection> {
    let family = *body.first()?;
    let id: [u8; ID] = *body.get(4..)?.first_chunk()?;
    let port = |at: usize| u16::from_be_bytes([id[at], id[at + 1]]);
    let address = |at: usize| -> Option<IpAddr> {
        Some(if family == AF_INET {
            IpAddr::from(*id[at..].first_chunk::<4>()?)
        } else {
            Ipv6Addr::from(*id[at..].first_chunk::<16>()?).to_canonical()
        })
    };
    Some(Connection {
        local: SocketAddr::new(address(4)?, port(0)),
        remote: SocketAddr::new(address(20)?, port(2)),
        family,
        id,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_socket_of_ipv6_may_have_a_connection_over_ipv4() {
        let mut body = vec![0; 72];
        body[0] = AF_INET6;
        body[4..8].copy_from_slice(&[0x1f, 0x90, 0, 80]);
        for (at, last) in [(8, 1), (24, 2)] {
            body[at + 10..at + 16].copy_from_slice(&[255, 255, 10, 0, 0, last]);
        }
        let connection = read(&body).unwrap();
        assert_eq!(connection.local.to_string(), "10.0.0.1:8080");
        assert_eq!(connection.remote.to_string(), "10.0.0.2:80");
        let message = destroy(&connection);
        assert_eq!((message.body.len(), &message.body[8..]), (56, &body[4..52]));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = read(&bytes);
        }
    }
}
