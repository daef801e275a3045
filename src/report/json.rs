//! JSON: a line for each event, or one document.

use pod_chaos_protocol::Event;
use serde_json::{Value, json};

use super::{Place, Told};
use crate::{
    cluster::{Fate, Removed, RemovedBy},
    plan::PodName,
};

/// An event with where it happened.
pub fn event(namespace: &str, name: &PodName, event: &Event) -> Value {
    with_place(namespace, name, serde_json::to_value(event))
}

/// A list of the faults in force.
pub fn status(rows: &[(Place, Told)]) -> Value {
    let items: Vec<_> = rows
        .iter()
        .map(|(place, fault)| {
            let value = match fault {
                Told::Network(status) => serde_json::to_value(status),
                Told::Process(status) => serde_json::to_value(status),
            };
            with_place(&place.namespace, &place.name, value)
        })
        .collect();
    json!({ "faults": items })
}

/// What became of a container.
pub fn fate(namespace: &str, name: &PodName, fate: &Fate) -> Value {
    let mut value = with_place(namespace, name, serde_json::to_value(fate));
    value["event"] = "fate".into();
    value
}

/// What became of a pod that was made to go.
pub fn removed(namespace: &str, name: &PodName, by: RemovedBy, removed: &Removed) -> Value {
    let mut value = with_place(namespace, name, serde_json::to_value(removed));
    value["event"] = "removed".into();
    value["by"] = json!(by);
    value
}

fn with_place(namespace: &str, name: &PodName, value: serde_json::Result<Value>) -> Value {
    let mut place = json!({"namespace": namespace, "pod": name.as_str()});
    if let (Ok(Value::Object(value)), Value::Object(place)) = (value, &mut place) {
        place.extend(value);
    }
    place
}
