//! What is particular to x86_64 (System V ABI): how an entry point learns who called it, and where a thread's own
//! variables are. A port to another architecture replaces this file.

use crate::thread::Thread;
use core::arch::{asm, global_asm};

/// Exports `$name@@$version`, which forwards to `$implementation`: a Rust `extern "C"` function that takes the same
/// arguments and, after them, the caller's return address.
///
/// The symbol is made in assembly because a Rust function cannot carry an ELF version. `caller in` names the register
/// that the ABI gives to the argument after the last one, or `stack` where the six argument registers are used up.
macro_rules! export {
    ($name:ident @@ $version:literal => $implementation:ident, caller in stack) => {
        // The return address is on top of the stack. Pushed again, it is the seventh argument and aligns the stack.
        export!(@ $name, $version, $implementation,
            "push qword ptr [rsp]
             .cfi_adjust_cfa_offset 8
             call {implementation}
             add rsp, 8
             .cfi_adjust_cfa_offset -8
             ret");
    };
    ($name:ident @@ $version:literal => $implementation:ident, caller in $register:ident) => {
        export!(@ $name, $version, $implementation,
            concat!("mov ", stringify!($register), ", qword ptr [rsp]
             jmp {implementation}"));
    };
    (@ $name:ident, $version:literal, $implementation:ident, $body:expr) => {
        core::arch::global_asm!(
            concat!(".pushsection .text.mrlock_entry_", stringify!($name), ", \"ax\", @progbits"),
            concat!(".globl mrlock_entry_", stringify!($name)),
            concat!(".type mrlock_entry_", stringify!($name), ", @function"),
            concat!("mrlock_entry_", stringify!($name), ":"),
            ".cfi_startproc",
            $body,
            ".cfi_endproc",
            concat!(".size mrlock_entry_", stringify!($name), ", . - mrlock_entry_", stringify!($name)),
            concat!(".symver mrlock_entry_", stringify!($name), ", ", stringify!($name), "@@", $version),
            ".popsection",
            implementation = sym $implementation,
        );
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
