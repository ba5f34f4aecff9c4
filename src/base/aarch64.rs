//! The code that depends on the processor, for aarch64 (AAPCS64): exported symbols, a thread's own variables and the system call
//! instruction. `x86_64.rs` defines the same for x86_64.
//!
//! Each entry begins with `bti c`: an indirect call may land there. (Without BTI, that is no instruction. The library does not say
//! of itself that it has them everywhere, because stable rustc emits none: its pages are not guarded.)

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

/// Exports `$function@@$version`. In assembly, because a Rust function cannot carry an ELF version.
macro_rules! export {
    ($function:ident @@ $version:literal) => {
        core::arch::global_asm!(
            concat!(".pushsection .text.mrlock_entry_", stringify!($function), ", \"ax\", %progbits"),
            ".p2align 2",
            concat!(".globl mrlock_entry_", stringify!($function)),
            concat!(".type mrlock_entry_", stringify!($function), ", %function"),
            concat!("mrlock_entry_", stringify!($function), ":"),
            ".cfi_startproc",
            "hint #34", // bti c
            "b {function}",
            ".cfi_endproc",
            concat!(".size mrlock_entry_", stringify!($function), ", . - mrlock_entry_", stringify!($function)),
            concat!(".symver mrlock_entry_", stringify!($function), ", ", stringify!($function), "@@", $version),
            ".popsection",
            function = sym $function,
        );
    };
}

/// Defines `$own`, a static of `$type` that is all zero, and exports it as `$name@@$version`. Two names, because a second copy of
/// the library in a process must not use the data of the first.
macro_rules! export_zeroed {
    ($own:ident: $type:ty, $name:ident @@ $version:literal) => {
        core::arch::global_asm!(
            concat!(".pushsection .bss.", stringify!($own), ", \"aw\", %nobits"),
            concat!(".globl ", stringify!($own)),
            concat!(".hidden ", stringify!($own)),
            concat!(".globl mrlock_entry_", stringify!($name)),
            concat!(".type ", stringify!($own), ", %object"),
            concat!(".type mrlock_entry_", stringify!($name), ", %object"),
            ".balign {align}",
            concat!(stringify!($own), ":"),
            concat!("mrlock_entry_", stringify!($name), ":"),
            ".zero {size}",
            concat!(".size ", stringify!($own), ", {size}"),
            concat!(".size mrlock_entry_", stringify!($name), ", {size}"),
            concat!(".symver mrlock_entry_", stringify!($name), ", ", stringify!($name), "@@", $version),
            ".popsection",
            size = const size_of::<$type>(),
            align = const align_of::<$type>(),
        );

        unsafe extern "C" {
            /// As said above.
            safe static $own: $type;
        }
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

/// Defines `$pointer()`, which returns the address of the calling thread's own `$type`, zeroed by the loader when the thread
/// starts. Not `thread_local!`: that one is part of std.
///
/// The initial-exec model: four instructions and no call into the loader, and therefore usable in signal handlers and before
/// any constructor.
macro_rules! thread_variable {
    ($pointer:ident, $type:ty) => {
        core::arch::global_asm!(
            ".pushsection .tbss, \"awT\", %nobits",
            ".globl mrlock_thread",
            ".hidden mrlock_thread",
            ".type mrlock_thread, %object",
            ".balign {align}",
            "mrlock_thread:",
            ".zero {size}",
            ".size mrlock_thread, {size}",
            ".popsection",
            size = const size_of::<$type>(),
            align = const align_of::<$type>(),
        );

        #[inline(always)]
        fn $pointer() -> *const $type {
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
        }
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
