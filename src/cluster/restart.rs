//! What becomes of a container that is made to end, by what the kubelet says of it.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout_at};

use super::{Cluster, TargetContainer, status_of};
use crate::{exit::Error, plan::PodName};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How a run of a container ended, and whether the next one has begun.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Fate {
    /// The container's name.
    pub container: String,
    /// The code that its main process ended with; 128 and a signal's number for a signal.
    pub exit_code: Option<i32>,
    /// The kubelet's word for that: `Completed`, `Error`, `OOMKilled`.
    pub reason: Option<String>,
    /// How often it had been restarted before.
    pub restarts_before: i32,
    /// And since.
    pub restarts_after: i32,
    /// From its end to its next start, in whole seconds, as the kubelet counts them.
    pub down_s: Option<i64>,
    /// From the signal until it was ready again, in milliseconds, as seen through the API server.
    pub ready_after_ms: Option<u64>,
    /// Whether it stays down, as the pod's restart policy wants it.
    pub stays_down: bool,
}

impl Fate {
    /// Whether this run has ended.
    pub const fn has_ended(&self) -> bool {
        self.exit_code.is_some() || self.restarts_after > self.restarts_before
    }

    /// Whether nothing more is to come.
    pub const fn is_sealed(&self) -> bool {
        self.ready_after_ms.is_some() || self.stays_down
    }
}

/// Watches until the container is ready again, or stays down, or until `deadline`; what it has come to. `say` is
/// told what the kubelet waits for.
pub async fn follow_restart(
    cluster: &Cluster,
    name: &PodName,
    container: &TargetContainer,
    since: Instant,
    deadline: Instant,
    say: &mut dyn FnMut(&str),
) -> Result<Fate, Error> {
    let mut said = None;
    let mut fate = fate_of(&Pod::default(), container);
    let watch = async {
        loop {
            let pod = cluster.pod(name).await?;
            fate = fate_of(&pod, container);
            if is_ready_again(&pod, container) {
                fate.ready_after_ms = u64::try_from(since.elapsed().as_millis()).ok();
            }
            if fate.is_sealed() {
                return Ok::<_, Error>(());
            }
            let why = waiting_reason(&pod, container);
            if why.is_some() && said != why {
                say(&format!(
                    "pod/{name} container {}: {}",
                    fate.container,
                    why.clone().unwrap_or_default()
                ));
                said = why;
            }
            sleep(LOOK_EVERY).await;
        }
    };
    timeout_at(deadline, watch).await.unwrap_or(Ok(()))?;
    Ok(fate)
}

/// Watches until this run of the container has ended, or until `deadline`.
pub async fn follow_end(
    cluster: &Cluster,
    name: &PodName,
    container: &TargetContainer,
    deadline: Instant,
) -> Result<Fate, Error> {
    loop {
        let fate = fate_of(&cluster.pod(name).await?, container);
        if fate.has_ended() || Instant::now() > deadline {
            return Ok(fate);
        }
        sleep(LOOK_EVERY).await;
    }
}

fn fate_of(pod: &Pod, container: &TargetContainer) -> Fate {
    let before = container.status.restart_count;
    let name = &container.container.name;
    let mut fate = Fate {
        container: name.clone(),
        restarts_before: before,
        restarts_after: before,
        ..Fate::default()
    };
    let Some(status) = status_of(pod, name) else { return fate };
    fate.restarts_after = status.restart_count;
    let ended = [&status.state, &status.last_state].into_iter();
    let ended = ended.filter_map(|state| state.as_ref()?.terminated.as_ref());
    let this_run = |ended: &&ContainerStateTerminated| {
        ended.container_id.is_some() && ended.container_id == container.status.container_id
    };
    if let Some(ended) = ended.clone().find(this_run) {
        fate.exit_code = Some(ended.exit_code);
        fate.reason.clone_from(&ended.reason);
        let running = status.state.as_ref().and_then(|state| state.running.as_ref());
        let next = running.and_then(|running| running.started_at.as_ref());
        if let (Some(end), Some(next)) = (&ended.finished_at, next) {
            fate.down_s = Some(next.0.as_second() - end.0.as_second());
        }
    }
    let is_down = status.state.as_ref().is_some_and(|state| state.terminated.is_some());
    fate.stays_down = is_down && fate.has_ended() && !comes_back(pod, container, fate.exit_code);
    fate
}

/// Whether the kubelet starts it again. A sidecar has a policy of its own (KEP-753).
fn comes_back(pod: &Pod, container: &TargetContainer, exit_code: Option<i32>) -> bool {
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
    match container.container.restart_policy.as_deref().or(of_pod) {
        Some("Never") => false,
        Some("OnFailure") => exit_code != Some(0),
        _ => true,
    }
}

fn is_ready_again(pod: &Pod, container: &TargetContainer) -> bool {
    status_of(pod, &container.container.name)
        .is_some_and(|status| status.ready && status.container_id != container.status.container_id)
}

/// What the kubelet waits for, as `CrashLoopBackOff`.
fn waiting_reason(pod: &Pod, container: &TargetContainer) -> Option<String> {
    let waiting = status_of(pod, &container.container.name)?.state.as_ref()?.waiting.as_ref()?;
    waiting.reason.clone()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const FIRST: &str = "containerd://0123456789abcdef";
    const SECOND: &str = "containerd://fedcba9876543210";

    fn pod(policy: &str, status: &Value) -> Pod {
        let mut whole = json!({
            "name": "app", "image": "x", "imageID": "x", "ready": false, "restartCount": 4,
            "containerID": FIRST, "state": {"running": {}},
        });
        whole.as_object_mut().unwrap().extend(status.as_object().unwrap().clone());
        serde_json::from_value(json!({
            "metadata": {"name": "web"},
            "spec": {"restartPolicy": policy, "containers": [{"name": "app", "image": "x"}]},
            "status": {"containerStatuses": [whole]},
        }))
        .unwrap()
    }

    fn target() -> TargetContainer {
        TargetContainer::choose(&pod("Always", &json!({})), None).unwrap()
    }

    fn terminated(code: i32) -> Value {
        json!({"terminated": {"exitCode": code, "reason": "Error", "containerID": FIRST,
                              "finishedAt": "2026-01-01T00:00:10Z"}})
    }

    #[test]
    fn a_restart_is_told_by_the_statuses() {
        let pod = pod(
            "Always",
            &json!({
                "restartCount": 5, "containerID": SECOND, "ready": true, "lastState": terminated(137),
                "state": {"running": {"startedAt": "2026-01-01T00:00:12Z"}},
            }),
        );
        let fate = fate_of(&pod, &target());
        assert_eq!((fate.exit_code, fate.restarts_before, fate.restarts_after), (Some(137), 4, 5));
        assert_eq!(fate.down_s, Some(2));
        assert!(fate.has_ended() && !fate.stays_down && is_ready_again(&pod, &target()));
    }

    #[test]
    fn an_end_of_an_earlier_run_is_not_this_one() {
        let mut earlier = terminated(1);
        earlier["terminated"]["containerID"] = json!(SECOND);
        let fate = fate_of(&pod("Always", &json!({"lastState": earlier})), &target());
        assert!(!fate.has_ended(), "{fate:?}");
    }

    #[test]
    fn what_the_policy_does_not_bring_back_stays_down() {
        let down = |policy, code| {
            fate_of(&pod(policy, &json!({"state": terminated(code)})), &target()).stays_down
        };
        assert!(down("Never", 137) && down("OnFailure", 0));
        assert!(!down("OnFailure", 137) && !down("Always", 0));
    }
}
