//! Errors of the API server, rendered as kubectl renders them.

use kube::{client::AuthError, config::ExecConfig};

use crate::exit::{Error, Exit};

/// The `ClusterRole` that this project ships for its users.
const CLUSTER_ROLE: &str = "pod-chaos";

/// Renders what the API server said: `Error from server (NotFound): pods "web" not found`.
///
/// kube's own `Display` appends a debug dump, which helps nobody.
pub fn api_error(error: &kube::Error) -> Error {
    let kube::Error::Api(status) = error else { return connect_error(error) };
    let reason =
        if status.reason.is_empty() { status.code.to_string() } else { status.reason.clone() };
    let message = format!("Error from server ({reason}): {}", status.message);
    // 403, 404, 422 and their like mean that the server did nothing.
    let exit = if (400..500).contains(&status.code) { Exit::Refused } else { Exit::Failed };
    let error = Error::new(exit, message);
    if status.message.contains("violates PodSecurity") {
        return error.hint(
            "network faults need NET_ADMIN and NET_RAW, faults on another user's processes SYS_PTRACE; \
             use a namespace whose label pod-security.kubernetes.io/enforce is `privileged`, or have \
             an administrator exempt you",
        );
    }
    if status.message.contains("cannot ") && status.is_forbidden() {
        return error.hint(role_hint());
    }
    error
}

/// Who to ask for what, when permissions are missing.
pub(super) fn role_hint() -> String {
    format!(
        "ask an administrator to bind ClusterRole `{CLUSTER_ROLE}` (`kubectl pod-chaos rbac` prints \
         it) to you in this namespace"
    )
}

/// Renders what kept us from talking to the API server, innermost cause last.
pub fn connect_error(error: &kube::Error) -> Error {
    let mut text = match error {
        kube::Error::Service(cause) => chain(cause.as_ref()),
        kube::Error::HyperError(cause) => chain(cause),
        kube::Error::Auth(cause) => format!("logging in: {}", chain(cause)),
        other => chain(other),
    };
    text.truncate(600);
    Error::new(Exit::Failed, format_args!("talking to the API server: {text}"))
}

/// The same while logging in, for which the kubeconfig may name a program.
pub(super) fn login_error(error: &kube::Error, program: Option<&ExecConfig>) -> Error {
    let (kube::Error::Auth(AuthError::AuthExecStart(why)), Some(program)) = (error, program) else {
        return connect_error(error);
    };
    let name = program.command.as_deref().unwrap_or_default();
    let error = Error::new(
        Exit::Failed,
        format_args!(
            "talking to the API server: logging in: running `{name}`, as the kubeconfig says: {why}"
        ),
    );
    match &program.install_hint {
        Some(hint) => error.hint(hint.trim()),
        None => error.hint("install it, or see that it is on the PATH"),
    }
}

/// An error and its causes, each only once.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
