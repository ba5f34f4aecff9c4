//! `--check`: one line and an exit status, for scripts.

use super::{
    look::Look,
    seen::{Coverage, Process, UnderWay},
    table::seconds,
};
use crate::record::Step;
use std::time::Duration;

const COVERED: u8 = 0;
const NOT_LOADED: u8 = 3;
const HELD: u8 = 4;
const DESCENDANT: u8 = 5;
const CANNOT_LOOK: u8 = 6;

/// The exit status, and a line that says why. If several apply, the lowest but 0. `held`: a call that is inside for longer is a
/// finding.
pub fn check(look: &Look, held: Option<Duration>) -> (u8, String) {
    let findings = look.processes.iter().chain(&look.unknown);
    let findings = findings.filter_map(|process| finding(process, held));
    let none = look.processes.is_empty() && look.unknown.is_empty();
    let nowhere = none.then(|| (NOT_LOADED, "no process has the library".into()));
    let worst = findings.chain(nowhere).min_by_key(|(code, _)| *code);
    worst.unwrap_or_else(|| {
        let count = look.processes.len();
        let processes = if count == 1 { "process" } else { "processes" };
        (COVERED, format!("covered: {count} {processes}"))
    })
}

fn finding(process: &Process, held: Option<Duration>) -> Option<(u8, String)> {
    let absent = if process.depth == 0 {
        NOT_LOADED
    } else {
        DESCENDANT
    };
    let (code, reason) = match &process.coverage {
        Coverage::Covered(covered) if covered.mode() != "on" => (
            absent,
            format!("nothing is serialized: MRLOCK={}", covered.mode()),
        ),
        Coverage::Covered(covered) => {
            let long = |call: &&UnderWay| {
                let time = Duration::from_nanos(call.for_ns);
                call.step == Step::Inside && held.is_some_and(|held| time > held)
            };
            let call = covered.under_way.iter().find(long)?;
            let (thread, operation) = (call.thread, &call.operation);
            let time = seconds(call.for_ns);
            (
                HELD,
                format!("thread {thread} inside {operation} for {time}"),
            )
        }
        Coverage::NotCovered { reason } => (absent, format!("not covered: {reason}")),
        Coverage::Unreadable { reason } | Coverage::Unknown { reason } => {
            (CANNOT_LOOK, reason.clone())
        }
    };
    let line = format!("{} ({}): {reason}", process.pid, process.program);
    Some((code, line.replace(char::is_control, "?")))
}
