//! The files that a setting names: the report's and the trace's.

use crate::base::{
    settings::{FileName, Path},
    sys::{self, Errno},
};
use core::fmt;
use libc::c_int;

/// Why nothing was written.
pub enum Failure {
    /// The name, with the process id in it, is longer than a file name may be.
    TooLong,
    /// It is a symbolic link of this other user.
    Link(libc::uid_t),
    /// The kernel's error.
    Kernel(Errno),
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::TooLong => formatter.write_str("longer than a file name may be"),
            Self::Link(owner) => write!(formatter, "a symbolic link of another user ({owner})"),
            Self::Kernel(error) => write!(formatter, "{error}"),
        }
    }
}

/// Appends `text` to the file, which several processes may share. An empty file gets `start` first.
/// `path` is a buffer for the complete name.
///
/// The file is opened for each text: a host may close all descriptors, and then ours could be the number of another file.
pub fn append(name: &FileName, start: &[u8], text: &[u8], path: &mut Path) -> Result<(), Failure> {
    if !name.write_for_process(sys::process_id(), path) {
        return Err(Failure::TooLong);
    }
    let path = path.as_bytes();
    // In a directory that all users may write to, such as /tmp, another user's link could lead to any file of this user. A link
    // of this user, or of root, cannot be replaced by another user there.
    let follow = match sys::owner_of_link(path) {
        None => libc::O_NOFOLLOW,
        Some(owner) if owner == 0 || owner == sys::effective_user() => 0,
        Some(owner) => return Err(Failure::Link(owner)),
    };
    // The flags: do not wait for a FIFO's reader, and do not make a terminal the controlling terminal.
    let flags = libc::O_WRONLY
        | libc::O_CREAT
        | libc::O_APPEND
        | libc::O_CLOEXEC
        | libc::O_NOCTTY
        | libc::O_NONBLOCK
        | follow;
    // SAFETY: the path is NUL-terminated.
    let file = unsafe { syscall!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0o644) };
    if let Some(error) = Errno::of(file) {
        return Err(Failure::Kernel(error));
    }
    let file = file as c_int;
    let mut written = Ok(());
    if !start.is_empty() && sys::is_empty_file(file) {
        // If several processes find the file empty, one of them writes `start`, and the others wait for it. They do not wait for
        // ever: any process that can read the file can lock it, and a signal handler may have interrupted the thread that writes.
        let deadline = sys::now() + LONGEST_BEGINNING;
        while sys::is_empty_file(file) && !lock(file) && sys::now() < deadline {
            sys::yield_now();
        }
        if sys::is_empty_file(file) {
            written = sys::write(file, start);
        }
    }
    let written = written.and_then(|()| sys::write(file, text));
    // SAFETY: as above.
    unsafe { syscall!(SYS_close, file) };
    written.map_err(Failure::Kernel)
}

/// For how long a process waits for another one to write `start`, in nanoseconds.
const LONGEST_BEGINNING: u64 = 100_000_000;

/// Locks the file, which is unlocked when it is closed; `false` if that cannot be done at once.
fn lock(file: c_int) -> bool {
    // SAFETY: the descriptor is the caller's, and open.
    let result = unsafe { syscall!(SYS_flock, file, libc::LOCK_EX | libc::LOCK_NB) };
    Errno::of(result).is_none()
}
