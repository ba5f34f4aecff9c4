//! The files that settings name: the report's and the record's.

use crate::base::{
    settings::{FileName, Path},
    sys::{self, Errno},
};
use core::fmt::{self, Write};
use libc::c_int;
use spin::Mutex;

/// Why a file cannot be opened.
pub enum Failure {
    /// The name, with what stands for its placeholders, is longer than a file name may be.
    TooLong,
    /// It is a symbolic link of this other user.
    Link(libc::uid_t),
    /// It is a directory, a device, a pipe or a socket.
    Special,
    /// Its file system, such as 9p, cannot map a file for reading and writing.
    NoMapping(Errno),
    /// The kernel's error.
    Kernel(Errno),
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::TooLong => formatter.write_str("longer than a file name may be"),
            Self::Link(owner) => write!(formatter, "a symbolic link of another user ({owner})"),
            Self::Special => formatter.write_str("not a regular file"),
            Self::NoMapping(error) => {
                write!(
                    formatter,
                    "its file system cannot map it, {error}: name a file on a local one"
                )
            }
            Self::Kernel(error) => write!(formatter, "{error}"),
        }
    }
}

/// A buffer for a name while a record begins. It is not on the stack, which may be small.
#[unsafe(link_section = ".sbss.large")]
static PATH: Mutex<Path> = Mutex::new(Path::new());

/// Runs `body` with the buffer. Only for the beginning of a record, of which there is one at a time in a process.
pub fn with_path<R>(body: impl FnOnce(&mut Path) -> R) -> R {
    if PATH.is_locked() {
        // SAFETY: no thread of this process is here. The holder is a thread of the parent, which was here during the fork.
        unsafe { PATH.force_unlock() };
    }
    body(&mut PATH.lock())
}

/// Opens the file to append to it. Several processes may share it.
pub fn open_to_append(name: &FileName, path: &mut Path) -> Result<c_int, Failure> {
    complete(name, path)?;
    let path = path.as_bytes();
    // In a directory that all users may write to, such as /tmp, another user's link could lead to any file of this user. A link
    // of this user, or of root, cannot be replaced by another user there.
    let follow = match sys::owner_of_link(path) {
        None => libc::O_NOFOLLOW,
        Some(owner) if owner == 0 || owner == sys::effective_user() => 0,
        Some(owner) => return Err(Failure::Link(owner)),
    };
    // Do not wait for a FIFO's reader, and do not make a terminal the controlling terminal.
    let appends = libc::O_WRONLY | libc::O_APPEND | libc::O_NOCTTY | libc::O_NONBLOCK;
    open(path, appends | follow, 0o644).map_err(Failure::Kernel)
}

/// Makes a new file of this name; if there is one, of this name followed by -2, -3, and so on. `path` becomes the name of the file.
pub fn create(name: &FileName, path: &mut Path) -> Result<c_int, Failure> {
    let mut number = 1;
    loop {
        complete(name, path)?;
        if number > 1 {
            path.pop();
            let _ = write!(path, "-{number}\0");
            if !path.is_complete() {
                return Err(Failure::TooLong);
            }
        }
        // Read-only for others, this user's shells included: if a process cut the file, the next write to the mapping would end
        // this one.
        match open(path.as_bytes(), libc::O_RDWR | libc::O_EXCL, 0o444) {
            Ok(file) => return Ok(file),
            // Not a file beside it, such as /-2 for /, or /dev/null-2.
            Err(Errno::EEXIST) if number == 1 && sys::is_special(path.as_bytes()) => {
                return Err(Failure::Special);
            }
            Err(Errno::EEXIST) if number < MOST_OF_ONE_NAME => number += 1,
            Err(error) => return Err(Failure::Kernel(error)),
        }
    }
}

/// How many files of one name there may be.
const MOST_OF_ONE_NAME: u32 = 4096;

fn complete(name: &FileName, path: &mut Path) -> Result<(), Failure> {
    if name.write_for_process(sys::process_id(), path) {
        Ok(())
    } else {
        Err(Failure::TooLong)
    }
}

fn open(path: &[u8], flags: c_int, mode: libc::mode_t) -> Result<c_int, Errno> {
    let flags = flags | libc::O_CREAT | libc::O_CLOEXEC;
    // SAFETY: the path is NUL-terminated.
    let file = unsafe { syscall!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, mode) };
    match Errno::of(file) {
        None => Ok(file as c_int),
        Some(error) => Err(error),
    }
}
