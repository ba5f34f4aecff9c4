//! Where a call comes in: `serialize()` is the one path that every hooked call takes.

pub mod ioctl;
pub mod section;
mod verbs;

pub use verbs::EntryPoint;

use crate::{
    lock::{Admission, Lock, Purpose, now},
    policy::{self, Kind},
    stats::{self, Counters},
    thread,
};
use core::{ffi::c_void, iter, ptr};
use log::{Level, log_enabled, trace};

/// The one lock of this process, shared by all layers.
static LOCK: Lock = Lock::new();

/// Something that a process can ask for and that pins or unpins memory: a row of the tables in `verbs` and `ioctl`.
pub struct Operation {
    /// What it is called in the report and in the log.
    pub name: &'static str,
    /// What it does to the pages.
    pub kind: Kind,
    /// Where it is caught.
    pub layer: Layer,
    /// What happened so far.
    pub counters: Counters,
}

/// Where a call is caught.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layer {
    /// On its way into libibverbs.
    Verbs,
    /// On its way into the kernel.
    Ioctl,
    /// Nowhere: the program asks for the lock itself.
    Program,
}

/// All operations, in the order of the report.
pub fn operations() -> impl Iterator<Item = &'static Operation> {
    verbs::operations()
        .chain(ioctl::operations())
        .chain(iter::once(&section::SECTION))
}

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

/// A memory region as its caller describes it.
#[derive(Clone, Copy)]
pub struct Region {
    /// Its start; null where the call does not say.
    pub address: *const c_void,
    /// Its length in bytes; 0 where the call does not say.
    pub length: usize,
}

impl Region {
    /// The call does not say.
    pub const UNKNOWN: Self = Self {
        address: ptr::null(),
        length: 0,
    };
}

/// For the one thread that a forked child has: the lock is free, or its own if it forked from inside.
pub fn after_fork() {
    thread::with(|thread| {
        LOCK.after_fork(&thread.place);
        // A section that it is in was its parent's to count.
        thread.section_since.set(0);
    });
}

/// Makes a call: alone, if the policy says so. Whatever had to be looked up for it has been. What the call finds and leaves
/// in errno is the host's: our own system calls put it back where they are made.
#[inline]
fn serialize<R: Outcome>(
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
        let since = (admission.is_some() && stats::is_timed()).then(now);
        let result = call();
        let inside = since.map(|since| now().saturating_sub(since));
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
