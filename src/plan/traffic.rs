//! Which traffic the flags mean.

use pod_chaos_protocol::{BadTraffic, Peer, Peers, Ports, Protocol, Sample, Target, Traffic};

use super::{Followed, FollowedKind, Labels, Service};
use crate::cli::{DirectionFlag, TrafficArgs};

/// Why the flags about traffic make no sense together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTrafficFlags {
    /// `--to` is about what leaves.
    #[error(
        "--to and its like are about what leaves the pod: they go with --direction egress or both"
    )]
    ToIngress,
    /// `--from` is about what comes in.
    #[error(
        "--from and its like are about what reaches the pod: they go with --direction ingress or both"
    )]
    FromEgress,
    /// `--peer-namespace` is about pods and services.
    #[error(
        "--peer-namespace goes with --to-pods, --to-service and the other flags for pods and services"
    )]
    NoPeers,
    /// One packet in one is all.
    #[error("--every 1 is every packet; leave it out")]
    EveryOne,
    /// Nothing would be hit.
    #[error(transparent)]
    Nothing(#[from] BadTraffic),
}

/// The traffic that is meant; `default` is the direction when no flag says one. The node's addresses are
/// not known yet.
pub fn traffic(args: &TrafficArgs, default: DirectionFlag) -> Result<Traffic, BadTrafficFlags> {
    use DirectionFlag::{Both, Egress, Ingress};
    let to = targets(args, &args.to, &args.to_pods, &args.to_service);
    let from = targets(args, &args.from, &args.from_pods, &args.from_service);
    if args.peer_namespace.is_some() && followed(args).is_empty() {
        return Err(BadTrafficFlags::NoPeers);
    }
    let direction = match (args.direction, to.is_empty(), from.is_empty()) {
        (Some(Ingress), false, _) => return Err(BadTrafficFlags::ToIngress),
        (Some(Egress), _, false) => return Err(BadTrafficFlags::FromEgress),
        (Some(direction), ..) => direction,
        (None, false, false) => Both,
        (None, false, true) => Egress,
        (None, true, false) => Ingress,
        (None, true, true) => default,
    };
    // With both directions, the peers that are named for one are meant for the other too.
    let peers =
        |own: &[Target], other: &[Target]| Peers(if own.is_empty() { other } else { own }.to_vec());
    let sample = match (args.every, args.connections) {
        (Some(number), _) if number.get() == 1 => return Err(BadTrafficFlags::EveryOne),
        (Some(number), _) => Some(Sample::Every(number)),
        (None, share) => share.map(Sample::Connections),
    };
    let traffic = Traffic {
        interfaces: args.interfaces.clone(),
        egress: (direction != Ingress).then(|| peers(&to, &from)),
        ingress: (direction != Egress).then(|| peers(&from, &to)),
        protocol: args
            .protocol
            .and_then(|flag: crate::cli::ProtocolFlag| -> Option<Protocol> { flag.0 }),
        remote_ports: Ports::from_ranges(args.remote_ports.iter().flat_map(Ports::ranges)),
        local_ports: Ports::from_ranges(args.local_ports.iter().flat_map(Ports::ranges)),
        exclude: targets(args, &args.exclude, &args.exclude_pods, &args.exclude_service),
        spare_node: Vec::new(),
        spare_dns: args.spare_dns,
        sample,
    };
    traffic.check()?;
    Ok(traffic)
}

/// The targets of some flags; what only the API knows is named as in [`followed`].
fn targets(
    args: &TrafficArgs,
    peers: &[Peer],
    pods: &[Labels],
    services: &[Service],
) -> Vec<Target> {
    let followed = some_followed(args, pods, services);
    let followed = followed.iter().map(|one| Target::followed(one.to_string()));
    peers.iter().cloned().map(Target::from).chain(followed).collect()
}

/// The targets that only the Kubernetes API knows, each once.
pub fn followed(args: &TrafficArgs) -> Vec<Followed> {
    let mut all: Vec<Followed> = Vec::new();
    for one in [
        some_followed(args, &args.to_pods, &args.to_service),
        some_followed(args, &args.from_pods, &args.from_service),
        some_followed(args, &args.exclude_pods, &args.exclude_service),
    ]
    .concat()
    {
        if !all.contains(&one) {
            all.push(one);
        }
    }
    all
}

fn some_followed(args: &TrafficArgs, pods: &[Labels], services: &[Service]) -> Vec<Followed> {
    let pods = pods.iter().cloned().map(FollowedKind::Pods);
    let services = services.iter().cloned().map(FollowedKind::Service);
    let namespace = &args.peer_namespace;
    pods.chain(services).map(|kind| Followed { kind, namespace: namespace.clone() }).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        traffic: TrafficArgs,
    }

    fn read(line: &str) -> Result<String, String> {
        let words = std::iter::once("x").chain(line.split_whitespace());
        let args = Line::try_parse_from(words).map_err(|error| error.to_string())?.traffic;
        traffic(&args, DirectionFlag::Egress)
            .map(|traffic| traffic.to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn to_and_from_say_the_direction() {
        for (line, want) in [
            ("", "egress"),
            ("--to-pods app=db", "egress to pods app=db"),
            (
                "--from-pods app=db --direction both",
                "egress to pods app=db and ingress from pods app=db",
            ),
            (
                "--to 10.0.0.1 --to-service db:5432 --exclude-pods app=x --peer-namespace prod",
                "egress to 10.0.0.1, service db:5432 in prod, not pods app=x in prod",
            ),
            (
                "--to-pods app=web --from-service db:5432",
                "egress to pods app=web and ingress from service db:5432",
            ),
            ("--direction both", "egress and ingress"),
            ("--to 10.0.0.1", "egress to 10.0.0.1"),
            ("--from 10.0.0.1", "ingress from 10.0.0.1"),
            ("--to 10.0.0.1 --from 10.0.0.2:80", "egress to 10.0.0.1 and ingress from 10.0.0.2:80"),
            ("--to 10.0.0.1 --direction both", "egress to 10.0.0.1 and ingress from 10.0.0.1"),
            ("--from fd00::/8 --direction both", "egress to fd00::/8 and ingress from fd00::/8"),
            ("--to db:5432 --exclude 10.0.0.1", "egress to db:5432, not 10.0.0.1"),
        ] {
            assert_eq!(read(line), Ok(want.to_owned()), "{line}");
        }
        assert!(
            read("--to 10.0.0.1 --direction ingress").unwrap_err().contains("--to and its like")
        );
        assert!(
            read("--from 10.0.0.1 --direction egress").unwrap_err().contains("--from and its like")
        );
    }

    #[test]
    fn lists_of_ports_add_up() {
        assert_eq!(
            read("--port 80 --port 443,8000-8100 --local-port 1024-65535 --protocol tcp"),
            Ok("egress, tcp, port 80,443,8000-8100, local port 1024-65535".to_owned())
        );
        assert_eq!(read("--protocol any"), Ok("egress".to_owned()));
    }

    #[test]
    fn what_hits_nothing_is_refused() {
        assert!(read("--protocol icmp --port 80").unwrap_err().contains("icmp has no ports"));
        assert!(read("--to 10.0.0.1 --exclude 10.0.0.0/8").unwrap_err().contains("is excluded by"));
        assert!(read("--peer-namespace prod").unwrap_err().contains("goes with --to-pods"));
        assert!(read("--every 1").unwrap_err().contains("--every 1 is every packet"));
        assert!(read("--every 2 --connections 30").is_err());
    }
}
