//! The connection to a cluster.

use std::{
    fmt,
    future::Future,
    path::Path,
    sync::{Arc, OnceLock},
    time::{Duration, UNIX_EPOCH},
};

use futures::future::try_join_all;
use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use k8s_openapi::{ByteString, api::core::v1::Pod};
use kube::{
    Api, Client, Config,
    api::ListParams,
    client::{Body, ClientBuilder},
    config::{AuthInfo, KubeConfigOptions, Kubeconfig},
};
use tokio::sync::OnceCell;
use tower::{buffer::BufferLayer, limit::ConcurrencyLimitLayer, retry::RetryLayer};

use super::{api_error, error::login_error, retry::ReadAgain, told::Telling};
use crate::{
    cli::ConnectionArgs,
    exit::{Error, Exit},
    plan::{Namespace, PodName},
};

/// How long one request may take before the API server counts as gone, when nobody says.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// What somebody has said, for this process; zero is for ever.
static ASKED_TIMEOUT: OnceLock<Duration> = OnceLock::new();
/// How many requests may be on their way before the next one waits.
const REQUESTS_AT_ONCE: usize = 64;
/// So many pods may be looked at as often as one.
const CROWD: u32 = 32;
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests that may wait for their turn.
const REQUESTS_QUEUED: usize = 1024;

/// Where pods are, among all that a command works on: `demo`, or `west/demo` where there are several contexts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope {
    /// The context that leads there; `None` when there are no others.
    pub context: Option<Arc<str>>,
    /// The namespace.
    pub namespace: String,
}

impl Scope {
    /// An error with the context that it comes from, where there are others.
    #[must_use]
    pub fn tell(&self, mut error: Error) -> Error {
        let Some(context) = &self.context else { return error };
        let from = format!(" (context {context})");
        for message in error.messages.iter_mut().filter(|message| !message.ends_with(&from)) {
            message.push_str(&from);
        }
        error
    }

    /// `pod/web`, and where there are several contexts, in which.
    pub fn title(&self, pod: &PodName) -> String {
        let place = self.context.as_ref().map_or_else(String::new, |_| format!("{self}: "));
        format!("{place}pod/{pod}")
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.context {
            Some(context) => write!(out, "{context}/{}", self.namespace),
            None => out.write_str(&self.namespace),
        }
    }
}

/// A cluster, seen through one namespace.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    scope: Scope,
    /// The context, when it was named.
    context: Option<Arc<str>>,
    /// Whether the namespace was named, and is not the kubeconfig's.
    named: bool,
    /// Who the API server takes the user for, once that was asked.
    pub(super) user: Arc<OnceCell<String>>,
    /// How many pods are worked on at the same time.
    crowd: u32,
    /// Whether the user is known to be allowed what a fault needs, in the whole namespace.
    pub(super) granted: bool,
}

impl Cluster {
    /// Connects as kubectl would: to each context that is named, else to the kubeconfig's current one, else by the
    /// service account of the pod that this runs in.
    pub async fn connect(
        args: &ConnectionArgs,
        namespace: Option<&Namespace>,
    ) -> Result<Vec<Self>, Error> {
        if args.impersonate.is_none() {
            // They may stand on either side of the command, of which clap knows one at a time.
            let more = [
                ("--as-group", !args.impersonate_groups.is_empty()),
                ("--as-uid", args.impersonate_uid.is_some()),
            ];
            if let Some((flag, _)) = more.into_iter().find(|(_, given)| *given) {
                let message = format_args!("{flag} says more of who --as names, which is missing");
                return Err(Error::new(Exit::Usage, message));
            }
        }
        let mut contexts: Vec<_> = Vec::new();
        for context in &args.contexts {
            if !contexts.contains(&Some(context.as_str())) {
                contexts.push(Some(context.as_str()));
            }
        }
        if contexts.len() > 1 {
            check_fits_several(args)?;
        }
        if contexts.is_empty() {
            contexts.push(None);
        }
        let several = contexts.len() > 1;
        let connect = |context| Self::connect_to(context, several, args, namespace);
        try_join_all(contexts.into_iter().map(connect)).await
    }

    async fn connect_to(
        context: Option<&str>,
        several: bool,
        args: &ConnectionArgs,
        namespace: Option<&Namespace>,
    ) -> Result<Self, Error> {
        let mut scope =
            Scope { context: context.filter(|_| several).map(Arc::from), namespace: String::new() };
        let mut config = config(context, args).await.map_err(|error| scope.tell(error))?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        // Retrying is decided where it is known what a second try would do.
        config.default_retry = false;
        // The first one that is connected to; there is one command line.
        let _ = ASKED_TIMEOUT.set(args.request_timeout.duration());
        if let Some(user) = &args.impersonate {
            config.auth_info.impersonate = Some(user.clone());
            config.auth_info.impersonate_groups =
                (!args.impersonate_groups.is_empty()).then(|| args.impersonate_groups.clone());
            config.auth_info.impersonate_uid.clone_from(&args.impersonate_uid);
        }
        let named = namespace.is_some();
        scope.namespace =
            namespace.map_or_else(|| config.default_namespace.clone(), ToString::to_string);
        // kube does not say which program it could not run.
        let login = config.auth_info.exec.clone();
        let service = ClientBuilder::try_from(config)
            .map_err(|error| scope.tell(login_error(&error, login.as_ref())))?;
        let service = service.with_layer(&Telling::at(args.v));
        let service = service.with_layer(&ConcurrencyLimitLayer::new(REQUESTS_AT_ONCE));
        // The service itself cannot be cloned, which trying again takes.
        let shared = BufferLayer::new(REQUESTS_QUEUED);
        let client = service.with_layer(&shared).with_layer(&RetryLayer::new(ReadAgain::default()));
        let client = client.build();
        let context = context.map(Arc::from);
        Ok(Self { client, scope, context, named, user: Arc::default(), crowd: 1, granted: false })
    }

    /// The same cluster, seen through another namespace.
    #[must_use]
    pub fn within(&self, namespace: &str) -> Self {
        let scope = Scope { namespace: namespace.to_owned(), ..self.scope.clone() };
        Self { scope, named: true, granted: false, ..self.clone() }
    }

    /// The same cluster, when so many pods are worked on at the same time: looks at each of them are rarer.
    #[must_use]
    pub fn crowded(&self, pods: usize) -> Self {
        Self { crowd: u32::try_from(pods).unwrap_or(u32::MAX), ..self.clone() }
    }

    /// The time between two looks at one pod, of which `alone` is that when there are no others.
    pub(super) fn pace(&self, alone: Duration) -> Duration {
        alone * self.crowd.div_ceil(CROWD)
    }

    /// The namespace that pods are looked for in.
    pub fn namespace(&self) -> &str {
        &self.scope.namespace
    }

    /// Where that is, among all that this command works on.
    pub const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The flags that name this pod in another invocation, for hints: `--context west -n demo -p nginx`.
    pub fn flags(&self, pod: &PodName) -> String {
        let context = self.context.as_ref().map(|context| format!("--context {context} "));
        let namespace = self.named.then(|| format!("-n {} ", self.scope.namespace));
        format!("{}{}-p {pod}", context.unwrap_or_default(), namespace.unwrap_or_default())
    }

    /// The client itself.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The pods of the namespace.
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.scope.namespace)
    }

    /// The pods of all namespaces.
    pub fn pods_everywhere(&self) -> Api<Pod> {
        Api::all(self.client.clone())
    }

    /// One pod.
    pub async fn pod(&self, name: &PodName) -> Result<Pod, Error> {
        in_time(self.pods().get(name.as_str())).await.map_err(|error| match &error {
            kube::Error::Api(status) if status.is_not_found() => api_error(&error).hint(format!(
                "`kubectl get pods -n {}` lists the pods of this namespace; -n names another one",
                self.scope.namespace
            )),
            _ => api_error(&error),
        })
    }

    /// The API server's clock, in seconds since 1970, rounded down; `None` when it does not say.
    pub async fn clock(&self) -> Option<u64> {
        let request = http::Request::get("/version").body(Body::empty()).ok()?;
        let response = in_time(self.client.send(request)).await.ok()?;
        let date = response.headers().get(http::header::DATE)?.to_str().ok()?;
        let date = httpdate::parse_http_date(date).ok()?;
        Some(date.duration_since(UNIX_EPOCH).ok()?.as_secs())
    }

    /// All pods of the namespace.
    pub async fn all_pods(&self) -> Result<Vec<Pod>, Error> {
        let pods = self.pods();
        let list = in_time(pods.list(&ListParams::default())).await;
        Ok(list.map_err(|error| api_error(&error))?.items)
    }
}

/// Bounds a request in time: a dead API server is an error, not a wait.
pub(super) async fn in_time<T>(request: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    let late = |why: String| Err(kube::Error::Service(why.into()));
    patiently(Duration::ZERO, request).await.unwrap_or_else(late)
}

/// Waits no longer for an answer than a request may take, counted from when it is `due`; else says so.
pub(super) async fn patiently<T>(
    due: Duration,
    answer: impl Future<Output = T>,
) -> Result<T, String> {
    let longest = ASKED_TIMEOUT.get().copied().unwrap_or(REQUEST_TIMEOUT);
    if longest.is_zero() {
        return Ok(answer.await);
    }
    let late = |_| format!("no answer within {} s", (due + longest).as_secs_f64());
    tokio::time::timeout(due + longest, answer).await.map_err(late)
}

/// Refuses flags that say where one cluster is, or give a secret to it, where there are several.
fn check_fits_several(args: &ConnectionArgs) -> Result<(), Error> {
    let of_one = [
        ("--cluster", args.cluster.is_some()),
        ("--server", args.server.is_some()),
        ("--token", args.token.is_some()),
        ("--certificate-authority", args.certificate_authority.is_some()),
        ("--tls-server-name", args.tls_server_name.is_some()),
    ];
    match of_one.into_iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(Error::new(
            Exit::Usage,
            format_args!("{flag} is about one cluster, and several contexts are named"),
        )
        .hint("each context of a kubeconfig may say it for its own")),
        None => Ok(()),
    }
}

/// As the kubeconfig says, and over it the flags.
async fn config(context: Option<&str>, args: &ConnectionArgs) -> Result<Config, Error> {
    let mut config = match (from_file(context, args).await, &args.server) {
        // An address is enough, as it is for kubectl.
        (Err(_), Some(server)) if args.kubeconfig.is_none() => Config::new(server.clone()),
        (config, _) => config?,
    };
    if let Some(server) = &args.server {
        config.cluster_url = server.clone();
    }
    if let Some(token) = &args.token {
        config.auth_info = AuthInfo { token: Some(token.clone().into()), ..AuthInfo::default() };
    }
    if let Some(path) = &args.certificate_authority {
        config.root_cert = Some(certificates(path)?);
    }
    if args.tls_server_name.is_some() {
        config.tls_server_name.clone_from(&args.tls_server_name);
    }
    config.accept_invalid_certs |= args.insecure_skip_tls_verify;
    // What the kubeconfig says of a proxy holds. kube asks NO_PROXY about the proxy, and not about the server, and heeds
    // the environment for those of a kubeconfig only.
    let environment = proxy_of_environment();
    if config.proxy_url.is_none() || config.proxy_url == environment {
        let wanted = Matcher::from_env().intercept(&config.cluster_url).is_some();
        config.proxy_url = environment.filter(|_| wanted);
    }
    match &config.proxy_url {
        Some(proxy) if is_locked_socks(proxy) => {
            let host = proxy.host().unwrap_or_default();
            Err(Error::new(
                Exit::Failed,
                format_args!(
                    "the proxy {host} wants a password, which can only be given to HTTP proxies"
                ),
            )
            .hint("take one that speaks HTTP, or SOCKS for who comes from here"))
        }
        _ => Ok(config),
    }
}

/// kube leaves a password out that a SOCKS proxy is to get.
fn is_locked_socks(proxy: &Uri) -> bool {
    proxy.scheme_str().is_some_and(|scheme| scheme.starts_with("socks"))
        && proxy.authority().is_some_and(|authority| authority.as_str().contains('@'))
}

/// The proxy for servers over TLS, as kubectl takes it from the environment.
fn proxy_of_environment() -> Option<Uri> {
    let named = ["HTTPS_PROXY", "https_proxy"].map(|name| std::env::var(name).ok());
    named.into_iter().flatten().find(|proxy| !proxy.is_empty())?.parse().ok()
}

/// The certificates of a file in PEM form (RFC 7468), as DER.
fn certificates(path: &Path) -> Result<Vec<Vec<u8>>, Error> {
    let bad = |error: &dyn std::fmt::Display| {
        Error::new(
            Exit::Failed,
            format_args!("reading certificates from {}: {error}", path.display()),
        )
    };
    let text = std::fs::read_to_string(path).map_err(|error| bad(&error))?;
    let blocks = text.split("-----BEGIN CERTIFICATE-----").skip(1);
    let blocks = blocks.filter_map(|rest| rest.split_once("-----END CERTIFICATE-----"));
    let decode = |(block, _): (&str, &str)| {
        let base64: String = block.split_ascii_whitespace().collect();
        // The type of Secrets' values decodes base64 by itself.
        serde_json::from_value::<ByteString>(base64.into()).map(|bytes| bytes.0)
    };
    let found: Result<Vec<_>, _> = blocks.map(decode).collect();
    match found {
        Ok(found) if found.is_empty() => Err(bad(&"there are none")),
        found => found.map_err(|error| bad(&error)),
    }
}

async fn from_file(context: Option<&str>, args: &ConnectionArgs) -> Result<Config, Error> {
    let options = KubeConfigOptions {
        context: context.map(str::to_owned),
        cluster: args.cluster.clone(),
        user: args.user.clone(),
    };
    let named = context.is_some() || args.cluster.is_some() || args.user.is_some();
    let no_config = |error: &dyn std::fmt::Display| {
        Error::new(Exit::Failed, format_args!("reading the kubeconfig: {error}"))
            .hint("--kubeconfig or KUBECONFIG names another file, --context another cluster")
    };
    let kubeconfig = match &args.kubeconfig {
        Some(path) => Kubeconfig::read_from(path).map_err(|error| no_config(&error))?,
        None if named => Kubeconfig::read().map_err(|error| no_config(&error))?,
        None => return Config::infer().await.map_err(|error| no_config(&error)),
    };
    Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| no_config(&error))
}
