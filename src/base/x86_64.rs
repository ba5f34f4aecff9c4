//! The instructions and numbers that depend on the processor, for x86_64 (System V ABI). `aarch64.rs` defines the same for aarch64;
//! another port adds such a file.

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

/// Where an exported function begins.
macro_rules! jump_to_function {
    () => {
        "jmp {function}"
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

/// The address of the calling thread's `mrlock_thread` (`symbols.rs`).
macro_rules! thread_address {
    () => {{
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
    }};
}

/// Loads `{address}` with the address of this symbol, from the global offset table.
macro_rules! load_from_got {
    ($name:literal) => {
        concat!("mov {address}, qword ptr [rip + ", $name, "@GOTPCREL]")
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
