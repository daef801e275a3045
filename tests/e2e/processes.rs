//! Faults on processes: `/proc` of the node, `curl` and container statuses say what becomes of them.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::{
    check,
    deadline::{kill_serving, restarts},
    lab::{Lab, Namespace, Outcome, Pod, text, wait_for},
};

/// CAP_SYS_PTRACE is bit 19 (linux/capability.h).
const SYS_PTRACE: &str = "0000000000080000";
const NONE: &str = "0000000000000000";

/// A field of `/proc/PID/status` on the pod's node, of each thread of a process.
fn threads(lab: &Lab, pid: &str, field: &str) -> Outcome<Vec<String>> {
    let script = format!("cat /proc/{pid}/task/*/status");
    let output = lab.node(&["sh", "-c", &script]);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let found: Vec<_> = stdout
        .lines()
        .filter_map(|line| Some(line.strip_prefix(field)?.strip_prefix(':')?.trim().to_owned()))
        .collect();
    check!(!found.is_empty(), "process {pid} has no {field}: {}", text(&output));
    Ok(found)
}

fn stands_still(lab: &Lab, pid: &str) -> Outcome<bool> {
    Ok(threads(lab, pid, "State")?.iter().all(|state| state.starts_with('t')))
}

fn is_free(lab: &Lab, pid: &str) -> Outcome<bool> {
    Ok(threads(lab, pid, "TracerPid")?.iter().all(|tracer| tracer == "0"))
}

/// Whether nginx answers within a second.
fn answers(pod: &Pod) -> Outcome<bool> {
    let url = format!("http://{}/", pod.address()?);
    Ok(Command::new("curl").args(["-sf", "-m", "1", "-o", "/dev/null", &url]).status()?.success())
}

/// The newest agent for processes, by its container.
fn agent(pod: &Pod) -> Outcome<String> {
    let ours = pod.ephemeral()?.into_iter().find(|name| name.starts_with("pod-chaos-proc-"));
    Ok(ours.ok_or("the pod has no agent for processes")?)
}

/// The effective capabilities of that agent.
fn capabilities(lab: &Lab, pod: &Pod) -> Outcome<String> {
    let pid = pod.pid(&agent(pod)?)?;
    Ok(threads(lab, &pid, "CapEff")?.remove(0))
}

pub fn a_pause_lasts_until_its_deadline(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({}))?;
    let pod = space.nginx("nginx")?;
    let bystander = space.nginx("bystander")?;
    let main = pod.pid("nginx")?;
    check!(answers(&pod)?, "nginx does not answer");
    let fault = space.start(&["pause", "-p", "nginx", "-r", "4"])?;
    let in_force = Instant::now();
    check!(stands_still(lab, &main)?, "{:?}", threads(lab, &main, "State")?);
    check!(!answers(&pod)?, "nginx answers");
    check!(answers(&bystander)?, "the other pod does not answer");
    let caps = capabilities(lab, &pod)?;
    check!(caps == SYS_PTRACE, "the agent has {caps}");
    let output = space.plugin(&["status", "-o", "json"]);
    let status: Value = serde_json::from_slice(&output.stdout)?;
    let one = &status["faults"][0];
    check!(one["doing"] == "pause" && one["target"]["container"] == "nginx", "{status}");
    let (exit, said) = fault.finish()?;
    let took = in_force.elapsed();
    check!(exit == Some(0) && said.contains("clean: ended by its deadline"), "{exit:?} {said}");
    check!(took > Duration::from_millis(3900), "it lasted {took:?}");
    check!(is_free(lab, &main)? && answers(&pod)?, "nginx does not go on");
    check!(restarts(&pod.read()?) == Some(0), "nginx was restarted");
    Ok(())
}

/// Whose death ends it is shown twice: of the agent's process, and of the container's.
pub fn a_pause_ends_with_its_agent_and_with_its_container(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({}))?;
    let pod = space.nginx("nginx")?;
    let main = pod.pid("nginx")?;
    let fault = space.start(&["pause", "-p", "nginx", "-r", "60"])?;
    check!(stands_still(lab, &main)?, "{:?}", threads(lab, &main, "State")?);
    kill_serving(lab, &main)?;
    check!(is_free(lab, &main)? && answers(&pod)?, "nginx does not go on");
    let (exit, said) = fault.finish()?;
    check!(exit == Some(0) && said.contains("clean: read back"), "{exit:?} {said}");

    let fault = space.start(&["pause", "-p", "nginx", "-r", "60"])?;
    check!(pod.ephemeral()?.len() == 1, "the agent was not used again");
    let output = lab.node(&["kill", "-9", &main]);
    check!(output.status.success(), "{}", text(&output));
    let (exit, said) = fault.finish()?;
    check!(exit == Some(0) && said.contains("container nginx has ended"), "{exit:?} {said}");
    wait_for("nginx to be started again", Duration::from_secs(15), || {
        pod.read().is_ok_and(|now| restarts(&now) == Some(1)) && answers(&pod).unwrap_or(false)
    })
}

/// A pod whose container runs as this user, and says so.
fn unprivileged(space: &Namespace) -> Outcome<Pod> {
    space.pod(
        "hardened",
        &json!({"spec": {
            "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "runAsGroup": 1000},
            "containers": [{
                "name": "app",
                "image": "localhost/shell:lab",
                "imagePullPolicy": "IfNotPresent",
                "command": ["sleep", "3600"],
                "securityContext": {
                    "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
                    "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
                },
            }],
        }}),
    )
}

/// The strictest namespace that there is admits an agent that needs no capability.
pub fn the_same_user_needs_no_capability(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({"pod-security.kubernetes.io/enforce": "restricted"}))?;
    let pod = unprivileged(&space)?;
    let main = pod.pid("app")?;
    let fault = space.start(&["pause", "-p", "hardened", "-r", "60"])?;
    check!(stands_still(lab, &main)?, "{:?}", threads(lab, &main, "State")?);
    let caps = capabilities(lab, &pod)?;
    check!(caps == NONE, "the agent has {caps}");
    fault.signal("INT")?;
    let (exit, said) = fault.finish()?;
    check!(exit == Some(130) && said.contains("clean: ended by request"), "{exit:?} {said}");
    check!(is_free(lab, &main)?, "the app does not go on");
    let output = space.plugin(&["uninstall", "-p", "hardened"]);
    check!(output.status.success() && text(&output).contains("exits"), "{}", text(&output));
    Ok(())
}
