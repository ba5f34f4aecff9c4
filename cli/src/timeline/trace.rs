//! Reads what MRLOCK_TRACE writes: a JSON array of Chrome trace events, one a line, that is never closed.

use serde::Deserialize;
use std::{
    collections::BTreeMap,
    io::{self, BufRead},
};

/// The calls in a trace, by process.
#[derive(Default)]
pub struct Trace {
    /// By process id.
    pub processes: BTreeMap<i64, Process>,
    /// How many lines are no trace events. A last line that was cut short is not counted.
    pub damaged: usize,
}

/// One process.
#[derive(Default)]
pub struct Process {
    /// Its name.
    pub name: Option<String>,
    /// The value of MRLOCK: "on" or "observe".
    pub mode: Option<String>,
    /// By thread id.
    pub threads: BTreeMap<i64, Vec<Slice>>,
}

/// A time in which a thread waited, or was inside.
pub struct Slice {
    /// Nanoseconds.
    pub start: u64,
    /// Nanoseconds.
    pub end: u64,
    /// What the thread did.
    pub what: What,
}

/// What a thread did.
pub enum What {
    /// It waited until it could make this call.
    Waiting(String),
    /// It was inside this call.
    Inside(Call),
}

/// A call.
pub struct Call {
    /// Its name.
    pub name: String,
    /// The device, if known.
    pub device: Option<String>,
    /// Where the memory is, if known.
    pub address: Option<String>,
    /// The length of the memory, if known.
    pub length: Option<u64>,
    /// Whether it failed.
    pub failed: bool,
}

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
}

impl Trace {
    /// Reads a trace to its end, which may be in the middle of an event.
    pub fn read(mut file: impl BufRead) -> io::Result<Self> {
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
        for process in trace.processes.values_mut() {
            for slices in process.threads.values_mut() {
                slices.sort_by_key(|slice| slice.start);
            }
        }
        trace
            .processes
            .retain(|_, process| !process.threads.is_empty());
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
            ("X", "waiting") => What::Waiting(args.r#for.unwrap_or(name)),
            ("X", "inside") => What::Inside(Call {
                name,
                device: args.device,
                address: args.address,
                length: args.length,
                failed: args.failed,
            }),
            _ => return Some(()),
        };
        let start = nanoseconds(ts)?;
        let end = start.checked_add(nanoseconds(dur)?)?;
        let slices = process.threads.entry(tid).or_default();
        slices.push(Slice { start, end, what });
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
