//! What a container uses, compared with the files of its control group and with `/proc`.

use std::fs;

use pod_chaos_protocol::{Event, Metrics};
use serde_json::json;

use crate::{
    container::Container,
    pod::{Agent, until},
    requirement::tests,
};

tests! {
    Namespaces:
        a_container_is_observed_until_its_time_is_over,
        what_is_used_is_what_the_kernel_says,
        calls_are_counted_while_they_are_traced,
        nobody_observes_for_nobody;
}

fn observe(container: &Container, time: &str) -> Agent {
    let mut agent = container.agent_in_its_group();
    let plan = json!({ "every": "100ms", "running-time": time });
    agent.send(&json!({ "request": "observe", "plan": plan }));
    agent
}

fn metrics(agent: &mut Agent) -> Metrics {
    match agent.next() {
        Some(Event::Observed { metrics }) => metrics,
        other => panic!("{other:?}"),
    }
}

fn a_container_is_observed_until_its_time_is_over() {
    let container = Container::with("exec sleep 1234");
    let mut agent = observe(&container, "350ms");
    let mut span_ms = 0;
    for _ in 0..3 {
        let metrics = metrics(&mut agent);
        assert_eq!((metrics.processes, metrics.threads), (1, 1), "{metrics:?}");
        span_ms += metrics.cpu.span_ms;
    }
    // One of them may come late, and the next one sooner after it.
    assert!(span_ms >= 200, "{span_ms} ms");
    assert_eq!(agent.rest(), []);
}

fn what_is_used_is_what_the_kernel_says() {
    let container = Container::new(8);
    let mut agent = observe(&container, "60s");
    let switches = container.switches();
    let (mut counted, mut used) = (0, 0);
    for _ in 0..5 {
        let metrics = metrics(&mut agent);
        assert_eq!(metrics.processes, 1, "{metrics:?}");
        assert!(metrics.threads >= 8, "{metrics:?}");
        assert!(metrics.memory_bytes >= metrics.working_set_bytes, "{metrics:?}");
        assert!(metrics.memory_bytes > 0, "{metrics:?}");
        counted += metrics.voluntary_switches;
        used += metrics.cpu.used_ms;
    }
    // It makes a thread each millisecond, and each of them waits once, and is waited for.
    let passed = container.switches() - switches;
    assert!(counted > 0 && passed > 0, "{counted} {passed}");
    let total = container.groups.iter().find_map(|group| {
        let v1 = fs::read_to_string(group.join("cpuacct.usage")).ok();
        let v2 = || fs::read_to_string(group.join("cpu.stat")).ok();
        let v1 = v1.and_then(|text| Some(text.trim().parse::<u64>().ok()? / 1_000_000));
        v1.or_else(|| {
            let stat = v2()?;
            let micros = stat.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
            Some(micros.parse::<u64>().ok()? / 1000)
        })
    });
    assert!(used <= total.unwrap(), "{used} ms of {total:?}");
}

fn calls_are_counted_while_they_are_traced() {
    let container =
        Container::with("while :; do read line </etc/passwd; sleep 0.01; done 2>/dev/null");
    let mut observer = container.agent_in_its_group();
    let watch = json!({ "every": "100ms", "running-time": "60s", "container": container.id });
    observer.send(&json!({ "request": "observe", "plan": watch }));
    assert_eq!(metrics(&mut observer).calls, []);
    let plan = json!({
        "id": "00000001", "running-time": "60s", "target": container.target(),
        "fault": { "syscall": { "calls": ["openat"], "delay-exit": "5ms", "paths": ["/etc/passwd"] } },
    });
    let (_tracer, _) = container.disturb(&plan);
    let (mut seen, mut hit, mut took_us) = (0, 0, 0);
    until("calls that are held up", || {
        for one in metrics(&mut observer).calls {
            assert_eq!(one.call, "openat");
            (seen, hit, took_us) = (seen + one.seen, hit + one.hit, took_us + one.took_us);
        }
        (hit > 2).then_some(())
    });
    // Those of others, as of libraries, are not held up; the last that is has perhaps not ended.
    assert!(hit < seen && took_us >= (hit - 1) * 5_000, "{hit} of {seen}, {took_us} us");
}

/// When the stream ends, so does who writes to it.
fn nobody_observes_for_nobody() {
    let container = Container::with("exec sleep 1234");
    let mut agent = observe(&container, "1h");
    metrics(&mut agent);
    // Closes its input, and waits for its end.
    let rest = agent.rest();
    assert!(rest.iter().all(|event| matches!(event, Event::Observed { .. })), "{rest:?}");
}
