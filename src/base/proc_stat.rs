//! What /proc says of a thread or a process.

use super::text::Text;
use core::fmt::Write;

/// Some of the fields of proc_pid_stat(5).
#[derive(Clone, Copy)]
pub struct ProcStat {
    /// A letter: R, S, D, Z, ...
    pub state: u8,
    /// When it started, in hundredths of a second since boot.
    pub started: u64,
}

impl ProcStat {
    /// Of a thread of this process.
    pub fn of_own_thread(thread: u64) -> Option<Self> {
        Self::read_named(format_args!("/proc/self/task/{thread}/stat\0"))
    }

    /// Of a thread of a process.
    pub fn of_thread(process: libc::pid_t, thread: u64) -> Option<Self> {
        Self::read_named(format_args!("/proc/{process}/task/{thread}/stat\0"))
    }

    /// Of this process.
    pub fn of_process() -> Option<Self> {
        Self::read(c"/proc/self/stat".to_bytes_with_nul())
    }

    fn read_named(name: core::fmt::Arguments) -> Option<Self> {
        let mut path = Text::<64>::new();
        let _ = path.write_fmt(name);
        Self::read(path.as_bytes())
    }

    /// The path is NUL-terminated.
    fn read(path: &[u8]) -> Option<Self> {
        // Field 22 ends within 355 bytes: it and eight counters have up to 20 digits, the other numbers up to 11, the name up to 32
        // bytes.
        let mut buffer = [0u8; 384];
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

    /// `id (name) state ... starttime ...`, the state being field 3 and the start field 22.
    fn parse(line: &[u8]) -> Option<Self> {
        // A name may contain anything, parentheses and blanks too.
        let after_name = line.iter().rposition(|&byte| byte == b')')? + 2;
        let mut fields = line.get(after_name..)?.split(|&byte| byte == b' ');
        let state = *fields.next()?.first()?;
        let started = core::str::from_utf8(fields.nth(18)?).ok()?.parse().ok()?;
        Some(Self { state, started })
    }
}
