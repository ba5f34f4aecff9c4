//! The `MRLOCK_*` environment variables: one table, read once.

use crate::base::{log_sink, stream, sys, text::Text};
use core::{
    cell::UnsafeCell,
    ffi::{CStr, c_char},
    fmt::{self, Write},
    sync::atomic::{AtomicBool, Ordering},
};
use log::{LevelFilter, warn};
use spin::Once;

/// One variable: its name, what it accepts (as a message puts it), and its value when unset, empty or not understood.
struct Variable<T> {
    name: &'static str,
    accepts: &'static str,
    default: (&'static str, T),
}

/// The names of all variables.
const NAMES: [&str; 9] = [
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

const MRLOCK: Variable<Mode> = Variable {
    name: "MRLOCK",
    accepts: "on, off, observe",
    default: ("on", Mode::On),
};
const CALLS: Variable<Calls> = Variable {
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
const MEMORY: Variable<MemoryKind> = Variable {
    name: "MRLOCK_MEMORY",
    accepts: "any, device",
    default: ("any", MemoryKind::Any),
};
const HOOKS: Variable<Hooks> = Variable {
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
/// Whether this library has the verbs hooks.
const HAS_VERBS: bool = cfg!(feature = "verbs");
const LOG: Variable<LevelFilter> = Variable {
    name: "MRLOCK_LOG",
    accepts: "off, error, warn, info, debug, trace",
    default: ("warn", LevelFilter::Warn),
};
const WARN_AFTER: Variable<u64> = Variable {
    name: "MRLOCK_WARN_AFTER",
    accepts: "a whole number of seconds, 0 = never",
    default: ("30", 30),
};
const REPORT: Variable<Report> = Variable {
    name: "MRLOCK_REPORT",
    accepts: "off, stderr, stdout, or a file name of less than 4096 bytes (%p = process id, %h = host name)",
    default: ("off", Report::Off),
};
const TRACE: Variable<Option<FileName>> = Variable {
    name: "MRLOCK_TRACE",
    accepts: "off, or a file name of less than 4096 bytes (%p = process id, %h = host name)",
    default: ("off", None),
};
const EVENTS: Variable<u64> = Variable {
    name: "MRLOCK_EVENTS",
    accepts: "a whole number from 1 to 16777216",
    default: ("65536", 65_536),
};

/// A value that is one of these words, or one edit away from it, is not taken as a file name.
const NO_FILE_NAMES: [&str; 4] = ["stderr", "stdout", "off", "on"];

/// So many unknown variables are named.
const MOST_UNKNOWN: usize = 4;

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
    /// `MRLOCK_TRACE`: the file that is mapped for the record.
    pub trace: Option<FileName>,
    /// `MRLOCK_EVENTS`: how many calls the trace keeps.
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
    /// The name as it was given. Its placeholders are still in it.
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
    events: EVENTS.default.1,
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

/// The same, for our constructor. It writes before it reads: the first access to a page of zeros, if it is a read, is followed by a
/// second page fault.
#[cold]
pub fn read_once() -> &'static Settings {
    static IS_BEING_READ: AtomicBool = AtomicBool::new(false);
    // A signal handler that interrupts the reading must not wait for it: it gets the defaults, which are safe.
    // Relaxed: `SETTINGS` publishes the settings.
    if IS_BEING_READ.swap(true, Ordering::Relaxed) {
        return SETTINGS.get().unwrap_or(&WHILE_READING);
    }
    SETTINGS.call_once(read)
}

/// Reads them from the environment. Called once (by tests/fuzz many times).
#[inline(never)]
pub fn read() -> Settings {
    // The streams and the sink come first, so that a bad variable can be reported. MRLOCK_LOG is read at the default level.
    stream::remember();
    let environment = Environment::scan();
    install_sink(&environment);
    environment.warn_of_unknown();
    let mode = MRLOCK.read(&environment, mode);
    let report = REPORT.read(&environment, report).if_allowed();
    let trace = TRACE
        .read(&environment, trace)
        .filter(|name| name.is_allowed(TRACE.name));
    let settings = Settings {
        mode,
        calls: CALLS.read(&environment, calls),
        memory: MEMORY.read(&environment, memory),
        hooks: HOOKS.read(&environment, hooks),
        warn_after: WARN_AFTER.read(&environment, seconds),
        events: EVENTS.read(&environment, events),
        names_devices: mode == Mode::Observe || trace.is_some(),
        is_timed: !matches!(report, Report::Off) || trace.is_some(),
        report,
        trace,
    };
    if environment.value(CALLS.name).is_some() {
        settings.warn_of_lone_free();
    }
    settings
}

#[inline(never)]
fn install_sink(environment: &Environment) {
    log_sink::install(LOG.default.1);
    log_sink::install(LOG.read(environment, level));
}

/// What the environment says of us. The bytes are the environment's own.
struct Environment {
    /// The value of each of `NAMES` that is set.
    values: [Option<&'static [u8]>; NAMES.len()],
    /// Other names that begin with `MRLOCK_`.
    unknown: [Option<&'static [u8]>; MOST_UNKNOWN],
    /// Whether there are more.
    has_more: bool,
}

unsafe extern "C" {
    static mut environ: *const *const c_char;
}

/// Kubernetes gives such variables to the pods beside a service that is named mrlock.
fn is_of_kubernetes(name: &[u8]) -> bool {
    name.starts_with(b"MRLOCK_SERVICE_") || name.starts_with(b"MRLOCK_PORT")
}

impl Environment {
    #[inline(never)]
    fn scan() -> Self {
        let mut scanned = Self {
            values: [None; NAMES.len()],
            unknown: [None; MOST_UNKNOWN],
            has_more: false,
        };
        // SAFETY: null, or an array that a null pointer ends. As with any getenv(), a host that calls setenv() on another thread
        // at this moment has a race of its own.
        let mut next = unsafe { environ };
        // SAFETY: `next` is in the array, at or before the null pointer that ends it; each entry before that is a C string.
        while let Some(entry) = unsafe { next.as_ref().and_then(|entry| entry.as_ref()) } {
            // SAFETY: as above: it is a C string.
            scanned.add(unsafe { CStr::from_ptr(entry) }.to_bytes());
            // SAFETY: the entry at `next` is not the last pointer of the array.
            next = unsafe { next.add(1) };
        }
        scanned
    }

    /// Of two variables of one name, the first counts, as for getenv().
    fn add(&mut self, entry: &'static [u8]) {
        if !entry.starts_with(MRLOCK.name.as_bytes()) {
            return;
        }
        let mut parts = entry.splitn(2, |&byte| byte == b'=');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else {
            return;
        };
        if let Some(at) = NAMES.iter().position(|known| known.as_bytes() == name) {
            if let Some(slot) = self.values.get_mut(at) {
                slot.get_or_insert(value);
            }
        } else if name.starts_with(b"MRLOCK_") && !is_of_kubernetes(name) {
            let slot = self
                .unknown
                .iter_mut()
                .find(|slot| slot.is_none_or(|other| other == name));
            match slot {
                Some(slot) => *slot = Some(name),
                None => self.has_more = true,
            }
        }
    }

    /// The value of this variable, if it is not empty.
    fn value(&self, name: &str) -> Option<&'static [u8]> {
        let at = NAMES.iter().position(|&known| known == name)?;
        let value = bare(self.values.get(at).copied().flatten()?);
        (!value.is_empty()).then_some(value)
    }

    fn warn_of_unknown(&self) {
        for &name in self.unknown.iter().flatten() {
            let shown = name.get(..LONGEST_SHOWN).unwrap_or(name).escape_ascii();
            match nearest(name) {
                Some(known) => warn!("{shown}: unknown, ignored; did you mean {known}?"),
                None => warn!("{shown}: unknown, ignored; man 7 mrlock lists the variables"),
            }
        }
        if self.has_more {
            warn!(
                "more unknown variables that begin with MRLOCK_: ignored; man 7 mrlock lists the variables"
            );
        }
    }
}

/// The value without blanks and quotes around it: env files of docker keep quotes, and files from Windows end lines in `\r`.
fn bare(value: &[u8]) -> &[u8] {
    let mut value = value.trim_ascii();
    while let [first @ (b'"' | b'\''), inner @ .., last] = value
        && first == last
    {
        value = inner.trim_ascii();
    }
    value
}

/// The known variable that is as good as certainly meant: one edit for each three letters behind `MRLOCK_` may be needed.
fn nearest(name: &[u8]) -> Option<&'static str> {
    let is_near = |known: &str, edits| {
        let own = known.len().saturating_sub("MRLOCK_".len());
        edits * 3 <= own && is_within(edits, known.as_bytes(), name)
    };
    (0..=3).find_map(|edits| NAMES.into_iter().find(|known| is_near(known, edits)))
}

/// The first of `words` that is at most one edit away from `value`.
fn near_word(value: &[u8], words: &[&'static str]) -> Option<&'static str> {
    let within = |edits| {
        let mut words = words.iter().copied();
        words.find(|word| is_within(edits, word.as_bytes(), value))
    };
    within(0).or_else(|| within(1))
}

/// Whether so many edits make `to` of `from`: a letter more, less, changed, or exchanged with the next. The case does not count.
fn is_within(edits: usize, mut from: &[u8], mut to: &[u8]) -> bool {
    while let ([a, from_rest @ ..], [b, to_rest @ ..]) = (from, to)
        && a.eq_ignore_ascii_case(b)
    {
        (from, to) = (from_rest, to_rest);
    }
    if from.is_empty() && to.is_empty() {
        return true;
    }
    let Some(edits) = edits.checked_sub(1) else {
        return false;
    };
    let shorter = |text| <[u8]>::get(text, 1..).unwrap_or_default();
    if let ([a, b, from @ ..], [c, d, to @ ..]) = (from, to)
        && a.eq_ignore_ascii_case(d)
        && b.eq_ignore_ascii_case(c)
        && is_within(edits, from, to)
    {
        return true;
    }
    is_within(edits, shorter(from), shorter(to))
        || is_within(edits, shorter(from), to)
        || is_within(edits, from, shorter(to))
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
    #[inline(never)]
    fn read(self, environment: &Environment, parse: fn(&[u8]) -> Option<T>) -> T {
        let Some(given) = environment.value(self.name) else {
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
fn not_understood(name: &str, given: &[u8], default: &str, accepts: &str) {
    // The start of a very long value is enough to recognize it.
    let shown = given.get(..LONGEST_SHOWN).unwrap_or(given).escape_ascii();
    let words: &[&str] = match name {
        _ if name == REPORT.name => &NO_FILE_NAMES,
        _ if name == TRACE.name => &["off"],
        _ => &[],
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

/// Also accepts the words of YAML, because docker compose and helm write them.
fn switch(value: &[u8]) -> Option<bool> {
    let is_one_of = |words: [&[u8]; 4]| words.iter().any(|word| value.eq_ignore_ascii_case(word));
    if is_one_of([b"on", b"true", b"yes", b"1"]) {
        Some(true)
    } else if is_one_of([b"off", b"false", b"no", b"0"]) {
        Some(false)
    } else {
        None
    }
}

fn mode(value: &[u8]) -> Option<Mode> {
    match switch(value) {
        Some(true) => Some(Mode::On),
        Some(false) => Some(Mode::Off),
        None => is(value, "observe").then_some(Mode::Observe),
    }
}

fn calls(value: &[u8]) -> Option<Calls> {
    let [reg, dereg, free] = list(value, ["reg", "dereg", "free"])?;
    Some(Calls { reg, dereg, free })
}

fn memory(value: &[u8]) -> Option<MemoryKind> {
    if is(value, "any") {
        Some(MemoryKind::Any)
    } else {
        is(value, "device").then_some(MemoryKind::Device)
    }
}

fn hooks(value: &[u8]) -> Option<Hooks> {
    let [verbs, ioctl] = list(value, ["verbs", "ioctl"])?;
    (HAS_VERBS || ioctl).then_some(Hooks {
        verbs: verbs && HAS_VERBS,
        ioctl,
    })
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
fn is(value: &[u8], word: &str) -> bool {
    value.eq_ignore_ascii_case(word.as_bytes())
}

fn level(value: &[u8]) -> Option<LevelFilter> {
    LevelFilter::iter().find(|level| is(value, level.as_str()))
}

/// At most u32::MAX seconds, which fit in 64 bits of nanoseconds.
fn seconds(value: &[u8]) -> Option<u64> {
    number(value).filter(|&seconds| seconds <= u32::MAX.into())
}

fn events(value: &[u8]) -> Option<u64> {
    number(value).filter(|events| (1..=1 << 24).contains(events))
}

fn number(value: &[u8]) -> Option<u64> {
    core::str::from_utf8(value).ok()?.parse().ok()
}

fn report(value: &[u8]) -> Option<Report> {
    match switch(value) {
        Some(true) => Some(Report::Stderr),
        Some(false) => Some(Report::Off),
        None => stream(value)
            .or_else(|| FileName::keep(file_name(value)?, &REPORT_NAME).map(Report::File)),
    }
}

fn trace(value: &[u8]) -> Option<Option<FileName>> {
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

impl Report {
    #[inline(never)]
    fn if_allowed(self) -> Self {
        match self {
            Report::File(name) if !name.is_allowed(REPORT.name) => Report::Off,
            report => report,
        }
    }
}

/// The bytes of the names that are kept, behind those of their directory.
#[unsafe(link_section = ".bss.large")]
static REPORT_NAME: Name = Name(UnsafeCell::new([0; LONGEST_NAME]));
#[unsafe(link_section = ".bss.large")]
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

    /// Writes the name with its placeholders replaced, NUL-terminated, to `path`; `false` if it has become too long for a file
    /// name.
    pub fn write_for_process(&self, process: libc::pid_t, path: &mut Path) -> bool {
        path.clear();
        self.directory.iter().for_each(|&byte| path.push(byte));
        let mut rest = self.given;
        loop {
            rest = match rest {
                [] => break,
                [b'%', b'p', after @ ..] => {
                    let _ = write!(path, "{process}");
                    after
                }
                [b'%', b'h', after @ ..] => {
                    sys::with_host_name(|name| name.iter().for_each(|&byte| path.push(byte)));
                    after
                }
                [b'%', b'%', after @ ..] => {
                    path.push(b'%');
                    after
                }
                [byte, after @ ..] => {
                    path.push(*byte);
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
            events,
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
        }?;
        write!(formatter, " MRLOCK_EVENTS={events}")
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
        let expected = b"/tmp/1234/100%/%p.1234%x%\0".to_vec();
        assert_eq!(for_process(b"", b"/tmp/%p/100%/%%p.%p%x%"), Some(expected));
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

    #[test]
    fn what_is_near_is_named() {
        for (name, known) in [
            ("MRLOCK_MEMROY", Some("MRLOCK_MEMORY")),
            ("MRLOCK_memory", Some("MRLOCK_MEMORY")),
            ("MRLOCK_EVENT", Some("MRLOCK_EVENTS")),
            ("MRLOCK_LOGS", Some("MRLOCK_LOG")),
            ("MRLOCK_WARNAFTR", Some("MRLOCK_WARN_AFTER")),
            ("MRLOCK_MODE", None),
            ("MRLOCK_", None),
            ("MRLOCK_LOUD", None),
        ] {
            assert_eq!(nearest(name.as_bytes()), known, "{name}");
        }
        for (value, word) in [
            ("stdrr", Some("stderr")),
            ("STDOT", Some("stdout")),
            ("stdrer", Some("stderr")),
            ("of", Some("off")),
            ("no-such-word", None),
            ("./stdrr", None),
        ] {
            assert_eq!(near_word(value.as_bytes(), &NO_FILE_NAMES), word, "{value}");
        }
    }

    #[test]
    fn quotes_and_blanks_are_not_part_of_a_value() {
        for value in [
            "stderr",
            "\"stderr\"",
            "'stderr'\r",
            " stderr\t",
            "\"'stderr '\"\n",
        ] {
            assert_eq!(bare(value.as_bytes()), b"stderr", "{value:?}");
        }
        assert_eq!(bare(b"\"stderr'"), b"\"stderr'");
        assert_eq!((bare(b"\""), bare(b"\"\"")), (&b"\""[..], &b""[..]));
    }
}
