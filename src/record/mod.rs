//! The record of this process: what users are told, while it runs and afterwards (`layout`).
//!
//! Each call goes through a `Call`: it waits, it is inside, it has ended. That is what the record shows of the present; the
//! counters, and the events if there is a file, are what it shows of the past. Nothing here is rendered but the report at normal
//! exit: the command reads the record from outside.
//!
//! The record of a forked child begins with zero. A thread that has forked in the middle of a call takes that call along.

mod call;
pub mod counters;
mod devices;
mod events;
pub mod exit_report;
mod file;
mod layout;
mod mapping;
mod place;
mod summary;

pub use call::{Call, Times};
pub use place::Place;

use crate::{
    base::{log_sink, process::PreparedFor, settings, stream, sys, text},
    call::operation::{Kind, Operation},
};
use core::{
    fmt::{self, Write},
    ptr::{self, NonNull},
    sync::atomic::{AtomicPtr, Ordering},
};
#[cfg(test)]
pub use layout::OPERATIONS as MOST_OPERATIONS;
pub use layout::{IOCTL, VERBS};
use layout::{Record, Word};

// The record, unless it is in a file: `mrlock status` looks for the symbol. All zero is a record without content.
export_zeroed!(own_record: Record, mrlock_record @@ "MRLOCK_0.1");

/// The file's record; null if it is not in a file.
static IN_FILE: AtomicPtr<Record> = AtomicPtr::new(ptr::null_mut());

/// The process that the record belongs to.
static PREPARED: PreparedFor = PreparedFor::none();

// Relaxed, all accesses to words in this folder where nothing else is said: each number is read by itself.

/// Says what the library is, and which operations there are. Called once by our constructor, perhaps after the first call.
pub fn publish(operations: impl Iterator<Item = &'static Operation>, hooks: u64) {
    let record = &own_record;
    for operation in operations {
        let Some(row) = record.operations.get(operation.index) else {
            continue;
        };
        write_text(&row.name, operation.name.as_bytes());
        row.kind.store(kind(operation.kind), Ordering::Relaxed);
        let is_serialized = crate::call::policy::serializes(operation.kind, operation.layer);
        row.is_serialized
            .store(is_serialized.into(), Ordering::Relaxed);
    }
    let mut settings = Words {
        words: &record.settings,
        length: 0,
    };
    let _ = write!(settings, "{}", settings::get());
    let header = &record.header;
    header.hooks.store(hooks, Ordering::Relaxed);
    header.version.store(layout::VERSION, Ordering::Relaxed);
    header
        .size
        .store(size_of::<Record>() as u64, Ordering::Relaxed);
    write_text(&header.library, env!("CARGO_PKG_VERSION").as_bytes());
    // Release: a reader that copies this word first sees what was stored before it.
    header.magic.store(layout::MAGIC, Ordering::Release);
    if let Some(file) = in_file() {
        copy_description(file);
    }
}

fn kind(kind: Kind) -> u64 {
    match kind {
        Kind::Registration => layout::KIND_REGISTRATION,
        Kind::Deregistration => layout::KIND_DEREGISTRATION,
        Kind::Free => layout::KIND_FREE,
        Kind::Section => layout::KIND_SECTION,
    }
}

/// The record of this process, and its generation. The first call of the process begins it.
#[inline]
pub fn begun(place: &Place) -> (&'static Record, u32) {
    let generation = PREPARED.ensure(|_, generation| begin(place, generation));
    (in_file().unwrap_or(&own_record), generation)
}

/// In a forked child, in the thread that forked: if it is in a call, that call is the first one of the child's record.
pub fn take_along(place: &Place) {
    if place.shown().state != layout::OUTSIDE {
        begun(place);
    }
}

/// The same, if a call has begun it.
pub fn present() -> Option<&'static Record> {
    PREPARED.is_now().then(|| in_file().unwrap_or(&own_record))
}

fn in_file() -> Option<&'static Record> {
    // Acquire pairs with the Release in `begin`.
    let record = NonNull::new(IN_FILE.load(Ordering::Acquire))?;
    // SAFETY: `mapping::map` has returned it: it is never unmapped.
    Some(unsafe { record.as_ref() })
}

/// Begins the record of this process with zero, in the file that `MRLOCK_TRACE` names or in our own memory.
#[cold]
fn begin(place: &Place, generation: u32) {
    clear(&own_record);
    stream::remember_process();
    exit_report::open();
    let file = settings::get().trace.as_ref().and_then(mapping::map);
    let address = file.map_or(ptr::null_mut(), |file| ptr::from_ref(file).cast_mut());
    if let Some(file) = file {
        copy_description(file);
    }
    for record in [Some(&own_record), file].into_iter().flatten() {
        write_header(record);
    }
    let moved = address.expose_provenance() as u64;
    own_record.header.moved.store(moved, Ordering::Relaxed);
    // Release: see `in_file`.
    IN_FILE.store(address, Ordering::Release);
    // The thread may have forked in the middle of a call.
    place.take_along(file.unwrap_or(&own_record), generation);
}

fn clear(record: &Record) {
    if record.header.state.load(Ordering::Relaxed) == layout::LOADED {
        return;
    }
    for word in record.totals.counters() {
        zero(word);
    }
    for operation in &record.operations {
        for word in operation.counters() {
            zero(word);
        }
    }
    for device in &record.devices {
        zero(&device.calls);
    }
    for slot in &record.threads {
        zero(&slot.thread);
        zero(&slot.state);
    }
}

fn zero(word: &Word) {
    word.store(0, Ordering::Relaxed);
}

/// What `publish` has said.
#[inline(never)]
fn copy_description(file: &Record) {
    let own = &own_record;
    copy_words(&own.settings, &file.settings);
    for (from, to) in own.operations.iter().zip(&file.operations) {
        copy_words(&from.name, &to.name);
        for (from, to) in [
            (&from.kind, &to.kind),
            (&from.is_serialized, &to.is_serialized),
        ] {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
    let hooks = own.header.hooks.load(Ordering::Relaxed);
    file.header.hooks.store(hooks, Ordering::Relaxed);
}

fn copy_words(from: &[Word], to: &[Word]) {
    for (from, to) in from.iter().zip(to) {
        to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

#[inline(never)]
fn write_header(record: &Record) {
    let header = &record.header;
    for (word, value) in [
        (&header.version, layout::VERSION),
        (&header.size, size_of::<Record>() as u64),
        (&header.process, sys::process_id() as u64),
        (
            &header.namespace,
            sys::inode(c"/proc/self/ns/pid").unwrap_or(0),
        ),
        (&header.realtime, sys::clock(libc::CLOCK_REALTIME)),
        (&header.monotonic, sys::now()),
    ] {
        word.store(value, Ordering::Relaxed);
    }
    write_text(&header.library, env!("CARGO_PKG_VERSION").as_bytes());
    write_text(&header.program, sys::program_name().to_bytes());
    sys::with_host_name(|name| write_text(&header.host, name));
    header.state.store(layout::RUNNING, Ordering::Relaxed);
    // Release: as in `publish`.
    header.magic.store(layout::MAGIC, Ordering::Release);
}

/// The process ends normally.
pub fn end() {
    if let Some(record) = present() {
        let lost = log_sink::lost_lines();
        record.totals.lost_lines.store(lost, Ordering::Relaxed);
        record.header.state.store(layout::ENDED, Ordering::Relaxed);
    }
}

/// A text that is written into words, in which there is none yet; what does not fit is left out. Not first into a buffer: the stack
/// may be small.
struct Words<'a> {
    words: &'a [Word],
    length: usize,
}

impl Words<'_> {
    fn push(&mut self, byte: u8) {
        if let Some(word) = self.words.get(self.length / size_of::<u64>()) {
            let place = 8 * (self.length % size_of::<u64>());
            let before = word.load(Ordering::Relaxed);
            word.store(before | u64::from(byte) << place, Ordering::Relaxed);
            self.length += 1;
        }
    }
}

impl Write for Words<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.push(byte));
        Ok(())
    }
}

/// Writes a text into words, padded with NUL, cut where it does not fit.
#[inline(never)]
fn write_text(to: &[Word], text: &[u8]) {
    let mut pieces = text.chunks(size_of::<u64>());
    for word in to {
        let mut bytes = [0; size_of::<u64>()];
        let piece = pieces.next().unwrap_or_default();
        for (to, from) in bytes.iter_mut().zip(piece) {
            *to = *from;
        }
        word.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
    }
}
