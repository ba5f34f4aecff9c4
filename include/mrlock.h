/*
 * mrlock: one thread of a process at a time registers RDMA memory. See mrlock(7).
 *
 * The library does that by itself, linked ahead of libibverbs or preloaded. This header is for programs that want to know,
 * or to take the same lock around code of their own.
 *
 * Functions may be called from any thread, in a forked child, before main() and after it. Those that can fail return an error
 * number, as pthread functions do; none changes errno.
 *
 * With MRLOCK_WEAK defined, a program needs no library to link to or to run: where there is none in the process, mrlock_lock()
 * and mrlock_unlock() do nothing and return 0, mrlock_active() returns 0, mrlock_stats() ENOSYS and mrlock_version() "" (empty).
 * Define it in every file of a program or in none, and call the functions by their plain names: their addresses may be null.
 *
 * Made from src/api.rs, src/stats.rs and cbindgen.toml by `make header`.
 */
#ifndef MRLOCK_H
#define MRLOCK_H


#include <errno.h>
#include <stddef.h>
#include <stdint.h>

/* The version of this header. */
#define MRLOCK_VERSION "0.1.0"
#define MRLOCK_VERSION_MAJOR 0
#define MRLOCK_VERSION_MINOR 1
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
 * What happened in this process so far; in a forked child, since the fork. Later versions add fields at the end.
 */
struct mrlock_snapshot {
  /**
   * Its name: "ibv_reg_mr", say, "uverbs:REG_MR" for what only the ioctl hook saw, "mrlock_lock", or "all".
   */
  char entry_point[32];
  /**
   * Calls that went through the lock. What a call calls in turn is part of it.
   */
  uint64_t calls;
  /**
   * How many of them failed.
   */
  uint64_t failures;
  /**
   * How many of them had to wait for another thread.
   */
  uint64_t waits;
  /**
   * How long these waited, all together, in nanoseconds.
   */
  uint64_t wait_ns;
  /**
   * The longest wait.
   */
  uint64_t longest_wait_ns;
  /**
   * How long the lock was held. Measured if MRLOCK_REPORT asks for a report, and from the first mrlock_stats() on.
   * What is called between mrlock_lock() and mrlock_unlock() has its time counted there.
   */
  uint64_t inside_ns;
  /**
   * The longest time that the lock was held.
   */
  uint64_t longest_inside_ns;
  /**
   * The most threads that were inside or waiting at one moment: so many would have met inside without mrlock. Of the
   * whole process, whichever entry point is asked for.
   */
  uint64_t most_at_once;
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Takes the lock that registrations take: until the matching mrlock_unlock(), no other thread of this process is inside a
 * registration or deregistration, or holds the lock by this function. For code that must not run beside a registration and
 * that mrlock does not know: freeing GPU memory, or a provider's own call.
 *
 * May be nested, and the thread that holds the lock may register. MRLOCK, MRLOCK_CALLS and MRLOCK_HOOKS decide about
 * registrations; this function locks whatever they say. As with any lock, a thread that holds it must not wait for another
 * thread that may want it. That includes loading a library, whose constructors may wait.
 *
 * @return 0; EAGAIN if it is nested 2147483647 deep.
 *
 * Thread-safe and async-signal-safe: in a signal handler, it nests with what the signal has interrupted, and a handler must
 * end what it begins. After fork(), the child holds the lock if the thread that forked held it; otherwise it is free. (Not
 * for a child of vfork().) A thread that ends while it holds the lock loses it within about a second, and a line on stderr
 * says so. Not a cancellation point.
 */
MRLOCK_FUNCTION int mrlock_lock(void);

/**
 * Undoes the last mrlock_lock() of this thread. The outermost frees the lock.
 *
 * @return 0; EPERM, and nothing is done, if this thread does not have the lock by mrlock_lock().
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
 * @param entry_point  MRLOCK_ALL for the sum, or the longest, of all. 1, 2, ... for one after the other, in an order that may
 *                     change with the version: the name is in the snapshot.
 * @param stats        Where to write it.
 * @param size         sizeof *stats, as the caller knows it. A library that knows less sets the rest to zero; one
 *                     that knows more leaves it out.
 * @return 0; ENOENT if there are not so many entry points; EINVAL if stats is NULL or size 0.
 *
 * Thread-safe, async-signal-safe, and good after fork(). Each number is read by itself; between mrlock_lock() and
 * mrlock_unlock() they are all of one moment.
 */
MRLOCK_FUNCTION int mrlock_stats(unsigned int entry_point, struct mrlock_snapshot *stats, size_t size);

/**
 * Says whether a registration takes the lock right now, and through which hooks.
 *
 * It looks up which definition of ibv_reg_mr, and of ioctl, a call would reach from where libmrlock.so was loaded. If it is
 * preloaded, or the program is linked to it, the answer holds for every module that has no definition of its own. If it came
 * with a plugin, by dlopen(), the answer holds for that plugin.
 *
 * @return MRLOCK_ACTIVE_VERBS | MRLOCK_ACTIVE_IOCTL if both hooks are reached.
 *         MRLOCK_ACTIVE_IOCTL alone: the program is linked to libibverbs before mrlock. Registrations take the lock on their
 *         way into the kernel.
 *         MRLOCK_ACTIVE_VERBS alone: a library is linked to mrlock, but the program is not. Callers that have libibverbs from
 *         dlopen(), as NCCL has, do not take the lock.
 *         0: no registration takes it. MRLOCK, MRLOCK_CALLS and MRLOCK_HOOKS may be the reason, too.
 *
 * Thread-safe, and good after fork(). Calls the loader, so it is not for signal handlers, nor for use between mrlock_lock()
 * and mrlock_unlock(): another thread may be loading a library whose constructor waits for the lock. Afterwards dlerror()
 * returns NULL.
 */
MRLOCK_FUNCTION int mrlock_active(void);

/**
 * The version of the library that is loaded; MRLOCK_VERSION is that of this header.
 *
 * @return "MAJOR.MINOR.PATCH", for as long as the process runs.
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
/** mrlock_lock() now, and mrlock_unlock() at the end of the scope. */
class mrlock_guard {
public:
    mrlock_guard() : locked(mrlock_lock() == 0) {}
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
