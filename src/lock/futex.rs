//! Sleeping in the kernel.

use crate::base::sys::{Errno, NS_PER_S};
use core::{
    ptr,
    sync::atomic::{AtomicU32, Ordering},
};

/// An event count: how many times an event was signalled. The kernel compares the count before it puts a thread to sleep.
pub struct EventCount {
    count: AtomicU32,
    /// The number of sleepers, or more: a thread that ends in its sleep, or leaves it by `siglongjmp`, is still counted.
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
        // Acquire pairs with the Release in `count`: a thread that reads the new count sees all writes before it.
        self.count.load(Ordering::Acquire)
    }

    /// Sleeps until the next `signal`, or until `deadline`, in nanoseconds of `sys::now`. Returns at once if there was a signal
    /// since `get` returned `count`. The kernel wakes sleepers in the order of their arrival. The error is set if something
    /// else has ended the sleep: the deadline (ETIMEDOUT), or a signal handler (EINTR).
    pub fn wait(&self, count: u32, deadline: u64) -> Option<Errno> {
        let deadline = libc::timespec {
            tv_sec: (deadline / NS_PER_S) as libc::time_t,
            tv_nsec: (deadline % NS_PER_S) as libc::c_long,
        };
        // SeqCst, as in `count` and `signal`: either `signal` sees this sleeper, or the kernel, which compares later, sees the new
        // count.
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the word and the time are valid and aligned.
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
        // EAGAIN: the count has changed already.
        Errno::of(result).filter(|&error| error != Errno::EAGAIN)
    }

    /// Counts an event, without a wake-up: a thread that is about to sleep here does not fall asleep.
    pub fn count(&self) {
        // SeqCst: see `get`, which needs a Release, and `wait`.
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    /// Counts an event, and wakes the `most` threads that have slept here for longest. `false` if no thread sleeps here.
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
