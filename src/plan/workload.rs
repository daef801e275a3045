//! What pods belong to.

use std::{fmt, str::FromStr};

use kube::core::{ApiResource, GroupVersionKind};

use super::{BadName, PodName, name::is_subdomain};

/// Kinds of objects that have pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkloadKind {
    /// Its pods belong to its ReplicaSets.
    Deployment,
    /// Its pods are its own, as are those of the others.
    StatefulSet,
    #[allow(missing_docs)]
    DaemonSet,
    #[allow(missing_docs)]
    ReplicaSet,
    #[allow(missing_docs)]
    Job,
    /// Its pods are whose labels it selects.
    Service,
}

impl WorkloadKind {
    /// As `kubectl api-resources` names it: short, singular and plural, and in which group.
    const NAMES: [(Self, [&'static str; 3], &'static str); 6] = [
        (Self::Deployment, ["deploy", "deployment", "deployments"], "apps"),
        (Self::StatefulSet, ["sts", "statefulset", "statefulsets"], "apps"),
        (Self::DaemonSet, ["ds", "daemonset", "daemonsets"], "apps"),
        (Self::ReplicaSet, ["rs", "replicaset", "replicasets"], "apps"),
        (Self::Job, ["job", "job", "jobs"], "batch"),
        (Self::Service, ["svc", "service", "services"], ""),
    ];

    /// The short name of each.
    pub fn short_names() -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().map(|(_, [short, ..], _)| short)
    }

    /// By one of its names; kubectl takes the group too: `deployments.apps`.
    pub fn of_name(text: &str) -> Option<Self> {
        let (bare, group) = text.split_once('.').unwrap_or((text, ""));
        let is_it = |names: &[&str], of| names.contains(&bare) && (group.is_empty() || group == of);
        Self::NAMES.into_iter().find(|(_, names, of)| is_it(names, *of)).map(|(kind, ..)| kind)
    }

    const fn names(self) -> ([&'static str; 3], &'static str) {
        let (_, names, group) = Self::NAMES[self as usize];
        (names, group)
    }

    /// How the API server knows it.
    pub fn resource(self) -> ApiResource {
        let ([_, _, plural], group) = self.names();
        let kind = GroupVersionKind::gvk(group, "v1", &format!("{self:?}"));
        ApiResource::from_gvk_with_plural(&kind, plural)
    }
}

/// An object that has pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// What it is.
    pub kind: WorkloadKind,
    /// Its name: a DNS subdomain.
    pub name: String,
}

impl fmt::Display for Workload {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.kind.names().0[1], self.name)
    }
}

/// A pod, or what pods belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetName {
    /// By itself.
    Pod(PodName),
    /// All that belong to it.
    Workload(Workload),
}

/// Why a target was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    /// Not a name.
    #[error(transparent)]
    Name(#[from] BadName),
    /// Not a kind that has pods.
    #[error("`{0}` has no pods that are known (pod, deploy, sts, ds, rs, job and svc have)")]
    Kind(String),
}

impl FromStr for TargetName {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Self, BadTarget> {
        let Some((kind, name)) = text.split_once('/') else { return Ok(Self::Pod(text.parse()?)) };
        if matches!(kind, "pod" | "pods" | "po") {
            return Ok(Self::Pod(text.parse()?));
        }
        let known = WorkloadKind::of_name(kind);
        let kind = known.ok_or_else(|| BadTarget::Kind(kind.to_owned()))?;
        if !is_subdomain(name) {
            return Err(BadName::Object(name.to_owned()).into());
        }
        Ok(Self::Workload(Workload { kind, name: name.to_owned() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_kubectl_calls_them() {
        for (text, printed) in [
            ("deploy/web", "deployment/web"),
            ("deployments.apps/web", "deployment/web"),
            ("sts/db", "statefulset/db"),
            ("ds/log", "daemonset/log"),
            ("rs/web-7d4b9c", "replicaset/web-7d4b9c"),
            ("jobs/load", "job/load"),
            ("svc/web", "service/web"),
        ] {
            match text.parse() {
                Ok(TargetName::Workload(workload)) => assert_eq!(workload.to_string(), printed),
                other => panic!("{text}: {other:?}"),
            }
        }
        for text in ["web", "pod/web", "po/web"] {
            assert_eq!(text.parse(), Ok(TargetName::Pod("web".parse().unwrap())), "{text}");
        }
        for text in ["node/a", "deploy/", "deploy/A", "deploy/pod/a", "deploy.batch/a", "-x", ""] {
            assert!(text.parse::<TargetName>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_table_is_in_the_order_of_the_kinds() {
        for (kind, [_, singular, plural], group) in WorkloadKind::NAMES {
            let resource = kind.resource();
            assert_eq!(
                (&*resource.group, &*resource.version, &*resource.plural),
                (group, "v1", plural)
            );
            assert_eq!(resource.kind.to_lowercase(), singular);
        }
    }
}
