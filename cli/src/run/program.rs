//! The kind of the command's file, and whether it would run with the library.

use super::{cannot_run, refused};
use crate::{elf_file, failure::Failure};
use elf::abi;
use rustix::{
    fs::{Access, access, getxattr_query},
    process::{getgid, getuid},
    thread::no_new_privs,
};
use std::{
    env,
    ffi::{OsStr, OsString},
    fs::{self, File, Metadata},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    process::Command,
};

/// An interpreter may itself be a script. The kernel follows only a few of them.
const SCRIPTS_AT_MOST: u32 = 5;

/// The file that execvp(3) would run.
pub fn find(command: &OsStr) -> Result<PathBuf, Failure> {
    if command.is_empty() || command.as_bytes().contains(&b'/') {
        return Ok(command.into());
    }
    let path = env::var_os("PATH").unwrap_or_else(|| OsString::from("/bin:/usr/bin"));
    let mut error = io::Error::from_raw_os_error(libc::ENOENT);
    for directory in env::split_paths(&path) {
        // An empty entry is the current directory.
        let program = Path::new(".").join(directory).join(command);
        if program.is_file() {
            match access(&program, Access::EXEC_OK) {
                Ok(()) => return Ok(program),
                Err(errno) => error = errno.into(),
            }
        }
    }
    Err(cannot_run(command, &error))
}

/// Refuses `program` if it, or what interprets it, would run without the library. Returns what the user should know otherwise.
pub fn check(program: &Path, library: &Path) -> Result<Option<String>, Failure> {
    look_at(program, library, 0)
}

fn look_at(program: &Path, library: &Path, scripts: u32) -> Result<Option<String>, Failure> {
    let failed = |error| cannot_run(program.as_os_str(), &error);
    let file = match File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(program)
    {
        Ok(file) => file,
        // The user may run the file but not read it. So it is not a script: an interpreter would have to read it.
        Err(error)
            if error.kind() == io::ErrorKind::PermissionDenied
                && access(program, Access::EXEC_OK).is_ok() =>
        {
            let metadata = fs::metadata(program).map_err(failed)?;
            return look_at_privileges(program, &metadata).map(|()| None);
        }
        Err(error) => return Err(failed(error)),
    };
    let metadata = file.metadata().map_err(failed)?;
    let mut start = [0; libc::PATH_MAX as usize];
    let length = file.read_at(&mut start, 0).map_err(failed)?;
    let start = &start[..length];
    if let Some(line) = start.strip_prefix(b"#!")
        && scripts < SCRIPTS_AT_MOST
    {
        let mut words = line
            .trim_ascii_start()
            .split(|byte| b" \t\n".contains(byte));
        let interpreter = OsStr::from_bytes(words.next().unwrap_or_default());
        look_at(Path::new(interpreter), library, scripts + 1)
    } else if start.starts_with(&abi::ELFMAGIC) {
        look_at_privileges(program, &metadata)?;
        look_at_loader(program, &file, library)
    } else {
        Ok(None)
    }
}

/// Refuses `program` if the loader would ignore LD_PRELOAD, because it has privileges that its user does not have.
fn look_at_privileges(program: &Path, metadata: &Metadata) -> Result<(), Failure> {
    let has = |bits| metadata.mode() & bits == bits;
    // The set-gid bit counts only if the group may execute the file. If the user gains nothing, the loader honours LD_PRELOAD.
    let gains = has(libc::S_ISUID) && metadata.uid() != getuid().as_raw()
        || has(libc::S_ISGID | libc::S_IXGRP) && metadata.gid() != getgid().as_raw();
    let shown = program.display();
    if gains && no_new_privs() != Ok(true) {
        return Err(refused(format!(
            "{shown}: set-uid or set-gid: the loader ignores LD_PRELOAD"
        )));
    }
    // With no_new_privs it gets no capabilities, but the loader ignores LD_PRELOAD all the same.
    if !getuid().is_root()
        && getxattr_query(program, "security.capability").is_ok_and(|length| length > 0)
    {
        return Err(refused(format!(
            "{shown}: has file capabilities: the loader ignores LD_PRELOAD"
        )));
    }
    Ok(())
}

/// Refuses `program` if the loader that it names cannot load the library.
fn look_at_loader(program: &Path, file: &File, library: &Path) -> Result<Option<String>, Failure> {
    let shown = program.display();
    let own = elf_file::OWN_PROCESSOR;
    match elf_file::processor(file) {
        Some(processor) if processor == own => {}
        Some(processor) => {
            return Err(refused(format!(
                "{shown}: a program for {processor}, and {} is for {own}: install mrlock for {processor}",
                library.display()
            )));
        }
        None => {
            return Err(refused(format!(
                "{shown}: no 64-bit program for {own}: the library cannot be loaded into it"
            )));
        }
    }
    let Some(segments) = elf_file::segments(file) else {
        return Ok(None); // the kernel will refuse it
    };
    let Some(loader) = elf_file::loader(file, &segments) else {
        // For example an init process for containers, or a loader that is run as a program: the library matters only in the
        // programs that it starts.
        return Ok(Some(format!(
            "warning: {shown}: statically linked: the library is loaded only into what it runs"
        )));
    };
    // glibc's loader has several names.
    let name = loader.file_name().unwrap_or_default();
    if name.as_bytes().starts_with(b"ld-musl") {
        return Err(refused(format!(
            "{shown}: not a glibc program, its loader is {}",
            loader.display()
        )));
    }
    if is_ours(&loader) {
        return Ok(None); // it has loaded the library into this process
    }
    ask(&loader, program, library).map(|()| None)
}

/// Whether this process was loaded by `loader`, too.
fn is_ours(loader: &Path) -> bool {
    let identity = |file: &Path| fs::metadata(file).ok().map(|file| (file.dev(), file.ino()));
    let ours = File::open("/proc/self/exe").ok().and_then(|file| {
        let segments = elf_file::segments(&file)?;
        elf_file::loader(&file, &segments)
    });
    ours.is_some_and(|ours| identity(&ours).is_some() && identity(&ours) == identity(loader))
}

/// Runs a loader that is not ours to find out whether it would load the library: it may belong to a libc that is too old.
fn ask(loader: &Path, program: &Path, library: &Path) -> Result<(), Failure> {
    let output = Command::new(loader)
        .arg("--list")
        .arg(program)
        .env("LD_PRELOAD", library)
        .output();
    // If the loader cannot be run, the command's own start will fail with the reason.
    let Ok(output) = output else { return Ok(()) };
    let said = [output.stderr, output.stdout].concat();
    let said = String::from_utf8_lossy(&said);
    let library = library.to_string_lossy();
    let complains = |line: &&str| {
        line.contains(&*library)
            && (line.contains("not found") || line.contains("cannot be preloaded"))
    };
    match said.lines().find(complains) {
        Some(line) => Err(refused(format!(
            "{}: its own loader {} cannot load the library: {}",
            program.display(),
            loader.display(),
            line.trim()
        ))),
        None => Ok(()),
    }
}
