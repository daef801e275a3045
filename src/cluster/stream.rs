//! A stream of lines to a process in a container and back: `pods/exec`, as a WebSocket with channels.
//!
//! kube has one too, with a task, two pipes, and a buffer of 128 KiB that every read fills with zeros first. Many
//! streams at once would need their time and memory for little else.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1};
use kube::{
    Resource as _,
    api::AttachParams,
    client::Body,
    core::{Request, Status},
};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error as Failure, Message,
        error::ProtocolError,
        handshake::{client::generate_key, derive_accept_key},
        protocol::{Role, WebSocketConfig},
    },
};

use super::Cluster;
use crate::plan::PodName;

/// Channels, as the first byte of a message (k8s.io/apimachinery/pkg/util/remotecommand/constants.go).
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
/// A `Status`, as the last of all.
const END: u8 = 3;
/// With a `Status` at the end; the later one can also close single channels.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

/// What is read at once: most events are shorter.
const READ: usize = 4 << 10;
/// What a message may carry, as kubectl sends it.
const WRITE: usize = 32 << 10;
/// What stands between us and a node may cut who says nothing for a minute.
const PING_EVERY: Duration = Duration::from_secs(30);

/// An open stream. Dropping it ends the process's input.
pub(super) struct Stream {
    socket: WebSocketStream<TokioIo<Upgraded>>,
    /// What has come of lines that have not been asked for.
    heard: Vec<u8>,
    /// Why it has ended, if it has.
    end: Option<String>,
    ping: Interval,
}

impl Stream {
    /// Starts a process in a container.
    pub async fn open(
        cluster: &Cluster,
        pod: &PodName,
        container: &str,
        command: &[&str],
    ) -> kube::Result<Self> {
        let params =
            AttachParams::default().container(container).stdin(true).stdout(true).stderr(false);
        let path = Pod::url_path(&(), Some(cluster.namespace()));
        let request = Request::new(path).exec(pod.as_str(), command.iter().copied(), &params);
        let mut request = request.map_err(kube::Error::BuildRequest)?.map(Body::from);
        let key = generate_key();
        ask_for_upgrade(request.headers_mut(), &key)?;
        let response = cluster.client().send(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refusal(response).await);
        }
        check_upgrade(response.headers(), &key)?;
        let upgraded = hyper::upgrade::on(response).await.map_err(kube::Error::HyperError)?;
        let config = WebSocketConfig::default().read_buffer_size(READ).write_buffer_size(0);
        let raw = TokioIo::new(upgraded);
        let socket = WebSocketStream::from_raw_socket(raw, Role::Client, Some(config)).await;
        let mut ping = interval(PING_EVERY);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ping.reset();
        Ok(Self { socket, heard: Vec::new(), end: None, ping })
    }

    /// Sends that to the process's input.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        for part in bytes.chunks(WRITE) {
            let message: Vec<u8> = std::iter::once(&STDIN).chain(part).copied().collect();
            self.socket.feed(Message::binary(message)).await?;
        }
        self.socket.flush().await
    }

    /// The next line, without its end; an error says why there will be no more. Cancel safe.
    pub async fn next(&mut self) -> Result<String, String> {
        loop {
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.heard.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            match &self.end {
                Some(why) if self.heard.is_empty() => return Err(why.clone()),
                Some(_) => self.heard.push(b'\n'),
                None => self.read().await,
            }
        }
    }

    /// Takes in a message.
    async fn read(&mut self) {
        let message = tokio::select! {
            message = self.socket.next() => message,
            _ = self.ping.tick() => {
                // If that fails, so does the next read.
                let _ = self.socket.send(Message::Ping(hyper::body::Bytes::new())).await;
                return;
            }
        };
        let ended = || "the stream ended".to_owned();
        match message {
            Some(Ok(Message::Binary(message))) => match message.split_first() {
                Some((&STDOUT, text)) => self.heard.extend_from_slice(text),
                // All channels begin with an empty message.
                Some((&END, text)) if !text.is_empty() => {
                    let status = serde_json::from_slice::<v1::Status>(text).ok();
                    let message = status.and_then(|status| status.message);
                    self.end = message.filter(|text| !text.is_empty()).or_else(|| Some(ended()));
                }
                _ => {}
            },
            Some(Ok(_)) => {}
            None | Some(Err(Failure::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => {
                self.end = Some(ended());
            }
            Some(Err(error)) => self.end = Some(error.to_string()),
        }
    }
}

/// RFC 6455, section 4.1.
fn ask_for_upgrade(headers: &mut HeaderMap, key: &str) -> kube::Result<()> {
    let value = |text: &str| {
        HeaderValue::from_str(text).map_err(|error| kube::Error::HttpError(error.into()))
    };
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    headers.insert(header::SEC_WEBSOCKET_KEY, value(key)?);
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value(&PROTOCOLS.join(", "))?);
    Ok(())
}

/// Whether it is our request that was answered, and in a protocol that we know.
fn check_upgrade(headers: &HeaderMap, key: &str) -> kube::Result<()> {
    let is = |name, known: &dyn Fn(&str) -> bool| {
        headers.get(name).and_then(|value| value.to_str().ok()).is_some_and(known)
    };
    let accepted = is(header::SEC_WEBSOCKET_ACCEPT, &|it| it == derive_accept_key(key.as_bytes()));
    if accepted && is(header::SEC_WEBSOCKET_PROTOCOL, &|it| PROTOCOLS.contains(&it)) {
        return Ok(());
    }
    Err(kube::Error::Service("something in between does not pass on WebSockets as they are".into()))
}

/// What the server says instead.
async fn refusal(response: Response<Body>) -> kube::Error {
    let code = response.status();
    let text = match response.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return error,
    };
    let status = serde_json::from_slice::<Status>(&text).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(&text);
        Status::failure(text.trim(), "").with_code(code.as_u16())
    });
    kube::Error::Api(status.boxed())
}
