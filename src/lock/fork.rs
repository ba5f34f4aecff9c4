//! Whether this is still the process that used the lock before. Fork handlers run in a child of `fork`, but not in a child of
//! `_Fork` or of a bare `clone`.

use crate::base::sys;
use core::{
    ptr,
    sync::atomic::{AtomicU32, Ordering},
};

/// The process is new, or a child that has not used the lock.
const UNMARKED: u32 = 0;
/// One thread is preparing the lock for this process.
const BUSY: u32 = 1;
/// The lock is prepared for this process.
const MARKED: u32 = 2;

/// Whether a lock is prepared for this process: a page of its own, which the kernel fills with zeros in every child that gets a
/// copy of this memory (Linux 4.14).
#[repr(align(4096))]
pub struct ForkMark(AtomicU32);

impl ForkMark {
    /// For a lock that no process has used.
    pub const fn new() -> Self {
        Self(AtomicU32::new(UNMARKED))
    }

    /// Whether the lock is prepared for this process.
    #[inline]
    pub fn is_marked(&self) -> bool {
        // Acquire pairs with the Release in `mark`: this thread sees the effects of `prepare`.
        self.0.load(Ordering::Acquire) == MARKED
    }

    /// Calls `prepare` unless another thread of this process does; returns when it is done.
    #[cold]
    pub fn mark(&self, prepare: impl FnOnce()) {
        // A signal handler that interrupted this and needed the lock would wait for ever.
        sys::without_signals(|| {
            // This comes first: a child that is forked while the page says BUSY must find zeros. If the call fails (an older
            // kernel), only the fork handlers reset the page.
            // SAFETY: the page is this mark's alone, and stays what it is in this process.
            unsafe {
                syscall!(
                    SYS_madvise,
                    ptr::from_ref(self),
                    size_of::<Self>(),
                    libc::MADV_WIPEONFORK,
                )
            };
            // Relaxed, both: the Acquire in `is_marked` orders the work of the thread that prepares.
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

    /// Resets the page. Called by the fork handler in a child, in case the kernel has not wiped the page.
    pub fn unmark(&self) {
        // Relaxed, both: the child has one thread. An untouched page need not be copied.
        if self.0.load(Ordering::Relaxed) != UNMARKED {
            self.0.store(UNMARKED, Ordering::Relaxed);
        }
    }
}
