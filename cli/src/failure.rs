//! The reason for which a command ends early.

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
