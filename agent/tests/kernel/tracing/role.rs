//! The agent's tracer in a process of its own: this test binary, started with other arguments.

use std::{
    io,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::Pid,
};
use pod_chaos_agent::trace;
use pod_chaos_protocol::RunTime;
use serde_json::json;

/// The first argument; then come a process, a fault and a time.
pub const NAME: &str = "--trace";

/// Traces a process until the time is over, or until the end of its input, and reports.
pub fn play(arguments: &[String]) {
    let [process, fault, time] = arguments else { panic!("{arguments:?}") };
    let fault = serde_json::from_str(fault).unwrap();
    let time = Duration::from(time.parse::<RunTime>().unwrap());
    let tasks = format!("/proc/{process}/task");
    let find = move || {
        let tasks = std::fs::read_dir(&tasks).into_iter().flatten().flatten();
        Ok(tasks
            .filter_map(|task| task.file_name().to_str()?.parse().ok().map(Pid::from_raw))
            .collect())
    };
    let mut tracing = match trace::start(&fault, time, Box::new(find)) {
        Ok(tracing) => tracing,
        Err(failure) => return println!("{failure}"),
    };
    let begun = Instant::now();
    println!("in force");
    let input = io::stdin();
    let mut ends = [tracing.as_fd(), input.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    while poll(&mut ends, PollTimeout::NONE).is_err() {}
    let late = begun.elapsed().saturating_sub(time).as_secs_f64() * 1000.0;
    let counts = tracing.counters().calls();
    let (end, left) = tracing.finish();
    let end = format!("{end:?}");
    println!("{}", json!({ "end": end, "left": left, "counts": counts, "late-ms": late }));
}
