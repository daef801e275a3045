//! What an agent is there for, and what its container may therefore do.

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerStatus, EphemeralContainer, PodSecurityContext,
};

/// What an agent is there for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Faults of the pod's network, whatever its containers do.
    Network,
    /// Faults of the processes of one container, whose process namespace the agent shares.
    Process(ProcessRole),
}

/// What faults are about: the kinds of pod that they can be done to differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// The network.
    Network,
    /// Processes.
    Processes,
}

/// An agent for the processes of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessRole {
    /// The name of that container.
    pub target: String,
    /// As whom the agent runs.
    pub user: User,
    /// Its capabilities; it has no others.
    pub capabilities: Vec<Capability>,
}

/// User and group ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// The user.
    pub uid: i64,
    /// The group.
    pub gid: i64,
}

impl User {
    /// Who needs capabilities for everything that is not its own.
    pub const ROOT: Self = Self { uid: 0, gid: 0 };
}

/// Capabilities that faults on processes need (capabilities(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// To trace processes of other users.
    SysPtrace,
    /// To signal processes of other users.
    Kill,
    /// To become another user.
    SetUid,
    /// To become another group.
    SetGid,
}

impl Capability {
    const ALL: [Self; 4] = [Self::SysPtrace, Self::Kill, Self::SetUid, Self::SetGid];

    /// As Kubernetes has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SysPtrace => "SYS_PTRACE",
            Self::Kill => "KILL",
            Self::SetUid => "SETUID",
            Self::SetGid => "SETGID",
        }
    }
}

/// Names of network agents start so.
const NETWORK_PREFIX: &str = "pod-chaos-net-";
/// And those of agents for processes.
const PROCESS_PREFIX: &str = "pod-chaos-proc-";

impl Role {
    /// What its faults are about.
    pub const fn domain(&self) -> Domain {
        match self {
            Self::Network => Domain::Network,
            Self::Process(_) => Domain::Processes,
        }
    }

    /// What names of its containers start with.
    pub const fn prefix(&self) -> &'static str {
        match self {
            Self::Network => NETWORK_PREFIX,
            Self::Process(_) => PROCESS_PREFIX,
        }
    }

    /// As whom its agent runs.
    pub const fn user(&self) -> User {
        match self {
            Self::Network => User::ROOT,
            Self::Process(role) => role.user,
        }
    }

    /// The names of its capabilities.
    pub fn capabilities(&self) -> Vec<String> {
        match self {
            Self::Network => vec!["NET_ADMIN".to_owned(), "NET_RAW".to_owned()],
            Self::Process(role) => {
                role.capabilities.iter().map(|one| one.name().to_owned()).collect()
            }
        }
    }

    /// The container whose process namespace it shares. A network agent shares none: it would die with it.
    pub fn target(&self) -> Option<&str> {
        match self {
            Self::Network => None,
            Self::Process(role) => Some(&role.target),
        }
    }

    /// What the agent in this container is there for; `None` when it is none of ours.
    pub fn of(container: &EphemeralContainer) -> Option<Self> {
        if container.name.starts_with(NETWORK_PREFIX) {
            return Some(Self::Network);
        }
        let target = container.target_container_name.clone();
        let target = target.filter(|_| container.name.starts_with(PROCESS_PREFIX))?;
        let context = container.security_context.as_ref()?;
        let added = context.capabilities.as_ref().and_then(|sets| sets.add.clone());
        let added = added.unwrap_or_default();
        let capabilities = Capability::ALL.into_iter();
        Some(Self::Process(ProcessRole {
            target,
            user: User { uid: context.run_as_user?, gid: context.run_as_group? },
            capabilities: capabilities
                .filter(|one| added.iter().any(|name| name == one.name()))
                .collect(),
        }))
    }

    /// Whether an agent of this role can do what one of that role could.
    pub fn covers(&self, wanted: &Self) -> bool {
        match (self, wanted) {
            (Self::Network, Self::Network) => true,
            (Self::Process(this), Self::Process(wanted)) => {
                // One that is to be no more than a container's own processes may not be more.
                let able = wanted.capabilities.is_empty() == this.capabilities.is_empty()
                    && wanted.capabilities.iter().all(|one| this.capabilities.contains(one));
                this.target == wanted.target && this.user == wanted.user && able
            }
            _ => false,
        }
    }
}

impl ProcessRole {
    /// The least that an agent needs which does to the processes of `container` what takes `capabilities`
    /// where they are another user's.
    ///
    /// A process may trace and signal those of its own user and group, provided that they have no more
    /// capabilities than itself (`ptrace_may_access()` and `cap_ptrace_access_check()` of the kernel): so the
    /// agent runs as the container does where that is known. Who is not root has no capabilities in a pod.
    pub fn new(
        container: &Container,
        status: Option<&ContainerStatus>,
        pod: Option<&PodSecurityContext>,
        capabilities: &[Capability],
    ) -> Self {
        let target = container.name.clone();
        match user(container, status, pod) {
            Some(user) if user.uid != 0 => Self { target, user, capabilities: Vec::new() },
            _ => Self { target, user: User::ROOT, capabilities: capabilities.to_vec() },
        }
    }
}

/// As whom a container runs, if that can be told: the kubelet says so from Kubernetes 1.31 on (KEP-3619), and
/// the pod may.
fn user(
    container: &Container,
    status: Option<&ContainerStatus>,
    pod: Option<&PodSecurityContext>,
) -> Option<User> {
    let linux = status.and_then(|status| status.user.as_ref()?.linux.as_ref());
    if let Some(linux) = linux {
        return Some(User { uid: linux.uid, gid: linux.gid });
    }
    let own = container.security_context.as_ref();
    let uid = own.and_then(|own| own.run_as_user).or_else(|| pod?.run_as_user)?;
    let gid = own.and_then(|own| own.run_as_group).or_else(|| pod?.run_as_group)?;
    Some(User { uid, gid })
}

/// What goes into a container's security context: these capabilities and no others.
pub(super) fn only(names: Vec<String>) -> Capabilities {
    let add = (!names.is_empty()).then_some(names);
    Capabilities { add, drop: Some(vec!["ALL".to_owned()]) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn role(container: &serde_json::Value, status: Option<&serde_json::Value>) -> ProcessRole {
        let container = serde_json::from_value(container.clone()).unwrap();
        let status = status.map(|status| serde_json::from_value(status.clone()).unwrap());
        ProcessRole::new(&container, status.as_ref(), None, &[Capability::SysPtrace])
    }

    #[test]
    fn asks_for_nothing_where_it_can_be_the_same_user() {
        let same = json!({"name": "app", "securityContext": {"runAsUser": 1000, "runAsGroup": 7}});
        let asked = role(&same, None);
        assert_eq!((asked.user, asked.capabilities), (User { uid: 1000, gid: 7 }, vec![]));
        let status = json!({"name": "app", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                            "user": {"linux": {"uid": 5, "gid": 6}}});
        assert_eq!(role(&json!({"name": "app"}), Some(&status)).user, User { uid: 5, gid: 6 });
    }

    #[test]
    fn asks_for_what_it_takes_where_it_cannot() {
        let group_unknown = json!({"name": "app", "securityContext": {"runAsUser": 1000}});
        let root = json!({"name": "app", "securityContext": {"runAsUser": 0, "runAsGroup": 0}});
        for container in [json!({"name": "app"}), group_unknown, root] {
            let asked = role(&container, None);
            assert_eq!((asked.user, asked.capabilities), (User::ROOT, vec![Capability::SysPtrace]));
        }
    }
}
