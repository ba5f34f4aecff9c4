//! How a value is understood: as words, a number or a file name. `None` is a value that is not.

use super::{
    Calls, FileName, Hooks, MemoryKind, Mode, Report,
    file_name::{REPORT_NAME, TRACE_NAME},
    spelling::near_word,
};
use log::LevelFilter;

pub(super) fn mode(value: &[u8]) -> Option<Mode> {
    match switch(value) {
        Some(true) => Some(Mode::On),
        Some(false) => Some(Mode::Off),
        None => is(value, "observe").then_some(Mode::Observe),
    }
}

pub(super) fn calls(value: &[u8]) -> Option<Calls> {
    let [reg, dereg, free] = list(value, ["reg", "dereg", "free"])?;
    Some(Calls { reg, dereg, free })
}

pub(super) fn memory(value: &[u8]) -> Option<MemoryKind> {
    if is(value, "any") {
        Some(MemoryKind::Any)
    } else if is(value, "device") {
        Some(MemoryKind::Device)
    } else {
        None
    }
}

/// Whether this library has the verbs hooks.
pub(super) const HAS_VERBS: bool = cfg!(feature = "verbs");

pub(super) fn hooks(value: &[u8]) -> Option<Hooks> {
    let [verbs, ioctl] = list(value, ["verbs", "ioctl"])?;
    (HAS_VERBS || ioctl).then_some(Hooks {
        verbs: verbs && HAS_VERBS,
        ioctl,
    })
}

pub(super) fn level(value: &[u8]) -> Option<LevelFilter> {
    LevelFilter::iter().find(|level| is(value, level.as_str()))
}

/// At most u32::MAX seconds, which fit in 64 bits of nanoseconds.
pub(super) fn seconds(value: &[u8]) -> Option<u64> {
    number(value).filter(|&seconds| seconds <= u32::MAX.into())
}

pub(super) fn events(value: &[u8]) -> Option<u64> {
    number(value).filter(|events| (1..=1 << 24).contains(events))
}

pub(super) fn report(value: &[u8]) -> Option<Report> {
    match switch(value) {
        Some(true) => Some(Report::Stderr),
        Some(false) => Some(Report::Off),
        None => stream(value)
            .or_else(|| FileName::keep(file_name(value)?, &REPORT_NAME).map(Report::File)),
    }
}

pub(super) fn trace(value: &[u8]) -> Option<Option<FileName>> {
    match (switch(value), stream(value)) {
        (Some(false), _) => Some(None),
        (Some(true), _) | (None, Some(_)) => None,
        (None, None) => FileName::keep(file_name(value)?, &TRACE_NAME).map(Some),
    }
}

/// The names of the streams are not opened as files: a socket cannot be opened, and an opened file would have its own position.
fn stream(value: &[u8]) -> Option<Report> {
    match value {
        b"/dev/stderr" | b"/dev/fd/2" | b"/proc/self/fd/2" => Some(Report::Stderr),
        b"/dev/stdout" | b"/dev/fd/1" | b"/proc/self/fd/1" => Some(Report::Stdout),
        _ if is(value, "stderr") => Some(Report::Stderr),
        _ if is(value, "stdout") => Some(Report::Stdout),
        _ => None,
    }
}

fn file_name(value: &[u8]) -> Option<&[u8]> {
    near_word(value, &NO_FILE_NAMES).is_none().then_some(value)
}

/// A value that is one of these words, or one edit away from it, is not taken as a file name.
pub(super) const NO_FILE_NAMES: [&str; 4] = ["stderr", "stdout", "off", "on"];

/// Also accepts the words of YAML, because docker compose and helm write them.
fn switch(value: &[u8]) -> Option<bool> {
    let is_one_of = |words: [&str; 4]| words.iter().any(|word| is(value, word));
    if is_one_of(["on", "true", "yes", "1"]) {
        Some(true)
    } else if is_one_of(["off", "false", "no", "0"]) {
        Some(false)
    } else {
        None
    }
}

/// Which of `words` are in the comma-separated `value`; `None` if anything else is.
fn list<const N: usize>(value: &[u8], words: [&str; N]) -> Option<[bool; N]> {
    let mut found = [false; N];
    for item in value.split(|&byte| byte == b',') {
        let word = words.iter().position(|word| is(item.trim_ascii(), word))?;
        *found.get_mut(word)? = true;
    }
    Some(found)
}

/// Whether the value is this word, in whatever case.
#[inline(never)]
fn is(value: &[u8], word: &str) -> bool {
    value.eq_ignore_ascii_case(word.as_bytes())
}

fn number(value: &[u8]) -> Option<u64> {
    core::str::from_utf8(value).ok()?.parse().ok()
}
