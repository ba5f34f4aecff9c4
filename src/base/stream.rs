//! The files that were standard error and standard output when the process was started.
//!
//! A host may close one of them. The next file that it opens then gets the descriptor, and nothing may be written to that file.
//! And no thread may wait for the reader of a full pipe.

use crate::base::sys::{self, Errno};
use core::{
    ffi::c_int,
    sync::atomic::{AtomicU64, Ordering},
};

/// One of the two.
pub struct Stream {
    descriptor: c_int,
    /// Its file when the process was started, from `sys::file_id`. `NONE`: it was closed.
    file: [AtomicU64; 2],
}

/// Standard output: for a report that is asked for there.
pub static STDOUT: Stream = Stream::new(libc::STDOUT_FILENO);

/// Standard error.
pub static STDERR: Stream = Stream::new(libc::STDERR_FILENO);

/// An id that no file has.
const NONE: [u64; 2] = [0; 2];

/// Records which files these are. Called once, when the settings are read.
pub fn remember() {
    for stream in [&STDOUT, &STDERR] {
        let file = sys::file_id(stream.descriptor).unwrap_or(NONE);
        for (slot, part) in stream.file.iter().zip(file) {
            // Relaxed: the settings are published afterwards, and nothing is written to a stream before.
            slot.store(part, Ordering::Relaxed);
        }
    }
}

impl Stream {
    const fn new(descriptor: c_int) -> Self {
        Self {
            descriptor,
            file: [const { AtomicU64::new(0) }; 2],
        }
    }

    /// Writes `bytes` in one piece. The error is EBADF if the stream was closed or is another file now, EAGAIN if it cannot take
    /// the bytes at once, or that of `sys::write`.
    ///
    /// At most PIPE_BUF (4096) bytes: a pipe that can be written to takes as many without waiting. (Unless another writer fills
    /// it between the two system calls. O_NONBLOCK would exclude that, but it would also be set for the host.)
    pub fn write(&self, bytes: &[u8]) -> Result<(), Errno> {
        // Relaxed: as in `remember`.
        let file = self
            .file
            .each_ref()
            .map(|part| part.load(Ordering::Relaxed));
        if file == NONE || sys::file_id(self.descriptor) != Ok(file) {
            return Err(Errno::EBADF);
        }
        if !sys::can_write_now(self.descriptor, bytes.len()) {
            return Err(Errno::EAGAIN);
        }
        // A terminal takes a byte at a time: a write of more waits, although poll() says that the terminal takes some.
        if sys::type_of(self.descriptor) == libc::S_IFCHR
            && let Ok(terminal) = sys::open_without_waiting(self.descriptor)
        {
            let result = sys::write(terminal, bytes);
            sys::close(terminal);
            return result;
        }
        sys::write(self.descriptor, bytes)
    }
}
