//! `MRLOCK=observe`: the counters when nothing is serialized. Calls run at once, so each change is a read-modify-write.

use crate::{
    base::process::{self, PreparedFor},
    call::{device, operation::Counter},
};
use core::{
    fmt::{self, Write},
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

/// The process that these numbers belong to.
static PREPARED: PreparedFor = PreparedFor::none();

/// How many threads are inside now.
static INSIDE: AtomicU64 = AtomicU64::new(0);

/// The largest number of threads that were inside at once.
static MOST_INSIDE: Counter = Counter::new();

/// The address of this number, for another process.
pub const MOST_OBSERVED: &Counter = &MOST_INSIDE;

/// Begins with zero in a new process. Returns the generation.
fn prepare() -> u32 {
    PREPARED.ensure(|_, _| {
        // If nothing was counted, write nothing: a write would make the kernel copy the page for the child.
        if MOST_INSIDE.get() > 0 {
            // Relaxed, here and below: each number is independent, and orders nothing.
            INSIDE.store(0, Ordering::Relaxed);
            MOST_INSIDE.set(0);
            DEVICES
                .iter()
                .for_each(|slot| slot.calls.store(0, Ordering::Relaxed));
        }
    })
}

/// The same, also where the generation does not tell that the process is new: no lock asks here (see `process`).
fn prepare_at_once() -> u32 {
    process::is_recorded(0);
    prepare()
}

/// Counts a thread that enters a call. Returns the generation of the process.
pub fn enter() -> u32 {
    let generation = prepare_at_once();
    let inside = INSIDE.fetch_add(1, Ordering::Relaxed) + 1;
    MOST_INSIDE.raise_to(inside);
    generation
}

/// Counts a thread that leaves a call, which it entered in the generation `entered`.
pub fn leave(entered: u32) {
    count_again(entered);
    INSIDE.fetch_sub(1, Ordering::Relaxed);
}

/// If the process has been forked since the thread entered a call, counts it as a thread inside.
fn count_again(entered: u32) -> u32 {
    let generation = prepare_at_once();
    if entered != generation {
        let inside = INSIDE.fetch_add(1, Ordering::Relaxed) + 1;
        // It was inside for the whole life of this process. So if any other thread was, two were inside at once.
        let least = if MOST_INSIDE.get() > 0 { 2 } else { 1 };
        MOST_INSIDE.raise_to(inside.max(least));
    }
    generation
}

/// The largest number of threads that were inside at once; 0 if no call was observed.
pub fn most_inside() -> u64 {
    if MOST_INSIDE.get() > 0 {
        prepare();
    }
    MOST_INSIDE.get()
}

/// Prepares the numbers in the thread that has forked, in the child. `entered` is the generation in which it entered the call
/// that it is in; 0 if it is in none. Returns the present one, or 0.
pub fn after_fork(entered: u32) -> u32 {
    if entered != 0 {
        return count_again(entered);
    }
    most_inside();
    0
}

/// A device that was seen. The table has a fixed size: a device that does not fit is not listed.
struct Slot {
    state: AtomicU32,
    name: [AtomicU64; WORDS],
    calls: AtomicU64,
}

const WORDS: usize = 8;
const FREE: u32 = 0;
const CLAIMED: u32 = 1;
const NAMED: u32 = 2;

static DEVICES: [Slot; 32] = [const {
    Slot {
        state: AtomicU32::new(FREE),
        name: [const { AtomicU64::new(0) }; WORDS],
        calls: AtomicU64::new(0),
    }
}; 32];

/// Counts one call of this device.
pub fn count_device(name: &device::Name) {
    let mut words = [0; WORDS];
    for (word, bytes) in words.iter_mut().zip(name.as_bytes().chunks(8)) {
        let mut padded = [0; 8];
        padded
            .iter_mut()
            .zip(bytes)
            .for_each(|(to, from)| *to = *from);
        *word = u64::from_le_bytes(padded);
    }
    for slot in &DEVICES {
        // Relaxed: claiming publishes nothing.
        if slot
            .state
            .compare_exchange(FREE, CLAIMED, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
        {
            for (slot, word) in slot.name.iter().zip(words) {
                slot.store(word, Ordering::Relaxed);
            }
            // Release pairs with the Acquire in `name`: the whole name is there.
            slot.state.store(NAMED, Ordering::Release);
        }
        // A slot that another thread is just naming is skipped, so two slots may get the same name.
        if slot.name() == Some(words) {
            slot.calls.fetch_add(1, Ordering::Relaxed);
            return;
        }
    }
}

impl Slot {
    fn name(&self) -> Option<[u64; WORDS]> {
        // Acquire: see `count_device`.
        (self.state.load(Ordering::Acquire) == NAMED).then(|| {
            self.name
                .each_ref()
                .map(|word| word.load(Ordering::Relaxed))
        })
    }
}

/// Ends the line with the devices that were seen, and how many calls each had.
pub fn write_devices(to: &mut impl Write) -> fmt::Result {
    let mut before = " Calls of each device: ";
    for slot in &DEVICES {
        // Relaxed: as above.
        let calls = slot.calls.load(Ordering::Relaxed);
        let Some(words) = slot.name().filter(|_| calls > 0) else {
            continue;
        };
        let mut name = device::Name::new();
        let bytes = words.iter().flat_map(|word| word.to_le_bytes());
        bytes
            .filter(|&byte| byte != 0)
            .for_each(|byte| name.push(byte));
        write!(to, "{before}{name} {calls}")?;
        before = ", ";
    }
    to.write_char('\n')
}
