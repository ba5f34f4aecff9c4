//! The table of the variables, and what is said of a value that is not understood.

use super::{
    Calls, FileName, Hooks, MemoryKind, Mode, Report,
    spelling::near_word,
    value::{HAS_VERBS, NO_FILE_NAMES},
};
use core::slice::EscapeAscii;
use log::{LevelFilter, warn};

/// One variable: its name, what it accepts (as a message puts it), and its value when unset, empty or not understood.
pub(super) struct Variable<T> {
    pub(super) name: &'static str,
    accepts: &'static str,
    pub(super) default: (&'static str, T),
}

/// The names of all variables.
pub(super) const NAMES: [&str; 9] = [
    MRLOCK.name,
    CALLS.name,
    MEMORY.name,
    HOOKS.name,
    LOG.name,
    WARN_AFTER.name,
    REPORT.name,
    TRACE.name,
    EVENTS.name,
];

pub(super) const MRLOCK: Variable<Mode> = Variable {
    name: "MRLOCK",
    accepts: "on, off, observe",
    default: ("on", Mode::On),
};
pub(super) const CALLS: Variable<Calls> = Variable {
    name: "MRLOCK_CALLS",
    accepts: "a comma-separated list of reg, dereg, free",
    default: (
        "reg,dereg,free",
        Calls {
            reg: true,
            dereg: true,
            free: true,
        },
    ),
};
pub(super) const MEMORY: Variable<MemoryKind> = Variable {
    name: "MRLOCK_MEMORY",
    accepts: "any, device",
    default: ("any", MemoryKind::Any),
};
pub(super) const HOOKS: Variable<Hooks> = Variable {
    name: "MRLOCK_HOOKS",
    accepts: if HAS_VERBS {
        "a comma-separated list of verbs, ioctl"
    } else {
        "ioctl, because libmrlock-ioctl.so has no other hook"
    },
    default: (
        if HAS_VERBS { "verbs,ioctl" } else { "ioctl" },
        Hooks {
            verbs: HAS_VERBS,
            ioctl: true,
        },
    ),
};
pub(super) const LOG: Variable<LevelFilter> = Variable {
    name: "MRLOCK_LOG",
    accepts: "off, error, warn, info, debug, trace",
    default: ("warn", LevelFilter::Warn),
};
pub(super) const WARN_AFTER: Variable<u64> = Variable {
    name: "MRLOCK_WARN_AFTER",
    accepts: "a whole number of seconds, 0 = never",
    default: ("30", 30),
};
pub(super) const REPORT: Variable<Report> = Variable {
    name: "MRLOCK_REPORT",
    accepts: "off, stderr, stdout, or a file name of less than 4096 bytes (%p = process id, %h = host name)",
    default: ("off", Report::Off),
};
pub(super) const TRACE: Variable<Option<FileName>> = Variable {
    name: "MRLOCK_TRACE",
    accepts: "off, or a file name of less than 4096 bytes (%p = process id, %h = host name)",
    default: ("off", None),
};
pub(super) const EVENTS: Variable<u64> = Variable {
    name: "MRLOCK_EVENTS",
    accepts: "a whole number from 1 to 16777216",
    default: ("65536", 65_536),
};

impl<T> Variable<T> {
    /// The value that was given, as `parse` understands it.
    #[inline(always)]
    pub(super) fn understood(self, given: &[u8], parse: fn(&[u8]) -> Option<T>) -> T {
        parse(given).unwrap_or_else(|| {
            not_understood(self.name, given, self.default.0, self.accepts);
            self.default.1
        })
    }
}

#[cold]
#[inline(never)]
fn not_understood(name: &str, given: &[u8], default: &str, accepts: &str) {
    let shown = shown(given);
    let words: &[&str] = if name == REPORT.name {
        &NO_FILE_NAMES
    } else if name == TRACE.name {
        &["off"]
    } else {
        &[]
    };
    let start = format_args!("{name}={shown}: not understood, taken as {default}");
    if let Some(word) = near_word(given, words) {
        warn!("{start}; did you mean {word}? For a file of this name write ./{shown}");
    } else if !words.is_empty() && near_word(given, &NO_FILE_NAMES).is_some() {
        warn!("{start}; accepted: {accepts}. For a file of this name write ./{shown}");
    } else {
        warn!("{start}; accepted: {accepts}");
    }
}

/// The text as a message shows it. The start of a very long one is enough to recognize it.
pub(super) fn shown(text: &[u8]) -> EscapeAscii<'_> {
    const LONGEST: usize = 200;
    text.get(..LONGEST).unwrap_or(text).escape_ascii()
}
