//! What a fault leaves for others to see.

use serde_json::{Value, json};

use crate::{
    fake_api::{Agent, FakeApi, Scenario},
    faults::{WARM, disrupt, good},
    plugin_with, seen,
};

fn serve(forbidden: &[&'static str]) -> FakeApi {
    FakeApi::serve(Scenario {
        pod: Some(WARM()),
        agent: Agent::Says(good),
        forbidden: forbidden.to_vec(),
        ..Scenario::default()
    })
}

/// The Events, and the annotations.
fn left(api: &FakeApi) -> (Vec<Value>, Vec<Value>) {
    api.left().into_iter().partition(|it| it["involvedObject"]["name"] == "web")
}

#[test]
fn who_did_what_until_when_is_left_on_the_pod() {
    let api = serve(&[]);
    let output = disrupt(&api, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", seen(&output));
    let (events, annotations) = left(&api);
    let [began, ended] = &events[..] else { panic!("{events:?}") };
    assert_eq!((&began["reason"], &ended["reason"]), (&json!("FaultBegan"), &json!("FaultEnded")));
    let message = began["message"].as_str().unwrap();
    assert!(message.starts_with("delay 100ms on ") && message.contains(", by jane"), "{message}");
    let message = ended["message"].as_str().unwrap();
    let figures = "42 packets hit, 40 delayed, 2 dropped";
    assert!(
        message.starts_with(&format!("has ended, and is clean: {figures} (fault ")),
        "{message}"
    );
    let [set, removed] = &annotations[..] else { panic!("{annotations:?}") };
    let (key, value) = set.as_object().unwrap().iter().next().unwrap();
    let value: Value = serde_json::from_str(value.as_str().unwrap()).unwrap();
    assert!(key.starts_with("pod-chaos/fault-") && value["by"] == "jane", "{set}");
    assert_eq!(*removed, json!({ key: null }));
}

#[test]
fn a_fault_that_goes_on_alone_has_not_ended() {
    let api = serve(&[]);
    disrupt(&api, &["--detach"]);
    let (events, annotations) = left(&api);
    assert_eq!((events.len(), annotations.len()), (1, 1), "{events:?} {annotations:?}");
}

#[test]
fn who_reverts_takes_the_annotation_back() {
    let mut pod = WARM();
    pod["metadata"]["annotations"] = json!({"pod-chaos/fault-0badcafe": "{}", "other": "stays"});
    let scenario = Scenario { pod: Some(pod), agent: Agent::Says(good), ..Scenario::default() };
    let api = FakeApi::serve(scenario);
    let output = plugin_with(&api.kubeconfig).args(["revert", "-p", "web"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", seen(&output));
    let (events, annotations) = left(&api);
    let [ended] = &events[..] else { panic!("{events:?}") };
    assert_eq!(ended["reason"], "FaultEnded");
    let message = ended["message"].as_str().unwrap();
    let figures = "42 packets hit, 40 delayed, 2 dropped";
    assert!(
        message.starts_with(&format!("was reverted, and is clean: {figures} (fault ")),
        "{message}"
    );
    assert_eq!(annotations, [json!({ "pod-chaos/fault-0badcafe": null })]);
}

#[test]
fn no_fault_fails_for_traces_that_are_not_allowed() {
    let api = serve(&["create events", "patch pods"]);
    let output = disrupt(&api, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", seen(&output));
    assert!(!seen(&output).contains("Forbidden"), "{}", seen(&output));
    assert_eq!(api.left(), [Value::Null; 0]);
}
