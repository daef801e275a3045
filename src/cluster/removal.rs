//! A pod is taken away, and what comes in its place.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::api::{DeleteParams, EvictParams, PostParams, Preconditions};
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout_at};

use super::{Cluster, api_error, client::in_time, preflight::check_may_remove};
use crate::{
    exit::{Error, Exit},
    plan::{GracePeriod, PodName},
};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RemovedBy {
    /// `pods/eviction`: budgets are asked.
    Eviction,
    /// DELETE.
    Deletion,
}

/// The pod that is to go.
#[derive(Debug)]
pub struct Removal {
    name: PodName,
    by: RemovedBy,
    grace_period: Option<GracePeriod>,
    uid: String,
    controller: Option<OwnerReference>,
    /// The pods of its controller that were there before.
    siblings: BTreeSet<String>,
    /// How many of them go before it, at the same time.
    pub rank: usize,
}

/// What has become of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Removed {
    /// From the request until the API server had it no more, in milliseconds.
    pub gone_after_ms: Option<u64>,
    /// The pod in its place.
    pub successor: Option<String>,
    /// From the request until that was ready, in milliseconds.
    pub ready_after_ms: Option<u64>,
}

impl Removal {
    /// Asks the API server whether it would, as far as that can be asked without doing it.
    pub async fn check(
        cluster: &Cluster,
        name: &PodName,
        pod: &Pod,
        by: RemovedBy,
        grace_period: Option<GracePeriod>,
    ) -> Result<Self, Error> {
        let references = pod.metadata.owner_references.iter().flatten();
        let controller = references.into_iter().find(|it| it.controller == Some(true)).cloned();
        let mut removal = Self {
            name: name.clone(),
            by,
            grace_period,
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            controller,
            siblings: BTreeSet::new(),
            rank: 0,
        };
        check_may_remove(cluster, name, by).await?;
        removal.ask(cluster, true).await?;
        let pods = cluster.all_pods().await?;
        removal.siblings = pods.iter().filter(|it| removal.is_sibling(it)).map(uid).collect();
        Ok(removal)
    }

    /// Who puts another one in its place, as `ReplicaSet/web-7d4b9c`.
    pub fn controller(&self) -> Option<String> {
        self.controller.as_ref().map(|it| format!("{}/{}", it.kind, it.name))
    }

    /// Has it go.
    pub async fn carry_out(&self, cluster: &Cluster) -> Result<(), Error> {
        self.ask(cluster, false).await
    }

    async fn ask(&self, cluster: &Cluster, dry_run: bool) -> Result<(), Error> {
        let (pods, name) = (cluster.pods(), self.name.as_str());
        let params = DeleteParams {
            dry_run,
            grace_period_seconds: self.grace_period.map(GracePeriod::seconds),
            // Not another one that has got its name meanwhile.
            preconditions: Some(Preconditions {
                uid: Some(self.uid.clone()),
                ..Preconditions::default()
            }),
            ..DeleteParams::default()
        };
        let asked = match self.by {
            RemovedBy::Deletion => in_time(pods.delete(name, &params)).await.map(drop),
            RemovedBy::Eviction => {
                let post_options = PostParams { dry_run, ..PostParams::default() };
                let params = EvictParams { delete_options: Some(params), post_options };
                in_time(pods.evict(name, &params)).await.map(drop)
            }
        };
        asked.map_err(|error| match &error {
            // The eviction subresource answers so when a budget does not allow it.
            kube::Error::Api(status) if status.code == 429 => {
                let refused = api_error(&error);
                Error { exit: Exit::Refused, ..refused }.hint(
                    "`kubectl get poddisruptionbudgets` shows what has to stay; --force asks none of them",
                )
            }
            _ => api_error(&error),
        })
    }

    fn is_sibling(&self, pod: &Pod) -> bool {
        let Some(controller) = &self.controller else { return false };
        let mut references = pod.metadata.owner_references.iter().flatten();
        references.any(|it| it.uid == controller.uid)
    }

    /// Watches until it has gone and, where it has a controller, another one is ready, or until `deadline`.
    pub async fn follow(
        &self,
        cluster: &Cluster,
        since: Instant,
        deadline: Instant,
    ) -> Result<Removed, Error> {
        let mut removed = Removed::default();
        let passed = || u64::try_from(since.elapsed().as_millis()).ok();
        let watch = async {
            loop {
                let pods = cluster.all_pods().await?;
                if removed.gone_after_ms.is_none() && !pods.iter().any(|it| uid(it) == self.uid) {
                    removed.gone_after_ms = passed();
                }
                if let Some(successor) = self.successor(&pods) {
                    removed.successor.clone_from(&successor.metadata.name);
                    if removed.ready_after_ms.is_none() && is_ready(successor) {
                        removed.ready_after_ms = passed();
                    }
                }
                if self.is_over(&removed) {
                    return Ok::<_, Error>(());
                }
                sleep(LOOK_EVERY).await;
            }
        };
        timeout_at(deadline, watch).await.unwrap_or(Ok(()))?;
        Ok(removed)
    }

    /// The first one that its controller has made since; where others go too, each has one of its own.
    fn successor<'a>(&self, pods: &'a [Pod]) -> Option<&'a Pod> {
        let is_new = |it: &&Pod| self.is_sibling(it) && !self.siblings.contains(&uid(it));
        let mut new: Vec<_> = pods.iter().filter(is_new).map(|it| &it.metadata).zip(0..).collect();
        new.sort_by_key(|(it, _)| (it.creation_timestamp.clone(), it.name.clone()));
        let (_, at) = new.get(self.rank)?;
        pods.iter().filter(is_new).nth(*at)
    }

    /// Whether nothing more is to come.
    pub const fn is_over(&self, removed: &Removed) -> bool {
        removed.gone_after_ms.is_some()
            && (self.controller.is_none() || removed.ready_after_ms.is_some())
    }
}

fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True")
}
