//! The two locks of this process, and what a thread may do while it holds one of them.
//!
//! Order: `LOCK` before `FREES`.

use super::thread::{self, Thread};
use crate::lock::Lock;

/// Lets one thread register or deregister at a time, in all layers. Also taken by a section (`mrlock_lock`).
pub static LOCK: Lock = Lock::new();

/// Taken by each free of GPU memory and, after `LOCK`, by each call that must not run at the same time as a free. A section does
/// not take it: libcuda holds a mutex of its own while it frees, so a section that calls CUDA would wait for a free that waits
/// for the section.
pub static FREES: Lock = Lock::new();

/// Whether the calling thread is inside a serialized call. The calls that it makes from there (of libibverbs' own functions,
/// through its PLT; then of ioctl) are part of that call.
#[inline]
pub fn is_inside(thread: &Thread) -> bool {
    thread.calls.get() > 0 && (LOCK.is_held_by(&thread.lock) || FREES.is_held_by(&thread.frees))
}

/// Whether the caller is a signal handler that has interrupted a free. It must not wait for `LOCK`: the holder of `LOCK` may
/// wait for `FREES`, which this thread holds.
#[inline]
pub fn has_interrupted_a_free(thread: &Thread) -> bool {
    FREES.is_held_by(&thread.frees) && !LOCK.is_held_by(&thread.lock)
}

/// Prepares the one thread of a forked child: each lock becomes free, or stays the thread's if it forked from inside.
pub fn after_fork() {
    thread::with(|thread| {
        LOCK.after_fork(&thread.lock);
        FREES.after_fork(&thread.frees);
    });
}
