//! `version`, alone and with what agents say of theirs.

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::{
    fake_api::{Agent, FakeApi, Scenario, pod_with_agent},
    plugin, plugin_with, seen,
};

/// A pod whose agent speaks that protocol.
fn serve(protocol: u16) -> FakeApi {
    FakeApi::serve(Scenario {
        pod: Some(pod_with_agent(&json!({"running": {}}))),
        agent_protocol: protocol,
        ..Scenario::default()
    })
}

/// What a person saw, on any platform.
fn of(api: &FakeApi) -> String {
    let output = plugin_with(&api.kubeconfig).args(["version", "-p", "web"]).output().unwrap();
    let platform = platform();
    seen(&output).replace(&platform, "OS/ARCH")
}

fn platform() -> String {
    let output = plugin().args(["version", "-o", "json"]).output().unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["client"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(document["client"]["protocol"], pod_chaos_protocol::PROTOCOL);
    assert!(document.get("agents").is_none(), "{document}");
    document["client"]["platform"].as_str().unwrap().to_owned()
}

#[test]
fn without_a_pod_no_cluster_is_needed() {
    let output = plugin().arg("version").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert!(text.starts_with(&format!("client v{version}, protocol ")), "{text}");
    assert!(text.trim().ends_with(&platform()), "{text}");
}

#[test]
fn an_agent_of_the_same_version_is_named_without_a_word_of_warning() {
    assert_snapshot!("same_version", of(&serve(pod_chaos_protocol::PROTOCOL)));
}

#[test]
fn an_agent_of_another_protocol_is_warned_of() {
    let api = serve(pod_chaos_protocol::PROTOCOL + 1);
    assert_snapshot!("other_protocol", of(&api));
    let json =
        plugin_with(&api.kubeconfig).args(["version", "-p", "web", "-o", "json"]).output().unwrap();
    let document: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(document["agents"][0]["protocol"], pod_chaos_protocol::PROTOCOL + 1);
    assert_eq!(document["agents"][0]["container"], "pod-chaos-net-aaaaa");
}

#[test]
fn the_agents_of_several_pods_are_asked() {
    let web = |name: &str| {
        let mut pod = pod_with_agent(&json!({"running": {}}));
        pod["metadata"]["name"] = json!(name);
        pod["metadata"]["labels"] = json!({"app": "web"});
        pod
    };
    let more_pods = vec![web("web-1"), web("web-2")];
    let api = FakeApi::serve(Scenario { pod: None, more_pods, ..Scenario::default() });
    for line in ["version -l app=web", "version -A", "version web-1 web-2"] {
        let line = line.split(' ').chain(["-o", "json"]);
        let output = plugin_with(&api.kubeconfig).args(line).output().unwrap();
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let pods: Vec<_> = document["pods"].as_array().unwrap().iter().collect();
        assert_eq!((&pods[0]["pod"], &pods[1]["pod"]), (&json!("web-1"), &json!("web-2")));
        assert_eq!(pods[1]["agents"][0]["container"], "pod-chaos-net-aaaaa", "{document}");
    }
    let output = plugin_with(&api.kubeconfig).args(["version", "-l", "app=web"]).output().unwrap();
    assert_eq!(seen(&output).matches(" agent v").count(), 2, "{}", seen(&output));
}

#[test]
fn an_agent_that_has_ended_has_no_version() {
    let ended = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
    let api = FakeApi::serve(Scenario { pod: Some(pod_with_agent(&ended)), ..Scenario::default() });
    assert_snapshot!("no_agent_that_runs", of(&api));
    let gone = FakeApi::serve(Scenario {
        pod: Some(pod_with_agent(&json!({"running": {}}))),
        agent: Agent::NotThere("container not found".to_owned()),
        ..Scenario::default()
    });
    assert_eq!(of(&gone), of(&api));
}
