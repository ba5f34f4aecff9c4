//! Sleeping in the kernel.

use crate::sys::{Errno, NS_PER_S};
use core::ptr;

/// How a sleep ended.
pub enum Slept {
    /// It was woken, or there was no reason to sleep.
    Woken,
    /// There was a signal.
    Interrupted,
    /// The deadline is past, and nothing has happened.
    Long,
}

/// A word to sleep on.
pub struct Word(pub core::sync::atomic::AtomicU32);

impl Word {
    /// Sleeps until `wake`, but not if the word no longer holds `expected`, and not past `deadline`, in nanoseconds of `now`:
    /// a moment, not a length, because signals may interrupt the sleep any number of times.
    pub fn wait(&self, expected: u32, deadline: u64) -> Slept {
        let operation = libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG;
        let deadline = libc::timespec {
            tv_sec: (deadline / NS_PER_S) as libc::time_t,
            tv_nsec: (deadline % NS_PER_S) as libc::c_long,
        };
        // SAFETY: the word is valid and aligned, and the time too.
        let result = unsafe {
            syscall!(
                SYS_futex,
                self.0.as_ptr(),
                operation,
                expected,
                &raw const deadline,
                ptr::null::<u32>(),
                libc::FUTEX_BITSET_MATCH_ANY,
            )
        };
        match Errno::of(result) {
            Some(Errno::ETIMEDOUT) => Slept::Long,
            Some(Errno::EINTR) => Slept::Interrupted,
            _ => Slept::Woken,
        }
    }

    /// Wakes every thread that sleeps on the word.
    pub fn wake(&self) {
        let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: as in `wait`.
        unsafe { syscall!(SYS_futex, self.0.as_ptr(), operation, i32::MAX) };
    }
}
