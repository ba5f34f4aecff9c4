//! Sleeping in the kernel.

use crate::sys::{Errno, NS_PER_S};
use core::{
    ptr,
    sync::atomic::{AtomicU32, Ordering},
};

/// An event count: how often an event was signalled. The kernel compares it before it puts a thread to sleep.
pub struct EventCount(AtomicU32);

impl EventCount {
    /// Never signalled.
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// What to pass to `wait`.
    pub fn get(&self) -> u32 {
        // Acquire pairs with the Release in `signal`: a thread that reads the new count sees what was done before it.
        self.0.load(Ordering::Acquire)
    }

    /// Sleeps until the next `signal`, but not if there was one since `get` returned `count`, and not past `deadline`, in
    /// nanoseconds of `sys::now`. The kernel wakes those that sleep here in the order in which they came. The error says
    /// what else has ended the sleep: the deadline (ETIMEDOUT), or a signal handler (EINTR).
    pub fn wait(&self, count: u32, deadline: u64) -> Option<Errno> {
        let deadline = libc::timespec {
            tv_sec: (deadline / NS_PER_S) as libc::time_t,
            tv_nsec: (deadline % NS_PER_S) as libc::c_long,
        };
        // SAFETY: the word is valid and aligned, and the time too.
        let result = unsafe {
            syscall!(
                SYS_futex,
                self.0.as_ptr(),
                libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG,
                count,
                &raw const deadline,
                ptr::null::<u32>(),
                libc::FUTEX_BITSET_MATCH_ANY,
            )
        };
        // The count is another already.
        Errno::of(result).filter(|&error| error != Errno::EAGAIN)
    }

    /// A thread that is about to sleep here looks again.
    pub fn count(&self) {
        // Release: see `get`.
        self.0.fetch_add(1, Ordering::Release);
    }

    /// The same, and wakes so many threads that sleep here, those that have slept for longest; `false` if none does.
    pub fn signal(&self, most: i32) -> bool {
        self.count();
        // SAFETY: as in `wait`.
        let woken = unsafe {
            syscall!(
                SYS_futex,
                self.0.as_ptr(),
                libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
                most,
            )
        };
        woken > 0
    }
}
