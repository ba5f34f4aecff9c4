//! `mrlock stress`.

use crate::{arguments, failure::Failure};
use std::process::ExitCode;

/// Does what `mrlock stress` is for.
pub fn provoke(_arguments: arguments::Stress) -> Result<ExitCode, Failure> {
    Err(Failure::new("stress: not written yet"))
}
