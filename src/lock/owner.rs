//! Whose ticket it is, and what that thread is doing: for other threads to read.

use super::{
    identity::Identity,
    sync::{AtomicU64, Ordering},
};
use core::{
    ffi::c_void,
    fmt, ptr,
    sync::atomic::{AtomicI32, AtomicPtr, AtomicUsize},
};

/// What a thread enters for, in the words of the caller.
#[derive(Clone, Copy)]
pub struct Purpose {
    /// The name of the operation.
    pub name: &'static &'static str,
    /// What it is applied to.
    pub address: *const c_void,
    /// How much of it.
    pub length: usize,
}

impl Purpose {
    /// To get in.
    pub const WAIT: Self = Self {
        name: &"waiting",
        address: ptr::null(),
        length: 0,
    };
}

impl fmt::Display for Purpose {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(
            formatter,
            "{} (address {:p}, length {})",
            self.name, self.address, self.length
        )
    }
}

/// A ticket, its thread, and what the thread is doing: written by that thread, read by others at any time.
#[cfg_attr(loom, derive(Default))]
pub struct Owner {
    ticket: AtomicU64,
    thread: AtomicU64,
    process: AtomicI32,
    name: AtomicPtr<&'static str>,
    address: AtomicPtr<c_void>,
    length: AtomicUsize,
}

impl Owner {
    /// No ticket.
    #[cfg(not(loom))]
    pub const fn nobody() -> Self {
        Self {
            ticket: AtomicU64::new(0),
            thread: AtomicU64::new(0),
            process: AtomicI32::new(0),
            name: AtomicPtr::new(ptr::null_mut()),
            address: AtomicPtr::new(ptr::null_mut()),
            length: AtomicUsize::new(0),
        }
    }

    /// Says that `ticket` is that of `thread`. The caller is that thread.
    #[inline]
    pub fn sign(&self, ticket: u64, thread: Identity, purpose: &Purpose) {
        // Relaxed: ordered before what follows by the Release there.
        self.ticket.store(0, Ordering::Relaxed);
        // Release, each, pairs with the Acquires in `of`: who reads one of these also sees that the ticket is no longer the
        // old one.
        self.thread.store(thread.number, Ordering::Release);
        self.process.store(thread.process, Ordering::Release);
        self.name
            .store(ptr::from_ref(purpose.name).cast_mut(), Ordering::Release);
        self.address
            .store(purpose.address.cast_mut(), Ordering::Release);
        self.length.store(purpose.length, Ordering::Release);
        self.ticket.store(ticket, Ordering::Release);
    }

    /// Says that what stands here is now that of `thread`, with this `ticket`: the same thread, as a forked child knows it.
    pub fn hand_over(&self, ticket: u64, thread: Identity) {
        // Relaxed: there is no other thread.
        self.thread.store(thread.number, Ordering::Relaxed);
        self.process.store(thread.process, Ordering::Relaxed);
        self.ticket.store(ticket, Ordering::Relaxed);
    }

    /// Who holds `ticket` and for what, if that is what stands here.
    pub fn of(&self, ticket: u64) -> Option<(Identity, Purpose)> {
        // Acquire, each: see `sign`.
        if self.ticket.load(Ordering::Acquire) != ticket {
            return None;
        }
        let number = self.thread.load(Ordering::Acquire);
        let process = self.process.load(Ordering::Acquire);
        let name = self.name.load(Ordering::Acquire);
        let address = self.address.load(Ordering::Acquire);
        let length = self.length.load(Ordering::Acquire);
        if self.ticket.load(Ordering::Relaxed) != ticket {
            return None;
        }
        // SAFETY: a pointer that was stored comes from a `&'static &'static str`.
        let name = unsafe { name.as_ref() }?;
        Some((
            Identity { number, process },
            Purpose {
                name,
                address,
                length,
            },
        ))
    }
}
