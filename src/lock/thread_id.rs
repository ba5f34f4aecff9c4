//! The identity of a thread, and whether it has ended.

use crate::base::{
    proc_stat::ProcStat,
    process,
    sys::{self, Errno},
    text::Text,
};

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

/// The unit in which /proc gives a thread's start: USER_HZ is 100 on every x86_64 and arm64 kernel.
const TICK_IN_NS: u64 = 10_000_000;

impl ThreadId {
    /// The calling thread.
    #[cold]
    pub fn current() -> Self {
        Self::alive_now(sys::thread_id(), sys::process_id())
    }

    /// The first thread of the process that the lock is prepared for.
    pub fn main() -> Self {
        Self::of_lock(process::recorded() as u64)
    }

    /// The thread that has this id now, of the process that the lock is prepared for.
    pub fn of_lock(id: u64) -> Self {
        Self::alive_now(id, process::recorded())
    }

    fn alive_now(id: u64, process: libc::pid_t) -> Self {
        let ticks = sys::clock(libc::CLOCK_BOOTTIME) / TICK_IN_NS;
        Self {
            bits: ticks << ID_BITS | id,
            process,
        }
    }

    /// Whether it is the first thread of its process, which lives as long as the process, at least as a zombie.
    pub fn is_main(self) -> bool {
        self.id() == self.process as u64
    }

    /// The kernel's id.
    #[inline]
    pub fn id(self) -> u64 {
        self.bits & ((1 << ID_BITS) - 1)
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
        if !is_proc_ours() {
            return false;
        }
        let Some(thread) = ProcStat::of_own_thread(self.id()) else {
            return false;
        };
        let has_ended = matches!(thread.state, b'Z' | b'X' | b'x');
        let is_later = |status: ProcStat| status.started > self.alive_at();
        has_ended || is_later(thread) && ProcStat::of_process().is_some_and(|it| !is_later(it))
    }
}

/// When this process started, as /proc says.
#[cfg(test)]
pub fn process_start() -> Option<u64> {
    ProcStat::of_process().map(|process| process.started)
}

/// Whether /proc belongs to the process id namespace of this process. (In another one, an id there is another thread's.)
fn is_proc_ours() -> bool {
    let mut link = [0u8; 16];
    // SAFETY: the path is NUL-terminated, the buffer valid for its length.
    let length = unsafe {
        syscall!(
            SYS_readlinkat,
            libc::AT_FDCWD,
            c"/proc/self".as_ptr(),
            link.as_mut_ptr(),
            link.len(),
        )
    };
    let own = Text::<16>::from(format_args!("{}", sys::process_id()));
    link.get(..usize::try_from(length).unwrap_or(0)) == Some(own.as_bytes())
}
