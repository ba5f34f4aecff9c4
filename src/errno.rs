//! The calling thread's errno, which belongs to the host: whatever we do between its call and its return is undone here.

use crate::text::Text;
use core::ffi::CStr;
use libc::c_int;

/// The value of errno at one moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(c_int);

impl Errno {
    /// "Bad address".
    pub const EFAULT: Self = Self(libc::EFAULT);
    /// "Interrupted system call".
    pub const EINTR: Self = Self(libc::EINTR);
    /// "No such process", nor thread.
    pub const ESRCH: Self = Self(libc::ESRCH);
    /// "Connection timed out", or a sleep.
    pub const ETIMEDOUT: Self = Self(libc::ETIMEDOUT);

    /// The value now.
    pub fn save() -> Self {
        // SAFETY: glibc's errno location is valid for the life of the calling thread.
        Self(unsafe { *libc::__errno_location() })
    }

    /// Runs `body`, which may change errno, and puts back what it was.
    pub fn preserve<R>(body: impl FnOnce() -> R) -> R {
        let before = Self::save();
        let result = body();
        before.restore();
        result
    }

    /// Makes this the value that the caller will see.
    pub fn restore(self) {
        // SAFETY: as in `save`.
        unsafe { *libc::__errno_location() = self.0 }
    }

    /// Sets errno to `code`.
    pub fn set(code: c_int) {
        Self(code).restore();
    }

    /// What it means, in the words of strerror(3).
    pub fn message(self) -> Text<64> {
        let mut buffer = [0; 64];
        // SAFETY: the buffer is valid for writing its own length, which includes the terminating NUL. libc binds the
        // POSIX variant, which fills it in or fails; then it stays empty.
        unsafe { libc::strerror_r(self.0, buffer.as_mut_ptr().cast(), buffer.len()) };
        let message = CStr::from_bytes_until_nul(&buffer).unwrap_or_default();
        Text::from(format_args!(
            "errno {}: {}",
            self.0,
            message.to_bytes().escape_ascii()
        ))
    }
}
