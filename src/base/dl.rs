//! The loader's functions, of `<dlfcn.h>`.
//!
//! Before glibc 2.34 they are in libdl.so.2. This library has weak references to them, and does not name libdl.so.2 as one that it
//! needs: with a newer glibc that file is empty, and every process would map it for nothing, which costs as much as all the rest of
//! this library. A process with an older glibc that has no libdl.so.2 has no libibverbs either, which needs it, and can load none.

use core::{
    ffi::{c_char, c_int, c_void},
    mem,
};
use libc::Dl_info;

/// dlsym(3).
pub type Dlsym = unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut c_void;

macro_rules! functions {
    ($($name:ident: $type:ty = $symbol:literal;)*) => {$(
        #[doc = concat!($symbol, "(3), if the process has it.")]
        #[inline(never)]
        pub fn $name() -> Option<$type> {
            // SAFETY: the assembly only reads; what it reads is null, or the function of this name, which has this type.
            unsafe { mem::transmute::<*const c_void, Option<$type>>(weak_address!($symbol)) }
        }
    )*};
}

functions! {
    dlsym: Dlsym = "dlsym";
    dlopen: unsafe extern "C" fn(*const c_char, c_int) -> *mut c_void = "dlopen";
    dlclose: unsafe extern "C" fn(*mut c_void) -> c_int = "dlclose";
    dladdr: unsafe extern "C" fn(*const c_void, *mut Dl_info) -> c_int = "dladdr";
    dlerror: unsafe extern "C" fn() -> *mut c_char = "dlerror";
}
