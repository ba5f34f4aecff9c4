//! The counting of calls, and snapshots of the counters for the program.

use crate::{
    base::{
        process::PreparedFor,
        settings::{self, Mode},
    },
    call::operation::{Counter, Counters, Operation},
    lock::Admission,
    record::{observed, published},
};
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

/// The largest number of threads that were inside or waiting at the same moment.
static MOST_AT_ONCE: Counter = Counter::new();

/// The address of this number, for another process. While calls are observed, `observed::MOST_OBSERVED` is used instead.
pub const MOST_SERIALIZED: &Counter = &MOST_AT_ONCE;

/// Calls that were let through because their memory is host memory.
static LET_THROUGH: Counter = Counter::new();

/// The process that the counters belong to.
static PREPARED: PreparedFor = PreparedFor::none();

/// Whether the program has called mrlock_stats().
static ASKED: AtomicBool = AtomicBool::new(false);

/// Whether to measure the time inside, which takes two clock reads a call.
#[inline]
pub fn is_timed() -> bool {
    // Relaxed: it publishes no other data.
    settings::get().is_timed || ASKED.load(Ordering::Relaxed)
}

/// Counts one call. `admission` is what the lock returned: `None` if the thread held the lock already. The caller holds the
/// lock.
#[inline]
pub fn record(
    operation: &Operation,
    admission: &Option<Admission>,
    failed: bool,
    inside: Option<u64>,
) {
    prepare();
    let counters = &operation.counters;
    counters.calls.add(1);
    if failed {
        counters.failures.add(1);
    }
    let at_once = admission.map_or(1, |admission| admission.contenders);
    if let Some(waited) = admission.and_then(|admission| admission.waited) {
        counters.waits.add(1);
        counters.waiting.add(waited);
        counters.longest_wait.raise_to(waited);
    }
    if let Some(inside) = inside {
        record_inside(operation, inside);
    }
    MOST_AT_ONCE.raise_to(at_once);
}

/// Counts one observed call. Other threads may do so at the same time.
pub fn record_observed(operation: &Operation, failed: bool, inside: Option<u64>) {
    prepare();
    let counters = &operation.counters;
    counters.calls.add_at_once(1);
    counters.failures.add_at_once(failed.into());
    if let Some(inside) = inside {
        counters.inside.add_at_once(inside);
        counters.longest_inside.raise_to(inside);
    }
}

/// Adds to the operation's time inside. The caller holds the lock.
#[inline]
pub fn record_inside(operation: &Operation, inside: u64) {
    operation.counters.inside.add(inside);
    operation.counters.longest_inside.raise_to(inside);
}

/// Counts a call that is let through.
pub fn record_let_through() {
    prepare();
    LET_THROUGH.add_at_once(1);
}

/// How many calls were let through.
pub fn let_through() -> u64 {
    LET_THROUGH.get()
}

/// The largest number of threads that were inside or waiting at the same moment; 0 if no call was serialized or observed.
/// While calls are observed, threads that wait for mrlock_lock() do not count.
pub fn most_at_once() -> u64 {
    if settings::get().mode == Mode::Observe {
        observed::most_inside()
    } else {
        MOST_AT_ONCE.get()
    }
}

/// The counters of all `operations`, or of one; `entry_point` is as in `mrlock_stats`.
pub fn snapshot(
    mut operations: impl Iterator<Item = &'static Operation>,
    entry_point: c_uint,
) -> Option<Snapshot> {
    // Relaxed: see `is_timed`.
    ASKED.store(true, Ordering::Relaxed);
    drop_inherited();
    let mut snapshot = Snapshot {
        most_at_once: most_at_once(),
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
        let counters = &operation.counters;
        self.calls += counters.calls.get();
        self.failures += counters.failures.get();
        self.waits += counters.waits.get();
        self.wait_ns += counters.waiting.get();
        self.longest_wait_ns = self.longest_wait_ns.max(counters.longest_wait.get());
        self.inside_ns += counters.inside.get();
        self.longest_inside_ns = self.longest_inside_ns.max(counters.longest_inside.get());
    }
}

/// Begins with zero in a new process: a forked child reports its own calls only.
#[inline]
fn prepare() {
    PREPARED.ensure(|_, _| reset(published::counters));
}

/// The same, if there is anything to set to zero.
pub fn drop_inherited() {
    if !are_untouched(published::counters) {
        prepare();
    }
}

fn are_untouched<I: Iterator<Item = &'static Counters>>(all: impl Fn() -> I) -> bool {
    // The calls tell, because a thread of the parent that counts a call, while the child is forked, begins with them.
    LET_THROUGH.get() == 0 && all().all(|counters| counters.calls.get() == 0)
}

fn reset<I: Iterator<Item = &'static Counters>>(all: impl Fn() -> I) {
    // If nothing was counted, write nothing: a write would make the kernel copy the page for the child.
    if are_untouched(&all) {
        return;
    }
    MOST_AT_ONCE.set(0);
    LET_THROUGH.set(0);
    all()
        .flat_map(Counters::all)
        .for_each(|counter| counter.set(0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::operation::{Kind, Layer};
    use core::iter;

    #[test]
    fn a_child_that_was_forked_in_the_middle_of_the_first_count_begins_with_zero() {
        static OPERATION: Operation = Operation::new("call", Kind::Registration, Layer::Verbs);
        OPERATION.counters.calls.add(1);
        reset(|| iter::once(&OPERATION.counters));
        assert_eq!(OPERATION.counters.calls.get(), 0);
    }
}
