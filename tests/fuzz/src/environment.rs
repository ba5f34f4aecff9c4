//! An environment that a target makes from its input.

use crate::{
    config::{self, Config},
    logger,
};
use std::{ffi::CString, ptr};

unsafe extern "C" {
    static mut environ: *const *const libc::c_char;
}

/// The settings that the library reads from this environment alone, and the lines that it writes meanwhile.
pub fn read(variables: &[CString]) -> (Config, Vec<String>) {
    let mut pointers: Vec<_> = variables.iter().map(|variable| variable.as_ptr()).collect();
    pointers.push(ptr::null());
    // SAFETY: there is one thread, which calls getenv() in between only. (Not setenv(): it keeps every value for ever.)
    let config = unsafe {
        let before = environ;
        environ = pointers.as_ptr();
        let config = config::read();
        environ = before;
        config
    };
    (config, logger::LINES.take())
}
