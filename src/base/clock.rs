//! The time, for each call, without a system call.
//!
//! The kernel maps a small library into each process (vdso(7)) that reads its clocks without a system call. libc uses it, too, but
//! another preloaded library may replace libc's clock_gettime(), and show another time to the host.

use super::{
    elf,
    sys::{self, Errno},
};
use core::{
    ffi::{c_int, c_void},
    mem::{self, MaybeUninit},
    ptr::{self, NonNull},
    sync::atomic::{AtomicPtr, Ordering},
};

type ClockGettime = unsafe extern "C" fn(libc::clockid_t, *mut libc::timespec) -> c_int;

/// The vDSO's function; null if it was not looked for; `sys::clock`'s stand-in if there is none.
static FUNCTION: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// Nanoseconds of CLOCK_MONOTONIC.
pub fn now() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// The same at the last tick of the kernel, which was 1 to 10 ms ago: a few nanoseconds on every processor.
#[inline]
pub fn at_last_tick() -> u64 {
    read(libc::CLOCK_MONOTONIC_COARSE)
}

/// Nanoseconds of `clock`, which exists.
fn read(clock: libc::clockid_t) -> u64 {
    // Relaxed: the function was there before this process.
    let function = match NonNull::new(FUNCTION.load(Ordering::Relaxed)) {
        Some(function) => function.as_ptr(),
        None => look_up(),
    };
    // SAFETY: it is `system_call`, or the kernel's function of this type (vdso(7)).
    let function: ClockGettime = unsafe { mem::transmute(function) };
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: `time` is valid for writing; the clock exists, and the function changes nothing else.
    unsafe {
        function(clock, time.as_mut_ptr());
        sys::nanoseconds(time.assume_init())
    }
}

unsafe extern "C" fn system_call(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    // SAFETY: the caller's own pointer.
    unsafe { syscall!(SYS_clock_gettime, clock, time) as c_int }
}

#[cold]
fn look_up() -> *mut c_void {
    // Where there is none, as under valgrind, it sets errno.
    // SAFETY: getauxval() has no preconditions. What it returns is null or the start of the vDSO's image.
    let image = Errno::preserve(|| unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) }) as usize;
    // SAFETY: the kernel maps the whole image, a well-formed ELF file, for the life of the process.
    let found =
        NonNull::new(ptr::with_exposed_provenance_mut::<u8>(image)).and_then(|image| unsafe {
            elf::symbol(image.as_ptr(), super::processor::VDSO_CLOCK_GETTIME)
        });
    let function = found.unwrap_or(system_call as *mut c_void);
    FUNCTION.store(function, Ordering::Relaxed);
    function
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_tick_was_a_short_time_ago() {
        let before = at_last_tick();
        let now = sys::now();
        assert!(before <= now, "{before} {now}");
        // A virtual machine may have stopped in between.
        assert!(now - before < 60 * sys::NS_PER_S, "{before} {now}");
    }
}
