//! `mrlock status`: what the library does in a process and its descendants, read from outside.

mod block;
mod process;

use crate::{arguments, failure::Failure};
use process::{Coverage, Process};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, IsTerminal, Write},
    process::ExitCode,
    thread,
    time::Duration,
};

/// The interval of `--watch`.
const PERIOD: Duration = Duration::from_secs(1);

/// Shows the processes once, or again and again until they have ended.
pub fn show(arguments: arguments::Status) -> Result<ExitCode, Failure> {
    let mut processes = look(arguments.pid)?;
    loop {
        print(&processes, arguments.json, arguments.watch)
            .map_err(|error| Failure::new(format!("standard output: {error}")))?;
        if !arguments.watch {
            return Ok(ExitCode::SUCCESS);
        }
        thread::sleep(PERIOD);
        match look(arguments.pid) {
            Ok(now) if !now.is_empty() => processes = now,
            _ => return Ok(ExitCode::SUCCESS),
        }
    }
}

/// A process and its descendants. Without `pid`: all processes with the library, and their descendants. Parents come before their
/// children.
fn look(pid: Option<i32>) -> Result<Vec<Process>, Failure> {
    let all = procfs::process::all_processes()
        .map_err(|error| Failure::new(format!("/proc: {error}")))?
        // A process that ends meanwhile is left out.
        .filter_map(|process| process.ok()?.stat().ok())
        .filter(|stat| stat.state != 'Z');
    let stats: BTreeMap<i32, _> = all.map(|stat| (stat.pid, stat)).collect();
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for stat in stats.values() {
        children.entry(stat.ppid).or_default().push(stat.pid);
    }
    let roots: Vec<i32> = match pid {
        Some(pid) if stats.contains_key(&pid) => vec![pid],
        Some(pid) => return Err(Failure::new(format!("{pid}: no process has this id"))),
        None => stats
            .keys()
            .copied()
            .filter(|&pid| process::has_library(pid))
            .collect(),
    };
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for root in roots {
        let mut stack = vec![(root, 0)];
        while let Some((pid, depth)) = stack.pop() {
            // With --all, a process may also be a descendant of another one.
            if !seen.insert(pid) {
                continue;
            }
            let of = children.get(&pid).into_iter().flatten().rev();
            stack.extend(of.map(|&child| (child, depth + 1)));
            if let Some(stat) = stats.get(&pid) {
                found.push(Process::look_at(stat, depth));
            }
        }
    }
    Ok(found)
}

fn print(processes: &[Process], as_json: bool, again: bool) -> io::Result<()> {
    let mut output = io::stdout().lock();
    if as_json {
        // One line of JSON each time, so that a reader of --watch can separate them.
        serde_json::to_writer(&mut output, processes)?;
        writeln!(output)?;
        return output.flush();
    }
    if again && output.is_terminal() {
        write!(output, "\x1b[H\x1b[2J")?;
    }
    writeln!(
        output,
        "{:>8}  {:<20} {:<8} {:<12} {:>9} {:>8} {:>9} {:>13} {:>8}",
        "PID", "PROGRAM", "MRLOCK", "HOOKS", "CALLS", "FAILED", "WAITED", "LONGEST WAIT", "AT ONCE"
    )?;
    for process in processes {
        let program = format!(
            "{:indent$}{}",
            "",
            printable(&process.program),
            indent = 2 * process.depth
        );
        write!(output, "{:>8}  {program:<20} ", process.pid)?;
        match &process.coverage {
            Coverage::Covered(library) => {
                let sum = |of: fn(&block::Operation) -> u64| {
                    library.operations.iter().map(of).sum::<u64>()
                };
                let longest = library.operations.iter().map(|it| it.longest_wait_ns).max();
                writeln!(
                    output,
                    "{:<8} {:<12} {:>9} {:>8} {:>9} {:>13} {:>8}",
                    printable(library.mode()),
                    library.hooks.join(","),
                    sum(|it| it.calls),
                    sum(|it| it.failures),
                    sum(|it| it.waits),
                    milliseconds(longest.unwrap_or(0)),
                    library.most_at_once
                )?;
            }
            Coverage::Unreadable { reason } => {
                writeln!(output, "mapped, counters not read: {}", printable(reason))?
            }
            Coverage::NotCovered { reason } => {
                writeln!(output, "not covered: {}", printable(reason))?
            }
            Coverage::Unknown { reason } => writeln!(output, "unknown: {}", printable(reason))?,
        }
    }
    output.flush()
}

fn milliseconds(nanoseconds: u64) -> String {
    format!(
        "{}.{:03} ms",
        nanoseconds / 1_000_000,
        nanoseconds / 1_000 % 1_000
    )
}

/// What another process says of itself, without what a terminal would take for a command.
fn printable(text: &str) -> String {
    text.replace(char::is_control, "?")
}
