//! Whether this is still the process that used the lock before: fork handlers run in a child of `fork`, but not in one of
//! `_Fork` or of a bare `clone`.

use crate::sys;
use core::{
    ptr,
    sync::atomic::{AtomicU32, Ordering},
};

/// The process is new, or a child that has not used the lock.
const UNMARKED: u32 = 0;
/// One thread makes the lock this process's.
const BUSY: u32 = 1;
/// The lock is this process's.
const MARKED: u32 = 2;

/// Whether a lock is this process's: a page of its own, which the kernel fills with zeros in every child that gets a copy
/// of this memory (Linux 4.14).
#[repr(align(4096))]
pub struct ForkMark(AtomicU32);

impl ForkMark {
    /// Of a lock that no process has used.
    pub const fn new() -> Self {
        Self(AtomicU32::new(UNMARKED))
    }

    /// Whether the lock is this process's.
    #[inline]
    pub fn is_marked(&self) -> bool {
        // Acquire pairs with the Release in `mark`: what `prepare` did is seen.
        self.0.load(Ordering::Acquire) == MARKED
    }

    /// Calls `prepare` if no other thread of this process has; then the lock is this process's.
    #[cold]
    pub fn mark(&self, prepare: impl FnOnce()) {
        // A handler that needs the lock in the middle of this would wait for ever.
        sys::without_signals(|| {
            // First: a child that is forked while the page says BUSY must find zeros. If it fails (an older kernel), fork
            // handlers alone have to do.
            // SAFETY: the page is this mark's alone, and stays what it is in this process.
            unsafe {
                syscall!(
                    SYS_madvise,
                    ptr::from_ref(self),
                    size_of::<Self>(),
                    libc::MADV_WIPEONFORK,
                )
            };
            // Relaxed, both: `is_marked` orders what another thread has prepared.
            let first =
                self.0
                    .compare_exchange(UNMARKED, BUSY, Ordering::Relaxed, Ordering::Relaxed);
            if first.is_ok() {
                prepare();
                // Release: see `is_marked`.
                self.0.store(MARKED, Ordering::Release);
            }
            while !self.is_marked() {
                sys::yield_now();
            }
        });
    }

    /// For a fork handler in the child, where the kernel has not wiped the page.
    pub fn unmark(&self) {
        // Relaxed, both: the child has one thread. An untouched page need not be copied.
        if self.0.load(Ordering::Relaxed) != UNMARKED {
            self.0.store(UNMARKED, Ordering::Relaxed);
        }
    }
}
