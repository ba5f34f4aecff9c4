//! `serialize()`: the one path that every hooked call takes.

use crate::{
    lock::{Admission, Lock, Purpose},
    operation::{Operation, Region},
    policy, stats, sys, thread,
};
use log::{Level, log_enabled, trace};

/// The one lock of this process, shared by all layers.
pub static LOCK: Lock = Lock::new();

/// What a hooked function returns.
pub trait Outcome {
    /// Whether the value says that the call failed.
    fn failed(&self) -> bool;
}

impl<T> Outcome for *mut T {
    fn failed(&self) -> bool {
        self.is_null()
    }
}

impl Outcome for libc::c_int {
    fn failed(&self) -> bool {
        *self != 0
    }
}

/// Makes a call, alone if the policy says so. Everything that had to be looked up for it has been. What the call finds and
/// leaves in errno is the host's: our own system calls do not touch it.
#[inline]
pub fn serialize<R: Outcome>(
    operation: &'static Operation,
    region: Region,
    call: impl FnOnce() -> R,
) -> R {
    thread::with(|thread| {
        // What is called from within a call (libibverbs' own, through its PLT; then its ioctl) is part of the outer one.
        let is_part = thread.is_in_call() && LOCK.is_held_here(&thread.place);
        if is_part || !policy::serializes(operation.kind, operation.layer) {
            return call();
        }
        let purpose = Purpose {
            name: &operation.name,
            address: region.address,
            length: region.length,
        };
        let admission = LOCK.enter(&thread.place, &purpose);
        // In a section, the time is the section's.
        let since = (admission.is_some() && stats::is_timed()).then(sys::now);
        let result = call();
        let inside = since.map(|since| sys::now().saturating_sub(since));
        stats::record(operation, &admission, result.failed(), inside);
        LOCK.leave(&thread.place);
        if log_enabled!(Level::Trace) {
            say(&purpose, &admission, result.failed());
        }
        result
    })
}

#[cold]
fn say(purpose: &Purpose, admission: &Option<Admission>, failed: bool) {
    let outcome = if failed { "failed" } else { "succeeded" };
    let waited = admission
        .and_then(|admission| admission.waited)
        .unwrap_or(0);
    trace!("{purpose}: {outcome}, waited {waited} ns");
}

/// For the one thread that a forked child has: the lock is free, or its own if it forked from inside.
pub fn after_fork() {
    thread::with(|thread| {
        LOCK.after_fork(&thread.place);
        // The section that it is in was counted in the parent.
        thread.section_since.set(0);
    });
}
