//! What is known by name changes while a fault runs: names are resolved again, and the plugin tells of pods and
//! Services. The fault's sets in the kernel follow.
//!
//! All that a name was resolved to is hit to the end: a name server that gives out its addresses in turns would
//! otherwise have them hit in turns. A pod that has gone is hit no more: its address may be another one's.

use std::os::fd::{AsFd, BorrowedFd};

use pod_chaos_protocol::{
    Endpoint, Event, Failure, FailureKind, FaultId, Host, Interface, Source, Target, Traffic,
};

use crate::{
    apply::take_lock,
    error::failure,
    fault::{connections, gate, selection::Selection},
    interface,
    kernel::Kernel,
    overlap,
    resolve::{
        self,
        refresh::{News, Refresh},
    },
    status::{self, Held},
};

/// The targets of a fault that is in force.
#[derive(Debug)]
pub struct Targets {
    id: FaultId,
    interfaces: Vec<Interface>,
    traffic: Traffic,
    /// Whether open connections to what is added are to be ended.
    kill: bool,
    refresh: Option<Refresh>,
    /// Those that another fault hits, as far as that has been said.
    skipped: Vec<Endpoint>,
}

/// What becomes of the addresses that a target has had so far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Former {
    Stay,
    Go,
}

impl Targets {
    /// Of this fault, which hits that traffic and may `kill` its connections. Names in it are resolved again from
    /// now on.
    pub fn new(id: FaultId, interfaces: Vec<Interface>, traffic: Traffic, kill: bool) -> Self {
        let mut hosts: Vec<Host> = Vec::new();
        for target in traffic.targets() {
            if let Source::Dns(host) = &target.source
                && !hosts.contains(host)
            {
                hosts.push(host.clone());
            }
        }
        // Without a thread for it, what was resolved stays as it is.
        let refresh = if hosts.is_empty() { None } else { Refresh::start(hosts).ok() };
        Self { id, interfaces, traffic, kill, refresh, skipped: Vec::new() }
    }

    /// Readable when there is something for [`Self::resolved`].
    pub fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.refresh.as_ref().map(AsFd::as_fd)
    }

    /// Does what name servers have answered meanwhile; what is to be said of it.
    pub fn resolved(&mut self, kernel: &mut Kernel) -> Vec<Event> {
        let news = self.refresh.as_mut().map(Refresh::news).unwrap_or_default();
        news.into_iter()
            .flat_map(|news| match news {
                News::Addresses(host, addresses) => {
                    let found = resolve::endpoints(&host, addresses);
                    self.change(kernel, &host.to_string(), &found, Former::Stay)
                }
                News::Nothing(host, message) => {
                    vec![Event::Kept { target: host.to_string(), message }]
                }
            })
            .collect()
    }

    /// Does what the plugin has found; what is to be said of it, if anything has changed.
    pub fn told(
        &mut self,
        kernel: &mut Kernel,
        target: &str,
        endpoints: &[Endpoint],
    ) -> Vec<Event> {
        self.change(kernel, target, endpoints, Former::Go)
    }

    fn change(
        &mut self,
        kernel: &mut Kernel,
        name: &str,
        found: &[Endpoint],
        former: Former,
    ) -> Vec<Event> {
        match self.try_change(kernel, name, found, former) {
            Ok(events) => events,
            // It has just ended, which is said in another place.
            Err(failure) if failure.kind == FailureKind::Gone => Vec::new(),
            Err(failure) => {
                vec![Event::Kept { target: name.to_owned(), message: failure.message }]
            }
        }
    }

    fn try_change(
        &mut self,
        kernel: &mut Kernel,
        name: &str,
        found: &[Endpoint],
        former: Former,
    ) -> Result<Vec<Event>, Failure> {
        let is_it = |target: &Target| target.name == name && !target.source.is_literal();
        let Some(known) = self.traffic.targets().find(|target| is_it(target)) else {
            let message = format!("fault {} has no target `{name}` that could change", self.id);
            return Err(failure(FailureKind::BadRequest, message, None));
        };
        let goes = |one: &Endpoint| former == Former::Go && !found.contains(one);
        let removed = known.endpoints.iter().filter(|one| goes(one)).count();
        let new = found.iter().filter(|one| !known.endpoints.contains(one)).cloned();
        let new: Vec<_> = new.collect();
        if new.is_empty() && removed == 0 {
            return Ok(Vec::new());
        }
        let _lock = take_lock()?;
        let others = status::scan(kernel)?;
        let others: Vec<_> =
            others.into_iter().filter(|held| held.id != self.id && held.is_live()).collect();
        let (skipped, added): (Vec<_>, Vec<_>) =
            new.into_iter().partition(|one| self.is_hit_by(&others, &is_it, one));
        let mut traffic = self.traffic.clone();
        for target in traffic.targets_mut().filter(|target| is_it(target)) {
            target.endpoints.retain(|one| !goes(one));
            target.endpoints.extend_from_slice(&added);
        }
        if removed > 0 || !added.is_empty() {
            gate::change_addresses(kernel, self.id, &Selection::new(&traffic))?;
        }
        let addresses = traffic.targets().find(|target| is_it(target)).map(|it| it.endpoints.len());
        self.traffic = traffic;
        let is_news = removed > 0
            || !added.is_empty()
            || skipped.iter().any(|one| !self.skipped.contains(one));
        self.skipped.clone_from(&skipped);
        let retargeted = is_news.then(|| Event::Retargeted {
            target: name.to_owned(),
            added: added.len(),
            removed,
            addresses: addresses.unwrap_or_default(),
            skipped,
        });
        let mut events = Vec::from_iter(retargeted);
        if self.kill && !added.is_empty() {
            events.push(self.kill(kernel, name, &self.only(&is_it, &added)));
        }
        Ok(events)
    }

    /// Ends the open connections of this traffic, which is what has been added to a target.
    fn kill(&self, kernel: &mut Kernel, target: &str, traffic: &Traffic) -> Event {
        let killed = interface::choose(kernel, &self.interfaces).and_then(|interfaces| {
            let links: Vec<_> = interfaces.iter().map(|(_, link)| link.index).collect();
            connections::kill(kernel, &Selection::new(traffic), &links)
        });
        match killed {
            Ok(connections) => Event::Killed { connections },
            Err(failure) => {
                let message = format!("of what is new, open connections go on: {failure}");
                Event::Kept { target: target.to_owned(), message }
            }
        }
    }

    /// Whether one of these faults hits what this endpoint would add.
    fn is_hit_by(
        &self,
        others: &[Held],
        is_it: &dyn Fn(&Target) -> bool,
        endpoint: &Endpoint,
    ) -> bool {
        let alone = self.only(is_it, std::slice::from_ref(endpoint));
        !overlap::find(others, self.id, &self.interfaces, &alone).is_empty()
    }

    /// What these endpoints add where that target is named.
    fn only(&self, is_it: &dyn Fn(&Target) -> bool, endpoints: &[Endpoint]) -> Traffic {
        let mut alone = self.traffic.clone();
        for peers in [&mut alone.egress, &mut alone.ingress] {
            let named = peers.as_ref().is_some_and(|peers| peers.0.iter().any(is_it));
            match peers {
                Some(peers) if named => {
                    peers.0 = endpoints.iter().cloned().map(Target::from).collect();
                }
                peers => *peers = None,
            }
        }
        alone
    }
}
