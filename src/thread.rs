//! What the library keeps for each thread.

use crate::lock::Place;
use core::cell::Cell;

/// Zeroed when a thread starts; nothing is to be done when it ends.
#[repr(C)]
pub struct Thread {
    /// Where the thread stands with the lock.
    pub place: Place,
    /// How many calls it is in, one within the other.
    pub calls: Cell<u32>,
    /// How many sections it is in: how often it has called `mrlock_lock`, less how often `mrlock_unlock`.
    pub sections: Cell<u32>,
    /// The lock is left with the last of these. Not set while that is the call that it was entered for, which knows.
    pub keeps: Cell<bool>,
    /// When the outermost section began, in nanoseconds; 0 where nobody asks for the time.
    pub section_since: Cell<u64>,
}

/// Runs `body` with the calling thread's own variables.
#[inline(always)]
pub fn with<R>(body: impl FnOnce(&Thread) -> R) -> R {
    // SAFETY: the pointer is aligned, zero-initialised and valid while this thread runs, which is longer than `body`
    // does. The reference cannot be kept (its lifetime is that of the call) and no other thread is given one.
    body(unsafe { &*crate::x86_64::this_thread() })
}
