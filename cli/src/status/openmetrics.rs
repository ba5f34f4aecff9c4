//! `--openmetrics`: what was seen, in the OpenMetrics text format 1.0. The types are those that Prometheus' older text format has,
//! too, which node_exporter's textfile collector reads.

use super::{
    look::Look,
    seen::{Coverage, Covered, Process},
};
use crate::record::{Operation, Step};
use std::{collections::BTreeSet, fmt::Write};

/// A counter of each operation.
struct OfOperation {
    /// The name without the suffix of its type.
    name: &'static str,
    is_counter: bool,
    help: &'static str,
    value: fn(&Operation) -> Value,
}

enum Value {
    Count(u64),
    Nanoseconds(u64),
}

use Value::{Count, Nanoseconds};

#[rustfmt::skip]
const OF_OPERATIONS: [OfOperation; 7] = [
    OfOperation { name: "mrlock_calls", is_counter: true, help: "Calls.", value: |it| Count(it.calls) },
    OfOperation { name: "mrlock_failures", is_counter: true, help: "Calls that failed.", value: |it| Count(it.failures) },
    OfOperation { name: "mrlock_waits", is_counter: true, help: "Calls that waited for another thread.", value: |it| Count(it.waits) },
    OfOperation { name: "mrlock_wait_seconds", is_counter: true, help: "How long calls have waited.",
        value: |it| Nanoseconds(it.wait_ns) },
    OfOperation { name: "mrlock_longest_wait_seconds", is_counter: false, help: "The longest wait.",
        value: |it| Nanoseconds(it.longest_wait_ns) },
    OfOperation { name: "mrlock_inside_seconds", is_counter: true, help: "How long calls were inside.",
        value: |it| Nanoseconds(it.inside_ns) },
    OfOperation { name: "mrlock_longest_inside_seconds", is_counter: false, help: "The longest time inside.",
        value: |it| Nanoseconds(it.longest_inside_ns) },
];

const STEPS: [(Step, &str); 3] = [
    (Step::Inside, "inside"),
    (Step::Waiting, "waiting"),
    (Step::LetThrough, "let-through"),
];

/// All metrics, with the line that ends them.
pub fn text(look: &Look) -> String {
    let mut to = String::new();
    let all = || look.processes.iter().chain(&look.unknown);
    family(
        &mut to,
        "mrlock_processes",
        "gauge",
        "Processes that were looked at, by what is known about the library in them.",
    );
    for state in ["covered", "unreadable", "not-covered", "unknown"] {
        let count = all().filter(|it| state_of(it) == state).count();
        sample(
            &mut to,
            "mrlock_processes",
            &vec![("state", state.into())],
            Count(count as u64),
        );
    }
    family(
        &mut to,
        "mrlock_covered",
        "gauge",
        "1 if the process has the library, and its record can be read.",
    );
    for process in &look.processes {
        let value = Count((state_of(process) == "covered").into());
        sample(&mut to, "mrlock_covered", &labels(process, &[]), value);
    }
    let covered: Vec<_> = look.processes.iter().filter_map(with_record).collect();
    write_settings(&mut to, &covered);
    for OfOperation {
        name,
        is_counter,
        help,
        value,
    } in OF_OPERATIONS
    {
        family(
            &mut to,
            name,
            if is_counter { "counter" } else { "gauge" },
            help,
        );
        let full = format!("{name}{}", if is_counter { "_total" } else { "" });
        for (process, covered) in &covered {
            // Any program can say that it is the library: a second sample of a name would make a reader refuse all of the text.
            let mut names = BTreeSet::new();
            let operations = covered.operations.iter();
            for operation in operations.filter(|it| names.insert(escaped(&it.name))) {
                let labels = labels(process, &[("operation", &operation.name)]);
                sample(&mut to, &full, &labels, value(operation));
            }
        }
    }
    family(
        &mut to,
        "mrlock_let_through",
        "counter",
        "Calls that were let through, because their memory is the host's.",
    );
    for (process, covered) in &covered {
        sample(
            &mut to,
            "mrlock_let_through_total",
            &labels(process, &[]),
            Count(covered.let_through),
        );
    }
    family(
        &mut to,
        "mrlock_most_threads_at_once",
        "gauge",
        "The most threads that were inside or waiting at once.",
    );
    for (process, covered) in &covered {
        sample(
            &mut to,
            "mrlock_most_threads_at_once",
            &labels(process, &[]),
            Count(covered.most_at_once),
        );
    }
    write_steps(&mut to, &covered);
    to.push_str("# EOF\n");
    to
}

type Labels = Vec<(&'static str, String)>;

/// The labels of a process, and more.
fn labels(process: &Process, more: &[(&'static str, &str)]) -> Labels {
    let mut labels = vec![
        ("pid", process.pid.to_string()),
        ("program", process.program.clone()),
    ];
    labels.extend(more.iter().map(|&(name, value)| (name, value.to_owned())));
    labels
}

type WithRecord<'a> = (&'a Process, &'a Covered);

fn with_record(process: &Process) -> Option<WithRecord<'_>> {
    match &process.coverage {
        Coverage::Covered(covered) => Some((process, covered)),
        _ => None,
    }
}

fn state_of(process: &Process) -> &'static str {
    match process.coverage {
        Coverage::Covered(_) => "covered",
        Coverage::Unreadable { .. } => "unreadable",
        Coverage::NotCovered { .. } => "not-covered",
        Coverage::Unknown { .. } => "unknown",
    }
}

/// Not of the type "info", which the older format does not have.
fn write_settings(to: &mut String, covered: &[WithRecord]) {
    family(
        to,
        "mrlock_library",
        "gauge",
        "1: the version of the library in the process, and its setting MRLOCK.",
    );
    for (process, covered) in covered {
        let more = [("version", &*covered.version), ("mrlock", covered.mode())];
        sample(to, "mrlock_library", &labels(process, &more), Count(1));
    }
}

/// How many threads are in a call now, and for how long the first has been.
fn write_steps(to: &mut String, covered: &[WithRecord]) {
    let each = |of: &mut dyn FnMut(&Labels, Vec<u64>)| {
        for (process, covered) in covered {
            for (step, name) in STEPS {
                let calls = covered.under_way.iter().filter(|call| call.step == step);
                let times = calls.map(|call| call.for_ns).collect();
                of(&labels(process, &[("step", name)]), times);
            }
        }
    };
    family(
        to,
        "mrlock_threads",
        "gauge",
        "Threads in a call now, by how far it is.",
    );
    each(&mut |labels, times| sample(to, "mrlock_threads", labels, Count(times.len() as u64)));
    let name = "mrlock_oldest_call_seconds";
    family(
        to,
        name,
        "gauge",
        "For how long the oldest call under way has been inside, or waited; 0 if there is none.",
    );
    each(&mut |labels, times| {
        let oldest = times.into_iter().max().unwrap_or(0);
        sample(to, name, labels, Nanoseconds(oldest));
    });
}

fn family(to: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(to, "# TYPE {name} {kind}");
    if name.ends_with("_seconds") {
        let _ = writeln!(to, "# UNIT {name} seconds");
    }
    let _ = writeln!(to, "# HELP {name} {help}");
}

fn sample(to: &mut String, name: &str, labels: &Labels, value: Value) {
    let labels: Vec<_> = labels
        .iter()
        .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
        .collect();
    let _ = write!(to, "{name}{{{}}} ", labels.join(","));
    let _ = match value {
        Count(count) => writeln!(to, "{count}"),
        Nanoseconds(time) => writeln!(to, "{}.{:09}", time / 1_000_000_000, time % 1_000_000_000),
    };
}

/// The value of a label. Other control characters are allowed, but a reader may take them for the end of a line.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
        .replace(char::is_control, "?")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Record, layout as l, sample};
    use std::mem::{offset_of, size_of};

    #[test]
    fn two_operations_of_one_name() {
        let mut bytes = sample::sample();
        let second = offset_of!(l::Record, operations) + size_of::<l::Operation>();
        let name = second + offset_of!(l::Operation, name);
        sample::write(&mut bytes, name, "ibv_reg_mr");
        let record = Record::in_bytes(&bytes).expect("a record");
        assert_eq!(record.operations.len(), 2);
        let covered = Covered {
            file: String::new(),
            other_copies: vec![],
            version: record.library,
            settings: record.settings,
            hooks: vec![],
            most_at_once: 0,
            let_through: 0,
            calls_per_second: None,
            operations: record.operations,
            devices: vec![],
            under_way: vec![],
            threads_not_shown: 0,
            now: 0,
        };
        let process = Process {
            pid: 7,
            parent: 1,
            depth: 0,
            program: "server".into(),
            coverage: Coverage::Covered(Box::new(covered)),
        };
        let look = Look {
            processes: vec![process],
            unknown: vec![],
        };
        let text = text(&look);
        let samples = text
            .lines()
            .filter(|line| line.starts_with("mrlock_calls_total{"));
        assert_eq!(samples.count(), 1, "{text}");
    }
}
