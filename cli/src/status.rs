//! `mrlock status`: what the library does in a process and its descendants, read from outside.

mod absent;
mod check;
mod denied;
mod device;
pub mod found;
pub mod host;
mod image;
mod library;
pub mod life;
mod look;
mod maps;
mod openmetrics;
pub mod seen;
pub mod table;
pub mod under_way;

use crate::{
    arguments,
    failure::{self, Failure},
};
use look::{Look, look};
use seen::Coverage;
use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
    thread,
    time::Duration,
};

/// Between the two looks that a rate takes.
const MOMENT: Duration = Duration::from_millis(300);

/// Shows the processes once, or again and again until they have ended.
pub fn show(arguments: arguments::Status) -> Result<ExitCode, Failure> {
    let mut now = look(arguments.pid)?;
    if arguments.check {
        let (code, line) = check::check(&now, arguments.held);
        // The exit status is the answer, also where the line cannot be written.
        if let Err(error) = writeln!(io::stdout(), "{line}") {
            failure::say(format_args!("standard output: {error}"));
        }
        return Ok(ExitCode::from(code));
    }
    let is_table = !arguments.json && !arguments.openmetrics;
    if is_table && arguments.watch.is_none() && has_calls(&now) {
        thread::sleep(MOMENT);
        if let Ok(later) = look(arguments.pid) {
            now = with_rates(&now, later);
        }
    }
    loop {
        print(&now, &arguments)
            .map_err(|error| Failure::new(format!("standard output: {error}")))?;
        let Some(interval) = arguments.watch else {
            return Ok(ExitCode::SUCCESS);
        };
        thread::sleep(interval);
        match look(arguments.pid) {
            Ok(later) if !later.processes.is_empty() => now = with_rates(&now, later),
            _ => return Ok(ExitCode::SUCCESS),
        }
    }
}

fn has_calls(look: &Look) -> bool {
    look.processes.iter().any(
        |process| matches!(&process.coverage, Coverage::Covered(covered) if covered.calls() > 0),
    )
}

/// The later of two looks, with the calls in each second between them.
fn with_rates(before: &Look, mut later: Look) -> Look {
    for process in &mut later.processes {
        let same = before.processes.iter().find(|it| it.pid == process.pid);
        if let Coverage::Covered(now) = &mut process.coverage
            && let Some(Coverage::Covered(before)) = same.map(|same| &same.coverage)
        {
            let seconds = now.now.saturating_sub(before.now) as f64 / 1e9;
            let calls = now.calls().saturating_sub(before.calls());
            now.calls_per_second = (seconds > 0.0).then(|| calls as f64 / seconds);
        }
    }
    later
}

fn print(look: &Look, arguments: &arguments::Status) -> io::Result<()> {
    let mut output = io::stdout().lock();
    if arguments.json {
        // One line of JSON each time, so that a reader of --watch can separate them.
        let all: Vec<_> = look.processes.iter().chain(&look.unknown).collect();
        serde_json::to_writer(&mut output, &all)?;
        writeln!(output)?;
    } else if arguments.openmetrics {
        output.write_all(openmetrics::text(look).as_bytes())?;
    } else {
        if arguments.watch.is_some() && output.is_terminal() {
            write!(output, "\x1b[H\x1b[2J")?;
        }
        output.write_all(table::text(look).as_bytes())?;
    }
    output.flush()
}
