//! The events behind a record that is in a file: a ring of the last calls.

use super::{
    layout::{self, Event, Record},
    mapping,
    place::Contents,
};
use crate::lock::ThreadId;
use core::sync::atomic::Ordering;

/// Writes the event of a call that has ended. Any thread, at any time: each takes a place of its own.
#[inline]
pub fn write(
    record: &Record,
    slot: Option<&layout::Thread>,
    call: &Contents,
    duration: u64,
    failed: bool,
) {
    if record.header.capacity.load(Ordering::Relaxed) == 0 {
        return;
    }
    // Not the word of the file, which another process may have changed.
    let capacity = mapping::capacity();
    let number = record.header.events.fetch_add(1, Ordering::Relaxed);
    let first: *const Event = (&raw const *record).wrapping_add(1).cast();
    // SAFETY: a record with a capacity is in a file, where `mapping::map` has made room for `capacity` events behind it. That
    // number is a setting, which does not change while the process lives.
    let event = unsafe { &*first.add((number % capacity) as usize) };
    let mut flags = 0;
    if failed {
        flags |= layout::FAILED;
    }
    if call.state == layout::LET_THROUGH {
        flags |= layout::WAS_LET_THROUGH;
    }
    // Relaxed: ordered before what follows by the Release there.
    event.sequence.store(0, Ordering::Relaxed);
    // A thread without a slot is named by its id alone.
    let thread = slot.map_or_else(
        || ThreadId::current().bits,
        |slot| slot.thread.load(Ordering::Relaxed),
    );
    event.thread.store(thread, Ordering::Release);
    for (index, to) in event.name.iter().enumerate() {
        let from = slot.and_then(|slot| slot.name.get(index));
        let part = from.map_or(0, |from| from.load(Ordering::Relaxed));
        to.store(part, Ordering::Release);
    }
    for (word, value) in [
        (&event.since, call.since),
        (&event.duration, duration),
        (&event.waited, call.waited),
        (&event.operation, call.operation),
        (&event.device, call.device),
        (&event.address, call.address),
        (&event.length, call.length),
        (&event.flags, flags),
    ] {
        // Release: a reader that sees one of these also sees that the sequence is no longer the old one.
        word.store(value, Ordering::Release);
    }
    // Release: a reader that sees this one sees all of the event.
    event.sequence.store(number + 1, Ordering::Release);
}
