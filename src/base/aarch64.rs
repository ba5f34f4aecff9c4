//! The instructions and numbers that depend on the processor, for aarch64 (AAPCS64). `x86_64.rs` defines the same for x86_64.
//!
//! Each entry begins with `bti c`: an indirect call may land there. (Without BTI, that is no instruction.) The library does not carry
//! the mark by which the loader guards pages with BTI: stable rustc begins no function with `bti c`, and core's have none, so that
//! with a mark (`-z force-bti`) each process would die when it calls our constructor. Pages of others are guarded as without us.

use core::{arch::asm, ffi::CStr};

/// The name of clock_gettime() in the library that the kernel maps into each process (vdso(7)).
pub const VDSO_CLOCK_GETTIME: &CStr = c"__kernel_clock_gettime";

/// The version of the functions that glibc has had from its beginning on this processor.
pub const FIRST_GLIBC: &CStr = c"GLIBC_2.17";

/// An instruction that no processor executes.
#[cfg(not(test))]
macro_rules! trap {
    () => {
        "udf #0"
    };
}

/// Where an exported function begins: with `bti c`, so that an indirect call may land there.
macro_rules! jump_to_function {
    () => {
        "hint #34; b {function}"
    };
}

/// Exports `ioctl`. A request whose low 32 bits are a hook's command jumps to that hook; every other request jumps to the address
/// in `$next`. The code uses no stack and changes no register but x16, which the linker may change at each call of a function: the
/// variadic arguments arrive unchanged. (The last jump is through x16, so that it may land on a `bti c`.)
macro_rules! export_ioctl {
    ($first:ident => $first_hook:ident, $second:ident => $second_hook:ident, else $next:ident) => {
        /// `ioctl(2)`.
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        extern "C" fn ioctl() {
            core::arch::naked_asm!(
                ".cfi_startproc",
                "hint #34", // bti c
                "mov w16, #{first_low}",
                "movk w16, #{first_high}, lsl #16",
                "cmp w1, w16",
                "b.eq {first_hook}",
                "mov w16, #{second_low}",
                "movk w16, #{second_high}, lsl #16",
                "cmp w1, w16",
                "b.eq {second_hook}",
                "adrp x16, {next}",
                "ldr x16, [x16, :lo12:{next}]",
                "br x16",
                ".cfi_endproc",
                first_low = const $first & 0xffff,
                first_high = const $first >> 16,
                first_hook = sym $first_hook,
                second_low = const $second & 0xffff,
                second_high = const $second >> 16,
                second_hook = sym $second_hook,
                next = sym $next,
            )
        }
    };
}

/// The address of the calling thread's `mrlock_thread` (`symbols.rs`).
macro_rules! thread_address {
    () => {{
        let address;
        // SAFETY: tpidr_el0 holds the thread pointer (ELF for the Arm 64-bit Architecture), and the GOT entry the offset of
        // `mrlock_thread` from it. Both are constant for the life of the thread; nothing is written.
        unsafe {
            core::arch::asm!(
                "mrs {address}, tpidr_el0",
                "adrp {offset}, :gottprel:mrlock_thread",
                "ldr {offset}, [{offset}, :gottprel_lo12:mrlock_thread]",
                "add {address}, {address}, {offset}",
                address = out(reg) address,
                offset = out(reg) _,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        address
    }};
}

/// Loads `{address}` with the address of this symbol, from the global offset table.
macro_rules! load_from_got {
    ($name:literal) => {
        concat!(
            "adrp {address}, :got:",
            $name,
            "; ldr {address}, [{address}, :got_lo12:",
            $name,
            "]"
        )
    };
}

/// Makes a system call, and returns what the kernel returns: on failure, the negated error number.
///
/// Not libc's `syscall()`: it sets errno, which belongs to the host, and another preloaded library may replace it. libfaketime
/// answers clock_gettime() and futex() there with a clock of its own.
///
/// # Safety
///
/// As for the system call `number` with these arguments.
#[inline(always)]
pub unsafe fn system_call(number: libc::c_long, arguments: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = arguments;
    let result;
    // SAFETY: the arm64 Linux ABI: the number in x8, arguments and the result in these registers, all others unchanged. (But for
    // those of SVE, of which the compiler uses none for this target.) The caller guarantees what the call does.
    unsafe {
        asm!(
            "svc #0",
            in("x8") number,
            inlateout("x0") a => result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
            options(nostack),
        );
    }
    result
}
