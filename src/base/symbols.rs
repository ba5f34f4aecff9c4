//! Exported symbols, weak references and the variables of a thread, in assembly. The instructions in them are in `x86_64.rs` and `aarch64.rs`.

/// Exports `$function@@$version`. In assembly, because a Rust function cannot carry an ELF version.
macro_rules! export {
    ($function:ident @@ $version:literal) => {
        core::arch::global_asm!(
            concat!(".pushsection .text.mrlock_entry_", stringify!($function), ", \"ax\", %progbits"),
            ".balign 4",
            concat!(".globl mrlock_entry_", stringify!($function)),
            concat!(".type mrlock_entry_", stringify!($function), ", %function"),
            concat!("mrlock_entry_", stringify!($function), ":"),
            ".cfi_startproc",
            jump_to_function!(),
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
///
/// It is behind the small statics, and the other large ones are behind it (`.sbss.large`): so what is written at the start of a process
/// is in one page, which begins with `.data`. A linker puts such sections in the order in which it finds them, so `.bss` comes before
/// `.sbss.large` here. ("R": it is kept, although nothing refers to it.)
macro_rules! export_zeroed {
    ($own:ident: $type:ty, $name:ident @@ $version:literal) => {
        core::arch::global_asm!(
            ".pushsection .data.start, \"awR\", %progbits",
            ".balign 4096",
            ".popsection",
            ".pushsection .bss.start, \"awR\", %nobits",
            ".zero 8",
            ".popsection",
            ".pushsection .sbss.large, \"aw\", %nobits",
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

/// Defines `$pointer()`, which returns the address of the calling thread's own `$type`, zeroed by the loader when the thread
/// starts. Not `thread_local!`: that one is part of std.
///
/// The initial-exec model: no call into the loader, and therefore usable in signal handlers and before any constructor.
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
            thread_address!()
        }
    };
}

/// The address of a function, or null if the process has none of this name: a weak reference, which needs no library. It reads the
/// entry of the global offset table that the loader has filled in.
macro_rules! weak_address {
    ($name:literal) => {{
        let address: *const core::ffi::c_void;
        core::arch::asm!(
            concat!(".weak ", $name),
            load_from_got!($name),
            address = out(reg) address,
            options(pure, readonly, nostack, preserves_flags),
        );
        address
    }};
}

/// The name of a function that we export, and the definition to which the loader has bound our own reference: the first one in the
/// scope in which this library was loaded.
macro_rules! bound {
    // Weak, because libmrlock-ioctl.so does not define it. (The others must not be: that would make our exported `ioctl` weak.)
    ("ibv_reg_mr") => {{
        // SAFETY: the assembly only reads.
        (c"ibv_reg_mr", unsafe { weak_address!("ibv_reg_mr") })
    }};
    ($name:literal) => {{
        let first: *const core::ffi::c_void;
        // SAFETY: the assembly only reads.
        unsafe { core::arch::asm!(load_from_got!($name), address = out(reg) first, options(pure, readonly, nostack, preserves_flags)) };
        (const { $crate::base::text::as_c_str(concat!($name, "\0")) }, first)
    }};
}
