//! The summary at exit.

use crate::{
    base::{
        log_sink,
        settings::{self, FileName, Path, Report},
        stream::{STDERR, STDOUT},
        sys,
        text::Text,
    },
    call::{
        operation::{Kind, Layer, Operation},
        policy,
    },
    record::{
        devices, file,
        layout::{Record, Word},
        present,
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

static BUFFERS: Mutex<Buffers> = Mutex::new(Buffers {
    page: Page::new(),
    path: Path::new(),
});

/// The process that writes a report.
static WRITER: AtomicI32 = AtomicI32::new(0);

/// The file of the report, opened at the first call: later the process may have given up the right to open it, or have another
/// root. 0: none; otherwise the descriptor, plus one. A host may close it, so `FILE_ID` says which file it was.
static FILE: AtomicI32 = AtomicI32::new(0);
static FILE_ID: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// What is reported of a process that has made no call.
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
    let file = sys::duplicate(opened, LEAST_DESCRIPTOR).map_or(opened, |moved| {
        sys::close(opened);
        moved
    });
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
    let to = &settings::get().report;
    if matches!(to, Report::Off) || present().is_none() && !resolve::has_libibverbs() {
        return;
    }
    if let Some(mut buffers) = buffers() {
        write_to(to, operations, &mut buffers);
    }
}

/// The buffers; `None` in a signal handler that has interrupted a report: it does not write another one.
fn buffers() -> Option<MutexGuard<'static, Buffers>> {
    let own = sys::process_id();
    if WRITER.swap(own, Ordering::Relaxed) != own && BUFFERS.is_locked() {
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
    write!(
        page,
        "mrlock {}: process {} ({})",
        env!("CARGO_PKG_VERSION"),
        sys::process_id(),
        sys::program_name().to_bytes().escape_ascii()
    )?;
    let record = present().unwrap_or(&NO_CALLS);
    let all = || operations.clone();
    let is_forwarded = |it: &Operation| !policy::serializes(it.kind, it.layer);
    // Of calls that are only forwarded, nothing is known.
    if present().is_none() && !all().any(is_forwarded) {
        return writeln!(page, ": no call was made.");
    }
    writeln!(
        page,
        "\n{:<22}{:>9}{:>8}{:>9}{:>12}{:>10}{:>14}{:>10}",
        "", "calls", "failed", "waited", "total wait", "longest", "total inside", "longest"
    )?;
    let mut free = None;
    for operation in all() {
        let Some(row) = record.operations.get(operation.index) else {
            continue;
        };
        let calls = number(&row.calls);
        // The verbs rows are always shown; the other rows only if they counted a call.
        if operation.layer != Layer::Verbs && calls == 0 {
            continue;
        }
        if is_forwarded(operation) {
            writeln!(page, "{:<22}forwarded, not serialized", operation.name)?;
            continue;
        }
        writeln!(
            page,
            "{:<22}{:>9}{:>8}{:>9}{:>12}{:>10}{:>14}{:>10}",
            operation.name,
            calls,
            number(&row.failures),
            number(&row.waits),
            duration(&row.waiting),
            duration(&row.longest_wait),
            duration(&row.inside),
            duration(&row.longest_inside),
        )?;
        if operation.kind == Kind::Free {
            free = Some(row).filter(|row| number(&row.waits) > 0);
        }
    }
    if let Some(row) = free {
        let longest = duration(&row.longest_wait);
        writeln!(
            page,
            "Frees of GPU memory waited for calls on GPU memory, {longest} at most; other CUDA calls may have waited behind them."
        )?;
    }
    let totals = &record.totals;
    match number(&totals.let_through) {
        0 => {}
        1 => writeln!(page, "One call on host memory was let through.")?,
        calls => writeln!(page, "{calls} calls on host memory were let through.")?,
    }
    let lost = log_sink::lost_lines();
    if lost > 0 {
        writeln!(page, "Lines that could not be written to stderr: {lost}.")?;
    }
    let most = number(&totals.most_at_once);
    if policy::observes() {
        page.write_str("Nothing was serialized.")?;
        devices::write(page, record)?;
        match number(&totals.frees_met) {
            0 => {}
            met => writeln!(
                page,
                "Frees of GPU memory met calls on GPU memory {met} times: before driver 560, this can crash."
            )?,
        }
        match number(&totals.unlisted) {
            0 => {}
            threads => writeln!(
                page,
                "More may have been inside: {threads} threads had no room in the record."
            )?,
        }
        return match most {
            0 => writeln!(page, "No registration or deregistration was observed."),
            1 => writeln!(page, "No two threads were ever inside at once."),
            most => writeln!(page, "Up to {most} threads were inside at once."),
        };
    }
    match most {
        0 => writeln!(page, "No call was serialized."),
        1 => writeln!(page, "No two threads were ever inside or waiting at once."),
        most => writeln!(
            page,
            "Up to {most} threads were inside or waiting at once: without mrlock, up to {most} inside."
        ),
    }
}

fn number(word: &Word) -> u64 {
    word.load(Ordering::Relaxed)
}

/// The time with three digits and a suitable unit.
fn duration(nanoseconds: &Word) -> Text<16> {
    let ns = number(nanoseconds);
    let (unit, name) = match ns {
        0 => return Text::from(format_args!("0")),
        1..1_000 => return Text::from(format_args!("{ns} ns")),
        1_000..1_000_000 => (1_000, "us"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    let (whole, thousandths) = (ns / unit, ns % unit / (unit / 1000));
    match whole {
        0..10 => Text::from(format_args!("{whole}.{:02} {name}", thousandths / 10)),
        10..100 => Text::from(format_args!("{whole}.{:01} {name}", thousandths / 100)),
        _ => Text::from(format_args!("{whole} {name}")),
    }
}

fn write_file(name: &FileName, text: &[u8], path: &mut Path) {
    // A forked child that has made no call has the file of its parent.
    if let Some(file) = is_open().filter(|_| present().is_some()) {
        if let Err(error) = sys::write(file, text) {
            say_unwritable(name, &file::Failure::Kernel(error));
        }
        return;
    }
    match file::open_to_append(name, path) {
        Ok(file) => {
            if let Err(error) = sys::write(file, text) {
                say_unwritable(name, &file::Failure::Kernel(error));
            }
            sys::close(file);
        }
        Err(failure) => say_unwritable(name, &failure),
    }
}

/// Once in a process: it may be noticed at the first call and at the end.
fn say_unwritable(name: &FileName, failure: &file::Failure) {
    static IS_SAID: AtomicBool = AtomicBool::new(false);
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

    #[test]
    fn durations_have_three_digits_and_a_unit() {
        for (nanoseconds, text) in [
            (0, "0"),
            (999, "999 ns"),
            (1_000, "1.00 us"),
            (16_449, "16.4 us"),
            (999_999, "999 us"),
            (2_345_678, "2.34 ms"),
            (59_000_000_000, "59.0 s"),
            (u64::MAX, "18446744073 s"),
        ] {
            let word = Word::new(nanoseconds);
            assert_eq!(duration(&word).to_string(), text);
        }
    }
}
