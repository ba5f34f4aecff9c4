//! The code that depends on the processor, for x86_64 (System V ABI): exported symbols, a thread's own variables and the system
//! call instruction. `aarch64.rs` defines the same for aarch64; another port adds such a file.

use core::{arch::asm, ffi::CStr};

/// The name of clock_gettime() in the library that the kernel maps into each process (vdso(7)).
pub const VDSO_CLOCK_GETTIME: &CStr = c"__vdso_clock_gettime";

/// The version of the functions that glibc has had from its beginning on this processor.
pub const FIRST_GLIBC: &CStr = c"GLIBC_2.2.5";

/// An instruction that no processor executes.
#[cfg(not(test))]
macro_rules! trap {
    () => {
        "ud2"
    };
}

/// Exports `$function@@$version`. In assembly, because a Rust function cannot carry an ELF version.
macro_rules! export {
    ($function:ident @@ $version:literal) => {
        core::arch::global_asm!(
            concat!(".pushsection .text.mrlock_entry_", stringify!($function), ", \"ax\", @progbits"),
            concat!(".globl mrlock_entry_", stringify!($function)),
            concat!(".type mrlock_entry_", stringify!($function), ", @function"),
            concat!("mrlock_entry_", stringify!($function), ":"),
            ".cfi_startproc",
            "jmp {function}",
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
            concat!(".pushsection .bss.", stringify!($own), ", \"aw\", @nobits"),
            concat!(".globl ", stringify!($own)),
            concat!(".hidden ", stringify!($own)),
            concat!(".globl mrlock_entry_", stringify!($name)),
            concat!(".type ", stringify!($own), ", @object"),
            concat!(".type mrlock_entry_", stringify!($name), ", @object"),
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
/// in `$next`. The code changes no register and uses no stack: the variadic arguments arrive unchanged.
macro_rules! export_ioctl {
    ($first:ident => $first_hook:ident, $second:ident => $second_hook:ident, else $next:ident) => {
        /// `ioctl(2)`.
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        extern "C" fn ioctl() {
            core::arch::naked_asm!(
                ".cfi_startproc",
                "cmp esi, {first}",
                "je {first_hook}",
                "cmp esi, {second}",
                "je {second_hook}",
                "jmp qword ptr [rip + {next}]",
                ".cfi_endproc",
                first = const $first as i32,
                first_hook = sym $first_hook,
                second = const $second as i32,
                second_hook = sym $second_hook,
                next = sym $next,
            )
        }
    };
}

/// Defines `$pointer()`, which returns the address of the calling thread's own `$type`, zeroed by the loader when the thread
/// starts. Not `thread_local!`: that one is part of std.
///
/// The initial-exec model: two instructions and no call into the loader, and therefore usable in signal handlers and before
/// any constructor.
macro_rules! thread_variable {
    ($pointer:ident, $type:ty) => {
        core::arch::global_asm!(
            ".pushsection .tbss, \"awT\", @nobits",
            ".globl mrlock_thread",
            ".hidden mrlock_thread",
            ".type mrlock_thread, @object",
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
            // SAFETY: %fs:0 holds the thread pointer itself (x86-64 TLS ABI), and the GOT entry the offset of `mrlock_thread`
            // from it. Both are constant for the life of the thread; nothing is written.
            unsafe {
                core::arch::asm!(
                    "mov {address}, qword ptr fs:[0]",
                    "add {address}, qword ptr [rip + mrlock_thread@GOTTPOFF]",
                    address = out(reg) address,
                    options(pure, readonly, nostack),
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
    // SAFETY: the x86-64 Linux ABI: arguments in these registers, the result in rax, rcx and r11 overwritten. The caller
    // guarantees what the call does.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as usize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

// Says that the library works with a shadow stack, as no code here changes a return address. Without it, the loader switches the
// process's shadow stack off. A note of our own, because a linker leaves the mark out if an object of the standard library does
// not have it. The numbers: sizes of name and note, NT_GNU_PROPERTY_TYPE_0; GNU_PROPERTY_X86_FEATURE_1_AND, its size, SHSTK.
core::arch::global_asm!(
    ".pushsection .note.mrlock.property, \"a\", @note",
    ".balign 8",
    ".long 4, 16, 5",
    ".asciz \"GNU\"",
    ".long 0xc0000002, 4, 2, 0",
    ".popsection",
);
