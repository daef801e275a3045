//! Faults of the network: what they come to in a pod.

use std::{collections::BTreeMap, net::IpAddr, rc::Rc};

use k8s_openapi::api::core::v1::Pod;
use pod_chaos_protocol::{Cidr, FaultId, Request, RunTime, Traffic};

use super::{
    fault::{self, Job},
    start::{Aim, Wanted},
};
use crate::{
    cli::{ConnectionArgs, CourseArgs, PodArgs},
    cluster::{AgentSpec, Chosen, Domain, Following, Scope},
    exit::{Error, Exit},
    plan::{Intent, PodName},
    report::{Board, expectation},
};

pub(super) async fn run(
    connection: &ConnectionArgs,
    args: &PodArgs,
    course: &CourseArgs,
    intent: Intent,
) -> Result<Exit, Error> {
    fault::run(connection, args, course, NetworkFault::new(intent)).await
}

/// A network fault, before it is known where.
pub(super) struct NetworkFault {
    intent: Intent,
    /// What targets stand for that only the API knows, by where the pods are that are hit.
    surveyed: BTreeMap<Scope, (Traffic, Vec<Following>)>,
}

impl NetworkFault {
    pub fn new(intent: Intent) -> Self {
        Self { intent, surveyed: BTreeMap::new() }
    }
}

impl Wanted for NetworkFault {
    type Deed = Job;

    fn domain(&self) -> Domain {
        Domain::Network
    }

    fn running_time(&self) -> Option<RunTime> {
        Some(self.intent.plan.running_time)
    }

    async fn survey(&mut self, pods: &[Chosen], board: &Rc<Board>) -> Result<(), Error> {
        let Intent { followed, plan, .. } = &self.intent;
        if followed.is_empty() {
            return Ok(());
        }
        let mut scopes: BTreeMap<&Scope, (usize, &Chosen)> = BTreeMap::new();
        for one in pods {
            scopes.entry(one.cluster.scope()).or_insert((0, one)).0 += 1;
        }
        for (scope, (count, one)) in scopes {
            let mut traffic = plan.traffic.clone();
            let mut say = |text: &str| board.note(text);
            let following = Following::start(&one.cluster, followed, &mut traffic, &mut say).await;
            let following = following.map_err(|error| scope.tell(error))?;
            self.surveyed.insert(scope.clone(), (traffic, following.split(count)));
        }
        Ok(())
    }

    fn aim(&mut self, Chosen { cluster, name, pod }: &Chosen) -> Result<Vec<Aim<Job>>, Error> {
        let Intent { origin, detach, followed, spare_node, .. } = &self.intent;
        let mut plan = self.intent.plan.clone();
        // One that carried another's id could not be told from it where pods share their node's network.
        plan.id = FaultId::new(rand::random());
        let mut following = Following::nothing();
        if let Some((traffic, shares)) = self.surveyed.get_mut(cluster.scope()) {
            plan.traffic = traffic.clone();
            following = shares.pop().unwrap_or_else(Following::nothing);
        }
        let mut notes = Vec::new();
        if *spare_node {
            plan.traffic.spare_node = node_addresses(pod);
            if plan.traffic.spare_node.is_empty() {
                notes.push(format!(
                    "warning: pod/{name} does not say which addresses its node has; probes may be hit"
                ));
            }
        }
        check(name, &plan.traffic)?;
        if *detach && !followed.is_empty() {
            notes.push(
                "warning: pods and services are only followed while this command runs".to_owned(),
            );
        }
        // Which node is spared is each pod's own affair.
        notes.push(format!("pod/{name} to be hit: {}", plan.traffic));
        if let Some(expectation) = expectation::of(&plan.fault) {
            notes.push(format!("pod/{name} to be seen: {expectation}"));
        }
        let job = Job {
            id: plan.id,
            request: Request::Apply { plan: plan.clone() },
            running_time: plan.running_time,
            detach: *detach,
            container: None,
            ends_container: false,
            more: None,
            following,
            then: None,
        };
        let agent = AgentSpec::network(origin.clone());
        let plan = Intent::fits_arguments(&plan).then_some(plan);
        Ok(vec![Aim { agent, notes, inside: None, plan, deed: job }])
    }
}

/// Sees whether anything is left to be hit.
fn check(name: &PodName, traffic: &Traffic) -> Result<(), Error> {
    traffic.check().map_err(|error| {
        let hint = error.hint();
        let refused = Error::refused(format_args!("pod/{name}: {error}"));
        hint.into_iter().fold(refused, Error::hint)
    })
}

/// The addresses of the pod's node.
fn node_addresses(pod: &Pod) -> Vec<Cidr> {
    let status = pod.status.as_ref();
    let several = status.into_iter().flat_map(|status| status.host_ips.iter().flatten());
    let several = several.map(|host| host.ip.as_str());
    // Servers before 1.28 only tell one.
    let one = status.and_then(|status| status.host_ip.as_deref());
    let mut addresses: Vec<Cidr> =
        several.chain(one).filter_map(|text| text.parse::<IpAddr>().ok()).map(Cidr::from).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}
