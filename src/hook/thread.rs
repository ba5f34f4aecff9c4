//! What the library keeps for each thread.

use crate::{
    call::operation::Region,
    lock::ThreadState,
    record::{Place, Times},
};
use core::cell::Cell;

/// Zeroed when a thread starts; nothing has to be done when it ends.
#[repr(C)]
pub struct Thread {
    /// The thread's state in the lock.
    pub lock: ThreadState,
    /// Its state in the lock that keeps frees of GPU memory apart.
    pub frees: ThreadState,
    /// How many nested serialized calls it is inside. A call that waits is not counted.
    pub calls: Cell<u32>,
    /// How many nested calls it is in that were let through.
    pub let_through: Cell<u32>,
    /// The region of the innermost of these.
    pub let_through_region: Cell<Region>,
    /// Whether it is in an observed call.
    pub observed: Cell<bool>,
    /// Its place among the calls in progress.
    pub place: Place,
    /// The generation in which it forks.
    pub forks_in: Cell<u32>,
    /// How many nested sections it is in: its calls of `mrlock_lock` minus those of `mrlock_unlock`.
    pub sections: Cell<u32>,
    /// When the outermost section began, and how long it waited, in nanoseconds; zeros if it is not recorded.
    pub section: Cell<Times>,
}

thread_variable!(this_thread, Thread);

/// Runs `body` with the calling thread's own variables.
#[inline(always)]
pub fn with<R>(body: impl FnOnce(&Thread) -> R) -> R {
    // SAFETY: the pointer is aligned, zero-initialised and valid while this thread runs, which is longer than `body`
    // does. The reference cannot be kept (its lifetime is that of the call) and no other thread is given one. A signal handler
    // of this thread may have one as well: both are shared references, to cells.
    body(unsafe { &*this_thread() })
}
