//! What stands in the way of a fault, asked of the API server without changing anything.

use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Node, Pod},
};
use kube::{Api, api::ListParams};
use serde::Serialize;

use super::{
    AgentSpec, AgentState, Chosen, Cluster, Domain, Role, agents, api_error,
    client::in_time,
    preflight::{check_allowed, check_pod, permissions},
};
use crate::{exit::Error, plan::Image};

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing is in the way.
    Ok,
    /// It works, but something had better be known.
    Warning,
    /// It cannot be told, or not without touching something.
    Unknown,
    /// It is in the way.
    No,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// What was found.
    pub detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    /// One without a remedy.
    pub fn new(check: &'static str, verdict: Verdict, detail: impl Into<String>) -> Self {
        Self { check, verdict, detail: detail.into(), remedy: None }
    }

    /// The same with one.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// What a check that may refuse comes to: its error, or that there is none.
    pub fn of(check: &'static str, outcome: Result<String, Error>) -> Self {
        match outcome {
            Ok(detail) => Self::new(check, Verdict::Ok, detail),
            Err(error) => Self {
                check,
                verdict: Verdict::No,
                detail: error.messages.join("; "),
                remedy: error.hint,
            },
        }
    }
}

/// The oldest Kubernetes with ephemeral containers that need no feature gate (KEP-277).
const OLDEST: (u32, u32) = (1, 25);

/// The API server's version.
pub async fn server(cluster: &Cluster) -> Finding {
    const CHECK: &str = "Kubernetes";
    let info = match in_time(cluster.client().apiserver_version()).await {
        Ok(info) => info,
        Err(error) => return Finding::of(CHECK, Err(api_error(&error))),
    };
    let number = |text: &str| text.trim_end_matches('+').parse::<u32>().unwrap_or_default();
    let version = (number(&info.major), number(&info.minor));
    if version < OLDEST {
        return Finding::new(CHECK, Verdict::No, info.git_version)
            .remedy("ephemeral containers need Kubernetes 1.25");
    }
    Finding::new(CHECK, Verdict::Ok, info.git_version)
}

/// Whether the user may do what every fault needs.
pub async fn leave(Chosen { cluster, name, .. }: &Chosen) -> Finding {
    let acts = permissions(cluster, Some(name));
    let allowed = check_allowed(cluster, &acts).await;
    Finding::of("permissions", allowed.map(|()| "patch and exec are allowed".to_owned()))
}

/// Whether it is a pod that such a fault can be done to.
pub fn kind(pod: &Pod, domain: Domain) -> Finding {
    Finding::of(
        "pod",
        check_pod(pod, domain).map(|()| "it runs, and is of a fitting kind".to_owned()),
    )
}

/// Whether the API server would take the agent: admission, PodSecurity, webhooks and policies.
pub async fn admission(at: &Chosen, spec: &AgentSpec) -> Finding {
    let capabilities = spec.role.capabilities();
    let with = if capabilities.is_empty() {
        format!("as user {}, without capabilities", spec.role.user().uid)
    } else {
        format!("with {}", capabilities.join(", "))
    };
    let taken = super::inject::dry_run(at, spec).await;
    Finding::of("admission", taken.map(|()| format!("an agent is let in {with}")))
}

/// Whether an agent is there.
pub fn agent(pod: &Pod, role: &Role) -> Option<Finding> {
    let found = agents(pod).into_iter().find(|agent| agent.role.covers(role))?;
    let finding = match found.state {
        AgentState::Running => {
            Finding::new("agent", Verdict::Ok, format!("{} is there", found.name))
        }
        AgentState::Starting(_) => {
            Finding::new("agent", Verdict::Ok, format!("{} is starting", found.name))
        }
        AgentState::Dead(why) => {
            let detail = format!("{} has ended ({why}); a fault brings a new one", found.name);
            Finding::new("agent", Verdict::Ok, detail)
        }
        AgentState::Failing { reason, message } => {
            let detail = format!("{} cannot be started ({reason}): {message}", found.name);
            Finding::new("agent", Verdict::No, detail)
                .remedy("see to what it says; a fault tries with a new one")
        }
    };
    Some(finding)
}

/// What the node says of its kernel, its runtime and the images that it has. Who may not read nodes is not told.
pub async fn node(cluster: &Cluster, pod: &Pod, image: Option<&Image>) -> Vec<Finding> {
    let name = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
    if name.is_empty() {
        return vec![Finding::new("node", Verdict::Unknown, "the pod is on none yet")];
    }
    let nodes = Api::<Node>::all(cluster.client());
    let node = match in_time(nodes.get(name)).await {
        Ok(node) => node,
        Err(error) => {
            let why = api_error(&error).messages.join("; ");
            let unknown = Finding::new("node", Verdict::Unknown, why);
            return vec![unknown.remedy("--probe asks the kernel itself")];
        }
    };
    let status = node.status.unwrap_or_default();
    let info = status.node_info.unwrap_or_default();
    let mut findings = vec![Finding::new(
        "node",
        Verdict::Ok,
        format!("{name}: Linux {}, {}", info.kernel_version, info.container_runtime_version),
    )];
    let Some(image) = image else { return findings };
    let has = status.images.iter().flatten().flat_map(|image| image.names.iter().flatten());
    let has = has.into_iter().any(|known| known == image.as_str());
    findings.push(match (has, image.is_local()) {
        (true, _) => Finding::new("image", Verdict::Ok, format!("{name} has {image}")),
        // A kubelet names fifty at most (nodeStatusMaxImages).
        (false, true) => Finding::new(
            "image",
            Verdict::Unknown,
            format!("{name} does not say that it has {image}, which no registry has"),
        )
        .remedy("`kubectl pod-chaos image load` puts it there, or -g names another one"),
        (false, false) => Finding::new("image", Verdict::Ok, format!("{image} is to be pulled")),
    });
    findings
}

/// Proxies that service meshes put beside an app.
const PROXIES: [&str; 5] =
    ["istio-proxy", "linkerd-proxy", "envoy", "envoy-sidecar", "kuma-sidecar"];

/// What stands between the app and its peers, so that packets have other addresses than the app knows.
pub async fn between(cluster: &Cluster, pod: &Pod) -> Vec<Finding> {
    let mut findings = Vec::new();
    let containers = super::target::containers(pod);
    if let Some(proxy) = containers.iter().find(|one| PROXIES.contains(&one.name.as_str())) {
        findings.push(
            Finding::new(
                "service mesh",
                Verdict::Warning,
                format!("{} sends and receives for the app", proxy.name),
            )
            .remedy("ports and addresses are those of the proxies' connections; it may retry what fails"),
        );
    }
    let sets: Api<DaemonSet> = Api::namespaced(cluster.client(), "kube-system");
    let params = ListParams::default().labels("k8s-app=cilium");
    match in_time(sets.list_metadata(&params)).await {
        Ok(found) if found.items.is_empty() => {}
        Ok(_) => findings.push(
            Finding::new(
                "Cilium",
                Verdict::Warning,
                "it may turn a Service's address into a pod's before the packet is made",
            )
            .remedy("aim at services with --to-service, which hits what is behind them too"),
        ),
        Err(_) => findings.push(Finding::new(
            "Cilium",
            Verdict::Unknown,
            "whether it is there cannot be seen without leave to list daemonsets in kube-system",
        )),
    }
    findings
}
