//! Metrics as Prometheus takes them, from an address of this machine.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU64},
};

use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use pod_chaos_protocol::CallCount;
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use tokio::net::TcpListener;

use super::metrics::{Answer, Place, Sample};
use crate::exit::{Error, Exit};

/// What text of this form is called (the OpenMetrics specification).
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Seconds = Family<Place, Counter<f64, AtomicU64>>;
type Counts = Family<Place, Counter>;
type Levels = Family<Place, Gauge>;
type Latencies = Family<Place, Gauge<f64, AtomicU64>>;

/// Figures of containers; counters grow from the start of the observation.
pub struct Exporter {
    registry: Arc<Registry>,
    cpu: Seconds,
    throttled: Seconds,
    memory: Levels,
    working_set: Levels,
    processes: Levels,
    threads: Levels,
    switches: [Counts; 2],
    /// Bytes, packets and drops, received and sent.
    carried: [[Counts; 3]; 2],
    /// Seen, hit and ended system calls.
    calls: [Counts; 3],
    /// For how long those that have ended were made.
    calls_took: Seconds,
    answer_status: Levels,
    answer_after: Latencies,
}

impl Default for Exporter {
    /// Nothing has been used yet.
    fn default() -> Self {
        let mut registry = Registry::with_prefix("pod_chaos");
        let mut seconds = |name: &str, help: &str| {
            let family = Seconds::default();
            registry.register_with_unit(name, help, Unit::Seconds, family.clone());
            family
        };
        let cpu = seconds("cpu_used", "Processor time used");
        let throttled = seconds("cpu_throttled", "Time waited because the limit was reached");
        let calls_took = seconds("calls_took", "Time in system calls that a fault is about");
        let mut bytes = |name: &str, help: &str| {
            let family = Levels::default();
            registry.register_with_unit(name, help, Unit::Bytes, family.clone());
            family
        };
        let memory = bytes("memory", "Memory charged for");
        let working_set = bytes("working_set", "The same without idle file contents");
        let mut level = |name: &str, help: &str| {
            let family = Levels::default();
            registry.register(name, help, family.clone());
            family
        };
        let processes = level("processes", "Processes");
        let threads = level("threads", "Threads");
        let mut count = |name: &str, help: &str| {
            let family = Counts::default();
            registry.register(name, help, family.clone());
            family
        };
        let switches = [
            count("voluntary_switches", "The processor was given up, to wait"),
            count("involuntary_switches", "The processor was taken away"),
        ];
        let carried = ["received", "sent"].map(|way| {
            ["bytes", "packets", "dropped"]
                .map(|what| count(&format!("{way}_{what}"), "By the pod's interfaces"))
        });
        let calls = [("seen", "made"), ("hit", "hit"), ("ended", "made to their end")].map(
            |(name, what)| {
                count(
                    &format!("calls_{name}"),
                    &format!("System calls that a fault is about, {what}"),
                )
            },
        );
        let answer_status = Levels::default();
        let help = "Status of the URL's last answer, 0 for none";
        registry.register("http_status", help, answer_status.clone());
        let answer_after = Latencies::default();
        let help = "How long the URL's last answer took";
        registry.register_with_unit("http_latency", help, Unit::Seconds, answer_after.clone());
        let registry = Arc::new(registry);
        Self {
            registry,
            cpu,
            throttled,
            memory,
            working_set,
            processes,
            threads,
            switches,
            carried,
            calls,
            calls_took,
            answer_status,
            answer_after,
        }
    }
}

impl Exporter {
    /// Adds what was used since the last time.
    pub fn add(&self, place: &Place, sample: &Sample) {
        let metrics = &sample.metrics;
        #[expect(clippy::cast_precision_loss, reason = "a span of a day has 27 bits")]
        let seconds = |ms: u64| ms as f64 / 1e3;
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.cpu.get_or_create(place).inc_by(seconds(metrics.cpu.used_ms));
        self.throttled.get_or_create(place).inc_by(seconds(metrics.cpu.throttled_ms));
        self.memory.get_or_create(place).set(number(metrics.memory_bytes));
        self.working_set.get_or_create(place).set(number(metrics.working_set_bytes));
        self.processes.get_or_create(place).set(metrics.processes.into());
        self.threads.get_or_create(place).set(metrics.threads.into());
        let switches = [metrics.voluntary_switches, metrics.involuntary_switches];
        for (counts, more) in self.switches.iter().zip(switches) {
            counts.get_or_create(place).inc_by(more);
        }
        for (counts, carried) in self.carried.iter().zip([metrics.received, metrics.sent]) {
            let more = [carried.bytes, carried.packets, carried.dropped];
            for (counts, more) in counts.iter().zip(more) {
                counts.get_or_create(place).inc_by(more);
            }
        }
        for CallCount { seen, hit, ended, took_us, .. } in &metrics.calls {
            for (counts, more) in self.calls.iter().zip([seen, hit, ended]) {
                counts.get_or_create(place).inc_by(*more);
            }
            self.calls_took.get_or_create(place).inc_by(seconds(*took_us) / 1e3);
        }
        if let Some(Answer { status, after }) = sample.answer {
            self.answer_status.get_or_create(place).set(status.into());
            self.answer_after.get_or_create(place).set(after.as_secs_f64());
        }
    }

    /// Answers at that address from now on, until the invocation ends.
    pub async fn listen(&self, address: SocketAddr) -> Result<SocketAddr, Error> {
        let refused = |error| {
            Error::new(Exit::Refused, format_args!("failed to listen at {address}: {error}"))
        };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let registry = Arc::clone(&self.registry);
        tokio::spawn(async move {
            // A connection that could not be taken is its maker's affair.
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let registry = Arc::clone(&registry);
                let service = service_fn(move |request| {
                    let response = answer(&registry, &request);
                    async move { Ok::<_, Infallible>(response) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(address)
    }
}

fn answer<B>(registry: &Registry, request: &Request<B>) -> Response<Full<Bytes>> {
    let mut text = String::new();
    if request.uri().path() != "/metrics" || encode(&mut text, registry).is_err() {
        let mut response = Response::new(Full::new("the metrics are at /metrics\n".into()));
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    }
    let mut response = Response::new(Full::new(text.into()));
    let value = header::HeaderValue::from_static(CONTENT_TYPE);
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use k8s_openapi::jiff::Timestamp;
    use pod_chaos_protocol::{Carriage, CpuUsage, Metrics};

    use super::*;

    #[test]
    fn counters_grow_and_gauges_are_set() {
        let place =
            Place { context: None, namespace: "a".into(), pod: "b".into(), container: "c".into() };
        let exporter = Exporter::default();
        let metrics = Metrics {
            cpu: CpuUsage { span_ms: 1000, used_ms: 250, throttled_ms: 0 },
            memory_bytes: 4096,
            received: Carriage { bytes: 10, packets: 1, dropped: 0 },
            calls: vec![CallCount { seen: 4, ended: 3, took_us: 1500, ..CallCount::default() }],
            ..Metrics::default()
        };
        let answer = Some(Answer { status: 200, after: Duration::from_millis(2) });
        let sample = Sample { at: Timestamp::UNIX_EPOCH, metrics, answer };
        exporter.add(&place, &sample);
        exporter.add(&place, &sample);
        let response =
            super::answer(&exporter.registry, &Request::get("/metrics").body(()).unwrap());
        assert_eq!(response.status(), StatusCode::OK);
        let mut text = String::new();
        encode(&mut text, &exporter.registry).unwrap();
        let labels = r#"{context="",namespace="a",pod="b",container="c"}"#;
        for line in [
            format!("pod_chaos_cpu_used_seconds_total{labels} 0.5"),
            format!("pod_chaos_memory_bytes{labels} 4096"),
            format!("pod_chaos_received_bytes_total{labels} 20"),
            format!("pod_chaos_calls_seen_total{labels} 8"),
            format!("pod_chaos_calls_took_seconds_total{labels} 0.003"),
            format!("pod_chaos_http_status{labels} 200"),
            format!("pod_chaos_http_latency_seconds{labels} 0.002"),
        ] {
            assert!(text.lines().any(|one| one == line), "{line}: {text}");
        }
        let response = super::answer(&exporter.registry, &Request::get("/").body(()).unwrap());
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
    }
}
