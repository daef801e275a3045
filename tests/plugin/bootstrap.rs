//! `--bootstrap stream`: agents in images that the pod has.

use std::process::Output;

use insta::assert_snapshot;
use pod_chaos_protocol::Request;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::{
    fake_api::{Agent, FakeApi, Scenario, pod, pod_with_agent},
    faults::{good, masked},
    plugin_with,
    processes::pod_of,
    seen,
};

/// A file that looks like a static program of that machine (`e_machine` of elf(5)), of a few messages' length.
fn program(machine: u8) -> (NamedTempFile, Vec<u8>) {
    let mut content = b"\x7fELF\x02\x01".to_vec();
    content.resize(64, 0);
    content[18] = machine;
    content.extend((0..100_000u32).map(|at| at.to_le_bytes()[1]));
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &content).unwrap();
    (file, content)
}

const X86_64: u8 = 62;
const AARCH64: u8 = 183;

fn serve(scenario: Scenario) -> FakeApi {
    FakeApi::serve(Scenario { agent: Agent::Says(good), ..scenario })
}

fn run(api: &FakeApi, line: &str, file: &NamedTempFile) -> Output {
    let how = format!("stream={}", file.path().display());
    let words = line.split_whitespace().chain(["--bootstrap", &how]);
    plugin_with(&api.kubeconfig).args(words).output().unwrap()
}

const DISRUPT: &str = "disrupt -p web -d 100 -r 1";

#[test]
fn the_agent_comes_by_a_stream_into_an_image_of_the_pods_own() {
    let two = json!({"spec": {"containers": [{"name": "side", "image": "side:2"}, {"name": "web", "image": "web:1"}]},
                     "metadata": {"annotations": {"kubectl.kubernetes.io/default-container": "web"}}});
    let api = serve(Scenario { pod: Some(pod(&two)), ..Scenario::default() });
    let (file, content) = program(X86_64);
    let output = run(&api, DISRUPT, &file);
    let said = seen(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("clean: ended by the kernel's timer"), "{said}");
    assert_eq!(api.delivered(), [content]);
    let added = api.added().remove(0);
    assert_eq!(
        (&added["image"], &added["imagePullPolicy"]),
        (&json!("web:1"), &json!("IfNotPresent"))
    );
    let command = added["command"].as_array().unwrap();
    assert_eq!(
        (&command[0], &command[3], command.len()),
        (&json!("sh"), &json!("/tmp/pod-chaos-agent"), 4)
    );
    let mut rights = added["securityContext"].clone();
    assert_eq!(rights["readOnlyRootFilesystem"].take(), json!(false));
    // All else is as it is of an agent in an image of its own.
    let ordinary = serve(Scenario::default());
    let line: Vec<_> = DISRUPT.split_whitespace().collect();
    assert!(plugin_with(&ordinary.kubeconfig).args(line).status().unwrap().success());
    let mut other = ordinary.added().remove(0)["securityContext"].clone();
    other["readOnlyRootFilesystem"].take();
    assert_eq!(rights, other);
    // It is there now, and needs no other.
    let again = plugin_with(&api.kubeconfig).args(DISRUPT.split_whitespace()).output().unwrap();
    assert_eq!(again.status.code(), Some(0), "{}", seen(&again));
    assert_eq!((api.added().len(), api.delivered().len()), (1, 1), "{}", seen(&again));
    let applied = api.agent_heard().into_iter().filter(|it| matches!(it, Request::Apply { .. }));
    assert_eq!(applied.count(), 2);
}

#[test]
fn an_agent_for_processes_has_the_image_of_its_target() {
    let containers = json!([{"name": "app", "image": "app:1"}, {"name": "db", "image": "db:1",
                            "securityContext": {"runAsUser": 7, "runAsGroup": 7}}]);
    let api = serve(Scenario { pod: Some(pod_of(&containers)), ..Scenario::default() });
    let (file, _) = program(X86_64);
    let output = run(&api, "pause -p web -c db -r 1 --dry-run=server", &file);
    assert_eq!(output.status.code(), Some(0), "{}", seen(&output));
    let patch: Value = serde_json::from_slice(&output.stdout).unwrap();
    let container = &patch["spec"]["ephemeralContainers"][0];
    assert_eq!(
        (&container["image"], &container["targetContainerName"]),
        (&json!("db:1"), &json!("db"))
    );
    assert_eq!(container["securityContext"]["runAsUser"], 7);
    assert_eq!(api.delivered().len(), 0);
}

/// No agent is there any more that could look.
#[test]
fn a_revert_brings_its_own_agent_where_it_needs_one() {
    let dead = pod_with_agent(&json!({"terminated": {"exitCode": 137, "reason": "Error"}}));
    let api = serve(Scenario { pod: Some(dead), ..Scenario::default() });
    let (file, content) = program(X86_64);
    let output = run(&api, "revert -p web", &file);
    assert_eq!(output.status.code(), Some(0), "{}", seen(&output));
    assert_eq!((api.delivered(), &api.added()[0]["image"]), (vec![content], &json!("web")));
    // And the image that is named.
    let dead = pod_with_agent(&json!({"terminated": {"exitCode": 137, "reason": "Error"}}));
    let api = serve(Scenario { pod: Some(dead), ..Scenario::default() });
    let output = plugin_with(&api.kubeconfig)
        .args(["revert", "-p", "web", "-g", "other:1"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", seen(&output));
    assert_eq!(api.added()[0]["image"], "other:1");
}

#[test]
fn what_keeps_it_out_is_told_with_what_an_image_has_to_have() {
    let (file, _) = program(AARCH64);
    let api = serve(Scenario::default());
    let output = run(&api, DISRUPT, &file);
    assert_eq!(output.status.code(), Some(3));
    assert_snapshot!("of_another_machine", masked(&seen(&output)));
    let (file, _) = program(X86_64);
    let api = serve(Scenario { shell: "sh: uname: not found", ..Scenario::default() });
    let output = run(&api, DISRUPT, &file);
    assert_eq!(output.status.code(), Some(3));
    assert_snapshot!("a_shell_that_lacks_something", masked(&seen(&output)));
    let why = "exec: \"sh\": executable file not found in $PATH";
    let state = json!({"terminated": {"exitCode": 128, "reason": "StartError", "message": why}});
    let api = FakeApi::serve(Scenario {
        new_agent_status: Some(state),
        agent: Agent::NotThere("container not found".to_owned()),
        ..Scenario::default()
    });
    let output = run(&api, DISRUPT, &file);
    assert_eq!(output.status.code(), Some(3));
    assert_snapshot!("no_shell", masked(&seen(&output)));
}

#[test]
fn without_an_agent_to_send_no_cluster_is_asked() {
    let api = serve(Scenario::default());
    let script = NamedTempFile::new().unwrap();
    std::fs::write(script.path(), "#!/bin/sh\nexit 0 # long enough to have a machine\n").unwrap();
    let of_script = format!("stream={}", script.path().display());
    // Tests are built without agents.
    for (how, why) in [
        ("stream", "this build of the plugin brings no agent"),
        ("stream=/nonexistent", "reading the agent /nonexistent: "),
        (&of_script, "it is no Linux program"),
        ("carrier-pigeon", "is no way to get an agent into a pod"),
    ] {
        let line = DISRUPT.split_whitespace().chain(["--bootstrap", how]);
        let output = plugin_with(&api.kubeconfig).args(line).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{how}: {}", seen(&output));
        assert!(seen(&output).contains(why), "{how}: {}", seen(&output));
    }
    assert_eq!(api.requests(), [""; 0]);
}
