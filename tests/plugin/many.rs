//! Many pods in one command: which are chosen, all that speaks against any of them, and one start for all.

use std::{
    io::{BufRead as _, BufReader},
    process::{Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use insta::assert_snapshot;
use pod_chaos_protocol::{Event, Failure, FailureKind, Request};
use serde_json::{Value, json};

use crate::{
    fake_api::{Agent, FakeApi, Says, Scenario, pod},
    faults::{good, in_force, masked},
    plugin_with, seen,
};

/// A running pod with that name and label `app`.
fn named(name: &str, app: &str) -> Value {
    pod(&json!({"metadata": {"name": name, "labels": {"app": app}}}))
}

fn several(pods: Vec<Value>, says: Says) -> FakeApi {
    FakeApi::serve(Scenario {
        pod: None,
        more_pods: pods,
        agent: Agent::Says(says),
        ..Scenario::default()
    })
}

fn three(says: Says) -> FakeApi {
    several(["web-1", "web-2", "web-3"].map(|name| named(name, "web")).to_vec(), says)
}

fn run(api: &FakeApi, line: &str) -> Output {
    let words = line.split_whitespace();
    plugin_with(&api.kubeconfig).args(words).output().unwrap()
}

/// What was seen, without the order in which pods came along.
fn in_order(output: &Output) -> String {
    let mut parts: Vec<Vec<String>> = vec![Vec::new()];
    for line in masked(&seen(output)).lines() {
        if line.starts_with("---") {
            parts.push(Vec::new());
        }
        let line = match line.split_once("begun within ") {
            Some((all, _)) => format!("{all}begun within N ms"),
            None => line.to_owned(),
        };
        parts.last_mut().unwrap().push(line);
    }
    for part in &mut parts {
        part[1..].sort_unstable();
    }
    parts.concat().join("\n")
}

#[test]
fn all_agents_are_there_before_the_first_fault_begins() {
    let api = three(good);
    let output = run(&api, "disrupt -l app=web -d 100 -r 1");
    assert_snapshot!(in_order(&output));
    assert_eq!(api.added().len(), 3);
    let log = api.agent_log();
    let first = log.iter().position(|(_, what)| what == "apply").unwrap();
    let mut ready: Vec<_> = log[..first].iter().map(|(pod, _)| pod.as_str()).collect();
    ready.sort_unstable();
    ready.dedup();
    assert_eq!(ready, ["web-1", "web-2", "web-3"], "{log:?}");
}

#[test]
fn a_pod_that_is_refused_stops_all_and_every_reason_is_told() {
    let pods = || {
        let host = json!({"metadata": {"name": "web-2", "labels": {"app": "web"}},
                          "spec": {"hostNetwork": true, "os": {"name": "windows"}}});
        vec![named("web-1", "web"), pod(&host), named("web-3", "web")]
    };
    let api = several(pods(), good);
    let output = run(&api, "disrupt -l app=web -d 100 -r 1");
    assert_eq!(output.status.code(), Some(3));
    assert_snapshot!("refused_with_others", seen(&output));
    assert_eq!(api.changes(), [""; 0]);
    let output = run(&api, "disrupt -l app=web -d 100 -r 1 --skip-refused");
    assert_eq!(output.status.code(), Some(0), "{}", seen(&output));
    assert!(seen(&output).contains("left out:\nPOD             WHY\ndefault/web-2"));
    assert_eq!(api.added().len(), 2);
}

#[test]
fn permissions_are_asked_for_once_a_namespace_and_their_lack_is_told_for_each_pod() {
    let api = three(good);
    run(&api, "install -l app=web");
    let asks = api.requests().iter().filter(|it| it.contains("selfsubjectaccessreviews")).count();
    assert_eq!(asks, 2, "{:?}", api.requests());
    let pods = ["web-1", "web-2"].map(|name| named(name, "web")).to_vec();
    let api = FakeApi::serve(Scenario {
        pod: None,
        more_pods: pods,
        forbidden: vec!["create pods/exec"],
        ..Scenario::default()
    });
    let output = run(&api, "install -l app=web");
    assert_snapshot!("forbidden_for_several", seen(&output));
    assert_eq!(api.changes(), [""; 0]);
}

/// The second agent that is asked refuses.
fn one_fails(request: &Request, asked: &AtomicU32) -> bool {
    matches!(request, Request::Apply { .. }) && asked.fetch_add(1, Ordering::Relaxed) == 1
}

pub fn refusal() -> Vec<crate::fake_api::Line> {
    let kind = FailureKind::Kernel;
    let failure = Failure { kind, message: "the kernel said no".to_owned(), hint: None };
    vec![(0, Some(Event::Failed { failure })), (0, None)]
}

#[test]
fn a_failure_in_one_pod_is_told_as_such() {
    let api = three(|request| {
        static ASKED: AtomicU32 = AtomicU32::new(0);
        if one_fails(request, &ASKED) { refusal() } else { good(request) }
    });
    let output = run(&api, "disrupt -l app=web -d 100 -r 1");
    let seen = seen(&output);
    assert_eq!(output.status.code(), Some(1), "{seen}");
    assert_eq!(seen.matches("clean: ended by the kernel's timer").count(), 2, "{seen}");
    assert!(seen.contains("1 of 3 pods failed: default/web-"), "{seen}");
}

#[test]
fn when_failing_fast_the_others_are_reverted() {
    let api = three(|request| {
        static ASKED: AtomicU32 = AtomicU32::new(0);
        match request {
            _ if one_fails(request, &ASKED) => refusal(),
            Request::Apply { .. } => vec![in_force(request), (60_000, None)],
            other => good(other),
        }
    });
    let output = run(&api, "disrupt -l app=web -d 100 -r 60 --fail-fast");
    let seen = seen(&output);
    assert_eq!(output.status.code(), Some(1), "{seen}");
    assert_eq!(seen.matches("clean: ended by request").count(), 2, "{seen}");
    assert!(seen.contains("another pod failed: reverting"), "{seen}");
}

#[cfg(unix)]
#[test]
fn an_interrupt_reverts_all() {
    let api = three(|request| match request {
        Request::Apply { .. } => vec![in_force(request), (60_000, None)],
        other => good(other),
    });
    let mut child = plugin_with(&api.kubeconfig)
        .args(["disrupt", "-l", "app=web", "-d", "100", "-r", "60"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut lines = String::new();
    while lines.matches("in force").count() < 3 {
        assert!(stdout.read_line(&mut lines).unwrap() > 0, "{lines}");
    }
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    std::io::Read::read_to_string(&mut stdout, &mut lines).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{lines} {}", seen(&output));
    assert_eq!(lines.matches("clean: ended by request").count(), 3, "{lines}");
    assert_eq!(seen(&output).matches("interrupted: reverting").count(), 1, "{}", seen(&output));
}

/// The pods that got an agent.
fn hit(api: &FakeApi) -> Vec<String> {
    let changes = api.changes();
    let mut pods: Vec<_> = changes
        .iter()
        .filter_map(|it| it.strip_prefix("PATCH /api/v1/namespaces/"))
        .filter_map(|it| Some(it.split_once("/ephemeralcontainers")?.0.replace("/pods/", "/")))
        .collect();
    pods.sort_unstable();
    pods
}

#[test]
fn a_choice_of_a_thousand_is_printed_and_can_be_had_again() {
    let pods = || (0..1000).map(|at| named(&format!("web-{at:03}"), "web")).collect::<Vec<_>>();
    let api = several(pods(), good);
    let output = run(&api, "install --pods ^web- --mode fixed=3");
    let said = seen(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let line = said.lines().find(|line| line.starts_with("chosen: 3 of 1000 (--mode")).unwrap();
    let (_, flags) = line.split_once('(').unwrap();
    let (flags, names) = flags.split_once(") pods: ").unwrap();
    let chosen: Vec<_> = names.split(", ").map(|name| format!("default/{name}")).collect();
    assert_eq!(hit(&api), chosen);
    let lists = |api: &FakeApi| {
        api.requests().iter().filter(|it| it.starts_with("GET") && it.contains("/pods?")).count()
    };
    assert_eq!(lists(&api), 2, "pages of 500");
    // In another order, to the same end.
    let again = several(pods().into_iter().rev().collect(), good);
    let output = run(&again, &format!("install --pods ^web- {flags}"));
    assert_eq!(output.status.code(), Some(0), "{}", seen(&output));
    assert_eq!(hit(&again), chosen);
}

#[test]
fn workloads_labels_and_conditions_choose_pods() {
    let of = |name: &str, app: &str, change: &Value| {
        let mut one = named(name, app);
        for (part, fields) in change.as_object().unwrap() {
            one[part].as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        }
        one
    };
    let replica_set =
        json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7d4b9c", "uid": "u"}]);
    let owned = json!({"name": "web-1", "namespace": "default", "ownerReferences": replica_set,
                       "labels": {"app": "web", "pod-template-hash": "7d4b9c"}});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}}});
    let serve = || {
        FakeApi::serve(Scenario {
            pod: None,
            more_pods: vec![
                of("web-1", "web", &json!({"metadata": owned})),
                of("web-2", "web", &json!({"spec": {"nodeName": "b"}})),
                of("db-1", "db", &json!({"metadata": {"annotations": {"team": "a"}}})),
                of("job-1", "web", &json!({"status": {"phase": "Succeeded"}})),
                of("far", "web", &json!({"metadata": {"name": "far", "namespace": "far"}})),
            ],
            objects: vec![("deployments", deployment.clone())],
            agent: Agent::Says(good),
            ..Scenario::default()
        })
    };
    for (line, pods) in [
        ("deploy/web", &["default/web-1"][..]),
        ("web-2 db-1", &["default/db-1", "default/web-2"]),
        ("-p web-2 -p db-1", &["default/db-1", "default/web-2"]),
        ("deploy/web db-1", &["default/db-1", "default/web-1"]),
        ("-l app=web", &["default/web-1", "default/web-2"]),
        ("-l app=web --node b", &["default/web-2"]),
        ("--pods . --except ^web", &["default/db-1"]),
        ("--annotation team=a", &["default/db-1"]),
        ("-A --pods ^far|^db", &["default/db-1", "far/far"]),
        ("far -n far", &["far/far"]),
    ] {
        let api = serve();
        let output = run(&api, &format!("install {line}"));
        assert_eq!(output.status.code(), Some(0), "{line}: {}", seen(&output));
        assert_eq!(hit(&api), pods, "{line}");
    }
    let api = serve();
    for (line, why) in [
        ("-l app=none", "no pod is found in namespace default"),
        ("--pods nothing", "none of 4 pods meets all conditions"),
        ("deploy/none", "not found"),
        ("web-2 none nobody", "pods \"nobody\" not found"),
    ] {
        let output = run(&api, &format!("install {line}"));
        assert_eq!(output.status.code(), Some(3), "{line}: {}", seen(&output));
        assert!(seen(&output).contains(why), "{line}: {}", seen(&output));
    }
    assert_eq!(api.changes(), [""; 0]);
}

#[test]
fn json_has_the_choice_and_each_pod_in_its_events() {
    let api = three(good);
    let output = run(&api, "disrupt -l app=web -d 100 -r 1 --mode fixed=2 --seed 7 -o json");
    let lines: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["event"], "chosen");
    assert_eq!((&lines[0]["seed"], &lines[0]["of"]), (&json!(7), &json!(3)));
    let chosen: Vec<_> = lines[0]["pods"].as_array().unwrap().clone();
    for pod in &chosen {
        let of = lines[1..7]
            .iter()
            .filter(|it| json!(format!("default/{}", it["pod"].as_str().unwrap())) == *pod);
        let events: Vec<_> = of.map(|it| it["event"].as_str().unwrap()).collect();
        assert_eq!(events, ["probed", "in-force", "ended"]);
    }
    assert_eq!((lines.len(), &lines[7]["event"]), (8, &json!("report")));
}

#[test]
fn status_and_revert_of_all_namespaces_say_where() {
    let with_agent = |namespace: &str| {
        let mut one = crate::faults::WARM();
        one["metadata"]["namespace"] = json!(namespace);
        one
    };
    let api = several(vec![with_agent("one"), with_agent("two"), named("plain", "x")], good);
    assert_snapshot!("status_everywhere", seen(&run(&api, "status -A")));
    let document: Value = serde_json::from_slice(&run(&api, "status -A -o json").stdout).unwrap();
    let places: Vec<_> =
        document["faults"].as_array().unwrap().iter().map(|it| &it["namespace"]).collect();
    assert_eq!(places, ["one", "two"]);
    let output = run(&api, "revert -A");
    assert_eq!(seen(&output).matches("clean: ended by request").count(), 2, "{}", seen(&output));
    let mut changes = api.changes();
    changes.sort_unstable();
    // What is told of it, and nothing else.
    let events = ["one", "two"].map(|space| format!("POST /api/v1/namespaces/{space}/events?"));
    assert_eq!(changes, events);
}
