//! Sleeping in the kernel.

use crate::sys::{Errno, NS_PER_S};
use core::{
    ptr,
    sync::atomic::{AtomicU32, Ordering},
};

/// How a sleep ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wakeup {
    /// The event was signalled, maybe before the sleep.
    Signalled,
    /// A signal handler ran.
    Interrupted,
    /// The deadline is past.
    TimedOut,
}

/// How many threads a signal is for.
pub enum Wakes {
    /// The one that has slept for longest.
    One,
    /// All.
    All,
}

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
    /// nanoseconds of `sys::now`. The kernel wakes those that sleep here in the order in which they came.
    pub fn wait(&self, count: u32, deadline: u64) -> Wakeup {
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
        match Errno::of(result) {
            Some(Errno::ETIMEDOUT) => Wakeup::TimedOut,
            Some(Errno::EINTR) => Wakeup::Interrupted,
            _ => Wakeup::Signalled,
        }
    }

    /// Wakes threads that sleep here; `false` if none does.
    pub fn signal(&self, wakes: Wakes) -> bool {
        let most = match wakes {
            Wakes::One => 1,
            Wakes::All => i32::MAX,
        };
        // Release: see `get`.
        self.0.fetch_add(1, Ordering::Release);
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
