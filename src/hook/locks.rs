//! The two locks of this process, and what a thread may do while it holds one of them.
//!
//! Order: `LOCK` before `FREES`. A free takes `FREES` alone. A registration or deregistration takes `LOCK`; if its memory may be
//! the GPU's, then `FREES`. So a free never waits for a call on host memory, and host memory never waits for a free.

use super::thread::Thread;
use crate::{
    base::sys,
    lock::{Admission, CallInfo, Lock},
};
use core::sync::atomic::{AtomicU64, Ordering};
use log::warn;

/// Lets one thread register or deregister at a time, in all layers. Also taken by a section (`mrlock_lock`).
#[unsafe(link_section = ".sbss.large")]
pub static LOCK: Lock = Lock::new();

/// Keeps apart the frees of GPU memory on one side, and the calls on memory that may be the GPU's on the other. A section does
/// not take it: libcuda holds a mutex of its own while it frees, so a section that calls CUDA would wait for a free that waits
/// for the section.
#[unsafe(link_section = ".sbss.large")]
pub static FREES: Lock = Lock::new();

/// The holder of `LOCK` that waits for `FREES`: the kernel's id of the thread, or 0.
static WAITS_FOR_FREES: AtomicU64 = AtomicU64::new(0);

/// Whether the calling thread is inside a serialized call. The calls that it makes from there (of libibverbs' own functions,
/// through its PLT; then of ioctl) are part of that call.
#[inline]
pub fn is_inside(thread: &Thread) -> bool {
    thread.calls.get() > 0 && (LOCK.is_held_by(&thread.lock) || FREES.is_held_by(&thread.frees))
}

/// Whether the caller is a signal handler that has interrupted a free. It must not simply wait for `LOCK`: the holder of `LOCK`
/// may wait for `FREES`, which this thread holds.
#[inline]
pub fn has_interrupted_a_free(thread: &Thread) -> bool {
    FREES.is_held_by(&thread.frees) && !LOCK.is_held_by(&thread.lock)
}

/// Which locks a call has taken.
pub struct Taken {
    first: bool,
    second: bool,
}

/// Takes the locks for a registration or deregistration. The admission is `None` if the thread holds `LOCK` already.
#[inline]
pub fn enter(thread: &Thread, call: &CallInfo, meets_frees: bool) -> (Taken, Option<Admission>) {
    let mut admission = if has_interrupted_a_free(thread) {
        let admission = enter_within_a_free(thread, call);
        if admission.is_none() {
            // `FREES`, which this thread holds already, keeps the others out.
            let none = Taken {
                first: false,
                second: false,
            };
            return (none, None);
        }
        admission
    } else {
        LOCK.lock(&thread.lock, call)
    };
    // A signal handler's call, within the wait for `FREES` of another call: a handler that has interrupted a free may be inside.
    let meets_frees = meets_frees || WAITS_FOR_FREES.load(Ordering::Relaxed) == thread.lock.id();
    if meets_frees {
        // Only the holder of `LOCK` changes it. A signal handler that interrupts its wait leaves it as it was.
        // Relaxed, all: see `enter_within_a_free`.
        let outer = WAITS_FOR_FREES.load(Ordering::Relaxed);
        WAITS_FOR_FREES.store(thread.lock.id(), Ordering::Relaxed);
        let second = FREES.lock(&thread.frees, call);
        WAITS_FOR_FREES.store(outer, Ordering::Relaxed);
        admission = admission.map(|first| first.and(second));
    }
    let taken = Taken {
        first: true,
        second: meets_frees,
    };
    (taken, admission)
}

/// Takes `LOCK` in a signal handler that has interrupted a free. `None`: the holder of `LOCK` waits for `FREES`, and so stays
/// outside until the free has ended: the call is alone without `LOCK`. `None`, too, where the wait would not end: the free itself has
/// interrupted a wait for `LOCK`; the holder of `LOCK` has ended; or it is in a section and waits for a mutex that libcuda holds
/// while it frees. Then the call may be inside beside a call on host memory.
#[cold]
fn enter_within_a_free(thread: &Thread, call: &CallInfo) -> Option<Admission> {
    if thread.lock.is_waiting() {
        return None;
    }
    let since = sys::now();
    while sys::now() - since < PATIENCE {
        for _ in 0..LOOKS {
            let admission = LOCK.take_if_free(&thread.lock, call);
            if admission.is_some() {
                return admission;
            }
            // Relaxed: a thread stores its id before it asks for `FREES`, and 0 when it has got it. This thread holds `FREES`, so
            // it sees the 0 of every thread that had it before.
            let waiting = WAITS_FOR_FREES.load(Ordering::Relaxed);
            if waiting != 0 && waiting == LOCK.holder_id() {
                return None;
            }
            core::hint::spin_loop();
        }
        sys::nap();
    }
    warn!(
        "{call}: the thread that is inside does not leave, and may wait for this thread's free: not serialized"
    );
    None
}

/// How often the handler looks before it gives its processor away: for long enough to see a lock that changes hands as free.
const LOOKS: u32 = 1000;

/// For how many nanoseconds it waits.
const PATIENCE: u64 = 2 * sys::NS_PER_S;

/// Undoes `enter`.
#[inline]
pub fn leave(thread: &Thread, taken: &Taken) {
    if taken.second {
        FREES.unlock(&thread.frees);
    }
    if taken.first {
        LOCK.unlock(&thread.lock);
    }
}

/// Before a fork.
pub fn before_fork(thread: &Thread) {
    LOCK.before_fork(&thread.lock);
    FREES.before_fork(&thread.frees);
}

/// In the parent after a fork.
pub fn after_fork_in_parent(thread: &Thread) {
    LOCK.after_fork_in_parent(&thread.lock);
    FREES.after_fork_in_parent(&thread.frees);
}

/// In a forked child: each lock becomes free, or stays the thread's if it forked from inside.
pub fn after_fork(thread: &Thread) {
    let before = thread.lock.id();
    LOCK.after_fork(&thread.lock);
    FREES.after_fork(&thread.frees);
    // Relaxed: as in `enter`. The thread may wait for `FREES`, and has another id now.
    let waiting = WAITS_FOR_FREES.load(Ordering::Relaxed);
    if waiting != 0 && waiting == before {
        WAITS_FOR_FREES.store(thread.lock.id(), Ordering::Relaxed);
    }
}
