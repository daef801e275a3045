//! An API server that plays one scenario: a pod, permissions, an answer to each PATCH, and an agent
//! behind `pods/exec` that says what the scenario tells it to.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use futures::{SinkExt as _, StreamExt as _, stream};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Frame, Incoming},
    header,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use pod_chaos_protocol as protocol;
use serde_json::{Value, json};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, handshake::derive_accept_key, protocol::Role},
};

#[path = "tls.rs"]
pub mod tls;

use tls::{Stream, TlsAcceptor};

/// A line from an agent, sent after that many milliseconds; `None` ends the stream.
pub type Line = (u64, Option<protocol::Event>);

/// What becomes of what an agent says on its way out.
pub type Accent = fn(Value) -> Value;

/// What an agent answers to a request.
pub type Says = fn(&protocol::Request) -> Vec<Line>;

/// What an agent does when it is run.
#[derive(Clone)]
pub enum Agent {
    /// No process can be started in that container, in the kubelet's words.
    NotThere(String),
    /// It says hello, then answers each request with what the function gives.
    Says(Says),
}

/// How the scenario's API server behaves.
pub struct Scenario {
    /// The pod called `web`, or none.
    pub pod: Option<Value>,
    /// Other pods.
    pub more_pods: Vec<Value>,
    /// What the user may not do, as `patch pods/ephemeralcontainers`.
    pub forbidden: Vec<&'static str>,
    /// An answer to the dry run, status code and body, in place of the patched pod.
    pub admission: Option<(u16, Value)>,
    /// What else there is, by resource: `pods` that are asked for by labels, `services`, `endpointslices`, `nodes`,
    /// `namespaces`.
    pub objects: Vec<(&'static str, Value)>,
    /// What becomes of it while it is watched: after so many milliseconds, which resource, how, and what.
    pub changes: Vec<(u64, &'static str, &'static str, Value)>,
    /// The status that a new agent's container gets; `None` is none yet.
    pub new_agent_status: Option<Value>,
    /// The Events of a new agent's container.
    pub events: Vec<Value>,
    /// The agent in containers that run.
    pub agent: Agent,
    /// The protocol that it says it speaks.
    pub agent_protocol: u16,
    /// How it says what it says, if it is of another version.
    pub agent_accent: Accent,
    /// Whether the container's user may not start the agent's own file there.
    pub foreign_user: bool,
    /// Whether the server forgets the container it was given.
    pub drops_containers: bool,
    /// An answer to what is not a dry run, in place of the patched pod.
    pub patch_error: Option<(u16, Value)>,
    /// What a shell in a container says first: what the node is, or why it cannot go on.
    pub shell: &'static str,
    /// How long a new agent takes until it can be reached.
    pub starts_in: Duration,
    /// How many writes that name the version of a pod come too late.
    pub conflicts: usize,
    /// Whether answers say when they were given.
    pub has_clock: bool,
    /// How many requests with this method are cut off before they are answered.
    pub cuts: (Method, usize),
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            pod: Some(pod(&json!({}))),
            more_pods: Vec::new(),
            forbidden: Vec::new(),
            admission: None,
            objects: Vec::new(),
            changes: Vec::new(),
            new_agent_status: Some(json!({"running": {}})),
            events: Vec::new(),
            agent: Agent::Says(|_| Vec::new()),
            agent_protocol: protocol::PROTOCOL,
            agent_accent: |line| line,
            foreign_user: false,
            drops_containers: false,
            patch_error: None,
            shell: "x86_64",
            starts_in: Duration::ZERO,
            conflicts: 0,
            has_clock: true,
            cuts: (Method::GET, 0),
        }
    }
}

/// A running pod called `web` with `change` merged into it.
pub fn pod(change: &Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"containers": [{"name": "web", "image": "web"}]},
        "status": {"phase": "Running", "hostIP": "192.168.7.1",
                   "hostIPs": [{"ip": "192.168.7.1"}, {"ip": "fd07::1"}]},
    });
    merge(&mut pod, change);
    pod
}

/// The same with an agent whose container is in that state.
pub fn pod_with_agent(state: &Value) -> Value {
    pod(&json!({
        "spec": {"ephemeralContainers": [{"name": "pod-chaos-net-aaaaa", "image": "x"}]},
        "status": {"ephemeralContainerStatuses": [container_status("pod-chaos-net-aaaaa", state)]},
    }))
}

fn container_status(name: &str, state: &Value) -> Value {
    json!({"name": name, "state": state, "ready": false, "restartCount": 0, "image": "", "imageID": ""})
}

fn merge(into: &mut Value, change: &Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change.clone(),
    }
}

/// A refusal as the API server words it.
pub fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
           "reason": reason, "message": message})
}

/// A running server; it ends with the test.
pub struct FakeApi {
    /// A kubeconfig that leads to it.
    pub kubeconfig: PathBuf,
    state: Arc<Mutex<State>>,
    _folder: tempfile::TempDir,
}

struct State {
    scenario: Scenario,
    /// `METHOD path?query` of all requests so far.
    requests: Vec<String>,
    /// In whose name requests were made: `authorization` and `impersonate-…`, as `KEY: VALUE`.
    names: BTreeSet<String>,
    /// What was asked for leave, as `list endpointslices.discovery.k8s.io`.
    asked: BTreeSet<String>,
    /// Containers that were really added.
    added: Vec<Value>,
    /// When the last of them was.
    added_at: Option<Instant>,
    /// Requests that reached an agent.
    agent_heard: Vec<protocol::Request>,
    /// Events and annotations, as they came.
    left: Vec<Value>,
    /// What happened at agents, in order: of which pod, and `hello` or the request.
    agent_log: Vec<(String, String)>,
    /// Jobs, accounts, roles and bindings that were made.
    made: Vec<Value>,
    /// Files that shells have taken.
    delivered: Vec<Vec<u8>>,
}

impl State {
    /// The pod that is meant by such a path: `…/namespaces/NAMESPACE/pods/NAME/…`.
    fn pod(&mut self, path: &str) -> Option<&mut Value> {
        let mut parts = path.split('/').skip_while(|part| *part != "namespaces").skip(1);
        let namespace = parts.next()?;
        let name = parts.nth(1)?;
        let Scenario { pod, more_pods, .. } = &mut self.scenario;
        pod.iter_mut()
            .chain(more_pods)
            .find(|it| it["metadata"]["name"] == name && it["metadata"]["namespace"] == namespace)
    }

    /// The pods of a namespace or of all, with labels that are equal to these, from `continue` on.
    fn list(&self, uri: &hyper::Uri) -> Value {
        let namespace = uri.path().split('/').skip_while(|part| *part != "namespaces").nth(1);
        let query = |key: &str| {
            let pairs = uri.query().unwrap_or_default().split('&');
            let mut values = pairs.filter_map(|pair| pair.split_once('='));
            values.find(|(name, _)| *name == key).map(|(_, value)| value.replace("%3D", "="))
        };
        let labels = query("labelSelector").unwrap_or_default();
        let labels: Vec<_> = labels.split("%2C").filter_map(|term| term.split_once('=')).collect();
        let fits = |it: &&Value| {
            namespace.is_none_or(|namespace| it["metadata"]["namespace"] == namespace)
                && labels.iter().all(|(key, value)| it["metadata"]["labels"][key] == *value)
        };
        let Scenario { pod, more_pods, .. } = &self.scenario;
        let number = |key| query(key).and_then(|it| it.parse::<usize>().ok());
        let (from, limit) =
            (number("continue").unwrap_or(0), number("limit").unwrap_or(usize::MAX));
        let all: Vec<_> = pod.iter().chain(more_pods).filter(fits).collect();
        let items: Vec<_> = all.iter().skip(from).take(limit).collect();
        let next = (from + items.len() < all.len()).then(|| (from + items.len()).to_string());
        json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"continue": next.unwrap_or_default()},
               "items": items})
    }
}

impl FakeApi {
    /// Serves that scenario on loopback.
    pub fn serve(scenario: Scenario) -> Self {
        Self::serve_by(scenario, None)
    }

    /// The same over TLS.
    pub fn serve_tls(scenario: Scenario) -> Self {
        Self::serve_by(scenario, Some(tls::acceptor()))
    }

    fn serve_by(scenario: Scenario, acceptor: Option<TlsAcceptor>) -> Self {
        let is_tls = acceptor.is_some();
        let has_clock = scenario.has_clock;
        let state = Arc::new(Mutex::new(State {
            scenario,
            requests: Vec::new(),
            names: BTreeSet::new(),
            asked: BTreeSet::new(),
            added: Vec::new(),
            added_at: None,
            agent_heard: Vec::new(),
            left: Vec::new(),
            agent_log: Vec::new(),
            made: Vec::new(),
            delivered: Vec::new(),
        }));
        let (tell, told) = mpsc::channel();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    let (shared, acceptor) = (Arc::clone(&shared), acceptor.clone());
                    tokio::spawn(async move {
                        let stream = match acceptor {
                            None => Stream::Plain(stream),
                            Some(acceptor) => match acceptor.accept(stream).await {
                                Ok(stream) => Stream::Tls(Box::new(stream)),
                                // Who does not trust it hangs up.
                                Err(_) => return,
                            },
                        };
                        let service =
                            service_fn(move |request| answer(Arc::clone(&shared), request));
                        let _ = hyper::server::conn::http1::Builder::new()
                            .auto_date_header(has_clock)
                            .serve_connection(TokioIo::new(stream), service)
                            .with_upgrades()
                            .await;
                    });
                }
            });
        });
        let address = told.recv().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        let cluster = if is_tls {
            let authority = tls::file("localhost.pem");
            json!({"server": format!("https://{address}"), "certificate-authority": authority})
        } else {
            json!({"server": format!("http://{address}")})
        };
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": cluster}],
            "users": [{"name": "me", "user": {"token": "none"}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "me"}}],
        });
        std::fs::write(&kubeconfig, config.to_string()).unwrap();
        Self { kubeconfig, state, _folder: folder }
    }

    /// Requests so far that change something: `METHOD path?query`.
    pub fn changes(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let changing = |request: &&String| {
            !request.starts_with("GET")
                && !request.contains("selfsubjectaccessreviews")
                && !request.contains("dryRun=All")
        };
        state.requests.iter().filter(changing).cloned().collect()
    }

    /// All requests so far: `METHOD path?query`.
    pub fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }

    /// In whose name requests were made: `authorization` and `impersonate-…`, as `KEY: VALUE`.
    pub fn names(&self) -> BTreeSet<String> {
        self.state.lock().unwrap().names.clone()
    }

    /// What the plugin asked leave for, as `list endpointslices.discovery.k8s.io`.
    pub fn asked(&self) -> BTreeSet<String> {
        self.state.lock().unwrap().asked.clone()
    }

    /// Events and annotations that were left, as they came.
    pub fn left(&self) -> Vec<Value> {
        self.state.lock().unwrap().left.clone()
    }

    /// Containers that were really added.
    pub fn added(&self) -> Vec<Value> {
        self.state.lock().unwrap().added.clone()
    }

    /// What happened at agents, in order: of which pod, and `hello` or the request.
    pub fn agent_log(&self) -> Vec<(String, String)> {
        self.state.lock().unwrap().agent_log.clone()
    }

    /// Jobs, accounts, roles and bindings that were made, as they are now.
    pub fn made(&self) -> Vec<Value> {
        self.state.lock().unwrap().made.clone()
    }

    /// Files that shells have taken.
    pub fn delivered(&self) -> Vec<Vec<u8>> {
        self.state.lock().unwrap().delivered.clone()
    }

    /// The pod called `web`, as it is now.
    pub fn pod(&self) -> Value {
        self.state.lock().unwrap().scenario.pod.clone().unwrap()
    }

    /// Somebody else does something to the pod called `web`.
    pub fn meddle(&self, change: &Value) {
        merge(self.state.lock().unwrap().scenario.pod.as_mut().unwrap(), change);
    }

    /// What reached an agent.
    pub fn agent_heard(&self) -> Vec<protocol::Request> {
        self.state.lock().unwrap().agent_heard.clone()
    }
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

fn json_answer(code: u16, body: &Value) -> Answer {
    Response::builder()
        .status(StatusCode::from_u16(code).unwrap())
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::from(body.to_string()).boxed_unsync())
        .unwrap()
}

async fn answer(state: Arc<Mutex<State>>, request: Request<Incoming>) -> Result<Answer, io::Error> {
    let uri = request.uri().clone();
    let path = uri.path().to_owned();
    let method = request.method().clone();
    {
        let mut state = state.lock().unwrap();
        state.requests.push(format!("{method} {uri}"));
        for (key, value) in request.headers() {
            if *key == header::AUTHORIZATION || key.as_str().starts_with("impersonate-") {
                let value = String::from_utf8_lossy(value.as_bytes());
                state.names.insert(format!("{key}: {value}"));
            }
        }
        let (cut, left) = &mut state.scenario.cuts;
        if *cut == method && *left > 0 {
            *left -= 1;
            return Err(io::Error::other("cut off"));
        }
    }
    if path.ends_with("/exec") {
        return Ok(exec(&state, request));
    }
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut state = state.lock().unwrap();
    Ok(if path.ends_with("/selfsubjectaccessreviews") {
        let asked = &body["spec"]["resourceAttributes"];
        let text = |key: &str| asked[key].as_str().unwrap_or_default().to_owned();
        let act = format!("{} {}/{}", text("verb"), text("resource"), text("subresource"));
        let after = |mark: &str, key| match text(key) {
            part if part.is_empty() => part,
            part => format!("{mark}{part}"),
        };
        let (subresource, group) = (after("/", "subresource"), after(".", "group"));
        state.asked.insert(format!("{} {}{subresource}{group}", text("verb"), text("resource")));
        let mut answer = body.clone();
        answer["status"] = json!({"allowed": !state.scenario.forbidden.contains(&act.as_str())});
        json_answer(201, &answer)
    } else if MADE.iter().any(|kind| path.contains(kind)) {
        make(&mut state, &method, &uri, &body)
    } else if path.ends_with("/eviction") || method == Method::DELETE {
        match &state.scenario.admission {
            Some((code, body)) => json_answer(*code, body),
            None => json_answer(
                201,
                &json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}),
            ),
        }
    } else if path.ends_with("/selfsubjectreviews") {
        json_answer(201, &json!({"metadata": {}, "status": {"userInfo": {"username": "jane"}}}))
    } else if method == Method::POST && path.ends_with("/events") {
        if state.scenario.forbidden.contains(&"create events") {
            return Ok(json_answer(403, &status(403, "Forbidden", "no")));
        }
        state.left.push(body.clone());
        json_answer(201, &body)
    } else if method == Method::PATCH && !body["metadata"]["resourceVersion"].is_null() {
        patch_version(&mut state, &uri, &body)
    } else if method == Method::PATCH && !body["metadata"].is_null() {
        if state.scenario.forbidden.contains(&"patch pods") {
            return Ok(json_answer(403, &status(403, "Forbidden", "no")));
        }
        state.left.push(body["metadata"]["annotations"].clone());
        json_answer(200, &json!({"metadata": {"name": "web"}}))
    } else if method == Method::PATCH {
        patch(&mut state, &path, &body, uri.query().unwrap_or_default().contains("dryRun=All"))
    } else if let Some(resource) = followed(&state.scenario, &uri) {
        follow(&state.scenario, resource, &uri)
    } else {
        let name = path.rsplit('/').next().unwrap_or_default();
        match name {
            "version" => json_answer(
                200,
                &json!({"major": "1", "minor": "34", "gitVersion": "v1.34.1", "gitCommit": "",
                        "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "",
                        "platform": "linux/amd64"}),
            ),
            "daemonsets" => json_answer(200, &json!({"metadata": {}, "items": []})),
            "events" => json_answer(
                200,
                &json!({"kind": "EventList", "apiVersion": "v1", "metadata": {}, "items": state.scenario.events}),
            ),
            "pods" => json_answer(200, &state.list(&uri)),
            _ if path.rsplit('/').nth(1) == Some("namespaces") => {
                if state.scenario.forbidden.contains(&"get namespaces") {
                    let why = format!("namespaces \"{name}\" is forbidden");
                    return Ok(json_answer(403, &status(403, "Forbidden", &why)));
                }
                let known = state.scenario.objects.iter().filter(|(of, _)| *of == "namespaces");
                let found = known.map(|(_, it)| it).find(|it| it["metadata"]["name"] == name);
                json_answer(200, found.unwrap_or(&json!({"metadata": {"name": name}})))
            }
            _ => {
                let missing = format!("pods \"{name}\" not found");
                let missing = || json_answer(404, &status(404, "NotFound", &missing));
                state.pod(&path).map_or_else(missing, |pod| json_answer(200, pod))
            }
        }
    })
}

/// The resource that a request lists or watches, or of which it wants one: what the scenario's `objects` are of.
fn followed(scenario: &Scenario, uri: &hyper::Uri) -> Option<&'static str> {
    if uri.path().ends_with("/namespaces") {
        return Some("namespaces");
    }
    let known = [
        "services",
        "endpointslices",
        "nodes",
        "deployments",
        "statefulsets",
        "poddisruptionbudgets",
    ];
    let by_labels = uri.query().unwrap_or_default().contains("labelSelector")
        && scenario.objects.iter().any(|(of, _)| *of == "pods");
    let mut parts = uri.path().split('/');
    parts.find_map(|part| {
        known
            .into_iter()
            .find(|known| *known == part)
            .or((part == "pods" && by_labels).then_some("pods"))
    })
}

fn follow(scenario: &Scenario, resource: &'static str, uri: &hyper::Uri) -> Answer {
    let of_it = scenario.objects.iter().filter(|(of, _)| *of == resource).map(|(_, it)| it);
    let name = uri.path().rsplit('/').next().unwrap_or_default();
    if uri.query().unwrap_or_default().contains("watch=true") {
        let changes: Vec<_> =
            scenario.changes.iter().filter(|(_, of, ..)| *of == resource).cloned().collect();
        let lines = stream::iter(changes).then(|(pause, _, how, object)| async move {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let line = format!("{}\n", json!({ "type": how, "object": object }));
            Ok(Frame::data(Bytes::from(line)))
        });
        // A watch goes on.
        let body = StreamBody::new(lines.chain(stream::pending()));
        return Response::new(body.boxed_unsync());
    }
    if name == resource && scenario.forbidden.contains(&format!("list {resource}").as_str()) {
        let why =
            format!("{resource} is forbidden: User \"me\" cannot list resource \"{resource}\"");
        return json_answer(403, &status(403, "Forbidden", &why));
    }
    if name == resource {
        let items: Vec<_> = of_it.collect();
        let list = json!({ "metadata": { "resourceVersion": "1" }, "items": items });
        return json_answer(200, &list);
    }
    let found = of_it.into_iter().find(|object| object["metadata"]["name"] == name);
    let missing = || status(404, "NotFound", &format!("{resource} \"{name}\" not found"));
    found.map_or_else(|| json_answer(404, &missing()), |object| json_answer(200, object))
}

fn patch(state: &mut State, path: &str, body: &Value, dry_run: bool) -> Answer {
    if let Some((code, body)) = &state.scenario.admission {
        return json_answer(*code, body);
    }
    let mut pod = state.pod(path).unwrap().clone();
    if state.scenario.drops_containers {
        return json_answer(200, &pod);
    }
    let containers = body["spec"]["ephemeralContainers"].as_array().unwrap();
    for container in containers {
        push(&mut pod, "spec", "ephemeralContainers", container.clone());
        if let Some(new) = &state.scenario.new_agent_status {
            let status = container_status(container["name"].as_str().unwrap(), new);
            push(&mut pod, "status", "ephemeralContainerStatuses", status);
        }
    }
    if !dry_run {
        if let Some((code, body)) = &state.scenario.patch_error {
            return json_answer(*code, body);
        }
        state.added_at = Some(Instant::now());
        state.added.extend(containers.clone());
        pod.clone_into(state.pod(path).unwrap());
    }
    json_answer(200, &pod)
}

/// Kinds that are made, changed and removed as they come.
const MADE: [&str; 4] = ["/jobs", "/serviceaccounts", "/roles", "/rolebindings"];

fn make(state: &mut State, method: &Method, uri: &hyper::Uri, body: &Value) -> Answer {
    let (kind, name) = (uri.path(), uri.path().rsplit('/').next().unwrap_or_default());
    if *method == Method::POST {
        let resource = name;
        if state.scenario.forbidden.contains(&format!("make {resource}").as_str()) {
            return json_answer(403, &status(403, "Forbidden", &format!("no {resource} here")));
        }
        let mut made = body.clone();
        made["metadata"]["uid"] = json!(format!("uid-of-{resource}"));
        if !uri.query().unwrap_or_default().contains("dryRun=All") {
            state.made.push(made.clone());
        }
        return json_answer(201, &made);
    }
    let is_it = |it: &Value| {
        kind.contains("/jobs") && it["kind"] == "Job" && it["metadata"]["name"] == name
    };
    let Some(at) = state.made.iter().position(is_it) else {
        return json_answer(404, &status(404, "NotFound", "no such job"));
    };
    if *method == Method::PATCH {
        merge(&mut state.made[at], body);
        return json_answer(200, &state.made[at]);
    }
    // The garbage collector removes what belongs to it.
    let uid = state.made.remove(at)["metadata"]["uid"].clone();
    state.made.retain(|it| it["metadata"]["ownerReferences"][0]["uid"] != uid);
    json_answer(200, &json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
}

/// A strategic merge into the version of a pod that was read: lists are merged by name.
fn patch_version(state: &mut State, uri: &hyper::Uri, body: &Value) -> Answer {
    if state.scenario.forbidden.contains(&"patch pods") {
        return json_answer(403, &status(403, "Forbidden", "no"));
    }
    let late = state.scenario.conflicts.checked_sub(1);
    let Some(pod) = state.pod(uri.path()) else {
        return json_answer(404, &status(404, "NotFound", "no such pod"));
    };
    let is_old =
        ["uid", "resourceVersion"].iter().any(|it| pod["metadata"][it] != body["metadata"][it]);
    if late.is_some() || is_old {
        state.scenario.conflicts = late.unwrap_or_default();
        return json_answer(409, &status(409, "Conflict", "the object has been modified"));
    }
    let mut changed = pod.clone();
    merge(&mut changed["metadata"], &body["metadata"]);
    let annotations = changed["metadata"]["annotations"].as_object_mut().unwrap();
    annotations.retain(|_, value| !value.is_null());
    for (list, changes) in body["spec"].as_object().into_iter().flatten() {
        for change in changes.as_array().unwrap() {
            let all = changed["spec"][list].as_array_mut().unwrap();
            let one = all.iter_mut().find(|one| one["name"] == change["name"]).unwrap();
            merge(one, change);
        }
    }
    if !uri.query().unwrap_or_default().contains("dryRun=All") {
        let version: u64 = pod["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        changed["metadata"]["resourceVersion"] = json!((version + 1).to_string());
        *pod = changed.clone();
    }
    json_answer(200, &changed)
}

fn push(pod: &mut Value, part: &str, list: &str, item: Value) {
    let list = &mut pod[part][list];
    if list.is_null() {
        *list = json!([]);
    }
    list.as_array_mut().unwrap().push(item);
}

/// WebSocket protocol `v5.channel.k8s.io`: the first byte of a message is the channel.
fn exec(state: &Arc<Mutex<State>>, mut request: Request<Incoming>) -> Answer {
    let (agent, protocol, accent, forbidden) = {
        let state = state.lock().unwrap();
        let Scenario { agent, agent_protocol, agent_accent, forbidden, .. } = &state.scenario;
        let forbidden = forbidden.contains(&"create pods/exec");
        (agent.clone(), *agent_protocol, *agent_accent, forbidden)
    };
    if forbidden {
        let why = "pods \"web\" is forbidden: User \"me\" cannot create resource \"pods/exec\" in \
                   API group \"\" in the namespace \"default\"";
        return json_answer(403, &status(403, "Forbidden", why));
    }
    let query = request.uri().query().unwrap_or_default();
    let (is_shell, is_streamed) =
        (query.contains("command=sh&"), query.contains("command=%2Ftmp%2Fpod-chaos-agent"));
    let own_file = request.uri().query().unwrap_or_default().contains("command=%2Fproc%2F7%2Fexe");
    let refused = own_file && state.lock().unwrap().scenario.foreign_user;
    let starting = {
        let state = state.lock().unwrap();
        state.added_at.is_some_and(|at| at.elapsed() < state.scenario.starts_in)
    };
    let says = match agent {
        _ if starting => {
            return json_answer(500, &status(500, "InternalError", "container not found"));
        }
        Agent::NotThere(why) => return json_answer(500, &status(500, "InternalError", &why)),
        Agent::Says(says) => says,
    };
    let key = request.headers()[header::SEC_WEBSOCKET_KEY].as_bytes().to_vec();
    let state = Arc::clone(state);
    let name = request.uri().path().rsplit('/').nth(1).unwrap_or_default().to_owned();
    tokio::spawn(async move {
        let upgraded = hyper::upgrade::on(&mut request).await.unwrap();
        let mut stream =
            WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        if is_shell {
            let _ = take(stream, &state).await;
            return;
        }
        let missing = is_streamed && state.lock().unwrap().delivered.is_empty();
        if refused || missing {
            let why = if missing {
                "exec: \"/tmp/pod-chaos-agent\": stat /tmp/pod-chaos-agent: no such file"
            } else {
                "OCI runtime exec failed: exec failed: unable to start container process: exec: \
                 \"/proc/7/exe\": stat /proc/7/exe: permission denied: unknown"
            };
            let mut last = vec![3];
            last.extend(status(500, "InternalError", why).to_string().into_bytes());
            let _ = stream.send(tungstenite::Message::binary(last)).await;
            let _ = stream.close(None).await;
            return;
        }
        // The plugin hanging up is part of the play.
        let _ = play(stream, &state, &name, (protocol, accent), says).await;
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(&key))
        .header(header::SEC_WEBSOCKET_PROTOCOL, "v5.channel.k8s.io")
        .body(Full::default().boxed_unsync())
        .unwrap()
}

/// A shell that takes a file, whose size comes first.
async fn take<S>(
    mut stream: WebSocketStream<S>,
    state: &Mutex<State>,
) -> Result<(), tungstenite::Error>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let says = |text: &str| tungstenite::Message::binary(format!("\u{1}{text}\n").into_bytes());
    let first = state.lock().unwrap().scenario.shell;
    stream.send(says(first)).await?;
    if !["x86_64", "aarch64"].contains(&first) {
        return stream.close(None).await;
    }
    let mut heard = Vec::new();
    while let Some(message) = stream.next().await {
        let data = message?.into_data();
        heard.extend_from_slice(data.get(1..).unwrap_or_default());
        let Some(end) = heard.iter().position(|byte| *byte == b'\n') else { continue };
        let size: usize = std::str::from_utf8(&heard[..end]).unwrap().parse().unwrap();
        let file = &heard[end + 1..];
        if file.len() == size {
            state.lock().unwrap().delivered.push(file.to_vec());
            stream.send(says("taken")).await?;
            return stream.close(None).await;
        }
    }
    Ok(())
}

async fn play<S>(
    mut stream: WebSocketStream<S>,
    state: &Mutex<State>,
    name: &str,
    (protocol, accent): (u16, Accent),
    says: Says,
) -> Result<(), tungstenite::Error>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let line = |event: &protocol::Event| {
        let mut bytes = vec![1];
        bytes.extend(accent(serde_json::to_value(event).unwrap()).to_string().into_bytes());
        bytes.push(b'\n');
        tungstenite::Message::binary(bytes)
    };
    let version = "0.1.0".to_owned();
    let log = |what: &str| {
        let line = (name.to_owned(), what.to_owned());
        state.lock().unwrap().agent_log.push(line);
    };
    log("hello");
    stream.send(line(&protocol::Event::Hello { protocol, version, pid: 7 })).await?;
    let mut queue = std::collections::VecDeque::new();
    let mut heard = Vec::new();
    loop {
        let pause = queue.front().map(|(pause, _)| Duration::from_millis(*pause));
        tokio::select! {
            message = stream.next() => {
                let Some(message) = message else { return Ok(()) };
                let data = message?.into_data();
                // Channel 0 is stdin; anything else closes it.
                let Some((0, text)) = data.split_first() else { return stream.close(None).await };
                // A long line comes in pieces.
                heard.extend_from_slice(text);
                let Some(end) = heard.iter().position(|byte| *byte == b'\n') else { continue };
                let text: Vec<u8> = heard.drain(..=end).collect();
                let request: protocol::Request = serde_json::from_slice(&text).unwrap();
                state.lock().unwrap().agent_heard.push(request.clone());
                let kind = serde_json::to_value(&request).unwrap()["request"].clone();
                log(kind.as_str().unwrap_or_default());
                queue = says(&request).into();
            }
            () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {
                match queue.pop_front() {
                    Some((_, Some(event))) => stream.send(line(&event)).await?,
                    _ => return stream.close(None).await,
                }
            }
        }
    }
}
