//! The record of a process, as it lies in its memory.

use super::{
    absent, denied,
    host::Directory,
    library::{self, Unread},
    maps,
    seen::Coverage,
};
use crate::record::Record;
use std::io::{self, ErrorKind};

/// The record, and the copy of the library that writes it.
pub struct Found {
    /// The record.
    pub record: Record,
    /// The file of this copy.
    pub file: String,
    /// The files of the other copies in the process.
    pub other_copies: Vec<String>,
}

/// The record of the copy that the program reaches; otherwise, what is known about the library in the process.
pub fn found(process: &Directory) -> Result<Found, Coverage> {
    let unknown = |error: io::Error| Coverage::Unknown {
        reason: denied::why(process.pid, &error),
    };
    let copies = library::copies(&maps::read(process).map_err(unknown)?);
    if copies.is_empty() {
        let reason = absent::reason(process).map_err(unknown)?;
        return Err(Coverage::NotCovered { reason });
    }
    let unreadable = |error: &io::Error| Coverage::Unreadable {
        reason: match error.kind() {
            ErrorKind::PermissionDenied => denied::why(process.pid, error),
            _ => format!("its memory cannot be read ({error})"),
        },
    };
    let memory = process.file("mem").map_err(|error| unreadable(&error))?;
    let mut read = Vec::new();
    let mut failed = None;
    for (index, copy) in copies.iter().enumerate() {
        match library::record(process, &memory, copy) {
            Ok(record) => read.push((index, record)),
            Err(Unread::Denied(error)) => failed = Some(unreadable(&error)),
            Err(Unread::Damaged(reason)) => failed = Some(Coverage::Unreadable { reason }),
        }
    }
    let calls = |record: &Record| -> u64 {
        let calls = record.operations.iter().map(|operation| operation.calls);
        calls.fold(0, u64::saturating_add)
    };
    // Of two copies without a call, the one that calls would reach.
    let in_use = |record: &Record| (calls(record), record.hooks.len());
    let Some((index, record)) = read.into_iter().max_by_key(|(_, record)| in_use(record)) else {
        return Err(failed.unwrap_or(Coverage::Unreadable {
            reason: "the library has no record".into(),
        }));
    };
    let mut files: Vec<_> = copies.into_iter().map(|copy| copy.file).collect();
    Ok(Found {
        record,
        file: files.remove(index),
        other_copies: files,
    })
}
