//! loom gives each thread of each interleaving a stack that is mapped for it, and unmapped afterwards: two thirds of the models' time
//! were in the kernel. Here, a stack is kept for the next thread. (These functions are in front of libc's, in this program.)

use std::{cell::RefCell, ffi::c_void};

const SYS_MMAP: i64 = 9;
const SYS_MUNMAP: i64 = 11;
const MAP_STACK: i32 = 0x20000;

unsafe extern "C" {
    fn syscall(number: i64, ...) -> i64;
}

#[derive(Default)]
struct Stacks {
    in_use: Vec<(usize, usize)>,
    kept: Vec<(usize, usize)>,
}

thread_local! {
    static STACKS: RefCell<Stacks> = RefCell::default();
}

/// # Safety
/// As mmap's.
#[unsafe(no_mangle)]
unsafe extern "C" fn mmap(
    address: *mut c_void,
    length: usize,
    protection: i32,
    flags: i32,
    file: i32,
    offset: i64,
) -> *mut c_void {
    let map = || {
        // SAFETY: the caller's arguments.
        unsafe { syscall(SYS_MMAP, address, length, protection, flags, file, offset) as usize }
    };
    if flags & MAP_STACK == 0 {
        return map() as *mut c_void;
    }
    let stack = STACKS.try_with(|stacks| {
        let mut stacks = stacks.borrow_mut();
        let old = stacks.kept.iter().position(|kept| kept.1 == length);
        let start = old.map_or_else(map, |old| stacks.kept.swap_remove(old).0);
        stacks.in_use.push((start, length));
        start
    });
    stack.unwrap_or_else(|_| map()) as *mut c_void
}

/// # Safety
/// As munmap's.
#[unsafe(no_mangle)]
unsafe extern "C" fn munmap(address: *mut c_void, length: usize) -> i32 {
    let stack = (address as usize, length);
    let is_kept = STACKS.try_with(|stacks| {
        let mut stacks = stacks.borrow_mut();
        let found = stacks.in_use.iter().position(|it| *it == stack);
        found.map(|found| {
            stacks.in_use.swap_remove(found);
            stacks.kept.push(stack);
        })
    });
    match is_kept {
        Ok(Some(())) => 0,
        // SAFETY: the caller's arguments.
        _ => unsafe { syscall(SYS_MUNMAP, address, length) as i32 },
    }
}
