//! What a fault leaves for others to see: Events on the pod, and an annotation as long as it is in force.

use std::time::{Duration, SystemTime};

use futures::future::join_all;
use k8s_openapi::{
    api::{
        authentication::v1::SelfSubjectReview,
        core::v1::{Event, Pod},
    },
    jiff::Timestamp,
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use pod_chaos_protocol::FaultId;
use serde_json::{Value, json};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{Chosen, Cluster, client::in_time};
use crate::plan::PodName;

/// The annotation's key begins so; the fault's id follows.
const ANNOTATION: &str = "pod-chaos/fault-";
/// How long after a fault has begun its traces are left.
const FIRST: Duration = Duration::from_millis(30);
/// How long a command goes on for their sake.
const PATIENCE: Duration = Duration::from_secs(2);

/// The traces of one fault. They are left beside it, and by whom it is allowed: nothing waits for them, and nothing
/// fails for them.
pub struct Audit {
    of: Traces,
    begun: Option<JoinHandle<()>>,
}

#[derive(Clone)]
struct Traces {
    cluster: Cluster,
    pod: PodName,
    uid: Option<String>,
    fault: FaultId,
}

impl Audit {
    /// Nothing is left yet.
    pub fn new(Chosen { cluster, name, pod }: &Chosen, fault: FaultId) -> Self {
        let (cluster, uid) = (cluster.clone(), pod.metadata.uid.clone());
        Self { of: Traces { cluster, pod: name.clone(), uid, fault }, begun: None }
    }

    /// It is in force, for so long at most.
    pub fn begin(&mut self, what: String, left: Duration) {
        let of = self.of.clone();
        let until = Timestamp::try_from(SystemTime::now() + left).unwrap_or(Timestamp::MAX);
        let until = format!("{until:.0}");
        self.begun = Some(tokio::spawn(async move {
            // Where there are many, all of them are to begin first.
            sleep(of.cluster.pace(FIRST)).await;
            let by = of.cluster.user.get_or_init(|| user(&of.cluster)).await;
            let message = format!("{what}, until {until} at the latest, by {by}");
            let value = Value::from(json!({"by": by, "what": what, "until": until}).to_string());
            let event = of.event("FaultBegan", "Warning", &message);
            futures::join!(event, of.annotate(&value));
        }));
    }

    /// This command stays with it no longer: `how` it has ended, unless it goes on.
    pub async fn end(self, how: Option<String>) {
        let Self { of, begun: Some(begun) } = self else { return };
        let traces = async {
            let _ = begun.await;
            if let Some(how) = how {
                let event = of.event("FaultEnded", "Normal", &how);
                futures::join!(event, of.annotate(&Value::Null));
            }
        };
        let _ = timeout(PATIENCE, traces).await;
    }
}

/// These faults were ended, by another command than the one that began them, each with what is to be said of it; and
/// nothing is in force any more on this pod, whatever its annotations say.
pub async fn reverted(Chosen { cluster, name, pod }: &Chosen, faults: Vec<(FaultId, String)>) {
    let traces = |fault| Traces {
        cluster: cluster.clone(),
        pod: name.clone(),
        uid: pod.metadata.uid.clone(),
        fault,
    };
    let annotated = pod.metadata.annotations.iter().flat_map(|all| all.keys());
    let stale = annotated.filter_map(|key| key.strip_prefix(ANNOTATION)?.parse().ok());
    let stale = stale.map(|fault| async move { traces(fault).annotate(&Value::Null).await });
    let ended = faults.into_iter().map(|(fault, how)| async move {
        traces(fault).event("FaultEnded", "Normal", &how).await;
    });
    let _ = timeout(PATIENCE, async { futures::join!(join_all(stale), join_all(ended)) }).await;
}

impl Traces {
    async fn event(&self, reason: &str, kind: &str, message: &str) {
        let Self { cluster, pod, uid, fault } = self;
        let (namespace, now) = (cluster.namespace(), format!("{:.0}", Timestamp::now()));
        let event = json!({
            "metadata": {"generateName": format!("{pod}."), "namespace": namespace},
            "involvedObject": {
                "apiVersion": "v1", "kind": "Pod", "name": pod.as_str(), "namespace": namespace, "uid": uid,
            },
            "reason": reason, "type": kind, "message": format!("{message} (fault {fault})"),
            "source": {"component": "pod-chaos"}, "reportingComponent": "pod-chaos", "reportingInstance": "",
            "count": 1, "firstTimestamp": now, "lastTimestamp": now,
        });
        let events: Api<Event> = Api::namespaced(cluster.client(), namespace);
        if let Ok(event) = serde_json::from_value(event) {
            let _ = in_time(events.create(&PostParams::default(), &event)).await;
        }
    }

    /// Who may patch pods may change more of them than this: it is no part of the roles for faults.
    async fn annotate(&self, value: &Value) {
        let key = format!("{ANNOTATION}{}", self.fault);
        let patch = Patch::Merge(json!({"metadata": {"annotations": {key: value}}}));
        let pods: Api<Pod> = self.cluster.pods();
        let _ =
            in_time(pods.patch_metadata(self.pod.as_str(), &PatchParams::default(), &patch)).await;
    }
}

/// Servers before 1.28 do not tell.
async fn user(cluster: &Cluster) -> String {
    let reviews: Api<SelfSubjectReview> = Api::all(cluster.client());
    let params = PostParams::default();
    let review = in_time(reviews.create(&params, &SelfSubjectReview::default())).await.ok();
    let user = review.and_then(|review| review.status?.user_info?.username);
    user.unwrap_or_else(|| "somebody".to_owned())
}
