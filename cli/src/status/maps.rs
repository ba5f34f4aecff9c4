//! The mappings of a process: /proc/PID/maps.

use super::host::Directory;
use std::io;

/// A mapping of a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Its first address.
    pub start: u64,
    /// The address behind its last byte.
    pub end: u64,
    /// Whether its content can be executed.
    pub is_code: bool,
    /// Where it begins in the file.
    pub offset: u64,
    /// The device and the inode of the file, as text.
    pub file: (String, String),
    /// The name of the file, which may have got another one since, or none.
    pub name: String,
}

/// The mappings, in order of their addresses; `None` for those without a file.
pub fn read(process: &Directory) -> io::Result<Vec<Option<Mapping>>> {
    let lines = process.lines("maps")?;
    lines.map(|line| Ok(mapping(&line?))).collect()
}

/// A line: "7f00-7f10 r-xp 00000000 08:01 1234    /a name". A line feed in a name is written as "\012".
fn mapping(line: &[u8]) -> Option<Mapping> {
    let line = String::from_utf8_lossy(line);
    let (range, rest) = line.split_once(' ')?;
    let (permissions, rest) = rest.split_once(' ')?;
    let (offset, rest) = rest.split_once(' ')?;
    let (device, rest) = rest.split_once(' ')?;
    let (inode, name) = rest.split_once(' ')?;
    let name = name.trim_start_matches(' ');
    let (start, end) = range.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    name.starts_with('/').then_some(Mapping {
        start: number(start)?,
        end: number(end)?,
        is_code: permissions.contains('x'),
        offset: number(offset)?,
        file: (device.into(), inode.into()),
        name: name.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let seen = mapping(b"7f00-7f10 r-xp 00001000 08:01 1234       /a  b (deleted)");
        let expected = Mapping {
            start: 0x7f00,
            end: 0x7f10,
            is_code: true,
            offset: 0x1000,
            file: ("08:01".into(), "1234".into()),
            name: "/a  b (deleted)".into(),
        };
        assert_eq!(seen, Some(expected));
        for other in [
            &b"7f00-7f10 rw-p 00000000 00:00 0 "[..],
            b"7f00-7f10 rw-p 00000000 00:00 0      [heap]",
            b"7f00-7f10 rw-s 00000000 00:00 0      anon_inode:[io_uring]",
            b"7f00-7f10 rw-s 00000000 00:00 0 /[aio] 1-2 ) (x",
            b"zz-7f10 rw-s 00000000 00:00 0 /a",
            b"7f00 rw-s 0 0 0 /a",
            b"\xff\xfe",
            b"",
        ] {
            let is_named = other.ends_with(b"x");
            assert_eq!(mapping(other).is_some(), is_named, "{other:?}");
        }
    }
}
