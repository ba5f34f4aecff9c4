//! `mrlock status`.

use crate::{arguments, failure::Failure};
use std::process::ExitCode;

/// Does what `mrlock status` is for.
pub fn show(_arguments: arguments::Status) -> Result<ExitCode, Failure> {
    Err(Failure::new("status: not written yet"))
}
