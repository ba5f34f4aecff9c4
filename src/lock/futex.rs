//! Sleeping in the kernel, and the clock.

use crate::errno::Errno;

/// How a sleep ended.
#[derive(PartialEq, Eq)]
pub enum Slept {
    /// It was woken, or there was no reason to sleep, or there was a signal: look again.
    Short,
    /// Nothing happened for as long as a waiter should sleep without looking about.
    Long,
}

/// A word to sleep on.
pub struct Word(pub core::sync::atomic::AtomicU32);

/// A holder that is gone has to be noticed within a second, by a waiter that may just have fallen asleep.
static LONG: libc::timespec = libc::timespec {
    tv_sec: 0,
    tv_nsec: 400_000_000,
};

impl Word {
    /// Sleeps until `wake`, but not if the word no longer holds `expected`, and not for too long.
    pub fn wait(&self, expected: u32) -> Slept {
        let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: the word is valid and aligned, and the time too. A raw system call is no cancellation point.
        let result = unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.0.as_ptr(),
                operation,
                expected,
                &raw const LONG,
            )
        };
        if result != 0 && Errno::save() == Errno::ETIMEDOUT {
            Slept::Long
        } else {
            Slept::Short
        }
    }

    /// Wakes every thread that sleeps on the word.
    pub fn wake(&self) {
        let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: as in `wait`.
        unsafe { libc::syscall(libc::SYS_futex, self.0.as_ptr(), operation, i32::MAX) };
    }
}

/// Nanoseconds of CLOCK_MONOTONIC. Costs 20 to 30 ns.
pub fn now() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is valid for writing. The clock always exists, so the call cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
