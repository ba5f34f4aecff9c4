//! Whether the process that writes a record into a file still runs.

use super::{host::Directory, maps};
use crate::record::{Record, State};
use rustix::system::uname;
use std::{fs, io::ErrorKind, os::unix::fs::MetadataExt};

/// What is known of a process.
pub enum Life {
    /// It runs.
    Runs(Directory),
    /// It has run the library's destructor.
    HasEnded,
    /// It ended in another way: by a signal, or by _exit or execve.
    WasEnded,
    /// It ran on another host or in another pid namespace, or this command may not look at it.
    Unknown,
}

/// Of the process that this record is of. `inode`: of the record's file.
pub fn life(record: &Record, inode: u64) -> Life {
    if record.state == State::Ended {
        return Life::HasEnded;
    }
    let process = i32::try_from(record.process).unwrap_or(0);
    let process = Directory::open(process).and_then(|it| Ok((maps::read(&it)?, it)));
    // Only the inode is compared: on an overlay, or on btrfs, the mapping has the number of another device.
    let has_file = |(mappings, _): &(Vec<Option<maps::Mapping>>, _)| {
        let mut mappings = mappings.iter().flatten();
        mappings.any(|mapping| mapping.file.1.parse() == Ok(inode))
    };
    match process {
        Ok(found) if has_file(&found) => Life::Runs(found.1),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Life::Unknown,
        // Another process has its id, or none.
        _ if was_here(record) => Life::WasEnded,
        _ => Life::Unknown,
    }
}

/// Whether the process's id is one of those that /proc shows here.
fn was_here(record: &Record) -> bool {
    let namespace = fs::metadata("/proc/self/ns/pid").map(|file| file.ino());
    // The first pid namespace has the same inode on each host.
    namespace.is_ok_and(|own| own == record.namespace)
        && uname().nodename().to_string_lossy() == record.host
}
