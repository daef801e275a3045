//! Which interface a fault hits, and where its default route leads.

use std::net::IpAddr;

use nix::errno::Errno;
use pod_chaos_protocol::{Failure, FailureKind, Interface};

use crate::{
    error::{Doing, failure},
    fault,
    kernel::Kernel,
    netlink::{
        link::{self, Link},
        route::{self, Family},
    },
};

/// Finds the interfaces that were asked for, else the one that carries the default route: of IPv4, else
/// of IPv6.
pub fn choose(
    kernel: &mut Kernel,
    wanted: &[Interface],
) -> Result<Vec<(Interface, Link)>, Failure> {
    let links = link::list(&mut kernel.route).doing(|| "list the interfaces".to_owned())?;
    if wanted.is_empty() {
        return Ok(vec![choose_one(kernel, &links, None)?]);
    }
    wanted.iter().map(|name| choose_one(kernel, &links, Some(name))).collect()
}

fn choose_one(
    kernel: &mut Kernel,
    links: &[Link],
    wanted: Option<&Interface>,
) -> Result<(Interface, Link), Failure> {
    let found = match wanted {
        Some(name) => links.iter().find(|link| link.name == name.as_str()),
        None => carrier_of_default_route(kernel)?
            .and_then(|index| links.iter().find(|link| link.index == index)),
    };
    // Names that cannot be asked for, loopback among them, are never found.
    let found = found
        .filter(|link| fault::id_of_link(&link.name).is_none())
        .and_then(|link| Some((link.name.parse().ok()?, link.clone())));
    let Some((name, link)) = found else {
        let message = wanted.map_or_else(
            || "this pod has no default route to tell which interface to hit".to_owned(),
            |name| format!("this pod has no interface `{name}`"),
        );
        let hint = format!("its interfaces: {}", names(links));
        return Err(failure(FailureKind::NotFound, message, Some(&hint)));
    };
    if !link.up {
        let message = format!("interface `{name}` is down: nothing passes over it");
        let hint = format!("the pod's interfaces: {}", names(links));
        return Err(failure(FailureKind::NotFound, message, Some(&hint)));
    }
    Ok((name, link))
}

fn carrier_of_default_route(kernel: &mut Kernel) -> Result<Option<i32>, Failure> {
    for family in [Family::V4, Family::V6] {
        match route::default_interface(&mut kernel.route, family) {
            Ok(None) => {}
            // A kernel without this IP version.
            Err(refusal) if refusal.errno == Errno::EOPNOTSUPP => {}
            found => return Ok(found.doing(|| "list the routes".to_owned())?),
        }
    }
    Ok(None)
}

/// The routers that the pod's default routes lead to. On most networks of pods that is the node, under another
/// address than those that the API has: the one that the kubelet's probes come from.
pub fn gateways(kernel: &mut Kernel) -> Result<Vec<IpAddr>, Failure> {
    let mut found = Vec::new();
    for family in [Family::V4, Family::V6] {
        match route::default_gateways(&mut kernel.route, family) {
            Err(refusal) if refusal.errno == Errno::EOPNOTSUPP => {}
            gateways => found.extend(gateways.doing(|| "list the routes".to_owned())?),
        }
    }
    Ok(found)
}

/// Those that could be asked for, with those that are down marked.
fn names(links: &[Link]) -> String {
    let names: Vec<_> = links
        .iter()
        .filter(|link| link.name.parse::<Interface>().is_ok())
        .filter(|link| fault::id_of_link(&link.name).is_none())
        .map(|link| format!("{}{}", link.name, if link.up { "" } else { " (down)" }))
        .collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
