//! The C API. `include/mrlock.h` is made from this file: what is documented here is written for its readers.

use crate::{
    errno::Errno,
    hook::{EntryPoint, Layer, section},
    next,
    policy::{self, Kind},
    stats,
};
use core::{
    ffi::{CStr, c_char, c_int, c_uint},
    ptr,
};

/// In mrlock_active(): registrations go through the ibv_* functions of mrlock.
pub const MRLOCK_ACTIVE_VERBS: c_int = 1;

/// In mrlock_active(): registrations go through the ioctl() of mrlock.
pub const MRLOCK_ACTIVE_IOCTL: c_int = 2;

/// For mrlock_stats(): all entry points together.
pub const MRLOCK_ALL: c_uint = 0;

/// What happened in this process so far; in a forked child, since the fork. Later versions add fields at the end.
#[repr(C)]
#[derive(Default)]
pub struct Stats {
    /// Its name: "ibv_reg_mr", say, "uverbs:REG_MR" for what only the ioctl hook saw, "mrlock_lock", or "all".
    pub entry_point: [c_char; 32],
    /// Calls that went through the lock. What a call calls in turn is part of it.
    pub calls: u64,
    /// How many of them failed.
    pub failures: u64,
    /// How many of them had to wait for another thread.
    pub waits: u64,
    /// How long these waited, all together, in nanoseconds.
    pub wait_ns: u64,
    /// The longest wait.
    pub longest_wait_ns: u64,
    /// How long the lock was held. Measured if MRLOCK_REPORT asks for a report, and from the first mrlock_stats() on.
    /// What is called between mrlock_lock() and mrlock_unlock() has its time counted there.
    pub inside_ns: u64,
    /// The longest time that the lock was held.
    pub longest_inside_ns: u64,
    /// The most threads that were inside or waiting at one moment: so many would have met inside without mrlock. Of the
    /// whole process, whichever entry point is asked for.
    pub most_at_once: u64,
}

export!(mrlock_lock @@ "MRLOCK_0.1");
export!(mrlock_unlock @@ "MRLOCK_0.1");
export!(mrlock_stats @@ "MRLOCK_0.1");
export!(mrlock_active @@ "MRLOCK_0.1");
export!(mrlock_version @@ "MRLOCK_0.1");

/// Takes the lock that registrations take: until the mrlock_unlock() that belongs to it, no other thread of this process is
/// inside a registration or deregistration, nor has the lock by this function. First come, first served. For what must
/// not run beside a registration and is none that mrlock knows: freeing GPU memory, or a provider's own call.
///
/// May be nested, and the thread that has the lock may register. MRLOCK, MRLOCK_CALLS and MRLOCK_HOOKS decide about
/// registrations; this function locks whatever they say. As with any lock, do not wait while you have it for another
/// thread that may want it. That goes for loading a library, whose constructors may.
///
/// @return 0; EAGAIN if it is nested 2147483647 deep.
///
/// Thread-safe and async-signal-safe: in a signal handler, it nests with what that has interrupted, and what a handler
/// begins it must end. After fork(), the child has
/// the lock if the thread that forked had it; otherwise it is free. (Not for a child of vfork().) A thread that ends while
/// it has the lock loses it within a second or so, and a line on stderr says so. Not a cancellation point.
extern "C" fn mrlock_lock() -> c_int {
    if section::begin() { 0 } else { libc::EAGAIN }
}

/// Ends what the last mrlock_lock() of this thread began. With the outermost, the next thread in line gets the lock.
///
/// @return 0; EPERM, and nothing is done, if this thread does not have the lock by mrlock_lock().
///
/// Thread-safe and async-signal-safe; after fork() see mrlock_lock().
extern "C" fn mrlock_unlock() -> c_int {
    if section::end() { 0 } else { libc::EPERM }
}

/// Takes a snapshot of what happened.
///
///     struct mrlock_snapshot stats;
///     for (unsigned int i = 1; mrlock_stats(i, &stats, sizeof stats) == 0; i++)
///             printf("%s: %llu calls\n", stats.entry_point, (unsigned long long)stats.calls);
///
/// @param entry_point  MRLOCK_ALL for the sum, or the longest, of all. 1, 2, ... for one after the other, in an order that may
///                     change with the version: the name is in the snapshot.
/// @param stats        Where to write it.
/// @param size         sizeof *stats, as the caller knows it. A library that knows less sets the rest to zero; one
///                     that knows more leaves it out.
/// @return 0; ENOENT if there are not so many entry points; EINVAL if stats is NULL or size 0.
///
/// Thread-safe, async-signal-safe, and good after fork(). Each number is read by itself; between mrlock_lock() and
/// mrlock_unlock() they are all of one moment.
unsafe extern "C" fn mrlock_stats(entry_point: c_uint, stats: *mut Stats, size: usize) -> c_int {
    if stats.is_null() || size == 0 {
        return libc::EINVAL;
    }
    let Some(snapshot) = stats::snapshot(entry_point) else {
        return libc::ENOENT;
    };
    let known = size.min(size_of::<Stats>());
    let to = stats.cast::<u8>();
    // SAFETY: the caller answers for `size` bytes at `stats`; `Stats` has no padding, so `known` bytes of it are initialized.
    unsafe {
        ptr::copy_nonoverlapping(ptr::from_ref(&snapshot).cast(), to, known);
        to.add(known).write_bytes(0, size - known);
    }
    0
}

/// Says whether a registration takes the lock right now, and through which hooks.
///
/// It asks which definition of ibv_reg_mr, and of ioctl, a call would reach from where libmrlock.so was loaded. If it is
/// preloaded, or the program is linked to it, that is so for everybody who brings no definition of his own. If it came
/// with a plugin, by dlopen(), it is so for that plugin.
///
/// @return MRLOCK_ACTIVE_VERBS | MRLOCK_ACTIVE_IOCTL if all is well.
///         MRLOCK_ACTIVE_IOCTL alone: the program is linked to libibverbs before mrlock. Registrations take the lock on their
///         way into the kernel.
///         MRLOCK_ACTIVE_VERBS alone: a library is linked to mrlock, but not the program. Who has libibverbs from dlopen(), as
///         NCCL has, does not take the lock.
///         0: nobody does. MRLOCK, MRLOCK_CALLS and MRLOCK_HOOKS may be the reason, too.
///
/// Thread-safe, and good after fork(). Asks the loader, so not for signal handlers, nor between mrlock_lock() and
/// mrlock_unlock(): another thread may be loading a library whose constructor waits for the lock. Afterwards dlerror() returns
/// NULL.
extern "C" fn mrlock_active() -> c_int {
    let is_caught = |layer, symbol: &CStr| {
        policy::serializes(Kind::Registration, layer) && next::is_bound_to_us(symbol)
    };
    Errno::preserve(|| {
        let mut active = 0;
        if is_caught(Layer::Verbs, EntryPoint::RegMr.symbol()) {
            active |= MRLOCK_ACTIVE_VERBS;
        }
        if is_caught(Layer::Ioctl, c"ioctl") {
            active |= MRLOCK_ACTIVE_IOCTL;
        }
        active
    })
}

/// The version of the library that is loaded; MRLOCK_VERSION is that of this header.
///
/// @return "MAJOR.MINOR.PATCH", for as long as the process runs.
///
/// Thread-safe and async-signal-safe.
extern "C" fn mrlock_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
