//! The files that are installed with this program.

use rustix::param::linux_execfn;
use std::{
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// The file of this program.
pub fn program() -> io::Result<PathBuf> {
    // Without /proc, the kernel's own record of what it was asked to run.
    fs::canonicalize("/proc/self/exe")
        .or_else(|_| fs::canonicalize(OsStr::from_bytes(linux_execfn().to_bytes())))
}

/// Beside the program, where `make install` puts what belongs to it alone; one directory up, where it puts the library; or in
/// `lib` there, where pip puts both.
pub fn places(program: &Path) -> [PathBuf; 3] {
    let beside = program.parent().unwrap_or(Path::new("/"));
    let above = beside.parent().unwrap_or(beside);
    [beside.into(), above.into(), above.join("lib")]
}

/// The file with one of these names in one of the places.
pub fn near(program: &Path, names: &[&str]) -> Option<PathBuf> {
    let places = places(program);
    let mut files = places
        .iter()
        .flat_map(|directory| names.iter().map(|name| directory.join(name)));
    files.find(|file| file.exists())
}
