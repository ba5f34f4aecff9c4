//! The files that were standard error and standard output when the process was started.
//!
//! A host may close one of them. The next file that it opens then gets the descriptor, and nothing may be written to that file.
//! And no thread may wait for the reader of a full pipe.
//!
//! When a process is restored from a checkpoint, its pipes are made anew, and have other inode numbers. See `Stream::is_restored`.

use crate::base::{
    proc_stat::ProcStat,
    sys::{self, Errno},
};
use core::{
    ffi::c_int,
    sync::atomic::{AtomicU64, Ordering},
};

/// One of the two.
pub struct Stream {
    descriptor: c_int,
    /// Its file when the process was started, from `sys::file_id`. `NONE`: it was closed, or nothing is to be written to it.
    file: [AtomicU64; 2],
    /// If the file was a pipe: the process whose it is, from `own_life`. 0: it was none, nothing has asked, or /proc does not say.
    life: AtomicU64,
}

/// Standard output: for a report that is asked for there.
pub static STDOUT: Stream = Stream::new(libc::STDOUT_FILENO);

/// Standard error.
pub static STDERR: Stream = Stream::new(libc::STDERR_FILENO);

/// An id that no file has.
const NONE: [u64; 2] = [0; 2];

/// Records whose pipes these are. Called when the record of a process begins, and not by `remember`: it reads a file, and most
/// processes make no call.
pub fn remember_process() {
    for stream in [&STDOUT, &STDERR] {
        stream.remember_process();
    }
}

/// Notices that this process was restored. Called before each fork: a child cannot find out that its parent was.
pub fn notice_restore() {
    for stream in [&STDOUT, &STDERR] {
        stream.notice_restore();
    }
}

/// In a forked child, which may have the id of its parent in another namespace, and was not restored.
pub fn forget_process() {
    for stream in [&STDOUT, &STDERR] {
        // Relaxed: the child has one thread, whose pipes these were before.
        stream.life.store(0, Ordering::Relaxed);
    }
}

/// The id of this process, and in the bits above it when it was started, as /proc says. 0: /proc does not say.
fn own_life() -> u64 {
    ProcStat::of_process().map_or(0, |process| {
        process.started << ID_BITS | sys::process_id() as u64
    })
}

fn is_of_this_process(life: u64) -> bool {
    life & ((1 << ID_BITS) - 1) == sys::process_id() as u64
}

/// Enough for any process id: PID_MAX_LIMIT of the kernel.
const ID_BITS: u32 = 22;

impl Stream {
    const fn new(descriptor: c_int) -> Self {
        Self {
            descriptor,
            file: [const { AtomicU64::new(0) }; 2],
            life: AtomicU64::new(0),
        }
    }

    /// Records which file it is. Called once, when the settings are read; until then, it is closed.
    pub fn remember(&self) {
        self.keep(sys::file_id(self.descriptor).unwrap_or(NONE), 0);
    }

    fn file(&self) -> [u64; 2] {
        // Relaxed: see `keep`.
        self.file
            .each_ref()
            .map(|part| part.load(Ordering::Relaxed))
    }

    fn keep(&self, file: [u64; 2], life: u64) {
        for (slot, part) in self.file.iter().zip(file) {
            // Relaxed: the next store publishes it.
            slot.store(part, Ordering::Relaxed);
        }
        // Release pairs with the Acquire in `is_open`: a thread that reads this life reads this file, or a later one.
        self.life.store(life, Ordering::Release);
    }

    #[cold]
    fn remember_process(&self) {
        // Relaxed: a process only compares its own id.
        let life = self.life.load(Ordering::Relaxed);
        if self.is_open()
            && !is_of_this_process(life)
            && sys::type_of(self.descriptor) == libc::S_IFIFO
        {
            self.keep(self.file(), own_life());
        }
    }

    fn notice_restore(&self) {
        // Relaxed: as above.
        if self.life.load(Ordering::Relaxed) != 0 {
            self.is_open();
        }
    }

    /// Whether the descriptor still is this stream.
    fn is_open(&self) -> bool {
        // Acquire: see `keep`.
        let life = self.life.load(Ordering::Acquire);
        let file = self.file();
        file != NONE
            && sys::file_id(self.descriptor)
                .is_ok_and(|now| now == file || self.is_restored(file, life, now))
    }

    /// Whether the process was restored from a checkpoint since the stream was `file`, and `now` is what the stream has become.
    ///
    /// A restored process has the same id and another start. A pipe has become another pipe; a file of any other kind is taken for
    /// the host's. So is a pipe that the host may have made in place of standard streams that it has closed: pipe() takes the
    /// lowest free descriptors, the first for the end to read from. What cannot be told: a descriptor for the end to write to that
    /// the host has put here, by dup() for example, before the checkpoint, or after it before this was asked.
    #[cold]
    fn is_restored(&self, file: [u64; 2], life: u64, now: [u64; 2]) -> bool {
        if !is_of_this_process(life)
            || now[0] != file[0]
            || sys::type_of(self.descriptor) != libc::S_IFIFO
        {
            return false;
        }
        let is_other_end = |below| sys::file_id(below) == Ok(now) && sys::is_read_only(below);
        if (0..self.descriptor).any(is_other_end) {
            return false;
        }
        let lives = own_life();
        if lives == 0 || lives == life {
            return false;
        }
        self.keep(now, lives);
        true
    }

    /// Writes `bytes` in one piece. The error is EBADF if the stream was closed or is another file now, EAGAIN if it cannot take
    /// the bytes at once, or that of `sys::write`.
    ///
    /// At most PIPE_BUF (4096) bytes: a pipe that can be written to takes as many without waiting. (Unless another writer fills
    /// it between the two system calls. O_NONBLOCK would exclude that, but it would also be set for the host.)
    pub fn write(&self, bytes: &[u8]) -> Result<(), Errno> {
        if !self.is_open() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs::File,
        io::{PipeWriter, pipe},
        os::fd::{AsRawFd, FromRawFd as _, OwnedFd},
    };

    /// Makes `file` what `stream` is a descriptor of.
    fn put(file: &impl AsRawFd, stream: &Stream) {
        // SAFETY: the test's own descriptors.
        let result = unsafe { libc::dup2(file.as_raw_fd(), stream.descriptor) };
        assert_eq!(result, stream.descriptor);
    }

    /// Their ends to read from have high descriptors: one below a stream would mean that the host has made the pipe. (Tests in other
    /// threads open and close descriptors meanwhile.)
    fn pipes() -> [(OwnedFd, PipeWriter); 3] {
        [(); 3].map(|()| {
            let (reader, writer) = pipe().expect("a pipe");
            // SAFETY: it makes a new descriptor, which has no other owner.
            let high = unsafe {
                let high = libc::fcntl(reader.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 512);
                assert!(high >= 512);
                OwnedFd::from_raw_fd(high)
            };
            (high, writer)
        })
    }

    /// Its file is that of `descriptor`, in this process before it was restored. (A restored process has a later start.)
    fn before_restore(descriptor: &OwnedFd) -> Stream {
        let stream = Stream::new(descriptor.as_raw_fd());
        stream.keep(file_of(&stream), sys::process_id() as u64);
        stream
    }

    fn file_of(stream: &Stream) -> [u64; 2] {
        sys::file_id(stream.descriptor).expect("it is open")
    }

    #[test]
    fn a_pipe_is_recognized_after_a_restore_and_no_later_one_is() {
        let [first, restored, other] = pipes();
        let descriptor = OwnedFd::from(first.1);
        let stream = before_restore(&descriptor);
        put(&restored.1, &stream);
        assert_eq!(stream.write(b"x"), Ok(()));
        put(&other.1, &stream);
        assert_eq!(stream.write(b"x"), Err(Errno::EBADF));
    }

    #[test]
    fn another_pipe_in_a_process_that_was_not_restored() {
        let [first, other, _] = pipes();
        let descriptor = OwnedFd::from(first.1.try_clone().expect("a descriptor"));
        let stream = before_restore(&descriptor);
        let parents = 1 << ID_BITS | (sys::process_id() as u64 - 1);
        for life in [0, own_life(), parents] {
            put(&first.1, &stream);
            stream.keep(file_of(&stream), life);
            assert_eq!(stream.write(b"x"), Ok(()));
            put(&other.1, &stream);
            assert_eq!(stream.write(b"x"), Err(Errno::EBADF), "{life}");
        }
    }

    #[test]
    fn a_file_of_another_kind_after_a_restore() {
        let [first, ..] = pipes();
        let null = File::options().write(true).open("/dev/null");
        let null = null.expect("/dev/null");
        let descriptor = OwnedFd::from(first.1);
        let stream = before_restore(&descriptor);
        put(&null, &stream);
        assert_eq!(stream.write(b"x"), Err(Errno::EBADF));
    }
}
