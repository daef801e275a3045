//! What a container uses, line by line: a table, comma-separated values, or JSON.

use k8s_openapi::jiff::Timestamp;
use std::{fmt::Write as _, time::Duration};

use pod_chaos_protocol::{CallCount, Metrics};
use prometheus_client::encoding::EncodeLabelSet;
use serde_json::{Value, json};

use crate::cli::MetricsFormat;

/// Where metrics are from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Place {
    /// The context that leads there, where there are several.
    pub context: Option<String>,
    /// Namespace of the pod.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// The container's.
    pub container: String,
}

/// What a URL has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Of HTTP; 0 when there was no answer, or none in whole.
    pub status: u16,
    /// From the first step of connecting to the last byte.
    pub after: Duration,
}

/// What was found out in a span.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its end.
    pub at: Timestamp,
    /// By the agent.
    pub metrics: Metrics,
    /// The last answer in it; `None` when there was none, or when nothing is asked.
    pub answer: Option<Answer>,
}

/// Names of the figures of [`Sample::figures`].
pub const FIGURES: [&str; 21] = [
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
    "calls_seen",
    "calls_hit",
    "calls_mean_us",
    "http_status",
    "http_latency_ms",
];

impl Sample {
    /// All figures in the order of [`FIGURES`], as far as there are any. Percent are of one processor.
    pub fn figures(&self) -> [Option<u64>; 21] {
        let Self { metrics, answer, .. } = self;
        let Metrics { cpu, received, sent, calls, .. } = metrics;
        let sum = |figure: fn(&CallCount) -> u64| {
            (!calls.is_empty()).then(|| calls.iter().map(figure).sum::<u64>())
        };
        let ended = sum(|call| call.ended).filter(|ended| *ended > 0);
        [
            Some(cpu.span_ms),
            Some(cpu.used_ms),
            Some(cpu.throttled_ms),
            Some(metrics.memory_bytes),
            Some(metrics.working_set_bytes),
            Some(metrics.processes.into()),
            Some(metrics.threads.into()),
            Some(metrics.voluntary_switches),
            Some(metrics.involuntary_switches),
            Some(received.bytes),
            Some(received.packets),
            Some(received.dropped),
            Some(sent.bytes),
            Some(sent.packets),
            Some(sent.dropped),
            Some(percent(metrics)),
            sum(|call| call.seen),
            sum(|call| call.hit),
            sum(|call| call.took_us).zip(ended).map(|(took, ended)| took / ended),
            answer.map(|answer| answer.status.into()),
            answer.map(|answer| millis(answer.after)),
        ]
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn percent(metrics: &Metrics) -> u64 {
    metrics.cpu.used_ms * 100 / metrics.cpu.span_ms.max(1)
}

/// What is printed besides, in text: other formats always have it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Columns {
    /// Where it is from, as it is from several places.
    pub places: bool,
    /// In which context, as there are several; in every format.
    pub contexts: bool,
    /// What the URL answers.
    pub answers: bool,
}

/// The line above all others, in formats that have one.
pub fn head(format: MetricsFormat, columns: Columns) -> Option<String> {
    match format {
        MetricsFormat::Text => {
            let mut head = row(&[
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
            ]);
            if columns.answers {
                head += &cell("ANSWER", ANSWER_WIDTH);
            }
            if columns.places {
                head += "   FROM";
            }
            Some(head)
        }
        MetricsFormat::Csv if columns.contexts => Some(format!("context,{}", csv_head())),
        MetricsFormat::Csv => Some(csv_head()),
        MetricsFormat::Json => None,
    }
}

/// One line.
pub fn line(format: MetricsFormat, place: &Place, columns: Columns, sample: &Sample) -> String {
    let Place { context, namespace, pod, container } = place;
    match format {
        MetricsFormat::Text => {
            let mut line = text(sample);
            if columns.answers {
                line += &cell(&answer(sample.answer), ANSWER_WIDTH);
            }
            if columns.places {
                let context = context.as_ref().map_or_else(String::new, |it| format!("{it}/"));
                let _ = write!(line, "   {context}{namespace}/{pod}/{container}");
            }
            line
        }
        MetricsFormat::Csv => match context {
            Some(context) => format!("{context},{}", csv(place, sample)),
            None => csv(place, sample),
        },
        MetricsFormat::Json => json(place, sample).to_string(),
    }
}

/// Names of the fields of [`csv`].
pub fn csv_head() -> String {
    format!("time,namespace,pod,container,{}", FIGURES.join(","))
}

/// Comma-separated values; what is not known is empty.
pub fn csv(Place { namespace, pod, container, .. }: &Place, sample: &Sample) -> String {
    let figure = |figure: Option<u64>| figure.map_or_else(String::new, |it| it.to_string());
    let figures = sample.figures().map(figure).join(",");
    format!("{:.3},{namespace},{pod},{container},{figures}", sample.at)
}

/// An object; what is not known is left out.
pub fn json(Place { context, namespace, pod, container }: &Place, sample: &Sample) -> Value {
    let mut line = json!({
        "time": format!("{:.3}", sample.at), "namespace": namespace, "pod": pod, "container": container,
    });
    if let Some(context) = context {
        line["context"] = context.as_str().into();
    }
    for (name, figure) in FIGURES.iter().zip(sample.figures()) {
        if let Some(figure) = figure {
            line[*name] = Value::from(figure);
        }
    }
    if !sample.metrics.calls.is_empty() {
        line["calls"] = json!(sample.metrics.calls);
    }
    line
}

fn text(Sample { at, metrics, .. }: &Sample) -> String {
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

/// As `200 in 3 ms`.
fn answer(answer: Option<Answer>) -> String {
    match answer {
        Some(Answer { status: 0, after }) => format!("none in {} ms", millis(after)),
        Some(Answer { status, after }) => format!("{status} in {} ms", millis(after)),
        None => String::new(),
    }
}

const ANSWER_WIDTH: usize = 16;

fn cell(text: &str, width: usize) -> String {
    format!("{text:>width$}")
}

fn row(cells: &[&str]) -> String {
    let cells: Vec<_> = cells.iter().map(|text| cell(text, 11)).collect();
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

    fn sample() -> Sample {
        let metrics = Metrics {
            cpu: CpuUsage { span_ms: 1000, used_ms: 250, throttled_ms: 3 },
            memory_bytes: 3 << 20,
            working_set_bytes: 2560,
            processes: 2,
            threads: 5,
            voluntary_switches: 40,
            involuntary_switches: 2,
            received: Carriage { bytes: 2048, packets: 4, dropped: 0 },
            sent: Carriage { bytes: 7, packets: 1, dropped: 0 },
            calls: Vec::new(),
        };
        let at = Timestamp::from_millisecond(1_000).unwrap();
        Sample { at, metrics, answer: None }
    }

    #[test]
    fn each_format_says_in_which_context_where_there_are_several() {
        let context = Some("west".to_owned());
        let place =
            Place { context, namespace: "a".into(), pod: "b".into(), container: "c".into() };
        let columns = Columns { places: true, contexts: true, answers: false };
        let of = |format| line(format, &place, columns, &sample());
        let (head, csv) = (head(MetricsFormat::Csv, columns).unwrap(), of(MetricsFormat::Csv));
        assert!(head.starts_with("context,time,namespace,"), "{head}");
        assert!(csv.starts_with("west,1970-01-01T00:00:01.000Z,a,b,c,"), "{csv}");
        assert!(of(MetricsFormat::Text).ends_with("   west/a/b/c"));
        assert!(of(MetricsFormat::Json).contains(r#""context":"west""#));
    }

    #[test]
    fn each_format_says_the_same() {
        let place =
            Place { context: None, namespace: "a".into(), pod: "b".into(), container: "c".into() };
        let mut sample = sample();
        let columns = Columns { places: false, contexts: false, answers: true };
        let of = |format, sample: &Sample| line(format, &place, columns, sample);
        assert_eq!(
            of(MetricsFormat::Csv, &sample),
            "1970-01-01T00:00:01.000Z,a,b,c,1000,250,3,3145728,2560,2,5,40,2,2048,4,0,7,1,0,25,,,,,"
        );
        let fields = |line: &str| line.split(',').count();
        let head = |format| head(format, columns).unwrap();
        assert_eq!(fields(&head(MetricsFormat::Csv)), fields(&of(MetricsFormat::Csv, &sample)));
        let json: Value = serde_json::from_str(&of(MetricsFormat::Json, &sample)).unwrap();
        assert_eq!(json.get("http_status"), None);
        assert_eq!((&json["pod"], &json["cpu_percent"]), (&json!("b"), &json!(25)));
        let text = of(MetricsFormat::Text, &sample);
        for word in ["00:00:01", "25%", "3 ms", "3.0 MiB", "2.5 KiB", "42/s", "2.0 KiB/s", "7 B/s"]
        {
            assert!(text.contains(word), "{word}: {text}");
        }
        assert_eq!(text.chars().count(), head(MetricsFormat::Text).chars().count());
        let count =
            |ended, took_us| CallCount { seen: 9, hit: 7, ended, took_us, ..CallCount::default() };
        sample.metrics.calls = vec![count(2, 30), count(1, 33)];
        sample.answer = Some(Answer { status: 403, after: Duration::from_millis(12) });
        assert!(of(MetricsFormat::Csv, &sample).ends_with(",25,18,14,21,403,12"));
        assert!(of(MetricsFormat::Text, &sample).ends_with("403 in 12 ms"));
    }
}
