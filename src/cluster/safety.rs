//! Whom a fault must not hit, or not for so long, or not so many of: what the owners of namespaces and pods say.

use std::{collections::BTreeMap, fmt};

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{Api, ResourceExt as _};
use pod_chaos_protocol::{Percentage, RunTime};

use super::{Chosen, Cluster, Scope, api_error, client::in_time, find};
use crate::{
    exit::{Error, Exit},
    plan::{Protected, Selection},
};

/// On a namespace or a pod: `true` has it left alone.
pub const OPT_OUT: &str = "pod-chaos/opt-out";
/// On a namespace: no fault in it may be asked for longer than this, as `5m`.
pub const MAX_RUNNING_TIME: &str = "pod-chaos/max-running-time";
/// On a namespace: no more than this part of a workload may be hit at the same time, as `50%`.
pub const MAX_SHARE: &str = "pod-chaos/max-share";

/// What the user has said about it.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// Namespaces that are left alone.
    pub protected: Protected,
    /// Hit pods in these all the same.
    pub allow_protected: bool,
    /// The largest part of a workload.
    pub max_share: Option<Percentage>,
}

/// What the annotations of a namespace say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rules {
    opts_out: bool,
    max_running_time: Option<RunTime>,
    max_share: Option<Percentage>,
}

/// What the namespaces of the chosen pods say about faults.
pub struct Safety {
    rules: BTreeMap<Scope, Rules>,
    /// Of those that could not be read, nothing is known.
    pub unread: Vec<Unread>,
}

/// A namespace that could not be read.
#[derive(Clone, Debug)]
pub struct Unread {
    scope: Scope,
    why: String,
    /// Whether the user may not.
    pub forbidden: bool,
}

impl fmt::Display for Unread {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scope, why, .. } = self;
        write!(out, "whether namespace {scope} limits faults is not known: {why}")
    }
}

impl Safety {
    /// Reads these namespaces.
    pub async fn read(clusters: &[Cluster]) -> Result<Self, Error> {
        let mut safety = Self { rules: BTreeMap::new(), unread: Vec::new() };
        for found in join_all(clusters.iter().map(read)).await {
            match found {
                Ok((scope, rules)) => drop(safety.rules.insert(scope, rules?)),
                Err(unread) => safety.unread.push(unread),
            }
        }
        Ok(safety)
    }

    /// Why this pod is to be left alone, or not to be hit for so long.
    pub fn check_pod(
        &self,
        at: &Chosen,
        limits: &Limits,
        running_time: Option<RunTime>,
    ) -> Result<(), Error> {
        let Chosen { cluster, name, pod } = at;
        let namespace = cluster.namespace();
        let rules = self.rules.get(cluster.scope()).cloned().unwrap_or_default();
        if limits.protected.holds(namespace) && !limits.allow_protected {
            return Err(Error::refused(format_args!(
                "pod/{name} is in namespace {namespace}, which is protected"
            ))
            .hint("--allow-protected hits it all the same"));
        }
        if rules.opts_out {
            return Err(Error::refused(format_args!(
                "pod/{name} is in namespace {namespace}, which opts out of faults"
            ))
            .hint(format!("its owner has set the annotation {OPT_OUT}")));
        }
        if opts_out(pod.annotations()) {
            return Err(Error::refused(format_args!("pod/{name} opts out of faults"))
                .hint(format!("its owner has set the annotation {OPT_OUT}")));
        }
        match (rules.max_running_time, running_time) {
            (Some(most), Some(asked)) if asked.as_nanos() > most.as_nanos() => {
                Err(Error::refused(format_args!(
                    "pod/{name} is in namespace {namespace}, where a fault lasts {most} at most, not {asked}"
                ))
                .hint("-r says how long"))
            }
            _ => Ok(()),
        }
    }

    /// Refuses when too large a part of a workload would be hit, with the workload's other pods in view.
    pub async fn check_shares(&self, pods: &[Chosen], limits: &Limits) -> Result<(), Error> {
        let mut refused: Vec<String> = Vec::new();
        let mut by_scope: BTreeMap<&Scope, Vec<&Chosen>> = BTreeMap::new();
        for one in pods {
            by_scope.entry(one.cluster.scope()).or_default().push(one);
        }
        for (scope, chosen) in by_scope {
            let own = self.rules.get(scope).and_then(|rules| rules.max_share);
            let Some(most) = own.into_iter().chain(limits.max_share).min() else { continue };
            let Some(first) = chosen.first() else { continue };
            let all = find(std::slice::from_ref(&first.cluster), &Selection::default()).await?;
            let hit = count(chosen.iter().map(|one| &*one.pod));
            let of = count(all.iter().map(|one| &*one.pod));
            for (owner, hit) in hit {
                let of = of.get(&owner).copied().unwrap_or_default().max(hit);
                if exceeds(hit, of, most) {
                    refused.push(format!(
                        "{hit} of {of} pods of {owner} in namespace {scope} are more than {most}"
                    ));
                }
            }
        }
        if refused.is_empty() {
            return Ok(());
        }
        Err(Error {
            exit: Exit::Refused,
            messages: refused,
            hint: Some("--mode takes fewer, as --mode percent=30".to_owned()),
        })
    }
}

async fn read(cluster: &Cluster) -> Result<(Scope, Result<Rules, Error>), Unread> {
    let (scope, namespace) = (cluster.scope().clone(), cluster.namespace());
    let api: Api<Namespace> = Api::all(cluster.client());
    match in_time(api.get(namespace)).await {
        Ok(found) => {
            let rules = rules(namespace, found.annotations());
            Ok((scope, rules))
        }
        Err(error) => {
            let forbidden = matches!(&error, kube::Error::Api(status) if status.is_forbidden());
            let why = api_error(&error).messages.join("; ");
            Err(Unread { scope, why, forbidden })
        }
    }
}

/// What cannot be read is refused: it was meant as a limit.
fn rules(namespace: &str, annotations: &BTreeMap<String, String>) -> Result<Rules, Error> {
    let value = |key: &str| annotations.get(key).map(String::as_str);
    let bad = |key: &str, error: &dyn std::fmt::Display| {
        Error::refused(format_args!("annotation {key} of namespace {namespace}: {error}"))
    };
    let time = value(MAX_RUNNING_TIME).map(str::parse).transpose();
    let share = value(MAX_SHARE).map(str::parse).transpose();
    Ok(Rules {
        opts_out: opts_out(annotations),
        max_running_time: time.map_err(|error| bad(MAX_RUNNING_TIME, &error))?,
        max_share: share.map_err(|error| bad(MAX_SHARE, &error))?,
    })
}

fn opts_out(annotations: &BTreeMap<String, String>) -> bool {
    annotations.get(OPT_OUT).is_some_and(|value| value != "false")
}

/// How many pods each workload has among these. A ReplicaSet stands for its Deployment, whose name it has with the
/// hash of its pods' template.
fn count<'a>(pods: impl Iterator<Item = &'a Pod>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for pod in pods {
        let owners = pod.metadata.owner_references.iter().flatten();
        let Some(owner) = owners.into_iter().find(|owner| owner.controller == Some(true)) else {
            continue;
        };
        let hash = pod.labels().get("pod-template-hash").map(|hash| format!("-{hash}"));
        let owner = match hash.and_then(|hash| owner.name.strip_suffix(&hash)) {
            Some(name) if owner.kind == "ReplicaSet" => format!("deployment/{name}"),
            _ => format!("{}/{}", owner.kind.to_lowercase(), owner.name),
        };
        *counts.entry(owner).or_default() += 1;
    }
    counts
}

/// Whether so many are more than this part of them.
fn exceeds(hit: usize, of: usize, most: Percentage) -> bool {
    // A percentage is the nearest step: half a step more is still what was written.
    let steps = (2 * u128::from(most.scaled()) + 1) * of as u128;
    hit as u128 * 2 * u128::from(u32::MAX) > steps
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn annotated(pairs: &[(&str, &str)]) -> Result<Rules, Error> {
        let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        rules("demo", &pairs.collect())
    }

    #[test]
    fn annotations_are_rules_and_bad_ones_are_no_leave() {
        assert_eq!(annotated(&[("other", "true")]).unwrap(), Rules::default());
        assert!(annotated(&[(OPT_OUT, "true")]).unwrap().opts_out);
        assert!(annotated(&[(OPT_OUT, "")]).unwrap().opts_out);
        assert!(!annotated(&[(OPT_OUT, "false")]).unwrap().opts_out);
        let limits = annotated(&[(MAX_RUNNING_TIME, "5m"), (MAX_SHARE, "50%")]).unwrap();
        assert_eq!(limits.max_running_time, "5m".parse().ok());
        assert_eq!(limits.max_share, "50%".parse().ok());
        for (key, value) in [(MAX_RUNNING_TIME, "soon"), (MAX_SHARE, "half")] {
            let error = annotated(&[(key, value)]).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains(value), "{error}");
        }
    }

    #[test]
    fn a_share_is_exact() {
        let share = |percent: &str| percent.parse::<Percentage>().unwrap();
        for (hit, of, percent, over) in [
            (1, 2, "50%", false),
            (2, 3, "50%", true),
            (33, 100, "33%", false),
            (34, 100, "33%", true),
            (1, 1, "99%", true),
            (1, 1, "100%", false),
            (3, 10, "30%", false),
        ] {
            assert_eq!(exceeds(hit, of, share(percent)), over, "{hit} of {of}: {percent}");
        }
    }

    #[test]
    fn replicas_of_all_versions_are_one_workload() {
        let pod = |kind: &str, name: &str, hash: &str| -> Pod {
            let owner = json!({"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "u", "controller": true});
            serde_json::from_value(json!({"metadata": {
                "labels": {"pod-template-hash": hash}, "ownerReferences": [owner]}}))
            .unwrap()
        };
        let pods = [
            pod("ReplicaSet", "web-aaa", "aaa"),
            pod("ReplicaSet", "web-bbb", "bbb"),
            pod("StatefulSet", "db", ""),
            Pod::default(),
        ];
        let counts: Vec<_> = count(pods.iter()).into_iter().collect();
        assert_eq!(counts, [("deployment/web".to_owned(), 2), ("statefulset/db".to_owned(), 1)]);
    }
}
