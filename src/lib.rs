//! `libmrlock.so` is loaded into an unmodified process, by `LD_PRELOAD` or linked ahead of libibverbs. From then on no two
//! threads of that process are ever inside an RDMA memory registration at the same time. Nothing else changes, with one
//! exception: a process without libibverbs that looks up these functions finds ours. (Built without the feature `verbs`, this is
//! `libmrlock-ioctl.so`, which does not define them.)
//!
//! Why: with older NVIDIA drivers, nvidia-peermem's page callbacks can race inside the kernel when several threads register
//! GPU memory on several `ibv_context`s at once. The data path (sends, reads, writes) never enters this library.
//!
//! A call goes one way: [`hook`] -> [`call::policy`] -> [`lock`] -> the function that [`resolve`] has found -> and back. The
//! functions of `<mrlock.h>` are in [`api`]. ARCHITECTURE.md describes the files and their layers.
//!
//! The rules that hold in every file:
//!
//! 1. **Transparent.** Return value, errno, out-parameters, symbol binding and stdout are the same as without the library.
//! 2. **Never make it worse.** The library never panics, aborts or exits in the host. A bad setting falls back to serializing.
//! 3. **Quiet.** Nothing is written to stderr unless something is wrong or the user asked for it. Nothing is written to a file
//!    that the host opened as descriptor 2. No write waits for a reader. Stdout is used only if `MRLOCK_REPORT` names it.
//! 4. **Lock order.** Symbols are resolved before the lock is taken, never while it is held: the look-up takes the loader's
//!    lock, and another thread may hold the loader's lock in a constructor that waits for ours.
//! 5. **Nothing borrowed.** No allocation, no pthread lock, no destructor per thread: the library works before its constructor
//!    has run and while the process exits. (One exception: the first look-up of a function that is not in the global scope calls
//!    the loader, which may allocate.)
//! 6. **No cancellation point.** Our own writes and waits are raw system calls, so `pthread_cancel` takes effect exactly
//!    where it would have without us.

#![cfg_attr(not(test), no_std)]
#![deny(
    unsafe_op_in_unsafe_fn,
    missing_docs,
    clippy::undocumented_unsafe_blocks
)]

#[cfg(not(all(
    any(target_arch = "x86_64", target_arch = "aarch64"),
    target_pointer_width = "64",
    target_os = "linux",
    target_env = "gnu"
)))]
compile_error!(
    "mrlock supports x86_64 and aarch64 Linux with glibc; what is particular to a processor lives in src/base/x86_64.rs and src/base/aarch64.rs"
);

#[macro_use]
mod base;

mod api;
mod call;
mod hook;
mod lock;
mod record;
mod resolve;

use base::{settings, stream};
use call::{operation::Layer, policy};
use core::ffi::c_void;

ctor::declarative::ctor! {
    /// Reads the settings while the process is still single-threaded, so that a bad one is reported at start and not in
    /// the middle of a run. A call before this (from a dependency's constructor) reads them itself.
    #[ctor(unsafe)]
    fn load() {
        if !resolve::is_bound_to_us(bound!("mrlock_version")) {
            settings::leave_to_first_copy();
        }
        let settings = settings::read_once();
        log::info!("loaded: {settings}");
        hook::verbs::find_next();
        hook::ioctl::find_next();
        record::publish(hook::operations(), hooks_reached());
        resolve::run_around_fork(before_fork, after_fork_in_parent, after_fork);
    }
}

/// The hooks that a call by name reaches.
fn hooks_reached() -> u64 {
    let is_reached = |layer, bound| policy::catches(layer) && resolve::is_bound_to_us(bound);
    let mut hooks = 0;
    if is_reached(Layer::Verbs, bound!("ibv_reg_mr")) {
        hooks |= record::VERBS;
    }
    if is_reached(Layer::Ioctl, bound!("ioctl")) {
        hooks |= record::IOCTL;
    }
    hooks
}

/// Runs in the thread that is about to fork.
extern "C" fn before_fork() {
    stream::notice_restore();
    hook::before_fork();
}

/// Runs in the thread that has forked, in the parent.
extern "C" fn after_fork_in_parent() {
    hook::after_fork_in_parent();
}

/// Runs in the thread that has forked, in the child. Another library's handler may have run before, and may have started threads.
extern "C" fn after_fork() {
    stream::forget_process();
    hook::after_fork();
}

/// A pointer in `.fini_array` needs no registration at run time, which could allocate.
#[used]
#[unsafe(link_section = ".fini_array")]
static AT_EXIT: extern "C" fn() = at_exit;

/// Runs at normal exit, among the destructors of all libraries. Nothing is torn down: a later call works as before.
extern "C" fn at_exit() {
    record::end();
    record::exit_report::write(hook::operations());
    resolve::run_after_destructors(after_destructors);
}

/// Runs when all destructors have run: if later ones have made calls, another report has them, too. (One report, here, would be
/// lost if such a destructor ended the process.)
extern "C" fn after_destructors(_: *mut c_void) {
    record::exit_report::write_again(hook::operations());
}

/// No code of ours panics: `tests/product/artefact.rs` checks that the built library contains no such panic. If one is reached
/// nevertheless, this thread sleeps for ever, and the process goes on. (If the thread holds the lock, a waiter logs a warning.)
#[cfg(not(test))]
#[panic_handler]
fn panic(panic: &core::panic::PanicInfo) -> ! {
    log::error!("internal error, this thread stops here; please report it: {panic}");
    loop {
        // SAFETY: without files and without a time, it only suspends the calling thread until a signal arrives.
        unsafe { syscall!(SYS_ppoll) };
    }
}

// `core` is compiled with unwinding and refers to this symbol. This library never unwinds, so nothing calls it. It is hidden
// because other Rust libraries of the process may define their own.
#[cfg(not(test))]
core::arch::global_asm!(
    ".globl rust_eh_personality",
    ".hidden rust_eh_personality",
    concat!("rust_eh_personality: ", trap!())
);

// The pages that the loader writes to begin behind the code. This ends the code with a page of its own, so that they begin at the start
// of a page, and are one less.
#[cfg(not(test))]
core::arch::global_asm!(
    ".pushsection .code_end, \"axR\", %progbits",
    ".balign 4096",
    trap!(),
    ".popsection",
);
