//! JSON: a line for each event, or one document.

use pod_chaos_protocol::{Event, FaultId};
use serde_json::{Value, json};

use super::{ImageStatus, Place, Told};
use crate::{
    cluster::{Fate, Removed, RemovedBy, RestoredBy, Swap},
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
                Told::Images(swap) => Ok(images(swap)),
            };
            with_place(&place.namespace, &place.name, value)
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

/// A pod's images were replaced.
pub fn swapped(namespace: &str, name: &PodName, swap: &Swap) -> Value {
    let mut value = with_place(namespace, name, serde_json::to_value(swap));
    value["event"] = "images-replaced".into();
    value["fault"] = json!(swap.fault);
    value
}

/// They were put back.
pub fn restored(namespace: &str, name: &PodName, fault: FaultId, by: RestoredBy) -> Value {
    let event = json!({"event": "images-restored", "fault": fault, "by": by});
    with_place(namespace, name, Ok(event))
}

fn with_place(namespace: &str, name: &PodName, value: serde_json::Result<Value>) -> Value {
    let mut place = json!({"namespace": namespace, "pod": name.as_str()});
    if let (Ok(Value::Object(value)), Value::Object(place)) = (value, &mut place) {
        place.extend(value);
    }
    place
}
