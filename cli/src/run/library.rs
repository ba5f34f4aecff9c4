//! The library to preload.

use super::refused;
use crate::failure::Failure;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use rustix::param::linux_execfn;
use std::{
    error::Error,
    ffi::{OsStr, c_char},
    fs, mem,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    ptr,
};

/// Beside this program; one directory up, where `make install` puts it; or in `lib` there, where pip puts it.
pub fn find() -> Result<PathBuf, Failure> {
    // Without /proc, the kernel's own record of what it was asked to run.
    let here = fs::canonicalize("/proc/self/exe")
        .or_else(|_| fs::canonicalize(OsStr::from_bytes(linux_execfn().to_bytes())))
        .map_err(|error| refused(format!("/proc/self/exe: {error}")))?;
    let beside = here.parent().unwrap_or(Path::new("/"));
    let above = beside.parent().unwrap_or(beside);
    let directories = [beside, above, &above.join("lib")];
    // cargo gives what it builds no version.
    let names = ["libmrlock.so.0", "libmrlock.so"];
    let mut files = directories
        .iter()
        .flat_map(|directory| names.map(|name| directory.join(name)));
    files.find(|file| file.exists()).ok_or_else(|| {
        let [beside, above, lib] = directories.map(Path::display);
        refused(format!(
            "no libmrlock.so.0 in {beside}, {above} or {lib}: install it there"
        ))
    })
}

unsafe extern "C" {
    static mut environ: *mut *mut c_char;
}

/// Loads the library into this process: the loader's own message says best what is wrong with it.
pub fn try_to_load(library: &Path) -> Result<(), Failure> {
    let shown = library.display();
    if library
        .as_os_str()
        .as_bytes()
        .iter()
        .any(|byte| b" :".contains(byte))
    {
        return Err(refused(format!(
            "{shown}: LD_PRELOAD takes no path with a blank or a colon: move the library"
        )));
    }
    let mut empty = [ptr::null_mut()];
    // SAFETY: this process has one thread. The settings are for the command, and the library must not read them here. What it
    // does when it is loaded, it does in the command too.
    let loaded = unsafe {
        let environment = environ;
        environ = empty.as_mut_ptr();
        let loaded = Library::open(Some(library), RTLD_NOW | RTLD_LOCAL);
        environ = environment;
        loaded
    };
    // It cannot be unloaded.
    loaded.map(mem::forget).map_err(|error| {
        let reason = error
            .source()
            .map_or(error.to_string(), |reason| reason.to_string());
        refused(format!("the library cannot be loaded: {reason}"))
    })
}
