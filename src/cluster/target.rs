//! The container whose processes are to be hit.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};
use pod_chaos_protocol::{ContainerId, ProcessPattern, Processes};

use super::{Capability, ProcessRole};
use crate::{exit::Error, plan::Pattern};

/// Names the container that people mean who name none, as kubectl has it.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// A container that runs.
#[derive(Clone, Debug)]
pub struct TargetContainer {
    /// What the pod says of it.
    pub container: Container,
    /// What the kubelet says of it.
    pub status: ContainerStatus,
    /// This run of it.
    pub id: ContainerId,
}

impl TargetContainer {
    /// The container with that name, else the pod's default one, else its only one.
    pub fn choose(pod: &Pod, wanted: Option<&str>) -> Result<Self, Error> {
        let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
        let containers = containers(pod);
        let names =
            || containers.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", ");
        let chosen = match (wanted.or_else(|| default_container(pod)), &containers[..]) {
            (Some(name), all) => all.iter().find(|one| one.name == name).ok_or_else(|| {
                Error::refused(format_args!("pod/{pod_name} has no container `{name}`"))
                    .hint(format!("it has: {}", names()))
            })?,
            (None, [only]) => only,
            (None, _) => {
                return Err(Error::refused(format_args!(
                    "pod/{pod_name} has several containers: {}",
                    names()
                ))
                .hint("name one of them with -c"));
            }
        };
        Self::running(pod, chosen)
    }

    /// All whose names this is found in.
    pub fn matching(pod: &Pod, pattern: &Pattern) -> Result<Vec<Self>, Error> {
        let all = containers(pod).into_iter().filter(|one| pattern.is_in(&one.name));
        let all = all.map(|one| Self::running(pod, one)).collect::<Result<Vec<_>, _>>()?;
        if all.is_empty() {
            let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
            let message =
                format!("pod/{pod_name} has no container in whose name `{pattern}` is found");
            return Err(Error::refused(message));
        }
        Ok(all)
    }

    /// All that run, but not those that only prepare the pod.
    pub fn all(pod: &Pod) -> Result<Vec<Self>, Error> {
        containers(pod).into_iter().map(|one| Self::running(pod, one)).collect()
    }

    fn running(pod: &Pod, container: &Container) -> Result<Self, Error> {
        let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
        let name = &container.name;
        let status = status_of(pod, name)
            .filter(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()));
        let Some(status) = status else {
            return Err(Error::refused(format_args!(
                "container {name} of pod/{pod_name} does not run"
            ))
            .hint("wait until it does: `kubectl get pod` shows it"));
        };
        let id = status.container_id.as_deref().unwrap_or_default();
        let id = id.parse().map_err(|error| {
            Error::refused(format_args!("container {name} of pod/{pod_name}: {error}"))
        })?;
        Ok(Self { container: container.clone(), status: status.clone(), id })
    }

    /// The agent that can do to it what takes these capabilities where its processes are another user's.
    pub fn role(&self, pod: &Pod, capabilities: &[Capability]) -> ProcessRole {
        let pod = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
        ProcessRole::new(&self.container, Some(&self.status), pod, capabilities)
    }

    /// After how many seconds without an answer the kubelet restarts it at the earliest; `None` without a
    /// liveness probe.
    pub fn patience_of_liveness_probe(&self) -> Option<i32> {
        let probe = self.container.liveness_probe.as_ref()?;
        let period = probe.period_seconds.unwrap_or(10);
        let failures = probe.failure_threshold.unwrap_or(3);
        // The first failure needs no period before it.
        Some(period * (failures - 1) + probe.timeout_seconds.unwrap_or(1))
    }

    /// Its processes, or those of them that match, for a plan.
    pub fn processes(&self, matching: Option<ProcessPattern>) -> Processes {
        Processes { container: self.container.name.clone(), id: self.id.clone(), matching }
    }

    /// Whether this run of the container goes on, by what the kubelet says.
    pub fn lives_in(&self, pod: &Pod) -> bool {
        status_of(pod, &self.container.name).is_some_and(|status| {
            status.state.as_ref().is_some_and(|state| state.running.is_some())
                && status.container_id == self.status.container_id
        })
    }
}

/// The container that is meant when none is named.
pub(super) fn default_container(pod: &Pod) -> Option<&str> {
    Some(pod.metadata.annotations.as_ref()?.get(DEFAULT_CONTAINER)?.as_str())
}

/// Those that run beside each other: sidecars are among the init containers (KEP-753).
pub(super) fn containers(pod: &Pod) -> Vec<&Container> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|one| one.restart_policy.as_deref() == Some("Always"));
    // A pod with one container and a sidecar has two.
    spec.containers.iter().chain(sidecars).collect()
}

/// What the kubelet says of a container.
pub fn status_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    all.into_iter().find(|status| status.name == name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn chosen(
        names: &[&str],
        wanted: Option<&str>,
        default: Option<&str>,
    ) -> Result<String, String> {
        let spec = names.iter().map(|name| json!({"name": name, "image": "x"})).collect::<Vec<_>>();
        let status = names.iter().map(|name| {
            json!({
                "name": name, "image": "x", "imageID": "x", "ready": true, "restartCount": 0,
                "state": {"running": {}}, "containerID": "containerd://0123456789abcdef",
            })
        });
        let mut pod = json!({
            "metadata": {"name": "web"},
            "spec": {"containers": spec},
            "status": {"containerStatuses": status.collect::<Vec<_>>()},
        });
        if let Some(default) = default {
            pod["metadata"]["annotations"] = json!({DEFAULT_CONTAINER: default});
        }
        let pod = serde_json::from_value(pod).unwrap();
        let chosen = TargetContainer::choose(&pod, wanted);
        chosen.map(|it| it.container.name).map_err(|error| error.to_string())
    }

    #[test]
    fn takes_the_named_one_else_the_default_one_else_the_only_one() {
        assert_eq!(chosen(&["a"], None, None).unwrap(), "a");
        assert_eq!(chosen(&["a", "b"], Some("b"), Some("a")).unwrap(), "b");
        assert_eq!(chosen(&["a", "b"], None, Some("b")).unwrap(), "b");
        let several = chosen(&["a", "b"], None, None).unwrap_err();
        assert!(several.contains("several containers: a, b"), "{several}");
        let unknown = chosen(&["a", "b"], Some("c"), None).unwrap_err();
        assert!(unknown.contains("no container `c`") && unknown.contains("a, b"), "{unknown}");
    }
}
