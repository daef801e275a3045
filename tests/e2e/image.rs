//! `image`: for nodes that no registry serves.

use std::{env, path::PathBuf};

use libtest_mimic::Failed;
use serde_json::json;

use crate::{
    check,
    lab::{Lab, text},
};

/// The containerd of the guest.
const SOCKET: &str = "/run/lab/containerd.sock";
/// Where the guest shows the machine's files.
const MACHINE: &str = "/run/machine";

pub fn is_loaded_into_containerd_and_runs(lab: &Lab) -> Result<(), Failed> {
    // `scripts/lab images` has made it.
    let agent = env::var_os("POD_CHAOS_AGENT").map_or_else(
        || {
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!(
                "target/{}-unknown-linux-musl/agent/pod-chaos-agent",
                env::consts::ARCH
            ))
        },
        PathBuf::from,
    );
    let name = format!("localhost/loaded-by-a-test:{}", std::process::id());
    let output = lab.node(&[
        &format!("{MACHINE}{}", env!("CARGO_BIN_EXE_kubectl-pod_chaos")),
        "image",
        "load",
        "--name",
        &name,
        &format!("--containerd={SOCKET}"),
        "--agent",
        &format!("{MACHINE}{}", agent.display()),
    ]);
    check!(text(&output).contains(&format!("{name} loaded by ctr")), "{}", text(&output));

    let space = lab.namespace(&json!({}))?;
    let pod = space.nginx("nginx")?;
    let output = space.plugin(&["install", "-p", "nginx", "-g", &name]);
    check!(output.status.success(), "{}", text(&output));
    let read = pod.read()?;
    check!(read["spec"]["ephemeralContainers"][0]["image"] == json!(name), "{read}");
    lab.node(&["ctr", "--address", SOCKET, "-n", "k8s.io", "image", "rm", &name]);
    Ok(())
}
