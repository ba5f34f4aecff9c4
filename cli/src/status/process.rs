//! Whether a process has the library, and if not, why.

use super::block::Library;
use procfs::{
    FromBufRead as _,
    process::{self, MMapPath, MemoryMap, MemoryMaps, Stat},
};
use serde::Serialize;
use std::{
    ffi::OsStr,
    fs,
    io::Read as _,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// A process.
#[derive(Serialize)]
pub struct Process {
    pub pid: i32,
    pub parent: i32,
    /// How many generations it is below the process that the user named.
    #[serde(skip)]
    pub depth: usize,
    /// The name that the kernel has for it.
    pub program: String,
    #[serde(flatten)]
    pub coverage: Coverage,
}

/// What is known about the library in a process.
#[derive(Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Coverage {
    /// It is mapped.
    Covered(Library),
    /// It is mapped, but its block could not be read.
    Unreadable { reason: String },
    /// It is not mapped.
    NotCovered { reason: String },
    /// Nothing is known.
    Unknown { reason: String },
}

/// Whether the library is mapped in this process, as far as is known.
pub fn has_library(pid: i32) -> bool {
    let process = process::Process::new(pid);
    process.is_ok_and(|process| mapping_of_library(&process).is_ok_and(|found| found.is_some()))
}

impl Process {
    /// Looks at a process.
    pub fn look_at(stat: &Stat, depth: usize) -> Self {
        Self {
            pid: stat.pid,
            parent: stat.ppid,
            depth,
            program: stat.comm.clone(),
            coverage: coverage(stat.pid),
        }
    }
}

fn coverage(pid: i32) -> Coverage {
    let unknown = |error: procfs::ProcError| Coverage::Unknown {
        reason: format!("it cannot be looked at ({error}): run this as root"),
    };
    let process = match process::Process::new(pid) {
        Ok(process) => process,
        Err(error) => return unknown(error),
    };
    match mapping_of_library(&process) {
        Err(error) => unknown(error),
        Ok(Some(mapping)) => match Library::read(&process, &mapping) {
            Ok(library) => Coverage::Covered(library),
            Err(reason) => Coverage::Unreadable { reason },
        },
        Ok(None) => Coverage::NotCovered {
            reason: reason(&process),
        },
    }
}

/// The library's first mapping. The name of its file begins with libmrlock; a version or a wheel's hash may follow.
fn mapping_of_library(process: &process::Process) -> procfs::ProcResult<Option<MemoryMap>> {
    let is_library = |mapping: &MemoryMap| match &mapping.pathname {
        MMapPath::Path(file) => mapping.offset == 0 && names_library(file),
        _ => false,
    };
    // Not `Process::maps`, which fails if any name is not UTF-8.
    let mut text = Vec::new();
    process.open_relative("maps")?.read_to_end(&mut text)?;
    let maps = MemoryMaps::from_buf_read(String::from_utf8_lossy(&text).as_bytes())?;
    Ok(maps.into_iter().find(is_library))
}

fn names_library(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default();
    name.as_bytes().starts_with(b"libmrlock")
}

/// Why the library is not in this process, as far as this can be seen from outside.
fn reason(process: &process::Process) -> String {
    const AT_SECURE: u64 = 23;
    if process
        .auxv()
        .is_ok_and(|values| values.get(&AT_SECURE) == Some(&1))
    {
        return "set-uid, set-gid or with capabilities: the loader ignores LD_PRELOAD".into();
    }
    if is_static(process.pid()) == Some(true) {
        return "statically linked: there is no loader".into();
    }
    let environment = match process.environ() {
        Ok(environment) => environment,
        Err(error) => return format!("its environment cannot be read ({error}): run this as root"),
    };
    let Some(list) = environment
        .get(OsStr::new("LD_PRELOAD"))
        .filter(|list| !list.is_empty())
    else {
        return "started without LD_PRELOAD".into();
    };
    let mut entries = list.as_bytes().split(|byte| b": ".contains(byte));
    let Some(library) = entries.find(|entry| names_library(Path::new(OsStr::from_bytes(entry))))
    else {
        return format!(
            "started with LD_PRELOAD={}, which does not name the library",
            list.display()
        );
    };
    let library = Path::new(OsStr::from_bytes(library));
    let root = PathBuf::from(format!("/proc/{}/root", process.pid()));
    let seen = root.join(library.strip_prefix("/").unwrap_or(library));
    if fs::exists(seen).is_ok_and(|exists| !exists) {
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
        let elsewhere = match namespace(&process.pid().to_string()) == namespace("self") {
            true => "",
            false => "in another mount namespace, where ",
        };
        return format!("{elsewhere}{} is not there", library.display());
    }
    format!(
        "{} was not there when it was started, or its loader refused it",
        library.display()
    )
}

/// Whether the program has no loader.
fn is_static(pid: i32) -> Option<bool> {
    let program = fs::File::open(format!("/proc/{pid}/exe")).ok()?;
    let segments = crate::elf_file::segments(&program)?;
    Some(
        !segments
            .iter()
            .any(|segment| segment.p_type == elf::abi::PT_INTERP),
    )
}
