//! What users are told.

pub mod counters;
pub mod exit_report;
mod file;
pub mod observed;
pub mod published;
pub mod trace;
