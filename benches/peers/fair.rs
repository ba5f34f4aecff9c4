//! `parking_lot::FairMutex`: serves waiters in the order of arrival, with a hand-over at every unlock.

mod serialize;

use std::mem;

static LOCK: parking_lot::FairMutex<()> = parking_lot::FairMutex::new(());

fn lock() {
    mem::forget(LOCK.lock());
}

fn unlock() {
    // SAFETY: this thread locked it in `lock`. `FairMutex` hands it over.
    unsafe { LOCK.force_unlock() };
}
