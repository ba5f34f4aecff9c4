//! The loader's functions, of `<dlfcn.h>`.
//!
//! Before glibc 2.34 they are in libdl.so.2. This library has weak references to them, and does not name libdl.so.2 as one that it
//! needs: with a newer glibc that file is empty, and every process would map it for nothing. In a process with an older glibc that
//! has not loaded libdl.so.2, the functions that libc has for its own use load it.

use core::{
    ffi::{c_char, c_int, c_void},
    mem, ptr,
};
use libc::{Dl_info, RTLD_NOW};

/// dlsym(3).
pub type Dlsym = unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut c_void;
type Dlopen = unsafe extern "C" fn(*const c_char, c_int) -> *mut c_void;

macro_rules! functions {
    ($($name:ident: $type:ty = $symbol:literal;)*) => {$(
        #[doc = concat!($symbol, "(3), if the process has it.")]
        #[inline(never)]
        pub fn $name() -> Option<$type> {
            // SAFETY: the assembly only reads.
            let own = unsafe { weak_address!($symbol) };
            let found = if own.is_null() {
                in_libdl(concat!($symbol, "\0"))
            } else {
                own
            };
            // SAFETY: null, or the function of this name, which has this type.
            unsafe { mem::transmute::<*const c_void, Option<$type>>(found) }
        }
    )*};
}

functions! {
    dlsym: Dlsym = "dlsym";
    dlvsym: unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char) -> *mut c_void = "dlvsym";
    dlopen: Dlopen = "dlopen";
    dlclose: unsafe extern "C" fn(*mut c_void) -> c_int = "dlclose";
    dladdr: unsafe extern "C" fn(*const c_void, *mut Dl_info) -> c_int = "dladdr";
    dlerror: unsafe extern "C" fn() -> *mut c_char = "dlerror";
}

/// The address of this function in libdl.so.2, which stays loaded. `name` ends with NUL.
#[cold]
#[inline(never)]
fn in_libdl(name: &'static str) -> *const c_void {
    /// Says that a program asks for it, as dlopen(3) does.
    const FROM_PROGRAM: c_int = c_int::MIN;
    // SAFETY: the assembly only reads. Each address is null or that of a function of glibc before 2.34, which has this type.
    let (open, find) = unsafe {
        (
            mem::transmute::<*const c_void, Option<Dlopen>>(weak_address!("__libc_dlopen_mode")),
            mem::transmute::<*const c_void, Option<Dlsym>>(weak_address!("__libc_dlsym")),
        )
    };
    let (Some(open), Some(find)) = (open, find) else {
        return ptr::null();
    };
    // SAFETY: both names end with NUL, and the handle is used only if it is one.
    unsafe {
        let library = open(c"libdl.so.2".as_ptr(), RTLD_NOW | FROM_PROGRAM);
        if library.is_null() {
            return ptr::null();
        }
        find(library, name.as_ptr().cast())
    }
}
