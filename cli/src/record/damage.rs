//! Why something is no record that can be read.

use super::layout;
use std::{fmt, io};

/// The reason.
#[derive(Debug)]
pub enum Damage {
    /// It cannot be read at all.
    Unreadable(io::Error),
    /// It is a directory, a pipe, a device, ...
    NoFile,
    /// It does not begin as a record does.
    NoRecord,
    /// Another version of the library wrote it.
    Version(u64),
    /// It has the right version, and another size.
    Size(u64),
    /// It says that more events have room than the library ever asks for.
    Capacity(u64),
    /// It ends before it is complete.
    Cut {
        /// Its length in bytes.
        length: u64,
        /// How many bytes it should have.
        needed: u64,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Unreadable(error) if error.kind() == io::ErrorKind::NotFound => write!(
                to,
                "there is no such file: a process makes its record at its first registration"
            ),
            Self::Unreadable(error) => write!(to, "it cannot be read ({error})"),
            Self::NoFile => write!(to, "it is no regular file"),
            Self::NoRecord => write!(to, "it is no record of mrlock"),
            Self::Version(version) => write!(
                to,
                "it is a record of version {version}, and this command reads version {}: use the command that came with the library",
                layout::VERSION
            ),
            Self::Size(size) => write!(
                to,
                "it is damaged: its record would have {size} bytes instead of {}",
                size_of::<layout::Record>()
            ),
            Self::Capacity(capacity) => write!(
                to,
                "it is damaged: it would have room for {capacity} events, and no record has room for more than {}",
                layout::MOST_EVENTS
            ),
            Self::Cut { length, needed } => {
                write!(to, "it is cut: it has {length} bytes of {needed}")
            }
        }
    }
}

impl From<io::Error> for Damage {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error)
    }
}
