//! The block that another process reads: `mrlock status` finds `mrlock_status` in the dynamic symbol table of the mapped file,
//! and reads the counters from outside. So it also works for a process that hangs or that will be killed.

use crate::{
    base::{settings, text::Text},
    call::{
        operation::{Counter, Counters, Layer, Operation},
        policy,
    },
    record::{counters, observed},
    resolve,
};
use core::{
    fmt::Write,
    sync::atomic::{AtomicPtr, AtomicU64, Ordering},
};
use spin::{Mutex, MutexGuard};

/// cli/src/status/block.rs reads this. A later version of the library may add fields at the end; then `size` is larger. If it
/// changes one of the present fields, `version` is another one.
#[repr(C)]
pub struct Block {
    magic: [u8; 8],
    version: u64,
    size: u64,
    /// 1 when the rest is there.
    is_ready: AtomicU64,
    /// `VERBS | IOCTL`: the hooks that a call by name reached when the library was loaded.
    hooks: AtomicU64,
    /// The largest number of threads that were inside or waiting at once; while calls are observed, of threads inside.
    most_at_once: [&'static Counter; 2],
    /// The version of the library: text.
    library: Range<u8>,
    /// The settings as the log shows them: text.
    settings: Range<u8>,
    operations: Range<Row>,
}

/// An array: its address and its length.
#[repr(C)]
struct Range<T> {
    start: AtomicPtr<T>,
    length: AtomicU64,
}

/// One operation.
#[repr(C)]
struct Row {
    name: Range<u8>,
    counters: AtomicPtr<Counters>,
}

const VERBS: u64 = 1;
const IOCTL: u64 = 2;

/// The symbol that `mrlock status` looks for.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the name of an ELF symbol")]
pub static mrlock_status: Block = Block {
    magic: *b"mrlock\0\0",
    version: 1,
    size: size_of::<Block>() as u64,
    is_ready: AtomicU64::new(0),
    hooks: AtomicU64::new(0),
    most_at_once: [counters::MOST_SERIALIZED, observed::MOST_OBSERVED],
    library: Range::empty(),
    settings: Range::empty(),
    operations: Range::empty(),
};

/// At least as many as there are operations.
pub const MOST_OPERATIONS: usize = 24;

static ROWS: [Row; MOST_OPERATIONS] = [const {
    Row {
        name: Range::empty(),
        counters: AtomicPtr::new(core::ptr::null_mut()),
    }
}; 24];

/// The counters of all operations; none before `publish`.
pub fn counters() -> impl Iterator<Item = &'static Counters> {
    // Relaxed: they are static, and were zero before.
    let rows = ROWS.iter().map(|row| row.counters.load(Ordering::Relaxed));
    // SAFETY: null, or the address of an operation's counters, which are static.
    rows.filter_map(|counters| unsafe { counters.as_ref() })
}

/// Filled in place: a text of this size should not be on the stack of a process that is just starting.
static SETTINGS: Mutex<Text<1024>> = Mutex::new(Text::new());

impl<T> Range<T> {
    const fn empty() -> Self {
        Self {
            start: AtomicPtr::new(core::ptr::null_mut()),
            length: AtomicU64::new(0),
        }
    }

    fn set(&self, values: &'static [T]) {
        // Relaxed: `publish` orders it before `is_ready`.
        self.start
            .store(values.as_ptr().cast_mut(), Ordering::Relaxed);
        self.length.store(values.len() as u64, Ordering::Relaxed);
    }
}

/// Fills in the rest. Called once by our constructor.
pub fn publish(operations: impl Iterator<Item = &'static Operation>) {
    let block = &mrlock_status;
    if let Some(settings) = SETTINGS.try_lock().map(MutexGuard::leak) {
        let _ = write!(settings, "{}", settings::get());
        block.settings.set(settings.as_bytes());
    }
    block.library.set(env!("CARGO_PKG_VERSION").as_bytes());
    let mut count = 0;
    for (row, operation) in ROWS.iter().zip(operations) {
        row.name.set(operation.name.as_bytes());
        let counters = (&raw const operation.counters).cast_mut();
        // Relaxed: as in `set`.
        row.counters.store(counters, Ordering::Relaxed);
        count += 1;
    }
    block.operations.set(ROWS.get(..count).unwrap_or_default());
    let mut hooks = 0;
    if policy::catches(Layer::Verbs) && resolve::is_bound_to_us(c"ibv_reg_mr") {
        hooks |= VERBS;
    }
    if policy::catches(Layer::Ioctl) && resolve::is_bound_to_us(c"ioctl") {
        hooks |= IOCTL;
    }
    // Relaxed: as in `set`.
    block.hooks.store(hooks, Ordering::Relaxed);
    // Release: a reader that copies this word first sees what was stored before it.
    block.is_ready.store(1, Ordering::Release);
}
