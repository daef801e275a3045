//! `observe --url` over TLS.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::Stdio,
    sync::mpsc,
    thread,
};

use pod_chaos_protocol::{Event, Metrics, Request};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    fake_api::{
        Agent, FakeApi, Line, Scenario,
        tls::{acceptor, file},
    },
    plugin_with,
    processes::{good, pod_of},
};

/// A server that answers 418 over TLS, up to the end of the test.
fn serve() -> SocketAddr {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let acceptor = acceptor();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // Who does not trust it hangs up.
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let mut request = [0; 1024];
                    if stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                        let answer =
                            "HTTP/1.1 418 Short\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                        let _ = stream.write_all(answer.as_bytes()).await;
                        let _ = stream.shutdown().await;
                    }
                });
            }
        });
    });
    told.recv().unwrap()
}

/// An agent that observes for a minute.
fn observes(request: &Request) -> Vec<Line> {
    let Request::Observe { .. } = request else { return good(request) };
    (0..600).map(|_| (100, Some(Event::Observed { metrics: Metrics::default() }))).collect()
}

/// The first status that is told of the URL, and what is said meanwhile, where these certificates are trusted.
fn asked(address: SocketAddr, roots: &Path) -> (String, String) {
    let api = FakeApi::serve(Scenario {
        pod: Some(pod_of(&json!([{"name": "web", "image": "x"}]))),
        agent: Agent::Says(observes),
        ..Scenario::default()
    });
    let url = format!("https://{address}/");
    let mut command = plugin_with(&api.kubeconfig);
    command
        .args(["observe", "-p", "web", "-r", "60", "--every", "100ms", "-o", "csv", "--url", &url]);
    let command = command.env("SSL_CERT_FILE", roots);
    let mut plugin = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let rows = BufReader::new(plugin.stdout.take().unwrap()).lines().map_while(Result::ok).skip(1);
    let mut statuses = rows.filter_map(|row| Some(row.split(',').nth(23)?.to_owned()));
    let status = statuses.find(|status| !status.is_empty()).unwrap_or_default();
    plugin.kill().unwrap();
    let output = plugin.wait_with_output().unwrap();
    (status, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn only_who_is_trusted_is_heard() {
    let address = serve();
    let (status, said) = asked(address, Path::new(&file("localhost.pem")));
    assert_eq!(status, "418", "{said}");
    assert!(!said.contains("does not answer"), "{said}");
    let (status, said) = asked(address, Path::new(&file("other.pem")));
    assert_eq!(status, "0", "{said}");
    assert!(said.contains("does not answer: invalid peer certificate"), "{said}");
}
