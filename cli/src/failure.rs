//! The reason for which a command ends early, and what is said on standard error.

use std::{
    fmt::Display,
    io::{self, Write},
};

/// Writes a line to standard error. If that takes none, as a file on a full disk, the command goes on.
pub fn say(line: impl Display) {
    let _ = writeln!(io::stderr(), "mrlock: {line}");
}

/// One line for standard error, and the exit status.
#[derive(Debug)]
pub struct Failure {
    /// The exit status.
    pub status: u8,
    /// The thing, its value, and what to do: one line.
    pub message: String,
}

impl Failure {
    /// An ordinary failure: status 1.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            status: 1,
            message: message.into(),
        }
    }
}
