//! Sleeping in the kernel.

use crate::sys::{Errno, NS_PER_S};
use core::{
    ptr,
    sync::atomic::{AtomicU32, Ordering},
};

/// An event count: how often an event was signalled. The kernel compares it before it puts a thread to sleep.
pub struct EventCount {
    count: AtomicU32,
    /// How many sleep, at most: a thread that ends in its sleep stays in it.
    sleepers: AtomicU32,
}

impl EventCount {
    /// Never signalled.
    pub const fn new() -> Self {
        Self {
            count: AtomicU32::new(0),
            sleepers: AtomicU32::new(0),
        }
    }

    /// What to pass to `wait`.
    pub fn get(&self) -> u32 {
        // Acquire pairs with the Release in `count`: a thread that reads the new count sees what was done before it.
        self.count.load(Ordering::Acquire)
    }

    /// Sleeps until the next `signal`, but not if there was one since `get` returned `count`, and not past `deadline`, in
    /// nanoseconds of `sys::now`. The kernel wakes those that sleep here in the order in which they came. The error says
    /// what else has ended the sleep: the deadline (ETIMEDOUT), or a signal handler (EINTR).
    pub fn wait(&self, count: u32, deadline: u64) -> Option<Errno> {
        let deadline = libc::timespec {
            tv_sec: (deadline / NS_PER_S) as libc::time_t,
            tv_nsec: (deadline % NS_PER_S) as libc::c_long,
        };
        // SeqCst, as in `count` and `signal`: either `signal` sees this sleeper, or the kernel, which looks later, the new count.
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the word is valid and aligned, and the time too.
        let result = unsafe {
            syscall!(
                SYS_futex,
                self.count.as_ptr(),
                libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG,
                count,
                &raw const deadline,
                ptr::null::<u32>(),
                libc::FUTEX_BITSET_MATCH_ANY,
            )
        };
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        // The count is another already.
        Errno::of(result).filter(|&error| error != Errno::EAGAIN)
    }

    /// A thread that is about to sleep here looks again.
    pub fn count(&self) {
        // SeqCst: see `get`, which needs a Release, and `wait`.
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    /// The same, and wakes so many threads that sleep here, those that have slept for longest; `false` if none does.
    pub fn signal(&self, most: i32) -> bool {
        self.count();
        if self.sleepers.load(Ordering::SeqCst) == 0 {
            return false;
        }
        // SAFETY: as in `wait`.
        let woken = unsafe {
            syscall!(
                SYS_futex,
                self.count.as_ptr(),
                libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
                most,
            )
        };
        woken > 0
    }
}
