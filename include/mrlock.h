/*
 * mrlock: one thread of a process at a time registers RDMA memory. See mrlock(7).
 *
 * Linked ahead of libibverbs or preloaded, the library does that without any call of the program. This header is for programs
 * that read its counters, or take the same lock around code of their own.
 *
 * Functions may be called from any thread, in a forked child, before main() and after it. Those that can fail return an error
 * number, as pthread functions do; none changes errno.
 *
 * With MRLOCK_WEAK defined, a program needs no library to link to or to run: where there is none in the process, mrlock_lock()
 * and mrlock_unlock() do nothing and return 0, mrlock_active() returns 0, mrlock_stats() ENOSYS and mrlock_version() "" (empty).
 * Define it in every file of a program or in none, and call the functions by their plain names: their addresses may be null.
 *
 * Generated from src/api.rs, src/record/counters.rs and cbindgen.toml by `make header`.
 */
#ifndef MRLOCK_H
#define MRLOCK_H


#include <errno.h>
#include <stddef.h>
#include <stdint.h>

/* The version of this header. */
#define MRLOCK_VERSION "0.3.0"
#define MRLOCK_VERSION_MAJOR 0
#define MRLOCK_VERSION_MINOR 3
#define MRLOCK_VERSION_PATCH 0

#if !defined MRLOCK_WEAK
#define MRLOCK_FUNCTION
#elif defined __PIC__
#define MRLOCK_FUNCTION __attribute__((weak))
#elif defined __GNUC__ && __GNUC__ >= 6 && !defined __clang__ && !defined __code_model_large__
/* Without noplt, code that is not position-independent would find no library once it is linked without one. */
#define MRLOCK_FUNCTION __attribute__((weak, noplt))
#else
#error "MRLOCK_WEAK: this compiler needs -fPIE or -fPIC for it"
#endif

/**
 * For mrlock_stats(): all entry points together.
 */
#define MRLOCK_ALL 0

/**
 * In mrlock_active(): registrations go through the ibv_* functions of mrlock.
 */
#define MRLOCK_ACTIVE_VERBS 1

/**
 * In mrlock_active(): registrations go through the ioctl() of mrlock.
 */
#define MRLOCK_ACTIVE_IOCTL 2

/**
 * The counters of this process; in a forked child, since the fork. Later versions add fields at the end.
 */
struct mrlock_snapshot {
  /**
   * The name: "ibv_reg_mr"; "uverbs:REG_MR" for a call that only the ioctl hook saw; "mrlock_lock"; "all".
   */
  char entry_point[32];
  /**
   * Calls that took the lock. A call from within another call is part of that call.
   */
  uint64_t calls;
  /**
   * How many of them failed.
   */
  uint64_t failures;
  /**
   * How many of them waited for another thread.
   */
  uint64_t waits;
  /**
   * The sum of their waits, in nanoseconds.
   */
  uint64_t wait_ns;
  /**
   * The longest wait.
   */
  uint64_t longest_wait_ns;
  /**
   * How long the lock was held, in nanoseconds. Measured if MRLOCK_REPORT or MRLOCK_TRACE is set, and from the first
   * mrlock_stats() on.
   * The time of a call between mrlock_lock() and mrlock_unlock() counts for "mrlock_lock" alone.
   */
  uint64_t inside_ns;
  /**
   * The longest time that the lock was held.
   */
  uint64_t longest_inside_ns;
  /**
   * The largest number of threads that were inside or waiting at the same moment: without mrlock, up to so many would
   * have been inside. With MRLOCK=observe, the largest number that were inside. The number is that of the whole process,
   * for every entry point.
   */
  uint64_t most_at_once;
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Takes the lock that registrations take. Until the matching mrlock_unlock(), no other thread of this process is inside a
 * serialized registration or deregistration, or between mrlock_lock() and mrlock_unlock(). Use it around code that must not
 * run at the same time as a registration and that mrlock does not intercept, such as a driver's own call that pins memory.
 *
 * Calls may be nested, and the thread that holds the lock may register. The settings decide which registrations take the
 * lock; this function always takes it, also with MRLOCK=observe. As with any lock, a thread that holds it must not wait for
 * another thread that may need it. So it must not load a library: a constructor of that library may wait for the lock.
 *
 * With "free" in MRLOCK_CALLS, as by default, mrlock itself keeps the freeing of GPU memory apart from registrations of GPU
 * memory. Frees by other threads do not wait for this lock: libcuda holds a mutex of its own while it frees, so a thread that
 * holds the lock and calls CUDA would wait for a free that waits for the lock.
 *
 * @return 0; EAGAIN if 2147483647 calls are nested already; EDEADLK, with "free" in MRLOCK_CALLS, in a signal handler that has
 *         interrupted the freeing of GPU memory: the lock might never become free.
 *
 * Thread-safe and async-signal-safe. In a signal handler, it nests inside the interrupted call or section; the handler must
 * unlock as often as it locks. After fork(), the child holds the lock if the thread that forked held it; otherwise the lock is
 * free. Not for a child of vfork(). If a thread ends while it holds the lock, the lock is freed within about a second, and a
 * line on stderr says so. Not a cancellation point.
 */
MRLOCK_FUNCTION int mrlock_lock(void);

/**
 * Undoes one mrlock_lock() of this thread. The call that matches the outermost mrlock_lock() frees the lock.
 *
 * @return 0; EPERM, without any effect, if this thread does not hold the lock by mrlock_lock().
 *
 * Thread-safe and async-signal-safe; after fork() see mrlock_lock().
 */
MRLOCK_FUNCTION int mrlock_unlock(void);

/**
 * Copies the counters.
 *
 *     struct mrlock_snapshot stats;
 *     for (unsigned int i = 1; mrlock_stats(i, &stats, sizeof stats) == 0; i++)
 *             printf("%s: %llu calls\n", stats.entry_point, (unsigned long long)stats.calls);
 *
 * @param entry_point  MRLOCK_ALL: the sums over all entry points, and the longest times of any. 1, 2, ...: one entry point.
 *                     The order may change with the version; the name is in the snapshot.
 * @param stats        Where to write the snapshot.
 * @param size         sizeof *stats in the caller's header. A library with a shorter struct sets the rest to zero; one
 *                     with a longer struct leaves its last fields out.
 * @return 0; ENOENT if there are fewer entry points; EINVAL if stats is NULL or size is 0.
 *
 * Thread-safe, async-signal-safe, and usable after fork(). Each number is read separately. Between mrlock_lock() and
 * mrlock_unlock(), no other thread changes the numbers of registrations and deregistrations.
 */
MRLOCK_FUNCTION int mrlock_stats(unsigned int entry_point, struct mrlock_snapshot *stats, size_t size);

/**
 * Says whether a registration takes the lock right now, and through which hooks.
 *
 * It looks up which definitions of ibv_reg_mr and ioctl a call would reach from the scope in which libmrlock.so was loaded. If
 * the library is preloaded, or the program is linked to it, the answer holds for every module that has no definition of its
 * own. If dlopen() loaded it with a plugin, the answer holds for that plugin.
 *
 * @return MRLOCK_ACTIVE_VERBS | MRLOCK_ACTIVE_IOCTL if both hooks are reached.
 *         MRLOCK_ACTIVE_IOCTL alone: the program is linked to libibverbs before mrlock, or libmrlock-ioctl.so is preloaded.
 *         Registrations take the lock on their way into the kernel.
 *         MRLOCK_ACTIVE_VERBS alone: a library is linked to mrlock, but the program is not. Callers that load libibverbs by
 *         dlopen(), such as NCCL, do not take the lock.
 *         0: no registration takes it. The reason can be a setting: MRLOCK, MRLOCK_CALLS or MRLOCK_HOOKS.
 *
 * Thread-safe, and usable after fork(). It calls the loader: do not use it in a signal handler, nor between mrlock_lock() and
 * mrlock_unlock(), because another thread may be loading a library whose constructor waits for the lock. Afterwards
 * dlerror() returns NULL.
 */
MRLOCK_FUNCTION int mrlock_active(void);

/**
 * The version of the loaded library; MRLOCK_VERSION is that of this header.
 *
 * @return "MAJOR.MINOR.PATCH", valid until the process ends.
 *
 * Thread-safe and async-signal-safe.
 */
MRLOCK_FUNCTION const char *mrlock_version(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#ifdef MRLOCK_WEAK
#define mrlock_lock() (mrlock_lock ? mrlock_lock() : 0)
#define mrlock_unlock() (mrlock_unlock ? mrlock_unlock() : 0)
#define mrlock_stats(...) (mrlock_stats ? mrlock_stats(__VA_ARGS__) : ENOSYS)
#define mrlock_active() (mrlock_active ? mrlock_active() : 0)
#define mrlock_version() (mrlock_version ? mrlock_version() : "")
#endif

#ifdef __cplusplus
/* A warning for `mrlock_guard();`, which unlocks at once. C++11 and C++14 have no word for it, but compilers do. */
#if defined __clang__ && __clang_major__ >= 10
#define MRLOCK_NAMED [[clang::warn_unused_result]]
#elif defined __GNUC__ && __GNUC__ >= 10 && !defined __clang__
#define MRLOCK_NAMED [[nodiscard]]
#else
#define MRLOCK_NAMED
#endif

/** mrlock_lock() now, and mrlock_unlock() at the end of the scope. Give it a name: `mrlock_guard guard;`. */
class mrlock_guard {
public:
    MRLOCK_NAMED mrlock_guard() : locked(mrlock_lock() == 0) {}
    ~mrlock_guard()
    {
        if (locked)
            mrlock_unlock();
    }
    mrlock_guard(const mrlock_guard &) = delete;
    mrlock_guard &operator=(const mrlock_guard &) = delete;

private:
    const bool locked;
};
#endif

#endif /* MRLOCK_H */
