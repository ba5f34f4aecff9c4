//! Which thread is inside, and what for: written by that thread, read by others at any time.

use super::{
    sync::{AtomicU64, Ordering},
    thread_id::ThreadId,
};
use crate::device::Device;
use core::{
    ffi::c_void,
    fmt, ptr,
    sync::atomic::{AtomicI32, AtomicPtr, AtomicUsize},
};

/// The call that a thread takes the lock for.
#[derive(Clone, Copy)]
pub struct CallInfo {
    /// The name of the operation.
    pub name: &'static &'static str,
    /// Which device it is for.
    pub device: Device,
    /// What it is applied to.
    pub address: *const c_void,
    /// How much of it.
    pub length: usize,
}

impl CallInfo {
    /// No call yet: the thread waits for the lock, or has just got it.
    pub const WAITING: Self = Self {
        name: &"waiting",
        device: Device::UNKNOWN,
        address: ptr::null(),
        length: 0,
    };
}

impl fmt::Display for CallInfo {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(
            formatter,
            "{} (address {:p}, length {})",
            self.name, self.address, self.length
        )
    }
}

/// A sequence lock around the holder and its call, with the turn as its sequence.
#[cfg_attr(loom, derive(Default))]
pub struct HolderRecord {
    /// The turn plus one; 0 while the rest changes.
    sequence: AtomicU64,
    thread: AtomicU64,
    process: AtomicI32,
    name: AtomicPtr<&'static str>,
    device: AtomicUsize,
    address: AtomicPtr<c_void>,
    length: AtomicUsize,
}

impl HolderRecord {
    /// No holder.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            sequence: AtomicU64::new(0),
            thread: AtomicU64::new(0),
            process: AtomicI32::new(0),
            name: AtomicPtr::new(ptr::null_mut()),
            device: AtomicUsize::new(0),
            address: AtomicPtr::new(ptr::null_mut()),
            length: AtomicUsize::new(0),
        }
    }

    /// Says that `thread` is inside in this turn, for `call`. The caller is that thread.
    #[inline]
    pub fn write(&self, turn: u64, thread: ThreadId, call: &CallInfo) {
        // Relaxed: ordered before what follows by the Release there.
        self.sequence.store(0, Ordering::Relaxed);
        // Release, each, pairs with the Acquires in `read`: a thread that reads one of these also sees that the sequence is
        // no longer the old one.
        self.thread.store(thread.bits, Ordering::Release);
        self.process.store(thread.process, Ordering::Release);
        self.name
            .store(ptr::from_ref(call.name).cast_mut(), Ordering::Release);
        self.device.store(call.device.bits(), Ordering::Release);
        self.address
            .store(call.address.cast_mut(), Ordering::Release);
        self.length.store(call.length, Ordering::Release);
        self.sequence.store(turn + 1, Ordering::Release);
    }

    /// Says that the same thread is inside in this turn, under the id that it has in a forked child.
    pub fn rename(&self, turn: u64, thread: ThreadId) {
        // Relaxed: there is no other thread.
        self.thread.store(thread.bits, Ordering::Relaxed);
        self.process.store(thread.process, Ordering::Relaxed);
        self.sequence.store(turn + 1, Ordering::Relaxed);
    }

    /// The thread that is inside in this turn, and its call; `None` if it has not said so yet.
    pub fn read(&self, turn: u64) -> Option<(ThreadId, CallInfo)> {
        // Acquire, each: see `write`.
        if self.sequence.load(Ordering::Acquire) != turn + 1 {
            return None;
        }
        let bits = self.thread.load(Ordering::Acquire);
        let process = self.process.load(Ordering::Acquire);
        let name = self.name.load(Ordering::Acquire);
        let device = self.device.load(Ordering::Acquire);
        let address = self.address.load(Ordering::Acquire);
        let length = self.length.load(Ordering::Acquire);
        // Relaxed: the Acquires above keep it behind them.
        if self.sequence.load(Ordering::Relaxed) != turn + 1 {
            return None;
        }
        // SAFETY: a pointer that was stored comes from a `&'static &'static str`.
        let name = unsafe { name.as_ref() }?;
        Some((
            ThreadId { bits, process },
            CallInfo {
                name,
                device: Device::from_bits(device),
                address,
                length,
            },
        ))
    }
}
