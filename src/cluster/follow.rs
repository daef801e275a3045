//! Targets that the API knows: what they are now, and each time that changes.

use std::{collections::BTreeMap, future::ready, pin::Pin};

use futures::{
    Stream, StreamExt as _,
    channel::mpsc::unbounded,
    future::join_all,
    stream::{BoxStream, SelectAll, once, select_all},
};
use k8s_openapi::api::{
    core::v1::{Node, Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Resource, ResourceExt as _,
    api::ListParams,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use pod_chaos_protocol::{Endpoint, Traffic};
use serde::de::DeserializeOwned;

use super::{
    Cluster, api_error,
    client::in_time,
    peers::{self, of_pods, of_service},
    preflight::check_may_follow,
};
use crate::{
    exit::{Error, Exit},
    plan::{Followed, FollowedKind, Namespace, ServicePortName},
};

/// What a target stands for, each time that changes; or why nobody knows.
type Changes = BoxStream<'static, Result<Vec<Endpoint>, Error>>;

/// Watches for targets until it is dropped.
pub struct Following(SelectAll<BoxStream<'static, Change>>);

/// News of a target.
#[derive(Clone)]
pub struct Change {
    /// Its name in the plan.
    pub target: String,
    /// All of its endpoints; or why they are not known.
    pub endpoints: Result<Vec<Endpoint>, Error>,
}

impl Following {
    /// Has no targets.
    pub fn nothing() -> Self {
        Self(SelectAll::new())
    }

    /// Finds out what the targets stand for, and tells the traffic. What stands for nothing is refused; all that
    /// is in the way is said at once.
    pub async fn start(
        cluster: &Cluster,
        followed: &[Followed],
        traffic: &mut Traffic,
        say: &mut dyn FnMut(&str),
    ) -> Result<Self, Error> {
        let mut all = SelectAll::new();
        if followed.is_empty() {
            return Ok(Self(all));
        }
        check_may_follow(cluster, followed).await?;
        let looks = join_all(followed.iter().map(|target| look(cluster, target))).await;
        let mut refused: Option<Error> = None;
        for (target, look) in followed.iter().zip(looks) {
            let name = target.to_string();
            match look {
                Ok((endpoints, changes, warning)) => {
                    if let Some(warning) = warning {
                        say(&warning);
                    }
                    for one in traffic.targets_mut().filter(|one| one.is_open() && one.name == name)
                    {
                        one.endpoints.clone_from(&endpoints);
                    }
                    let change = move |endpoints| Change { target: name.clone(), endpoints };
                    all.push(changes.map(change).boxed());
                }
                Err(error) => match &mut refused {
                    Some(first) => first.messages.extend(error.messages),
                    None => refused = Some(error),
                },
            }
        }
        refused.map_or(Ok(Self(all)), Err)
    }

    /// As many of it as are wanted, each with all of the changes.
    pub fn split(self, count: usize) -> Vec<Self> {
        if count <= 1 || self.0.is_empty() {
            let nothing = std::iter::repeat_with(Self::nothing);
            return std::iter::once(self).chain(nothing).take(count.max(1)).collect();
        }
        let (tell, told): (Vec<_>, Vec<_>) = (0..count).map(|_| unbounded()).unzip();
        let mut all = self.0;
        tokio::spawn(async move {
            // It goes on while anybody listens.
            while let Some(change) = all.next().await {
                let heard = tell.iter().filter(|one| one.unbounded_send(change.clone()).is_ok());
                if heard.count() == 0 {
                    return;
                }
            }
        });
        told.into_iter().map(|one| Self(std::iter::once(one.boxed()).collect())).collect()
    }

    /// The next change; never, when nothing is followed.
    pub async fn next(&mut self) -> Change {
        match self.0.next().await {
            Some(change) => change,
            None => std::future::pending().await,
        }
    }
}

/// What a target stands for now, how that goes on, and what had better be known of it.
async fn look(
    cluster: &Cluster,
    target: &Followed,
) -> Result<(Vec<Endpoint>, Changes, Option<String>), Error> {
    let namespace = target.namespace.as_ref().map_or(cluster.namespace(), Namespace::as_str);
    let (changes, warning) = match &target.kind {
        FollowedKind::Pods(labels) => {
            let pods = Api::<Pod>::namespaced(cluster.client(), namespace);
            let config = watcher::Config::default().labels(labels.as_str());
            let changes = objects(pods, config).map(|pods| pods.map(|pods| of_pods(&pods)));
            (changes.boxed(), None)
        }
        FollowedKind::Service(wanted) => {
            let services = Api::<Service>::namespaced(cluster.client(), namespace);
            let service = in_time(services.get(&wanted.name)).await.map_err(|error| {
                let hint = format!("`kubectl get services -n {namespace}` lists them");
                match &error {
                    kube::Error::Api(status) if status.is_not_found() => {
                        api_error(&error).hint(hint)
                    }
                    _ => api_error(&error),
                }
            })?;
            peers::check_service(&service, wanted.port.as_ref())
                .map_err(|why| Error::refused(format_args!("service {} {why}", wanted.name)))?;
            let (nodes, warning) = nodes_of(cluster, &service).await;
            let warning = warning.map(|why| format!("warning: {wanted}: {why}"));
            let one = watcher::Config::default().fields(&format!("metadata.name={}", wanted.name));
            let label = format!("kubernetes.io/service-name={}", wanted.name);
            let slices = Api::<EndpointSlice>::namespaced(cluster.client(), namespace);
            let parts = [
                objects(services, one).map(|found| found.map(Part::Service)).boxed(),
                objects(slices, watcher::Config::default().labels(&label))
                    .map(|found| found.map(Part::Slices))
                    .boxed(),
                nodes.map(|found| Ok(Part::Nodes(found))).boxed(),
            ];
            (together(select_all(parts), wanted.port.clone()).boxed(), warning)
        }
    };
    let mut changes = news(changes);
    let first =
        in_time(async { Ok(changes.next().await) }).await.map_err(|error| api_error(&error))?;
    let endpoints = first.unwrap_or_else(|| Ok(Vec::new()))?;
    if !endpoints.is_empty() {
        return Ok((endpoints, changes, warning));
    }
    let (message, hint) = match &target.kind {
        FollowedKind::Pods(labels) => (
            format!("no pod with {} has an address of its own", labels.as_str()),
            format!(
                "`kubectl get pods -n {namespace} -l '{}' -o wide` lists them",
                labels.as_str()
            ),
        ),
        FollowedKind::Service(service) => (
            format!("{service} has no address, and nothing behind it"),
            format!("`kubectl get endpointslices -n {namespace}` lists what is behind services"),
        ),
    };
    let message = format!("{message} in namespace {namespace}: nothing would be hit");
    Err(Error::new(Exit::Refused, message).hint(hint))
}

/// Without what says the same as before: most that changes about an object is not where it is met.
fn news(changes: Changes) -> Changes {
    let mut last = None;
    let is_news = move |change: &Result<Vec<Endpoint>, Error>| {
        let Ok(endpoints) = change else { return ready(true) };
        let before = last.replace(endpoints.clone());
        ready(before != last)
    };
    changes.filter(is_news).boxed()
}

/// The nodes, where the Service has ports of theirs, and each time they have changed. Who may not list nodes is
/// told what is left out; for who may not watch them they stay what they were.
async fn nodes_of(
    cluster: &Cluster,
    service: &Service,
) -> (BoxStream<'static, Vec<Node>>, Option<String>) {
    if !peers::has_node_ports(service) {
        return (once(ready(Vec::new())).boxed(), None);
    }
    let nodes = Api::<Node>::all(cluster.client());
    match in_time(nodes.list(&ListParams::default())).await {
        Ok(list) => {
            let changes = objects(nodes, watcher::Config::default());
            let changes = changes.filter_map(|found| ready(found.ok()));
            (once(ready(list.items)).chain(changes).boxed(), None)
        }
        Err(error) => {
            let why = api_error(&error).messages.join("; ");
            let warning = format!("its ports on the nodes are not hit: {why}");
            (once(ready(Vec::new())).boxed(), Some(warning))
        }
    }
}

enum Part {
    Service(Vec<Service>),
    Slices(Vec<EndpointSlice>),
    Nodes(Vec<Node>),
}

/// Where a Service can be met each time a part of it has changed, as soon as all parts are known.
fn together(
    parts: impl Stream<Item = Result<Part, Error>> + Send + 'static,
    port: Option<ServicePortName>,
) -> impl Stream<Item = Result<Vec<Endpoint>, Error>> + Send {
    let (mut service, mut slices, mut nodes) = (None, None, None);
    parts.filter_map(move |part| {
        match part {
            Err(error) => return ready(Some(Err(error))),
            Ok(Part::Service(found)) => service = Some(found),
            Ok(Part::Slices(found)) => slices = Some(found),
            Ok(Part::Nodes(found)) => nodes = Some(found),
        }
        let all = service.as_ref().zip(slices.as_ref()).zip(nodes.as_ref());
        ready(all.map(|((service, slices), nodes)| {
            Ok(of_service(service.first(), slices, nodes, port.as_ref()))
        }))
    })
}

/// All objects that match, at first and each time one of them has changed. After an error it goes on by itself.
fn objects<K>(
    api: Api<K>,
    config: watcher::Config,
) -> Pin<Box<dyn Stream<Item = Result<Vec<K>, Error>> + Send>>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let (mut held, mut listed) = (BTreeMap::new(), BTreeMap::new());
    let changes = watcher(api, config).default_backoff().filter_map(move |event| {
        let complete = match event {
            Err(error) => return ready(Some(Err(watch_error(error)))),
            Ok(Event::Init) => {
                listed = BTreeMap::new();
                false
            }
            Ok(Event::InitApply(object)) => {
                listed.insert(object.name_any(), object);
                false
            }
            Ok(Event::InitDone) => {
                held = std::mem::take(&mut listed);
                true
            }
            Ok(Event::Apply(object)) => {
                held.insert(object.name_any(), object);
                true
            }
            Ok(Event::Delete(object)) => held.remove(&object.name_any()).is_some(),
        };
        ready(complete.then(|| Ok(held.values().cloned().collect())))
    });
    changes.boxed()
}

fn watch_error(error: watcher::Error) -> Error {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => api_error(&error),
        watcher::Error::WatchError(status) => api_error(&kube::Error::Api(status)),
        error @ watcher::Error::NoResourceVersion => Error::new(Exit::Failed, error),
    }
}
