//! `install` and `uninstall`.

use std::time::Duration;

use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::{
    check,
    lab::{Lab, agent_file, text, wait_for},
};

pub fn says_what_it_did_and_that_it_is_there(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({}))?;
    let pod = space.nginx("nginx")?;
    let untouched = pod.network()?;
    let doctor = |more: &[&str]| space.plugin(&[&["doctor", "-p", "nginx"], more].concat());
    let found = doctor(&[]);
    let said = text(&found);
    check!(found.status.success() && said.contains("let in with NET_ADMIN, NET_RAW"), "{said}");
    check!(pod.ephemeral()?.is_empty(), "to look is not to touch");
    let first = space.plugin(&["install", "-p", "nginx"]);
    let said = text(&first);
    let agent = pod.agent()?;
    check!(first.status.success() && said.contains(&agent), "{said}");
    check!(said.contains("stays in the pod's spec"), "{said}");
    let second = space.plugin(&["install", "-p", "nginx"]);
    let said = text(&second);
    check!(second.status.success() && said.contains("already has an agent"), "{said}");
    let found = doctor(&["disrupt", "--probe"]);
    let (said, kernel) = (text(&found), lab.node(&["uname", "-r"]).stdout);
    let kernel = format!("Linux {}", String::from_utf8_lossy(&kernel).trim());
    check!(found.status.success() && said.contains(&kernel), "{kernel}: {said}");
    check!(pod.ephemeral()? == [agent], "a second agent was put in");
    check!(pod.network()? == untouched, "left behind: {}", pod.network()?);
    Ok(())
}

pub fn replaces_a_dead_agent(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({}))?;
    let pod = space.nginx("nginx")?;
    let output = space.plugin(&["install", "-p", "nginx"]);
    check!(output.status.success(), "{}", text(&output));
    let first = pod.agent()?;
    let output = lab.node(&["kill", "-9", &pod.pid(&first)?]);
    check!(output.status.success(), "{}", text(&output));
    // At once: the kubelet does not know yet that the agent is dead.
    let output = space.plugin(&["install", "-p", "nginx"]);
    check!(output.status.success(), "{}", text(&output));
    check!(pod.agent()? != first, "no new agent: {}", text(&output));
    Ok(())
}

pub fn uninstall_lets_the_agent_exit(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({}))?;
    let pod = space.nginx("nginx")?;
    let before = pod.network()?;
    let detached = ["disrupt", "-p", "nginx", "-d", "100", "-r", "60", "--detach"];
    let output = space.plugin(&detached);
    check!(output.status.success(), "{}", text(&output));
    let output = space.plugin(&["uninstall", "-p", "nginx"]);
    check!(output.status.success(), "{}", text(&output));
    check!(pod.ping()? < 50.0, "the fault was not ended");
    check!(pod.network()? == before, "left behind: {}", pod.network()?);
    let exit_code = || -> Option<i64> {
        let pod = pod.read().ok()?;
        pod["status"]["ephemeralContainerStatuses"][0]["state"]["terminated"]["exitCode"].as_i64()
    };
    wait_for("the agent to exit", Duration::from_secs(15), || exit_code().is_some())?;
    check!(exit_code() == Some(0), "exit code {:?}", exit_code());
    let again = space.plugin(&["uninstall", "-p", "nginx"]);
    check!(again.status.success(), "twice must be harmless: {}", text(&again));
    Ok(())
}

/// As the kernel sees it: two capabilities and a seccomp filter.
pub fn asks_for_the_least(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({}))?;
    let pod = space.nginx("nginx")?;
    let output = space.plugin(&["install", "-p", "nginx"]);
    check!(output.status.success(), "{}", text(&output));
    let status = format!("/proc/{}/status", pod.pid(&pod.agent()?)?);
    let output = lab.node(&["cat", &status]);
    let status = String::from_utf8_lossy(&output.stdout).into_owned();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1)).unwrap_or_default().to_owned()
    };
    // CAP_NET_ADMIN is bit 12 and CAP_NET_RAW bit 13 (linux/capability.h).
    for set in ["CapEff:", "CapPrm:", "CapBnd:"] {
        check!(field(set) == "0000000000003000", "{set} {status}");
    }
    check!(field("Seccomp:") == "2", "no seccomp filter: {status}");
    let resident: u32 = field("VmRSS:").parse()?;
    check!(resident <= 2048, "the waiting agent takes {resident} KiB");
    let spec: Value = pod.read()?["spec"]["ephemeralContainers"][0].clone();
    check!(spec.get("targetContainerName").is_none(), "{spec}");
    Ok(())
}

/// As where no image of ours is admitted: the container is of the pod's own, which is not root.
pub fn an_agent_is_streamed_into_an_image_of_the_pods_own(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({}))?;
    let image = "localhost/shell:lab";
    let user = json!({"runAsUser": 1000, "runAsGroup": 1000});
    let app = json!({"name": "app", "image": image, "imagePullPolicy": "IfNotPresent",
                     "command": ["sleep", "3600"], "securityContext": user});
    space.create("app", &json!({"spec": {"containers": [app]}}))?;
    let pod = space.running("app")?;
    let how = format!("stream={}", agent_file().display());
    let run = |line: &str| -> Result<(), Failed> {
        let words: Vec<_> = line.split(' ').chain(["-p", "app", "--bootstrap", &how]).collect();
        let output = space.plugin(&words);
        check!(output.status.success(), "{line}: {}", text(&output));
        Ok(())
    };
    run("disrupt -d 200 -r 60 --detach")?;
    check!(pod.ping()? > 190.0, "not in force");
    // Another one, that is who the container is, and may do nothing else.
    run("pause -r 0.5")?;
    let read = pod.read()?;
    let agents = read["spec"]["ephemeralContainers"].as_array().cloned().unwrap_or_default();
    check!(agents.len() == 2 && agents.iter().all(|it| it["image"] == image), "{agents:?}");
    for agent in pod.ephemeral()? {
        // Nothing is left of the shell that has waited for it.
        let line = lab.node(&["cat", &format!("/proc/{}/cmdline", pod.pid(&agent)?)]);
        check!(line.stdout == b"/tmp/pod-chaos-agent\0wait\0", "{}", text(&line));
    }
    let output = space.plugin(&["uninstall", "-p", "app"]);
    check!(output.status.success(), "{}", text(&output));
    check!(text(&output).matches(" exits").count() == 2, "{}", text(&output));
    check!(pod.ping()? < 150.0, "the fault was not ended");
    Ok(())
}
