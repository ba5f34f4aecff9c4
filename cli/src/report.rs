//! `mrlock report`: the summary that the library writes at exit, from the records of processes.

mod render;
#[path = "../../src/record/summary.rs"]
mod summary;
#[path = "../../src/base/text.rs"]
#[allow(dead_code, reason = "the library's: the summary needs less of it")]
mod text;

use crate::{
    arguments,
    failure::{self, Failure},
    record::Record,
    status::{
        found::found,
        host::Directory,
        life::{Life, life},
        seen::Coverage,
        table::{printable, sentence},
        under_way,
    },
};
use render::{End, Process};
use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

/// Shows each process, and several of them in total.
pub fn show(arguments: arguments::Report) -> Result<ExitCode, Failure> {
    let mut processes: Vec<Process> = Vec::new();
    let mut code = ExitCode::SUCCESS;
    for given in &arguments.records {
        let name = printable(&given.to_string_lossy());
        match read(given, &name) {
            Ok(process) => {
                let mut before = processes.iter();
                match before.find(|it| it.record.is_same_process(&process.record)) {
                    Some(Process { from, .. }) => {
                        failure::say(format_args!(
                            "report: {name}: the same process as {from}: it is shown once"
                        ));
                    }
                    None => processes.push(process),
                }
            }
            Err(reason) => {
                failure::say(format_args!("report: {name}: {}", printable(&reason)));
                code = ExitCode::FAILURE;
            }
        }
    }
    let mut output = io::stdout().lock();
    let written = output.write_all(render::text(&processes).as_bytes());
    written
        .and_then(|()| output.flush())
        .map_err(|error| Failure::new(format!("report: standard output: {error}")))?;
    Ok(code)
}

/// A file's record, or that of a process's memory; otherwise, the reason.
fn read(given: &Path, name: &str) -> Result<Process, String> {
    match given.to_str() {
        Some(id) if id.bytes().all(|byte| byte.is_ascii_digit()) => of_process(id),
        _ => of_file(given, name),
    }
}

fn of_process(id: &str) -> Result<Process, String> {
    let directory = id.parse().ok().and_then(|id| Directory::open(id).ok());
    let directory = directory.ok_or("no process has this id")?;
    let mut record = match found(&directory) {
        Ok(found) => found.record,
        Err(Coverage::NotCovered { reason }) => {
            return Err(format!("the library is not in it: {reason}"));
        }
        Err(Coverage::Unreadable { reason } | Coverage::Unknown { reason }) => return Err(reason),
        Err(Coverage::Covered(_)) => return Err("its record was not read".into()),
    };
    if record.process == 0 {
        // It has made no call.
        let stat = directory.stat("stat");
        record.process = directory.pid as u64;
        record.program = stat.map_or(String::new(), |stat| stat.program);
    }
    Ok(process(id, record, End::Runs, Some(&directory)))
}

fn of_file(path: &Path, name: &str) -> Result<Process, String> {
    let record = Record::in_file(path).map_err(|damage| damage.to_string())?;
    Ok(match life(&record) {
        Life::Runs(directory) => process(name, record, End::Runs, Some(&directory)),
        Life::HasEnded => process(name, record, End::Normal, None),
        Life::WasEnded => process(name, record, End::Sudden, None),
        Life::Unknown => process(name, record, End::Unknown, None),
    })
}

/// `directory`: of a process that runs.
fn process(from: &str, record: Record, end: End, directory: Option<&Directory>) -> Process {
    let now = match directory {
        Some(directory) => directory.now(),
        None => record.last_written().unwrap_or(0),
    };
    let calls = under_way::calls(directory, &record, now);
    let lines = calls.iter().map(|call| {
        let since = render::date(record.date(now.saturating_sub(call.for_ns)));
        printable(&sentence(call, &format!("since {since}")))
    });
    Process {
        from: from.into(),
        end,
        under_way: lines.collect(),
        record,
    }
}
