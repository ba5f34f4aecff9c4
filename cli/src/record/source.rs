//! Where a record lies.

use super::Damage;
use rustix::fs::{CWD, Mode, OFlags, openat};
use std::{
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
    path::Path,
};

/// Bytes that can be read again: a process may be writing them.
pub trait Source {
    /// How many bytes there are; `None` if there is no end to speak of.
    fn length(&self) -> io::Result<Option<u64>>;

    /// Reads from `offset` on. The bytes that are not there are zero.
    fn copy_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;
}

/// A record in the memory of a process.
pub struct Memory<'a> {
    /// /proc/PID/mem.
    pub memory: &'a File,
    /// Where the record begins.
    pub start: u64,
}

impl Source for Memory<'_> {
    fn length(&self) -> io::Result<Option<u64>> {
        Ok(None)
    }

    fn copy_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        // The start is another process's number: an address that wraps around cannot be read.
        self.memory
            .read_exact_at(bytes, self.start.wrapping_add(offset))
    }
}

impl Source for File {
    fn length(&self) -> io::Result<Option<u64>> {
        Ok(Some(self.metadata()?.len()))
    }

    fn copy_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        match self.read_exact_at(bytes, offset) {
            // It was cut after its length was looked at.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                bytes.fill(0);
                Ok(())
            }
            read => read,
        }
    }
}

impl Source for [u8] {
    fn length(&self) -> io::Result<Option<u64>> {
        Ok(Some(self.len() as u64))
    }

    fn copy_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let there = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.get(offset..))
            .unwrap_or_default();
        let (start, rest) = bytes.split_at_mut(there.len().min(bytes.len()));
        start.copy_from_slice(&there[..start.len()]);
        rest.fill(0);
        Ok(())
    }
}

/// Opens a regular file. It never waits, as an open of a pipe without a writer would.
pub fn open(path: &Path) -> Result<File, Damage> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(openat(CWD, path, flags, Mode::empty()).map_err(io::Error::from)?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(Damage::NoFile),
    }
}
