//! The input is the name of the file for the report.

use crate::{
    base::settings::{Path, Report},
    environment::read,
    settings::bare,
};
use std::{env, ffi::CString, os::unix::ffi::OsStrExt};

/// The library completes a name as simple code does, unless the result is too long.
pub fn check(input: &[u8]) {
    let Ok(variable) = CString::new([b"MRLOCK_REPORT=", input].concat()) else {
        return;
    };
    let (settings, complaints) = read(&[variable]);
    let input = bare(input);
    let mut expected = Vec::new();
    if !input.starts_with(b"/") {
        expected.extend(
            env::current_dir()
                .expect("it exists")
                .as_os_str()
                .as_bytes(),
        );
        expected.push(b'/');
    }
    let is_kept = expected.len() + input.len() < libc::PATH_MAX as usize;
    let Report::File(name) = &settings.report else {
        // One of the words that are not file names, or near to one.
        assert!(is_kept || !complaints.is_empty());
        assert!(
            !is_kept || input.len() <= b"/proc/self/fd/2".len(),
            "it is forgotten"
        );
        return;
    };
    assert!(is_kept, "it is kept");

    let process = i32::MAX >> (input.len() % 31);
    expected.extend(replaced(input, process));
    expected.push(0);
    let mut path = Path::new();
    let is_complete = name.write_for_process(process, &mut path);
    assert_eq!(is_complete, expected.len() <= libc::PATH_MAX as usize);
    if is_complete {
        assert_eq!(path.as_bytes(), expected);
    }
}

fn replaced(name: &[u8], process: i32) -> Vec<u8> {
    let host = std::fs::read("/proc/sys/kernel/hostname").expect("the host's name");
    let mut parts = Vec::new();
    let mut bytes = name.iter().peekable();
    while let Some(&byte) = bytes.next() {
        match bytes.peek() {
            Some(b'p') if byte == b'%' => parts.extend(process.to_string().bytes()),
            Some(b'h') if byte == b'%' => parts.extend(host.trim_ascii_end()),
            Some(b'%') if byte == b'%' => parts.push(b'%'),
            _ => {
                parts.push(byte);
                continue;
            }
        }
        bytes.next();
    }
    parts
}
