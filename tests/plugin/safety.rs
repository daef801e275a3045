//! Whom the owners of pods and namespaces want left alone, and how many of a workload may be hit.

use serde_json::{Value, json};

use crate::{
    fake_api::{Agent, FakeApi, Scenario, pod},
    faults::good,
    plugin_with,
    processes::pod_of,
    seen,
};

fn namespace(name: &str, annotations: &Value) -> (&'static str, Value) {
    ("namespaces", json!({"metadata": {"name": name, "annotations": annotations}}))
}

/// Replicas of a set.
fn replicas(count: usize) -> Vec<Value> {
    let set = json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "u", "controller": true}]);
    let one = |at| {
        let name = format!("db-{at}");
        pod(&json!({"metadata": {"name": name, "labels": {"app": "db"}, "ownerReferences": set}}))
    };
    (0..count).map(one).collect()
}

fn serve(pods: Vec<Value>, annotations: &Value) -> FakeApi {
    FakeApi::serve(Scenario {
        pod: None,
        more_pods: pods,
        objects: vec![namespace("default", annotations)],
        agent: Agent::Says(good),
        ..Scenario::default()
    })
}

/// Runs it; checks that it is refused with these words, and that nothing was touched.
fn refused(api: &FakeApi, line: &str, words: &str) {
    let output = plugin_with(&api.kubeconfig).args(line.split_whitespace()).output().unwrap();
    let said = seen(&output);
    assert_eq!(output.status.code(), Some(3), "{line}: {said}");
    assert!(said.contains(words) && said.contains("hint: "), "{line}: {said}");
    assert_eq!(api.changes(), [""; 0], "{line}");
}

fn done(api: &FakeApi, line: &str) {
    let output = plugin_with(&api.kubeconfig).args(line.split_whitespace()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{line}: {}", seen(&output));
}

#[test]
fn protected_namespaces_are_left_alone_unless_somebody_insists() {
    let dns = pod(&json!({"metadata": {"name": "dns", "namespace": "kube-system"}}));
    let api = serve(vec![dns], &json!({}));
    let why = "pod/dns is in namespace kube-system, which is protected";
    refused(&api, "install dns -n kube-system", why);
    refused(&api, "delete dns -n kube-system --force", why);
    refused(&api, "install -A --pods .", why);
    done(&api, "install dns -n kube-system --allow-protected");
    // Who minds a cluster says which.
    let api = serve(replicas(1), &json!({}));
    let mut command = plugin_with(&api.kubeconfig);
    let output =
        command.env("POD_CHAOS_PROTECTED", "def*,prod").args(["install", "db-0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", seen(&output));
    assert_eq!(api.changes(), [""; 0]);
    // To look and to end is always allowed.
    done(&api, "revert db-0 -n default");
}

#[test]
fn owners_opt_out_and_no_flag_overrules_them() {
    let api = serve(replicas(2), &json!({"pod-chaos/opt-out": "true"}));
    refused(&api, "install db-0 --allow-protected", "which opts out of faults");
    let mut pods = replicas(2);
    pods[1]["metadata"]["annotations"] = json!({"pod-chaos/opt-out": "true"});
    let api = serve(pods, &json!({}));
    refused(&api, "install -l app=db", "default/db-1   opts out of faults");
    done(&api, "install -l app=db --skip-refused");
    assert_eq!(api.added().len(), 1);
}

#[test]
fn a_namespace_says_how_long_a_fault_may_last() {
    let api = serve(replicas(1), &json!({"pod-chaos/max-running-time": "20s"}));
    refused(&api, "disrupt db-0 -d 100 -r 30", "where a fault lasts 20s at most, not 30s");
    refused(&api, "fail db-0 -r 30", "where a fault lasts 20s at most, not 30s");
    refused(&api, "fail db-0 --by image -r 30", "where a fault lasts 20s at most, not 30s");
    done(&api, "disrupt db-0 -d 100 -r 1");
    let api = serve(replicas(1), &json!({"pod-chaos/max-running-time": "long"}));
    let output = plugin_with(&api.kubeconfig).args(["install", "db-0"]).output().unwrap();
    assert!(seen(&output).contains("annotation pod-chaos/max-running-time"), "{}", seen(&output));
    assert_eq!(api.changes(), [""; 0]);
}

#[test]
fn no_more_than_a_share_of_a_workload_is_hit() {
    let api = serve(replicas(4), &json!({}));
    let why = "3 of 4 pods of statefulset/db in namespace default are more than 50%";
    refused(&api, "install --pods 0|1|2 --max-share 50%", why);
    done(&api, "install --pods 0|1 --max-share 50%");
    let api = serve(replicas(4), &json!({"pod-chaos/max-share": "25%"}));
    refused(&api, "install db-0 db-1 --max-share 75%", "are more than 25%");
    done(&api, "install -l app=db --mode percent=25");
    assert_eq!(api.added().len(), 1);
}

/// What ends a container takes its pod out of service, as an eviction does, if it is in service.
#[test]
fn what_ends_containers_is_within_budgets() {
    let running = pod_of(&json!([{"name": "web"}]))["status"]["containerStatuses"].clone();
    let serve = |ready: &str, forbidden: Vec<&'static str>| {
        let mut pods = replicas(3);
        for pod in &mut pods {
            pod["status"]["conditions"] = json!([{"type": "Ready", "status": ready}]);
            pod["status"]["containerStatuses"] = running.clone();
        }
        let budget = json!({
            "metadata": {"name": "db", "generation": 1},
            "spec": {"selector": {"matchLabels": {"app": "db"}}},
            "status": {"observedGeneration": 1, "disruptionsAllowed": 1,
                "currentHealthy": 3, "desiredHealthy": 2, "expectedPods": 3},
        });
        FakeApi::serve(Scenario {
            pod: None,
            more_pods: pods,
            objects: vec![namespace("default", &json!({})), ("poddisruptionbudgets", budget)],
            forbidden,
            agent: Agent::Says(good),
            ..Scenario::default()
        })
    };
    let api = serve("True", vec![]);
    let why = "poddisruptionbudget/db in namespace default allows 1 of its pods to go out of service, not 2";
    let dry_run = "--dry-run=client";
    refused(&api, "kill --pods 0|1", why);
    refused(&api, "fail --pods 0|1", why);
    refused(&api, "fail --pods 0|1 --no-kill", why);
    refused(&api, &format!("fail --pods 0|1 --by image {dry_run}"), why);
    for allowed in ["kill db-0", "fail db-0", "kill -l app=db --force", "fail -l app=db --force"] {
        done(&api, &format!("{allowed} {dry_run}"));
    }
    done(&api, &format!("signal HUP -l app=db {dry_run}"));
    done(&serve("False", vec![]), &format!("kill -l app=db {dry_run}"));
    let api = serve("True", vec!["list poddisruptionbudgets"]);
    let line = format!("kill --pods 0|1 {dry_run}");
    let said = seen(&plugin_with(&api.kubeconfig).args(line.split_whitespace()).output().unwrap());
    let unknown = "warning: whether budgets of namespace default allow it is not known: ";
    assert!(said.starts_with("exit: 0") && said.contains(unknown), "{said}");
}

#[test]
fn who_may_not_read_the_namespace_is_told_that_it_was_not_asked() {
    let api = FakeApi::serve(Scenario {
        agent: Agent::Says(good),
        forbidden: vec!["get namespaces"],
        more_pods: replicas(1),
        ..Scenario::default()
    });
    let said = |line: &[&str]| seen(&plugin_with(&api.kubeconfig).args(line).output().unwrap());
    let unknown = "whether namespace default limits faults is not known: Error from server";
    // Of one pod, only who asks what is in the way is told.
    assert!(!said(&["install", "web"]).contains("limits faults"));
    assert!(said(&["doctor", "-p", "web"]).contains(unknown));
    let both = said(&["install", "web", "db-0"]);
    assert!(both.starts_with("exit: 0"), "{both}");
    assert_eq!(both.matches(&format!("warning: {unknown}")).count(), 1, "{both}");
}

/// `script` gives it a terminal, on which somebody answers.
#[cfg(target_os = "linux")]
#[test]
fn several_pods_are_only_hit_when_a_person_says_so() {
    let on_terminal = |api: &FakeApi, line: &str, answer: &str| {
        let plugin = env!("CARGO_BIN_EXE_kubectl-pod_chaos");
        let command = format!("printf '{answer}\\n' | script -qec '{plugin} {line}' /dev/null");
        let output = std::process::Command::new("sh")
            .args(["-c", &command])
            .env("KUBECONFIG", &api.kubeconfig)
            .env("TERM", "xterm")
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let api = serve(replicas(2), &json!({}));
    let (exit, said) = on_terminal(&api, "install -l app=db", "n");
    assert!(exit == Some(3) && said.contains("2 pods will be hit. Go on? [y/N]"), "{said}");
    assert_eq!(api.changes(), [""; 0]);
    let (exit, said) = on_terminal(&api, "install db-0", "");
    assert!(exit == Some(0) && !said.contains("Go on?"), "{said}");
    let (exit, said) = on_terminal(&api, "install -l app=db", "y");
    assert!(exit == Some(0) && said.contains("Go on?"), "{said}");
    let (exit, said) = on_terminal(&serve(replicas(2), &json!({})), "install -l app=db --yes", "");
    assert!(exit == Some(0) && !said.contains("Go on?"), "{said}");
}
