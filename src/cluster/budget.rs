//! PodDisruptionBudgets, for what takes pods out of service and is no eviction: containers that end.

use std::collections::BTreeMap;

use futures::future::join_all;
use k8s_openapi::api::{core::v1::Pod, policy::v1::PodDisruptionBudget};
use kube::{
    Api, ResourceExt as _,
    api::ListParams,
    core::{Selector, SelectorExt as _},
};

use super::{Chosen, Cluster, Scope, api_error, client::in_time};
use crate::exit::{Error, Exit};

/// Refuses when a budget does not allow that the containers of these pods end at the same time, as the API server
/// would refuse to evict them. Pods that are not ready are out of service already. Budgets that cannot be read
/// are said.
pub async fn check_budgets(pods: &[Chosen], say: &mut dyn FnMut(&str)) -> Result<(), Error> {
    let mut by_scope: BTreeMap<&Scope, (&Cluster, Vec<&Pod>)> = BTreeMap::new();
    for one in pods.iter().filter(|one| is_ready(&one.pod)) {
        let of_it = by_scope.entry(one.cluster.scope()).or_insert((&one.cluster, Vec::new()));
        of_it.1.push(&one.pod);
    }
    let looks = by_scope.into_iter().map(|(scope, (cluster, pods))| async move {
        let api: Api<PodDisruptionBudget> = Api::namespaced(cluster.client(), cluster.namespace());
        (scope, pods, in_time(api.list(&ListParams::default())).await)
    });
    let mut refused = Vec::new();
    for (scope, pods, budgets) in join_all(looks).await {
        match budgets {
            Ok(list) => refused.extend(list.items.iter().filter_map(|budget| {
                let (hit, allowed) = exceeded(budget, &pods)?;
                let name = budget.name_any();
                Some(format!(
                    "poddisruptionbudget/{name} in namespace {scope} allows {allowed} of its pods to go out of service, not {hit}"
                ))
            })),
            Err(error) => {
                let why = api_error(&error).messages.join("; ");
                say(&format!(
                    "warning: whether budgets of namespace {scope} allow it is not known: {why}"
                ));
            }
        }
    }
    if refused.is_empty() {
        return Ok(());
    }
    let hint =
        "`kubectl get poddisruptionbudgets` shows what has to stay; --force asks none of them";
    Err(Error { exit: Exit::Refused, messages: refused, hint: Some(hint.to_owned()) })
}

/// How many of these would be out of service by it, and how many may, when that is too many. As for an eviction,
/// none may while its controller has not come to what it says now.
fn exceeded(budget: &PodDisruptionBudget, pods: &[&Pod]) -> Option<(usize, usize)> {
    // None is no pod, and an empty one all of them.
    let selector = budget.spec.as_ref()?.selector.clone()?;
    let selector = Selector::try_from(selector).ok()?;
    let hit = pods.iter().filter(|pod| selector.matches(pod.labels())).count();
    let known = budget
        .status
        .as_ref()
        .filter(|status| status.observed_generation >= budget.metadata.generation);
    let allowed =
        known.and_then(|status| usize::try_from(status.disruptions_allowed).ok()).unwrap_or(0);
    (hit > allowed).then_some((hit, allowed))
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn budget(selector: &Value, generation: i64, allowed: i32) -> PodDisruptionBudget {
        from_value(json!({
            "metadata": { "name": "db", "generation": generation },
            "spec": { "selector": selector },
            "status": {
                "observedGeneration": 2, "disruptionsAllowed": allowed,
                "currentHealthy": 3, "desiredHealthy": 2, "expectedPods": 3,
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_budget_is_of_the_pods_that_it_selects() {
        let pod =
            |app: &str| from_value::<Pod>(json!({"metadata": {"labels": {"app": app}}})).unwrap();
        let (db, web) = (pod("db"), pod("web"));
        let pods = [&db, &db, &web];
        let of_db = json!({ "matchLabels": { "app": "db" } });
        let either = json!({ "matchExpressions": [
            { "key": "app", "operator": "In", "values": ["db", "web"] }] });
        for (selector, generation, allowed, hit) in [
            (&of_db, 2, 2, None),
            (&of_db, 2, 1, Some((2, 1))),
            (&either, 2, 2, Some((3, 2))),
            (&json!({}), 2, 3, None),
            (&json!({}), 2, 2, Some((3, 2))),
            (&Value::Null, 2, 0, None),
            // It has been changed since.
            (&of_db, 3, 2, Some((2, 0))),
        ] {
            let found = exceeded(&budget(selector, generation, allowed), &pods);
            assert_eq!(found, hit, "{selector} {generation} {allowed}");
        }
    }

    #[test]
    fn who_is_not_ready_is_out_of_service_already() {
        let pod = |status: &str| {
            from_value::<Pod>(json!({ "metadata": {}, "status": { "conditions": [
            { "type": "Initialized", "status": "True" }, { "type": "Ready", "status": status }] } }))
        };
        assert!(is_ready(&pod("True").unwrap()) && !is_ready(&pod("False").unwrap()));
        assert!(!is_ready(&Pod::default()));
    }
}
