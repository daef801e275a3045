//! Looks up the pods that a selection means.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use futures::future::{join_all, try_join_all};
use k8s_openapi::{
    api::core::v1::{Node, Pod},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::{
    Api, ResourceExt as _,
    api::{DynamicObject, ListParams},
    core::Selector,
};

use super::{Cluster, api_error, client::in_time};
use crate::{
    exit::Error,
    plan::{Mode, Phase, PodName, Selection, Workload, WorkloadKind},
};

/// Pods that one answer of the API server may have, as kubectl asks for them.
const PAGE: u32 = 500;

/// A pod that was chosen.
#[derive(Clone)]
pub struct Chosen {
    /// The cluster, seen through the pod's namespace.
    pub cluster: Cluster,
    /// Its name.
    pub name: PodName,
    /// As it was when it was looked up, but for who has set which field, which is a third of it.
    pub pod: Arc<Pod>,
}

impl Chosen {
    fn new(cluster: &Cluster, mut pod: Pod) -> Option<Self> {
        pod.metadata.managed_fields = None;
        let name = pod.metadata.name.as_deref()?.parse().ok()?;
        let cluster = match pod.metadata.namespace.as_deref() {
            Some(namespace) if namespace != cluster.namespace() => cluster.within(namespace),
            _ => cluster.clone(),
        };
        Some(Self { cluster, name, pod: pod.into() })
    }

    /// One that is only known by name and uid.
    pub fn with_uid(cluster: Cluster, name: &PodName, uid: &str) -> Self {
        let mut pod = Pod::default();
        pod.metadata.uid = Some(uid.to_owned());
        Self { cluster, name: name.clone(), pod: pod.into() }
    }

    /// `demo/web`: among all pods that a command may work on.
    pub fn key(&self) -> String {
        format!("{}/{}", self.cluster.scope(), self.name)
    }

    /// `pod/web`, and where there are several contexts, in which.
    pub fn title(&self) -> String {
        self.cluster.scope().title(&self.name)
    }

    /// An error with what it is about, where that is not said.
    #[must_use]
    pub fn tell(&self, error: Error) -> Error {
        self.cluster.scope().tell(error.in_pod(&self.name))
    }
}

/// What came of a selection.
pub struct Choice {
    /// In the order of namespaces and names, or as they were named.
    pub pods: Vec<Chosen>,
    /// How many there were to choose from.
    pub of: usize,
    /// How they were chosen from these.
    pub mode: Mode,
    /// Where the dice started, if there were any.
    pub seed: Option<u64>,
}

/// Looks up the pods that are meant, without dice; there may be none.
pub async fn find(clusters: &[Cluster], selection: &Selection) -> Result<Vec<Chosen>, Error> {
    Ok(look_everywhere(clusters, selection).await?.0)
}

/// Looks up the pods that are meant, and throws the dice if there are any; none at all is refused.
///
/// Pods that are named are taken as they are. Of those that are found, the ones that have ended, are being deleted or
/// have not started are passed over, unless the phase is a condition.
pub async fn select(clusters: &[Cluster], selection: &Selection) -> Result<Choice, Error> {
    let (found, before) = look_everywhere(clusters, selection).await?;
    if found.is_empty() {
        return Err(nothing(clusters, selection, before));
    }
    let (of, mode) = (found.len(), selection.mode);
    let seed =
        mode.draws().then(|| selection.seed.unwrap_or_else(|| u64::from(rand::random::<u32>())));
    let pods = mode.choose(seed.unwrap_or_default(), found, Chosen::key);
    Ok(Choice { pods, of, mode, seed })
}

/// Those of all clusters that meet all conditions, and how many there were.
async fn look_everywhere(
    clusters: &[Cluster],
    selection: &Selection,
) -> Result<(Vec<Chosen>, usize), Error> {
    let looks = join_all(clusters.iter().map(|cluster| async {
        look(cluster, selection).await.map_err(|error| cluster.scope().tell(error))
    }));
    let (mut found, mut before) = (Vec::new(), 0);
    for (pods, candidates) in all_or_errors(looks.await)? {
        found.extend(pods);
        before += candidates;
    }
    // Two contexts may lead to the same cluster.
    let mut known = HashSet::new();
    found.retain(|one| one.pod.metadata.uid.clone().is_none_or(|uid| known.insert(uid)));
    Ok((found, before))
}

/// Those that meet all conditions, and how many there were.
async fn look(cluster: &Cluster, selection: &Selection) -> Result<(Vec<Chosen>, usize), Error> {
    let mut found = candidates(cluster, selection).await?;
    let before = found.len();
    let nodes = match &selection.node_labels {
        Some(labels) => Some(nodes_with(cluster, labels.as_str()).await?),
        None => None,
    };
    found.retain(|one| is_meant(&one.pod, selection, nodes.as_ref()));
    Ok((found, before))
}

/// What all of these have come to, or what is wrong with any of them.
fn all_or_errors<T>(outcomes: impl IntoIterator<Item = Result<T, Error>>) -> Result<Vec<T>, Error> {
    let (mut all, mut refused): (_, Option<Error>) = (Vec::new(), None);
    for outcome in outcomes {
        match (outcome, &mut refused) {
            (Ok(one), _) => all.push(one),
            (Err(error), Some(first)) => first.messages.extend(error.messages),
            (Err(error), None) => refused = Some(error),
        }
    }
    refused.map_or(Ok(all), Err)
}

fn nothing(clusters: &[Cluster], selection: &Selection, before: usize) -> Error {
    let place = if selection.everywhere {
        "any namespace".to_owned()
    } else {
        let scopes: Vec<_> = clusters.iter().map(|one| one.scope().to_string()).collect();
        format!("namespace {}", scopes.join(" or "))
    };
    let why = match before {
        0 => format!("no pod is found in {place}"),
        1 => "the one pod that is found does not meet all conditions".to_owned(),
        _ => format!("none of {before} pods meets all conditions"),
    };
    Error::refused(why).hint(
        "`kubectl get pods --show-labels` lists them; -n or -A looks elsewhere, --phase also for pods that do not run",
    )
}

async fn candidates(cluster: &Cluster, selection: &Selection) -> Result<Vec<Chosen>, Error> {
    let Selection { named, workloads, .. } = selection;
    if named.is_empty() && workloads.is_empty() {
        let pods = if selection.everywhere { cluster.pods_everywhere() } else { cluster.pods() };
        let found = list(&pods, params(selection, None)).await?;
        return Ok(in_order(found.into_iter().filter_map(|pod| Chosen::new(cluster, pod))));
    }
    let by_name = join_all(named.iter().map(|name| cluster.pod(name)));
    let of_workloads = try_join_all(workloads.iter().map(|one| pods_of(cluster, one, selection)));
    let (by_name, of_workloads) = futures::join!(by_name, of_workloads);
    let by_name = all_or_errors(by_name)?.into_iter();
    let mut found: Vec<_> = by_name.filter_map(|pod| Chosen::new(cluster, pod)).collect();
    let others = of_workloads?.into_iter().flatten().filter_map(|pod| Chosen::new(cluster, pod));
    let known: BTreeSet<_> = found.iter().map(Chosen::key).collect();
    found.extend(in_order(others.filter(|one| !known.contains(&one.key()))));
    Ok(found)
}

/// Sorted, each once.
fn in_order(pods: impl Iterator<Item = Chosen>) -> Vec<Chosen> {
    let mut pods: Vec<_> = pods.collect();
    pods.sort_by_key(Chosen::key);
    pods.dedup_by_key(|one| one.key());
    pods
}

/// What the API server can tell apart by itself.
fn params(selection: &Selection, more: Option<String>) -> ListParams {
    let own = selection.labels.as_ref().map(|labels| labels.as_str().to_owned());
    let labels = own.into_iter().chain(more).collect::<Vec<_>>().join(",");
    let mut params = ListParams::default().limit(PAGE);
    if !labels.is_empty() {
        params = params.labels(&labels);
    }
    match &selection.fields {
        Some(fields) => params.fields(fields.as_str()),
        None => params,
    }
}

async fn list(pods: &Api<Pod>, mut params: ListParams) -> Result<Vec<Pod>, Error> {
    let mut all = Vec::new();
    loop {
        let page = in_time(pods.list(&params)).await.map_err(|error| api_error(&error))?;
        all.extend(page.items.into_iter().map(|mut pod| {
            // Half of a pod, and of no use here.
            pod.metadata.managed_fields = None;
            pod
        }));
        match page.metadata.continue_ {
            Some(token) if !token.is_empty() => params = params.continue_token(&token),
            _ => return Ok(all),
        }
    }
}

/// The pods that belong to an object.
async fn pods_of(
    cluster: &Cluster,
    workload: &Workload,
    selection: &Selection,
) -> Result<Vec<Pod>, Error> {
    let resource = workload.kind.resource();
    let api: Api<DynamicObject> =
        Api::namespaced_with(cluster.client(), cluster.namespace(), &resource);
    let object = in_time(api.get(&workload.name)).await.map_err(|error| api_error(&error))?;
    let Some(labels) = labels_of(workload.kind, &object) else {
        return Err(Error::refused(format_args!("{workload} selects no pods")));
    };
    let mut pods = list(&cluster.pods(), params(selection, Some(labels))).await?;
    pods.retain(|pod| belongs(pod, workload, &object));
    Ok(pods)
}

/// The selector of an object, as text; `None` when it has none.
fn labels_of(kind: WorkloadKind, object: &DynamicObject) -> Option<String> {
    let selector = object.data.get("spec")?.get("selector")?.clone();
    let text = if kind == WorkloadKind::Service {
        let pairs: std::collections::BTreeMap<String, String> =
            serde_json::from_value(selector).ok()?;
        pairs.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
    } else {
        let selector: LabelSelector = serde_json::from_value(selector).ok()?;
        Selector::try_from(selector).ok()?.to_string()
    };
    (!text.is_empty()).then_some(text)
}

/// Labels may be of others too. A Deployment's pods belong to its ReplicaSets, which are named after it and the hash
/// in their label `pod-template-hash`.
fn belongs(pod: &Pod, workload: &Workload, object: &DynamicObject) -> bool {
    let owners = pod.metadata.owner_references.iter().flatten();
    match workload.kind {
        WorkloadKind::Service => true,
        WorkloadKind::Deployment => {
            let hash = pod.labels().get("pod-template-hash").map_or("", String::as_str);
            let name = format!("{}-{hash}", workload.name);
            owners.into_iter().any(|owner| owner.kind == "ReplicaSet" && owner.name == name)
        }
        _ => owners.into_iter().any(|owner| Some(&owner.uid) == object.metadata.uid.as_ref()),
    }
}

async fn nodes_with(cluster: &Cluster, labels: &str) -> Result<BTreeSet<String>, Error> {
    let nodes = Api::<Node>::all(cluster.client());
    let params = ListParams::default().labels(labels);
    let found = in_time(nodes.list_metadata(&params)).await.map_err(|error| api_error(&error))?;
    Ok(found.items.into_iter().filter_map(|node| node.metadata.name).collect())
}

/// Whether the conditions hold that the API server did not look at.
fn is_meant(pod: &Pod, selection: &Selection, nodes: Option<&BTreeSet<String>>) -> bool {
    let name = pod.name_any();
    let spec = pod.spec.as_ref();
    let node = spec.and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
    let named = selection.named.iter().any(|one| one.as_str() == name);
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let in_phase = |wanted: &Phase| phase == Some(wanted.to_string().as_str());
    let phase_fits = if selection.phases.is_empty() {
        named || (in_phase(&Phase::Running) && pod.metadata.deletion_timestamp.is_none())
    } else {
        selection.phases.iter().any(in_phase)
    };
    let annotated = selection.annotations.iter().all(|wanted| {
        let value = pod.annotations().get(&wanted.key);
        value.is_some_and(|value| wanted.value.as_ref().is_none_or(|wanted| wanted == value))
    });
    phase_fits
        && annotated
        && selection.pods.as_ref().is_none_or(|pattern| pattern.is_in(&name))
        && !selection.except.iter().any(|pattern| pattern.is_in(&name))
        && (selection.nodes.is_empty() || selection.nodes.iter().any(|one| one.as_str() == node))
        && nodes.is_none_or(|nodes| nodes.contains(node))
        && selection.containers.as_ref().is_none_or(|pattern| {
            let all = super::target::containers(pod);
            all.iter().any(|container| pattern.is_in(&container.name))
        })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(change: &Value) -> Pod {
        let mut pod = json!({
            "metadata": {"name": "web-1", "namespace": "demo"},
            "spec": {"nodeName": "node-a", "containers": [{"name": "app"}]},
            "status": {"phase": "Running"},
        });
        for (part, fields) in change.as_object().unwrap() {
            pod[part].as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        }
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn all_conditions_must_hold() {
        let plain = pod(&json!({"metadata": {"annotations": {"team": "a"}}}));
        let ask = |change: &dyn Fn(&mut Selection)| {
            let mut selection = Selection::default();
            change(&mut selection);
            is_meant(&plain, &selection, None)
        };
        assert!(ask(&|_| ()));
        assert!(ask(&|it| it.pods = "^web".parse().ok()));
        assert!(!ask(&|it| it.pods = "^db".parse().ok()));
        assert!(!ask(&|it| it.except = vec!["-1$".parse().unwrap()]));
        assert!(ask(&|it| it.containers = "app".parse().ok()));
        assert!(!ask(&|it| it.containers = "proxy".parse().ok()));
        assert!(ask(&|it| it.nodes = vec!["node-b".parse().unwrap(), "node-a".parse().unwrap()]));
        assert!(!ask(&|it| it.nodes = vec!["node-b".parse().unwrap()]));
        assert!(ask(
            &|it| it.annotations = vec!["team".parse().unwrap(), "team=a".parse().unwrap()]
        ));
        assert!(!ask(&|it| it.annotations = vec!["team=b".parse().unwrap()]));
        let nodes = BTreeSet::from(["node-b".to_owned()]);
        assert!(!is_meant(&plain, &Selection::default(), Some(&nodes)));
    }

    #[test]
    fn those_that_do_not_run_are_passed_over_unless_they_are_asked_for() {
        let meant = |pod: &Pod, selection: &Selection| is_meant(pod, selection, None);
        let ended = pod(&json!({"status": {"phase": "Succeeded"}}));
        let going = pod(&json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
        for one in [&ended, &going] {
            assert!(!meant(one, &Selection::default()));
            // Who names it is told what is wrong with it.
            let named = Selection { named: vec!["web-1".parse().unwrap()], ..Selection::default() };
            assert!(meant(one, &named));
        }
        let phases = vec!["Succeeded".parse().unwrap(), "Failed".parse().unwrap()];
        assert!(meant(&ended, &Selection { phases, ..Selection::default() }));
    }

    #[test]
    fn pods_of_others_with_the_same_labels_do_not_belong() {
        let owned = |kind: &str, name: &str, uid: &str| {
            pod(&json!({"metadata": {
                "labels": {"pod-template-hash": "7d4b9c"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid}],
            }}))
        };
        let object: DynamicObject =
            serde_json::from_value(json!({"metadata": {"name": "web", "uid": "u1"}})).unwrap();
        let of = |kind, pod: &Pod| belongs(pod, &Workload { kind, name: "web".into() }, &object);
        assert!(of(WorkloadKind::Deployment, &owned("ReplicaSet", "web-7d4b9c", "u2")));
        assert!(!of(WorkloadKind::Deployment, &owned("ReplicaSet", "web-api-7d4b9c", "u2")));
        assert!(!of(WorkloadKind::Deployment, &owned("StatefulSet", "web", "u1")));
        assert!(of(WorkloadKind::StatefulSet, &owned("StatefulSet", "web", "u1")));
        assert!(!of(WorkloadKind::StatefulSet, &owned("StatefulSet", "web", "u2")));
        assert!(of(WorkloadKind::Service, &pod(&json!({}))));
    }

    #[test]
    fn selectors_become_text() {
        let text = |kind, spec: Value| {
            let object = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
            labels_of(kind, &object)
        };
        let set = json!({"selector": {"matchLabels": {"app": "web"}, "matchExpressions": [
            {"key": "tier", "operator": "NotIn", "values": ["cache"]}, {"key": "x", "operator": "Exists"}]}});
        assert_eq!(
            text(WorkloadKind::Deployment, set).as_deref(),
            Some("app=web,tier notin (cache),x")
        );
        let pairs = json!({"selector": {"app": "web", "a": "b"}});
        assert_eq!(text(WorkloadKind::Service, pairs).as_deref(), Some("a=b,app=web"));
        assert_eq!(text(WorkloadKind::Service, json!({})), None);
        assert_eq!(text(WorkloadKind::Service, json!({"selector": {}})), None);
    }
}
