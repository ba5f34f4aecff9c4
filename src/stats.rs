//! What happened: counters, and the report at exit.

use crate::{
    api::{MRLOCK_ALL, Stats},
    config::{self, FileName, Report},
    errno::Errno,
    hook::{self, Layer, Operation},
    lock::Admission,
    next, policy,
    text::Text,
};
use core::{
    ffi::{CStr, c_char, c_uint},
    fmt::{self, Write},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};
use log::error;

/// A number that only the holder of the lock changes, and anybody may read.
struct Counter(AtomicU64);

impl Counter {
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    fn get(&self) -> u64 {
        // Relaxed: each counter is read by itself.
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, value: u64) {
        // Relaxed, and no read-modify-write: the lock orders those who change it.
        self.0.store(value, Ordering::Relaxed);
    }

    fn add(&self, more: u64) {
        self.set(self.get().wrapping_add(more));
    }

    fn raise_to(&self, value: u64) {
        if value > self.get() {
            self.set(value);
        }
    }
}

/// What is counted for one operation. Times are in nanoseconds.
pub struct Counters {
    calls: Counter,
    failures: Counter,
    waits: Counter,
    waiting: Counter,
    longest_wait: Counter,
    inside: Counter,
    longest_inside: Counter,
}

impl Counters {
    /// Nothing happened yet.
    pub const fn new() -> Self {
        Self {
            calls: Counter::new(),
            failures: Counter::new(),
            waits: Counter::new(),
            waiting: Counter::new(),
            longest_wait: Counter::new(),
            inside: Counter::new(),
            longest_inside: Counter::new(),
        }
    }

    fn add_to(&self, sum: &mut Stats) {
        sum.calls += self.calls.get();
        sum.failures += self.failures.get();
        sum.waits += self.waits.get();
        sum.wait_ns += self.waiting.get();
        sum.longest_wait_ns = sum.longest_wait_ns.max(self.longest_wait.get());
        sum.inside_ns += self.inside.get();
        sum.longest_inside_ns = sum.longest_inside_ns.max(self.longest_inside.get());
    }

    fn forget(&self) {
        let Self {
            calls,
            failures,
            waits,
            waiting,
            longest_wait,
            inside,
            longest_inside,
        } = self;
        for counter in [
            calls,
            failures,
            waits,
            waiting,
            longest_wait,
            inside,
            longest_inside,
        ] {
            counter.set(0);
        }
    }
}

/// The most threads that were inside or waiting at one moment.
static CROWD: Counter = Counter::new();

/// Whether the program has asked for a snapshot.
static ASKED: AtomicBool = AtomicBool::new(false);

/// Whether the time inside is wanted: two clock reads a call, some 50 ns.
#[inline]
pub fn is_timed() -> bool {
    // Relaxed: it orders nothing.
    !matches!(config::get().report, Report::Off) || ASKED.load(Ordering::Relaxed)
}

/// Counts one call; `admission` is what it entered the lock with, if it was not inside already. The caller holds the lock.
#[inline]
pub fn record(
    operation: &Operation,
    admission: &Option<Admission>,
    failed: bool,
    inside: Option<u64>,
) {
    let counters = &operation.counters;
    counters.calls.add(1);
    if failed {
        counters.failures.add(1);
    }
    let crowd = admission.map_or(1, |admission| admission.crowd);
    if let Some(waited) = admission.and_then(|admission| admission.waited) {
        counters.waits.add(1);
        counters.waiting.add(waited);
        counters.longest_wait.raise_to(waited);
    }
    if let Some(inside) = inside {
        record_inside(operation, inside);
    }
    CROWD.raise_to(crowd);
}

/// Adds to the time that the operation was inside. The caller holds the lock.
#[inline]
pub fn record_inside(operation: &Operation, inside: u64) {
    operation.counters.inside.add(inside);
    operation.counters.longest_inside.raise_to(inside);
}

/// What happened so far, of all operations or of one; see `mrlock_stats` for which.
pub fn snapshot(entry_point: c_uint) -> Option<Stats> {
    // Relaxed: see `is_timed`.
    ASKED.store(true, Ordering::Relaxed);
    let mut stats = Stats {
        most_at_once: CROWD.get(),
        ..Stats::default()
    };
    let name = if entry_point == MRLOCK_ALL {
        hook::operations().for_each(|operation| operation.counters.add_to(&mut stats));
        "all"
    } else {
        let operation = hook::operations().nth(entry_point as usize - 1)?;
        operation.counters.add_to(&mut stats);
        operation.name
    };
    for (to, from) in stats.entry_point.iter_mut().zip(name.bytes()) {
        *to = from as c_char;
    }
    Some(stats)
}

/// Begins anew: what a forked child reports is its own.
pub fn forget() {
    // Nothing to forget, no page to copy.
    if CROWD.get() > 0 {
        CROWD.set(0);
        hook::operations().for_each(|operation| operation.counters.forget());
    }
}

/// Long enough for a report, with room to grow.
type Page = Text<4096>;

/// Writes the report where `MRLOCK_REPORT` says. A process that never came here and has no libibverbs writes none.
pub fn report() {
    let to = &config::get().report;
    if matches!(to, Report::Off) || (CROWD.get() == 0 && !next::is_libibverbs_loaded()) {
        return;
    }
    let mut page = Page::new();
    let _ = write_report(&mut page);
    match to {
        Report::Off => {}
        Report::Stderr => {
            page.write_to(libc::STDERR_FILENO);
        }
        Report::File(name) => write_file(name, &page),
    }
}

fn write_report(page: &mut Page) -> fmt::Result {
    // SAFETY: getpid() has no preconditions.
    let process = unsafe { libc::getpid() };
    writeln!(
        page,
        "mrlock {}: process {process} ({})",
        env!("CARGO_PKG_VERSION"),
        program_name()
    )?;
    writeln!(
        page,
        "{:<22}{:>9}{:>8}{:>9}{:>12}{:>10}{:>14}{:>10}",
        "", "calls", "failed", "waited", "total wait", "longest", "total inside", "longest"
    )?;
    for operation in hook::operations() {
        let counters = &operation.counters;
        if !policy::serializes(operation.kind, operation.layer) {
            writeln!(page, "{:<22}forwarded, not serialized", operation.name)?;
            continue;
        }
        // Who calls libibverbs as usual has its rows there; the others are for what comes in by another door.
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
    match CROWD.get() {
        0 => writeln!(page, "No call was serialized."),
        1 => writeln!(page, "No two threads were ever inside or waiting at once."),
        crowd => writeln!(
            page,
            "Up to {crowd} threads were inside or waiting at once: without mrlock, up to {crowd} inside."
        ),
    }
}

/// Nanoseconds with three digits and a unit that suits them.
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

/// What the kernel calls this program: at most 15 bytes.
fn program_name() -> Text<16> {
    let mut name = [0u8; 16];
    // SAFETY: PR_GET_NAME writes at most 16 bytes, the last of them NUL.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    let name = CStr::from_bytes_until_nul(&name).unwrap_or_default();
    Text::from(format_args!("{}", name.to_bytes().escape_ascii()))
}

fn write_file(name: &FileName, page: &Page) {
    // SAFETY: getpid() has no preconditions.
    let process = unsafe { libc::getpid() };
    let Some(path) = name.for_process(process) else {
        return error!(
            "MRLOCK_REPORT={name}: longer than a file name may be; the report is not written"
        );
    };
    // Appended: several processes may share a name. Never through a link, and never waiting for a FIFO's reader.
    let flags = libc::O_WRONLY
        | libc::O_CREAT
        | libc::O_APPEND
        | libc::O_CLOEXEC
        | libc::O_NOFOLLOW
        | libc::O_NONBLOCK;
    // Raw system calls: open and close of libc are cancellation points.
    // SAFETY: the path is NUL-terminated.
    let file = unsafe {
        libc::syscall(
            libc::SYS_openat,
            libc::AT_FDCWD,
            path.as_bytes().as_ptr(),
            flags,
            0o644,
        ) as libc::c_int
    };
    if file < 0 || !page.write_to(file) {
        let why = Errno::save();
        error!(
            "MRLOCK_REPORT={name}: the report could not be written ({})",
            why.message()
        );
    }
    if file >= 0 {
        // SAFETY: the descriptor is ours and open.
        unsafe { libc::syscall(libc::SYS_close, file) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_a_snapshot() {
        for operation in hook::operations() {
            assert!(operation.name.len() < Stats::default().entry_point.len());
        }
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
            let counter = Counter::new();
            counter.set(nanoseconds);
            assert_eq!(duration(&counter).to_string(), text);
        }
    }
}
