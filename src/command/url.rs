//! A URL that is asked again and again from this machine, as its users do.

use std::{collections::BTreeSet, time::Duration};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connect, HttpConnector},
    },
    rt::TokioExecutor,
};
use tokio::{
    sync::broadcast,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::note;
use crate::{exit::Error, plan::Url, report::metrics::Answer};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Answers that nobody has looked at yet.
const KEPT: usize = 64;

/// Asks for as long as somebody listens: each time by a new connection, and for one answer at a time. Redirections
/// are answers.
pub(super) fn ask(url: &Url, every: Duration) -> Result<broadcast::Receiver<Answer>, Error> {
    let (tell, answers) = broadcast::channel(KEPT);
    let mut plain = HttpConnector::new();
    if url.is_secure() {
        plain.enforce_http(false);
        let certificates = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(|error| Error::internal("reading the certificates of this machine", error))?;
        let connector = certificates.https_only().enable_http1().wrap_connector(plain);
        tokio::spawn(keep_asking(connector, url.clone(), every, tell));
    } else {
        tokio::spawn(keep_asking(plain, url.clone(), every, tell));
    }
    Ok(answers)
}

async fn keep_asking<C: Connect + Clone + Send + Sync + 'static>(
    connector: C,
    url: Url,
    every: Duration,
    tell: broadcast::Sender<Answer>,
) {
    let client: Client<C, Empty<Bytes>> =
        Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
    let mut turn = interval(every);
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = BTreeSet::new();
    loop {
        turn.tick().await;
        let begun = Instant::now();
        let outcome = timeout(PATIENCE, once(&client, &url)).await;
        let outcome = outcome.unwrap_or_else(|_| Err("no answer".to_owned()));
        let after = begun.elapsed();
        let status = outcome.unwrap_or_else(|why| {
            // Each reason once: the figures say how often.
            if told.insert(why.clone()) {
                note(&format!("{url} does not answer: {why}"));
            }
            0
        });
        if tell.send(Answer { status, after }).is_err() {
            return;
        }
    }
}

/// The status of an answer that has come in whole.
async fn once<C: Connect + Clone + Send + Sync + 'static>(
    client: &Client<C, Empty<Bytes>>,
    url: &Url,
) -> Result<u16, String> {
    let response = client.get(url.uri().clone()).await.map_err(|error| why(&error))?;
    let status = response.status().as_u16();
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        frame.map_err(|error| why(&error))?;
    }
    Ok(status)
}

/// The innermost reason: the outer ones are the library's steps.
fn why(error: &(dyn std::error::Error + 'static)) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
        thread,
    };

    use super::*;

    #[test]
    fn only_what_comes_in_whole_is_an_answer() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/health?now", server.local_addr().unwrap());
        let serving = thread::spawn(move || {
            // In whole; cut short; then nobody is there.
            for length in [2, 20] {
                let (mut stream, _) = server.accept().unwrap();
                let mut request = [0; 4096];
                let read = stream.read(&mut request).unwrap();
                assert!(request[..read].starts_with(b"GET /health?now HTTP/1.1\r\n"));
                let answer = format!("HTTP/1.1 403 No\r\ncontent-length: {length}\r\n\r\nno");
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let statuses = runtime.block_on(async {
            let mut answers = ask(&url.parse().unwrap(), Duration::from_millis(1)).unwrap();
            let mut statuses = Vec::new();
            for _ in 0..3 {
                statuses.push(answers.recv().await.unwrap().status);
            }
            statuses
        });
        assert_eq!(statuses, [403, 0, 0]);
        serving.join().unwrap();
    }
}
