//! The sink of the `log` facade: one line, one write(2), standard error.

use crate::base::{stream::STDERR, sys, text::Text};
use core::{
    fmt::{self, Write},
    sync::atomic::{AtomicU64, Ordering},
};
use log::{LevelFilter, Log, Metadata, Record};

/// Longer lines are cut. Below PIPE_BUF, which is 4096, a write to a pipe is not mixed with those of other processes.
const LONGEST_LINE: usize = 1024;

/// How many lines were lost since the last line about lost lines.
static LOST: AtomicU64 = AtomicU64::new(0);

/// How many lines were lost since the last line about lost lines.
pub fn lost_lines() -> u64 {
    // Relaxed, here and below: a count that orders nothing.
    LOST.load(Ordering::Relaxed)
}

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
        if !write_line(level, record.args()) {
            LOST.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let lost = LOST.swap(0, Ordering::Relaxed);
        if lost > 0
            && !write_line(
                "warning",
                &format_args!("{lost} lines before this were lost"),
            )
        {
            LOST.fetch_add(lost, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

/// Writes one line; `false` if it cannot be written at once.
fn write_line(level: &str, text: &fmt::Arguments) -> bool {
    let process = sys::process_id();
    let mut line = Text::<LONGEST_LINE>::new();
    let _ = write!(line, "mrlock[{process}]: {level}: {text}");
    line.end_line();
    STDERR.write(line.as_bytes()).is_ok()
}

/// Makes this the sink, for messages up to `level`.
pub fn install(level: LevelFilter) {
    // It fails only if a sink is set already. That one is ours: this copy of the facade is linked into this library alone.
    let _ = log::set_logger(&StandardError);
    log::set_max_level(level);
}
