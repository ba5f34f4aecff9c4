//! The C API. `make header` generates `include/mrlock.h` from this file, with its comments as documentation.

use crate::{
    base::sys::Errno,
    call::{
        operation::{Kind, Layer},
        policy,
    },
    hook::{self, section},
    record::counters::{self, Snapshot},
    resolve,
};
use core::{
    ffi::{c_char, c_int, c_uint},
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

/// Takes the lock that registrations take. Until the matching mrlock_unlock(), no other thread of this process is inside a
/// serialized registration or deregistration, or between mrlock_lock() and mrlock_unlock(). Use it around code that must not
/// run at the same time as a registration and that mrlock does not intercept, such as a driver's own call that pins memory.
///
/// Calls may be nested, and the thread that holds the lock may register. The settings decide which registrations take the
/// lock; this function always takes it, also with MRLOCK=observe. As with any lock, a thread that holds it must not wait for
/// another thread that may need it. So it must not load a library: a constructor of that library may wait for the lock.
///
/// With "free" in MRLOCK_CALLS, as by default, mrlock itself keeps the freeing of GPU memory apart from registrations of GPU
/// memory. Frees by other threads do not wait for this lock: libcuda holds a mutex of its own while it frees, so a thread that
/// holds the lock and calls CUDA would wait for a free that waits for the lock.
///
/// @return 0; EAGAIN if 2147483647 calls are nested already; EDEADLK, with "free" in MRLOCK_CALLS, in a signal handler that has
///         interrupted the freeing of GPU memory: the lock might never become free.
///
/// Thread-safe and async-signal-safe. In a signal handler, it nests inside the interrupted call or section; the handler must
/// unlock as often as it locks. After fork(), the child holds the lock if the thread that forked held it; otherwise the lock is
/// free. Not for a child of vfork(). If a thread ends while it holds the lock, the lock is freed within about a second, and a
/// line on stderr says so. Not a cancellation point.
extern "C" fn mrlock_lock() -> c_int {
    section::begin().err().unwrap_or(0)
}

/// Undoes one mrlock_lock() of this thread. The call that matches the outermost mrlock_lock() frees the lock.
///
/// @return 0; EPERM, without any effect, if this thread does not hold the lock by mrlock_lock().
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
/// @param entry_point  MRLOCK_ALL: the sums over all entry points, and the longest times of any. 1, 2, ...: one entry point.
///                     The order may change with the version; the name is in the snapshot.
/// @param stats        Where to write the snapshot.
/// @param size         sizeof *stats in the caller's header. A library with a shorter struct sets the rest to zero; one
///                     with a longer struct leaves its last fields out.
/// @return 0; ENOENT if there are fewer entry points; EINVAL if stats is NULL or size is 0.
///
/// Thread-safe, async-signal-safe, and usable after fork(). Each number is read separately. Between mrlock_lock() and
/// mrlock_unlock(), no other thread changes the numbers of registrations and deregistrations.
unsafe extern "C" fn mrlock_stats(entry_point: c_uint, stats: *mut Snapshot, size: usize) -> c_int {
    if stats.is_null() || size == 0 {
        return libc::EINVAL;
    }
    let Some(snapshot) = counters::snapshot(hook::operations(), entry_point) else {
        return libc::ENOENT;
    };
    let known = size.min(size_of::<Snapshot>());
    let to = stats.cast::<u8>();
    // SAFETY: the caller guarantees `size` bytes at `stats`; `Snapshot` has no padding, so `known` bytes of it are initialized.
    unsafe {
        ptr::copy_nonoverlapping(ptr::from_ref(&snapshot).cast(), to, known);
        to.add(known).write_bytes(0, size - known);
    }
    0
}

/// Says whether a registration takes the lock right now, and through which hooks.
///
/// It looks up which definitions of ibv_reg_mr and ioctl a call would reach from the scope in which libmrlock.so was loaded. If
/// the library is preloaded, or the program is linked to it, the answer holds for every module that has no definition of its
/// own. If dlopen() loaded it with a plugin, the answer holds for that plugin.
///
/// @return MRLOCK_ACTIVE_VERBS | MRLOCK_ACTIVE_IOCTL if both hooks are reached.
///         MRLOCK_ACTIVE_IOCTL alone: the program is linked to libibverbs before mrlock, or libmrlock-ioctl.so is preloaded.
///         Registrations take the lock on their way into the kernel.
///         MRLOCK_ACTIVE_VERBS alone: a library is linked to mrlock, but the program is not. Callers that load libibverbs by
///         dlopen(), such as NCCL, do not take the lock.
///         0: no registration takes it. The reason can be a setting: MRLOCK, MRLOCK_CALLS or MRLOCK_HOOKS.
///
/// Thread-safe, and usable after fork(). It calls the loader: do not use it in a signal handler, nor between mrlock_lock() and
/// mrlock_unlock(), because another thread may be loading a library whose constructor waits for the lock. Afterwards
/// dlerror() returns NULL.
extern "C" fn mrlock_active() -> c_int {
    let is_caught = |layer, bound| {
        policy::serializes(Kind::Registration, layer)
            && !policy::observes()
            && resolve::is_bound_to_us(bound)
    };
    Errno::preserve(|| {
        let mut active = 0;
        if is_caught(Layer::Verbs, bound!("ibv_reg_mr")) {
            active |= MRLOCK_ACTIVE_VERBS;
        }
        if is_caught(Layer::Ioctl, bound!("ioctl")) {
            active |= MRLOCK_ACTIVE_IOCTL;
        }
        active
    })
}

/// The version of the loaded library; MRLOCK_VERSION is that of this header.
///
/// @return "MAJOR.MINOR.PATCH", valid until the process ends.
///
/// Thread-safe and async-signal-safe.
extern "C" fn mrlock_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
