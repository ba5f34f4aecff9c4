//! What was seen, for people: a line for each process, and below it a line for each call that is under way.

use super::{
    look::Look,
    seen::{Coverage, Covered, UnderWay},
};
use crate::record::Step;
use std::{collections::BTreeMap, fmt::Write};

/// The lines.
pub fn text(look: &Look) -> String {
    let mut text = format!(
        "{:>8}  {:<20} {:<7} {:<11} {:>9} {:>8} {:>7} {:>8} {:>12} {:>11} {:>7}\n",
        "PID",
        "PROGRAM",
        "MRLOCK",
        "HOOKS",
        "CALLS",
        "CALLS/S",
        "FAILED",
        "WAITED",
        "LONGEST WAIT",
        "LET THROUGH",
        "AT ONCE"
    );
    for process in &look.processes {
        let program = printable(&process.program);
        let program = format!("{:indent$}{program}", "", indent = 2 * process.depth);
        let _ = write!(text, "{:>8}  {program:<20} ", process.pid);
        match &process.coverage {
            Coverage::Covered(covered) => write_covered(&mut text, covered),
            Coverage::Unreadable { reason } => {
                line(&mut text, &format!("mapped, record not read: {reason}"));
            }
            Coverage::NotCovered { reason } => line(&mut text, &format!("not covered: {reason}")),
            Coverage::Unknown { reason } => line(&mut text, &format!("unknown: {reason}")),
        }
    }
    let mut reasons = BTreeMap::<&str, u32>::new();
    for process in &look.unknown {
        if let Coverage::Unknown { reason } = &process.coverage {
            *reasons.entry(reason).or_default() += 1;
        }
    }
    for (reason, count) in reasons {
        let processes = if count == 1 { "process" } else { "processes" };
        line(
            &mut text,
            &format!("{count} {processes} could not be looked at: {reason}"),
        );
    }
    text
}

fn write_covered(text: &mut String, covered: &Covered) {
    let rate = covered
        .calls_per_second
        .map_or("-".into(), |rate| format!("{rate:.1}"));
    line(
        text,
        &format!(
            "{:<7} {:<11} {:>9} {rate:>8} {:>7} {:>8} {:>12} {:>11} {:>7}",
            covered.mode(),
            covered.hooks.join(","),
            covered.calls(),
            covered.sum(|it| it.failures),
            covered.sum(|it| it.waits),
            milliseconds(covered.longest_wait_ns()),
            covered.let_through,
            covered.most_at_once
        ),
    );
    for call in &covered.under_way {
        let time = format!("for {}", seconds(call.for_ns));
        line(text, &format!("          {}", sentence(call, &time)));
    }
    if covered.threads_not_shown > 0 {
        let count = covered.threads_not_shown;
        line(
            text,
            &format!("          {count} more threads had no room in the record"),
        );
    }
    if !covered.other_copies.is_empty() {
        line(
            text,
            &format!(
                "          {} copies of the library: {}, {}: keep one",
                covered.other_copies.len() + 1,
                covered.file,
                covered.other_copies.join(", ")
            ),
        );
    }
}

/// "thread 78 (pin-3) inside ibv_reg_mr for 4.0 s: mlx5_0, 4096 bytes at 0x7000", where `time` is "for 4.0 s".
pub fn sentence(call: &UnderWay, time: &str) -> String {
    let mut text = format!("thread {} ({}) ", call.thread, call.name);
    if call.has_ended {
        text += "has ended, ";
    }
    let _ = match call.step {
        Step::Inside => write!(text, "inside {}", call.operation),
        Step::Waiting => write!(text, "waits to enter {}", call.operation),
        Step::LetThrough => write!(text, "let through, inside {}", call.operation),
    };
    let _ = write!(text, " {time}");
    if let Some(other) = call.waits_for {
        let _ = write!(text, ", behind thread {other}");
    }
    let mut parts = Vec::new();
    parts.extend(call.device.as_deref().map(str::to_owned));
    if let (Some(address), Some(length)) = (call.address, call.length) {
        parts.push(format!("{length} bytes at {address:#x}"));
    }
    if call.waited_ns > 0 {
        parts.push(format!("after {} of waiting", seconds(call.waited_ns)));
    }
    if !parts.is_empty() {
        let _ = write!(text, ": {}", parts.join(", "));
    }
    text
}

fn line(text: &mut String, line: &str) {
    text.push_str(&printable(line));
    text.push('\n');
}

/// A text from another process, without the characters that a terminal would take for commands.
pub fn printable(text: &str) -> String {
    text.replace(char::is_control, "?")
}

/// In hundredths: the record's clock is not better.
pub fn seconds(nanoseconds: u64) -> String {
    format!("{:.2} s", nanoseconds as f64 / 1e9)
}

fn milliseconds(nanoseconds: u64) -> String {
    let microseconds = nanoseconds / 1_000;
    format!("{}.{:03} ms", microseconds / 1_000, microseconds % 1_000)
}
