//! The summary at exit.

use crate::{
    config::{self, FileName, Report},
    operation::{Counter, Kind, Layer, Operation},
    policy, resolve, stats,
    sys::{self, Errno},
    text::Text,
};
use core::{
    ffi::CStr,
    fmt::{self, Write},
};
use libc::c_int;
use log::error;

/// Larger than any report.
type Page = Text<4096>;

/// Writes the report on `operations` to where `MRLOCK_REPORT` says, unless no call was serialized and libibverbs is not loaded.
pub fn write(operations: impl Iterator<Item = &'static Operation>) {
    let to = &config::get().report;
    if matches!(to, Report::Off) || (stats::most_at_once() == 0 && !resolve::has_libibverbs()) {
        return;
    }
    let mut page = Page::new();
    let _ = fill(&mut page, operations);
    match to {
        Report::Off => {}
        Report::Stderr => {
            let _ = sys::write(libc::STDERR_FILENO, page.as_bytes());
        }
        Report::File(name) => write_file(name, &page),
    }
}

fn fill(page: &mut Page, operations: impl Iterator<Item = &'static Operation>) -> fmt::Result {
    writeln!(
        page,
        "mrlock {}: process {} ({})",
        env!("CARGO_PKG_VERSION"),
        sys::process_id(),
        program_name()
    )?;
    writeln!(
        page,
        "{:<22}{:>9}{:>8}{:>9}{:>12}{:>10}{:>14}{:>10}",
        "", "calls", "failed", "waited", "total wait", "longest", "total inside", "longest"
    )?;
    for operation in operations {
        let counters = &operation.counters;
        if !policy::serializes(operation.kind, operation.layer) {
            // Frees are forwarded unless they are asked for: that is no news.
            if operation.kind == Kind::Free {
                continue;
            }
            writeln!(page, "{:<22}forwarded, not serialized", operation.name)?;
            continue;
        }
        // The verbs rows are always shown; the others only if a call passed no verbs hook.
        if operation.layer != Layer::Verbs && counters.calls.get() == 0 {
            continue;
        }
        writeln!(
            page,
            "{:<22}{:>9}{:>8}{:>9}{:>12}{:>10}{:>14}{:>10}",
            operation.name,
            counters.calls.get(),
            counters.failures.get(),
            counters.waits.get(),
            duration(&counters.waiting),
            duration(&counters.longest_wait),
            duration(&counters.inside),
            duration(&counters.longest_inside),
        )?;
    }
    match stats::most_at_once() {
        0 => writeln!(page, "No call was serialized."),
        1 => writeln!(page, "No two threads were ever inside or waiting at once."),
        most => writeln!(
            page,
            "Up to {most} threads were inside or waiting at once: without mrlock, up to {most} inside."
        ),
    }
}

/// The time with three digits and the fitting unit.
fn duration(nanoseconds: &Counter) -> Text<16> {
    let ns = nanoseconds.get();
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

/// The name that the kernel has for this program: at most 15 bytes.
fn program_name() -> Text<16> {
    let mut name = [0u8; 16];
    // SAFETY: PR_GET_NAME writes at most 16 bytes, the last of them NUL.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    let name = CStr::from_bytes_until_nul(&name).unwrap_or_default();
    Text::from(format_args!("{}", name.to_bytes().escape_ascii()))
}

fn write_file(name: &FileName, page: &Page) {
    let Some(path) = name.for_process(sys::process_id()) else {
        return error!(
            "MRLOCK_REPORT={name}: longer than a file name may be; the report is not written"
        );
    };
    if let Err(error) = append(path.as_bytes(), page.as_bytes()) {
        error!("MRLOCK_REPORT={name}: the report could not be written ({error})");
    }
}

/// Appends `text` to the file with the NUL-terminated name `path`: several processes may share it. Follows no symbolic link,
/// and does not wait for a FIFO's reader.
fn append(path: &[u8], text: &[u8]) -> Result<(), Errno> {
    let flags = libc::O_WRONLY
        | libc::O_CREAT
        | libc::O_APPEND
        | libc::O_CLOEXEC
        | libc::O_NOFOLLOW
        | libc::O_NONBLOCK;
    // SAFETY: the path is NUL-terminated.
    let file = unsafe { syscall!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0o644) };
    if let Some(error) = Errno::of(file) {
        return Err(error);
    }
    let written = sys::write(file as c_int, text);
    // SAFETY: the descriptor is ours and open.
    unsafe { syscall!(SYS_close, file) };
    written
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let counter = Counter::new();
            counter.set(nanoseconds);
            assert_eq!(duration(&counter).to_string(), text);
        }
    }
}
