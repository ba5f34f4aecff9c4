//! Which process this is. A forked child has a copy of the memory of its parent, and with it whatever the parent kept there for
//! itself: a lock that is held, threads that wait, counters. So each process has a number, its *generation*, and what belongs to
//! one process names the generation that it is prepared for (`PreparedFor`).
//!
//! Fork handlers run in a child of `fork`, perhaps after another library's handler that has started a thread; they do not run in
//! a child of `_Fork` or of a bare `clone`. So the generation is in a page that the kernel fills with zeros in each child that
//! gets a copy of the memory (MADV_WIPEONFORK, Linux 4.14), but not in one that shares the memory (vfork). Then the first thread
//! that needs a generation, whichever it is, makes a new one.
//!
//! # Where the page is not wiped
//!
//! - The kernel refuses (an older kernel, the limit of mappings is reached, gVisor): the page stays empty. Each question compares
//!   the process id with that of the process that has made the generation.
//! - The kernel says that it will, and does not (qemu-user 7.2), or has forgotten it (a process that CRIU 4.1 has restored): the
//!   child has its parent's generation, and the process id beside it tells. `is_recorded` compares them: for each thread
//!   that is new to a lock, and when a thread has waited for a whole period of the watchdog.
//!
//! A process with another id than the recorded one has a copy of the memory, or shares it. See `shares_memory_with` for what is
//! asked, and what cannot be told.

use super::{
    proc_stat::ProcStat,
    sys::{self, Errno},
};
use core::{
    ptr,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

/// Alone in its page, or in 64 KiB where pages may be as large.
#[cfg_attr(target_arch = "x86_64", repr(align(4096)))]
#[cfg_attr(not(target_arch = "x86_64"), repr(align(65536)))]
struct Page(AtomicU64);

/// A process and its generation (see `record`). Zero: not known. Without a generation: a thread of this process makes one.
///
/// In a section of its own, the last one: one that it shared would begin at the start of a page, too. (By a name that begins like
/// this, the compiler knows that the section is all zero; the linker does not merge it with another.)
#[unsafe(link_section = ".gnu.linkonce.b.page")]
static PAGE: Page = Page(AtomicU64::new(0));

/// The same, in memory that is not wiped, where `PAGE` cannot be used.
static UNWIPED: AtomicU64 = AtomicU64::new(0);

/// The last generation that this process, or one of its ancestors, has made.
static LAST: AtomicU32 = AtomicU32::new(0);

/// Generations are numbers from 1 to this one; `PreparedFor` needs another bit.
const ANY_GENERATION: u32 = u32::MAX >> 1;

fn record(process: libc::pid_t, generation: u32) -> u64 {
    u64::from(process as u32) << 32 | u64::from(generation)
}

fn generation_of(record: u64) -> u32 {
    record as u32
}

fn process_of(record: u64) -> libc::pid_t {
    (record >> 32) as libc::pid_t
}

// Relaxed, all accesses to these words where nothing else is said: a record is one word, and nothing else is read because of it.

/// The generation of this process: not zero, and another one than that of its ancestors.
#[inline]
pub fn generation() -> u32 {
    match generation_of(PAGE.0.load(Ordering::Relaxed)) {
        0 => find(),
        known => known,
    }
}

/// Whether this is still the generation.
#[inline]
pub fn is_at(generation: u32) -> bool {
    self::generation() == generation
}

/// The generation, where the page does not tell.
#[cold]
fn find() -> u32 {
    loop {
        let unwiped = UNWIPED.load(Ordering::Relaxed);
        if unwiped != 0 && is_ours(unwiped, 0) {
            return generation_of(unwiped);
        }
        let page = PAGE.0.load(Ordering::Relaxed);
        match generation_of(page) {
            // Another thread is just making it.
            0 if page != 0 && is_ours(page, 0) => sys::nap(),
            0 => begin(page),
            known => return known,
        }
    }
}

/// Makes a new generation, if the page still has this content.
#[cold]
fn begin(page: u64) {
    // A signal handler that interrupted this and needed the generation would wait for ever.
    sys::without_signals(|| {
        // This comes first: a child that is forked from here on must find zeros.
        // SAFETY: the page is ours alone, and stays what it is in this process.
        let advised = unsafe {
            syscall!(
                SYS_madvise,
                ptr::from_ref(&PAGE),
                size_of::<Page>(),
                libc::MADV_WIPEONFORK,
            )
        };
        let own = sys::process_id();
        let is_claimed = replace(&PAGE.0, page, record(own, 0));
        if !is_claimed {
            return;
        }
        let unwiped = UNWIPED.load(Ordering::Relaxed);
        if unwiped != 0 && is_ours(unwiped, 0) {
            // Another thread has made one since.
            // Release: see `replace`.
            PAGE.0.store(0, Ordering::Release);
            return;
        }
        let generation = LAST.load(Ordering::Relaxed) % ANY_GENERATION + 1;
        LAST.store(generation, Ordering::Relaxed);
        let new = record(own, generation);
        let (in_page, elsewhere) = match Errno::of(advised) {
            None => (new, 0),
            Some(_) => (0, new),
        };
        UNWIPED.store(elsewhere, Ordering::Relaxed);
        // Release: see `replace`.
        PAGE.0.store(in_page, Ordering::Release);
    });
}

fn replace(word: &AtomicU64, old: u64, new: u64) -> bool {
    // Acquire pairs with the Release at the end of `begin`: a thread that claims the page when another one has left it sees
    // `UNWIPED` and `LAST` as the other one has left them. Relaxed on failure: the value is not used.
    word.compare_exchange(old, new, Ordering::Acquire, Ordering::Relaxed)
        .is_ok()
}

/// The process that the generation belongs to. (A child of vfork uses that of its parent.)
pub fn recorded() -> libc::pid_t {
    generation();
    process_of(present())
}

fn present() -> u64 {
    match PAGE.0.load(Ordering::Relaxed) {
        0 => UNWIPED.load(Ordering::Relaxed),
        page => page,
    }
}

/// Whether the calling thread is in the process that the generation belongs to. It is not in a child of vfork. If the memory
/// turns out to be a copy of another process's, a new generation begins. `thread` is the id that the calling thread has had
/// before, in this process or in its parent; 0 if it had none.
#[cold]
pub fn is_recorded(thread: u64) -> bool {
    generation();
    let present = present();
    if process_of(present) == sys::process_id() {
        return true;
    }
    if is_ours(present, thread) {
        return false;
    }
    begin(present);
    true
}

/// Whether this record belongs to the memory of this process.
fn is_ours(record: u64, thread: u64) -> bool {
    let process = process_of(record);
    process == sys::process_id() || shares_memory_with(process, thread)
}

/// Whether this process shares its memory with `other`, which has another id, and does not have a copy.
///
/// kcmp(2) tells. Where it is not allowed (containers) or not there (gVisor), a thread of `other` that is in the middle of vfork
/// tells: it is in an uninterruptible sleep. The child has its thread variables, and so knows its id as `thread`; if that is 0, the
/// main thread is looked at.
///
/// In doubt, it is a copy. A wrong "copy" means that two threads may be inside at once, as without this library; a wrong
/// "shared" means that a thread may wait for ever for one that is not there, and that is worse than without it. Cases in which it
/// is wrong, all of them only where the page is not wiped: a task that shares the memory without vfork, where kcmp is not
/// allowed; and threads of a process in which a child of vfork was the first to call. What cannot be told at all: a child
/// without fork handlers that has the id of its parent, in another process id namespace. It has its parent's generation.
fn shares_memory_with(other: libc::pid_t, thread: u64) -> bool {
    match have_same_memory(sys::process_id(), other) {
        Ok(same) => same,
        Err(Errno::ESRCH) => false,
        Err(_) => {
            let thread = if thread == 0 { other as u64 } else { thread };
            ProcStat::of_thread(other, thread).is_some_and(|thread| thread.state == b'D')
        }
    }
}

/// Whether two processes have the same memory, as kcmp(2) says.
fn have_same_memory(one: libc::pid_t, other: libc::pid_t) -> Result<bool, Errno> {
    const KCMP_VM: libc::c_int = 1;
    // SAFETY: it only compares.
    let order = unsafe { syscall!(SYS_kcmp, one, other, KCMP_VM, 0, 0) };
    Errno::of(order).map_or(Ok(order == 0), Err)
}

/// What a thread that is about to fork passes to `after_fork`: the generation; 0 if there is none yet.
pub fn before_fork() -> u32 {
    generation_of(present())
}

/// In a child of `fork`, the thread that forked calls this: a new generation will begin. But if another thread of the child has
/// already begun one, and may have prepared for it what belongs to this process, nothing changes.
pub fn after_fork(before: u32) {
    for word in [&PAGE.0, &UNWIPED] {
        let record = word.load(Ordering::Relaxed);
        // An untouched page need not be copied.
        if before != 0 && generation_of(record) == before {
            // If it fails, another thread is beginning one.
            replace(word, record, 0);
        }
    }
}

/// The generation of the process that something is prepared for. All zero: none.
pub struct PreparedFor(AtomicU32);

/// One thread is preparing it.
const BUSY: u32 = ANY_GENERATION + 1;

impl PreparedFor {
    /// No process.
    pub const fn none() -> Self {
        Self(AtomicU32::new(0))
    }

    /// As after a fork: the generation `before` was an ancestor's.
    #[cfg(test)]
    pub fn earlier(before: u32) -> Self {
        Self(AtomicU32::new(before))
    }

    /// Whether it is prepared for this generation.
    #[inline]
    fn is(&self, generation: u32) -> bool {
        // Acquire pairs with the Release in `prepare`: this thread sees the effects of the preparation.
        self.0.load(Ordering::Acquire) == generation
    }

    /// Whether it is prepared for this process.
    pub fn is_now(&self) -> bool {
        // Acquire: as in `is`.
        let prepared = self.0.load(Ordering::Acquire);
        // A process that has prepared nothing need not make a generation.
        prepared != 0 && prepared == generation()
    }

    /// Prepares it for this process, unless that is done. Of several threads, one calls `prepare`, with the generation that it was
    /// prepared for (0 for none) and the new one; the others wait.
    #[inline]
    pub fn ensure(&self, prepare: impl FnOnce(u32, u32)) -> u32 {
        let generation = generation();
        if self.is(generation) {
            return generation;
        }
        self.prepare(prepare)
    }

    #[cold]
    fn prepare(&self, prepare: impl FnOnce(u32, u32)) -> u32 {
        let mut generation = 0;
        // A signal handler that interrupted this and needed it would wait for ever; one that forked would change the process.
        sys::without_signals(|| {
            generation = self::generation();
            loop {
                // Acquire: see `is`. What an earlier process has prepared is visible anyway.
                let before = self.0.load(Ordering::Acquire);
                if before == generation {
                    return;
                }
                // (In a child that was forked meanwhile, the thread that was preparing it does not exist.)
                if before == BUSY | generation {
                    sys::nap();
                    continue;
                }
                // Acquire: as above. Relaxed on failure: the value is not used.
                let claimed = self.0.compare_exchange(
                    before,
                    BUSY | generation,
                    Ordering::Acquire,
                    Ordering::Relaxed,
                );
                if claimed.is_ok() {
                    let before = if before & BUSY == 0 { before } else { 0 };
                    prepare(before, generation);
                    // Release: see `is`.
                    self.0.store(generation, Ordering::Release);
                    return;
                }
            }
        });
        generation
    }
}
