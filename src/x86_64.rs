//! What is particular to x86_64 (System V ABI): the exported symbols, and where a thread's own variables are. A port to
//! another architecture replaces this file.

use crate::thread::Thread;
use core::arch::{asm, global_asm};

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

/// Exports `ioctl`, which jumps to `$command_hook` for requests whose low 32 bits are `$command`, and to where `$next` points
/// for all others. It changes no register and uses no stack: the variadic arguments arrive as they were.
macro_rules! export_ioctl {
    ($command:ident => $command_hook:ident, else $next:ident) => {
        /// `ioctl(2)`.
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        extern "C" fn ioctl() {
            core::arch::naked_asm!(
                ".cfi_startproc",
                "cmp esi, {command}",
                "je {hook}",
                "jmp qword ptr [rip + {next}]",
                ".cfi_endproc",
                command = const $command,
                hook = sym $command_hook,
                next = sym $next,
            )
        }
    };
}

// Zeroed for every new thread by the loader. Not `thread_local!`: that one is part of std.
global_asm!(
    ".pushsection .tbss, \"awT\", @nobits",
    ".globl mrlock_thread",
    ".hidden mrlock_thread",
    ".type mrlock_thread, @object",
    ".balign {align}",
    "mrlock_thread:",
    ".zero {size}",
    ".size mrlock_thread, {size}",
    ".popsection",
    size = const size_of::<Thread>(),
    align = const align_of::<Thread>(),
);

/// The calling thread's variables. The initial-exec model: two instructions, no call into the loader, and therefore
/// usable in signal handlers and before any constructor.
#[inline(always)]
pub fn this_thread() -> *const Thread {
    let address;
    // SAFETY: %fs:0 holds the thread pointer itself (x86-64 TLS ABI), and the GOT entry the offset of `mrlock_thread`
    // from it. Both are constant for the life of the thread; nothing is written.
    unsafe {
        asm!(
            "mov {address}, qword ptr fs:[0]",
            "add {address}, qword ptr [rip + mrlock_thread@GOTTPOFF]",
            address = out(reg) address,
            options(pure, readonly, nostack),
        );
    }
    address
}
