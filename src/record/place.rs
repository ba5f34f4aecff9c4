//! The place of a thread among the calls in progress. The thread has it from its first call until another thread needs it after
//! its end.

use super::{
    counters::add_shared,
    devices::LastDevice,
    layout::{self, OUTSIDE, Record},
    write_text,
};
use crate::{
    base::{process, sys},
    lock::ThreadId,
};
use core::{cell::Cell, ptr, sync::atomic::Ordering};

/// What a thread keeps of its place. All zero: it has none.
#[repr(C)]
pub struct Place {
    slot: Cell<*const layout::Thread>,
    /// The generation of the process whose record the slot is in.
    generation: Cell<u32>,
    /// What the slot says. A forked child must not ask the slot: it may be in a file that parent and child have mapped.
    shown: Cell<Contents>,
    /// The device that it has used last.
    pub device: LastDevice,
}

/// What a slot says of a call.
#[derive(Clone, Copy)]
pub struct Contents {
    pub state: u64,
    pub since: u64,
    pub waited: u64,
    pub operation: u64,
    pub device: u64,
    pub address: u64,
    pub length: u64,
    pub is_on_device: u64,
}

impl Contents {
    /// No call.
    pub const NONE: Self = Self {
        state: OUTSIDE,
        since: 0,
        waited: 0,
        operation: 0,
        device: 0,
        address: 0,
        length: 0,
        is_on_device: 0,
    };
}

impl Place {
    /// The thread's slot in the record of this process; `None` if there is no room.
    #[inline]
    pub fn slot(
        &self,
        record: &'static Record,
        generation: u32,
    ) -> Option<&'static layout::Thread> {
        if self.generation.get() != generation {
            // A signal handler may have forked since the caller has found the record.
            if !process::is_at(generation) {
                return None;
            }
            self.claim(record, generation);
        }
        // SAFETY: null, or a slot of a record that is never unmapped.
        unsafe { self.slot.get().as_ref() }
    }

    #[cold]
    #[inline(never)]
    fn claim(&self, record: &'static Record, generation: u32) {
        let slot = claim_slot(record, ThreadId::current().bits);
        match slot {
            Some(slot) => {
                slot.write(&Contents::NONE);
                write_text(&slot.name, sys::program_name().to_bytes());
            }
            None => add_shared(&record.totals.unlisted, 1),
        }
        self.slot.set(slot.map_or(ptr::null(), ptr::from_ref));
        self.device.forget();
        self.generation.set(generation);
    }

    /// The call that the record shows of this thread.
    pub fn shown(&self) -> Contents {
        self.shown.get()
    }

    /// Makes the record show this call.
    #[inline]
    pub fn show(&self, contents: &Contents, record: &'static Record, generation: u32) {
        self.shown.set(*contents);
        let Some(slot) = self.slot(record, generation) else {
            return;
        };
        if contents.state == OUTSIDE {
            slot.state.store(OUTSIDE, Ordering::SeqCst);
        } else {
            slot.write(contents);
        }
    }

    /// In a forked child, the call that the thread is in goes on: its slot in the new record says the same. (But for the device,
    /// whose entry is that of another record.)
    pub fn take_along(&self, record: &'static Record, generation: u32) {
        let call = self.shown.get();
        if call.state != OUTSIDE {
            self.show(&Contents { device: 0, ..call }, record, generation);
        }
    }
}

/// A slot for this thread: a free one; if there is none, that of a thread that has ended.
#[inline]
fn claim_slot(record: &'static Record, thread: u64) -> Option<&'static layout::Thread> {
    for slot in &record.threads {
        if replaces(slot, 0, thread) {
            return Some(slot);
        }
    }
    for slot in &record.threads {
        if let Some(ended) = has_ended(slot)
            && replaces(slot, ended, thread)
        {
            return Some(slot);
        }
    }
    None
}

/// Gives the slot to the thread `new`, if it still has the thread `old`. Whether it did.
fn replaces(slot: &layout::Thread, old: u64, new: u64) -> bool {
    // Relaxed, both: the thread writes its slot after it has claimed it, and others only read it.
    slot.thread
        .compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed)
        .is_ok()
}

/// The thread that has this slot, if it has ended.
pub fn has_ended(slot: &layout::Thread) -> Option<u64> {
    let bits = slot.thread.load(Ordering::Relaxed);
    let process = sys::process_id();
    (bits != 0 && ThreadId { bits, process }.has_ended()).then_some(bits)
}

impl layout::Thread {
    /// Makes the slot say this. Only its thread calls it, and signal handlers that interrupt it.
    #[inline]
    fn write(&self, contents: &Contents) {
        let fields = [
            (&self.state, contents.state),
            (&self.since, contents.since),
            (&self.waited, contents.waited),
            (&self.operation, contents.operation),
            (&self.device, contents.device),
            (&self.address, contents.address),
            (&self.length, contents.length),
            (&self.is_on_device, contents.is_on_device),
        ];
        let sequence = self.sequence.load(Ordering::Relaxed) | 1;
        self.sequence.store(sequence, Ordering::Relaxed);
        for (field, value) in fields {
            // Release: a reader that sees one of these also sees that the sequence is odd.
            field.store(value, Ordering::Release);
        }
        // Release: a reader that sees this one sees all fields.
        self.sequence
            .store(sequence.wrapping_add(1), Ordering::Release);
    }
}
