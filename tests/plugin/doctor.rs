//! What `doctor` finds, and that it changes nothing.

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::{
    fake_api::{Agent, FakeApi, Scenario, pod, status},
    faults::{good, masked},
    plugin_with,
    processes::pod_of,
    seen,
};

fn doctor(api: &FakeApi, more: &[&str]) -> std::process::Output {
    plugin_with(&api.kubeconfig).args(["doctor", "-p", "web"]).args(more).output().unwrap()
}

#[test]
fn a_pod_that_is_fine() {
    let mut web = pod_of(&json!([{"name": "web", "image": "x"}]));
    web["spec"]["nodeName"] = json!("node-1");
    let info = json!({"architecture": "", "bootID": "", "containerRuntimeVersion": "containerd://2.1.4",
        "kernelVersion": "6.12.0", "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "",
        "operatingSystem": "linux", "osImage": "", "systemUUID": ""});
    let agent = concat!("localhost/pod-chaos-agent:v", env!("CARGO_PKG_VERSION"));
    let node = json!({"metadata": {"name": "node-1"}, "status": {
        "nodeInfo": info, "images": [{"names": [agent]}]}});
    let api = FakeApi::serve(Scenario {
        pod: Some(web),
        objects: vec![("nodes", node)],
        ..Scenario::default()
    });
    assert_snapshot!(masked(&seen(&doctor(&api, &[]))));
    assert_eq!(api.changes(), [""; 0]);
}

#[test]
fn all_that_is_in_the_way_with_what_helps() {
    let why = "pods \"web\" is forbidden: violates PodSecurity \"baseline:latest\"";
    let change = json!({"spec": {"hostNetwork": true, "containers": [
        {"name": "app", "image": "x"}, {"name": "istio-proxy", "image": "x"}]}});
    let api = FakeApi::serve(Scenario {
        pod: Some(pod(&change)),
        forbidden: vec!["create pods/exec"],
        admission: Some((403, status(403, "Forbidden", why))),
        objects: vec![(
            "namespaces",
            json!({"metadata": {"name": "default", "annotations": {"pod-chaos/opt-out": ""}}}),
        )],
        ..Scenario::default()
    });
    let output = doctor(&api, &[]);
    assert_eq!(output.status.code(), Some(3));
    assert_snapshot!(masked(&seen(&output)));
    let document: Value = serde_json::from_slice(&doctor(&api, &["-o", "json"]).stdout).unwrap();
    let findings = document["pods"][0]["findings"].as_array().unwrap();
    let no = findings.iter().filter(|it| it["verdict"] == "no");
    assert!(no.clone().count() >= 5 && no.clone().all(|it| it["remedy"].is_string()), "{document}");
    assert_eq!(api.changes(), [""; 0]);
}

#[test]
fn the_kernel_is_only_asked_when_that_is_wanted() {
    let api = FakeApi::serve(Scenario { agent: Agent::Says(good), ..Scenario::default() });
    let output = doctor(&api, &["disrupt", "--probe"]);
    let said = seen(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("Linux 6.12.0: netem behind an nf_tables egress hook"), "{said}");
    assert!(!said.contains("pause"), "{said}");
    assert_eq!(api.added().len(), 1);
    // What it was asked to do hits nobody (RFC 5737).
    let heard = format!("{:?}", api.agent_heard());
    assert!(heard.contains("192.0.2.1"), "{heard}");
}
