//! The library in a process: where it is mapped, and its record.

use super::{device, host::Directory, image, maps::Mapping};
use crate::record::{Damage, Memory, Record};
use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

/// One copy of the library in a process.
pub struct Copy {
    /// Its file.
    pub file: String,
    /// Where it begins.
    pub start: u64,
    /// The address behind its last byte.
    end: u64,
    /// Whether some of it can be executed: a debugger maps the file only to read it.
    is_code: bool,
}

/// The copies of the library among these mappings, which are in order of their addresses.
pub fn copies(mappings: &[Option<Mapping>]) -> Vec<Copy> {
    let mut copies: Vec<Copy> = Vec::new();
    let mut before: Option<&Mapping> = None;
    // An anonymous mapping may lie between two of the same file.
    for mapping in mappings.iter().flatten() {
        if names_library(&mapping.name) {
            let is_same = before.is_some_and(|before| before.file == mapping.file);
            match copies.last_mut() {
                // The first page may be mapped twice: to read, and to execute.
                Some(copy) if is_same && (mapping.offset > 0 || !copy.is_code) => {
                    copy.end = mapping.end;
                    copy.is_code |= mapping.is_code;
                }
                _ => copies.push(Copy {
                    file: mapping.name.clone(),
                    start: mapping.start,
                    end: mapping.end,
                    is_code: mapping.is_code,
                }),
            }
        }
        before = Some(mapping);
    }
    copies.retain(|copy| copy.is_code);
    copies
}

/// The name of its file begins with libmrlock; a version or a wheel's hash may follow.
pub fn names_library(file: &str) -> bool {
    let name = Path::new(file).file_name();
    name.is_some_and(|name| name.to_string_lossy().starts_with("libmrlock"))
}

/// Why a record was not read.
pub enum Unread {
    /// The process's memory cannot be read.
    Denied(io::Error),
    /// The record is not there, or is damaged.
    Damaged(String),
}

/// Reads the record of this copy, also if the library writes it into a file.
pub fn record(process: &Directory, memory: &File, copy: &Copy) -> Result<Record, Unread> {
    let length = (copy.end.saturating_sub(copy.start) as usize).min(image::LARGEST);
    let image = bytes(memory, copy.start, length).map_err(Unread::Denied)?;
    let offset = image::symbol(&image, copy.start, "mrlock_record").ok_or_else(|| {
        let file = &copy.file;
        Unread::Damaged(format!(
            "{file} has no symbol mrlock_record: is it older than this command?"
        ))
    })?;
    let device = |bits| device::name(process, memory, bits);
    let at = |start| Record::in_memory(&Memory { memory, start }, &device);
    // Another process's number: an address that wraps around cannot be read.
    let mut record = at(copy.start.wrapping_add(offset));
    if let Ok(Record { moved, .. }) = record
        && moved != 0
    {
        record = at(moved);
    }
    record.map_err(|damage| match damage {
        Damage::Unreadable(error) => Unread::Denied(error),
        damage => Unread::Damaged(format!("{}: {damage}", copy.file)),
    })
}

/// What can be read of this memory, page by page; the rest is zero. An error if nothing can.
fn bytes(memory: &File, start: u64, length: usize) -> io::Result<Vec<u8>> {
    const PAGE: usize = 4096;
    let mut bytes = vec![0; length];
    if memory.read_exact_at(&mut bytes, start).is_ok() {
        return Ok(bytes);
    }
    let mut outcome = Err(io::Error::from_raw_os_error(libc::EIO));
    for (page, part) in (0..).step_by(PAGE).zip(bytes.chunks_mut(PAGE)) {
        match memory.read_exact_at(part, start.wrapping_add(page)) {
            Ok(()) => outcome = Ok(()),
            Err(error) if outcome.is_err() => outcome = Err(error),
            Err(_) => {}
        }
    }
    outcome.map(|()| bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(start: u64, is_code: bool, offset: u64, inode: &str, name: &str) -> Option<Mapping> {
        Some(Mapping {
            start,
            end: start + 0x1000,
            is_code,
            offset,
            file: ("08:01".into(), inode.into()),
            name: name.into(),
        })
    }

    #[test]
    fn copies_of_the_library() {
        let (one, two) = ("/a/libmrlock.so.0", "/b/libmrlock-1.so (deleted)");
        let seen = copies(&[
            mapping(0x1000, true, 0, "1", "/bin/sh"),
            mapping(0x2000, false, 0, "2", one),
            mapping(0x3000, true, 0, "2", one),
            None,
            mapping(0x5000, false, 0x1000, "2", one),
            mapping(0x6000, false, 0, "2", one),
            mapping(0x7000, true, 0x1000, "2", one),
            mapping(0x8000, false, 0, "3", two),
            mapping(0x9000, true, 0x1000, "3", two),
            // A debugger's.
            mapping(0xa000, false, 0, "4", one),
            mapping(0xb000, true, 0, "5", "/libmrlock/x.so"),
        ]);
        let seen: Vec<_> = seen
            .iter()
            .map(|copy| (&*copy.file, copy.start, copy.end))
            .collect();
        let expected = [
            (one, 0x2000, 0x6000),
            (one, 0x6000, 0x8000),
            (two, 0x8000, 0xa000),
        ];
        assert_eq!(seen, expected);
    }
}
