//! A file name in a setting, with placeholders for the process and the host.

use crate::base::{sys, text::Text};
use core::{
    cell::UnsafeCell,
    fmt::{self, Write},
};
use log::warn;

/// A complete file name, with the terminating NUL.
pub type Path = Text<{ libc::PATH_MAX as usize }>;

/// A file name: a copy, because a host may overwrite its environment before it exits.
pub struct FileName {
    /// For a relative name, the working directory when the settings were read: the host may change it later.
    directory: &'static [u8],
    /// The name as it was given. Its placeholders are still in it.
    given: &'static [u8],
}

/// The bytes of the names that are kept, behind those of their directory.
#[unsafe(link_section = ".sbss.large")]
pub(super) static REPORT_NAME: Name = Name(UnsafeCell::new([0; LONGEST_NAME]));
#[unsafe(link_section = ".sbss.large")]
pub(super) static TRACE_NAME: Name = Name(UnsafeCell::new([0; LONGEST_NAME]));

/// How many bytes a file name may have: PATH_MAX has room for the terminating NUL.
const LONGEST_NAME: usize = libc::PATH_MAX as usize - 1;

pub(super) struct Name(UnsafeCell<[u8; LONGEST_NAME]>);

// SAFETY: written once, by the one thread that reads the settings and before it publishes them; only read afterwards.
unsafe impl Sync for Name {}

impl FileName {
    /// Copies `name`, if it is short enough. Only `read` calls this, once for each `Name`.
    #[inline(never)]
    pub(super) fn keep(name: &[u8], kept: &'static Name) -> Option<Self> {
        // SAFETY: nothing refers to it yet: `read_once` lets one thread come here, once.
        let kept = unsafe { &mut *kept.0.get() };
        let mut start = 0;
        if name.first() != Some(&b'/') {
            start = sys::working_directory(kept);
            if start > 0 {
                *kept.get_mut(start)? = b'/';
                start += 1;
            }
        }
        let (directory, rest) = kept.split_at_mut_checked(start)?;
        let (given, _) = rest.split_at_mut_checked(name.len())?;
        for (to, from) in given.iter_mut().zip(name) {
            *to = *from;
        }
        Some(Self { directory, given })
    }

    /// Whether the file may be written: the user who starts a set-uid program must not choose a file that it writes.
    #[inline(never)]
    pub(super) fn is_allowed(&self, variable: &str) -> bool {
        // SAFETY: getauxval() has no preconditions.
        let secure = unsafe { libc::getauxval(libc::AT_SECURE) } != 0;
        if secure {
            warn!(
                "{variable}={self}: ignored, because a set-uid process writes no file on request"
            );
        }
        !secure
    }

    /// Writes the name with its placeholders replaced, NUL-terminated, to `path`; `false` if it has become too long for a file
    /// name.
    pub fn write_for_process(&self, process: libc::pid_t, path: &mut Path) -> bool {
        path.clear();
        self.directory.iter().for_each(|&byte| path.push(byte));
        let mut rest = self.given;
        loop {
            rest = match rest {
                [] => break,
                [b'%', b'p', after @ ..] => {
                    let _ = write!(path, "{process}");
                    after
                }
                [b'%', b'h', after @ ..] => {
                    sys::with_host_name(|name| name.iter().for_each(|&byte| path.push(byte)));
                    after
                }
                [b'%', b'%', after @ ..] => {
                    path.push(b'%');
                    after
                }
                [byte, after @ ..] => {
                    path.push(*byte);
                    after
                }
            };
        }
        path.push(0);
        path.is_complete()
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{}", self.given.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn for_process(directory: &'static [u8], given: &'static [u8]) -> Option<Vec<u8>> {
        let mut path = Path::new();
        let is_complete = FileName { directory, given }.write_for_process(1234, &mut path);
        is_complete.then(|| path.as_bytes().to_owned())
    }

    #[test]
    fn a_process_id_in_a_file_name() {
        let expected = b"/tmp/1234/100%/%p.1234%x%\0".to_vec();
        assert_eq!(for_process(b"", b"/tmp/%p/100%/%%p.%p%x%"), Some(expected));
        let expected = b"/100%p/report-1234\0".to_vec();
        assert_eq!(for_process(b"/100%p/", b"report-%p"), Some(expected));
    }

    #[test]
    fn a_file_name_that_grows_too_long() {
        static LONGEST: [u8; LONGEST_NAME] = [b'x'; LONGEST_NAME];
        assert!(for_process(b"", &LONGEST).is_some());
        assert!(for_process(b"/", &LONGEST).is_none());
        static GROWS: [u8; LONGEST_NAME] = {
            let mut name = LONGEST;
            name[0] = b'%';
            name[1] = b'p';
            name
        };
        assert!(for_process(b"", &GROWS).is_none());
    }
}
