//! The summary of what was counted. The library writes it at exit, and `mrlock report` from a record: cli/src/report.rs includes
//! this file.

use super::text::Text;
use core::fmt::{self, Display, Write};

/// What was counted for an operation. Times are in nanoseconds.
#[allow(missing_docs, reason = "see layout::Operation")]
pub struct Row<'a> {
    pub name: &'a str,
    pub is_free: bool,
    pub is_serialized: bool,
    pub calls: u64,
    pub failures: u64,
    pub waits: u64,
    pub wait_ns: u64,
    pub longest_wait_ns: u64,
    pub inside_ns: u64,
    pub longest_inside_ns: u64,
}

/// What was counted in all.
#[allow(missing_docs, reason = "see layout::Totals")]
pub struct Totals {
    /// Calls were observed, not serialized.
    pub is_observed: bool,
    pub most_at_once: u64,
    pub let_through: u64,
    pub frees_met: u64,
    pub unlisted: u64,
    pub lost_lines: u64,
    /// Whose threads: nothing, or " of one process".
    pub whose: &'static str,
}

/// What begins the first line.
pub fn write_heading(
    to: &mut impl Write,
    version: &str,
    process: impl Display,
    program: impl Display,
) -> fmt::Result {
    write!(to, "mrlock {version}: process {process} ({program})")
}

/// What ends it if no call was made.
pub const NO_CALL: &str = ": no call was made.\n";

/// Whether that is all that is known. (Calls that are only forwarded are not counted.)
pub fn is_no_call<'a>(has_record: bool, mut rows: impl Iterator<Item = Row<'a>>) -> bool {
    !has_record && rows.all(|row| row.is_serialized)
}

/// The table, and the sentences below it. `devices`: names, and the calls of each.
pub fn write<'a>(
    to: &mut impl Write,
    rows: impl Iterator<Item = Row<'a>>,
    totals: &Totals,
    devices: impl Iterator<Item = (impl Display, u64)>,
) -> fmt::Result {
    writeln!(
        to,
        "{:<22}{:>9}{:>8}{:>9}{:>12}{:>10}{:>14}{:>10}",
        "", "calls", "failed", "waited", "total wait", "longest", "total inside", "longest"
    )?;
    let mut free = None;
    for row in rows {
        // The functions of libibverbs are always shown; the other rows only if they counted a call.
        if row.calls == 0 && !row.name.starts_with("ibv_") {
            continue;
        }
        if !row.is_serialized {
            writeln!(to, "{:<22}forwarded, not serialized", row.name)?;
            continue;
        }
        writeln!(
            to,
            "{:<22}{:>9}{:>8}{:>9}{:>12}{:>10}{:>14}{:>10}",
            row.name,
            row.calls,
            row.failures,
            row.waits,
            duration(row.wait_ns),
            duration(row.longest_wait_ns),
            duration(row.inside_ns),
            duration(row.longest_inside_ns),
        )?;
        if row.is_free && row.waits > 0 {
            free = Some(row.longest_wait_ns);
        }
    }
    if let Some(longest) = free {
        let longest = duration(longest);
        writeln!(
            to,
            "Frees of GPU memory waited for calls on GPU memory, {longest} at most; other CUDA calls may have waited behind them."
        )?;
    }
    match totals.let_through {
        0 => {}
        1 => writeln!(to, "One call on host memory was let through.")?,
        calls => writeln!(to, "{calls} calls on host memory were let through.")?,
    }
    let lost = totals.lost_lines;
    if lost > 0 {
        writeln!(to, "Lines that could not be written to stderr: {lost}.")?;
    }
    let (most, whose) = (totals.most_at_once, totals.whose);
    if !totals.is_observed {
        return match most {
            0 => writeln!(to, "No call was serialized."),
            1 => writeln!(
                to,
                "No two threads{whose} were ever inside or waiting at once."
            ),
            most => writeln!(
                to,
                "Up to {most} threads{whose} were inside or waiting at once: without mrlock, up to {most} inside."
            ),
        };
    }
    to.write_str("Nothing was serialized.")?;
    let mut before = " Calls of each device: ";
    for (name, calls) in devices.filter(|(_, calls)| *calls > 0) {
        write!(to, "{before}{name} {calls}")?;
        before = ", ";
    }
    to.write_char('\n')?;
    match totals.frees_met {
        0 => {}
        met => writeln!(
            to,
            "Frees of GPU memory met calls on GPU memory {met} times: before driver 560, this can crash."
        )?,
    }
    match totals.unlisted {
        0 => {}
        threads => writeln!(
            to,
            "More may have been inside: {threads} threads had no room in the record."
        )?,
    }
    match most {
        0 => writeln!(to, "No registration or deregistration was observed."),
        1 => writeln!(to, "No two threads{whose} were ever inside at once."),
        most => writeln!(to, "Up to {most} threads{whose} were inside at once."),
    }
}

/// The time with three digits and a suitable unit.
#[inline(never)]
fn duration(ns: u64) -> Text<16> {
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
            assert_eq!(duration(nanoseconds).to_string(), text);
        }
    }
}
