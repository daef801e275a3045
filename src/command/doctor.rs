//! `doctor`: whether faults can be done to a pod, and if not, why not and what helps.

use std::io::{Write as _, stdout};

use pod_chaos_protocol::{
    Event, Fault, FaultId, Latency, Netem, NetemFault, Peers, Plan, Request, RunTime, Target,
    Traffic,
};
use serde_json::json;

use super::{note, start::choose, sweep};
use crate::{
    cli::{ConditionArgs, ConnectionArgs, DoctorArgs, FaultKind, PickArgs},
    cluster::{
        AgentSpec, Capability, Chosen, Cluster, Domain, Limits, Role, Safety, TargetContainer,
        checkup::{self, Finding, Verdict},
        ensure_agent,
    },
    exit::{Error, Exit},
    plan::{Origin, OutputFormat, Selection},
    report::{Board, Place, document, json},
};

/// What the network's agent needs no leave for: an address that nobody has (RFC 5737).
const NOBODY: &str = "192.0.2.1";

/// What was found about one pod.
struct Checkup {
    place: Place,
    /// By what they are for.
    findings: Vec<(&'static str, Finding)>,
}

pub(super) async fn run(connection: &ConnectionArgs, args: &DoctorArgs) -> Result<Exit, Error> {
    let conditions = ConditionArgs { labels: args.labels.clone(), ..ConditionArgs::default() };
    let pick = PickArgs { pods: args.pods.clone(), conditions, ..PickArgs::default() };
    let selection = Selection::try_from(&pick)
        .map_err(|error| Error::new(Exit::Usage, &error).hint(error.hint()))?;
    let clusters = Cluster::connect(connection, args.namespace.namespace.as_ref()).await?;
    // It is not the choice that is to be read.
    let board = Board::new(OutputFormat::Text);
    let pods = choose(&clusters, &selection, &board).await?;
    let mut checkups = Vec::new();
    for at in &pods {
        let findings = look(args, at).await?;
        checkups.push(Checkup { place: Place::of(at), findings });
    }
    print(&args.output.format, &checkups)?;
    let mut all = checkups.iter().flat_map(|one| &one.findings);
    let refused = all.any(|(_, finding)| finding.verdict == Verdict::No);
    Ok(if refused { Exit::Refused } else { Exit::Done })
}

/// What faults take of an agent where processes are another user's.
const fn capabilities(fault: FaultKind) -> Option<&'static [Capability]> {
    match fault {
        FaultKind::Disrupt | FaultKind::Partition => None,
        FaultKind::Pause => Some(&[Capability::SysPtrace]),
        FaultKind::Burn => Some(&[]),
        FaultKind::Kill => Some(&[Capability::SysPtrace, Capability::Kill]),
        FaultKind::Signal => Some(&[Capability::Kill]),
    }
}

async fn look(args: &DoctorArgs, at: &Chosen) -> Result<Vec<(&'static str, Finding)>, Error> {
    let Chosen { cluster, pod, .. } = at;
    let origin = args.agent.origin();
    let image = match &origin {
        Origin::Image(image) => Some(image),
        Origin::Stream(_) => None,
    };
    let namespace = std::slice::from_ref(cluster);
    let (server, leave, node, between, safety) = futures::join!(
        checkup::server(cluster),
        checkup::leave(at),
        checkup::node(cluster, pod, image),
        checkup::between(cluster, pod),
        Safety::read(namespace)
    );
    let mut findings = vec![("all", server), ("all", leave)];
    findings.push(("all", owners(at, safety)));
    findings.extend(node.into_iter().map(|finding| ("all", finding)));
    let wanted = |kind: FaultKind| args.faults.is_empty() || args.faults.contains(&kind);
    let network = [FaultKind::Disrupt, FaultKind::Partition].into_iter().any(wanted);
    if network {
        let spec = AgentSpec::network(origin.clone());
        findings.push(("network", checkup::kind(pod, Domain::Network)));
        findings.push(("network", checkup::admission(at, &spec).await));
        findings.extend(checkup::agent(pod, &spec.role).map(|it| ("network", it)));
        findings.extend(between.into_iter().map(|it| ("network", it)));
        let refused = findings.iter().any(|(_, it)| it.verdict == Verdict::No);
        findings.push((
            "network",
            match args.probe {
                true if refused => {
                    Finding::new("kernel", Verdict::Unknown, "not probed, as it is refused")
                }
                true => Finding::of("kernel", probe(at, &spec).await),
                false => Finding::new(
                    "kernel",
                    Verdict::Unknown,
                    "only the agent can tell how it would do it",
                )
                .remedy("--probe puts it in and asks"),
            },
        ));
    }
    let processes = [FaultKind::Pause, FaultKind::Burn, FaultKind::Kill, FaultKind::Signal];
    if processes.into_iter().any(wanted) {
        findings.push(("processes", checkup::kind(pod, Domain::Processes)));
        match TargetContainer::choose(pod, args.container.as_deref()) {
            Err(error) => findings.push(("processes", Finding::of("container", Err(error)))),
            Ok(container) => {
                let mut asked = Vec::new();
                for kind in processes.into_iter().filter(|kind| wanted(*kind)) {
                    let role =
                        Role::Process(container.role(pod, capabilities(kind).unwrap_or_default()));
                    if !asked.contains(&role) {
                        let spec = AgentSpec { origin: origin.clone(), role: role.clone() };
                        findings.push((group(kind), checkup::admission(at, &spec).await));
                        asked.push(role);
                    }
                }
            }
        }
    }
    if args.probe && !network {
        note(&format!("note: {} --probe asks about the network only", at.title()));
    }
    Ok(findings)
}

/// Whether those who own the pod and its namespace want it left alone.
fn owners(at: &Chosen, safety: Result<Safety, Error>) -> Finding {
    const CHECK: &str = "owners";
    let unread = safety.as_ref().ok().and_then(|safety| safety.unread.first()).cloned();
    let allowed = safety.and_then(|safety| safety.check_pod(at, &Limits::default(), None));
    match (allowed, unread) {
        (Ok(()), Some(unread)) => Finding::new(CHECK, Verdict::Unknown, unread.to_string()),
        (allowed, _) => {
            let fine = "neither the namespace nor the pod opts out".to_owned();
            Finding::of(CHECK, allowed.map(|()| fine))
        }
    }
}

/// What an agent is asked for, that can do it for several faults.
const fn group(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::Disrupt | FaultKind::Partition => "network",
        FaultKind::Pause => "pause",
        FaultKind::Burn => "burn",
        FaultKind::Kill => "kill",
        FaultKind::Signal => "signal",
    }
}

/// Has the agent do a fault that hits nothing, and end it.
async fn probe(Chosen { cluster, name, pod }: &Chosen, spec: &AgentSpec) -> Result<String, Error> {
    let (mut session, _) = ensure_agent(cluster, name, pod, spec, &mut note).await?;
    let bad =
        |error: &dyn std::fmt::Display| Error::internal("making a plan that hits nothing", error);
    let nobody: pod_chaos_protocol::Peer = NOBODY.parse().map_err(|error| bad(&error))?;
    let delay: Latency = "1ms".parse().map_err(|error| bad(&error))?;
    let running_time: RunTime = "1s".parse().map_err(|error| bad(&error))?;
    let fault = NetemFault { netem: Netem { delay, ..Netem::default() }, backend: None };
    let plan = Plan {
        id: FaultId::new(rand::random()),
        running_time,
        fault: Fault::Netem(Box::new(fault)),
        traffic: Traffic {
            egress: Some(Peers(vec![Target::from(nobody)])),
            ingress: None,
            ..Traffic::default()
        },
        replace: false,
        probe: None,
    };
    let fault = plan.id;
    session.send(&Request::Apply { plan }).await?;
    let mut found = String::new();
    loop {
        match session.answer().await? {
            Event::Probed { backend, kernel, .. } => found = format!("Linux {kernel}: {backend}"),
            Event::InForce { .. } => {
                session.send(&Request::Revert { fault: Some(fault) }).await?;
            }
            event @ Event::Ended { .. } if sweep::is_clean(&event) => return Ok(found),
            Event::Ended { left, .. } => {
                let left = left.join(", ");
                return Err(Error::new(Exit::NotClean, format_args!("pod/{name} keeps {left}")));
            }
            Event::Failed { failure } => return Err(sweep::failure(name, &session, failure)),
            _ => {}
        }
    }
}

fn print(format: &OutputFormat, checkups: &[Checkup]) -> Result<(), Error> {
    if !format.is_text() {
        let pods: Vec<_> = checkups
            .iter()
            .map(|one| {
                let findings: Vec<_> = one
                    .findings
                    .iter()
                    .map(|(of, finding)| {
                        let mut value = json!(finding);
                        value["for"] = json!(of);
                        value
                    })
                    .collect();
                let mut pod = json::place(&one.place.scope, &one.place.name);
                pod.insert("findings".to_owned(), findings.into());
                pod
            })
            .collect();
        let names = checkups.iter().map(|one| one.place.name.as_str());
        return document::print(format, &json!({ "pods": pods }), names);
    }
    let mut out = stdout();
    for Checkup { place, findings } in checkups {
        writeln!(out, "{}", place.scope.title(&place.name))?;
        let wide = |text: fn(&(&'static str, Finding)) -> usize| findings.iter().map(text).max();
        let (of_width, check_width) =
            (wide(|it| it.0.len()).unwrap_or(0), wide(|it| it.1.check.len()).unwrap_or(0));
        for (of, Finding { check, verdict, detail, remedy }) in findings {
            let word = match verdict {
                Verdict::Ok => "ok",
                Verdict::Warning => "warning",
                Verdict::Unknown => "unknown",
                Verdict::No => "NO",
            };
            writeln!(out, "  {word:7}  {of:of_width$}  {check:check_width$}  {detail}")?;
            if let Some(remedy) = remedy {
                writeln!(out, "           hint: {remedy}")?;
            }
        }
    }
    Ok(())
}
