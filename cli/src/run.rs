//! `mrlock run`.

use crate::{arguments, failure::Failure};
use std::process::ExitCode;

/// Does what `mrlock run` is for.
pub fn run(_arguments: arguments::Run) -> Result<ExitCode, Failure> {
    Err(Failure::new("run: not written yet"))
}
