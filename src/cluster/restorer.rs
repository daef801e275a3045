//! The Job that puts a pod's images back at the deadline, wherever the command is then.
//!
//! It is the plugin itself, in an image, with leave to read and patch that one pod. Everything that it takes belongs
//! to the Job, and the Job to the pod: the control plane removes all of it when it is done, or when the pod is deleted.

use std::time::Duration;

use k8s_openapi::api::{
    authorization::v1::ResourceAttributes,
    batch::v1::Job,
    core::v1::ServiceAccount,
    rbac::v1::{Role, RoleBinding},
};
use kube::{
    Api, Resource,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use pod_chaos_protocol::{FaultId, OWNER, RunTime};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{Chosen, Cluster, Swap, api_error, client::in_time, preflight::check_allowed};
use crate::{
    exit::Error,
    plan::{Image, ServiceAccountName},
};

/// How long it may take to get ready: mostly the pull of its image.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two looks whether it is.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long it waits, once it is ready, until the images are replaced.
pub const IDLE: Duration = Duration::from_secs(120);
/// How long after the deadline it goes on trying to put them back, in seconds.
const PERSISTENCE: u64 = 3600;
/// The user that it runs as: nobody's.
const USER: u32 = 65534;

/// One for one fault on one pod.
#[derive(Clone, Debug)]
pub struct Restorer {
    /// Which one.
    pub fault: FaultId,
    /// Where it comes from.
    pub image: Image,
    /// A service account that may read and patch the pod; one is made when none is named.
    pub service_account: Option<ServiceAccountName>,
    /// How long the fault is to last.
    pub running_time: RunTime,
}

impl Restorer {
    /// The name of the Job, and of all that belongs to it.
    pub fn name(&self) -> String {
        Self::name_for(self.fault)
    }

    /// The same of the one for that fault.
    pub fn name_for(fault: FaultId) -> String {
        format!("{OWNER}-restore-{fault}")
    }

    /// Whether the user may make it, and do what it is there for; and whether the server would take it.
    pub async fn check(&self, at: &Chosen) -> Result<(), Error> {
        let Chosen { cluster, name, .. } = at;
        let act =
            |verb: &str, group: &str, resource: &str, name: Option<String>| ResourceAttributes {
                namespace: Some(cluster.namespace().to_owned()),
                verb: Some(verb.to_owned()),
                group: (!group.is_empty()).then(|| group.to_owned()),
                resource: Some(resource.to_owned()),
                name,
                ..ResourceAttributes::default()
            };
        let mut acts = vec![
            act("patch", "", "pods", Some(name.to_string())),
            act("create", "batch", "jobs", None),
            act("delete", "batch", "jobs", None),
        ];
        if self.service_account.is_none() {
            acts.extend([
                act("patch", "batch", "jobs", None),
                act("create", "", "serviceaccounts", None),
                act("create", "rbac.authorization.k8s.io", "roles", None),
                act("create", "rbac.authorization.k8s.io", "rolebindings", None),
            ]);
        }
        let hint = "ask an administrator to bind ClusterRole `pod-chaos-images` (`kubectl pod-chaos rbac \
                    --level images` prints it) to you in this namespace";
        check_allowed(cluster, &acts).await.map_err(|error| error.hint(hint))?;
        let params = PostParams { dry_run: true, ..PostParams::default() };
        create::<Job>(cluster, &self.job(at), &params).await.map(drop)
    }

    /// Makes it. When a part of it is refused, nothing of it stays.
    pub async fn put_up(&self, at: &Chosen) -> Result<(), Error> {
        let cluster = &at.cluster;
        let params = PostParams::default();
        let job = create::<Job>(cluster, &self.job(at), &params).await?;
        if self.service_account.is_some() {
            return Ok(());
        }
        let equip = async {
            let [account, role, binding] =
                self.rights(at, job.metadata.uid.as_deref().unwrap_or_default());
            create::<ServiceAccount>(cluster, &account, &params).await?;
            create::<Role>(cluster, &role, &params).await?;
            create::<RoleBinding>(cluster, &binding, &params).await?;
            // Until now it was held back: without its account no pod of it could be made.
            let go = Patch::Merge(json!({"spec": {"suspend": false}}));
            let going = api::<Job>(cluster).patch(&self.name(), &PatchParams::default(), &go).await;
            going.map(drop).map_err(|error| api_error(&error))
        };
        match equip.await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.undo(at, error).await),
        }
    }

    /// Waits until it has shown on the pod that it can patch it. When it does not, it is taken away.
    pub async fn ready(&self, at: &Chosen) -> Result<(), Error> {
        let Chosen { cluster, name, .. } = at;
        let start = Instant::now();
        loop {
            let pod = cluster.pod(name).await?;
            if Swap::all_of(&pod)?.contains(&(self.fault, None)) {
                return Ok(());
            }
            let why = self.in_the_way(cluster).await;
            let late = start.elapsed() > START_TIMEOUT;
            if late || why.as_ref().is_some_and(|(_, is_final)| *is_final) {
                let why = why.map_or(String::new(), |(why, _)| format!(" ({why})"));
                let job = self.name();
                let refusal = Error::refused(format_args!(
                    "job/{job}, which is to put back the images of pod/{name}, does not start{why}; \
                     the pod was not touched"
                ));
                let hint = format!(
                    "its image is {}: `kubectl pod-chaos image load --plugin` puts it into nodes, \
                     --restorer-image names another one",
                    self.image
                );
                return Err(self.undo(at, refusal.hint(hint)).await);
            }
            sleep(cluster.pace(LOOK_EVERY)).await;
        }
    }

    /// Why its pod does not run, in the kubelet's or the scheduler's words, and whether that stays so.
    async fn in_the_way(&self, cluster: &Cluster) -> Option<(String, bool)> {
        let params = ListParams::default().labels(&format!("{LABEL}={}", self.name()));
        let pods = in_time(cluster.pods().list(&params)).await.ok()?;
        let status = pods.items.into_iter().next()?.status?;
        let containers = status.container_statuses.into_iter().flatten();
        let each = containers.filter_map(|one| one.state).collect::<Vec<_>>();
        let waits = each.iter().find_map(|state| state.waiting.as_ref()?.reason.clone());
        if let Some(reason) = waits.filter(|reason| reason != "ContainerCreating") {
            let is_final = reason.contains("Image") || reason.contains("Error");
            return Some((reason, is_final));
        }
        let conditions = status.conditions.into_iter().flatten();
        let mut held = conditions.filter(|it| it.type_ == "PodScheduled" && it.status != "True");
        held.find_map(|it| Some((it.message?, false)))
    }

    async fn undo(&self, at: &Chosen, error: Error) -> Error {
        match remove_restorer(&at.cluster, &self.name()).await {
            Ok(()) => error,
            Err(left) => Error { messages: [error.messages, left.messages].concat(), ..error },
        }
    }

    /// Held back until its account is there, where that has to be made.
    pub fn job(&self, at: &Chosen) -> Value {
        let Chosen { cluster, name, pod } = at;
        let (own, uid) = (self.name(), pod.metadata.uid.clone().unwrap_or_default());
        let spec = pod.spec.as_ref();
        // The pod's node has its images, and what keeps pods from it does not keep this one.
        let near = spec.and_then(|spec| spec.node_name.as_ref()).map(|node| {
            let fields = json!([{"key": "metadata.name", "operator": "In", "values": [node]}]);
            json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
                [{"weight": 100, "preference": {"matchFields": fields}}]}})
        });
        let lasts = (START_TIMEOUT + IDLE + self.running_time.into()).as_secs() + PERSISTENCE;
        let profile = json!({"type": "RuntimeDefault"});
        json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {
                "name": own, "namespace": cluster.namespace(), "labels": {LABEL: own},
                "ownerReferences": [owner("v1", "Pod", name.as_str(), &uid)],
            },
            "spec": {
                "suspend": self.service_account.is_none(),
                // It exits with an error only where it could not do its work; the deadline bounds all tries.
                "backoffLimit": 1000,
                "activeDeadlineSeconds": lasts,
                "ttlSecondsAfterFinished": 0,
                "template": {
                    "metadata": {
                        "labels": {LABEL: own, "sidecar.istio.io/inject": "false"},
                        // A proxy would outlive it, and the Job would never be done.
                        "annotations": {"linkerd.io/inject": "disabled", "pod-chaos/opt-out": "true"},
                    },
                    "spec": {
                        "restartPolicy": "OnFailure",
                        "terminationGracePeriodSeconds": 0,
                        "serviceAccountName": self.service_account.as_ref().map_or(own.as_str(), ServiceAccountName::as_str),
                        "automountServiceAccountToken": true,
                        "nodeSelector": {"kubernetes.io/os": "linux"},
                        "affinity": near,
                        "tolerations": spec.and_then(|spec| spec.tolerations.as_ref()),
                        "securityContext": {
                            "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "seccompProfile": profile,
                        },
                        "containers": [{
                            "name": "restore", "image": self.image.as_str(), "imagePullPolicy": "IfNotPresent",
                            "args": [
                                "restore", "--pod", name.as_str(), "--namespace", cluster.namespace(),
                                "--uid", uid, "--fault", self.fault.to_string(),
                            ],
                            "resources": {
                                "requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"},
                            },
                            "securityContext": {
                                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                                "capabilities": {"drop": ["ALL"]},
                            },
                        }],
                    },
                },
            },
        })
    }

    /// An account that may read and patch that pod, which all belongs to the Job.
    fn rights(&self, at: &Chosen, job: &str) -> [Value; 3] {
        let own = self.name();
        let metadata = json!({
            "name": own, "namespace": at.cluster.namespace(), "labels": {LABEL: own},
            "ownerReferences": [owner("batch/v1", "Job", &own, job)],
        });
        let group = "rbac.authorization.k8s.io";
        [
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
            json!({
                "apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": metadata,
                "rules": [{"apiGroups": [""], "resources": ["pods"], "resourceNames": [at.name.as_str()],
                           "verbs": ["get", "patch"]}],
            }),
            json!({
                "apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": metadata,
                "roleRef": {"apiGroup": group, "kind": "Role", "name": own},
                "subjects": [{"kind": "ServiceAccount", "name": own, "namespace": at.cluster.namespace()}],
            }),
        ]
    }
}

/// What all of it is labelled with; the value is the Job's name.
const LABEL: &str = "pod-chaos/restorer";

/// Removes the Job of that name, with all that belongs to it, if it is there.
pub async fn remove_restorer(cluster: &Cluster, job: &str) -> Result<(), Error> {
    match in_time(api::<Job>(cluster).delete(job, &DeleteParams::background())).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        outcome => outcome.map(drop).map_err(|error| api_error(&error)),
    }
}

/// What is removed together with its owner.
fn owner(version: &str, kind: &str, name: &str, uid: &str) -> Value {
    json!({"apiVersion": version, "kind": kind, "name": name, "uid": uid, "blockOwnerDeletion": false})
}

fn api<K>(cluster: &Cluster) -> Api<K>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    K::DynamicType: Default,
{
    Api::namespaced(cluster.client(), cluster.namespace())
}

async fn create<K>(cluster: &Cluster, what: &Value, params: &PostParams) -> Result<K, Error>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + Serialize
        + DeserializeOwned
        + std::fmt::Debug,
    K::DynamicType: Default,
{
    let object: K = serde_json::from_value(what.clone())
        .map_err(|error| Error::internal("making the job that puts images back", error))?;
    in_time(api::<K>(cluster).create(params, &object)).await.map_err(|error| api_error(&error))
}
