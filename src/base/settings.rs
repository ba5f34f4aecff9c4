//! The `MRLOCK_*` environment variables: one table, read once.

use crate::base::{log_sink, stream, sys, text::Text};
use core::{
    cell::UnsafeCell,
    ffi::CStr,
    fmt::{self, Write},
    sync::atomic::{AtomicBool, Ordering},
};
use log::{LevelFilter, warn};
use spin::Once;

/// One variable: its name, what it accepts (as a message puts it), and its value when unset, empty or not understood.
struct Variable<T> {
    name: &'static CStr,
    accepts: &'static str,
    default: (&'static str, T),
}

const MRLOCK: Variable<Mode> = Variable {
    name: c"MRLOCK",
    accepts: "on, off, observe",
    default: ("on", Mode::On),
};
const CALLS: Variable<Calls> = Variable {
    name: c"MRLOCK_CALLS",
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
const MEMORY: Variable<MemoryKind> = Variable {
    name: c"MRLOCK_MEMORY",
    accepts: "any, device",
    default: ("any", MemoryKind::Any),
};
const HOOKS: Variable<Hooks> = Variable {
    name: c"MRLOCK_HOOKS",
    accepts: "a comma-separated list of verbs, ioctl",
    default: (
        "verbs,ioctl",
        Hooks {
            verbs: true,
            ioctl: true,
        },
    ),
};
const LOG: Variable<LevelFilter> = Variable {
    name: c"MRLOCK_LOG",
    accepts: "off, error, warn, info, debug, trace",
    default: ("warn", LevelFilter::Warn),
};
const WARN_AFTER: Variable<u64> = Variable {
    name: c"MRLOCK_WARN_AFTER",
    accepts: "a whole number of seconds, 0 = never",
    default: ("30", 30),
};
const REPORT: Variable<Report> = Variable {
    name: c"MRLOCK_REPORT",
    accepts: "off, stderr, or a file name of less than 4096 bytes (%p = process id)",
    default: ("off", Report::Off),
};

const TRACE: Variable<Option<FileName>> = Variable {
    name: c"MRLOCK_TRACE",
    accepts: "off, or a file name of less than 4096 bytes (%p = process id)",
    default: ("off", None),
};

/// The warning about a value that is not understood shows so many bytes of it.
const LONGEST_SHOWN: usize = 200;

/// The settings of this process.
pub struct Settings {
    /// `MRLOCK`: whether anything is serialized at all.
    pub mode: Mode,
    /// `MRLOCK_CALLS`: which kinds of call are.
    pub calls: Calls,
    /// `MRLOCK_MEMORY`: for which memory.
    pub memory: MemoryKind,
    /// `MRLOCK_HOOKS`: where they are caught.
    pub hooks: Hooks,
    /// `MRLOCK_WARN_AFTER`: how many seconds a thread may stay inside before a waiter logs a warning; 0 is for ever.
    pub warn_after: u64,
    /// `MRLOCK_REPORT`: where the summary goes at exit.
    pub report: Report,
    /// `MRLOCK_TRACE`: where each call is written to.
    pub trace: Option<FileName>,
    /// How many calls the trace keeps.
    pub events: u64,
    /// Whether the name of each call's device is needed: while calls are observed, and in a file.
    pub names_devices: bool,
    /// Whether the report or the trace needs the time inside.
    pub is_timed: bool,
}

/// How caught calls are treated.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// They are serialized.
    On,
    /// They are counted, and go on at once.
    Observe,
    /// They are forwarded.
    Off,
}

/// The kinds of call that are serialized.
pub struct Calls {
    /// `ibv_reg_mr` and its variants.
    pub reg: bool,
    /// `ibv_dereg_mr`.
    pub dereg: bool,
    /// The freeing of GPU memory.
    pub free: bool,
}

/// The memory whose registration and deregistration are serialized.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum MemoryKind {
    /// All.
    Any,
    /// Memory that the kernel cannot pin in the ordinary way (GPU memory), and memory that the call does not describe.
    Device,
}

/// Where calls are caught.
pub struct Hooks {
    /// On their way into libibverbs.
    pub verbs: bool,
    /// On their way into the kernel.
    pub ioctl: bool,
}

/// Where the summary goes at exit.
pub enum Report {
    /// Nowhere.
    Off,
    /// To standard error.
    Stderr,
    /// To standard output.
    Stdout,
    /// To a file.
    File(FileName),
}

/// A complete file name, with the terminating NUL.
pub type Path = Text<{ libc::PATH_MAX as usize }>;

/// A file name: a copy, because a host may overwrite its environment before it exits.
pub struct FileName {
    /// For a relative name, the working directory when the settings were read: the host may change it later.
    directory: &'static [u8],
    /// The name as it was given. `%p` is still in it.
    given: &'static [u8],
}

static SETTINGS: Once<Settings> = Once::new();

/// This copy of the library forwards all calls and writes nothing: another one, which comes first in this process, does what the
/// settings ask for. Called by our constructor. (If a call has come before it, both copies serialize: nothing worse.)
pub fn leave_to_first_copy() {
    SETTINGS.call_once(|| Settings {
        mode: Mode::Off,
        ..DEFAULTS
    });
}

/// What a call gets that comes while the settings are being read.
static WHILE_READING: Settings = DEFAULTS;

/// The settings when no variable is set.
const DEFAULTS: Settings = Settings {
    mode: MRLOCK.default.1,
    calls: CALLS.default.1,
    memory: MEMORY.default.1,
    hooks: HOOKS.default.1,
    warn_after: WARN_AFTER.default.1,
    report: REPORT.default.1,
    trace: TRACE.default.1,
    events: 65_536,
    names_devices: false,
    is_timed: false,
};

/// The settings, read from the environment by the first call.
#[inline]
pub fn get() -> &'static Settings {
    match SETTINGS.get() {
        Some(settings) => settings,
        None => read_once(),
    }
}

#[cold]
fn read_once() -> &'static Settings {
    static IS_BEING_READ: AtomicBool = AtomicBool::new(false);
    // A signal handler that interrupts the reading must not wait for it: it gets the defaults, which are safe.
    // Relaxed: `SETTINGS` publishes the settings.
    if IS_BEING_READ.swap(true, Ordering::Relaxed) {
        return SETTINGS.get().unwrap_or(&WHILE_READING);
    }
    let settings = SETTINGS.call_once(read);
    if CALLS.given().is_some() {
        settings.warn_of_lone_free();
    }
    settings
}

/// Reads them from the environment. Called once (by tests/fuzz many times).
#[inline(never)]
pub fn read() -> Settings {
    // The streams and the sink come first, so that a bad variable can be reported. MRLOCK_LOG is read at the default level.
    stream::remember();
    install_sink();
    let mode = MRLOCK.read(mode);
    let (report, trace) = (read_report(), read_trace());
    Settings {
        mode,
        calls: CALLS.read(calls),
        memory: MEMORY.read(memory),
        hooks: HOOKS.read(hooks),
        warn_after: WARN_AFTER.read(seconds),
        events: 65_536,
        names_devices: mode == Mode::Observe || trace.is_some(),
        is_timed: !matches!(report, Report::Off) || trace.is_some(),
        report,
        trace,
    }
}

#[inline(never)]
fn install_sink() {
    log_sink::install(LOG.default.1);
    log_sink::install(LOG.read(level));
}

#[inline(never)]
fn read_report() -> Report {
    REPORT.read(report).if_allowed()
}

#[inline(never)]
fn read_trace() -> Option<FileName> {
    let name = TRACE.read(trace);
    name.filter(|name| name.is_allowed("MRLOCK_TRACE"))
}

impl Settings {
    /// A free waits only for the calls that are serialized. For a list that the user has given.
    #[inline(never)]
    fn warn_of_lone_free(&self) {
        let Calls { reg, dereg, free } = self.calls;
        if free && !(reg && dereg) {
            warn!(
                "MRLOCK_CALLS: free is kept apart only from what is in the list; accepted, but reg,dereg,free is what protects"
            );
        }
        if free && !self.hooks.ioctl {
            warn!("MRLOCK_HOOKS: without ioctl, free in MRLOCK_CALLS has no effect");
        }
    }
}

impl<T> Variable<T> {
    /// Its value in the environment, if it is not empty.
    fn given(&self) -> Option<&'static CStr> {
        // SAFETY: the name is NUL-terminated, and so is what getenv() returns. As with any getenv(), a host that calls
        // setenv() on another thread at this moment has a race of its own.
        let given = unsafe {
            libc::getenv(self.name.as_ptr())
                .as_ref()
                .map(|value| CStr::from_ptr(value))
        };
        given.filter(|value| !value.is_empty())
    }

    #[inline(never)]
    fn read(self, parse: fn(&CStr) -> Option<T>) -> T {
        let Some(given) = self.given() else {
            return self.default.1;
        };
        parse(given).unwrap_or_else(|| {
            not_understood(self.name, given, self.default.0, self.accepts);
            self.default.1
        })
    }
}

#[cold]
#[inline(never)]
fn not_understood(name: &CStr, given: &CStr, default: &str, accepts: &str) {
    // The start of a very long value is enough to recognize it.
    let given = given.to_bytes();
    let shown = given.get(..LONGEST_SHOWN).unwrap_or(given);
    warn!(
        "{}={}: not understood, taken as {default}; accepted: {accepts}",
        name.to_bytes().escape_ascii(),
        shown.escape_ascii(),
    );
}

/// Also accepts the words of YAML, because docker compose and helm write them.
fn switch(value: &CStr) -> Option<bool> {
    let is_one_of = |words: [&[u8]; 4]| {
        words
            .iter()
            .any(|word| value.to_bytes().eq_ignore_ascii_case(word))
    };
    if is_one_of([b"on", b"true", b"yes", b"1"]) {
        Some(true)
    } else if is_one_of([b"off", b"false", b"no", b"0"]) {
        Some(false)
    } else {
        None
    }
}

fn mode(value: &CStr) -> Option<Mode> {
    match switch(value) {
        Some(true) => Some(Mode::On),
        Some(false) => Some(Mode::Off),
        None => (value.to_bytes() == b"observe").then_some(Mode::Observe),
    }
}

fn calls(value: &CStr) -> Option<Calls> {
    let [reg, dereg, free] = list(value, ["reg", "dereg", "free"])?;
    Some(Calls { reg, dereg, free })
}

fn memory(value: &CStr) -> Option<MemoryKind> {
    match value.to_bytes() {
        b"any" => Some(MemoryKind::Any),
        b"device" => Some(MemoryKind::Device),
        _ => None,
    }
}

fn hooks(value: &CStr) -> Option<Hooks> {
    let [verbs, ioctl] = list(value, ["verbs", "ioctl"])?;
    Some(Hooks { verbs, ioctl })
}

/// Which of `words` are in the comma-separated `value`; `None` if anything else is.
fn list<const N: usize>(value: &CStr, words: [&str; N]) -> Option<[bool; N]> {
    let mut found = [false; N];
    for item in value.to_bytes().split(|&byte| byte == b',') {
        let word = words
            .iter()
            .position(|word| word.as_bytes() == item.trim_ascii())?;
        *found.get_mut(word)? = true;
    }
    Some(found)
}

fn level(value: &CStr) -> Option<LevelFilter> {
    Some(match value.to_bytes() {
        b"off" => LevelFilter::Off,
        b"error" => LevelFilter::Error,
        b"warn" => LevelFilter::Warn,
        b"info" => LevelFilter::Info,
        b"debug" => LevelFilter::Debug,
        b"trace" => LevelFilter::Trace,
        _ => return None,
    })
}

fn seconds(value: &CStr) -> Option<u64> {
    // At most u32::MAX seconds, which fit in 64 bits of nanoseconds.
    value
        .to_str()
        .ok()?
        .parse()
        .ok()
        .filter(|&seconds: &u64| seconds <= u32::MAX.into())
}

/// The names of the streams are not opened as files: a socket cannot be opened, and an opened file would have its own position.
fn report(value: &CStr) -> Option<Report> {
    match (switch(value), value.to_bytes()) {
        (Some(true), _) => Some(Report::Stderr),
        (Some(false), _) => Some(Report::Off),
        (None, b"stderr" | b"/dev/stderr" | b"/dev/fd/2" | b"/proc/self/fd/2") => {
            Some(Report::Stderr)
        }
        (None, b"/dev/stdout" | b"/dev/fd/1" | b"/proc/self/fd/1") => Some(Report::Stdout),
        (None, name) => FileName::keep(name, &REPORT_NAME).map(Report::File),
    }
}

fn trace(value: &CStr) -> Option<Option<FileName>> {
    match (switch(value), value.to_bytes()) {
        (Some(false), _) => Some(None),
        (Some(true), _) => None,
        (None, name) => FileName::keep(name, &TRACE_NAME).map(Some),
    }
}

impl Report {
    #[inline(never)]
    fn if_allowed(self) -> Self {
        match self {
            Report::File(name) if !name.is_allowed("MRLOCK_REPORT") => Report::Off,
            report => report,
        }
    }
}

/// The bytes of the names that are kept, behind those of their directory.
static REPORT_NAME: Name = Name(UnsafeCell::new([0; LONGEST_NAME]));
static TRACE_NAME: Name = Name(UnsafeCell::new([0; LONGEST_NAME]));

/// How many bytes a file name may have: PATH_MAX has room for the terminating NUL.
const LONGEST_NAME: usize = libc::PATH_MAX as usize - 1;

struct Name(UnsafeCell<[u8; LONGEST_NAME]>);

// SAFETY: written once, by the one thread that reads the settings and before it publishes them; only read afterwards.
unsafe impl Sync for Name {}

impl FileName {
    /// Copies `name`, if it is short enough. Only `read` calls this, once for each `Name`.
    #[inline(never)]
    fn keep(name: &[u8], kept: &'static Name) -> Option<Self> {
        // SAFETY: nothing refers to it yet: `read_once` lets one thread come here, once.
        let kept = unsafe { &mut *kept.0.get() };
        let mut start = 0;
        if name.first() != Some(&b'/') {
            start = sys::working_directory(kept);
            if start > 0 {
                *kept.get_mut(start)? = b'/';
                start += 1;
            }
        }
        let (directory, rest) = kept.split_at_mut_checked(start)?;
        let (given, _) = rest.split_at_mut_checked(name.len())?;
        given
            .iter_mut()
            .zip(name)
            .for_each(|(to, from)| *to = *from);
        Some(Self { directory, given })
    }

    /// Whether the file may be written: the user who starts a set-uid program must not choose a file that it writes.
    #[inline(never)]
    fn is_allowed(&self, variable: &str) -> bool {
        // SAFETY: getauxval() has no preconditions.
        let secure = unsafe { libc::getauxval(libc::AT_SECURE) } != 0;
        if secure {
            warn!(
                "{variable}={self}: ignored, because a set-uid process writes no file on request"
            );
        }
        !secure
    }

    /// Writes the name with `%p` replaced, NUL-terminated, to `path`; `false` if it has become too long for a file name.
    pub fn write_for_process(&self, process: libc::pid_t, path: &mut Path) -> bool {
        path.clear();
        self.directory.iter().for_each(|&byte| path.push(byte));
        let mut rest = self.given;
        while let Some((&byte, after)) = rest.split_first() {
            rest = match after.split_first() {
                Some((b'p', after)) if byte == b'%' => {
                    let _ = write!(path, "{process}");
                    after
                }
                _ => {
                    path.push(byte);
                    after
                }
            };
        }
        path.push(0);
        path.is_complete()
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{}", self.given.escape_ascii())
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let Self {
            mode,
            calls,
            memory,
            hooks,
            warn_after,
            report,
            trace,
            events: _,
            names_devices: _,
            is_timed: _,
        } = self;
        let mode = mode.name();
        write!(formatter, "MRLOCK={mode} MRLOCK_CALLS=")?;
        write_list(
            formatter,
            [
                ("reg", calls.reg),
                ("dereg", calls.dereg),
                ("free", calls.free),
            ],
        )?;
        let memory = match memory {
            MemoryKind::Any => "any",
            MemoryKind::Device => "device",
        };
        write!(formatter, " MRLOCK_MEMORY={memory} MRLOCK_HOOKS=")?;
        write_list(formatter, [("verbs", hooks.verbs), ("ioctl", hooks.ioctl)])?;
        write!(formatter, " MRLOCK_WARN_AFTER={warn_after} MRLOCK_REPORT=")?;
        match report {
            Report::Off => formatter.write_str("off"),
            Report::Stderr => formatter.write_str("stderr"),
            Report::Stdout => formatter.write_str("/dev/stdout"),
            Report::File(name) => write!(formatter, "{name}"),
        }?;
        match trace {
            None => formatter.write_str(" MRLOCK_TRACE=off"),
            Some(name) => write!(formatter, " MRLOCK_TRACE={name}"),
        }
    }
}

impl Mode {
    /// The value of `MRLOCK`.
    pub fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Observe => "observe",
            Self::Off => "off",
        }
    }
}

fn write_list<const N: usize>(
    formatter: &mut fmt::Formatter,
    words: [(&str, bool); N],
) -> fmt::Result {
    let mut comma = "";
    for (word, _) in words.iter().filter(|(_, selected)| *selected) {
        write!(formatter, "{comma}{word}")?;
        comma = ",";
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn for_process(directory: &'static [u8], given: &'static [u8]) -> Option<Vec<u8>> {
        let mut path = Path::new();
        let is_complete = FileName { directory, given }.write_for_process(1234, &mut path);
        is_complete.then(|| path.as_bytes().to_owned())
    }

    #[test]
    fn a_process_id_in_a_file_name() {
        let expected = b"/tmp/1234/100%/%1234.1234\0".to_vec();
        assert_eq!(for_process(b"", b"/tmp/%p/100%/%%p.%p"), Some(expected));
        let expected = b"/100%p/report-1234\0".to_vec();
        assert_eq!(for_process(b"/100%p/", b"report-%p"), Some(expected));
    }

    #[test]
    fn a_file_name_that_grows_too_long() {
        static LONGEST: [u8; LONGEST_NAME] = [b'x'; LONGEST_NAME];
        assert!(for_process(b"", &LONGEST).is_some());
        assert!(for_process(b"/", &LONGEST).is_none());
        static GROWS: [u8; LONGEST_NAME] = {
            let mut name = LONGEST;
            name[0] = b'%';
            name[1] = b'p';
            name
        };
        assert!(for_process(b"", &GROWS).is_none());
    }
}
