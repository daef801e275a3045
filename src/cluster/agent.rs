//! The agents that a pod already has, and the container that makes a new one.

use k8s_openapi::api::core::v1::{
    ContainerStatus, EphemeralContainer, Pod, SeccompProfile, SecurityContext,
};
use pod_chaos_protocol::Carried;
use rand::seq::IndexedRandom as _;

use super::{
    bootstrap,
    role::{Role, only},
    target::status_of,
};
use crate::plan::Origin;

/// An agent's container in a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentContainer {
    /// Its name.
    pub name: String,
    /// What it is there for.
    pub role: Role,
    /// Where its program is.
    pub file: &'static str,
    /// What the kubelet last said of it; that lags one to three seconds behind.
    pub state: AgentState,
}

/// The state of an agent's container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentState {
    /// It runs.
    Running,
    /// Not heard of yet, or being made; with the kubelet's reason if it gave one.
    Starting(Option<String>),
    /// It cannot be started; the kubelet's reason and message.
    Failing {
        /// As `ErrImagePull`.
        reason: String,
        /// The runtime's own words.
        message: String,
    },
    /// It has ended, or never got anywhere; ephemeral containers are not started again.
    Dead(String),
}

impl AgentState {
    /// Whether it may answer, as far as that is known.
    pub const fn may_run(&self) -> bool {
        matches!(self, Self::Running | Self::Starting(_))
    }
}

/// Reasons after which a container does not start by itself, as the kubelet names them
/// (pkg/kubelet/images/types.go and pkg/kubelet/kuberuntime/kuberuntime_container.go).
const FAILING: [&str; 9] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "ImageInspectError",
    "RegistryUnavailable",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];

/// The agents of `pod`, newest first: a strategic merge puts what it adds at the head of the list.
pub fn agents(pod: &Pod) -> Vec<AgentContainer> {
    let containers = pod.spec.iter().flat_map(|spec| spec.ephemeral_containers.iter().flatten());
    let statuses: Vec<&ContainerStatus> = pod
        .status
        .iter()
        .flat_map(|status| status.ephemeral_container_statuses.iter().flatten())
        .collect();
    containers
        .filter_map(|container| {
            let status = statuses.iter().find(|status| status.name == container.name);
            let role = Role::of(container)?;
            let state = match (state(status.copied()), role.target()) {
                (AgentState::Running, Some(target))
                    if started(status_of(pod, target)) > started(status.copied()) =>
                {
                    AgentState::Dead("its target has restarted".to_owned())
                }
                (state, _) => state,
            };
            let (name, file) = (container.name.clone(), bootstrap::file(container));
            Some(AgentContainer { name, role, file, state })
        })
        .collect()
}

/// When it was last started, in seconds since 1970. Who shares the processes of a container that was started
/// later has ended with the run before, whatever the kubelet has got to.
fn started(status: Option<&ContainerStatus>) -> Option<i64> {
    Some(status?.state.as_ref()?.running.as_ref()?.started_at.as_ref()?.0.as_second())
}

fn state(status: Option<&ContainerStatus>) -> AgentState {
    let Some(state) = status.and_then(|status| status.state.as_ref()) else {
        return AgentState::Starting(None);
    };
    if let Some(ended) = &state.terminated {
        let reason = ended.reason.as_deref().unwrap_or("ended");
        let detail = ended.message.as_deref().map(|text| format!(": {}", text.trim()));
        return AgentState::Dead(format!(
            "{reason}, exit code {}{}",
            ended.exit_code,
            detail.unwrap_or_default()
        ));
    }
    match &state.waiting {
        Some(waiting) => {
            let reason = waiting.reason.clone().unwrap_or_default();
            if FAILING.contains(&reason.as_str()) {
                AgentState::Failing {
                    reason,
                    message: waiting.message.as_deref().unwrap_or_default().trim().to_owned(),
                }
            } else {
                AgentState::Starting((!reason.is_empty()).then_some(reason))
            }
        }
        None if state.running.is_some() => AgentState::Running,
        None => AgentState::Starting(None),
    }
}

/// A name that no container of the pod has, in letters that spell no words.
fn fresh_name(pod: &Pod, role: &Role) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let taken = |name: &str| {
        pod.spec
            .iter()
            .flat_map(|spec| spec.ephemeral_containers.iter().flatten())
            .any(|container| container.name == name)
    };
    let mut rng = rand::rng();
    loop {
        let letters = (0..5).filter_map(|_| LETTERS.choose(&mut rng)).map(|&b| char::from(b));
        let name: String = role.prefix().chars().chain(letters).collect();
        if !taken(&name) {
            return name;
        }
    }
}

/// An agent that is wanted: from where, and what for.
#[derive(Clone, Debug)]
pub struct AgentSpec {
    /// From where.
    pub origin: Origin,
    /// What for.
    pub role: Role,
}

impl AgentSpec {
    /// One for the network.
    pub const fn network(origin: Origin) -> Self {
        Self { origin, role: Role::Network }
    }
}

/// The container of an agent, with the capabilities of its role and nothing else.
///
/// User and group are set because a pod's own `runAsUser` and `runAsNonRoot` are inherited otherwise.
pub(super) fn container(
    pod: &Pod,
    AgentSpec { origin, role }: &AgentSpec,
    carried: Option<&Carried>,
) -> EphemeralContainer {
    let (image, pull, command) = match origin {
        Origin::Image(image) => {
            let mut command = vec![bootstrap::OWN.to_owned(), "wait".to_owned()];
            command.extend(carried.map(argument));
            // A runtime would look for a registry on the node itself, and retry for a quarter of a minute.
            let pull = if image.is_local() { "Never" } else { "IfNotPresent" };
            (Some(image.to_string()), pull, command)
        }
        Origin::Stream(_) => (bootstrap::image(pod, role), "IfNotPresent", bootstrap::command()),
    };
    EphemeralContainer {
        name: fresh_name(pod, role),
        image,
        image_pull_policy: Some(pull.to_owned()),
        command: Some(command),
        target_container_name: role.target().map(str::to_owned),
        security_context: Some(SecurityContext {
            run_as_user: Some(role.user().uid),
            run_as_group: Some(role.user().gid),
            run_as_non_root: Some(role.user().uid != 0),
            privileged: Some(false),
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(matches!(origin, Origin::Image(_))),
            capabilities: Some(only(role.capabilities())),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..SecurityContext::default()
        }),
        ..EphemeralContainer::default()
    }
}

/// The plan as an argument. The kubelet replaces `$(NAME)` in arguments by environment variables
/// (third_party/forked/golang/expansion of Kubernetes), so no `$` may be left as it is.
fn argument(carried: &Carried) -> String {
    serde_json::to_string(carried).unwrap_or_default().replace('$', "\\u0024")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::role::{Capability, ProcessRole, User},
        *,
    };

    fn pod(status: &serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "spec": {"containers": [], "ephemeralContainers": [
                {"name": "debugger-abcde", "image": "x"},
                {"name": "pod-chaos-net-bbbbb", "image": "x"},
                {"name": "pod-chaos-net-aaaaa", "image": "x"},
            ]},
            "status": {"ephemeralContainerStatuses": status},
        }))
        .unwrap()
    }

    fn status(name: &str, state: &serde_json::Value) -> serde_json::Value {
        json!({"name": name, "state": state, "ready": false, "restartCount": 0, "image": "", "imageID": ""})
    }

    #[test]
    fn finds_our_agents_newest_first_and_no_others() {
        let pod = pod(&json!([status(
            "pod-chaos-net-aaaaa",
            &json!({"terminated": {"exitCode": 137, "reason": "Error"}})
        )]));
        assert_eq!(
            agents(&pod),
            [
                AgentContainer {
                    name: "pod-chaos-net-bbbbb".into(),
                    role: Role::Network,
                    file: "/pod-chaos-agent",
                    state: AgentState::Starting(None)
                },
                AgentContainer {
                    name: "pod-chaos-net-aaaaa".into(),
                    role: Role::Network,
                    file: "/pod-chaos-agent",
                    state: AgentState::Dead("Error, exit code 137".into())
                },
            ]
        );
    }

    #[test]
    fn tells_a_container_that_cannot_start_from_one_that_is_being_made() {
        let waiting = |reason: &str| json!({"waiting": {"reason": reason, "message": "why "}});
        let state_of = |state: &serde_json::Value| {
            agents(&pod(&json!([status("pod-chaos-net-bbbbb", state)])))[0].state.clone()
        };
        for reason in FAILING {
            assert_eq!(
                state_of(&waiting(reason)),
                AgentState::Failing { reason: reason.into(), message: "why".into() }
            );
        }
        assert_eq!(
            state_of(&waiting("PodInitializing")),
            AgentState::Starting(Some("PodInitializing".into()))
        );
        assert_eq!(state_of(&json!({"running": {}})), AgentState::Running);
    }

    #[test]
    fn asks_for_two_capabilities_and_never_for_privileges() {
        let spec = AgentSpec { origin: Origin::default(), role: Role::Network };
        let container = container(&pod(&json!([])), &spec, None);
        let name = &container.name;
        let prefix = "pod-chaos-net-";
        assert!(name.starts_with(prefix) && name.len() == prefix.len() + 5, "{name}");
        let text = serde_json::to_value(&container).unwrap();
        assert_eq!(
            text["securityContext"],
            json!({
                "allowPrivilegeEscalation": false,
                "capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]},
                "privileged": false,
                "readOnlyRootFilesystem": true,
                "runAsGroup": 0,
                "runAsNonRoot": false,
                "runAsUser": 0,
                "seccompProfile": {"type": "RuntimeDefault"},
            })
        );
        assert!(text.get("targetContainerName").is_none());
    }

    #[test]
    fn an_agent_for_processes_joins_its_target_with_what_it_needs() {
        for (user, capabilities) in
            [(User { uid: 1000, gid: 7 }, vec![]), (User::ROOT, vec![Capability::SysPtrace])]
        {
            let added = json!(capabilities.iter().map(|one| one.name()).collect::<Vec<_>>());
            let role = Role::Process(ProcessRole { target: "app".into(), user, capabilities });
            let spec = AgentSpec { origin: Origin::default(), role };
            let container = container(&pod(&json!([])), &spec, None);
            assert!(container.name.starts_with("pod-chaos-proc-"), "{}", container.name);
            assert_eq!(Role::of(&container), Some(spec.role));
            let text = serde_json::to_value(container).unwrap();
            assert_eq!(text["targetContainerName"], "app");
            let context = &text["securityContext"];
            assert_eq!(context["runAsUser"], user.uid);
            assert_eq!(context["runAsNonRoot"], user.uid != 0);
            assert_eq!(context["capabilities"]["drop"], json!(["ALL"]));
            let add = &context["capabilities"]["add"];
            assert!(*add == added || (add.is_null() && added == json!([])), "{add}");
        }
    }

    #[test]
    fn an_agent_dies_with_the_run_of_its_target() {
        let running = |name: &str, at: &str| {
            json!({"name": name, "state": {"running": {"startedAt": at}},
                   "ready": false, "restartCount": 0, "image": "", "imageID": ""})
        };
        let state = |target_started: &str| {
            let pod = serde_json::from_value(json!({
                "spec": {"containers": [{"name": "app"}], "ephemeralContainers": [{
                    "name": "pod-chaos-proc-aaaaa", "targetContainerName": "app",
                    "securityContext": {"runAsUser": 0, "runAsGroup": 0},
                }]},
                "status": {
                    "containerStatuses": [running("app", target_started)],
                    "ephemeralContainerStatuses": [running("pod-chaos-proc-aaaaa", "2026-01-01T00:00:05Z")],
                },
            }));
            agents(&pod.unwrap()).remove(0).state
        };
        assert_eq!(state("2026-01-01T00:00:05Z"), AgentState::Running);
        assert_eq!(
            state("2026-01-01T00:00:06Z"),
            AgentState::Dead("its target has restarted".into())
        );
    }

    #[test]
    fn nothing_in_a_plan_is_expanded_by_the_kubelet() {
        let plan = r#"{"id":"0badcafe","running-time":"30s",
            "fault":{"netem":{"netem":{"delay":"1ms"}}},
            "traffic":{"interfaces":["$(HOME)"]}}"#;
        let carried = Carried::new(serde_json::from_str(plan).unwrap(), 1_000);
        let spec = AgentSpec { origin: Origin::default(), role: Role::Network };
        let container = container(&pod(&json!([])), &spec, Some(&carried));
        let command = container.command.unwrap();
        assert_eq!(command[..2], ["/pod-chaos-agent", "wait"]);
        assert!(!command[2].contains('$'), "{}", command[2]);
        assert_eq!(serde_json::from_str::<Carried>(&command[2]).unwrap(), carried);
    }
}
