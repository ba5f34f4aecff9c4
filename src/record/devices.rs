//! The table of the devices that were seen: while calls are observed, and in a file.

use super::{
    counters::add_shared,
    layout::{self, Record},
    write_text,
};
use crate::call::device::{self, Device, Identity};
use core::{cell::Cell, sync::atomic::Ordering};

/// The device that a thread has used last, and its entry: most threads use one device. All zero: none.
#[repr(C)]
pub struct LastDevice {
    identity: Cell<Identity>,
    entry: Cell<u64>,
}

impl LastDevice {
    /// In another record, the device has another entry.
    pub fn forget(&self) {
        self.identity.set(Identity::NONE);
    }

    /// The index of the device of a call, plus one; 0 if it is not known. Before the call: afterwards, its object may no longer
    /// exist.
    pub fn entry(&self, record: &Record, device: Device) -> u64 {
        let identity = device.identity();
        if identity == Identity::NONE {
            return 0;
        }
        if self.identity.get() != identity {
            let entry = device.name().map_or(0, |name| find(record, &name));
            self.entry.set(entry);
            self.identity.set(identity);
        }
        self.entry.get()
    }
}

/// Counts one call of this entry.
pub fn count(record: &Record, entry: u64) {
    let Some(index) = entry.checked_sub(1) else {
        return;
    };
    if let Some(device) = record.devices.get(index as usize) {
        add_shared(&device.calls, 1);
    }
}

/// The first word of a name that is just being written.
const CLAIMED: u64 = 1;

/// The entry with this name, which may be new; the last one, if all before it have other names.
#[cold]
#[inline(never)]
fn find(record: &Record, name: &device::Name) -> u64 {
    let wanted = words(name.as_bytes());
    let [before @ .., last] = &record.devices;
    let found = before.iter().position(|device| takes_name(device, &wanted));
    let index = found.unwrap_or_else(|| {
        takes_name(last, &words(layout::OTHERS));
        before.len()
    });
    index as u64 + 1
}

fn words(name: &[u8]) -> [u64; 8] {
    let words: [layout::Word; 8] = Default::default();
    write_text(&words, name);
    words.each_ref().map(|word| word.load(Ordering::Relaxed))
}

/// Gives the entry this name if it has none. Whether it has this name now.
fn takes_name(device: &layout::Device, wanted: &[u64; 8]) -> bool {
    let [first, rest @ ..] = &device.name;
    let rest = || rest.iter().zip(wanted.iter().skip(1));
    // Relaxed: claiming publishes nothing.
    let claimed = first.compare_exchange(0, CLAIMED, Ordering::Relaxed, Ordering::Relaxed);
    if claimed.is_ok() {
        for (word, value) in rest() {
            word.store(*value, Ordering::Relaxed);
        }
        // Release pairs with the Acquire below: the rest of the name is there.
        first.store(wanted[0], Ordering::Release);
        return true;
    }
    // An entry that another thread is just naming is passed over, so two entries may get the same name.
    first.load(Ordering::Acquire) == wanted[0]
        && rest().all(|(word, value)| word.load(Ordering::Relaxed) == *value)
}

/// The name of a device, and how many calls it had.
pub fn name_and_calls(device: &layout::Device) -> (device::Name, u64) {
    let mut name = device::Name::new();
    for word in &device.name {
        let bytes = word.load(Ordering::Relaxed).to_ne_bytes();
        for byte in bytes {
            if byte != 0 {
                name.push(byte);
            }
        }
    }
    (name, device.calls.load(Ordering::Relaxed))
}
