//! JSON: a line for each event, or one document.

use pod_chaos_protocol::{Event, FaultId};
use serde_json::{Map, Value, json};

use super::{ImageStatus, Place, Told};
use crate::{
    cluster::{Fate, Removed, RemovedBy, RestoredBy, Scope, Swap},
    plan::PodName,
};

/// An event with where it happened.
pub fn event(scope: &Scope, name: &PodName, event: &Event) -> Value {
    with_place(scope, name, serde_json::to_value(event))
}

/// A list of the faults in force.
pub fn status(rows: &[(Place, Told)]) -> Value {
    let items: Vec<_> = rows
        .iter()
        .map(|(place, fault)| {
            let value = match fault {
                Told::Network(status) => serde_json::to_value(status),
                Told::Process(status) => serde_json::to_value(status),
                Told::Images(swap) => Ok(images(swap)),
                Told::Nothing { fault, why } => Ok(json!({"fault": fault, "untold": why})),
            };
            with_place(&place.scope, &place.name, value)
        })
        .collect();
    json!({ "faults": items })
}

fn images(ImageStatus { swap, age_s, left_s }: &ImageStatus) -> Value {
    json!({
        "fault": swap.fault, "doing": "images-replaced", "images": swap.images, "job": swap.job,
        "age_ms": age_s * 1000, "remaining_ms": left_s * 1000,
    })
}

/// What became of a container.
pub fn fate(scope: &Scope, name: &PodName, fate: &Fate) -> Value {
    let mut value = with_place(scope, name, serde_json::to_value(fate));
    value["event"] = "fate".into();
    value
}

/// What became of a pod that was made to go.
pub fn removed(scope: &Scope, name: &PodName, by: RemovedBy, removed: &Removed) -> Value {
    let mut value = with_place(scope, name, serde_json::to_value(removed));
    value["event"] = "removed".into();
    value["by"] = json!(by);
    value
}

/// A pod's images were replaced.
pub fn swapped(scope: &Scope, name: &PodName, swap: &Swap) -> Value {
    let mut value = with_place(scope, name, serde_json::to_value(swap));
    value["event"] = "images-replaced".into();
    value["fault"] = json!(swap.fault);
    value
}

/// They were put back.
pub fn restored(scope: &Scope, name: &PodName, fault: FaultId, by: RestoredBy) -> Value {
    let event = json!({"event": "images-restored", "fault": fault, "by": by});
    with_place(scope, name, Ok(event))
}

/// Where it is, and which pod.
pub fn place(Scope { context, namespace }: &Scope, name: &PodName) -> Map<String, Value> {
    let context = context.iter().map(|context| ("context", &**context));
    let pod = [("namespace", namespace.as_str()), ("pod", name.as_str())];
    context.chain(pod).map(|(key, value)| (key.to_owned(), value.into())).collect()
}

fn with_place(scope: &Scope, name: &PodName, value: serde_json::Result<Value>) -> Value {
    let mut place = place(scope, name);
    if let Ok(Value::Object(value)) = value {
        place.extend(value);
    }
    place.into()
}
