//! The input is an environment, a variable in each line.

use crate::environment::read;
use std::ffi::CString;

const DEFAULTS: [(&str, &str); 6] = [
    ("MRLOCK", "on"),
    ("MRLOCK_CALLS", "reg,dereg"),
    ("MRLOCK_MEMORY", "any"),
    ("MRLOCK_HOOKS", "verbs,ioctl"),
    ("MRLOCK_WARN_AFTER", "30"),
    ("MRLOCK_REPORT", "off"),
];

/// A setting that is left out or not understood has its default; what the library says that the settings are has the same
/// meaning when it is given as settings.
pub fn check(input: &[u8]) {
    let lines = input.split(|&byte| byte == b'\n');
    let given: Vec<_> = lines.filter_map(|line| CString::new(line).ok()).collect();
    let (config, complaints) = read(&given);
    let said = config.to_string();
    let fields = fields(&said);

    let is_quiet = given
        .iter()
        .any(|line| line.as_bytes().starts_with(b"MRLOCK_LOG="));
    for ((name, default), field) in DEFAULTS.iter().zip(&fields) {
        let start = format!("{name}=");
        let value = given
            .iter()
            .find_map(|line| line.as_bytes().strip_prefix(start.as_bytes()));
        let is_refused = complaints
            .iter()
            .any(|line| line.starts_with(&start) && line.contains("not understood"));
        if value.is_none_or(<[u8]>::is_empty) || is_refused {
            assert_eq!(*field, format!("{start}{default}"));
        } else if !is_quiet && *name != "MRLOCK_REPORT" {
            let plain =
                |byte: u8| byte.is_ascii_alphanumeric() || b", \t\n\x0b\x0c\r+".contains(&byte);
            assert!(
                value.unwrap().iter().all(|&byte| plain(byte)),
                "{value:x?} was understood"
            );
        }
    }
    assert!(
        is_quiet || complaints.len() <= DEFAULTS.len() + 2,
        "{complaints:#?}"
    );

    if !said.contains('\\') {
        let again: Vec<_> = fields
            .iter()
            .map(|&field| CString::new(field).unwrap())
            .collect();
        let (config, complaints) = read(&again);
        assert_eq!(config.to_string(), said);
        assert!(
            !complaints
                .iter()
                .any(|line| line.contains("not understood")),
            "{complaints:#?}"
        );
    }
}

/// The settings in a line that names them all. The last, a file name, may have spaces in it.
fn fields(said: &str) -> [&str; 6] {
    let fields: Vec<_> = said.splitn(DEFAULTS.len(), ' ').collect();
    fields.try_into().expect("six settings")
}
