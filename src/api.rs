//! The C API. `include/mrlock.h` is made from this file: the comments here are the documentation there.

use crate::{
    hook::{self, section},
    operation::{Kind, Layer},
    policy, resolve,
    stats::{self, Snapshot},
    sys::Errno,
};
use core::{
    ffi::{CStr, c_char, c_int, c_uint},
    ptr,
};

/// In mrlock_active(): registrations go through the ibv_* functions of mrlock.
pub const MRLOCK_ACTIVE_VERBS: c_int = 1;

/// In mrlock_active(): registrations go through the ioctl() of mrlock.
pub const MRLOCK_ACTIVE_IOCTL: c_int = 2;

export!(mrlock_lock @@ "MRLOCK_0.1");
export!(mrlock_unlock @@ "MRLOCK_0.1");
export!(mrlock_stats @@ "MRLOCK_0.1");
export!(mrlock_active @@ "MRLOCK_0.1");
export!(mrlock_version @@ "MRLOCK_0.1");

/// Takes the lock that registrations take: until the matching mrlock_unlock(), no other thread of this process is inside a
/// registration or deregistration, or holds the lock by this function. For code that must not run beside a registration and
/// that mrlock does not know: freeing GPU memory, or a provider's own call.
///
/// May be nested, and the thread that holds the lock may register. MRLOCK, MRLOCK_CALLS and MRLOCK_HOOKS decide about
/// registrations; this function locks whatever they say. As with any lock, a thread that holds it must not wait for another
/// thread that may want it. That includes loading a library, whose constructors may wait.
///
/// @return 0; EAGAIN if it is nested 2147483647 deep.
///
/// Thread-safe and async-signal-safe: in a signal handler, it nests with what the signal has interrupted, and a handler must
/// end what it begins. After fork(), the child holds the lock if the thread that forked held it; otherwise it is free. (Not
/// for a child of vfork().) A thread that ends while it holds the lock loses it within about a second, and a line on stderr
/// says so. Not a cancellation point.
extern "C" fn mrlock_lock() -> c_int {
    if section::begin() { 0 } else { libc::EAGAIN }
}

/// Undoes the last mrlock_lock() of this thread. The outermost frees the lock.
///
/// @return 0; EPERM, and nothing is done, if this thread does not have the lock by mrlock_lock().
///
/// Thread-safe and async-signal-safe; after fork() see mrlock_lock().
extern "C" fn mrlock_unlock() -> c_int {
    if section::end() { 0 } else { libc::EPERM }
}

/// Copies the counters.
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
unsafe extern "C" fn mrlock_stats(entry_point: c_uint, stats: *mut Snapshot, size: usize) -> c_int {
    if stats.is_null() || size == 0 {
        return libc::EINVAL;
    }
    let Some(snapshot) = stats::snapshot(hook::operations(), entry_point) else {
        return libc::ENOENT;
    };
    let known = size.min(size_of::<Snapshot>());
    let to = stats.cast::<u8>();
    // SAFETY: the caller answers for `size` bytes at `stats`; `Snapshot` has no padding, so `known` bytes of it are initialized.
    unsafe {
        ptr::copy_nonoverlapping(ptr::from_ref(&snapshot).cast(), to, known);
        to.add(known).write_bytes(0, size - known);
    }
    0
}

/// Says whether a registration takes the lock right now, and through which hooks.
///
/// It looks up which definition of ibv_reg_mr, and of ioctl, a call would reach from where libmrlock.so was loaded. If it is
/// preloaded, or the program is linked to it, the answer holds for every module that has no definition of its own. If it came
/// with a plugin, by dlopen(), the answer holds for that plugin.
///
/// @return MRLOCK_ACTIVE_VERBS | MRLOCK_ACTIVE_IOCTL if both hooks are reached.
///         MRLOCK_ACTIVE_IOCTL alone: the program is linked to libibverbs before mrlock. Registrations take the lock on their
///         way into the kernel.
///         MRLOCK_ACTIVE_VERBS alone: a library is linked to mrlock, but the program is not. Callers that have libibverbs from
///         dlopen(), as NCCL has, do not take the lock.
///         0: no registration takes it. MRLOCK, MRLOCK_CALLS and MRLOCK_HOOKS may be the reason, too.
///
/// Thread-safe, and good after fork(). Calls the loader, so it is not for signal handlers, nor for use between mrlock_lock()
/// and mrlock_unlock(): another thread may be loading a library whose constructor waits for the lock. Afterwards dlerror()
/// returns NULL.
extern "C" fn mrlock_active() -> c_int {
    let is_caught = |layer, symbol: &CStr| {
        policy::serializes(Kind::Registration, layer) && resolve::is_bound_to_us(symbol)
    };
    Errno::preserve(|| {
        let mut active = 0;
        if is_caught(Layer::Verbs, c"ibv_reg_mr") {
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
