//! Bytes to and from the kernel: links, addresses, routes, qdiscs, nf_tables, sockets.
//!
//! The messages are built and read here, attribute by attribute, on the framing of
//! `netlink-packet-core`. The crates with ready-made messages were not used because they lack half of
//! what is needed (options of netem and tbf; the expressions counter, fwd and range; timeouts of
//! set elements), and because they refuse a whole dump for one attribute that they cannot read,
//! although a pod may hold links and tables of any kind that are none of our business. Here, what is
//! not asked for is not read.

pub mod address;
pub mod attribute;
pub mod ethtool;
pub mod link;
pub mod message;
pub mod netem;
pub mod nftables;
pub mod qdisc;
pub mod redirect;
pub mod route;
pub mod socket;
pub mod socket_diagnosis;

pub use message::Message;
pub use socket::{Netlink, Refusal};
