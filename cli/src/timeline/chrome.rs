//! Reads a JSON array of Chrome trace events: what `-o FILE.json` writes, and what mrlock 0.2.0 wrote, one event a line, which was
//! never closed.

use super::{
    overlap,
    trace::{self, Call, Slice, Trace, What},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::{self, BufRead};

#[derive(Deserialize)]
struct Event {
    name: String,
    #[serde(default)]
    cat: String,
    ph: String,
    #[serde(default)]
    ts: f64,
    #[serde(default)]
    dur: f64,
    pid: i64,
    tid: i64,
    #[serde(default)]
    args: Arguments,
}

#[derive(Default, Deserialize)]
struct Arguments {
    name: Option<String>,
    mrlock: Option<String>,
    r#for: Option<String>,
    device: Option<String>,
    address: Option<String>,
    length: Option<u64>,
    #[serde(default)]
    failed: bool,
    #[serde(default)]
    under_way: bool,
    #[serde(default)]
    alone_not_needed: bool,
}

impl Trace {
    /// Reads a trace to its end, which may be in the middle of an event.
    pub fn of_chrome(mut file: impl BufRead) -> io::Result<Self> {
        let mut trace = Self::default();
        let mut line = Vec::new();
        while file.read_until(b'\n', &mut line)? > 0 {
            let is_whole = line.ends_with(b"\n");
            let text = String::from_utf8_lossy(&line);
            let text = text
                .trim()
                .trim_start_matches('[')
                .trim_end_matches([',', ']']);
            if !text.is_empty() && trace.add(text).is_none() && is_whole {
                trace.damaged += 1;
            }
            line.clear();
        }
        trace.arrange();
        Ok(trace)
    }

    /// Adds one event. `None`: it is damaged. An event of another kind is left out.
    fn add(&mut self, text: &str) -> Option<()> {
        let Event {
            name,
            cat,
            ph,
            ts,
            dur,
            pid,
            tid,
            args,
        } = serde_json::from_str(text).ok()?;
        let process = self.processes.entry(pid).or_default();
        let what = match (ph.as_str(), cat.as_str()) {
            ("M", _) if name == "process_name" => {
                process.name = args.name;
                process.mode = args.mrlock;
                return Some(());
            }
            ("M", _) if name == "thread_name" => {
                if let Some(name) = args.name {
                    process.names.insert(tid, name);
                }
                return Some(());
            }
            ("X", "waiting") => What::Waiting(args.r#for.unwrap_or(name)),
            ("X", "inside") => What::Inside(Call {
                name,
                device: args.device,
                address: args.address,
                length: args.length,
                failed: args.failed,
                counts: !args.alone_not_needed,
            }),
            _ => return Some(()),
        };
        let start = nanoseconds(ts)?;
        let end = start.checked_add(nanoseconds(dur)?)?;
        let slices = process.threads.entry(tid).or_default();
        slices.push(Slice {
            start,
            end,
            is_under_way: args.under_way,
            what,
        });
        Some(())
    }
}

/// Nanoseconds from microseconds. At most two centuries, so that no sum overflows.
fn nanoseconds(microseconds: f64) -> Option<u64> {
    let nanoseconds = (microseconds * 1000.0).round();
    (0.0..=6e18)
        .contains(&nanoseconds)
        .then_some(nanoseconds as u64)
}

/// The trace as a closed array of events, for Perfetto: threads with names, and for each process the number inside as a counter.
pub fn written(trace: &Trace) -> String {
    let mut events = Vec::new();
    for (&key, process) in &trace.processes {
        let pid = trace::id(key);
        let name = process.name.as_deref().unwrap_or("process");
        let mode = process.mode.as_deref().unwrap_or_default();
        events.push(
            json!({"name": "process_name", "ph": "M", "pid": pid, "tid": pid,
            "args": {"name": name, "mrlock": mode}}),
        );
        for (tid, name) in &process.names {
            events.push(json!({"name": "thread_name", "ph": "M", "pid": pid, "tid": tid, "args": {"name": name}}));
        }
        for (tid, slices) in &process.threads {
            events.extend(slices.iter().map(|slice| event(pid, *tid, slice)));
        }
        for step in overlap::steps(process) {
            events.push(json!({"name": "inside at once", "ph": "C", "ts": step.time as f64 / 1e3, "pid": pid,
                "args": {"threads": step.inside}}));
        }
    }
    let lines: Vec<_> = events.iter().map(Value::to_string).collect();
    format!("[\n{}\n]\n", lines.join(",\n"))
}

fn event(pid: i64, tid: i64, slice: &Slice) -> Value {
    let (name, category, mut arguments) = match &slice.what {
        What::Waiting(call) => ("waiting", "waiting", json!({"for": call})),
        What::Inside(call) => {
            let mut arguments = json!({"failed": call.failed});
            if !call.counts {
                arguments["alone_not_needed"] = true.into();
            }
            if let Some(device) = &call.device {
                arguments["device"] = device.as_str().into();
            }
            if let (Some(address), Some(length)) = (&call.address, call.length) {
                arguments["address"] = address.as_str().into();
                arguments["length"] = length.into();
            }
            (call.name.as_str(), "inside", arguments)
        }
    };
    if slice.is_under_way {
        arguments["under_way"] = true.into();
    }
    let (start, length) = (
        slice.start as f64 / 1e3,
        (slice.end - slice.start) as f64 / 1e3,
    );
    json!({"name": name, "cat": category, "ph": "X", "ts": start, "dur": length, "pid": pid, "tid": tid, "args": arguments})
}
