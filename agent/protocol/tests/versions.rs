//! What is said by one version and read by another. The lines are those of 0.1.0, as they went over the wire: they stay as
//! they are, and whatever comes after them must read them as long as [`PROTOCOL`] is the same.

use pod_chaos_protocol::{Carried, Event, PROTOCOL, Request};
use serde_json::{Value, json};

const REQUESTS: &str = include_str!("v0.1.0/requests.jsonl");
const EVENTS: &str = include_str!("v0.1.0/events.jsonl");

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// All variants of it with one more field in one of its objects, but for those under these keys.
fn with_one_more(value: &Value, spared: &[&str]) -> Vec<Value> {
    let mut all = Vec::new();
    let mut go_into = |at: &dyn Fn(&mut Value) -> &mut Value, part: &Value| {
        for part in with_one_more(part, spared) {
            let mut whole = value.clone();
            *at(&mut whole) = part;
            all.push(whole);
        }
    };
    match value {
        Value::Object(fields) => {
            for (key, part) in fields.iter().filter(|(key, _)| !spared.contains(&key.as_str())) {
                go_into(&|whole| &mut whole[key], part);
            }
            let mut more = value.clone();
            more["later"] = json!(1);
            all.push(more);
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                go_into(&|whole| &mut whole[at], item);
            }
        }
        _ => {}
    }
    all
}

#[test]
fn the_first_version_is_read_and_said_in_the_same_words() {
    assert_eq!(PROTOCOL, 1, "a new protocol has lines of its own");
    for line in lines(REQUESTS) {
        let request: Request = serde_json::from_value(line.clone()).unwrap();
        assert_eq!(serde_json::to_value(request).unwrap(), line);
    }
    for line in lines(EVENTS) {
        let event: Event = serde_json::from_value(line.clone()).unwrap();
        assert_ne!(event, Event::Unknown, "{line}");
        assert_eq!(serde_json::to_value(event).unwrap(), line);
    }
}

#[test]
fn no_field_of_a_request_is_left_out_of_account() {
    for line in lines(REQUESTS) {
        // A word that has no fields has none to leave out.
        if line.as_object().unwrap().len() == 1 {
            continue;
        }
        for more in with_one_more(&line, &[]) {
            assert!(serde_json::from_value::<Request>(more.clone()).is_err(), "{more}");
        }
    }
}

#[test]
fn fields_of_an_event_may_be_left_out_of_account() {
    // What stands in a plan too is as strict as there.
    let strict = ["netem", "partition", "traffic", "target", "doing"];
    for line in lines(EVENTS) {
        let event: Event = serde_json::from_value(line.clone()).unwrap();
        for more in with_one_more(&line, &strict) {
            assert_eq!(serde_json::from_value::<Event>(more.clone()).unwrap(), event, "{more}");
        }
    }
}

#[test]
fn what_a_later_version_calls_by_new_names_is_unknown_and_no_error() {
    let read = |value: Value| serde_json::from_value::<Event>(value).unwrap();
    assert_eq!(read(json!({"event": "foreseen", "weather": {"rain": 1}})), Event::Unknown);
    for (line, field) in [("in-force", "backend"), ("ended", "by"), ("failed", "kind")] {
        let of = lines(EVENTS).into_iter().find(|it| it["event"] == line).unwrap();
        let mut other = of.clone();
        match line {
            "in-force" => other["status"][field] = json!("new"),
            "failed" => other["failure"][field] = json!("new"),
            _ => other[field] = json!("new"),
        }
        let said = serde_json::to_value(read(other.clone())).unwrap().to_string();
        assert_eq!(said, other.to_string().replace("\"new\"", "\"unknown\""));
    }
}

#[test]
fn a_greeting_of_any_protocol_is_read() {
    let line = json!({"event": "hello", "protocol": 99, "version": "9.0.0", "features": ["x"]});
    let event = serde_json::from_value::<Event>(line).unwrap();
    assert!(matches!(event, Event::Hello { protocol: 99, .. }), "{event:?}");
}

#[test]
fn a_plan_that_comes_with_its_agent_is_read_and_nothing_of_it_left_out() {
    let plan = lines(REQUESTS).into_iter().find(|it| it["request"] == "apply").unwrap();
    let carried = json!({"protocol": 1, "from": 1, "until": 9, "plan": plan["plan"]});
    let read: Carried = serde_json::from_value(carried.clone()).unwrap();
    assert_eq!(serde_json::to_value(read).unwrap(), carried);
    for more in with_one_more(&carried, &[]) {
        assert!(serde_json::from_value::<Carried>(more.clone()).is_err(), "{more}");
    }
}
