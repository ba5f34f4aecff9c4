//! How many threads of a process are inside at once.

use super::process::Process;

/// A change of that number.
pub struct Step {
    /// In nanoseconds since 1970.
    pub time: u64,
    /// The number from then on.
    pub inside: usize,
}

/// The largest number.
pub fn most(process: &Process) -> usize {
    let steps = steps(process);
    steps.iter().map(|step| step.inside).max().unwrap_or(0)
}

/// The same in a sentence.
pub fn sentence(process: &Process) -> String {
    match most(process) {
        0 => "none of these calls has to be alone".into(),
        1 => "never more than 1 thread in the kernel at once".into(),
        most => format!("{most} threads in the kernel at once"),
    }
}

/// The changes, in their order.
pub fn steps(process: &Process) -> Vec<Step> {
    let mut changes = Vec::new();
    for slices in process.threads.values() {
        // A thread that is inside a call within a call is inside once.
        let mut until = 0;
        for slice in slices.iter().filter(|slice| slice.counts()) {
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
