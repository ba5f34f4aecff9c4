//! An environment that a target makes from its input.

use crate::base::{
    log_sink,
    settings::{self, Settings},
};
use std::{ffi::CString, ptr};

unsafe extern "C" {
    static mut environ: *const *const libc::c_char;
}

/// The settings that the library reads from this environment alone, and the lines that it writes meanwhile.
pub fn read(variables: &[CString]) -> (Settings, Vec<String>) {
    let mut pointers: Vec<_> = variables.iter().map(|variable| variable.as_ptr()).collect();
    pointers.push(ptr::null());
    // SAFETY: there is one thread, which calls getenv() in between only. (Not setenv(): it keeps every value for ever.)
    let settings = unsafe {
        let before = environ;
        environ = pointers.as_ptr();
        let settings = settings::read();
        environ = before;
        settings
    };
    (settings, log_sink::LINES.take())
}
