//! The plugin from outside: its real binary against a fake API server.
//!
//! What needs a real kubelet is in `tests/e2e`.

mod audit;
mod bootstrap;
#[cfg(unix)]
mod completion;
mod connection;
mod contexts;
#[cfg(unix)]
mod delete;
mod docs;
mod doctor;
mod fake_api;
mod faults;
mod followed;
mod help;
mod https;
#[cfg(unix)]
mod image;
#[cfg(unix)]
mod krew;
mod many;
mod output;
mod packaging;
mod processes;
mod rbac;
mod refusals;
mod safety;
mod skew;
#[cfg(unix)]
mod swap;
mod version;

use std::{
    path::Path,
    process::{Command, Output},
};

/// The plugin's binary, deaf to the environment of whoever runs the tests.
fn plugin() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-pod_chaos"));
    command.env_clear().env("COLUMNS", "80").env("HOME", "/nonexistent");
    command
}

/// The plugin, talking to the cluster of that kubeconfig.
fn plugin_with(kubeconfig: &Path) -> Command {
    let mut command = plugin();
    command.env("KUBECONFIG", kubeconfig);
    command
}

/// What a person saw, for snapshots: exit code, stdout, stderr.
fn seen(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!(
        "exit: {}\n--- stdout\n{}--- stderr\n{}",
        output.status.code().unwrap_or(-1),
        text(&output.stdout),
        text(&output.stderr)
    )
}
