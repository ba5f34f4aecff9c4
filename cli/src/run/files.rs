//! Whether the report and the trace can be written, before the command has run for hours. Nothing is made: a file of a process
//! that never registers should not appear, and one of another process has another name.

use crate::record::{self, Source as _, layout::MAGIC};
use rustix::{
    fs::{Access, access},
    system::uname,
};
use std::{
    ffi::OsString,
    fs, io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    process,
};

/// Why the file of this name could not be written by the command; `name` is absolute. A report is appended to a file that
/// exists; a record is made beside it, under another name.
pub fn can_be_made(name: &Path, is_record: bool) -> Result<(), String> {
    // What is behind these names is another file in another process.
    if name.starts_with("/dev") || name.starts_with("/proc") {
        return Ok(());
    }
    let file = for_this_process(name);
    match fs::metadata(&file) {
        Ok(metadata) if metadata.is_dir() => {
            Err(io::Error::from_raw_os_error(libc::EISDIR).to_string())
        }
        Ok(_) if !is_record => {
            access(&file, Access::WRITE_OK).map_err(|errno| io::Error::from(errno).to_string())
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.to_string()),
        _ => {
            let directory = file.parent().unwrap_or(Path::new("/"));
            access(directory, Access::WRITE_OK | Access::EXEC_OK).map_err(|errno| {
                format!(
                    "directory {}: {}",
                    directory.display(),
                    io::Error::from(errno)
                )
            })
        }
    }
}

/// Whether the file holds a record: the command's would get another name, and this one would be taken for it.
pub fn holds_a_record(name: &Path) -> bool {
    let mut start = [0; size_of::<u64>()];
    let file = record::open(&for_this_process(name));
    file.is_ok_and(|file| file.copy_at(&mut start, 0).is_ok()) && u64::from_ne_bytes(start) == MAGIC
}

/// The name with the placeholders filled in. The command will have the id of this process.
fn for_this_process(name: &Path) -> PathBuf {
    let (mut filled, mut bytes) = (vec![], name.as_os_str().as_bytes().iter());
    while let Some(&byte) = bytes.next() {
        let rest = bytes.as_slice();
        let placeholder = if byte == b'%' { rest.first() } else { None };
        match placeholder {
            Some(b'p') => filled.extend(process::id().to_string().into_bytes()),
            Some(b'h') => filled.extend(uname().nodename().to_bytes()),
            Some(b'%') => filled.push(b'%'),
            _ => {
                filled.push(byte);
                continue;
            }
        }
        bytes.next();
    }
    OsString::from_vec(filled).into()
}
