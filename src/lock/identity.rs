//! Which thread, and whether it still lives.

use super::state::ID_BITS;
use crate::{
    sys::{self, Errno},
    text::Text,
};
use core::fmt::Write;

/// One thread for as long as the machine runs: the kernel uses thread ids again, but not with the same start. (A time
/// namespace that is entered later has another clock.)
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Identity {
    /// The low bits are the thread id; above them is a moment at which the thread was alive, in hundredths of a second since
    /// boot. Zero: not known.
    pub number: u64,
    /// The process that the thread said it was in.
    pub process: libc::pid_t,
}

/// What /proc counts a thread's start in: USER_HZ is 100 on every x86_64 kernel.
const TICK_IN_NS: u64 = 10_000_000;

impl Identity {
    /// Nobody yet.
    pub const UNKNOWN: Self = Self {
        number: 0,
        process: 0,
    };

    /// Looks up who the calling thread is.
    #[cold]
    pub fn of_this_thread() -> Self {
        Self::seen_now(sys::thread_id())
    }

    /// The thread of this process that has this id now.
    pub fn seen_now(id: u64) -> Self {
        let ticks = sys::clock(libc::CLOCK_BOOTTIME) / TICK_IN_NS;
        Self {
            number: ticks << ID_BITS | id,
            process: sys::process_id(),
        }
    }

    /// Whether this is anybody.
    #[inline]
    pub fn is_known(self) -> bool {
        self.number != 0
    }

    /// The kernel's thread id.
    #[inline]
    pub fn id(self) -> u64 {
        self.number & ((1 << ID_BITS) - 1)
    }

    fn alive_at(self) -> u64 {
        self.number >> ID_BITS
    }

    /// As if the same number had belonged to another thread, a second before.
    #[cfg(test)]
    pub fn born_earlier(self) -> Self {
        Self {
            number: self.number - (100 << ID_BITS),
            ..self
        }
    }

    /// Whether this thread has ended. Not said of one that lives, however slow, stopped or asleep it is; nor of one that we
    /// may not know: a forked child that no fork handler ran in still has its parent's identity, and a thread may share our
    /// memory and be no thread of our process.
    pub fn is_gone(self) -> bool {
        self.process == sys::process_id() && self.is_missing()
    }

    fn is_missing(self) -> bool {
        // SAFETY: signal 0 only asks whether the thread is there.
        let answer = unsafe { syscall!(SYS_tgkill, self.process, self.id(), 0) };
        if let Some(error) = Errno::of(answer) {
            return error == Errno::ESRCH;
        }
        // There is a thread of this number. A zombie (a main thread whose others go on) or one that started later is not
        // ours. Who cannot be looked at is taken to be alive.
        Status::of(self.id())
            .is_some_and(|status| status.has_ended || status.started > self.alive_at())
    }
}

/// Whether /proc counts processes as this one does. (In another process id namespace, an id there is another thread's.)
fn is_proc_ours() -> bool {
    let mut link = [0u8; 16];
    // SAFETY: the path is NUL-terminated, the buffer valid for its length.
    let length = unsafe {
        syscall!(
            SYS_readlink,
            c"/proc/self".as_ptr(),
            link.as_mut_ptr(),
            link.len(),
        )
    };
    let own = Text::<16>::from(format_args!("{}", sys::process_id()));
    link.get(..usize::try_from(length).unwrap_or(0)) == Some(own.as_bytes())
}

/// What /proc says of a thread of this process.
struct Status {
    has_ended: bool,
    started: u64,
}

impl Status {
    fn of(thread: u64) -> Option<Self> {
        if !is_proc_ours() {
            return None;
        }
        let mut path = Text::<64>::new();
        let _ = write!(path, "/proc/self/task/{thread}/stat\0");
        let mut buffer = [0u8; 512];
        // Raw system calls: open, read and close of libc are cancellation points.
        // SAFETY: the path is NUL-terminated, the buffer valid for its length, the descriptor our own.
        let length = unsafe {
            let flags = libc::O_RDONLY | libc::O_CLOEXEC;
            let file = syscall!(SYS_openat, libc::AT_FDCWD, path.as_bytes().as_ptr(), flags,);
            if file < 0 {
                return None;
            }
            let length = syscall!(SYS_read, file, buffer.as_mut_ptr(), buffer.len());
            syscall!(SYS_close, file);
            length
        };
        Self::parse(buffer.get(..usize::try_from(length).ok()?)?)
    }

    /// Reads proc_pid_stat(5): `id (name) state ... starttime ...`, the state being field 3 and the start field 22.
    fn parse(line: &[u8]) -> Option<Self> {
        // A name may contain anything, parentheses and blanks too.
        let after_name = line.iter().rposition(|&byte| byte == b')')? + 2;
        let mut fields = line.get(after_name..)?.split(|&byte| byte == b' ');
        let state = fields.next()?;
        let started = core::str::from_utf8(fields.nth(18)?).ok()?.parse().ok()?;
        Some(Self {
            has_ended: matches!(state, b"Z" | b"X" | b"x"),
            started,
        })
    }
}
