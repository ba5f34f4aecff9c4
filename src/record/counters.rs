//! The counting of calls, and snapshots of the counters for the program.

use super::{
    layout::{self, Record, Totals, Word},
    present,
};
use crate::{base::settings, call::operation::Operation, lock::Admission};
use core::{
    ffi::{c_char, c_uint},
    sync::atomic::{AtomicBool, Ordering},
};

// The next two are part of include/mrlock.h, which is generated from this file and src/api.rs.

/// For mrlock_stats(): all entry points together.
pub const MRLOCK_ALL: c_uint = 0;

/// The counters of this process; in a forked child, since the fork. Later versions add fields at the end.
#[repr(C)]
#[derive(Default)]
pub struct Snapshot {
    /// The name: "ibv_reg_mr"; "uverbs:REG_MR" for a call that only the ioctl hook saw; "mrlock_lock"; "all".
    pub entry_point: [c_char; 32],
    /// Calls that took the lock. A call from within another call is part of that call.
    pub calls: u64,
    /// How many of them failed.
    pub failures: u64,
    /// How many of them waited for another thread.
    pub waits: u64,
    /// The sum of their waits, in nanoseconds.
    pub wait_ns: u64,
    /// The longest wait.
    pub longest_wait_ns: u64,
    /// How long the lock was held, in nanoseconds. Measured if MRLOCK_REPORT or MRLOCK_TRACE is set, and from the first
    /// mrlock_stats() on.
    /// The time of a call between mrlock_lock() and mrlock_unlock() counts for "mrlock_lock" alone.
    pub inside_ns: u64,
    /// The longest time that the lock was held.
    pub longest_inside_ns: u64,
    /// The largest number of threads that were inside or waiting at the same moment: without mrlock, up to so many would
    /// have been inside. With MRLOCK=observe, the largest number that were inside. The number is that of the whole process,
    /// for every entry point.
    pub most_at_once: u64,
}

/// Whether the program has called mrlock_stats(). (Relaxed, both: a call that does not see it yet is not timed.)
static ASKED: AtomicBool = AtomicBool::new(false);

/// Whether to measure the time inside, which takes two clock reads a call.
#[inline]
pub fn is_timed() -> bool {
    settings::get().is_timed || ASKED.load(Ordering::Relaxed)
}

/// Counts one call. `admission` is what the lock returned: `None` if the thread held the lock already. The caller holds the
/// lock, so no other thread counts a call of this operation.
#[inline]
pub fn count(
    record: &Record,
    operation: &Operation,
    admission: &Option<Admission>,
    failed: bool,
    inside: Option<u64>,
) {
    let Some(row) = record.operations.get(operation.index) else {
        return;
    };
    add(&row.calls, 1);
    if failed {
        add(&row.failures, 1);
    }
    let at_once = admission.map_or(1, |admission| admission.contenders);
    if let Some(waited) = admission.and_then(|admission| admission.waited) {
        add(&row.waits, 1);
        add(&row.waiting, waited);
        raise_to(&row.longest_wait, waited);
    }
    if let Some(inside) = inside {
        add(&row.inside, inside);
        raise_to(&row.longest_inside, inside);
    }
    raise_to(&record.totals.most_at_once, at_once);
}

/// Adds to the operation's time inside. The caller holds the lock.
pub fn add_time_inside(record: &Record, operation: &Operation, inside: u64) {
    if let Some(row) = record.operations.get(operation.index) {
        add(&row.inside, inside);
        raise_to(&row.longest_inside, inside);
    }
}

/// Counts one observed call. Other threads may do so at the same time.
pub fn count_observed(record: &Record, operation: &Operation, failed: bool, inside: Option<u64>) {
    let Some(row) = record.operations.get(operation.index) else {
        return;
    };
    add_shared(&row.calls, 1);
    add_shared(&row.failures, failed.into());
    if let Some(inside) = inside {
        add_shared(&row.inside, inside);
        raise_to(&row.longest_inside, inside);
    }
}

/// Adds `more` to a word that only the holder of the lock changes: no read-modify-write is needed.
fn add(word: &Word, more: u64) {
    let sum = word.load(Ordering::Relaxed).wrapping_add(more);
    word.store(sum, Ordering::Relaxed);
}

/// Adds `more` to a word that several threads may change at the same time.
pub fn add_shared(word: &Word, more: u64) {
    word.fetch_add(more, Ordering::Relaxed);
}

/// Makes it at least `value`, whichever thread changes it meanwhile.
fn raise_to(word: &Word, value: u64) {
    if value > word.load(Ordering::Relaxed) {
        word.fetch_max(value, Ordering::Relaxed);
    }
}

/// The counters of the whole process; `None` if it has made no call.
pub fn totals() -> Option<&'static Totals> {
    present().map(|record| &record.totals)
}

/// What was counted for an operation; `None` if the process has made no call.
pub fn row(operation: &Operation) -> Option<&'static layout::Operation> {
    present()?.operations.get(operation.index)
}

/// The counters of all `operations`, or of one; `entry_point` is as in `mrlock_stats`.
pub fn snapshot(
    mut operations: impl Iterator<Item = &'static Operation>,
    entry_point: c_uint,
) -> Option<Snapshot> {
    ASKED.store(true, Ordering::Relaxed);
    let mut snapshot = Snapshot {
        most_at_once: totals().map_or(0, |it| it.most_at_once.load(Ordering::Relaxed)),
        ..Snapshot::default()
    };
    let name = if entry_point == MRLOCK_ALL {
        operations.for_each(|operation| snapshot.add(operation));
        "all"
    } else {
        let operation = operations.nth(entry_point as usize - 1)?;
        snapshot.add(operation);
        operation.name
    };
    for (to, from) in snapshot.entry_point.iter_mut().zip(name.bytes()) {
        *to = from as c_char;
    }
    Some(snapshot)
}

impl Snapshot {
    fn add(&mut self, operation: &Operation) {
        let Some(row) = row(operation) else { return };
        let number = |word: &Word| word.load(Ordering::Relaxed);
        self.calls += number(&row.calls);
        self.failures += number(&row.failures);
        self.waits += number(&row.waits);
        self.wait_ns += number(&row.waiting);
        self.longest_wait_ns = self.longest_wait_ns.max(number(&row.longest_wait));
        self.inside_ns += number(&row.inside);
        self.longest_inside_ns = self.longest_inside_ns.max(number(&row.longest_inside));
    }
}

impl layout::Operation {
    /// All of its counters.
    pub fn counters(&self) -> [&Word; 7] {
        [
            &self.calls,
            &self.failures,
            &self.waits,
            &self.waiting,
            &self.longest_wait,
            &self.inside,
            &self.longest_inside,
        ]
    }
}

impl Totals {
    /// All of them.
    pub fn counters(&self) -> [&Word; 5] {
        [
            &self.most_at_once,
            &self.let_through,
            &self.frees_met,
            &self.unlisted,
            &self.lost_lines,
        ]
    }
}
