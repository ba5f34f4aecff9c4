//! The `MRLOCK_*` environment variables: one table, read once.

use crate::{logger, text::Text};
use core::{
    cell::UnsafeCell,
    ffi::CStr,
    fmt::{self, Write},
    ptr, slice,
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

const MRLOCK: Variable<bool> = Variable {
    name: c"MRLOCK",
    accepts: "on, off",
    default: ("on", true),
};
const CALLS: Variable<Calls> = Variable {
    name: c"MRLOCK_CALLS",
    accepts: "a comma-separated list of reg, dereg, free",
    default: (
        "reg,dereg",
        Calls {
            reg: true,
            dereg: true,
            free: false,
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

/// How many bytes of a value that is not understood are repeated in the line that says so.
const LONGEST_SHOWN: usize = 200;

/// The settings of this process.
pub struct Config {
    /// `MRLOCK`: whether anything is serialized at all.
    pub enabled: bool,
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
    /// All that the kernel cannot pin in the ordinary way: GPU memory, and memory of which nothing is known.
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
    /// To a file.
    File(FileName),
}

/// A file name as it was given: a copy, because a host may overwrite its environment before it exits. `%p` is still in it.
pub struct FileName(&'static [u8]);

static CONFIG: Once<Config> = Once::new();

/// The settings as they are without any variable: what a call gets that comes while they are read.
static DEFAULTS: Config = Config {
    enabled: MRLOCK.default.1,
    calls: CALLS.default.1,
    memory: MEMORY.default.1,
    hooks: HOOKS.default.1,
    warn_after: WARN_AFTER.default.1,
    report: REPORT.default.1,
};

/// The settings, read from the environment by the first call.
#[inline]
pub fn get() -> &'static Config {
    match CONFIG.get() {
        Some(config) => config,
        None => read_once(),
    }
}

#[cold]
fn read_once() -> &'static Config {
    static IS_BEING_READ: AtomicBool = AtomicBool::new(false);
    // A signal handler that interrupts the reading must not wait for it: it gets the defaults, which are the safe side.
    // Relaxed: `CONFIG` publishes the settings.
    if IS_BEING_READ.swap(true, Ordering::Relaxed) {
        return CONFIG.get().unwrap_or(&DEFAULTS);
    }
    CONFIG.call_once(read)
}

fn read() -> Config {
    // The sink first, so that what is wrong with a variable can be said; MRLOCK_LOG itself is read at the default level.
    logger::install(LOG.default.1);
    logger::install(LOG.read(level));
    let config = Config {
        enabled: MRLOCK.read(switch),
        calls: CALLS.read(calls),
        memory: MEMORY.read(memory),
        hooks: HOOKS.read(hooks),
        warn_after: WARN_AFTER.read(seconds),
        report: REPORT.read(report).if_allowed(),
    };
    config.warn_of_lone_free();
    config
}

impl Config {
    /// A free waits only for the calls that are serialized.
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
    fn read(self, parse: fn(&CStr) -> Option<T>) -> T {
        // SAFETY: the name is NUL-terminated, and so is what getenv() returns. As with any getenv(), a host that calls
        // setenv() on another thread at this moment has a race of its own.
        let given = unsafe {
            libc::getenv(self.name.as_ptr())
                .as_ref()
                .map(|value| CStr::from_ptr(value))
        };
        let Some(given) = given.filter(|value| !value.is_empty()) else {
            return self.default.1;
        };
        parse(given).unwrap_or_else(|| {
            // The start of a very long value is enough to find it by.
            let shown = given
                .to_bytes()
                .get(..LONGEST_SHOWN)
                .unwrap_or(given.to_bytes());
            warn!(
                "{name}={given}: not understood, taken as {default}; accepted: {accepts}",
                name = self.name.to_bytes().escape_ascii(),
                given = shown.escape_ascii(),
                default = self.default.0,
                accepts = self.accepts,
            );
            self.default.1
        })
    }
}

/// In the spellings that YAML knows, because docker compose and helm write them.
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
    // Not more than can be counted in nanoseconds.
    value
        .to_str()
        .ok()?
        .parse()
        .ok()
        .filter(|&seconds: &u64| seconds <= u32::MAX.into())
}

fn report(value: &CStr) -> Option<Report> {
    match value.to_bytes() {
        b"off" => Some(Report::Off),
        b"stderr" => Some(Report::Stderr),
        name => FileName::keep(name).map(Report::File),
    }
}

impl Report {
    /// A set-uid process must not be made to write where its caller wants.
    fn if_allowed(self) -> Self {
        // SAFETY: getauxval() has no preconditions.
        let secure = unsafe { libc::getauxval(libc::AT_SECURE) } != 0;
        match self {
            Report::File(name) if secure => {
                warn!(
                    "MRLOCK_REPORT={name}: ignored, because a set-uid process writes no file on request"
                );
                Report::Off
            }
            report => report,
        }
    }
}

/// The bytes of the one name that is kept.
static NAME: Name = Name(UnsafeCell::new([0; LONGEST_NAME]));

/// How many bytes a file name may have: PATH_MAX has room for the terminating NUL.
const LONGEST_NAME: usize = libc::PATH_MAX as usize - 1;

struct Name(UnsafeCell<[u8; LONGEST_NAME]>);

// SAFETY: written once, by the one thread that reads the settings and before it publishes them; only read afterwards.
unsafe impl Sync for Name {}

impl FileName {
    /// Copies `name`, if it is short enough. Called by `read` only.
    fn keep(name: &[u8]) -> Option<Self> {
        if name.len() > LONGEST_NAME {
            return None;
        }
        // SAFETY: the destination has room, as just seen, and is not the environment. Nothing refers to it yet: `read_once`
        // lets one thread come here, once.
        let kept = unsafe {
            let kept = NAME.0.get().cast::<u8>();
            ptr::copy_nonoverlapping(name.as_ptr(), kept, name.len());
            slice::from_raw_parts(kept, name.len())
        };
        Some(Self(kept))
    }

    /// The name with `%p` replaced, NUL-terminated; `None` if it has become too long for a file name.
    pub fn for_process(&self, process: libc::pid_t) -> Option<Text<{ libc::PATH_MAX as usize }>> {
        let mut name = Text::new();
        let mut rest = self.0;
        while let Some((&byte, after)) = rest.split_first() {
            rest = match after.split_first() {
                Some((b'p', after)) if byte == b'%' => {
                    let _ = write!(name, "{process}");
                    after
                }
                _ => {
                    name.push(byte);
                    after
                }
            };
        }
        name.push(0);
        name.is_complete().then_some(name)
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{}", self.0.escape_ascii())
    }
}

impl fmt::Display for Config {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let Self {
            enabled,
            calls,
            memory,
            hooks,
            warn_after,
            report,
        } = self;
        let on_off = if *enabled { "on" } else { "off" };
        write!(formatter, "MRLOCK={on_off} MRLOCK_CALLS=")?;
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
            Report::File(name) => write!(formatter, "{name}"),
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

    #[test]
    fn a_process_id_in_a_file_name() {
        let name = FileName(b"/tmp/%p/100%/%%p.%p")
            .for_process(42)
            .expect("short enough");
        assert_eq!(name.as_bytes(), b"/tmp/42/100%/%42.42\0");
    }

    #[test]
    fn a_file_name_that_grows_too_long() {
        static LONGEST: [u8; LONGEST_NAME] = [b'x'; LONGEST_NAME];
        assert!(FileName(&LONGEST).for_process(42).is_some());
        static GROWS: [u8; LONGEST_NAME] = {
            let mut name = LONGEST;
            name[0] = b'%';
            name[1] = b'p';
            name
        };
        assert!(FileName(&GROWS).for_process(1234).is_none());
    }
}
