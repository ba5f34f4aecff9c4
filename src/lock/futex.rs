//! Sleeping in the kernel, and the clock.

use super::NS_PER_S;
use crate::errno::Errno;
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
        Errno::preserve(|| {
            // SAFETY: the word is valid and aligned, and the time too. A raw system call is no cancellation point.
            let result = unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    self.0.as_ptr(),
                    operation,
                    expected,
                    &raw const deadline,
                    ptr::null::<u32>(),
                    libc::FUTEX_BITSET_MATCH_ANY,
                )
            };
            match Errno::save() {
                Errno::ETIMEDOUT if result != 0 => Slept::Long,
                Errno::EINTR if result != 0 => Slept::Interrupted,
                _ => Slept::Woken,
            }
        })
    }

    /// Wakes every thread that sleeps on the word.
    pub fn wake(&self) {
        let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: as in `wait`.
        let wake = || unsafe {
            libc::syscall(libc::SYS_futex, self.0.as_ptr(), operation, i32::MAX);
        };
        Errno::preserve(wake);
    }
}

/// Lets others run that are ready to, on this processor: the holder, maybe, who could not go on while we look.
pub fn give_way() {
    // SAFETY: no preconditions; it cannot fail. A raw system call, as in `wait`.
    unsafe { libc::syscall(libc::SYS_sched_yield) };
}

/// Runs `body` with no signal coming in between.
pub fn without_signals(body: impl FnOnce()) {
    // The kernel's own set: a bit for each of 64 signals.
    let (all, mut before) = (u64::MAX, 0u64);
    let change = |how: libc::c_int, new: *const u64, old: *mut u64| {
        // SAFETY: both sets are valid or null, of the length that is given. It fails for a wrong `how` only.
        unsafe { libc::syscall(libc::SYS_rt_sigprocmask, how, new, old, size_of::<u64>()) };
    };
    change(libc::SIG_SETMASK, &all, &mut before);
    body();
    change(libc::SIG_SETMASK, &before, ptr::null_mut());
}

/// Nanoseconds of CLOCK_MONOTONIC. Costs 20 to 30 ns.
#[inline(never)]
pub fn now() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is valid for writing. The clock always exists, so the call cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * NS_PER_S + time.tv_nsec as u64
}
