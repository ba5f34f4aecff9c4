//! How many threads of a process are inside at once.

use super::trace::{Process, Slice, What};

/// A change of that number.
pub struct Step {
    /// Nanoseconds.
    pub time: u64,
    /// The number from then on.
    pub inside: usize,
}

/// The changes, in their order.
pub fn steps(process: &Process) -> Vec<Step> {
    let mut changes = Vec::new();
    for slices in process.threads.values() {
        // A thread that is inside a call within a call is inside once.
        let mut until = 0;
        for slice in inside(slices).filter(|slice| slice.counts()) {
            let start = slice.start.max(until);
            if start < slice.end {
                changes.push((start, 1));
                changes.push((slice.end, -1));
                until = slice.end;
            }
        }
    }
    // If one thread leaves at the time at which another enters, the leave comes first.
    changes.sort_unstable();
    let mut inside = 0_usize;
    let step = |(time, change)| {
        inside = inside.saturating_add_signed(change);
        Step { time, inside }
    };
    changes.into_iter().map(step).collect()
}

/// The slices in which the thread was inside.
pub fn inside(slices: &[Slice]) -> impl Iterator<Item = &Slice> {
    slices
        .iter()
        .filter(|slice| matches!(slice.what, What::Inside(_)))
}
