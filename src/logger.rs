//! The sink of the `log` facade: one line, one write(2), standard error.

use crate::{sys, text::Text};
use core::fmt::Write;
use log::{LevelFilter, Log, Metadata, Record};

/// Longer lines are cut. Below PIPE_BUF, which is 4096, a write to a pipe is not mixed with those of other processes.
const LONGEST_LINE: usize = 1024;

struct StandardError;

impl Log for StandardError {
    fn enabled(&self, _: &Metadata) -> bool {
        true // the facade has compared the level already
    }

    fn log(&self, record: &Record) {
        let level = match record.level() {
            log::Level::Error => "error",
            log::Level::Warn => "warning",
            log::Level::Info => "info",
            log::Level::Debug => "debug",
            log::Level::Trace => "trace",
        };
        let process = sys::process_id();
        let mut line = Text::<LONGEST_LINE>::new();
        let _ = write!(line, "mrlock[{process}]: {level}: {}", record.args());
        line.end_line();
        let _ = sys::write(libc::STDERR_FILENO, line.as_bytes());
    }

    fn flush(&self) {}
}

/// Makes this the sink, for messages up to `level`.
pub fn install(level: LevelFilter) {
    // It fails only if a sink is set already. That one is ours: this copy of the facade is linked into this library alone.
    let _ = log::set_logger(&StandardError);
    log::set_max_level(level);
}
