//! The lock's own source under loom, which runs every interleaving of a few threads, and lets every load see every value that
//! the orderings allow. The parts that loom cannot run are simulated: the kernel's futex, the clock, and the end of a thread.

#![cfg(test)]

#[cfg(miri)]
extern crate mrlock_loom_threads as loom;

#[path = "../../../src/lock/mod.rs"]
#[allow(dead_code, reason = "fork and the log are not part of the model")]
mod lock;
#[cfg(all(not(miri), target_arch = "x86_64"))]
mod stacks;

use lock::{CallInfo, Lock, ThreadState};
use loom::{cell::UnsafeCell, thread};
use std::sync::{
    Arc,
    atomic::{
        AtomicBool, AtomicU64,
        Ordering::{self, Relaxed},
    },
};

mod futex {
    use crate::base::sys::Errno;
    use loom::{
        sync::atomic::{AtomicU32, Ordering},
        thread::{self, Thread},
    };
    use std::{collections::VecDeque, sync::Mutex};

    /// A futex: compares and falls asleep in one step, as seen by the thread that wakes. (loom does not switch threads at std's
    /// mutex.)
    #[derive(Default)]
    pub struct EventCount {
        count: AtomicU32,
        sleepers: Mutex<VecDeque<Thread>>,
    }

    impl EventCount {
        pub fn get(&self) -> u32 {
            self.count.load(crate::order(Ordering::Acquire))
        }

        pub fn count(&self) {
            self.count.fetch_add(1, crate::order(Ordering::Release));
        }

        pub fn wait(&self, count: u32, _: u64) -> Option<Errno> {
            if crate::WORLD.sleeps_end.load(crate::Relaxed) {
                // Sleeps end without a wake-up, whenever loom runs the thread.
                thread::yield_now();
                return Some(Errno::ETIMEDOUT);
            }
            #[cfg(miri)]
            let mut sleepers = self.sleepers.lock().unwrap();
            // The newest value, as in the kernel. Relaxed: the lock must not rely on an ordering in the kernel.
            let is_same = self.count.fetch_add(0, Ordering::Relaxed) == count;
            #[cfg(not(miri))]
            let mut sleepers = self.sleepers.lock().unwrap();
            if is_same {
                let me = thread::current();
                sleepers.push_back(me.clone());
                drop(sleepers);
                while self.is_asleep(&me) {
                    thread::park();
                }
            }
            None
        }

        fn is_asleep(&self, thread: &Thread) -> bool {
            let sleepers = self.sleepers.lock().unwrap();
            sleepers.iter().any(|it| it.id() == thread.id())
        }

        pub fn signal(&self, most: i32) -> bool {
            self.count();
            // Other threads may run between the count and the wake-up.
            self.count.fetch_add(0, Ordering::Relaxed);
            let mut sleepers = self.sleepers.lock().unwrap();
            let woken = sleepers.len().min(most as usize);
            sleepers.drain(..woken).for_each(|it| it.unpark());
            woken > 0
        }
    }
}

/// The lock's word.
#[derive(Default)]
pub struct Word(loom::sync::atomic::AtomicU64);

impl Word {
    pub fn load(&self, order: Ordering) -> u64 {
        self.0.load(self::order(order))
    }

    pub fn compare_exchange(
        &self,
        old: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        let [success, failure] = [success, failure].map(order);
        self.0.compare_exchange(old, new, success, failure)
    }

    pub fn store(&self, value: u64, order: Ordering) {
        self.0.store(value, order);
    }
}

/// This ordering; or, in a model without old values, the ordering with which loom's loads see the newest value.
fn order(order: Ordering) -> Ordering {
    match WORLD.sees_old_values.load(Relaxed) {
        true => order,
        false => Ordering::SeqCst,
    }
}

mod thread_id {
    pub const ID_BITS: u32 = 22;

    /// A thread of the model.
    #[derive(Clone, Copy, PartialEq, Eq, Default)]
    pub struct ThreadId {
        pub bits: u64,
        pub process: i32,
    }

    impl ThreadId {
        pub fn current() -> Self {
            unreachable!("every thread of the model is given an id")
        }

        pub fn main() -> Self {
            unreachable!("nothing forks")
        }

        pub fn of_lock(id: u64) -> Self {
            Self {
                bits: id,
                process: 0,
            }
        }

        pub fn is_main(self) -> bool {
            false
        }

        pub fn id(self) -> u64 {
            self.bits
        }

        pub fn has_ended(self) -> bool {
            crate::has_ended(self.bits)
        }
    }
}

mod base {
    /// There is one process, and every lock is prepared for it.
    pub mod process {
        pub fn generation() -> u32 {
            1
        }

        pub fn is_at(_: u32) -> bool {
            true
        }

        pub fn is_recorded(_: u64) -> bool {
            true
        }

        #[derive(Default)]
        pub struct PreparedFor;

        impl PreparedFor {
            pub fn ensure(&self, _: impl FnOnce(u32, u32)) -> u32 {
                1
            }
        }
    }

    pub mod sys {
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub enum Errno {
            ETIMEDOUT,
        }

        pub const NS_PER_S: u64 = 1_000_000_000;

        /// Not known: no thread of the model seems to have taken the processor from another.
        pub fn processor() -> Option<u64> {
            None
        }

        pub fn now() -> u64 {
            let step = crate::WORLD.time_step.load(crate::Relaxed);
            crate::WORLD.time.fetch_add(step, crate::Relaxed)
        }
    }

    pub mod settings {
        pub struct Settings {
            pub warn_after: u64,
        }

        pub fn get() -> &'static Settings {
            &Settings { warn_after: 0 }
        }
    }
}

mod call {
    pub mod device {
        /// Of no interest here.
        #[derive(Clone, Copy)]
        pub struct Device;

        impl Device {
            pub const UNKNOWN: Self = Self;

            pub fn bits(self) -> usize {
                0
            }

            pub fn from_bits(_: usize) -> Self {
                Self
            }

            pub fn name(self) -> Option<&'static str> {
                None
            }
        }
    }
}

/// The conditions of one run of a model. (loom explores only `is_dead`.)
#[derive(Default)]
struct World {
    time: AtomicU64,
    /// By how much each look at the clock advances it.
    time_step: AtomicU64,
    sees_old_values: AtomicBool,
    /// Every sleep ends without a wake-up.
    sleeps_end: AtomicBool,
    /// The thread that ends inside; 0 for none.
    dying: AtomicU64,
    is_dead: loom::sync::atomic::AtomicBool,
}

loom::lazy_static! {
    static ref WORLD: World = World::default();
}

fn has_ended(thread: u64) -> bool {
    WORLD.dying.load(Relaxed) == thread && WORLD.is_dead.load(Ordering::Acquire)
}

const CALL: CallInfo = CallInfo {
    name: &"call",
    device: call::device::Device::UNKNOWN,
    address: std::ptr::null(),
    length: 0,
};

/// The data that the lock protects: loom fails a test in which two threads access it at once, or one does not see the other's
/// writes.
struct Guarded {
    lock: Lock,
    calls: UnsafeCell<usize>,
}

impl Guarded {
    /// The access inside the lock.
    fn count(&self) {
        self.calls.with_mut(|calls| {
            // SAFETY: loom checks that no other thread accesses this at the same time.
            unsafe { *calls += 1 };
        });
    }

    fn call(&self, thread: &ThreadState) {
        assert!(self.lock.lock(thread, &CALL).is_some());
        self.count();
        self.lock.unlock(thread);
    }
}

/// The holder's record, by itself, with atomics of loom's.
#[path = "."]
mod record {
    use crate::thread_id;
    mod sync {
        pub use loom::sync::atomic::{AtomicU64 as RecordWord, Ordering};
    }
    #[path = "../../../src/lock/holder.rs"]
    #[allow(dead_code, reason = "forks and the log are not part of the model")]
    pub mod holder;
}

#[test]
fn a_record_is_read_whole_or_not_at_all() {
    use record::holder::{CallInfo, HolderRecord};
    let write = |record: &HolderRecord, turn: u64| {
        let thread = thread_id::ThreadId {
            bits: turn,
            process: turn as i32,
        };
        let call = CallInfo {
            name: &"call",
            device: crate::call::device::Device::UNKNOWN,
            address: std::ptr::without_provenance(turn as usize),
            length: turn as usize,
        };
        record.write(turn, thread, &call);
    };
    check(None, move || {
        let record = Arc::new(HolderRecord::default());
        write(&record, 1);
        let again = record.clone();
        let writer = thread::spawn(move || write(&again, 2));
        if let Some((thread, call)) = record.read(1) {
            let read = [thread.bits, thread.process as u64, call.length as u64];
            assert_eq!(read, [1; 3]);
            assert_eq!(call.address.addr(), 1);
        }
        writer.join().unwrap();
    });
}

/// The values that loads see.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loads {
    /// Every value that the orderings allow.
    Any,
    /// The newest value. An old value is what the thread would have seen if it had looked earlier; a compare-exchange confirms
    /// whatever the lock does then.
    Newest,
}

/// How a successor waits.
#[derive(Clone, Copy)]
enum Way {
    /// Awake, and never reserves the lock.
    Spins,
    /// Asleep, and never reserves the lock.
    Sleeps,
    /// Asleep for most of a call, and never reserves the lock.
    Naps,
    /// Asleep while the other threads call, and never reserves the lock.
    Dozes,
    /// The same. Each thread leaves the lock to the successor, and wakes it.
    DozesUntilLeftTo,
    /// Awake, and reserves the lock when it has been bypassed.
    Reserves,
    /// The same, but asleep.
    ReservesAsleep,
    /// Awake. Each thread leaves the lock to the successor, and wakes the one after it.
    LeavesToSuccessor,
    /// Asleep. Each thread wakes the next successor when it enters.
    LeavesAsleep,
}

/// Nanoseconds of a long call.
const LONG: u64 = 600_000;

/// What ends early in a model.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Nothing,
    /// Every sleep: a waiter concludes that the successor does not take the free lock.
    Sleeps,
    /// A thread, inside.
    Holder,
}

/// One run of so many threads with so many entries each. It checks mutual exclusion and re-entry. A lost wake-up is a deadlock,
/// which loom reports.
fn contend(loads: Loads, way: Way, end: End, threads: u64, entries: usize) {
    WORLD.sees_old_values.store(loads == Loads::Any, Relaxed);
    let (step, lock) = match way {
        Way::Spins | Way::LeavesToSuccessor => (0, Lock::default()),
        Way::Sleeps | Way::LeavesAsleep => (0, Lock::with_calls_of(LONG, false)),
        Way::Naps => (0, Lock::with_calls_of(200_000, false)),
        Way::Dozes | Way::DozesUntilLeftTo => (0, Lock::with_calls_of(200_000, true)),
        Way::Reserves => (1, Lock::default()),
        Way::ReservesAsleep => (300_000_000, Lock::default()),
    };
    WORLD.time_step.store(step, Relaxed);
    WORLD.sleeps_end.store(end != End::Nothing, Relaxed);
    let guarded = Arc::new(Guarded {
        lock,
        calls: UnsafeCell::new(0),
    });
    let dying = u64::from(end == End::Holder);
    WORLD.dying.store(dying, Relaxed);
    let work = move |guarded: &Guarded, id| {
        let thread = match way {
            Way::LeavesToSuccessor | Way::LeavesAsleep | Way::DozesUntilLeftTo => {
                ThreadState::that_stays_away(id)
            }
            _ => ThreadState::of(id),
        };
        if id == dying {
            guarded.lock.lock(&thread, &CALL);
            guarded.count();
            WORLD.is_dead.store(true, Ordering::Release);
        } else {
            (0..entries).for_each(|_| guarded.call(&thread));
        }
    };
    let others: Vec<_> = (1..threads)
        .map(|id| {
            let guarded = guarded.clone();
            thread::spawn(move || work(&guarded, id))
        })
        .collect();
    work(&guarded, threads);
    others.into_iter().for_each(|thread| thread.join().unwrap());
    let expected = match dying {
        0 => threads as usize * entries,
        _ => (threads - 1) as usize * entries + 1,
    };
    guarded.calls.with_mut(|calls| {
        // SAFETY: all others have ended.
        assert_eq!(unsafe { *calls }, expected);
    });
}

/// What a thread does with the two locks of a process, as `hook/locks.rs` takes them.
#[derive(Clone, Copy)]
enum Takes {
    /// A free: the second lock.
    Second,
    /// A call on memory that may be the GPU's: the first lock, then the second.
    Both,
    /// A call on host memory, or a section: the first lock.
    First,
    /// A section in which a call on memory that may be the GPU's is made.
    FirstThenBoth,
}

/// Frees, calls and sections at once: a deadlock is what loom reports.
fn two_locks(way: Way, threads: &'static [Takes]) {
    WORLD.sees_old_values.store(false, Relaxed);
    WORLD.time_step.store(0, Relaxed);
    WORLD.sleeps_end.store(false, Relaxed);
    WORLD.dying.store(0, Relaxed);
    let lock = || match way {
        Way::Sleeps => Lock::with_calls_of(LONG, false),
        _ => Lock::default(),
    };
    let guarded = Arc::new([lock(), lock()].map(|lock| Guarded {
        lock,
        calls: UnsafeCell::new(0),
    }));
    let work = |[first, second]: &[Guarded; 2], id: u64, takes: Takes| {
        let [mine, other] = [id, id].map(ThreadState::of);
        let both = || {
            first.lock.lock(&mine, &CALL);
            second.lock.lock(&other, &CALL);
            first.count();
            second.count();
            second.lock.unlock(&other);
            first.lock.unlock(&mine);
        };
        match takes {
            Takes::Second => second.call(&other),
            Takes::First => first.call(&mine),
            Takes::Both => both(),
            Takes::FirstThenBoth => {
                first.lock.lock(&mine, &CALL);
                both();
                first.lock.unlock(&mine);
            }
        }
    };
    let [last, others @ ..] = threads else { return };
    let others: Vec<_> = others
        .iter()
        .zip(1..)
        .map(|(&takes, id)| {
            let guarded = guarded.clone();
            thread::spawn(move || work(&guarded, id, takes))
        })
        .collect();
    work(&guarded, threads.len() as u64, *last);
    others.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_free_meets_a_call_on_gpu_memory_and_one_on_host_memory() {
    for way in [Way::Spins, Way::Sleeps] {
        let threads = &[Takes::Second, Takes::Both, Takes::First];
        check(Some(2), move || two_locks(way, threads));
    }
}

#[test]
fn a_free_meets_a_section_that_registers_gpu_memory() {
    for way in [Way::Spins, Way::Sleeps] {
        let threads = &[Takes::Second, Takes::FirstThenBoth];
        check(Some(6), move || two_locks(way, threads));
        let threads = &[Takes::Both, Takes::FirstThenBoth];
        check(Some(6), move || two_locks(way, threads));
    }
}

/// Runs `model` in every interleaving; with a bound, in those with at most so many preemptions. (`make model` takes the bound away
/// from the models that end without it. Three threads that enter once, and two that enter twice and leave the lock to each
/// other, did not end in nine minutes.)
fn check(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    let is_bounded = std::env::var_os("MODEL_WITHOUT_BOUND").is_none();
    builder.preemption_bound = preemptions.filter(|_| is_bounded);
    builder.max_branches = 100_000;
    builder.check(model);
}

macro_rules! models {
    ($($name:ident: $threads:literal x $entries:literal, $way:ident, $end:ident, $loads:ident, $preemptions:expr;)*) => {
        $(#[test]
        fn $name() {
            check($preemptions, || contend(Loads::$loads, Way::$way, End::$end, $threads, $entries));
        })*
    };
}

models! {
    two_that_spin: 2 x 2, Spins, Nothing, Newest, None;
    two_that_sleep: 2 x 2, Sleeps, Nothing, Newest, Some(6);
    two_that_nap: 2 x 2, Naps, Nothing, Newest, Some(6);
    two_that_reserve: 2 x 2, Reserves, Nothing, Newest, None;
    two_that_reserve_asleep: 2 x 2, ReservesAsleep, Nothing, Newest, Some(6);
    three_that_spin: 3 x 1, Spins, Nothing, Newest, Some(4);
    three_that_sleep: 3 x 1, Sleeps, Nothing, Newest, Some(4);
    three_that_reserve: 3 x 1, Reserves, Nothing, Newest, Some(4);
    three_that_reserve_asleep: 3 x 1, ReservesAsleep, Nothing, Newest, Some(4);
    two_that_leave_to_the_successor: 2 x 2, LeavesToSuccessor, Nothing, Newest, Some(8);
    three_that_leave_asleep: 3 x 1, LeavesAsleep, Nothing, Newest, Some(4);
    three_that_leave_to_the_successor: 3 x 1, LeavesToSuccessor, Nothing, Newest, Some(4);
    two_that_spin_and_see_old_values: 2 x 1, Spins, Nothing, Any, None;
    two_that_sleep_and_see_old_values: 2 x 1, Sleeps, Nothing, Any, None;
    two_that_reserve_and_see_old_values: 2 x 2, Reserves, Nothing, Any, Some(5);
    two_that_reserve_asleep_and_see_old_values: 2 x 2, ReservesAsleep, Nothing, Any, Some(5);
    three_that_spin_and_see_old_values: 3 x 1, Spins, Nothing, Any, Some(3);
    three_that_leave_to_the_successor_and_see_old_values: 3 x 1, LeavesToSuccessor, Nothing, Any, Some(3);
    three_that_sleep_and_see_old_values: 3 x 1, Sleeps, Nothing, Any, Some(3);
    three_that_reserve_and_see_old_values: 3 x 1, Reserves, Nothing, Any, Some(3);
    two_whose_sleeps_end: 2 x 1, Sleeps, Sleeps, Any, None;
    three_whose_sleeps_end: 3 x 1, Sleeps, Sleeps, Newest, Some(1);
    three_that_reserve_and_whose_sleeps_end: 3 x 1, Reserves, Sleeps, Newest, Some(1);
    three_that_leave_to_the_successor_and_whose_sleeps_end: 3 x 1, LeavesToSuccessor, Sleeps, Newest, Some(1);
    two_whose_naps_end: 2 x 2, Naps, Sleeps, Newest, Some(4);
    two_whose_naps_end_and_that_see_old_values: 2 x 1, Naps, Sleeps, Any, Some(5);
    three_whose_naps_end: 3 x 1, Naps, Sleeps, Newest, Some(1);
    two_that_doze_until_the_lock_is_left_to_them: 2 x 1, DozesUntilLeftTo, Nothing, Any, None;
    two_that_doze: 2 x 2, Dozes, Sleeps, Newest, Some(4);
    two_that_doze_and_see_old_values: 2 x 1, Dozes, Sleeps, Any, Some(5);
    three_that_doze: 3 x 1, Dozes, Sleeps, Newest, Some(1);
    a_holder_that_has_ended_and_one: 2 x 1, ReservesAsleep, Holder, Any, None;
    a_holder_that_has_ended_and_two: 3 x 1, ReservesAsleep, Holder, Newest, Some(1);
}
