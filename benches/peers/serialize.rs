//! The five calls, each inside `lock` and `unlock` of the file that includes this one.

use std::{
    cell::Cell,
    ffi::c_void,
    mem,
    sync::atomic::{AtomicPtr, Ordering},
};

thread_local! {
    /// How often this thread is inside: neither lock may be taken twice.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// All five take at most six arguments, and each argument and result is a number or a pointer in a register.
type Function = unsafe extern "C" fn(usize, usize, usize, usize, usize, usize) -> usize;

macro_rules! serialize {
    ($($name:ident)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(a: usize, b: usize, c: usize, d: usize, e: usize, f: usize) -> usize {
            static NEXT: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
            let mut next = NEXT.load(Ordering::Relaxed);
            if next.is_null() {
                // SAFETY: the name is NUL-terminated.
                next = unsafe { libc::dlsym(libc::RTLD_NEXT, concat!(stringify!($name), "\0").as_ptr().cast()) };
                NEXT.store(next, Ordering::Relaxed);
            }
            // SAFETY: a function that takes its arguments in these registers.
            let next = unsafe { mem::transmute::<*mut c_void, Function>(next) };
            DEPTH.with(|depth| {
                if depth.get() == 0 {
                    super::lock();
                }
                depth.set(depth.get() + 1);
                // SAFETY: the caller's own arguments.
                let result = unsafe { next(a, b, c, d, e, f) };
                depth.set(depth.get() - 1);
                if depth.get() == 0 {
                    super::unlock();
                }
                result
            })
        }
    )*};
}

serialize!(ibv_reg_mr ibv_reg_mr_iova ibv_reg_mr_iova2 ibv_rereg_mr ibv_dereg_mr);
