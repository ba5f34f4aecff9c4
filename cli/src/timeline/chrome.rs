//! The Chrome trace format, for Perfetto: an object with an array of events.

use super::{
    overlap,
    process::{Process, Slice, What},
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// No process id of Linux is larger.
const LARGEST_ID: u64 = 1 << 22;

/// The processes, with the names of their threads, and for each process the number inside as a counter. `beside`: each begins at 0.
pub fn written(processes: &[Process], beside: bool) -> String {
    let first = processes.iter().map(|process| process.time().0).min();
    let mut ids = BTreeSet::new();
    let mut events = Vec::new();
    let mut others = Vec::new();
    for (process, other) in processes.iter().zip(LARGEST_ID + 1..) {
        // Processes with one id would be drawn as one, and containers have an id 1 each.
        let pid = match ids.insert(process.id) {
            true => process.id,
            false => other,
        };
        let zero = match beside {
            true => process.time().0,
            false => first.unwrap_or(0),
        };
        add(&mut events, process, pid, zero);
        others.push(json!({
            "pid": pid,
            "process": process.id,
            "pid_namespace": process.namespace,
            "name": process.name,
            "host": process.host,
            "settings": process.settings,
            "began_ns": process.time().0,
            "overwritten": process.overwritten,
            "unread": process.unread,
        }));
    }
    let events: Vec<_> = events.iter().map(Value::to_string).collect();
    let others = json!({"made_by": "mrlock timeline", "processes": others});
    format!(
        "{{\"traceEvents\":[\n{}\n],\"otherData\":{others}}}\n",
        events.join(",\n")
    )
}

/// Times are from `zero` on.
fn add(events: &mut Vec<Value>, process: &Process, pid: u64, zero: u64) {
    let mut name = process.title();
    if process.namespace != 0 {
        name += &format!(", pid namespace {}", process.namespace);
    }
    let mut metadata = |kind: &str, tid: u64, arguments: Value| {
        events.push(json!({"name": kind, "ph": "M", "pid": pid, "tid": tid, "args": arguments}));
    };
    metadata("process_name", pid, json!({"name": name}));
    let mut labels = vec![overlap::sentence(process)];
    labels.extend(process.notes());
    metadata("process_labels", pid, json!({"labels": labels.join("; ")}));
    for (&tid, name) in &process.names {
        metadata("thread_name", tid.into(), json!({"name": name}));
    }
    for (&tid, slices) in &process.threads {
        events.extend(slices.iter().map(|slice| event(pid, tid, slice, zero)));
    }
    for step in overlap::steps(process) {
        let time = microseconds(step.time - zero);
        let arguments = json!({"threads": step.inside});
        events.push(
            json!({"name": "inside at once", "ph": "C", "ts": time, "pid": pid, "args": arguments}),
        );
    }
}

fn event(pid: u64, tid: u32, slice: &Slice, zero: u64) -> Value {
    let (mut name, category, mut arguments) = match &slice.what {
        What::Waiting(call) => ("waiting".to_owned(), "waiting", json!({"for": call})),
        What::Inside(call) => {
            let mut arguments = json!({"failed": call.failed, "alone": call.counts});
            if let Some(device) = &call.device {
                arguments["device"] = device.as_str().into();
            }
            if let Some((address, length)) = call.memory {
                arguments["address"] = format!("{address:#x}").into();
                arguments["length"] = length.into();
            }
            (call.name.clone(), "inside", arguments)
        }
    };
    if slice.is_under_way {
        name += " (under way)";
        arguments["under_way"] = true.into();
    }
    let start = microseconds(slice.start - zero);
    let length = microseconds(slice.end - slice.start);
    json!({"name": name, "cat": category, "ph": "X", "ts": start, "dur": length, "pid": pid, "tid": tid, "args": arguments})
}

fn microseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e3
}
