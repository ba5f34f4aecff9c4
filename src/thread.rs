//! What the library keeps for each thread.

use crate::lock::ThreadState;
use core::cell::Cell;

/// Zeroed when a thread starts; nothing is to be done when it ends.
#[repr(C)]
pub struct Thread {
    /// Where the thread stands with the lock.
    pub lock: ThreadState,
    /// Where it stands with the lock that keeps frees of GPU memory out.
    pub frees: ThreadState,
    /// How many calls it is in that were let through, one within the other.
    pub let_through: Cell<u32>,
    /// Whether it is in an observed call. All zero: it is not.
    pub observed: Cell<bool>,
    /// How many sections it is in: how often it has called `mrlock_lock`, less how often `mrlock_unlock`.
    pub sections: Cell<u32>,
    /// When the outermost section began, in nanoseconds; 0 where the time is not measured.
    pub section_since: Cell<u64>,
    /// How long it waited for that, in nanoseconds; 0 if it did not.
    pub section_waited: Cell<u64>,
}

impl Thread {
    /// Whether it is in a hooked call: each hold of the lock is either a call's or a section's.
    #[inline]
    pub fn is_in_call(&self) -> bool {
        self.lock.depth() > self.sections.get()
    }
}

thread_variable!(this_thread, Thread);

/// Runs `body` with the calling thread's own variables.
#[inline(always)]
pub fn with<R>(body: impl FnOnce(&Thread) -> R) -> R {
    // SAFETY: the pointer is aligned, zero-initialised and valid while this thread runs, which is longer than `body`
    // does. The reference cannot be kept (its lifetime is that of the call) and no other thread is given one.
    body(unsafe { &*this_thread() })
}
