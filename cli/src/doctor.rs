//! `mrlock doctor`.

use crate::{arguments, failure::Failure};
use std::process::ExitCode;

/// Does what `mrlock doctor` is for.
pub fn examine(_arguments: arguments::Doctor) -> Result<ExitCode, Failure> {
    Err(Failure::new("doctor: not written yet"))
}
