//! What can't work is found here, before anything is touched.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    core::v1::{EphemeralContainer, Pod},
};
use kube::{
    Api,
    api::{PatchParams, PostParams},
};

use super::{
    Chosen, Cluster, Domain, RemovedBy, api_error, client::in_time, error::role_hint,
    inject::ephemeral_patch,
};
use crate::{
    exit::{Error, Exit},
    plan::{Followed, FollowedKind, Namespace, PodName},
};

/// Refuses pods that no fault of that kind, or of any, can or should be put into, with every reason at once.
pub fn check_pod(pod: &Pod, domain: impl Into<Option<Domain>>) -> Result<(), Error> {
    let reasons = reasons_against(pod, domain.into());
    if reasons.is_empty() {
        return Ok(());
    }
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let hint = reasons[0].1;
    let messages = reasons.iter().map(|(why, _)| format!("pod/{name} {why}")).collect();
    Err(Error { exit: Exit::Refused, messages, hint: Some(hint.to_owned()) })
}

/// Each reason with what to do about it.
fn reasons_against(pod: &Pod, domain: Option<Domain>) -> Vec<(String, &'static str)> {
    let mut reasons = Vec::new();
    let mut add = |why: String, hint| reasons.push((why, hint));
    let spec = pod.spec.clone().unwrap_or_default();
    if is_static(pod) {
        add(
            "is a static pod: the API server only holds a copy of it, which takes no containers"
                .to_owned(),
            "choose a pod that the API server manages",
        );
    }
    if domain == Some(Domain::Network) && spec.host_network == Some(true) {
        add(
            "uses its node's network: a fault would hit every pod of the node".to_owned(),
            "choose a pod with a network of its own (hostNetwork: false)",
        );
    }
    if domain == Some(Domain::Processes) && spec.host_pid == Some(true) {
        add(
            "sees all processes of its node, and so would the agent".to_owned(),
            "choose a pod with processes of its own (hostPID: false)",
        );
    }
    let label = spec.node_selector.iter().flatten().find(|(key, _)| *key == "kubernetes.io/os");
    let os = spec.os.as_ref().map(|os| os.name.as_str()).or(label.map(|(_, os)| os.as_str()));
    if os.is_some_and(|os| os == "windows") {
        add("runs on Windows: the agent needs a Linux kernel".to_owned(), "choose a Linux pod");
    }
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if pod.metadata.deletion_timestamp.is_some() {
        add("is being deleted".to_owned(), "choose its successor");
    } else if matches!(phase, Some("Succeeded" | "Failed")) {
        let phase = phase.unwrap_or_default();
        add(format!("has ended (phase {phase})"), "choose a pod that runs");
    } else if phase != Some("Running") {
        add(
            format!("is not running (phase {})", phase.unwrap_or("unknown")),
            "wait for it with `kubectl wait --for=condition=Ready`",
        );
    }
    reasons
}

/// Refuses pods that cannot be made to go.
pub fn check_can_be_removed(pod: &Pod) -> Result<(), Error> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    if is_static(pod) {
        return Err(Error::refused(format_args!(
            "pod/{name} is a static pod: its kubelet runs it whatever the API server holds"
        ))
        .hint("choose a pod that the API server manages"));
    }
    if pod.metadata.deletion_timestamp.is_some() {
        let refused = Error::refused(format_args!("pod/{name} is being deleted"));
        return Err(refused.hint("choose its successor"));
    }
    Ok(())
}

fn is_static(pod: &Pod) -> bool {
    let mut annotations = pod.metadata.annotations.iter().flatten();
    annotations.any(|(key, _)| key == "kubernetes.io/config.mirror")
}

/// Asks the API server whether the user may make a pod go.
pub(super) async fn check_may_remove(
    cluster: &Cluster,
    name: &PodName,
    by: RemovedBy,
) -> Result<(), Error> {
    let (verb, subresource) = match by {
        RemovedBy::Eviction => ("create", Some("eviction")),
        RemovedBy::Deletion => ("delete", None),
    };
    let act = ResourceAttributes {
        namespace: Some(cluster.namespace().to_owned()),
        verb: Some(verb.to_owned()),
        resource: Some("pods".to_owned()),
        subresource: subresource.map(str::to_owned),
        name: Some(name.to_string()),
        ..ResourceAttributes::default()
    };
    check_allowed(cluster, &[act]).await
}

/// What putting in an agent and talking to it needs: verbs on subresources of pods.
const PERMISSIONS: [(&str, &str); 2] = [("patch", "ephemeralcontainers"), ("create", "exec")];

/// Asks the API server whether the user may do it and whether it would admit `container`: all
/// permissions and a server-side dry run of the very patch, side by side.
pub(super) async fn check_server(
    cluster: &Cluster,
    name: &PodName,
    container: &EphemeralContainer,
) -> Result<(), Error> {
    let mut acts = permissions(cluster, Some(name));
    if cluster.granted {
        acts.clear();
    }
    let dry_run = check_admission(cluster, name, container);
    let (allowed, admitted) = futures::join!(check_allowed(cluster, &acts), dry_run);
    allowed?;
    admitted
}

/// A dry run of the very patch, on the server.
pub(super) async fn check_admission(
    cluster: &Cluster,
    name: &PodName,
    container: &EphemeralContainer,
) -> Result<(), Error> {
    let pods = cluster.pods();
    let patch = ephemeral_patch(container);
    let params = PatchParams { dry_run: true, ..PatchParams::default() };
    let dry_run = in_time(pods.patch_ephemeral_containers(name.as_str(), &params, &patch)).await;
    dry_run.map(drop).map_err(|error| api_error(&error))
}

/// What every fault with an agent needs.
pub(super) fn permissions(cluster: &Cluster, name: Option<&PodName>) -> Vec<ResourceAttributes> {
    let act = |(verb, subresource): (&str, &str)| ResourceAttributes {
        namespace: Some(cluster.namespace().to_owned()),
        verb: Some(verb.to_owned()),
        resource: Some("pods".to_owned()),
        subresource: Some(subresource.to_owned()),
        name: name.map(ToString::to_string),
        ..ResourceAttributes::default()
    };
    PERMISSIONS.into_iter().map(act).collect()
}

/// Asks for leave once for all pods of a namespace, where there are several. Who may do it to some pods only is asked
/// about for each of them.
pub async fn check_namespaces(pods: &mut [Chosen]) {
    let mut namespaces = BTreeMap::new();
    for one in pods.iter() {
        let entry = namespaces.entry(one.cluster.scope().clone());
        entry.or_insert_with(|| (0, one.cluster.clone())).0 += 1;
    }
    namespaces.retain(|_, (count, _)| *count > 1);
    let asks = namespaces.into_iter().map(|(scope, (_, cluster))| async move {
        check_allowed(&cluster, &permissions(&cluster, None)).await.is_ok().then_some(scope)
    });
    let granted: BTreeSet<_> = join_all(asks).await.into_iter().flatten().collect();
    for one in pods {
        one.cluster.granted = granted.contains(one.cluster.scope());
    }
}

/// Asks the API server whether the user may watch what these targets are found by.
pub(super) async fn check_may_follow(
    cluster: &Cluster,
    followed: &[Followed],
) -> Result<(), Error> {
    let mut acts = Vec::new();
    for target in followed {
        let namespace = target.namespace.as_ref().map_or(cluster.namespace(), Namespace::as_str);
        let resources: &[(&str, &str, &[&str])] = match &target.kind {
            FollowedKind::Pods(_) => &[("", "pods", &["list", "watch"])],
            FollowedKind::Service(_) => &[
                ("", "services", &["get", "list", "watch"]),
                ("discovery.k8s.io", "endpointslices", &["list", "watch"]),
            ],
        };
        for (group, resource, verbs) in resources {
            acts.extend(verbs.iter().map(|verb| ResourceAttributes {
                namespace: Some(namespace.to_owned()),
                verb: Some((*verb).to_owned()),
                group: Some((*group).to_owned()),
                resource: Some((*resource).to_owned()),
                ..ResourceAttributes::default()
            }));
        }
    }
    check_allowed(cluster, &acts).await
}

/// Refuses when the user may not do one of these, naming all of them.
pub(super) async fn check_allowed(
    cluster: &Cluster,
    acts: &[ResourceAttributes],
) -> Result<(), Error> {
    let reviews = join_all(acts.iter().map(|act| may(cluster, act))).await;
    let mut missing: Vec<String> = Vec::new();
    for (act, review) in acts.iter().zip(reviews) {
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        let subresource = act.subresource.as_ref().map(|name| format!("/{name}"));
        let message = format!(
            "you may not {} {}{} in namespace {}",
            text(&act.verb),
            text(&act.resource),
            subresource.unwrap_or_default(),
            text(&act.namespace)
        );
        // A server that does not answer the question leaves it to the act itself.
        if matches!(review, Ok(false)) && !missing.contains(&message) {
            missing.push(message);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error { exit: Exit::Refused, messages: missing, hint: Some(role_hint()) })
}

async fn may(cluster: &Cluster, act: &ResourceAttributes) -> kube::Result<bool> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(cluster.client());
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(act.clone()),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let answer = in_time(reviews.create(&PostParams::default(), &review)).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(change: impl FnOnce(&mut serde_json::Value)) -> Option<String> {
        let mut pod = json!({
            "metadata": {"name": "web"},
            "spec": {"containers": []},
            "status": {"phase": "Running"},
        });
        change(&mut pod);
        check_pod(&serde_json::from_value(pod).unwrap(), Domain::Network)
            .err()
            .map(|error| error.to_string())
    }

    #[test]
    fn takes_a_plain_running_pod() {
        assert_eq!(refusal(|_| ()), None);
    }

    #[test]
    fn refuses_each_kind_of_pod_that_cannot_be_hit() {
        let refused = |change: fn(&mut serde_json::Value)| refusal(change).unwrap();
        assert!(
            refused(|pod| pod["spec"]["hostNetwork"] = json!(true)).contains("its node's network")
        );
        assert!(
            refused(|pod| pod["spec"]["os"] = json!({"name": "windows"})).contains("on Windows")
        );
        assert!(
            refused(|pod| pod["spec"]["nodeSelector"] = json!({"kubernetes.io/os": "windows"}))
                .contains("on Windows")
        );
        assert!(
            refused(
                |pod| pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"})
            )
            .contains("is a static pod")
        );
        assert!(
            refused(|pod| pod["status"]["phase"] = json!("Pending")).contains("(phase Pending)")
        );
        assert!(
            refused(|pod| pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"))
                .contains("is being deleted")
        );
    }

    #[test]
    fn each_kind_of_fault_has_its_own_reasons() {
        let pod = |spec: serde_json::Value| {
            serde_json::from_value(json!({
                "metadata": {"name": "web"}, "spec": spec, "status": {"phase": "Running"},
            }))
            .unwrap()
        };
        let host_pid: Pod = pod(json!({"containers": [], "hostPID": true}));
        let refusal = check_pod(&host_pid, Domain::Processes).unwrap_err().to_string();
        assert!(refusal.contains("all processes of its node"), "{refusal}");
        assert!(check_pod(&host_pid, Domain::Network).is_ok());
        let host_network: Pod = pod(json!({"containers": [], "hostNetwork": true}));
        assert!(check_pod(&host_network, Domain::Processes).is_ok());
    }

    #[test]
    fn gives_all_reasons_at_once() {
        let text = refusal(|pod| {
            pod["spec"]["hostNetwork"] = json!(true);
            pod["status"]["phase"] = json!("Failed");
        })
        .unwrap();
        assert_eq!(text.matches("error: pod/web").count(), 2, "{text}");
    }
}
