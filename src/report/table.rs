//! Tables for people.

use std::fmt::Write as _;

use pod_chaos_protocol::{CallCounts, FaultState};

use super::{
    Place, Told,
    text::{container, counted, hit, images, names, packets, seconds, what},
};

/// What a terminal has, if nobody has made it wider.
const TERMINAL: usize = 80;
/// What is left of what a fault does, however long the names are: `delay 100ms`.
const BRIEFEST: usize = 11;
/// What is not known.
const UNKNOWN: &str = "?";
/// Between two columns, as kubectl has it.
const GAP: &str = "   ";

/// Faults, as what fits a terminal unless names are long, with columns for contexts and namespaces where there are
/// several.
pub fn status(rows: &[(Place, Told)], with_namespaces: bool) -> String {
    let cells = rows.iter().map(|(_, fault)| {
        let Fault { id, is_live, brief, left_ms, count, .. } = Fault::of(fault);
        let left = if is_live { known(left_ms, clock) } else { "expired".to_owned() };
        vec![id, brief, left, known(count, |count| count.to_string())]
    });
    let mut table = placed(rows, with_namespaces, ["FAULT", "WHAT", "LEFT", "HIT"], cells);
    let brief = table[0].len() - 3;
    let widths = widths(&table);
    let width = widths.iter().sum::<usize>() + GAP.len() * (widths.len() - 1);
    let room = widths[brief].saturating_sub(width.saturating_sub(TERMINAL)).max(BRIEFEST);
    for row in &mut table {
        shorten(&mut row[brief], room);
    }
    self::table(&table)
}

/// The same with all there is to say, however wide it gets.
pub fn wide_status(rows: &[(Place, Told)]) -> String {
    let head = ["FAULT", "STATE", "WHERE", "WHAT", "AGE", "LEFT", "HIT", "BACKEND"];
    let cells = rows.iter().map(|(_, fault)| {
        let Fault { id, is_live, place, what, age_ms, left_ms, hit, backend, .. } =
            Fault::of(fault);
        let state = if is_live { "in force" } else { "expired" };
        let [age, left] = [age_ms, left_ms].map(|ms| known(ms, seconds));
        vec![id, state.to_owned(), place, what, age, left, hit, backend]
    });
    table(&placed(rows, true, head, cells))
}

/// A number as text, if it is known.
fn known(number: Option<u64>, text: impl Fn(u64) -> String) -> String {
    number.map_or_else(|| UNKNOWN.to_owned(), text)
}

/// What the columns say of a fault.
struct Fault {
    id: String,
    is_live: bool,
    /// Its interfaces, or its container.
    place: String,
    what: String,
    /// The same without what goes without saying.
    brief: String,
    age_ms: Option<u64>,
    left_ms: Option<u64>,
    hit: String,
    /// The same as a number: packets, system calls, processes or containers.
    count: Option<u64>,
    backend: String,
}

impl Fault {
    fn of(fault: &Told) -> Self {
        let id = fault.id().to_string();
        match fault {
            Told::Network(status) => {
                let what = what(status);
                // All that leaves is what is meant when nothing is said.
                let brief = what.strip_suffix(" on egress").unwrap_or(&what).to_owned();
                Self {
                    id,
                    is_live: status.state == FaultState::InForce,
                    place: names(&status.interfaces),
                    what,
                    brief,
                    age_ms: Some(status.age_ms),
                    left_ms: Some(status.remaining_ms),
                    hit: packets(status),
                    count: Some(status.packets),
                    backend: status.backend.to_string(),
                }
            }
            Told::Process(status) => Self {
                id,
                is_live: status.state == FaultState::InForce,
                place: container(&status.target),
                what: status.doing.to_string(),
                brief: format!("{} in {}", status.doing, status.target.container),
                age_ms: Some(status.age_ms),
                left_ms: Some(status.remaining_ms),
                hit: hit(status),
                count: Some(match &status.calls {
                    Some(calls) => CallCounts::total(calls).1,
                    None => status.processes.into(),
                }),
                backend: "the agent beside it".to_owned(),
            },
            Told::Images(one) => {
                let what = images(&one.swap);
                let count = one.swap.images.len();
                Self {
                    id,
                    is_live: true,
                    place: "pod".to_owned(),
                    brief: what.clone(),
                    what,
                    age_ms: Some(one.age_s * 1000),
                    left_ms: Some(one.left_s * 1000),
                    hit: counted(u32::try_from(count).unwrap_or(u32::MAX), "container", "s"),
                    count: Some(count as u64),
                    backend: format!("job/{}", one.swap.job),
                }
            }
            Told::Nothing { why, .. } => Self {
                id,
                is_live: true,
                place: UNKNOWN.to_owned(),
                what: format!("not told by its agent: {why}"),
                brief: "not told by its agent".to_owned(),
                age_ms: None,
                left_ms: None,
                hit: UNKNOWN.to_owned(),
                count: None,
                backend: UNKNOWN.to_owned(),
            },
        }
    }
}

/// These columns after those that say where, as far as that is worth a column.
fn placed<const N: usize>(
    rows: &[(Place, Told)],
    with_namespaces: bool,
    head: [&str; N],
    cells: impl Iterator<Item = Vec<String>>,
) -> Vec<Vec<String>> {
    let with_contexts = rows.iter().any(|(place, _)| place.scope.context.is_some());
    let first = if with_contexts { 0 } else { 2 - usize::from(with_namespaces) };
    let head = ["CONTEXT", "NAMESPACE", "POD"].into_iter().chain(head).skip(first);
    let mut table = vec![head.map(str::to_owned).collect()];
    table.extend(rows.iter().zip(cells).map(|((Place { scope, name }, _), cells)| {
        let context = scope.context.as_deref().unwrap_or_default().to_owned();
        let place = [context, scope.namespace.clone(), name.to_string()];
        place.into_iter().chain(cells).skip(first).collect()
    }));
    table
}

/// Rows in columns, the first row being the head.
pub fn table(rows: &[impl AsRef<[String]>]) -> String {
    let widths = widths(rows);
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.as_ref().iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}{GAP}");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn widths(rows: &[impl AsRef<[String]>]) -> Vec<usize> {
    let mut widths = Vec::new();
    for row in rows {
        let row = row.as_ref();
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    widths
}

/// Leaves so many characters of it, the last of which says that there were more.
fn shorten(cell: &mut String, room: usize) {
    if cell.chars().count() > room {
        *cell = cell.chars().take(room - 1).collect::<String>().trim_end().to_owned() + "…";
    }
}

/// A time in two units at most, rounded up: `24s`, `4m10s`, `2h5m`.
fn clock(ms: u64) -> String {
    let seconds = ms.div_ceil(1000);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{}s", seconds % 60),
        _ => format!("{hours}h{minutes}m"),
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use pod_chaos_protocol::FaultId;
    use serde_json::json;

    use super::*;
    use crate::{cluster::Scope, plan::PodName};

    fn at(context: Option<&str>, namespace: &str, pod: &str) -> Place {
        let scope = Scope { context: context.map(Into::into), namespace: namespace.to_owned() };
        Place { scope, name: pod.parse::<PodName>().unwrap() }
    }

    fn network(change: &[(&str, serde_json::Value)]) -> Told {
        let mut status = json!({
            "fault": "1f3c9a02", "state": "in-force", "interfaces": ["eth0"], "backend": "netdev-egress",
            "netem": {"delay": "100ms"}, "age-ms": 5400, "remaining-ms": 24600, "packets": 48210,
        });
        for (key, value) in change {
            status[*key] = value.clone();
        }
        Told::Network(serde_json::from_value(status).unwrap())
    }

    fn process(doing: &serde_json::Value) -> Told {
        let target = json!({"container": "worker", "id": "0123456789abcdef"});
        let status = json!({
            "fault": "9b2d11c7", "state": "in-force", "target": target, "doing": doing,
            "processes": 12, "threads": 48, "age-ms": 5400, "remaining-ms": 250_000,
        });
        Told::Process(serde_json::from_value(status).unwrap())
    }

    /// As pods of a Deployment are called.
    const WEB: &str = "nginx-7c5ddbdf54-x2x8k";

    fn all() -> Vec<Told> {
        let much = json!({"delay": "100ms", "jitter": "20ms", "loss": "5%"});
        let far = json!({"egress": [{"name": "10.0.0.0/8", "endpoints": ["10.0.0.0/8"]}]});
        vec![
            network(&[]),
            network(&[("state", json!("expired")), ("remaining-ms", json!(0))]),
            network(&[("netem", much), ("traffic", far)]),
            process(&json!("pause")),
            Told::Nothing {
                fault: FaultId::new(7),
                why: "expected value at line 1 column 1".to_owned(),
            },
        ]
    }

    fn rows(place: &Place) -> Vec<(Place, Told)> {
        all().into_iter().map(|told| (place.clone(), told)).collect()
    }

    #[test]
    fn ordinary_names_fit_a_terminal() {
        let width = |table: &str| table.lines().map(|line| line.chars().count()).max().unwrap();
        let alone = status(&rows(&at(None, "default", WEB)), false);
        let everywhere = status(&rows(&at(None, "default", WEB)), true);
        for table in [&alone, &everywhere] {
            assert!(width(table) <= TERMINAL, "{}\n{table}", width(table));
            // What is asked for most is there in whole.
            assert!(table.contains("  delay 100ms  "), "{table}");
        }
        let contexts = status(&rows(&at(Some("west"), "shop", "web-0")), true);
        assert!(width(&contexts) <= TERMINAL, "{contexts}");
        assert_snapshot!(format!("{alone}\n{everywhere}\n{contexts}"));
    }

    #[test]
    fn wide_leaves_nothing_out() {
        assert_snapshot!(wide_status(&rows(&at(None, "default", WEB))));
    }

    #[test]
    fn long_names_are_kept_and_leave_room_for_the_fault() {
        let name = "n".repeat(63);
        let table = status(&rows(&at(None, "default", &name)), false);
        assert!(table.contains(&name) && table.contains("  delay 100ms  "), "{table}");
    }

    #[test]
    fn times_are_rounded_up() {
        for (ms, text) in
            [(0, "0s"), (1, "1s"), (59_001, "1m0s"), (250_000, "4m10s"), (7_500_000, "2h5m")]
        {
            assert_eq!(clock(ms), text);
        }
    }
}
