//! Which thread is inside, and what for: written by that thread, read by others at any time.

use super::{
    sync::{Ordering, RecordWord},
    thread_id::ThreadId,
};
use crate::call::device::Device;
use core::{ffi::c_void, fmt, ptr};

/// The call that a thread takes the lock for.
#[derive(Clone, Copy)]
pub struct CallInfo {
    /// The name of the operation.
    pub name: &'static &'static str,
    /// The device that it is for.
    pub device: Device,
    /// The address of its memory.
    pub address: *const c_void,
    /// The length of its memory.
    pub length: usize,
}

impl CallInfo {
    /// The call of a thread that waits for the lock, or has just got it.
    pub const WAITING: Self = Self {
        name: &"waiting",
        device: Device::UNKNOWN,
        address: ptr::null(),
        length: 0,
    };
}

impl fmt::Display for CallInfo {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let (name, address, length) = (self.name, self.address, self.length);
        write!(formatter, "{name} (address {address:p}, length {length})")
    }
}

/// A sequence lock around the holder and its call, with the turn as its sequence.
#[cfg_attr(loom, derive(Default))]
pub struct HolderRecord {
    /// The turn plus one; 0 while the rest changes.
    sequence: RecordWord,
    /// The thread's bits and process; the call's name, device, address and length.
    fields: [RecordWord; 6],
}

impl HolderRecord {
    /// No holder.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            sequence: RecordWord::new(0),
            fields: [const { RecordWord::new(0) }; 6],
        }
    }

    /// Records that `thread` is inside in this turn, for `call`. The caller is that thread.
    #[inline]
    pub fn write(&self, turn: u64, thread: ThreadId, call: &CallInfo) {
        let fields = [
            thread.bits,
            thread.process as u64,
            ptr::from_ref(call.name).expose_provenance() as u64,
            call.device.bits() as u64,
            call.address.expose_provenance() as u64,
            call.length as u64,
        ];
        // Relaxed: ordered before what follows by the Release there.
        self.sequence.store(0, Ordering::Relaxed);
        for (field, value) in self.fields.iter().zip(fields) {
            // Release pairs with the Acquires in `read`: a thread that reads one of these also sees that the sequence is no
            // longer the old one.
            field.store(value, Ordering::Release);
        }
        // Release pairs with the first Acquire in `read`, which then sees all fields.
        self.sequence.store(turn + 1, Ordering::Release);
    }

    /// Records that the same thread is inside in this turn, with the id that it has in a forked child.
    pub fn rename(&self, turn: u64, thread: ThreadId) {
        // Relaxed: there is no other thread.
        self.fields[0].store(thread.bits, Ordering::Relaxed);
        self.fields[1].store(thread.process as u64, Ordering::Relaxed);
        self.sequence.store(turn + 1, Ordering::Relaxed);
    }

    /// The thread that is inside in this turn, and its call; `None` if it has not recorded them yet.
    pub fn read(&self, turn: u64) -> Option<(ThreadId, CallInfo)> {
        // Acquire, both: see `write`. Relaxed, the last: the Acquires keep it behind them.
        let before = self.sequence.load(Ordering::Acquire);
        let [bits, process, name, device, address, length] =
            self.fields.each_ref().map(|it| it.load(Ordering::Acquire));
        let after = self.sequence.load(Ordering::Relaxed);
        if before != turn + 1 || after != before {
            return None;
        }
        // SAFETY: whatever was stored comes from a `&'static &'static str`.
        let name = unsafe { ptr::with_exposed_provenance::<&str>(name as usize).as_ref() }?;
        let call = CallInfo {
            name,
            device: Device::from_bits(device as usize),
            address: ptr::with_exposed_provenance(address as usize),
            length: length as usize,
        };
        let process = process as i32;
        Some((ThreadId { bits, process }, call))
    }
}
