//! Several contexts in one command: two API servers, west and east.

use std::process::Output;

use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::{
    fake_api::{Agent, FakeApi, Scenario, pod},
    faults::{WARM, good},
    plugin_with,
    processes::{goes_through, pod_of},
    seen,
};

/// A kubeconfig with a context for each of these.
fn kubeconfig(apis: [(&str, &FakeApi); 2]) -> NamedTempFile {
    let mut whole = json!({"apiVersion": "v1", "kind": "Config", "current-context": "west"});
    for part in ["clusters", "users", "contexts"] {
        whole[part] = apis
            .map(|(name, api)| {
                let text = std::fs::read(&api.kubeconfig).unwrap();
                let mut one = serde_json::from_slice::<Value>(&text).unwrap()[part][0].take();
                one["name"] = json!(name);
                if part == "contexts" {
                    one["context"] = json!({"cluster": name, "user": name});
                }
                one
            })
            .to_vec()
            .into();
    }
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), whole.to_string()).unwrap();
    file
}

fn run(apis: [(&str, &FakeApi); 2], line: &str) -> Output {
    let config = kubeconfig(apis);
    let words = line.split_whitespace();
    let both = ["--context", "west", "--context", "east"];
    plugin_with(config.path()).args(words).args(both).output().unwrap()
}

/// Both, with what a scenario has of its own.
fn both(west: Scenario, east: Scenario) -> [FakeApi; 2] {
    [west, east].map(|scenario| FakeApi::serve(Scenario { agent: Agent::Says(good), ..scenario }))
}

fn with_agent() -> Scenario {
    Scenario { pod: Some(WARM()), ..Scenario::default() }
}

fn lines(text: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(text).lines().map(str::to_owned).collect()
}

#[test]
fn a_fault_is_done_in_both_and_every_line_says_where() {
    let [west, east] = both(Scenario::default(), Scenario::default());
    let output = run([("west", &west), ("east", &east)], "disrupt -p web -d 100 -r 1");
    let said = seen(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!((west.added().len(), east.added().len()), (1, 1), "{said}");
    assert!(said.contains("chosen: 2 pods: west/default/web, east/default/web"), "{said}");
    assert!(said.contains("all 2 in force"), "{said}");
    let told = [lines(&output.stdout), lines(&output.stderr)].concat();
    let of_pods: Vec<_> = told.iter().filter(|line| line.contains("pod/web")).collect();
    for line in &of_pods {
        let placed = ["west", "east"].map(|at| format!("{at}/default: pod/web "));
        assert!(placed.iter().any(|place| line.starts_with(place)), "{line}");
    }
    // Of both: what is found, that it is in force, and its end; and that an agent was put in.
    assert_eq!(of_pods.len(), 8, "{said}");
    for context in ["west", "east"] {
        let end = format!("{context}/default: pod/web clean: ended by the kernel's timer");
        assert_eq!(said.matches(&end).count(), 1, "{said}");
    }
}

#[test]
fn json_says_the_context() {
    let [west, east] = both(with_agent(), with_agent());
    let apis = [("west", &west), ("east", &east)];
    let contexts = |list: &Value| {
        let mut all: Vec<_> =
            list.as_array().unwrap().iter().map(|it| it["context"].clone()).collect();
        all.sort_by_key(ToString::to_string);
        all
    };
    let output = run(apis, "disrupt -p web -d 100 -r 1 -o json");
    let events: Vec<Value> =
        lines(&output.stdout).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (report, events) = events.split_last().unwrap();
    assert_eq!(contexts(&report["results"]), ["east", "west"], "{report}");
    assert!(events[1..].iter().all(|event| event["context"].is_string()), "{events:?}");
    for (line, list) in [
        ("status -p web", "faults"),
        ("revert -p web", "results"),
        ("doctor -p web", "pods"),
        ("version -p web", "pods"),
    ] {
        let output = run(apis, &format!("{line} -o json"));
        let last = lines(&output.stdout).pop().unwrap_or_else(|| panic!("{}", seen(&output)));
        let document: Value = serde_json::from_str(&last).unwrap();
        assert_eq!(contexts(&document[list]), ["east", "west"], "{line}: {document}");
    }
}

#[test]
fn every_command_goes_to_both() {
    for line in [
        "install -p web",
        "uninstall -p web",
        "disrupt -p web -d 100 --dry-run=client",
        "partition -p web --dry-run=client",
        "pause -p web --dry-run=client",
        "burn cpu -p web --percent 50% --dry-run=client",
        "burn memory -p web --oom --dry-run=client",
        "burn io -p web --path /tmp --read max --dry-run=client",
        "fill disk -p web --path /tmp --size 1Mi --dry-run=client",
        "kill -p web --dry-run=client",
        "delete -p web --dry-run=client --force",
        "fail -p web --dry-run=client",
        "fail -p web --by image --dry-run=client",
        "signal HUP -p web --dry-run=client",
        "syscall -p web --call open --error EACCES --dry-run=client",
        "observe -p web --dry-run=client",
        "doctor -p web",
        "status",
        "revert",
        "version -p web",
    ] {
        let [west, east] = both(with_agent(), with_agent());
        let output = run([("west", &west), ("east", &east)], line);
        for api in [&west, &east] {
            let asked = |it: &String| it.starts_with("GET") && it.contains("/pods");
            assert!(api.requests().iter().any(asked), "{line}: {}", seen(&output));
        }
        // What is said of a pod says of which.
        for said in lines(&output.stdout).iter().chain(&lines(&output.stderr)) {
            let placed = said.contains("west") || said.contains("east");
            assert!(
                !said.contains("pod/web") || said.starts_with(' ') || placed,
                "{line}: {}",
                seen(&output)
            );
        }
    }
}

#[test]
fn a_pod_that_one_lacks_stops_all() {
    let [west, east] = both(Scenario::default(), Scenario { pod: None, ..Scenario::default() });
    let apis = [("west", &west), ("east", &east)];
    let output = run(apis, "disrupt -p web -d 100 -r 1");
    let said = seen(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("pods \"web\" not found (context east)"), "{said}");
    assert_eq!((west.changes(), east.changes()), (vec![], vec![]));
    // Those that are found are found anywhere.
    let output = run(apis, "install --pods ^web$");
    assert_eq!(output.status.code(), Some(0), "{}", seen(&output));
    assert_eq!((west.added().len(), east.added().len()), (1, 0));
}

#[test]
fn what_holds_in_one_does_not_hold_in_the_other() {
    let opts_out = json!({"metadata": {"name": "default",
                                       "annotations": {"pod-chaos/opt-out": "true"}}});
    let pods = || ["web-1", "web-2"].map(|name| pod(&json!({"metadata": {"name": name}}))).to_vec();
    let many = || Scenario { pod: None, more_pods: pods(), ..Scenario::default() };
    for (out, other) in [("west", "east"), ("east", "west")] {
        let of = |context: &str| {
            let objects = vec![("namespaces", opts_out.clone())];
            if context == out { Scenario { objects, ..many() } } else { many() }
        };
        let [west, east] = both(of("west"), of("east"));
        let output = run([("west", &west), ("east", &east)], "install --pods . --skip-refused");
        let said = seen(&output);
        assert_eq!(output.status.code(), Some(0), "{said}");
        let added = if out == "west" { (0, 2) } else { (2, 0) };
        assert_eq!((west.added().len(), east.added().len()), added, "{said}");
        assert_eq!(told_of(&said, "left out:"), [out; 2].map(|at| format!("{at}/default/web-")));
        // A permission neither.
        let of = |context: &str| {
            let forbidden = vec!["create pods/exec"];
            if context == other { Scenario { forbidden, ..many() } } else { many() }
        };
        let [west, east] = both(of("west"), of("east"));
        let output = run([("west", &west), ("east", &east)], "install --pods .");
        let said = seen(&output);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains("2 of 4 pods are refused"), "{said}");
        let refused = told_of(&said, "error:");
        assert_eq!(refused, [other; 2].map(|at| format!("{at}/default/web-")), "{said}");
        assert_eq!([west.changes(), east.changes()].concat(), [""; 0]);
    }
}

/// The pods of the table under that line, without their numbers.
fn told_of(said: &str, line: &str) -> Vec<String> {
    let rows = said.lines().skip_while(|it| !it.starts_with(line)).skip(2);
    let names = rows.map_while(|row| row.split_once("web-"));
    names.map(|(place, _)| format!("{place}web-")).collect()
}

#[test]
fn two_contexts_of_one_cluster_mean_each_pod_once() {
    let one = pod(&json!({"metadata": {"uid": "0f7c"}}));
    let api = FakeApi::serve(Scenario {
        pod: Some(one),
        agent: Agent::Says(good),
        ..Scenario::default()
    });
    let output = run([("west", &api), ("east", &api)], "install -p web");
    assert_eq!(output.status.code(), Some(0), "{}", seen(&output));
    assert_eq!(api.added().len(), 1);
    // And one context that is named twice is one.
    let config = kubeconfig([("west", &api), ("east", &api)]);
    let line = ["status", "-p", "web", "--context", "east", "--context", "east"];
    let output = plugin_with(config.path()).args(line).output().unwrap();
    assert!(!seen(&output).contains("CONTEXT"), "{}", seen(&output));
}

#[test]
fn what_says_where_one_cluster_is_does_not_fit_several() {
    let [west, east] = both(Scenario::default(), Scenario::default());
    let apis = [("west", &west), ("east", &east)];
    for flag in ["--server http://127.0.0.1:1", "--token secret", "--cluster west"] {
        let output = run(apis, &format!("install -p web {flag}"));
        assert_eq!(output.status.code(), Some(2), "{flag}: {}", seen(&output));
        assert!(seen(&output).contains("several contexts are named"), "{}", seen(&output));
    }
    let output = run(apis, "install -p web --context north");
    assert!(seen(&output).contains("(context north)"), "{}", seen(&output));
    assert_eq!(west.changes(), [""; 0]);
}

/// `fail --by image` starts it in the cluster that it is for, which is one.
#[test]
fn what_runs_in_a_cluster_is_about_that_cluster() {
    let [west, east] = both(with_agent(), with_agent());
    let line = "restore --pod web --uid 1 --fault 0000000a";
    let output = run([("west", &west), ("east", &east)], line);
    assert_eq!(output.status.code(), Some(2), "{}", seen(&output));
    assert!(seen(&output).contains("works on the one cluster"), "{}", seen(&output));
    assert_eq!([west.requests(), east.requests()].concat(), [""; 0]);
}

#[test]
fn a_matrix_stays_in_the_context_of_the_container_that_was_found() {
    let folder = tempfile::tempdir().unwrap();
    let (list, to) = (folder.path().join("faults.yaml"), folder.path().join("to"));
    std::fs::write(&list, "- each: [open]\n  with: [{error: EIO}]").unwrap();
    let line = format!(
        "syscall matrix --pods ^web$ --every 50ms --duration 300ms --baseline 300ms --faults {} --to {}",
        list.display(),
        to.display()
    );
    let web = || pod_of(&json!([{"name": "web", "image": "x"}]));
    let serve = |pod| {
        let agent = Agent::Says(goes_through);
        FakeApi::serve(Scenario { pod: Some(pod), agent, ..Scenario::default() })
    };
    let (west, east) = (serve(pod(&json!({"metadata": {"name": "db"}}))), serve(web()));
    let output = run([("west", &west), ("east", &east)], &line);
    assert_eq!(output.status.code(), Some(0), "{}", seen(&output));
    assert_eq!((west.added().len(), west.agent_heard().len()), (0, 0));
    let state = std::fs::read_to_string(to.join("state.json")).unwrap();
    assert!(state.contains("east/default/web/web"), "{state}");
    let rows = std::fs::read_to_string(to.join("metrics.csv")).unwrap();
    assert!(rows.lines().any(|row| row.contains("during")), "{rows}");
    // Of two that are found neither is gone through.
    let west = serve(web());
    let output = run([("west", &west), ("east", &east)], &line);
    assert_eq!(output.status.code(), Some(3), "{}", seen(&output));
    let why = "one container at a time, and these are 2";
    assert!(seen(&output).contains(why), "{}", seen(&output));
}

#[test]
fn contexts_before_the_command_and_behind_it_are_all_meant() {
    for (before, behind) in
        [("west", "east"), ("west east", ""), ("", "west east"), ("west east", "east")]
    {
        let [west, east] = both(with_agent(), with_agent());
        let config = kubeconfig([("west", &west), ("east", &east)]);
        let named = |contexts: &str| {
            let words = contexts.split_whitespace().map(str::to_owned);
            words.flat_map(|context| ["--context".to_owned(), context]).collect::<Vec<_>>()
        };
        let mut command = plugin_with(config.path());
        command.args(named(before)).args(["-q", "status", "-p", "web", "-o", "json"]);
        let output = command.args(named(behind)).output().unwrap();
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let faults = document["faults"].as_array().unwrap();
        let contexts: Vec<_> = faults.iter().map(|fault| &fault["context"]).collect();
        assert_eq!(contexts, ["west", "east"], "{before}, {behind}: {}", seen(&output));
    }
}

#[test]
fn a_hint_leads_back_to_the_context() {
    let api = FakeApi::serve(Scenario { agent: Agent::Says(good), ..with_agent() });
    let config = kubeconfig([("west", &api), ("east", &api)]);
    let line = "disrupt -p web -d 100 -r 9 --detach --context east";
    let output = plugin_with(config.path()).args(line.split_whitespace()).output().unwrap();
    let hint = "`kubectl pod-chaos revert --context east -p web` ends it now";
    assert!(seen(&output).contains(hint), "{}", seen(&output));
}
