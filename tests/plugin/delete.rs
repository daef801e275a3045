//! `delete`: what is left alone. What it does is seen on a real cluster.

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::{
    fake_api::{FakeApi, Scenario, pod, status},
    plugin_with, seen,
};

fn of_a_set() -> Value {
    pod(&json!({"metadata": {"uid": "1", "ownerReferences": [
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "2", "controller": true},
    ]}}))
}

/// What is said; checks that nothing was asked for but as a dry run.
fn refused(scenario: Scenario) -> String {
    let api = FakeApi::serve(scenario);
    let output = plugin_with(&api.kubeconfig).args(["delete", "-p", "web"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", seen(&output));
    // The dry run of an eviction is told by its body.
    let asked = api.changes();
    assert!(asked.len() <= 1 && asked.iter().all(|it| it.contains("/eviction")), "{asked:?}");
    seen(&output)
}

#[test]
fn a_pod_that_nothing_brings_back() {
    assert_snapshot!(refused(Scenario::default()));
}

#[test]
fn a_pod_that_a_budget_keeps() {
    let why = "Cannot evict pod as it would violate the pod's disruption budget.";
    assert_snapshot!(refused(Scenario {
        pod: Some(of_a_set()),
        admission: Some((429, status(429, "TooManyRequests", why))),
        ..Scenario::default()
    }));
}

#[test]
fn a_static_pod() {
    let mirror = json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "0123"}}});
    assert_snapshot!(refused(Scenario { pod: Some(pod(&mirror)), ..Scenario::default() }));
}

#[test]
fn missing_permissions() {
    assert_snapshot!(refused(Scenario {
        pod: Some(of_a_set()),
        forbidden: vec!["create pods/eviction"],
        ..Scenario::default()
    }));
}
