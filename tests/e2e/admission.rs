//! What admission lets in: each level of PodSecurity, and the policy in `deploy/` that lets in agents alone.

use std::{process::Output, thread, time::Duration};

use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::{
    check,
    lab::{self, Lab, Namespace, kubectl, text, wait_for},
};

/// One command for each set of capabilities that agents have where the container runs as root.
const COMMANDS: [(&str, &str); 4] = [
    ("network", "disrupt -d 100"),
    ("trace", "pause"),
    ("signal", "signal USR1"),
    ("none", "burn cpu --percent 50% --of core"),
];

/// What is let in where the container runs as root, and where it is as `restricted` wants it. The table of
/// docs/permissions.md.
const LEVELS: [(&str, &[&str], &[&str]); 3] = [
    (
        "privileged",
        &["network", "trace", "signal", "none"],
        &["network", "trace", "signal", "none"],
    ),
    ("baseline", &["signal", "none"], &["trace", "signal", "none"]),
    // The pod itself is not as it should be, whatever is put in.
    ("restricted", &[], &["trace", "signal", "none"]),
];

const POLICY: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/validating-admission-policy.yaml");

fn pods(space: &Namespace, names: &[&str]) -> Result<(), Failed> {
    let own = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
                     "runAsNonRoot": true, "runAsUser": 1000, "runAsGroup": 1000,
                     "seccompProfile": {"type": "RuntimeDefault"}});
    for name in names {
        let context = if *name == "hardened" { own.clone() } else { json!({}) };
        let container = json!({"name": "app", "image": "localhost/shell:lab", "imagePullPolicy": "IfNotPresent",
                               "command": ["sleep", "3600"], "securityContext": context});
        space.create(name, &json!({"spec": {"containers": [container]}}))?;
    }
    for name in names {
        space.running(name)?;
    }
    Ok(())
}

/// Has the API server try it.
fn tried(space: &Namespace, pod: &str, command: &str, more: &[&str]) -> Output {
    let words: Vec<_> = command.split(' ').chain(["-p", pod, "--dry-run=server"]).collect();
    space.plugin(&[&words[..], more].concat())
}

pub fn pod_security_lets_in_what_the_table_says(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({}))?;
    pods(&space, &["root", "hardened"])?;
    for (level, root, hardened) in LEVELS {
        let label = format!("pod-security.kubernetes.io/enforce={level}");
        let labelled = kubectl(&["label", "namespace", &space.name, "--overwrite", &label]);
        check!(labelled.status.success(), "{}", text(&labelled));
        thread::scope(|scope| {
            let tries = [("root", root), ("hardened", hardened)].map(|(pod, let_in)| {
                let space = &space;
                scope.spawn(move || {
                    for (needs, command) in COMMANDS {
                        let output = tried(space, pod, command, &[]);
                        let exit = if let_in.contains(&needs) { 0 } else { 3 };
                        let said = text(&output);
                        check!(
                            output.status.code() == Some(exit),
                            "{level} {pod} {command}: {said}"
                        );
                        check!(exit == 0 || said.contains("violates PodSecurity"), "{said}");
                    }
                    Ok(())
                })
            });
            tries.into_iter().try_for_each(|one| one.join().map_err(|_| "a thread has panicked")?)
        })?;
    }
    Ok(())
}

/// Ends with the test.
struct Policy;

impl Drop for Policy {
    fn drop(&mut self) {
        kubectl(&["delete", "-f", POLICY, "--wait=false"]);
    }
}

/// An agent that was changed in one way.
type Change = (&'static str, fn(&mut Value));

const FOREIGN: [Change; 9] = [
    ("privileges", |it| {
        it["securityContext"]["privileged"] = json!(true);
        it["securityContext"]["allowPrivilegeEscalation"] = json!(true);
    }),
    ("another capability", |it| {
        it["securityContext"]["capabilities"]["add"] = json!(["SYS_ADMIN"]);
    }),
    ("the runtime's capabilities", |it| it["securityContext"]["capabilities"]["drop"] = json!([])),
    ("no security context", |it| it["securityContext"] = Value::Null),
    ("another command", |it| it["command"] = json!(["/bin/sh"])),
    ("the image's command", |it| it["command"] = Value::Null),
    ("another name", |it| it["name"] = json!("debugger")),
    ("another image", |it| it["image"] = json!("localhost/shell:lab")),
    ("an environment", |it| it["env"] = json!([{"name": "LD_PRELOAD", "value": "x"}])),
];

pub fn a_policy_lets_in_agents_and_nothing_else(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({"pod-chaos/allowed": "true"}))?;
    let _policy = Policy;
    let applied = kubectl(&["apply", "-f", POLICY]);
    check!(applied.status.success(), "{}", text(&applied));
    pods(&space, &["root"])?;
    // The API server takes a moment to heed it.
    wait_for("the policy to be heeded", Duration::from_secs(20), || {
        let other = tried(&space, "root", "disrupt -d 100", &["-g", "localhost/other:v1"]);
        other.status.code() == Some(3) && text(&other).contains("only the image")
    })?;
    for (_, command) in COMMANDS {
        let output = tried(&space, "root", command, &[]);
        check!(output.status.success(), "{command}: {}", text(&output));
    }
    let patch = space.plugin(&["disrupt", "-d", "100", "-p", "root", "--dry-run=client"]);
    let patch: Value = serde_json::from_slice(&patch.stdout)?;
    let agent = &patch["spec"]["ephemeralContainers"][0];
    let pod = lab::Pod { namespace: space.name.clone(), name: "root".to_owned() }.read()?;
    let address =
        format!("/api/v1/namespaces/{}/pods/root/ephemeralcontainers?dryRun=All", space.name);
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("pod.json");
    let put = |container: &Value| -> lab::Outcome<Output> {
        let mut pod = pod.clone();
        pod["spec"]["ephemeralContainers"] = json!([container]);
        std::fs::write(&file, pod.to_string())?;
        Ok(kubectl(&["replace", "--raw", &address, "-f", &file.to_string_lossy()]))
    };
    let output = put(agent)?;
    check!(output.status.success(), "{}", text(&output));
    for (what, change) in FOREIGN {
        let mut container = agent.clone();
        change(&mut container);
        let output = put(&container)?;
        check!(text(&output).contains("pod-chaos-agents-only"), "{what}: {}", text(&output));
    }
    Ok(())
}
