//! The library's source files that read untrusted bytes, with stand-ins for the other files.

#[macro_use]
mod base;

mod call;

#[allow(dead_code, reason = "the call itself is not made")]
mod hook;

#[allow(dead_code, reason = "nothing is looked up")]
mod resolve {
    use std::{
        ffi::{CStr, c_void},
        ptr::NonNull,
    };

    pub fn note_libibverbs() {}

    pub fn next(_: &CStr) -> Option<NonNull<c_void>> {
        None
    }
}

/// The command's reader of records.
#[path = "../../../cli/src/record/mod.rs"]
#[allow(dead_code, unused_imports, reason = "only the parsing is used")]
mod record_reader;

#[path = "../../../cli/src/status/image.rs"]
#[allow(dead_code, reason = "the largest size is the caller's")]
mod image_reader;

mod environment;
pub mod image;
mod patches;
pub mod record;
mod report;
pub mod report_name;
pub mod settings;
pub mod uverbs;
