//! Names that the cluster and the kubeconfig know.

use std::{fmt::Debug, path::PathBuf, time::Duration};

use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use kube::{
    Api, Resource,
    api::{DynamicObject, ListParams},
    config::Kubeconfig,
};
use serde::de::DeserializeOwned;

use super::words::Words;
use crate::{cli::ConnectionArgs, cluster::Cluster, plan::WorkloadKind};

/// Who waits for candidates does not wait long.
const PATIENCE: Duration = Duration::from_secs(3);

/// What names are of.
#[derive(Clone, Copy)]
pub(super) enum What {
    /// Pods of the namespace that run.
    Pods,
    /// The same, and what pods belong to, as `deploy/web`.
    Targets,
    /// Containers of the pod that is named before.
    Containers,
    /// Services of the namespace.
    Services,
    /// Namespaces of the cluster.
    Namespaces,
    /// Contexts of the kubeconfig.
    Contexts,
    /// Clusters of the kubeconfig.
    Clusters,
    /// Users of the kubeconfig.
    Users,
    /// These and no others.
    These(&'static [&'static str]),
}

/// Where to look, as the words before say.
#[derive(Clone)]
pub(super) struct Lookup {
    connection: ConnectionArgs,
    namespace: Option<String>,
    pod: Option<String>,
    /// What there is of the word that is completed.
    typed: String,
}

impl Lookup {
    pub(super) fn new(words: &Words) -> Self {
        let long = |flag| words.value(flag, None);
        Self {
            connection: ConnectionArgs {
                kubeconfig: long("kubeconfig").map(PathBuf::from),
                contexts: long("context").into_iter().collect(),
                cluster: long("cluster"),
                user: long("user"),
                impersonate: long("as"),
                impersonate_groups: long("as-group").into_iter().collect(),
                server: long("server").and_then(|url| url.parse().ok()),
                token: long("token"),
                certificate_authority: long("certificate-authority").map(PathBuf::from),
                tls_server_name: long("tls-server-name"),
                ..ConnectionArgs::default()
            },
            namespace: words.value("namespace", Some('n')),
            pod: words.value("pod", Some('p')),
            typed: words.typed(),
        }
    }

    /// The names of these; none when they cannot be had.
    pub(super) fn names(&self, what: What) -> Vec<String> {
        let names = match what {
            What::These(names) => Some(names.iter().map(|&name| name.to_owned()).collect()),
            What::Contexts => self.kubeconfig(|config| {
                config.contexts.into_iter().map(|context| context.name).collect()
            }),
            What::Clusters => self.kubeconfig(|config| {
                config.clusters.into_iter().map(|cluster| cluster.name).collect()
            }),
            What::Users => self
                .kubeconfig(|config| config.auth_infos.into_iter().map(|user| user.name).collect()),
            What::Pods | What::Targets | What::Containers | What::Services | What::Namespaces => {
                self.of_cluster(what)
            }
        };
        names.unwrap_or_default()
    }

    fn kubeconfig(&self, names: impl FnOnce(Kubeconfig) -> Vec<String>) -> Option<Vec<String>> {
        let config = match &self.connection.kubeconfig {
            Some(path) => Kubeconfig::read_from(path),
            None => Kubeconfig::read(),
        };
        config.ok().map(names)
    }

    fn of_cluster(&self, what: What) -> Option<Vec<String>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        let look = async { tokio::time::timeout(PATIENCE, self.look(what)).await.ok().flatten() };
        let names = runtime.block_on(look);
        runtime.shutdown_background();
        names
    }

    async fn look(&self, what: What) -> Option<Vec<String>> {
        let namespace = self.namespace.as_ref().map(|name| name.parse()).transpose().ok()?;
        let cluster = Cluster::connect(&self.connection, namespace.as_ref()).await.ok()?.pop()?;
        let all = ListParams::default();
        match what {
            What::Pods => pods(&cluster).await,
            What::Targets => match self.typed.split_once('/') {
                None => {
                    let kinds = WorkloadKind::short_names().map(|kind| format!("{kind}/"));
                    Some(pods(&cluster).await?.into_iter().chain(kinds).collect())
                }
                Some((kind, _)) => {
                    let resource = WorkloadKind::of_name(kind)?.resource();
                    let (client, space) = (cluster.client(), cluster.namespace());
                    let api: Api<DynamicObject> = Api::namespaced_with(client, space, &resource);
                    let found = names(api, &all).await?.into_iter();
                    Some(found.map(|name| format!("{kind}/{name}")).collect())
                }
            },
            What::Containers => containers(&cluster.pods().get(self.pod.as_ref()?).await.ok()?),
            What::Services => {
                let services: Api<Service> = Api::namespaced(cluster.client(), cluster.namespace());
                names(services, &all).await
            }
            What::Namespaces => names(Api::<Namespace>::all(cluster.client()), &all).await,
            _ => None,
        }
    }
}

async fn pods(cluster: &Cluster) -> Option<Vec<String>> {
    names(cluster.pods(), &ListParams::default().fields("status.phase=Running")).await
}

/// Their names and no more of them, which a server of many pods is thankful for.
async fn names<K>(api: Api<K>, which: &ListParams) -> Option<Vec<String>>
where
    K: Clone + DeserializeOwned + Debug + Resource,
{
    let list = api.list_metadata(which).await.ok()?;
    Some(list.items.into_iter().filter_map(|item| item.metadata.name).collect())
}

fn containers(pod: &Pod) -> Option<Vec<String>> {
    let containers = &pod.spec.as_ref()?.containers;
    Some(containers.iter().map(|container| container.name.clone()).collect())
}
