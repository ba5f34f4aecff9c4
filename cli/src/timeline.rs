//! `mrlock timeline`.

use crate::{arguments, failure::Failure};
use std::process::ExitCode;

/// Does what `mrlock timeline` is for.
pub fn draw(_arguments: arguments::Timeline) -> Result<ExitCode, Failure> {
    Err(Failure::new("timeline: not written yet"))
}
