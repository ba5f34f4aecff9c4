//! Whether the process of a record in a file still runs.

use super::{
    found::{Found, found},
    host::Directory,
    seen::Coverage,
};
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

/// Of the process that this record is of.
pub fn life(record: &Record) -> Life {
    if record.state == State::Ended {
        return Life::HasEnded;
    }
    if !was_here(record) {
        return Life::Unknown;
    }
    let process = match Directory::open(i32::try_from(record.process).unwrap_or(0)) {
        Ok(process) => process,
        Err(error) if error.kind() == ErrorKind::NotFound => return Life::WasEnded,
        Err(_) => return Life::Unknown,
    };
    match found(&process) {
        Ok(Found { record: own, .. }) if own.is_same_process(record) => Life::Runs(process),
        // Another process has got its id.
        Ok(_) | Err(Coverage::NotCovered { .. }) => Life::WasEnded,
        // It may have ended meanwhile.
        Err(_) if !process.is_alive() => Life::WasEnded,
        Err(_) => Life::Unknown,
    }
}

/// Whether the process's id is one of those that /proc shows here.
fn was_here(record: &Record) -> bool {
    let namespace = fs::metadata("/proc/self/ns/pid").map(|file| file.ino());
    // The first pid namespace has the same inode on each host.
    namespace.is_ok_and(|own| own == record.namespace)
        && uname().nodename().to_string_lossy() == record.host
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{layout as l, sample};
    use std::mem::offset_of;

    /// This process is none of the record's, and no process has the id 0.
    #[test]
    fn a_process_that_does_not_run() {
        let namespace = fs::metadata("/proc/self/ns/pid").expect("/proc").ino();
        let host = uname().nodename().to_str().expect("a name").to_owned();
        let life_of = |process: u32, host: &str, state: u64| {
            let mut bytes = sample::sample();
            let b = &mut bytes;
            sample::put(b, offset_of!(l::Record, header.process), process.into());
            sample::put(b, offset_of!(l::Record, header.namespace), namespace);
            sample::put(b, offset_of!(l::Record, header.state), state);
            sample::write(b, offset_of!(l::Record, header.host), host);
            life(&Record::in_bytes(b).expect("a record"))
        };
        let own = std::process::id();
        assert!(matches!(life_of(0, &host, l::RUNNING), Life::WasEnded));
        assert!(matches!(life_of(own, &host, l::RUNNING), Life::WasEnded));
        assert!(matches!(
            life_of(own, "elsewhere", l::RUNNING),
            Life::Unknown
        ));
        assert!(matches!(
            life_of(own, "elsewhere", l::ENDED),
            Life::HasEnded
        ));
    }
}
