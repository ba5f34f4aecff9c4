//! Why the library is not in a process, as far as this can be seen from outside.

use super::{host::Directory, library::names_library};
use crate::elf_file;
use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::unix::{ffi::OsStrExt, fs::FileExt},
    path::Path,
};

/// The reason; an error if the process cannot be looked at.
pub fn reason(process: &Directory) -> io::Result<String> {
    let values = auxiliary_values(&process.read("auxv")?);
    let value = |kind| values.iter().find(|(of, _)| *of == kind).map(|it| it.1);
    if values.is_empty() {
        return Ok("it has no program: a thread of the kernel, or about to end".into());
    }
    if value(libc::AT_SECURE) == Some(1) {
        return Ok(secure(process));
    }
    let memory = process.file("mem");
    if let (Some(headers), Some(count)) = (value(libc::AT_PHDR), value(libc::AT_PHNUM))
        && memory.is_ok_and(|memory| has_loader(&memory, headers, count) == Some(false))
    {
        return Ok("statically linked: there is no loader".into());
    }
    let environment = process.read("environ")?;
    let list = environment
        .split(|&byte| byte == 0)
        .find_map(|variable| variable.strip_prefix(b"LD_PRELOAD="));
    let Some(list) = list.filter(|list| !list.is_empty()) else {
        return Ok("started without LD_PRELOAD".into());
    };
    let mut entries = list
        .split(|byte| b": ".contains(byte))
        .map(String::from_utf8_lossy);
    let Some(library) = entries.find(|entry| names_library(entry)) else {
        let list = String::from_utf8_lossy(list);
        return Ok(format!(
            "started with LD_PRELOAD={list}, which does not name the library"
        ));
    };
    let path = Path::new(OsStr::from_bytes(library.as_bytes()));
    if matches!(process.sees(path), Ok(false)) {
        let own = Directory::open(std::process::id() as i32)?;
        let elsewhere = match own.link("ns/mnt") == process.link("ns/mnt") {
            true => "",
            false => "in another mount namespace, where ",
        };
        return Ok(format!("{elsewhere}{library} is not there"));
    }
    let file = process.file_in_root(path).ok();
    if let Some(other) = file.as_ref().and_then(elf_file::processor)
        && other != elf_file::OWN_PROCESSOR
    {
        return Ok(format!("{library} is for {other}: its loader refused it"));
    }
    Ok(format!(
        "{library} was not there when it was started, or its loader refused it"
    ))
}

/// The kernel has told the loader to distrust the environment.
fn secure(process: &Directory) -> String {
    let profile = process
        .read("attr/apparmor/current")
        .or_else(|_| process.read("attr/current"))
        .unwrap_or_default();
    let profile = String::from_utf8_lossy(&profile);
    let profile = profile.trim_matches(['\n', '\0']);
    let reason = "set-uid, set-gid or with capabilities";
    match profile {
        "" | "unconfined" => format!("{reason}: the loader ignores LD_PRELOAD"),
        profile => format!(
            "{reason}, or its profile of AppArmor or SELinux was entered so ({profile}): the loader ignores LD_PRELOAD"
        ),
    }
}

/// Pairs of a kind and a value: /proc/PID/auxv.
fn auxiliary_values(bytes: &[u8]) -> Vec<(u64, u64)> {
    let words = bytes.as_chunks().0.iter().copied().map(u64::from_ne_bytes);
    let words: Vec<u64> = words.collect();
    words
        .as_chunks()
        .0
        .iter()
        .map(|&[kind, value]| (kind, value))
        .collect()
}

/// Whether the program, whose headers lie at this address, names a loader.
fn has_loader(memory: &File, headers: u64, count: u64) -> Option<bool> {
    const HEADER: u64 = 56;
    for index in 0..count.min(256) {
        let mut kind = [0; 4];
        let at = headers.wrapping_add(index * HEADER);
        memory.read_exact_at(&mut kind, at).ok()?;
        if u32::from_ne_bytes(kind) == elf::abi::PT_INTERP {
            return Some(true);
        }
    }
    Some(false)
}
