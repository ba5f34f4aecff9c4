//! The identity of a thread, and whether it has ended.

use crate::base::{
    sys::{self, Errno},
    text::Text,
};
use core::fmt::Write;

/// A thread, distinguished from a later thread to which the kernel gives the same id.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct ThreadId {
    /// The low bits are the kernel's id; above them is a moment at which the thread was alive, in hundredths of a second
    /// since boot. Zero: not known.
    pub bits: u64,
    /// The process that the thread was in.
    pub process: libc::pid_t,
}

/// Enough for any thread id: PID_MAX_LIMIT of the kernel.
pub const ID_BITS: u32 = 22;

/// The unit in which /proc gives a thread's start: USER_HZ is 100 on every x86_64 kernel.
const TICK_IN_NS: u64 = 10_000_000;

impl ThreadId {
    /// The calling thread.
    #[cold]
    pub fn current() -> Self {
        Self::alive_now(sys::thread_id())
    }

    /// The thread of this process that has this id now.
    pub fn alive_now(id: u64) -> Self {
        let ticks = sys::clock(libc::CLOCK_BOOTTIME) / TICK_IN_NS;
        Self {
            bits: ticks << ID_BITS | id,
            process: sys::process_id(),
        }
    }

    /// Whether this is a thread: the default is none.
    #[inline]
    pub fn is_known(self) -> bool {
        self.bits != 0
    }

    /// The kernel's id.
    #[inline]
    pub fn id(self) -> u64 {
        self.bits & ((1 << ID_BITS) - 1)
    }

    /// Whether the calling thread has this id.
    pub fn is_current(self) -> bool {
        self.id() == sys::thread_id()
    }

    /// A moment at which it was alive, in hundredths of a second since boot.
    pub fn alive_at(self) -> u64 {
        self.bits >> ID_BITS
    }

    /// Whether this thread has certainly ended. `false` for a live thread that is slow, stopped or asleep, and for a thread of
    /// which this cannot be found out: a thread of another process may share our memory.
    pub fn has_ended(self) -> bool {
        if self.process != sys::process_id() {
            return false;
        }
        // SAFETY: signal 0 only asks whether the thread is there.
        let answer = unsafe { syscall!(SYS_tgkill, self.process, self.id(), 0) };
        if let Some(error) = Errno::of(answer) {
            return error == Errno::ESRCH;
        }
        // There is a thread with this id. A zombie (a main thread that ended before the others) has ended. A thread that started
        // later is another thread. But if the process, too, seems to have started later, it was restored from a checkpoint, and
        // start times prove nothing. A thread without a readable status is taken to be alive.
        let Some(thread) = is_proc_ours()
            .then(|| Status::of_thread(self.id()))
            .flatten()
        else {
            return false;
        };
        let is_later = |status: Status| status.started > self.alive_at();
        thread.has_ended || is_later(thread) && Status::of_process().is_some_and(|it| !is_later(it))
    }
}

/// When this process started, as /proc says.
#[cfg(test)]
pub fn process_start() -> Option<u64> {
    Status::of_process().map(|process| process.started)
}

/// Whether /proc belongs to the process id namespace of this process. (In another one, an id there is another thread's.)
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

/// What /proc says of a thread or a process.
#[derive(Clone, Copy)]
struct Status {
    has_ended: bool,
    started: u64,
}

impl Status {
    fn of_thread(id: u64) -> Option<Self> {
        let mut path = Text::<64>::new();
        let _ = write!(path, "/proc/self/task/{id}/stat\0");
        Self::read(path.as_bytes())
    }

    fn of_process() -> Option<Self> {
        Self::read(b"/proc/self/stat\0")
    }

    fn read(path: &[u8]) -> Option<Self> {
        let mut buffer = [0u8; 512];
        // SAFETY: the path is NUL-terminated, the buffer valid for its length, the descriptor our own.
        let length = unsafe {
            let flags = libc::O_RDONLY | libc::O_CLOEXEC;
            let file = syscall!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags);
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
