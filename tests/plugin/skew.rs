//! A plugin and an agent of different versions: what both know works, and of the rest it is said whose it is.

use std::process::Output;

use insta::assert_snapshot;
use pod_chaos_protocol::{Event, Failure, FailureKind, FaultId, PROTOCOL, Request};
use serde_json::{Value, json};

use crate::{
    fake_api::{Accent, Agent, FakeApi, Says, Scenario},
    faults::{WARM, good, masked},
    plugin_with, seen,
};

fn serve(says: Says, accent: Accent) -> FakeApi {
    FakeApi::serve(Scenario {
        pod: Some(WARM()),
        agent: Agent::Says(says),
        agent_accent: accent,
        ..Scenario::default()
    })
}

fn run(api: &FakeApi, line: &str) -> Output {
    plugin_with(&api.kubeconfig).args(line.split_whitespace()).output().unwrap()
}

/// What was seen of a command that has to end in that way.
fn said(api: &FakeApi, line: &str, exit: i32) -> String {
    let output = run(api, line);
    let said = masked(&seen(&output));
    assert_eq!(output.status.code(), Some(exit), "{line}: {said}");
    said
}

const DISRUPT: &str = "disrupt -p web -d 100 -r 1";

/// Puts a field into every object.
fn with_more(line: Value) -> Value {
    match line {
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(key, value)| (key, with_more(value)));
            fields.chain([("later".to_owned(), json!([1]))]).collect()
        }
        Value::Array(items) => items.into_iter().map(with_more).collect(),
        other => other,
    }
}

/// As a later version that tells more.
fn tells_more(mut line: Value) -> Value {
    if line["event"] == "hello" {
        line["version"] = json!("9.0.0");
    }
    // A plan's own types are strict, whoever says them.
    let netem = line["status"]["netem"].take();
    let mut line = with_more(line);
    if line["event"] == "in-force" {
        line["status"]["netem"] = netem;
    }
    line
}

#[test]
fn fields_that_only_a_later_agent_knows_are_passed_over() {
    let api = serve(good, tells_more);
    assert!(said(&api, DISRUPT, 0).contains("clean: ended by the kernel's timer"));
    assert!(said(&api, "revert -p web", 0).contains("clean: ended by request"));
    assert!(said(&api, "version -p web", 0).contains("is v9.0.0 and this plugin v"));
}

#[test]
fn events_that_only_a_later_agent_knows_are_passed_over() {
    let api = serve(good, |line| match line["event"].as_str() {
        Some("probed") => json!({"event": "foreseen", "weather": "rain"}),
        _ => line,
    });
    let said = said(&api, DISRUPT, 0);
    assert!(
        said.contains("clean: ended by the kernel's timer") && !said.contains("rain"),
        "{said}"
    );
}

#[test]
fn words_that_only_a_later_agent_knows_are_said_to_be_unknown() {
    let api = serve(good, |mut line| {
        match line["event"].as_str() {
            Some("in-force") => line["status"]["backend"] = json!("wormhole"),
            Some("ended") => line["by"] = json!("entropy"),
            _ => {}
        }
        line
    });
    let text = said(&api, DISRUPT, 0);
    assert!(text.contains("clean: ended by what this version does not know"), "{text}");
    let api = serve(
        |_| {
            let (kind, message) = (FailureKind::Kernel, "no".to_owned());
            vec![(0, Some(Event::Failed { failure: Failure { kind, message, hint: None } }))]
        },
        |mut line| {
            if line["event"] == "failed" {
                line["failure"]["kind"] = json!("weather");
            }
            line
        },
    );
    assert!(said(&api, DISRUPT, 1).contains("pod/web: no"));
}

/// As a later version with a fault that this one cannot even read.
fn does_what_is_unknown(mut line: Value) -> Value {
    match line["event"].as_str() {
        Some("hello") => line["version"] = json!("9.0.0"),
        Some("in-force") => line["status"]["netem"] = json!({"gravity": "2g"}),
        Some("status") => {
            for fault in line["faults"].as_array_mut().unwrap() {
                fault["netem"] = json!({"gravity": "2g"});
            }
        }
        _ => {}
    }
    line
}

#[test]
fn an_answer_that_cannot_be_read_is_said_to_be_of_another_version() {
    let api = serve(good, does_what_is_unknown);
    assert_snapshot!("status_unread", said(&api, "status -p web", 1));
    assert_eq!(api.agent_heard(), [Request::Status], "it is asked once");
}

/// One that is carried by a process of yet another version, which the agent that answers has asked.
#[test]
fn a_fault_that_its_own_agent_does_not_tell_of_is_not_left_out() {
    let api = serve(
        |request| {
            let mut said = good(request);
            if let Some(at) =
                said.iter().position(|(_, it)| matches!(it, Some(Event::Status { .. })))
            {
                let why = "unknown variant `weather`".to_owned();
                let untold = Event::Untold { fault: FaultId::new(0x0bad_cafe), why };
                said.insert(at, (0, Some(untold)));
            }
            said
        },
        |line| line,
    );
    assert_snapshot!("status_untold", said(&api, "status -p web", 0));
    let output = run(&api, "status -p web -o json");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let untold = json!({"namespace": "default", "pod": "web", "fault": "0badcafe",
                        "untold": "unknown variant `weather`"});
    assert!(document["faults"].as_array().unwrap().contains(&untold), "{document}");
    let text = said(&api, "revert -p web", 4);
    assert!(text.contains("does not tell of it: unknown variant"), "{text}");
}

#[test]
fn a_fault_whose_state_cannot_be_read_is_reverted() {
    let api = serve(good, does_what_is_unknown);
    assert_snapshot!("fault_unread", said(&api, DISRUPT, 1));
    let heard = api.agent_heard();
    assert!(
        matches!(heard[..], [Request::Apply { .. }, Request::Revert { fault: Some(_) }]),
        "{heard:?}"
    );
}

/// As an older version, to which something of the request is new.
fn refuses(_: &Request) -> Vec<crate::fake_api::Line> {
    let message = "the request cannot be read: unknown field `gravity`".to_owned();
    let failure = Failure { kind: FailureKind::BadRequest, message, hint: None };
    vec![(0, Some(Event::Failed { failure })), (0, None)]
}

fn is_old(mut line: Value) -> Value {
    if line["event"] == "hello" {
        line["version"] = json!("0.0.1");
    }
    line
}

#[test]
fn what_an_older_agent_does_not_know_it_refuses_and_its_version_is_told() {
    assert_snapshot!("older_agent", said(&serve(refuses, is_old), DISRUPT, 3));
    // Where both are of one version, that is not what is wrong.
    assert!(!said(&serve(refuses, |line| line), DISRUPT, 3).contains("hint:"));
}

#[test]
fn who_greets_in_another_way_is_no_agent_of_ours() {
    let accents: [Accent; 2] = [
        |line| match line["event"].as_str() {
            Some("hello") => json!({"event": "greeting", "protocol": 9}),
            _ => line,
        },
        |line| match line["event"].as_str() {
            Some("hello") => json!({"event": "hello", "v": 9}),
            _ => line,
        },
    ];
    for accent in accents {
        // One that is there is passed by, and the new one is not waited for.
        let api = serve(good, accent);
        let text = said(&api, "install -p web", 1);
        assert!(text.contains("pod-chaos-net-XXXXX is not understood"), "{text}");
        assert!(text.contains("error: the pod's agent says what this plugin"), "{text}");
        assert_eq!(api.agent_heard(), []);
    }
}

#[test]
fn an_agent_of_another_protocol_is_let_go_and_left_alone_by_all_else() {
    for protocol in [PROTOCOL - 1, PROTOCOL + 1] {
        let api = FakeApi::serve(Scenario {
            pod: Some(WARM()),
            agent: Agent::Says(good),
            agent_protocol: protocol,
            ..Scenario::default()
        });
        for line in ["status -p web", "revert -p web", DISRUPT] {
            let text = seen(&run(&api, line));
            assert!(text.contains("speaks another protocol"), "{line}: {text}");
        }
        assert_eq!(api.agent_heard(), []);
        let text = said(&api, "uninstall -p web", 4);
        assert!(text.contains("pod-chaos-net-XXXXX (v0.1.0) exits"), "{text}");
        assert!(text.contains("`kubectl pod-chaos revert -p web` looks"), "{text}");
        let heard = api.agent_heard();
        assert!(!heard.is_empty() && heard.iter().all(|it| *it == Request::Stop), "{heard:?}");
    }
}
