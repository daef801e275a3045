//! A plan that goes into the pod together with its agent.

use serde::{Deserialize, Serialize};

use crate::{PROTOCOL, Plan};

/// A plan in the arguments of a new agent's container: `pod-chaos-agent wait '{…}'`.
///
/// The agent acts on it as soon as it runs, without waiting for anyone to reach it. But a pod's
/// containers can be made again (their node was restarted, their remains were collected), with the same
/// arguments and long after: so the plan says when it may be acted upon, on a clock that plugin and node
/// share closely enough, the API server's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Carried {
    /// [`PROTOCOL`] of the plugin.
    pub protocol: u16,
    /// From when on, in seconds since 1970 (UTC).
    pub from: u64,
    /// Up to when, in the same.
    pub until: u64,
    /// What to do.
    pub plan: Plan,
}

impl Carried {
    /// How long after it was sent a plan may still be acted upon, in seconds. An agent that takes longer
    /// to start (its image is being pulled) gets its plan when it answers. It is less than what a kubelet
    /// waits before it tries again to make a container (pkg/kubelet/pod_workers.go, backOffPeriod: 10 s):
    /// when the plugin has said that an agent cannot be started, its plan is void.
    pub const FRESH_FOR: u64 = 8;
    /// How long a plan may be to be carried, as JSON, in bytes: an argument of a process has at most
    /// 128 KiB on Linux (MAX_ARG_STRLEN, linux/binfmts.h), and the pod's object should stay small. A longer
    /// one (with tables of the user's) is sent when the agent answers.
    pub const LENGTH_MAX: usize = 16 * 1024;
    /// By how much the node's clock may be behind the API server's, in seconds.
    pub const SKEW: u64 = 2;

    /// A plan that is sent at `now`, in seconds since 1970 by the API server's clock, rounded down as the
    /// `Date` of its answers is (RFC 9110, section 6.6.1).
    pub const fn new(plan: Plan, now: u64) -> Self {
        let (from, until) =
            (now.saturating_sub(Self::SKEW), now.saturating_add(1 + Self::FRESH_FOR));
        Self { protocol: PROTOCOL, from, until, plan }
    }

    /// Whether it may be acted upon at `now`, in seconds since 1970.
    pub const fn is_fresh(&self, now: u64) -> bool {
        self.from <= now && now <= self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_fresh_for_some_seconds() {
        let plan =
            r#"{"id":"0badcafe","running-time":"30s","fault":{"netem":{"netem":{"delay":"1ms"}}}}"#;
        let carried = Carried::new(serde_json::from_str(plan).unwrap(), 1_000);
        assert_eq!(
            [997, 998, 1_000, 1_009, 1_010].map(|now| carried.is_fresh(now)),
            [false, true, true, true, false]
        );
    }
}
