//! What can't work is refused with a reason and a hint, before anything is touched: exit code 3 and
//! not one changing request.

use hyper::Method;
use insta::assert_snapshot;
use serde_json::json;

use crate::{
    fake_api::{Agent, FakeApi, Scenario, pod, pod_with_agent, status},
    plugin_with, seen,
};

/// Runs `disrupt` in that scenario; checks that nothing was changed.
fn refused(scenario: Scenario) -> String {
    let api = FakeApi::serve(scenario);
    let output = disrupt(&api);
    assert_eq!(api.changes(), [""; 0], "something was touched");
    assert_eq!(output.status.code(), Some(3));
    seen(&output)
}

fn disrupt(api: &FakeApi) -> std::process::Output {
    plugin_with(&api.kubeconfig).args(["disrupt", "-p", "web", "-d", "100"]).output().unwrap()
}

#[test]
fn no_such_pod() {
    assert_snapshot!(refused(Scenario { pod: None, ..Scenario::default() }));
}

#[test]
fn a_read_that_is_cut_off_is_asked_again() {
    let api = FakeApi::serve(Scenario { pod: None, cuts: (Method::GET, 2), ..Scenario::default() });
    let output = disrupt(&api);
    assert_eq!(output.status.code(), Some(3), "{}", seen(&output));
    assert!(seen(&output).contains("not found"), "{}", seen(&output));
}

#[test]
fn a_change_that_is_cut_off_is_not_asked_again() {
    let api = FakeApi::serve(Scenario { cuts: (Method::PATCH, 1), ..Scenario::default() });
    let output = disrupt(&api);
    assert_eq!(output.status.code(), Some(1), "{}", seen(&output));
    let patches = api.requests().into_iter().filter(|request| request.starts_with("PATCH"));
    assert_eq!(patches.count(), 1);
    assert!(seen(&output).contains("connection closed before"), "{}", seen(&output));
}

#[test]
fn a_pod_of_the_wrong_kind() {
    let kinds = [
        ("pending", json!({"status": {"phase": "Pending"}})),
        ("succeeded", json!({"status": {"phase": "Succeeded"}})),
        ("host_network", json!({"spec": {"hostNetwork": true}})),
        ("windows", json!({"spec": {"os": {"name": "windows"}}})),
        (
            "static_pod",
            json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "0123"}}}),
        ),
        ("deleted", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})),
    ];
    for (name, change) in kinds {
        assert_snapshot!(
            name,
            refused(Scenario { pod: Some(pod(&change)), ..Scenario::default() })
        );
    }
}

#[test]
fn missing_permissions_are_all_named_with_the_role_that_gives_them() {
    let forbidden = vec!["patch pods/ephemeralcontainers", "create pods/exec"];
    assert_snapshot!(refused(Scenario { forbidden, ..Scenario::default() }));
}

#[test]
fn no_permission_to_talk_to_the_agent_that_is_there() {
    assert_snapshot!(refused(Scenario {
        pod: Some(pod_with_agent(&json!({"running": {}}))),
        forbidden: vec!["create pods/exec"],
        ..Scenario::default()
    }));
}

#[test]
fn pod_security_says_no() {
    let why = "pods \"web\" is forbidden: violates PodSecurity \"baseline:latest\": non-default \
               capabilities (container \"pod-chaos-net-xxxxx\" must not include \"NET_ADMIN\", \
               \"NET_RAW\" in securityContext.capabilities.add)";
    assert_snapshot!(refused(Scenario {
        admission: Some((403, status(403, "Forbidden", why))),
        ..Scenario::default()
    }));
}

#[test]
fn an_admission_webhook_says_no() {
    let why = "admission webhook \"policy.example.com\" denied the request: image not allowed";
    assert_snapshot!(refused(Scenario {
        admission: Some((400, status(400, "BadRequest", why))),
        ..Scenario::default()
    }));
}

#[test]
fn an_image_that_cannot_be_pulled_is_reported_in_the_runtimes_words() {
    let api = FakeApi::serve(Scenario {
        new_agent_status: Some(json!({"waiting": {
            "reason": "ErrImagePull",
            "message": "failed to pull and unpack image \"localhost/pod-chaos-agent:v0\": not found",
        }})),
        agent: Agent::NotThere("container not found (\"pod-chaos-net-xxxxx\")".to_owned()),
        ..Scenario::default()
    });
    let output = disrupt(&api);
    let container = api.added()[0]["name"].as_str().unwrap().to_owned();
    assert_snapshot!(seen(&output).replace(&container, "pod-chaos-net-XXXXX"));
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn the_kubelets_events_are_quicker_than_its_status() {
    let why =
        "Container image \"localhost/pod-chaos-agent:v0\" is not present with pull policy of Never";
    let api = FakeApi::serve(Scenario {
        new_agent_status: None,
        events: vec![json!({
            "metadata": {"name": "one"}, "involvedObject": {},
            "type": "Warning", "reason": "ErrImageNeverPull", "message": why,
        })],
        agent: Agent::NotThere("container not found (\"pod-chaos-net-xxxxx\")".to_owned()),
        ..Scenario::default()
    });
    let output = disrupt(&api);
    let container = api.added()[0]["name"].as_str().unwrap().to_owned();
    assert_snapshot!(seen(&output).replace(&container, "pod-chaos-net-XXXXX"));
}

#[test]
fn a_server_that_forgets_the_container() {
    let api = FakeApi::serve(Scenario { drops_containers: true, ..Scenario::default() });
    assert_snapshot!(seen(&disrupt(&api)));
}

#[test]
fn a_server_that_is_not_there() {
    let api = FakeApi::serve(Scenario::default());
    let text = std::fs::read_to_string(&api.kubeconfig).unwrap();
    let at = text.find("http://127.0.0.1:").unwrap();
    let end = text[at..].find('"').unwrap() + at;
    // Port 1 of loopback has no listener.
    let text = text.replace(&text[at..end], "http://127.0.0.1:1");
    std::fs::write(&api.kubeconfig, text).unwrap();
    assert_snapshot!(seen(&disrupt(&api)));
}
