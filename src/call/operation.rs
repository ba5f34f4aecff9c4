//! What is serialized: the kind of call, the layer that catches it, the memory that it is applied to, and its counters.

use core::{
    ffi::c_void,
    ptr,
    sync::atomic::{AtomicU64, Ordering},
};

/// A row of the tables in `hook::verbs` and `hook::ioctl`, or a section between `mrlock_lock` and `mrlock_unlock`.
pub struct Operation {
    /// Its name in the report and in the log.
    pub name: &'static str,
    /// What it does to the pages.
    pub kind: Kind,
    /// Where it is caught.
    pub layer: Layer,
    /// What was counted so far.
    pub counters: Counters,
}

impl Operation {
    /// An operation that has not been called yet.
    pub const fn new(name: &'static str, kind: Kind, layer: Layer) -> Self {
        Self {
            name,
            kind,
            layer,
            counters: Counters::new(),
        }
    }
}

/// What a call does to the pages of a memory region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It pins pages: `ibv_reg_mr` and its variants, and `ibv_rereg_mr`, which also unpins the old ones.
    Registration,
    /// It unpins pages: `ibv_dereg_mr`.
    Deregistration,
    /// It frees GPU memory, which may be registered.
    Free,
    /// The program's own code between `mrlock_lock` and `mrlock_unlock`.
    Section,
}

/// Where a call is caught.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layer {
    /// On its way into libibverbs.
    Verbs,
    /// On its way into the kernel.
    Ioctl,
    /// In the program itself, which calls `mrlock_lock`.
    Program,
}

/// The memory that a call pins or unpins, as the call describes it.
#[derive(Clone, Copy)]
pub enum Memory {
    /// The call does not say.
    Unknown,
    /// One region.
    At(Region),
    /// One region whose registration pins nothing (IBV_ACCESS_ON_DEMAND): its pages may be missing, and are not asked.
    OnDemand(Region),
    /// An old region and the new one that takes its place.
    Moved(Region, Region),
    /// A dma-buf, which its exporter pins: the kernel does not call nvidia-peermem.
    DmaBuf,
}

/// A range of addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Its start.
    pub address: *const c_void,
    /// Its length in bytes.
    pub length: usize,
}

impl Memory {
    /// The region to name in a message: null and empty if there is none.
    pub fn region(self) -> Region {
        match self {
            Self::At(region) | Self::OnDemand(region) | Self::Moved(_, region) => region,
            Self::Unknown | Self::DmaBuf => Region {
                address: ptr::null(),
                length: 0,
            },
        }
    }
}

/// What is counted for one operation. Times are in nanoseconds. The order is part of what `mrlock status` reads.
#[repr(C)]
pub struct Counters {
    /// Calls.
    pub calls: Counter,
    /// Those that failed.
    pub failures: Counter,
    /// Those that waited for another thread.
    pub waits: Counter,
    /// The sum of these waits.
    pub waiting: Counter,
    /// The longest wait.
    pub longest_wait: Counter,
    /// How long the lock was held in total.
    pub inside: Counter,
    /// The longest time that it was held.
    pub longest_inside: Counter,
}

impl Counters {
    const fn new() -> Self {
        Self {
            calls: Counter::new(),
            failures: Counter::new(),
            waits: Counter::new(),
            waiting: Counter::new(),
            longest_wait: Counter::new(),
            inside: Counter::new(),
            longest_inside: Counter::new(),
        }
    }

    /// All of them.
    pub fn all(&self) -> [&Counter; 7] {
        let Self {
            calls,
            failures,
            waits,
            waiting,
            longest_wait,
            inside,
            longest_inside,
        } = self;
        [
            calls,
            failures,
            waits,
            waiting,
            longest_wait,
            inside,
            longest_inside,
        ]
    }
}

/// A number that any thread may read. Only the holder of the operation's lock changes it, except by `add_at_once` and `raise_to`.
#[repr(transparent)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Zero.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        // Relaxed: each counter is read by itself.
        self.0.load(Ordering::Relaxed)
    }

    /// Makes it `value`.
    pub fn set(&self, value: u64) {
        // Relaxed, and no read-modify-write: the lock orders the threads that change it.
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds `more`.
    pub fn add(&self, more: u64) {
        self.set(self.get().wrapping_add(more));
    }

    /// Adds `more`, whichever threads do so at once.
    pub fn add_at_once(&self, more: u64) {
        // Relaxed: as in `get`.
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Makes it at least `value`, whichever thread changes it meanwhile.
    pub fn raise_to(&self, value: u64) {
        if value > self.get() {
            // Relaxed: as in `get`.
            self.0.fetch_max(value, Ordering::Relaxed);
        }
    }
}
