//! Which traffic a fault hits; the same flags for every network fault.

use std::{num::NonZeroU32, str::FromStr};

use clap::{Args, ValueEnum};
use pod_chaos_protocol::{BadPorts, Interface, Peer, Ports, Protocol, Share};

use super::at_least_one;
use crate::plan::{Labels, Namespace, Service};

/// Flags that say which packets are hit: all that are given must hold.
#[derive(Debug, Args)]
#[command(next_help_heading = "Traffic")]
pub struct TrafficArgs {
    /// Hit what leaves for this address, CIDR or host, with :ports or without; repeatable
    #[arg(long, value_name = "PEER")]
    pub to: Vec<Peer>,
    /// Hit what comes from this address, CIDR or host, with :ports or without; repeatable
    #[arg(long, value_name = "PEER")]
    pub from: Vec<Peer>,
    /// Spare this address, CIDR or host, with :ports or without, or /protocol; repeatable
    #[arg(long, value_name = "PEER")]
    pub exclude: Vec<Peer>,
    /// Hit what leaves for pods with these labels, as app=db,tier!=cache; followed; repeatable
    #[arg(long, value_name = "LABELS")]
    pub to_pods: Vec<Labels>,
    /// Hit what comes from pods with these labels; followed; repeatable
    #[arg(long, value_name = "LABELS")]
    pub from_pods: Vec<Labels>,
    /// Spare pods with these labels; followed; repeatable
    #[arg(long, value_name = "LABELS")]
    pub exclude_pods: Vec<Labels>,
    /// Hit what leaves for this service, and for what is behind it; followed; repeatable
    #[arg(long, value_name = "NAME[:PORT]")]
    pub to_service: Vec<Service>,
    /// Hit what comes from this service, or from what is behind it; followed; repeatable
    #[arg(long, value_name = "NAME[:PORT]")]
    pub from_service: Vec<Service>,

    /// Spare this service, and what is behind it; followed; repeatable
    #[arg(long, value_name = "NAME[:PORT]")]
    pub exclude_service: Vec<Service>,
    /// Namespace of these pods and services; the pod's own when not given
    #[arg(long, value_name = "NAMESPACE")]
    pub peer_namespace: Option<Namespace>,
    /// Only this protocol: tcp, udp, icmp or any
    #[arg(long, value_name = "PROTOCOL")]
    pub protocol: Option<ProtocolFlag>,
    /// Only these ports at the other end, as 80,443 or 8000-8100; repeatable
    #[arg(long = "port", visible_alias = "remote-port", value_name = "PORTS")]
    pub remote_ports: Vec<Ports>,
    /// Only these ports at the pod's end; repeatable
    #[arg(long = "local-port", value_name = "PORTS")]
    pub local_ports: Vec<Ports>,
    /// Spare DNS: port 53 at the other end
    #[arg(long)]
    pub spare_dns: bool,
    /// Hit the node's addresses too, from which its kubelet probes the pod
    #[arg(long)]
    pub include_probes: bool,
    /// What leaves the pod, what reaches it, or both; --to and --from imply it
    #[arg(long, value_enum, value_name = "DIRECTION")]
    pub direction: Option<DirectionFlag>,
    /// Interface of the pod; the one that carries the default route when not given; repeatable
    #[arg(short, long = "iface", visible_alias = "interface", value_name = "NAME")]
    pub interfaces: Vec<Interface>,
    /// Hit one packet in so many
    #[arg(long, value_name = "N", value_parser = at_least_one, conflicts_with = "connections")]
    pub every: Option<NonZeroU32>,
    /// Hit this share of connections, each wholly or not at all
    #[arg(long, value_name = "PERCENT")]
    pub connections: Option<Share>,
    /// End faults that hit some of the same traffic, instead of refusing to start
    #[arg(long)]
    pub replace: bool,
}

/// A protocol, or any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtocolFlag(pub Option<Protocol>);

impl FromStr for ProtocolFlag {
    type Err = BadPorts;

    fn from_str(text: &str) -> Result<Self, BadPorts> {
        if text.eq_ignore_ascii_case("any") {
            Ok(Self(None))
        } else {
            text.parse().map(Some).map(Self)
        }
    }
}

/// One direction, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DirectionFlag {
    /// What leaves the pod
    Egress,
    /// What reaches it
    Ingress,
    /// Both
    Both,
}
