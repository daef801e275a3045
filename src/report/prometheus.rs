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
use pod_chaos_protocol::Metrics;
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use tokio::net::TcpListener;

use super::metrics::Place;
use crate::exit::{Error, Exit};

/// What text of this form is called (the OpenMetrics specification).
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Seconds = Family<Place, Counter<f64, AtomicU64>>;
type Counts = Family<Place, Counter>;
type Levels = Family<Place, Gauge>;

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
        }
    }
}

impl Exporter {
    /// Adds what was used since the last time.
    pub fn add(&self, place: &Place, metrics: &Metrics) {
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
    use pod_chaos_protocol::{Carriage, CpuUsage};

    use super::*;

    #[test]
    fn counters_grow_and_gauges_are_set() {
        let place = Place { namespace: "a".into(), pod: "b".into(), container: "c".into() };
        let exporter = Exporter::default();
        let metrics = Metrics {
            cpu: CpuUsage { span_ms: 1000, used_ms: 250, throttled_ms: 0 },
            memory_bytes: 4096,
            received: Carriage { bytes: 10, packets: 1, dropped: 0 },
            ..Metrics::default()
        };
        exporter.add(&place, &metrics);
        exporter.add(&place, &metrics);
        let response = answer(&exporter.registry, &Request::get("/metrics").body(()).unwrap());
        assert_eq!(response.status(), StatusCode::OK);
        let mut text = String::new();
        encode(&mut text, &exporter.registry).unwrap();
        let labels = r#"{namespace="a",pod="b",container="c"}"#;
        for line in [
            format!("pod_chaos_cpu_used_seconds_total{labels} 0.5"),
            format!("pod_chaos_memory_bytes{labels} 4096"),
            format!("pod_chaos_received_bytes_total{labels} 20"),
        ] {
            assert!(text.lines().any(|one| one == line), "{line}: {text}");
        }
        let response = answer(&exporter.registry, &Request::get("/").body(()).unwrap());
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
    }
}
