//! The record in a file: what is written there outlives the process, however it ends, and takes no system call.

use super::{
    file::{self, Failure},
    layout::{Event, MOST_EVENTS, Record},
};
use crate::base::{
    settings::{self, FileName, Path},
    sys::{self, Errno},
};
use core::{
    ptr,
    sync::atomic::{AtomicBool, Ordering},
};
use libc::c_int;
use log::error;

/// Makes a new file for this process, maps it, and says how many events have room. If it cannot be made, logs an error once in
/// this process and its children.
#[cold]
#[inline(never)]
pub fn map(name: &FileName) -> Option<&'static Record> {
    static HAS_FAILED: AtomicBool = AtomicBool::new(false);
    match create(name) {
        Ok(record) => Some(record),
        Err(failure) => {
            // Relaxed: the flag only keeps a line from being repeated.
            if !HAS_FAILED.swap(true, Ordering::Relaxed) {
                error!("MRLOCK_TRACE={name}: no record is kept there ({failure})");
            }
            None
        }
    }
}

/// How many events have room in a file.
pub fn capacity() -> u64 {
    settings::get().events.clamp(1, MOST_EVENTS)
}

fn create(name: &FileName) -> Result<&'static Record, Failure> {
    file::with_path(|path| create_at(name, path))
}

fn create_at(name: &FileName, path: &mut Path) -> Result<&'static Record, Failure> {
    let events = capacity();
    let length = size_of::<Record>() + events as usize * size_of::<Event>();
    let file = file::create(name, path)?;
    let mapped = reserve(file, length)
        .map_err(Failure::Kernel)
        .and_then(|()| map_file(file, length));
    sys::close(file);
    match mapped {
        Ok(record) => {
            record.header.capacity.store(events, Ordering::Relaxed);
            Ok(record)
        }
        Err(failure) => {
            // An empty file would be taken for a damaged record.
            // SAFETY: the path is NUL-terminated.
            unsafe { syscall!(SYS_unlinkat, libc::AT_FDCWD, path.as_bytes().as_ptr(), 0) };
            Err(failure)
        }
    }
}

/// Takes the room on the disk. Otherwise a write to the mapping could end the process, when the disk is full.
fn reserve(file: c_int, length: usize) -> Result<(), Errno> {
    match sys::allocate(file, length) {
        // A file system without this call: zeros take room, too.
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => write_zeros(file, length),
        other => other,
    }
}

fn write_zeros(file: c_int, length: usize) -> Result<(), Errno> {
    static ZEROS: [u8; 4096] = [0; 4096];
    let mut rest = length;
    while rest > 0 {
        let piece = &ZEROS[..rest.min(ZEROS.len())];
        sys::write(file, piece)?;
        rest -= piece.len();
    }
    Ok(())
}

fn map_file(file: c_int, length: usize) -> Result<&'static Record, Failure> {
    let (anywhere, from) = (ptr::null_mut::<u8>(), 0);
    // SAFETY: a new mapping, at an address that the kernel chooses.
    let address = unsafe {
        syscall!(
            SYS_mmap,
            anywhere,
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file,
            from,
        )
    };
    match Errno::of(address) {
        None => {}
        Some(error @ (Errno::EINVAL | Errno::ENODEV)) => return Err(Failure::NoMapping(error)),
        Some(error) => return Err(Failure::Kernel(error)),
    }
    let record = ptr::with_exposed_provenance::<Record>(address as usize);
    // SAFETY: aligned to a page, as long as the record, never unmapped, and zero, which is a record without content.
    Ok(unsafe { &*record })
}
