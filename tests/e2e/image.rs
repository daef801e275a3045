//! `image`: for nodes that no registry serves.

use libtest_mimic::Failed;
use serde_json::json;

use crate::{
    check,
    lab::{self, Lab, text},
};

/// The containerd of the guest.
const SOCKET: &str = "/run/lab/containerd.sock";
/// Where the guest shows the machine's files.
const MACHINE: &str = "/run/machine";

pub fn is_loaded_into_containerd_and_runs(lab: &Lab) -> Result<(), Failed> {
    let agent = lab::agent_file();
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
