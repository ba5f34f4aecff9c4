//! The command's report of records, as text.

#[path = "../../../cli/src/report/render.rs"]
#[allow(dead_code, reason = "no process runs here")]
pub mod render;

#[path = "../../../src/record/summary.rs"]
mod summary;

use crate::base::text;
