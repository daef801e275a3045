//! Every kind of pod that people have.

use std::thread;

use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::{
    check,
    lab::{Lab, Namespace, kubectl, text},
};

fn shell(name: &str, change: &Value) -> Value {
    let mut container = json!({
        "name": name,
        "image": "localhost/shell:lab",
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "3600"],
    });
    for (key, value) in change.as_object().into_iter().flatten() {
        container[key] = value.clone();
    }
    container
}

pub fn every_kind_of_pod_works(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({}))?;
    let hardened = json!({"securityContext": {
        "runAsUser": 1000, "runAsGroup": 1000, "runAsNonRoot": true,
        "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
    }});
    let pods = [
        ("debugged", json!({})),
        (
            "read-only",
            json!({"containers": [shell("app", &json!({"securityContext": {"readOnlyRootFilesystem": true}}))]}),
        ),
        (
            "hardened",
            json!({"containers": [shell("app", &hardened)],
                   "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "fsGroup": 1000}}),
        ),
        ("several", json!({"containers": [shell("one", &json!({})), shell("two", &json!({}))]})),
        ("init", json!({"initContainers": [shell("first", &json!({"command": ["true"]}))]})),
        ("shared-pids", json!({"shareProcessNamespace": true})),
    ];
    for (name, spec) in &pods {
        space.create(name, &json!({"spec": spec}))?;
    }
    // Beside each other: most of the time it is the fault that is waited for.
    thread::scope(|scope| {
        let started: Vec<_> =
            pods.iter().map(|(name, _)| scope.spawn(|| works(&space, name))).collect();
        for (one, (name, _)) in started.into_iter().zip(&pods) {
            let outcome = one.join().map_err(|_| format!("{name}: panicked"))?;
            outcome.map_err(|why| format!("{name}: {}", why.message().unwrap_or_default()))?;
        }
        Ok(())
    })
}

fn works(space: &Namespace, name: &str) -> Result<(), Failed> {
    let pod = space.running(name)?;
    if name == "debugged" {
        let output = kubectl(&[
            "debug",
            name,
            "-n",
            &space.name,
            "--image=localhost/shell:lab",
            "--image-pull-policy=IfNotPresent",
            "--profile=general",
            "--",
            "sleep",
            "3600",
        ]);
        check!(output.status.success(), "kubectl debug: {}", text(&output));
        check!(pod.ephemeral()?.len() == 1, "no debug container");
    }
    let before = pod.network()?;
    let fault = space.start(&["disrupt", "-p", name, "-d", "100", "-r", "4"])?;
    let during = pod.ping()?;
    let (exit, said) = fault.finish()?;
    check!(exit == Some(0) && said.contains("clean: ended"), "{exit:?} {said}");
    check!(during > 99.0, "not slow: {during} ms");
    check!(pod.network()? == before, "left behind: {}", pod.network()?);
    let uninstall = space.plugin(&["uninstall", "-p", name]);
    check!(uninstall.status.success(), "{}", text(&uninstall));
    let restarts = pod.read()?["status"]["containerStatuses"][0]["restartCount"].clone();
    check!(restarts == 0, "the pod's own container was restarted");
    Ok(())
}
