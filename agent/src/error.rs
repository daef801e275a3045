//! What went wrong, and how the plugin is told.

use nix::errno::Errno;
use pod_chaos_protocol::{Failure, FailureKind};

use crate::netlink::Refusal;

/// The kernel refused something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{doing}: {refusal}")]
pub struct KernelError {
    doing: String,
    /// How it put it.
    #[source]
    pub refusal: Refusal,
}

impl KernelError {
    /// `doing` reads after "failed to": "add a netem qdisc to `pc-0badcafe`".
    pub const fn new(doing: String, refusal: Refusal) -> Self {
        Self { doing, refusal }
    }
}

/// Says what was being done when the kernel refused.
pub trait Doing<T> {
    /// As for [`KernelError::new`].
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, KernelError>;
}

impl<T> Doing<T> for Result<T, Refusal> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, KernelError> {
        self.map_err(|refusal| KernelError::new(what(), refusal))
    }
}

impl From<KernelError> for Failure {
    fn from(error: KernelError) -> Self {
        let hint = match error.refusal.errno {
            Errno::EPERM => Some("the agent's container needs the capability NET_ADMIN"),
            _ => None,
        };
        failure(FailureKind::Kernel, format!("failed to {error}"), hint)
    }
}

/// Shorthand.
pub fn failure(kind: FailureKind, message: impl Into<String>, hint: Option<&str>) -> Failure {
    Failure { kind, message: message.into(), hint: hint.map(str::to_owned) }
}
