//! What the kubelet says about a container while it is being made.

use k8s_openapi::api::core::v1::Event;
use kube::{Api, api::ListParams};

use super::{Cluster, client::in_time};
use crate::plan::PodName;

/// The latest that is known of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Its image is on its way.
    Progress(String),
    /// It cannot be made, as things are.
    Failed {
        /// As `ErrImageNeverPull`.
        reason: String,
        /// The runtime's own words.
        message: String,
    },
}

/// Reads the pod's Events, the quickest source: a reason gets into the container's status only when the
/// kubelet tries again, ten seconds and more after it has failed (pkg/kubelet/pod_workers.go,
/// backOffPeriod). Who may not read Events gets the reason from there.
pub(super) async fn news_of(cluster: &Cluster, pod: &PodName, container: &str) -> Option<News> {
    let events: Api<Event> = Api::namespaced(cluster.client(), cluster.namespace());
    let selector = format!(
        "involvedObject.name={pod},involvedObject.fieldPath=spec.ephemeralContainers{{{container}}}"
    );
    let params = ListParams::default().fields(&selector);
    let events = in_time(events.list(&params)).await.ok()?;
    latest(&events.items)
}

fn latest(events: &[Event]) -> Option<News> {
    let text = |event: &Event| {
        let message = event.message.clone().unwrap_or_default();
        (event.reason.clone().unwrap_or_default(), message.trim().to_owned())
    };
    let warning = |event: &&Event| event.type_.as_deref() == Some("Warning");
    // `Error: ErrImagePull` follows the event that says why.
    let why = |(_, message): &(String, String)| !message.starts_with("Error: ");
    if let Some((reason, message)) = events.iter().filter(warning).map(text).find(why) {
        return Some(News::Failed { reason, message });
    }
    let pulling = |event: &&Event| event.reason.as_deref() == Some("Pulling");
    events.iter().filter(pulling).map(text).next_back().map(|(_, message)| News::Progress(message))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn news(events: &[(&str, &str, &str)]) -> Option<News> {
        let events: Vec<Event> = events
            .iter()
            .map(|(type_, reason, message)| {
                let event = json!({
                    "metadata": {}, "involvedObject": {},
                    "type": type_, "reason": reason, "message": message,
                });
                serde_json::from_value(event).unwrap()
            })
            .collect();
        latest(&events)
    }

    #[test]
    fn prefers_the_reason_for_a_failure_to_its_name() {
        assert_eq!(news(&[]), None);
        let pulling = ("Normal", "Pulling", "Pulling image \"x\"");
        assert_eq!(news(&[pulling]), Some(News::Progress("Pulling image \"x\"".into())));
        let name = ("Warning", "Failed", "Error: ErrImagePull");
        let why = ("Warning", "Failed", "Failed to pull image \"x\": not found");
        let failed = News::Failed {
            reason: "Failed".into(),
            message: "Failed to pull image \"x\": not found".into(),
        };
        assert_eq!(news(&[pulling, name, why]), Some(failed));
        assert_eq!(news(&[name]), None);
        assert_eq!(news(&[("Normal", "Created", "Created container: x")]), None);
    }
}
