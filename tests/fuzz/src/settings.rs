//! The input is an environment, a variable in each line.

use crate::environment::read;
use std::ffi::CString;

const DEFAULTS: [(&str, &str); 8] = [
    ("MRLOCK", "on"),
    ("MRLOCK_CALLS", "reg,dereg,free"),
    ("MRLOCK_MEMORY", "any"),
    ("MRLOCK_HOOKS", "verbs,ioctl"),
    ("MRLOCK_WARN_AFTER", "30"),
    ("MRLOCK_REPORT", "off"),
    ("MRLOCK_TRACE", "off"),
    ("MRLOCK_EVENTS", "65536"),
];

/// A setting that is left out or not understood has its default. The settings that the library logs mean the same when they are
/// given as settings.
pub fn check(input: &[u8]) {
    let lines = input.split(|&byte| byte == b'\n');
    let given: Vec<_> = lines.filter_map(|line| CString::new(line).ok()).collect();
    let (settings, complaints) = read(&given);
    let said = settings.to_string();
    let Some(fields) = fields(&said) else { return };

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
        let expected = match value.map(bare).filter(|value| !value.is_empty()) {
            // The name of a file is checked in report_name.rs.
            Some(_) if ["MRLOCK_REPORT", "MRLOCK_TRACE"].contains(name) => continue,
            Some(value) => understood(name, value),
            None => Some((*default).into()),
        };
        assert!(
            is_quiet || is_refused == expected.is_none(),
            "{complaints:#?}"
        );
        assert_eq!(*field, start + &expected.unwrap_or((*default).into()));
    }
    assert!(
        is_quiet || complaints.len() <= DEFAULTS.len() + 9,
        "{complaints:#?}"
    );

    if !said.contains('\\') {
        let again: Vec<_> = fields
            .iter()
            .map(|&field| CString::new(field).unwrap())
            .collect();
        let (settings, complaints) = read(&again);
        assert_eq!(settings.to_string(), said);
        assert!(
            !complaints
                .iter()
                .any(|line| line.contains("not understood")),
            "{complaints:#?}"
        );
    }
}

/// The settings in a line that names them all. Two are file names, which may contain spaces; `None` if one of them contains the
/// name of the setting behind it.
fn fields(said: &str) -> Option<[&str; 8]> {
    let start = |name| {
        let start = said.find(name).expect("it names them all");
        (said.rfind(name) == Some(start)).then_some(start)
    };
    let (trace, events) = (start(" MRLOCK_TRACE=")?, start(" MRLOCK_EVENTS=")?);
    let mut fields: Vec<_> = said[..trace].splitn(DEFAULTS.len() - 2, ' ').collect();
    fields.push(said.get(trace + 1..events)?);
    fields.push(&said[events + 1..]);
    Some(fields.try_into().expect("eight settings"))
}

/// The value without blanks and pairs of quotes around it.
pub fn bare(value: &[u8]) -> &[u8] {
    let value = value.trim_ascii();
    for quote in [b"\"", b"'"] {
        let inner = value.strip_prefix(quote);
        if let Some(inner) = inner.and_then(|inner| inner.strip_suffix(quote)) {
            return bare(inner);
        }
    }
    value
}

/// The meaning of a value, if the README describes it.
fn understood(name: &str, value: &[u8]) -> Option<String> {
    let text = &*str::from_utf8(value).ok()?.to_ascii_lowercase();
    match name {
        "MRLOCK" => match text {
            "on" | "true" | "yes" | "1" => Some("on".into()),
            "off" | "false" | "no" | "0" => Some("off".into()),
            "observe" => Some("observe".into()),
            _ => None,
        },
        "MRLOCK_CALLS" => listed(text, &["reg", "dereg", "free"]),
        "MRLOCK_HOOKS" => listed(text, &["verbs", "ioctl"]),
        "MRLOCK_MEMORY" => ["any", "device"].contains(&text).then(|| text.into()),
        "MRLOCK_WARN_AFTER" => {
            let seconds: u64 = text.parse().ok()?;
            (seconds < 1 << 32).then(|| seconds.to_string())
        }
        "MRLOCK_EVENTS" => {
            let events: u64 = text.parse().ok()?;
            (1..=1 << 24).contains(&events).then(|| events.to_string())
        }
        _ => unreachable!("{name}"),
    }
}

fn listed(text: &str, words: &[&str]) -> Option<String> {
    let items: Vec<_> = text
        .split(',')
        .map(|item| item.trim_matches(|character: char| character.is_ascii_whitespace()))
        .collect();
    let is_known = items.iter().all(|item| words.contains(item));
    let found: Vec<_> = words
        .iter()
        .filter(|word| items.contains(word))
        .copied()
        .collect();
    is_known.then(|| found.join(","))
}
