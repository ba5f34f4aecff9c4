//! Text in a buffer of fixed size: what a line or a report is put together in where nothing may allocate.

use crate::errno::Errno;
use core::{
    fmt::{self, Write},
    ptr,
};

/// Up to `N` bytes of text. What does not fit is left out, and the rest is still good.
pub struct Text<const N: usize> {
    bytes: [u8; N],
    length: usize,
    complete: bool,
}

impl<const N: usize> Text<N> {
    /// No text yet.
    pub const fn new() -> Self {
        Self {
            bytes: [0; N],
            length: 0,
            complete: true,
        }
    }

    /// `arguments` as text, for a column that has to be padded.
    pub fn from(arguments: fmt::Arguments) -> Self {
        let mut text = Self::new();
        let _ = text.write_fmt(arguments);
        text
    }

    /// Adds one byte.
    pub fn push(&mut self, byte: u8) {
        match self.bytes.get_mut(self.length) {
            Some(slot) => {
                *slot = byte;
                self.length += 1;
            }
            None => self.complete = false,
        }
    }

    /// What was written so far.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// Whether all that was written did fit.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Ends the text with a newline, in place of its last byte if there is no room left.
    pub fn end_line(&mut self) {
        self.length = self.length.min(N.saturating_sub(1));
        self.push(b'\n');
    }

    /// Hands the text to the kernel, to be written to `descriptor` in one piece.
    ///
    /// Returns whether all of it was written; if not, errno says why.
    pub fn write_to(&self, descriptor: libc::c_int) -> bool {
        let bytes = self.as_bytes();
        without_signals(|| {
            // SAFETY: the bytes are valid for the length given. A raw system call, because write(2) of libc is a
            // cancellation point, which the host's call would not have been.
            let written =
                unsafe { libc::syscall(libc::SYS_write, descriptor, bytes.as_ptr(), bytes.len()) };
            usize::try_from(written) == Ok(bytes.len())
        })
    }
}

/// Runs `write` so that nothing it does can kill the host: no SIGPIPE of a pipe that nobody reads, no SIGXFSZ of a file
/// that may grow no more.
fn without_signals(write: impl FnOnce() -> bool) -> bool {
    const SIZE: usize = size_of::<u64>(); // of the kernel's sigset_t
    let signals = 1u64 << (libc::SIGPIPE - 1) | 1 << (libc::SIGXFSZ - 1);
    let (mut before, mut pending) = (0u64, 0u64);
    // SAFETY: the sets are valid and of the size given.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_BLOCK,
            &raw const signals,
            &raw mut before,
            SIZE,
        );
        libc::syscall(libc::SYS_rt_sigpending, &raw mut pending, SIZE);
    }
    let written = write();
    let errno = Errno::save();
    // What was pending before is the host's. What our write raised is taken back; without a failed write there is none.
    let ours = signals & !pending;
    if !written && ours != 0 {
        let at_once = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let no_details = ptr::null_mut::<libc::siginfo_t>();
        // SAFETY: as above; the details are optional.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigtimedwait,
                &raw const ours,
                no_details,
                &raw const at_once,
                SIZE,
            )
        };
    }
    // SAFETY: as above.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const before,
            ptr::null_mut::<u64>(),
            SIZE,
        )
    };
    errno.restore();
    written
}

impl<const N: usize> Write for Text<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.push(byte));
        Ok(())
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.pad(core::str::from_utf8(self.as_bytes()).unwrap_or("?"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_fits_and_says_whether_all_did() {
        let mut text = Text::<5>::new();
        write!(text, "{}-{}", 12, 34).unwrap();
        assert_eq!((text.as_bytes(), text.is_complete()), (&b"12-34"[..], true));
        write!(text, "5").unwrap();
        assert_eq!(
            (text.as_bytes(), text.is_complete()),
            (&b"12-34"[..], false)
        );
    }

    #[test]
    fn ends_a_line_that_is_full() {
        let mut text = Text::<4>::from(format_args!("abcdef"));
        text.end_line();
        assert_eq!(text.as_bytes(), b"abc\n");
    }
}
