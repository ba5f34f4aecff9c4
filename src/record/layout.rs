//! The record's layout: what the library writes, and the command reads from outside (cli/src/record includes this file).
//!
//! The record lies in the library's own memory, at the symbol `mrlock_record`. If `MRLOCK_TRACE` names a file, it lies in that
//! file, mapped, and `capacity` events follow it there; then `mrlock_record` only says where (`Header::moved`).
//!
//! Everything is a 64-bit word in the byte order of the processor. A text is padded with NUL; it is cut where it does not fit.
//! Times are in nanoseconds: `monotonic` on CLOCK_MONOTONIC, `realtime` since 1970. A reader checks `magic`, `version` and
//! `size` first: each change of the layout changes `VERSION`.

use core::sync::atomic::AtomicU64;

/// A field. All zero: nothing was recorded.
pub type Word = AtomicU64;

/// "mrlock", and two NULs.
pub const MAGIC: u64 = u64::from_le_bytes(*b"mrlock\0\0");

/// The version of this layout.
pub const VERSION: u64 = 2;

/// How many operations have room.
pub const OPERATIONS: usize = 24;
/// How many devices have room. If there are more, the last entry is that of all others, `OTHERS`.
pub const DEVICES: usize = 32;
/// See `DEVICES`.
pub const OTHERS: &[u8] = b"(others)";
/// How many threads have room. Others are counted in `Totals::unlisted`.
pub const THREADS: usize = 256;

/// No file has room for more events. A reader takes a larger `Header::capacity` for damage.
pub const MOST_EVENTS: u64 = 1 << 24;

/// All of it, but for the events.
#[repr(C)]
pub struct Record {
    /// Whose record it is.
    pub header: Header,
    /// The settings as the log shows them: "MRLOCK=on MRLOCK_CALLS=...", text.
    pub settings: [Word; 160],
    /// Counters of the whole process.
    pub totals: Totals,
    /// What was counted for each operation, in the order of the report.
    pub operations: [Operation; OPERATIONS],
    /// The devices that were seen. Filled while calls are observed, and in a file.
    pub devices: [Device; DEVICES],
    /// The call that each thread is in.
    pub threads: [Thread; THREADS],
}

/// Whose record it is.
#[repr(C)]
pub struct Header {
    /// `MAGIC`.
    pub magic: Word,
    /// `VERSION`.
    pub version: Word,
    /// The size of `Record`, in bytes.
    pub size: Word,
    /// `LOADED`, `RUNNING` or `ENDED`.
    pub state: Word,
    /// `VERBS | IOCTL`: the hooks that a call by name reached when the library was loaded.
    pub hooks: Word,
    /// How many events have room behind the record; 0 in the library's own memory.
    pub capacity: Word,
    /// How many events were written. Event number n is at index n % capacity.
    pub events: Word,
    /// Not 0 in the library's own memory: the record of this process is in the file that MRLOCK_TRACE names, which is mapped at
    /// this address.
    pub moved: Word,
    /// The process id, in its own pid namespace.
    pub process: Word,
    /// The inode of that pid namespace; 0 if it is not known.
    pub namespace: Word,
    /// When the record began.
    pub realtime: Word,
    /// The same moment.
    pub monotonic: Word,
    /// The version of the library: text.
    pub library: [Word; 4],
    /// The name of the program: text.
    pub program: [Word; 8],
    /// The name of the host, as uname(2) gives it: text. In a container, the container's.
    pub host: [Word; 8],
}

/// Of `Header::state`: only `hooks`, `library`, `settings` and the names of the operations are there.
pub const LOADED: u64 = 0;
/// Of `Header::state`: a call was made.
pub const RUNNING: u64 = 1;
/// Of `Header::state`: the process has ended normally (it has run the library's destructor).
pub const ENDED: u64 = 2;

/// Of `Header::hooks`: calls of `ibv_reg_mr` by name reach the library.
pub const VERBS: u64 = 1;
/// Of `Header::hooks`: calls of `ioctl` by name reach the library.
pub const IOCTL: u64 = 2;

/// Counters of the whole process.
#[repr(C)]
pub struct Totals {
    /// The largest number of threads that were inside or waiting at once; while calls are observed, of threads inside.
    pub most_at_once: Word,
    /// Calls that were let through because their memory is the host's.
    pub let_through: Word,
    /// While calls are observed: how often a free of GPU memory and a call on memory that is not known to be the host's were
    /// inside at once.
    pub frees_met: Word,
    /// Threads that had no room.
    pub unlisted: Word,
    /// Lines that could not be written to standard error.
    pub lost_lines: Word,
}

/// What was counted for one operation.
#[repr(C)]
pub struct Operation {
    /// Its name in the report: text. Empty: there is no such operation.
    pub name: [Word; 4],
    /// `KIND_*`.
    pub kind: Word,
    /// Whether such calls are serialized under the settings (or would be, if they were not observed).
    pub is_serialized: Word,
    /// Calls.
    pub calls: Word,
    /// Those that failed.
    pub failures: Word,
    /// Those that waited for another thread.
    pub waits: Word,
    /// The sum of these waits.
    pub waiting: Word,
    /// The longest wait.
    pub longest_wait: Word,
    /// How long the lock was held in total.
    pub inside: Word,
    /// The longest time that it was held.
    pub longest_inside: Word,
}

/// Of `Operation::kind`: it pins pages.
pub const KIND_REGISTRATION: u64 = 1;
/// It unpins pages.
pub const KIND_DEREGISTRATION: u64 = 2;
/// It frees GPU memory.
pub const KIND_FREE: u64 = 3;
/// The program's own code between `mrlock_lock` and `mrlock_unlock`.
pub const KIND_SECTION: u64 = 4;

/// A device that was seen.
#[repr(C)]
pub struct Device {
    /// Its name: text. Empty: the rest of the table is free.
    pub name: [Word; 8],
    /// The calls of it.
    pub calls: Word,
}

/// The call that a thread is in. The thread alone writes it. (Aligned, so that threads do not share a cache line, or a pair.)
#[repr(C, align(128))]
pub struct Thread {
    /// Odd while the rest changes.
    pub sequence: Word,
    /// The low 22 bits are the thread's id; above them is a moment at which it was alive, in hundredths of a second since boot.
    /// 0: the slot is free. (A thread that has ended keeps its slot until another one needs it.)
    pub thread: Word,
    /// Its name when it got the slot: text.
    pub name: [Word; 2],
    /// `OUTSIDE`, or what it is doing.
    pub state: Word,
    /// Since when, on CLOCK_MONOTONIC (in the library's own memory, to a tick of the kernel: 1 to 10 ms).
    pub since: Word,
    /// For how long it waited before it was inside; 0 if it did not wait.
    pub waited: Word,
    /// The index of the operation.
    pub operation: Word,
    /// In a file, and while calls are observed: the index of the device, plus one; 0 if it is not known. Else (the table of devices
    /// is empty): a pointer to a `struct ibv_pd` or `struct ibv_mr`, which is even; or a file descriptor, doubled, plus one; or 0.
    pub device: Word,
    /// Where the memory begins; 0 with length 0 if the call does not say.
    pub address: Word,
    /// How many bytes it has.
    pub length: Word,
    /// 1: the memory may be the GPU's (or this is a free of GPU memory).
    pub is_on_device: Word,
}

/// Of `Thread::state`: in no call.
pub const OUTSIDE: u64 = 0;
/// It waits for a lock.
pub const WAITING: u64 = 1;
/// It is inside, and has the lock (or is observed).
pub const INSIDE: u64 = 2;
/// It is inside without a lock: its memory is the host's.
pub const LET_THROUGH: u64 = 3;

/// A call that has ended. Events follow the record in a file.
#[repr(C)]
pub struct Event {
    /// The number of the event plus one; 0 while the rest changes.
    pub sequence: Word,
    /// As in `Thread`.
    pub thread: Word,
    /// The name of the thread: text.
    pub name: [Word; 2],
    /// When it was inside, on CLOCK_MONOTONIC.
    pub since: Word,
    /// For how long.
    pub duration: Word,
    /// For how long it waited before; 0 if it did not wait.
    pub waited: Word,
    /// The index of the operation.
    pub operation: Word,
    /// The index of the device, plus one; 0 if it is not known.
    pub device: Word,
    /// As in `Thread`.
    pub address: Word,
    /// As in `Thread`.
    pub length: Word,
    /// `FAILED | WAS_LET_THROUGH`.
    pub flags: Word,
}

/// Of `Event::flags`: the call failed.
pub const FAILED: u64 = 1;
/// It was let through.
pub const WAS_LET_THROUGH: u64 = 2;
