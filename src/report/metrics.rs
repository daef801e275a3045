//! What a container uses, line by line: a table, comma-separated values, or JSON.

use k8s_openapi::jiff::Timestamp;
use pod_chaos_protocol::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use serde_json::{Value, json};

use crate::cli::MetricsFormat;

/// Where metrics are from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Place {
    /// Namespace of the pod.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// The container's.
    pub container: String,
}

/// Names of the figures of [`figures`].
pub const FIGURES: [&str; 16] = [
    "span_ms",
    "cpu_used_ms",
    "cpu_throttled_ms",
    "memory_bytes",
    "working_set_bytes",
    "processes",
    "threads",
    "voluntary_switches",
    "involuntary_switches",
    "received_bytes",
    "received_packets",
    "received_dropped",
    "sent_bytes",
    "sent_packets",
    "sent_dropped",
    "cpu_percent",
];

/// All figures in the order of [`FIGURES`]. Percent are of one processor.
pub fn figures(metrics: &Metrics) -> [u64; 16] {
    let Metrics { cpu, received, sent, .. } = metrics;
    [
        cpu.span_ms,
        cpu.used_ms,
        cpu.throttled_ms,
        metrics.memory_bytes,
        metrics.working_set_bytes,
        metrics.processes.into(),
        metrics.threads.into(),
        metrics.voluntary_switches,
        metrics.involuntary_switches,
        received.bytes,
        received.packets,
        received.dropped,
        sent.bytes,
        sent.packets,
        sent.dropped,
        percent(metrics),
    ]
}

fn percent(metrics: &Metrics) -> u64 {
    metrics.cpu.used_ms * 100 / metrics.cpu.span_ms.max(1)
}

/// The line above all others, in formats that have one. Text says where it is from when it is from `several` places.
pub fn head(format: MetricsFormat, several: bool) -> Option<String> {
    let after = if several { "   FROM" } else { "" };
    match format {
        MetricsFormat::Text => Some(
            row(&[
                "TIME",
                "CPU",
                "THROTTLED",
                "MEMORY",
                "WORKING SET",
                "PROCESSES",
                "THREADS",
                "SWITCHES",
                "RECEIVED",
                "SENT",
            ]) + after,
        ),
        MetricsFormat::Csv => Some(format!("time,namespace,pod,container,{}", FIGURES.join(","))),
        MetricsFormat::Json => None,
    }
}

/// One line.
pub fn line(
    format: MetricsFormat,
    place: &Place,
    several: bool,
    at: Timestamp,
    metrics: &Metrics,
) -> String {
    let Place { namespace, pod, container } = place;
    match format {
        MetricsFormat::Text if several => {
            format!("{}   {namespace}/{pod}/{container}", text(at, metrics))
        }
        MetricsFormat::Text => text(at, metrics),
        MetricsFormat::Csv => {
            let figures = figures(metrics).map(|figure| figure.to_string()).join(",");
            format!("{at:.3},{namespace},{pod},{container},{figures}")
        }
        MetricsFormat::Json => {
            let mut line = json!({
                "time": format!("{at:.3}"), "namespace": namespace, "pod": pod, "container": container,
            });
            for (name, figure) in FIGURES.iter().zip(figures(metrics)) {
                line[*name] = Value::from(figure);
            }
            line.to_string()
        }
    }
}

fn text(at: Timestamp, metrics: &Metrics) -> String {
    let per_second = |count: u64| count * 1000 / metrics.cpu.span_ms.max(1);
    row(&[
        &at.strftime("%H:%M:%S").to_string(),
        &format!("{}%", percent(metrics)),
        &format!("{} ms", metrics.cpu.throttled_ms),
        &bytes(metrics.memory_bytes),
        &bytes(metrics.working_set_bytes),
        &metrics.processes.to_string(),
        &metrics.threads.to_string(),
        &format!("{}/s", per_second(metrics.voluntary_switches + metrics.involuntary_switches)),
        &format!("{}/s", bytes(per_second(metrics.received.bytes))),
        &format!("{}/s", bytes(per_second(metrics.sent.bytes))),
    ])
}

fn row(cells: &[&str]) -> String {
    let cells: Vec<_> = cells.iter().map(|cell| format!("{cell:>11}")).collect();
    cells.join(" ")
}

/// With a unit of 1024.
fn bytes(number: u64) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if number >> shift > 0 {
            let tenths = ((number >> (shift - 10)) * 10) >> 10;
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
    }
    format!("{number} B")
}

#[cfg(test)]
mod tests {
    use pod_chaos_protocol::{Carriage, CpuUsage};

    use super::*;

    fn metrics() -> Metrics {
        Metrics {
            cpu: CpuUsage { span_ms: 1000, used_ms: 250, throttled_ms: 3 },
            memory_bytes: 3 << 20,
            working_set_bytes: 2560,
            processes: 2,
            threads: 5,
            voluntary_switches: 40,
            involuntary_switches: 2,
            received: Carriage { bytes: 2048, packets: 4, dropped: 0 },
            sent: Carriage { bytes: 7, packets: 1, dropped: 0 },
        }
    }

    #[test]
    fn each_format_says_the_same() {
        let place = Place { namespace: "a".into(), pod: "b".into(), container: "c".into() };
        let at = Timestamp::from_millisecond(1_000).unwrap();
        let of = |format| line(format, &place, false, at, &metrics());
        assert_eq!(
            of(MetricsFormat::Csv),
            "1970-01-01T00:00:01.000Z,a,b,c,1000,250,3,3145728,2560,2,5,40,2,2048,4,0,7,1,0,25"
        );
        let columns = |line: &str| line.split(',').count();
        assert_eq!(
            columns(&head(MetricsFormat::Csv, false).unwrap()),
            columns(&of(MetricsFormat::Csv))
        );
        let json: Value = serde_json::from_str(&of(MetricsFormat::Json)).unwrap();
        assert_eq!((&json["pod"], &json["cpu_percent"]), (&json!("b"), &json!(25)));
        let text = of(MetricsFormat::Text);
        for word in ["00:00:01", "25%", "3 ms", "3.0 MiB", "2.5 KiB", "42/s", "2.0 KiB/s", "7 B/s"]
        {
            assert!(text.contains(word), "{word}: {text}");
        }
        assert_eq!(text.chars().count(), head(MetricsFormat::Text, false).unwrap().chars().count());
    }
}
