//! The settings: what the `MRLOCK_*` environment variables say, read once.

mod display;
mod environment;
mod file_name;
mod spelling;
mod value;
mod variables;

pub use file_name::{FileName, Path};

use crate::base::{
    log_sink,
    stream::{STDERR, STDOUT},
};
use core::sync::atomic::{AtomicBool, Ordering};
use environment::Environment;
use log::warn;
use spin::Once;
use variables::{CALLS, EVENTS, HOOKS, LOG, MEMORY, MRLOCK, REPORT, TRACE, WARN_AFTER};

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

static SETTINGS: Once<Settings> = Once::new();

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

/// What a call gets that comes while the settings are being read.
static WHILE_READING: Settings = DEFAULTS;

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

/// This copy of the library forwards all calls and writes nothing: another one, which comes first in this process, does what the
/// settings ask for. Called by our constructor. (If a call has come before it, both copies serialize: nothing worse.)
pub fn leave_to_first_copy() {
    SETTINGS.call_once(|| Settings {
        mode: Mode::Off,
        ..DEFAULTS
    });
}

/// Reads them from the environment. Called once (by tests/fuzz many times).
#[inline(never)]
pub fn read() -> Settings {
    // Standard error and the sink come first, so that a bad variable can be reported. MRLOCK_LOG is read at the default level.
    STDERR.remember();
    let environment = Environment::scan();
    log_sink::install(LOG.default.1);
    if !environment.has_any {
        return DEFAULTS;
    }
    log_sink::install(environment.read(LOG, value::level));
    environment.warn_of_unknown();
    let mode = environment.read(MRLOCK, value::mode);
    let report = environment.read(REPORT, value::report).if_allowed();
    if matches!(report, Report::Stdout) {
        STDOUT.remember();
    }
    let trace = environment
        .read(TRACE, value::trace)
        .filter(|name| name.is_allowed(TRACE.name));
    let settings = Settings {
        mode,
        calls: environment.read(CALLS, value::calls),
        memory: environment.read(MEMORY, value::memory),
        hooks: environment.read(HOOKS, value::hooks),
        warn_after: environment.read(WARN_AFTER, value::seconds),
        events: environment.read(EVENTS, value::events),
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

impl Report {
    #[inline(never)]
    fn if_allowed(self) -> Self {
        match self {
            Report::File(name) if !name.is_allowed(REPORT.name) => Report::Off,
            report => report,
        }
    }
}
