//! Where the process runs.

use crate::base::sys::{self, Errno};
use core::mem::MaybeUninit;

/// The inode of the process's pid namespace, which distinguishes processes with the same id; 0 if it is not known.
#[inline(never)]
pub fn pid_namespace() -> u64 {
    sys::inode(c"/proc/self/ns/pid").unwrap_or(0)
}

/// The name of the host, as uname(2) gives it: in a container, the container's.
#[inline(never)]
pub fn with_name(body: impl FnOnce(&[u8])) {
    let mut names = MaybeUninit::<libc::utsname>::zeroed();
    // SAFETY: `names` is valid for writing.
    let result = unsafe { syscall!(SYS_uname, names.as_mut_ptr()) };
    if Errno::of(result).is_some() {
        return;
    }
    // SAFETY: it was zeroed, and has only integers.
    let names = unsafe { names.assume_init() };
    let name = names.nodename.map(|byte| byte as u8);
    body(name.split(|&byte| byte == 0).next().unwrap_or_default());
}
