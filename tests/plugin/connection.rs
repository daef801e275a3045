//! How the API server is reached, and in whose name: as kubectl does.

use std::{
    io,
    net::Ipv4Addr,
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use insta::assert_snapshot;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

use crate::{
    fake_api::{Agent, FakeApi, Scenario},
    faults::{WARM, good},
    plugin_with, seen,
};

fn scenario() -> Scenario {
    Scenario { pod: Some(WARM()), agent: Agent::Says(good), ..Scenario::default() }
}

/// The kubeconfig of that server, changed.
fn changed(api: &FakeApi, change: impl FnOnce(&mut Value)) -> NamedTempFile {
    let mut config = serde_json::from_slice(&std::fs::read(&api.kubeconfig).unwrap()).unwrap();
    change(&mut config);
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), config.to_string()).unwrap();
    file
}

const STATUS: &str = "status -p web";

fn run(mut command: Command, line: &str) -> Output {
    command.args(line.split_whitespace()).output().unwrap()
}

fn is_done(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", seen(output));
    assert!(seen(output).contains("delay 100ms"), "{}", seen(output));
}

#[test]
fn whoever_is_impersonated_is_named_on_either_side_of_the_command() {
    let api = FakeApi::serve(scenario());
    let line = "--as jane --as-group a status -p web --as-group b --as-uid 7";
    is_done(&run(plugin_with(&api.kubeconfig), line));
    let names = [
        "authorization: Bearer none",
        "impersonate-group: a",
        "impersonate-group: b",
        "impersonate-uid: 7",
        "impersonate-user: jane",
    ];
    assert_eq!(api.names(), names.map(str::to_owned).into());
    for line in ["--as-group a status", "status --as-group a", "status --as-uid 7"] {
        let output = run(plugin_with(&api.kubeconfig), line);
        assert_eq!(output.status.code(), Some(2), "{line}: {}", seen(&output));
        assert!(seen(&output).contains("--as names, which is missing"), "{}", seen(&output));
    }
}

#[test]
fn each_request_is_told_to_who_asks_for_that() {
    let api = FakeApi::serve(scenario());
    let output = run(plugin_with(&api.kubeconfig), "status -p web --v=6 --cache-dir /nonexistent");
    is_done(&output);
    let said = String::from_utf8(output.stderr).unwrap();
    let told: Vec<_> = said.lines().filter_map(|line| line.split_once(" in ")).collect();
    let all: Vec<_> = api.requests();
    assert_eq!(told.len(), all.len(), "{said}");
    assert_eq!(told[0].0, "GET /api/v1/namespaces/default/pods/web 200 OK");
    assert!(told.iter().any(|(what, _)| what.ends_with(" 101 Switching Protocols")), "{said}");
    let output = run(plugin_with(&api.kubeconfig), "status -p web");
    assert!(output.stderr.is_empty(), "{}", seen(&output));
}

/// kubectl merges them: what a file says of a name, a later one does not change.
#[test]
fn several_kubeconfigs_are_one() {
    let api = FakeApi::serve(scenario());
    let part = |kept: &'static [&'static str]| {
        changed(&api, |config| {
            for list in ["clusters", "contexts", "users"] {
                if !kept.contains(&list) {
                    config[list] = json!([]);
                }
            }
        })
    };
    let (first, second) = (part(&["clusters"]), part(&["contexts", "users"]));
    let third = changed(&api, |config| config["users"][0]["user"]["token"] = json!("other"));
    let all = std::env::join_paths([first.path(), second.path(), third.path()]).unwrap();
    is_done(&run(plugin_with(all.as_ref()), STATUS));
    assert_eq!(api.names(), ["authorization: Bearer none".to_owned()].into());
}

/// As those of cloud providers (client.authentication.k8s.io).
#[cfg(unix)]
#[test]
fn a_credential_plugin_is_asked_for_a_token() {
    let api = FakeApi::serve(scenario());
    let answer = json!({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
                        "status": {"token": "of-a-plugin"}});
    let script = format!("[ \"$PROFILE\" = lab ] && echo '{answer}'");
    let config = changed(&api, |config| {
        config["users"][0]["user"] = json!({"exec": {
            "apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/sh",
            "args": ["-c", script], "env": [{"name": "PROFILE", "value": "lab"}],
            "interactiveMode": "Never",
        }});
    });
    is_done(&run(plugin_with(config.path()), STATUS));
    assert_eq!(api.names(), ["authorization: Bearer of-a-plugin".to_owned()].into());
    let config = changed(&api, |config| {
        config["users"][0]["user"] = json!({"exec": {
            "apiVersion": "client.authentication.k8s.io/v1", "command": "/nonexistent/aws",
            "interactiveMode": "Never",
        }});
    });
    let output = run(plugin_with(config.path()), STATUS);
    assert_snapshot!("a_credential_plugin_that_is_missing", seen(&output));
    let config = changed(&api, |config| {
        config["users"][0]["user"] = json!({"exec": {
            "apiVersion": "client.authentication.k8s.io/v1", "command": "/nonexistent/aws",
            "installHint": "get it at https://example.com", "interactiveMode": "Never",
        }});
    });
    let output = run(plugin_with(config.path()), STATUS);
    assert!(seen(&output).contains("hint: get it at https://example.com"), "{}", seen(&output));
}

/// A proxy of that kind that connects to wherever it is told, and how often it has.
fn proxy(scheme: &'static str) -> (String, Arc<AtomicUsize>) {
    let (tell, told) = mpsc::channel();
    let count = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let counted = Arc::clone(&counted);
                tokio::spawn(async move {
                    let both = match scheme {
                        "http" => by_connect(stream).await,
                        _ => by_socks(stream).await,
                    };
                    let Ok((mut client, mut server)) = both else { return };
                    counted.fetch_add(1, Ordering::Relaxed);
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
    });
    (format!("{scheme}://me:pass@{}", told.recv().unwrap()), count)
}

/// As RFC 1928 has it, section 3 to 6: IPv4 addresses, and for anyone.
async fn by_socks(mut client: TcpStream) -> io::Result<(TcpStream, TcpStream)> {
    let mut methods = [0; 3];
    client.read_exact(&mut methods).await?;
    assert_eq!(methods, [5, 1, 0]);
    client.write_all(&[5, 0]).await?;
    let mut wanted = [0; 10];
    client.read_exact(&mut wanted).await?;
    let [5, 1, 0, 1, a, b, c, d, high, low] = wanted else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    let address = (Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low]));
    let server = TcpStream::connect(address).await?;
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    Ok((client, server))
}

/// As RFC 9110 has it, section 9.3.6.
async fn by_connect(mut client: TcpStream) -> io::Result<(TcpStream, TcpStream)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let target = head.strip_prefix("connect ").and_then(|rest| rest.split(' ').next());
    // `me:pass` in base64.
    if !head.contains("proxy-authorization: basic bwu6cgfzcw==") {
        client.write_all(b"HTTP/1.1 407 Who\r\n\r\n").await?;
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let server = TcpStream::connect(target.unwrap_or_default()).await?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    Ok((client, server))
}

#[test]
fn a_proxy_of_the_kubeconfig_or_of_the_environment_is_gone_by() {
    let api = FakeApi::serve_tls(scenario());
    let (proxy, count) = proxy("http");
    let used = || count.swap(0, Ordering::Relaxed) > 0;
    is_done(&run(plugin_with(&api.kubeconfig), STATUS));
    assert!(!used());
    let named = changed(&api, |config| {
        config["clusters"][0]["cluster"]["proxy-url"] = json!(proxy);
    });
    is_done(&run(plugin_with(named.path()), STATUS));
    assert!(used(), "that of the kubeconfig");
    let with = |variables: &[(&str, &str)]| {
        let mut command = plugin_with(&api.kubeconfig);
        command.envs(variables.iter().copied());
        is_done(&run(command, STATUS));
    };
    with(&[("HTTPS_PROXY", &proxy)]);
    assert!(used(), "that of the environment");
    with(&[("HTTPS_PROXY", &proxy), ("NO_PROXY", "10.0.0.0/8,127.0.0.0/8")]);
    assert!(!used(), "NO_PROXY names the server");
    with(&[("HTTPS_PROXY", &proxy), ("NO_PROXY", "10.0.0.0/8")]);
    assert!(used(), "NO_PROXY names others");
}

#[test]
fn a_proxy_that_speaks_socks_is_gone_by() {
    let api = FakeApi::serve_tls(scenario());
    let (with_password, count) = proxy("socks5");
    let proxy = with_password.replace("me:pass@", "");
    let used = || count.swap(0, Ordering::Relaxed) > 0;
    let by = |proxy: &str| {
        changed(&api, |config| config["clusters"][0]["cluster"]["proxy-url"] = json!(proxy))
    };
    is_done(&run(plugin_with(by(&proxy).path()), STATUS));
    assert!(used());
    let mut command = plugin_with(&api.kubeconfig);
    command.env("HTTPS_PROXY", &proxy);
    is_done(&run(command, STATUS));
    assert!(used(), "that of the environment");
    // Who cannot log in says so, and goes no other way.
    let asked = api.requests().len();
    let output = run(plugin_with(by(&with_password).path()), STATUS);
    assert_eq!(output.status.code(), Some(1), "{}", seen(&output));
    assert!(seen(&output).contains("wants a password"), "{}", seen(&output));
    assert_eq!((api.requests().len(), used()), (asked, false));
}

#[test]
fn a_server_that_is_not_trusted_is_not_spoken_to() {
    let api = FakeApi::serve_tls(scenario());
    let other = crate::fake_api::tls::file("other.pem");
    let distrusting = changed(&api, |config| {
        config["clusters"][0]["cluster"]["certificate-authority"] = json!(other);
    });
    let output = run(plugin_with(distrusting.path()), STATUS);
    assert_eq!(output.status.code(), Some(1), "{}", seen(&output));
    assert!(seen(&output).contains("certificate"), "{}", seen(&output));
    assert_eq!(api.requests(), [""; 0]);
    // Whom the flags name.
    let own = crate::fake_api::tls::file("localhost.pem");
    let insisting = format!("{STATUS} --certificate-authority {own} --tls-server-name localhost");
    is_done(&run(plugin_with(distrusting.path()), &insisting));
}
