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
        operation::{Counter, Kind, Layer, Operation},
        policy,
    },
    record::{counters, file, observed},
    resolve,
};
use core::fmt::{self, Write};
use log::error;
use spin::Mutex;

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

/// Writes the report on `operations` to the place that `MRLOCK_REPORT` names, unless no call was counted and the process has no
/// libibverbs.
///
/// Does not allocate, nor wait for a lock: a signal handler may have interrupted a thread in malloc() and have called exit().
pub fn write(operations: impl Iterator<Item = &'static Operation>) {
    let to = &settings::get().report;
    if matches!(to, Report::Off) {
        return;
    }
    counters::drop_inherited();
    let is_idle = counters::most_at_once() == 0 && counters::let_through() == 0;
    if is_idle && !resolve::has_libibverbs() {
        return;
    }
    // A handler that interrupts a report does not write another one.
    if let Some(mut buffers) = BUFFERS.try_lock() {
        write_to(to, operations, &mut buffers);
    }
}

#[inline(never)]
fn write_to(
    to: &Report,
    operations: impl Iterator<Item = &'static Operation>,
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

fn fill(page: &mut Page, operations: impl Iterator<Item = &'static Operation>) -> fmt::Result {
    writeln!(
        page,
        "mrlock {}: process {} ({})",
        env!("CARGO_PKG_VERSION"),
        sys::process_id(),
        sys::program_name().to_bytes().escape_ascii()
    )?;
    writeln!(
        page,
        "{:<22}{:>9}{:>8}{:>9}{:>12}{:>10}{:>14}{:>10}",
        "", "calls", "failed", "waited", "total wait", "longest", "total inside", "longest"
    )?;
    for operation in operations {
        let counters = &operation.counters;
        if !policy::serializes(operation.kind, operation.layer) {
            // By default, frees are not serialized, and have no row.
            if operation.kind == Kind::Free && !settings::get().calls.free {
                continue;
            }
            writeln!(page, "{:<22}forwarded, not serialized", operation.name)?;
            continue;
        }
        // The verbs rows are always shown; the other rows only if they counted a call.
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
    match counters::let_through() {
        0 => {}
        1 => writeln!(page, "One call on host memory was let through.")?,
        calls => writeln!(page, "{calls} calls on host memory were let through.")?,
    }
    let lost = log_sink::lost_lines();
    if lost > 0 {
        writeln!(page, "Lines that could not be written to stderr: {lost}.")?;
    }
    if policy::observes() {
        page.write_str("Nothing was serialized.")?;
        observed::write_devices(page)?;
        return match observed::most_inside() {
            0 => writeln!(page, "No call was observed."),
            1 => writeln!(page, "No two threads were ever inside at once."),
            most => writeln!(page, "Up to {most} threads were inside at once."),
        };
    }
    match counters::most_at_once() {
        0 => writeln!(page, "No call was serialized."),
        1 => writeln!(page, "No two threads were ever inside or waiting at once."),
        most => writeln!(
            page,
            "Up to {most} threads were inside or waiting at once: without mrlock, up to {most} inside."
        ),
    }
}

/// The time with three digits and a suitable unit.
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

fn write_file(name: &FileName, text: &[u8], path: &mut Path) {
    if let Err(failure) = file::append(name, b"", text, path) {
        error!("MRLOCK_REPORT={name}: the report could not be written ({failure})");
    }
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
