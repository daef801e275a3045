//! The agent of `kubectl pod-chaos`: see the library for what it does.
#![forbid(unsafe_code)]

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use std::process::ExitCode;

    let mut words = std::env::args().skip(1);
    match words.next().as_deref() {
        Some("wait") => pod_chaos_agent::wait::run(words.next().as_deref()),
        Some("serve") => pod_chaos_agent::serve::run(),
        // Started by `serve` alone.
        Some("anchor") => pod_chaos_agent::anchor::run(),
        Some("version") => {
            println!("{}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("usage: pod-chaos-agent wait [PLAN] | serve | version");
            ExitCode::from(2)
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("pod-chaos-agent runs inside pods: on Linux only");
}
