//! What kubectl is told to complete with, by the name that it calls and in the form that it reads.

use std::{
    ffi::OsStr,
    os::unix::{fs::symlink, process::CommandExt as _},
    process::Command,
};

use serde_json::json;

use crate::{
    fake_api::{FakeApi, Scenario, pod},
    plugin_with,
};

/// The plugin, called as kubectl calls it to complete.
fn completer(api: &FakeApi) -> Command {
    let mut command = plugin_with(&api.kubeconfig);
    command.arg0("/somewhere/kubectl_complete-pod_chaos");
    command
}

/// The candidates without their descriptions, and cobra's directive.
fn candidates(api: &FakeApi, words: &[&str]) -> (Vec<String>, String) {
    let output = completer(api).args(words).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    let directive = lines.pop().unwrap();
    let value = |line: &String| line.split('\t').next().unwrap().to_owned();
    (lines.iter().map(value).collect(), directive)
}

fn offered(api: &FakeApi, words: &str) -> Vec<String> {
    let words: Vec<_> = words.split(' ').collect();
    // Who is kept waiting offers nothing, as on a busy machine: that is not the end of it.
    let mut answer = candidates(api, &words);
    for _ in 0..3 {
        if answer.0.is_empty() {
            answer = candidates(api, &words);
        }
    }
    let (candidates, directive) = answer;
    let open = candidates.iter().any(|one| one.ends_with('/'));
    assert_eq!(directive, if open { ":6" } else { ":4" }, "{words:?}: files are no candidates");
    candidates
}

fn serve() -> FakeApi {
    let named = |name: &str| json!({"metadata": {"name": name}});
    FakeApi::serve(Scenario {
        pod: Some(pod(&json!({"spec": {"containers": [
            {"name": "app", "image": "x"}, {"name": "proxy", "image": "x"},
        ]}}))),
        objects: vec![
            ("services", named("db")),
            ("services", named("cache")),
            ("deployments", named("front")),
            ("deployments", named("back")),
            ("namespaces", named("default")),
            ("namespaces", named("demo")),
        ],
        ..Scenario::default()
    })
}

#[test]
fn commands_and_flags_with_what_they_do() {
    let api = serve();
    let all = offered(&api, "");
    assert!(all.contains(&"disrupt".to_owned()) && all.contains(&"status".to_owned()), "{all:?}");
    assert!(!all.iter().any(|one| one.starts_with('-')), "flags only when asked for: {all:?}");
    assert_eq!(offered(&api, "dis"), ["disrupt"]);
    assert_eq!(offered(&api, "disrupt --dela"), ["--delay"]);
    assert_eq!(offered(&api, "image sa"), ["save"]);
    assert_eq!(offered(&api, "disrupt -p web -d 100 --spare"), ["--spare-dns"]);
    let output = completer(&api).arg("dis").output().unwrap();
    assert_eq!(output.stdout, b"disrupt\tMake a pod's network worse\n:4\n");
}

#[test]
fn values_that_a_flag_may_have() {
    let api = serve();
    assert_eq!(offered(&api, "disrupt -p web --direction "), ["egress", "ingress", "both"]);
    assert_eq!(offered(&api, "disrupt -p web --profile sat"), ["satellite"]);
    assert_eq!(offered(&api, "status -o "), ["text", "wide", "json", "yaml", "name", "jsonpath="]);
    assert_eq!(offered(&api, "partition -p web --protocol t"), ["tcp"]);
    assert_eq!(offered(&api, "disrupt -p web --delay "), [""; 0]);
}

#[test]
fn names_that_the_cluster_knows() {
    let api = serve();
    for words in ["disrupt -p ", "disrupt --pod w", "disrupt --pod=", "status -p "] {
        let web = if words.ends_with('=') { "--pod=web" } else { "web" };
        assert_eq!(offered(&api, words), [web], "{words}");
    }
    assert_eq!(offered(&api, "disrupt -p x"), [""; 0]);
    assert_eq!(offered(&api, "pause -p web -c "), ["app", "proxy"]);
    assert_eq!(offered(&api, "pause -p web -c pr"), ["proxy"]);
    assert_eq!(offered(&api, "disrupt -p web -n de"), ["default", "demo"]);
    assert_eq!(offered(&api, "disrupt -p web --to-service "), ["db", "cache"]);
    offered(&api, "disrupt -n demo -p ");
    let asked = api.requests();
    let last = asked.last().unwrap();
    assert!(last.starts_with("GET /api/v1/namespaces/demo/pods?"), "{last}");
    assert!(api.changes().is_empty());
}

#[test]
fn what_pods_belong_to() {
    let api = serve();
    assert_eq!(offered(&api, "disrupt "), ["web", "deploy/", "sts/", "ds/", "rs/", "job/", "svc/"]);
    assert_eq!(offered(&api, "disrupt deploy/"), ["deploy/front", "deploy/back"]);
    assert_eq!(offered(&api, "kill -n demo deployments.apps/f"), ["deployments.apps/front"]);
    let asked = api.requests();
    let last = asked.last().unwrap();
    assert!(last.starts_with("GET /apis/apps/v1/namespaces/demo/deployments?"), "{last}");
    assert_eq!(offered(&api, "pause svc/c"), ["svc/cache"]);
    assert_eq!(offered(&api, "pause node/"), [""; 0]);
    // A kind is not a whole word yet.
    assert_eq!(candidates(&api, &["status", "st"]), (vec!["sts/".to_owned()], ":6".to_owned()));
}

#[test]
fn names_of_the_kubeconfig() {
    let api = serve();
    assert_eq!(offered(&api, "status --context "), ["fake"]);
    assert_eq!(offered(&api, "status --cluster f"), ["fake"]);
    assert_eq!(offered(&api, "status --user "), ["me"]);
}

#[test]
fn what_cannot_be_looked_up_is_not_offered() {
    let api = serve();
    let nowhere = std::path::Path::new("/nonexistent");
    for words in [&["disrupt", "-p", ""][..], &["status", "--context", ""]] {
        let mut command = completer(&api);
        let output = command.env("KUBECONFIG", nowhere).args(words).output().unwrap();
        assert_eq!(output.stdout, b":4\n", "{words:?}");
    }
    assert_eq!(candidates(&api, &["pause", "-c", ""]).0, [""; 0]);
}

#[test]
fn files_where_a_file_is_wanted() {
    let api = serve();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("there")).unwrap();
    let mut command = completer(&api);
    let output = command
        .current_dir(folder.path())
        .args(["image", "save", "-o", "th"].map(OsStr::new))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "there/\n:6\n");
}

#[test]
fn a_link_of_that_name_is_the_completer() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("kubectl_complete-pod_chaos");
    symlink(env!("CARGO_BIN_EXE_kubectl-pod_chaos"), &link).unwrap();
    let output = Command::new(link).arg("unin").output().unwrap();
    assert!(output.stdout.starts_with(b"uninstall\t"), "{output:?}");
}
