//! The report at exit: where the summary is written.

use crate::{
    base::{
        log_sink,
        settings::{self, FileName, Path, Report},
        stream::{STDERR, STDOUT},
        sys,
        text::Text,
    },
    call::{
        operation::{Kind, Operation},
        policy,
    },
    record::{
        devices, file,
        layout::{Record, Word},
        present,
        summary::{self, Row, Totals},
    },
    resolve,
};
use core::{
    ffi::c_int,
    fmt::{self, Write},
    mem,
    sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering},
};
use log::error;
use spin::{Mutex, MutexGuard};

/// Room for a report; what does not fit is cut. A pipe takes as much in one piece (PIPE_BUF).
type Page = Text<4096>;

/// The buffers of a report. They are not on the stack, which may be small in a signal handler that calls exit().
struct Buffers {
    page: Page,
    path: Path,
}

#[unsafe(link_section = ".sbss.large")]
static BUFFERS: Mutex<Buffers> = Mutex::new(Buffers {
    page: Page::new(),
    path: Path::new(),
});

/// The process that writes a report. (Relaxed: it is compared, and nothing is read because of it. The mutex orders the buffers.)
static WRITER: AtomicI32 = AtomicI32::new(0);

/// The file of the report, opened at the first call: later the process may have given up the right to open it, or have another
/// root. 0: none; otherwise the descriptor, plus one. A host may close it, so `FILE_ID` says which file it was. (Relaxed, all: a
/// thread that sees a new value of one and an old value of the other finds that they do not match, and opens the file itself.)
static FILE: AtomicI32 = AtomicI32::new(0);
static FILE_ID: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// What is reported of a process that has made no call.
#[unsafe(link_section = ".sbss.large")]
// SAFETY: all zero is a record without content: it has only integers.
static NO_CALLS: Record = unsafe { mem::zeroed() };

/// Our descriptor is not to be one that a host expects to be free, such as 0 to 2.
const LEAST_DESCRIPTOR: c_int = 100;

/// Opens the file, if the report goes to one. Called when the record of a process begins: no other thread does so meanwhile.
#[inline(never)]
pub fn open() {
    let Report::File(name) = &settings::get().report else {
        return;
    };
    match file::with_path(|path| file::open_to_append(name, path)) {
        Ok(opened) => keep(opened),
        // A forked child may have the file of its parent.
        Err(_) if is_open().is_some() => {}
        Err(failure) => say_unwritable(name, &failure),
    }
}

fn keep(opened: c_int) {
    if let Some(inherited) = is_open() {
        sys::close(inherited);
    }
    let mut file = opened;
    if let Ok(moved) = sys::duplicate(opened, LEAST_DESCRIPTOR) {
        sys::close(opened);
        file = moved;
    }
    for (word, part) in FILE_ID.iter().zip(sys::file_id(file).unwrap_or_default()) {
        word.store(part, Ordering::Relaxed);
    }
    FILE.store(file + 1, Ordering::Relaxed);
}

/// The descriptor of the file, if it still is this file.
fn is_open() -> Option<c_int> {
    let file = FILE.load(Ordering::Relaxed).checked_sub(1)?;
    let id = FILE_ID.each_ref().map(|word| word.load(Ordering::Relaxed));
    (file >= 0 && sys::file_id(file) == Ok(id)).then_some(file)
}

/// Writes the report on `operations` to the place that `MRLOCK_REPORT` names, unless no call was made and the process has no
/// libibverbs.
///
/// Does not allocate, nor wait for a lock: a signal handler may have interrupted a thread in malloc() and have called exit().
pub fn write(operations: impl Iterator<Item = &'static Operation> + Clone) {
    CALLS.store(calls(), Ordering::Relaxed);
    let to = &settings::get().report;
    if matches!(to, Report::Off) || present().is_none() && !resolve::has_libibverbs() {
        return;
    }
    if let Some(mut buffers) = buffers() {
        write_to(to, operations, &mut buffers);
    }
}

/// The same, if there were calls since.
pub fn write_again(operations: impl Iterator<Item = &'static Operation> + Clone) {
    if calls() != CALLS.load(Ordering::Relaxed) {
        write(operations);
    }
}

/// How many calls there were when a report was written.
static CALLS: AtomicU64 = AtomicU64::new(0);

/// How many calls there were.
fn calls() -> u64 {
    let Some(record) = present() else { return 0 };
    let mut calls = number(&record.totals.let_through);
    for row in &record.operations {
        calls = calls.wrapping_add(number(&row.calls));
    }
    calls
}

/// The buffers; `None` in a signal handler that has interrupted a report: it does not write another one.
fn buffers() -> Option<MutexGuard<'static, Buffers>> {
    let own = sys::process_id();
    let last = WRITER.swap(own, Ordering::Relaxed);
    if last != 0 && last != own && BUFFERS.is_locked() {
        // SAFETY: the holder is a thread of the parent, which was here during the fork. No thread of this process is here.
        unsafe { BUFFERS.force_unlock() };
    }
    BUFFERS.try_lock()
}

#[inline(never)]
fn write_to(
    to: &Report,
    operations: impl Iterator<Item = &'static Operation> + Clone,
    Buffers { page, path }: &mut Buffers,
) {
    page.clear();
    let _ = fill(page, operations);
    // If a stream does not take the report, there is no other place for an error message.
    match to {
        Report::Off => {}
        Report::Stderr => {
            let _ = STDERR.write(page.as_bytes());
        }
        Report::Stdout => {
            let _ = STDOUT.write(page.as_bytes());
        }
        Report::File(name) => write_file(name, page.as_bytes(), path),
    }
}

fn fill(
    page: &mut Page,
    operations: impl Iterator<Item = &'static Operation> + Clone,
) -> fmt::Result {
    let program = sys::program_name();
    let program = program.to_bytes().escape_ascii();
    let version = env!("CARGO_PKG_VERSION");
    summary::write_heading(page, version, sys::process_id(), program)?;
    let record = present().unwrap_or(&NO_CALLS);
    let rows = || operations.clone().filter_map(|it| row(it, record));
    if summary::is_no_call(present().is_some(), rows()) {
        return page.write_str(summary::NO_CALL);
    }
    page.write_char('\n')?;
    let totals = Totals {
        is_observed: policy::observes(),
        most_at_once: number(&record.totals.most_at_once),
        let_through: number(&record.totals.let_through),
        frees_met: number(&record.totals.frees_met),
        unlisted: number(&record.totals.unlisted),
        lost_lines: log_sink::lost_lines(),
        whose: "",
    };
    let devices = record.devices.iter().map(devices::name_and_calls);
    summary::write(page, rows(), &totals, devices)
}

#[inline(never)]
fn row(operation: &Operation, record: &Record) -> Option<Row<'static>> {
    let counted = record.operations.get(operation.index)?;
    Some(Row {
        name: operation.name,
        is_free: operation.kind == Kind::Free,
        is_serialized: policy::serializes(operation.kind, operation.layer),
        calls: number(&counted.calls),
        failures: number(&counted.failures),
        waits: number(&counted.waits),
        wait_ns: number(&counted.waiting),
        longest_wait_ns: number(&counted.longest_wait),
        inside_ns: number(&counted.inside),
        longest_inside_ns: number(&counted.longest_inside),
    })
}

fn number(word: &Word) -> u64 {
    word.load(Ordering::Relaxed)
}

fn write_file(name: &FileName, text: &[u8], path: &mut Path) {
    let write = |file| {
        if let Err(error) = sys::write(file, text) {
            say_unwritable(name, &file::Failure::Kernel(error));
        }
    };
    // A forked child that has made no call has the file of its parent.
    if present().is_some()
        && let Some(file) = is_open()
    {
        return write(file);
    }
    match file::open_to_append(name, path) {
        Ok(file) => {
            write(file);
            sys::close(file);
        }
        Err(failure) => say_unwritable(name, &failure),
    }
}

/// Once in a process: it may be noticed at the first call and at the end.
fn say_unwritable(name: &FileName, failure: &file::Failure) {
    static IS_SAID: AtomicBool = AtomicBool::new(false);
    // Relaxed: the flag only keeps a line from being repeated.
    if IS_SAID.swap(true, Ordering::Relaxed) {
        return;
    }
    error!("MRLOCK_REPORT={name}: the report cannot be written ({failure})");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the child, the thread that wrote the report does not exist.
    #[test]
    fn a_child_that_is_forked_during_a_report() {
        let interrupted = buffers().expect("no report is written");
        assert!(buffers().is_none());
        WRITER.store(sys::process_id() + 1, Ordering::Relaxed);
        assert!(buffers().is_some());
        mem::forget(interrupted);
    }
}
