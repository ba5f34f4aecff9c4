//! What the library keeps for each thread.

use crate::lock::Place;

/// Zeroed when a thread starts; nothing is to be done when it ends.
#[repr(C)]
pub struct Thread {
    /// Where the thread stands with the lock.
    pub place: Place,
}

/// Runs `body` with the calling thread's own variables.
#[inline(always)]
pub fn with<R>(body: impl FnOnce(&Thread) -> R) -> R {
    // SAFETY: the pointer is aligned, zero-initialised and valid while this thread runs, which is longer than `body`
    // does. The reference cannot be kept (its lifetime is that of the call) and no other thread is given one.
    body(unsafe { &*crate::x86_64::this_thread() })
}
