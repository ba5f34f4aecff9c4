//! `MRLOCK_TRACE`: each call as Chrome trace events, one write(2) for each call.
//!
//! The file is a JSON array that is never closed, which the readers of this format accept: it can be read while the process
//! runs, and after it was killed.

use crate::{
    base::{
        settings::{self, FileName, Path},
        sys,
        text::Text,
    },
    call::device::Name,
    lock::CallInfo,
    record::file,
};
use core::{
    fmt::{self, Write},
    sync::atomic::{AtomicBool, AtomicI32, Ordering},
};
use log::error;

/// Larger than the events of one call.
type Events = Text<1024>;

/// The time inside of a call or a section, and its result. Times are in nanoseconds.
pub struct Inside {
    /// When it began, on the clock of `sys::now`.
    pub since: u64,
    /// How long it took.
    pub duration: u64,
    /// How long the thread had waited before.
    pub waited: Option<u64>,
    /// Whether the call failed.
    pub failed: bool,
}

/// Writes the events of a finished call, if calls are traced. It is called after the lock is released: waiters must not wait for
/// the file.
#[cold]
pub fn write(call: &CallInfo, device: &Option<Name>, inside: &Inside) {
    if let Some(name) = &settings::get().trace {
        let mut events = Events::new();
        let _ = fill(&mut events, call, device, inside);
        append(name, &events);
    }
}

fn fill(
    events: &mut Events,
    call: &CallInfo,
    device: &Option<Name>,
    inside: &Inside,
) -> fmt::Result {
    let (process, thread) = (sys::process_id(), sys::thread_id());
    if is_first_of(process) {
        let mode = settings::get().mode.name();
        let program = sys::program_name();
        writeln!(
            events,
            r#"{{"name":"process_name","ph":"M","pid":{process},"tid":{thread},"args":{{"name":"{}","mrlock":"{mode}"}}}},"#,
            InJson(program.to_bytes())
        )?;
    }
    if let Some(waited) = inside.waited {
        let since = inside.since.saturating_sub(waited);
        writeln!(
            events,
            r#"{{"name":"waiting","cat":"waiting","ph":"X","ts":{},"dur":{},"pid":{process},"tid":{thread},"args":{{"for":"{}"}}}},"#,
            Microseconds(since),
            Microseconds(waited),
            call.name
        )?;
    }
    write!(
        events,
        r#"{{"name":"{}","cat":"inside","ph":"X","ts":{},"dur":{},"pid":{process},"tid":{thread},"args":{{"#,
        call.name,
        Microseconds(inside.since),
        Microseconds(inside.duration)
    )?;
    if let Some(device) = device {
        write!(events, r#""device":"{device}","#)?;
    }
    if !call.address.is_null() {
        let (address, length) = (call.address, call.length);
        write!(events, r#""address":"{address:p}","length":{length},"#)?;
    }
    writeln!(events, r#""failed":{}}}}},"#, inside.failed)
}

/// Whether this process has not written anything yet. A forked child is another process.
fn is_first_of(process: libc::pid_t) -> bool {
    static WRITER: AtomicI32 = AtomicI32::new(0);
    // Relaxed: it orders nothing.
    WRITER.load(Ordering::Relaxed) != process && WRITER.swap(process, Ordering::Relaxed) != process
}

fn append(name: &FileName, events: &Events) {
    static HAS_FAILED: AtomicBool = AtomicBool::new(false);
    let mut path = Path::new();
    let appended = file::append(name, b"[\n", events.as_bytes(), &mut path);
    // Relaxed: the flag only keeps a line from being repeated.
    if let Err(failure) = appended
        && !HAS_FAILED.swap(true, Ordering::Relaxed)
    {
        error!("MRLOCK_TRACE={name}: a call could not be written ({failure})");
    }
}

/// Nanoseconds, written in microseconds, the unit of this format.
struct Microseconds(u64);

impl fmt::Display for Microseconds {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

/// Bytes in a JSON string, with those replaced that JSON would have to escape.
struct InJson<'a>(&'a [u8]);

impl fmt::Display for InJson<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        self.0.iter().try_for_each(|&byte| {
            let is_plain = (byte.is_ascii_graphic() || byte == b' ') && !b"\"\\".contains(&byte);
            formatter.write_char(if is_plain { byte.into() } else { '?' })
        })
    }
}
