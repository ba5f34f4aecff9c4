//! The library to preload.

use super::refused;
use crate::{arguments, elf_file, failure::Failure, installed};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use rustix::{param::linux_execfn, process::geteuid};
use std::{
    env,
    error::Error,
    ffi::{OsStr, c_char},
    fs::{self, DirBuilder, File, Metadata, Permissions},
    hash::{DefaultHasher, Hash, Hasher},
    io, mem,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink},
    },
    path::{self, Path, PathBuf},
    ptr,
};

/// The names of a library. What was built and not installed has no version.
type Names = [&'static str; 2];

const LIBRARY: Names = ["libmrlock.so.0", "libmrlock.so"];
const IOCTL_LIBRARY: Names = ["libmrlock-ioctl.so.0", "libmrlock-ioctl.so"];

/// By a name that LD_PRELOAD can hold, after it was loaded here.
pub fn usable(hooks: &arguments::Hooks) -> Result<PathBuf, Failure> {
    let names = if hooks.are_ioctl_alone() {
        IOCTL_LIBRARY
    } else {
        LIBRARY
    };
    let library = name_for_preload(find(names)?, names)?;
    try_to_load(&library)?;
    Ok(library)
}

fn find(names: Names) -> Result<PathBuf, Failure> {
    let here = installed::program().map_err(|error| refused(format!("/proc/self/exe: {error}")))?;
    installed::near(&here, &names).ok_or_else(|| {
        let [beside, above, lib] = installed::places(&here);
        refused(format!(
            "no {} in {}, {} or {}: install it there",
            names[0],
            beside.display(),
            above.display(),
            lib.display()
        ))
    })
}

/// A name of the library that LD_PRELOAD can hold. If its path cannot be held, then that by which this program was called, or
/// else a link. (LD_LIBRARY_PATH and the library's bare name would do too, but they would change where every process looks for
/// all its libraries, and a process that gets another LD_LIBRARY_PATH would lose the library.)
fn name_for_preload(library: PathBuf, names: Names) -> Result<PathBuf, Failure> {
    if fits(&library) {
        return Ok(library);
    }
    let called = path::absolute(OsStr::from_bytes(linux_execfn().to_bytes())).ok();
    let by_that_name = called
        .and_then(|called| installed::near(&called, &names))
        .filter(|name| {
            fits(name) && fs::canonicalize(name).ok() == fs::canonicalize(&library).ok()
        });
    if let Some(name) = by_that_name {
        return Ok(name);
    }
    let temporary = env::temp_dir();
    let directories = [temporary.as_path(), Path::new("/tmp")];
    let made = directories
        .into_iter()
        .filter(|directory| directory.is_absolute() && fits(directory))
        .map(|directory| {
            link_in(directory, &library, names[0])
                .map_err(|error| format!(" (tried a link in {}: {error})", directory.display()))
        });
    let made = made.reduce(|first, second| first.or(second));
    made.unwrap_or(Err(String::new())).map_err(|tried| {
        refused(format!(
            "{}: LD_PRELOAD takes no path with a blank, a colon or a dollar sign{tried}: set TMPDIR to a directory of \
             yours without them, or move the library",
            library.display()
        ))
    })
}

/// The first two separate the entries of LD_PRELOAD, and the loader replaces words behind the third.
fn fits(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    !bytes.iter().any(|byte| b" :$".contains(byte))
}

/// A link to the library in a directory that only this user can write to. It is never removed: processes that the command starts
/// later need it. The next run for the same library uses it again.
fn link_in(temporary: &Path, library: &Path, name: &str) -> io::Result<PathBuf> {
    let user = geteuid().as_raw();
    let forbidden = |what: &str| Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    let others_may_write = |metadata: &Metadata| metadata.mode() & 0o022 != 0;
    let above = fs::metadata(temporary)?;
    if others_may_write(&above) && above.mode() & libc::S_ISVTX == 0
        || ![0, user].contains(&above.uid())
    {
        return forbidden("another user could replace it");
    }
    let mut hasher = DefaultHasher::new();
    library.hash(&mut hasher);
    let directory = temporary.join(format!("mrlock-{user}-{:016x}", hasher.finish()));
    match DirBuilder::new().mode(0o700).create(&directory) {
        // A daemon that gives up root still starts processes.
        Ok(()) => fs::set_permissions(&directory, Permissions::from_mode(0o755))?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let metadata = fs::symlink_metadata(&directory)?;
    if !metadata.is_dir() || metadata.uid() != user || others_may_write(&metadata) {
        return forbidden(&format!("{} is not this user's alone", directory.display()));
    }
    // From here on, nobody else can change it.
    let link = directory.join(name);
    match symlink(library, &link) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ if fs::read_link(&link)? == library => Ok(link),
        _ => forbidden(&format!("{} leads elsewhere", link.display())),
    }
}

unsafe extern "C" {
    static mut environ: *mut *mut c_char;
}

/// Loads the library into this process: the loader's own message says best what is wrong with it. (But of a library for another
/// processor it only says that there is no such file.)
fn try_to_load(library: &Path) -> Result<(), Failure> {
    let own = elf_file::OWN_PROCESSOR;
    let processor = File::open(library)
        .ok()
        .as_ref()
        .and_then(elf_file::processor);
    if let Some(processor) = processor.filter(|&processor| processor != own) {
        return Err(refused(format!(
            "{}: for {processor}, and this command is for {own}: install the library for {own}",
            library.display()
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
