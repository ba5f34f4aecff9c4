//! The lock's own source under loom, which runs every interleaving of a few threads, and lets every load see every value that
//! the orderings allow. Around it are the parts of the world that loom cannot run: the kernel's futex, the clock, and the
//! death of a thread.

#![cfg(test)]

#[cfg(miri)]
extern crate mrlock_loom_threads as loom;

#[path = "../../../src/lock/mod.rs"]
#[allow(dead_code, reason = "fork and the log are not part of the model")]
mod lock;

use lock::{CallInfo, Lock, ThreadState};
use loom::{cell::UnsafeCell, sync::Arc, thread};
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{self, Relaxed},
};

mod futex {
    use loom::sync::{
        Condvar, Mutex,
        atomic::{AtomicU32, Ordering},
    };

    #[allow(dead_code, reason = "there are no signals here")]
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub enum Wakeup {
        Signalled,
        Interrupted,
        TimedOut,
    }

    pub enum Wakes {
        One,
        All,
    }

    /// A futex: compares and falls asleep in one step, as seen by the thread that wakes.
    #[derive(Default)]
    pub struct EventCount {
        count: AtomicU32,
        sleepers: Mutex<u32>,
        wake: Condvar,
    }

    impl EventCount {
        pub fn get(&self) -> u32 {
            self.count.load(Ordering::Acquire)
        }

        pub fn wait(&self, count: u32, _: u64) -> Wakeup {
            if crate::WORLD.sleeps_end.load(crate::Relaxed) {
                // By themselves, whenever loom lets them.
                loom::thread::yield_now();
                return Wakeup::TimedOut;
            }
            let mut sleepers = self.sleepers.lock().unwrap();
            // Relaxed: the lock must not rely on an ordering of the kernel's.
            if self.count.load(Ordering::Relaxed) == count {
                *sleepers += 1;
                drop(self.wake.wait(sleepers).unwrap());
            }
            Wakeup::Signalled
        }

        pub fn signal(&self, wakes: Wakes) -> bool {
            self.count.fetch_add(1, Ordering::Release);
            let mut sleepers = self.sleepers.lock().unwrap();
            if *sleepers == 0 {
                return false;
            }
            match wakes {
                Wakes::One => {
                    *sleepers -= 1;
                    self.wake.notify_one();
                }
                Wakes::All => {
                    *sleepers = 0;
                    self.wake.notify_all();
                }
            }
            true
        }
    }
}

mod fork {
    #[derive(Default)]
    pub struct ForkMark;

    impl ForkMark {
        pub fn is_marked(&self) -> bool {
            true
        }

        pub fn mark(&self, _: impl FnOnce()) {}
    }
}

mod sys {
    pub const NS_PER_S: u64 = 1_000_000_000;

    pub fn now() -> u64 {
        let step = crate::WORLD.time_step.load(crate::Relaxed);
        crate::WORLD.time.fetch_add(step, crate::Relaxed)
    }
}

mod thread_id {
    /// A thread of the model.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct ThreadId {
        pub bits: u64,
        pub process: i32,
    }

    impl ThreadId {
        pub const UNKNOWN: Self = Self {
            bits: 0,
            process: 0,
        };

        pub fn current() -> Self {
            unreachable!("every thread of the model is given an id")
        }

        pub fn alive_now(id: u64) -> Self {
            Self {
                bits: id,
                process: 0,
            }
        }

        pub fn is_known(self) -> bool {
            self.bits != 0
        }

        pub fn id(self) -> u64 {
            self.bits
        }

        pub fn is_current(self) -> bool {
            true
        }

        pub fn has_ended(self) -> bool {
            crate::has_ended(self.bits)
        }
    }
}

mod config {
    pub struct Config {
        pub warn_after: u64,
    }

    pub fn get() -> &'static Config {
        &Config { warn_after: 0 }
    }
}

mod device {
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

/// What is so in one run of a model. (Only `is_dead` is for loom to explore.)
#[derive(Default)]
struct World {
    time: AtomicU64,
    /// By how much each look at the clock moves it on.
    time_step: AtomicU64,
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
    device: device::Device::UNKNOWN,
    address: std::ptr::null(),
    length: 0,
};

/// What the lock protects: loom fails a test in which two threads are at it at once, or one does not see what another did.
struct Guarded {
    lock: Lock,
    calls: UnsafeCell<usize>,
}

impl Guarded {
    /// What is done inside.
    fn count(&self) {
        self.calls.with_mut(|calls| {
            // SAFETY: that no other thread is here is what loom checks.
            unsafe { *calls += 1 };
        });
    }

    fn call(&self, thread: &ThreadState) {
        assert!(self.lock.lock(thread, &CALL).is_some());
        self.count();
        self.lock.unlock(thread);
    }
}

/// How a successor waits.
#[derive(Clone, Copy)]
enum Way {
    /// Awake, and never reserves the lock.
    Spins,
    /// Asleep, and never reserves the lock.
    Sleeps,
    /// It reserves the lock at its first look. Then it looks again, and then sleeps.
    Reserves,
}

/// What ends, in a model.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Nothing,
    /// Every sleep: a waiter takes the successor for one that makes nothing of its chance.
    Sleeps,
    /// A thread, inside.
    Holder,
}

/// One run of so many threads with so many entries each. Mutual exclusion, re-entry; a wake-up that is lost is a deadlock,
/// which loom reports.
fn contend(way: Way, end: End, threads: u64, entries: usize) {
    let (step, are_long) = match way {
        Way::Spins => (0, false),
        Way::Sleeps => (0, true),
        Way::Reserves => (300_000_000, false),
    };
    WORLD.time_step.store(step, Relaxed);
    WORLD.sleeps_end.store(end != End::Nothing, Relaxed);
    let guarded = Arc::new(Guarded {
        lock: Lock::with_long_calls(are_long),
        calls: UnsafeCell::new(0),
    });
    let dying = u64::from(end == End::Holder);
    WORLD.dying.store(dying, Relaxed);
    let work = move |guarded: &Guarded, id| {
        let thread = ThreadState::of(id);
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

/// Runs `model` in every interleaving; with a bound, in those in which no more than so many times a thread loses the processor
/// although it could go on. (Without one, two threads that sleep and enter twice take more than a quarter of an hour.)
fn check(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 100_000;
    builder.check(model);
}

macro_rules! models {
    ($($name:ident: $way:ident, $end:ident, $threads:literal x $entries:literal, $preemptions:expr;)*) => {
        $(#[test]
        fn $name() {
            check($preemptions, || contend(Way::$way, End::$end, $threads, $entries));
        })*
    };
}

models! {
    two_that_spin_once: Spins, Nothing, 2 x 1, None;
    two_that_sleep_once: Sleeps, Nothing, 2 x 1, None;
    two_that_reserve_once: Reserves, Nothing, 2 x 1, None;
    two_that_spin: Spins, Nothing, 2 x 2, None;
    two_that_sleep: Sleeps, Nothing, 2 x 2, Some(5);
    two_that_reserve: Reserves, Nothing, 2 x 2, Some(5);
    three_that_spin: Spins, Nothing, 3 x 1, Some(2);
    three_that_sleep: Sleeps, Nothing, 3 x 1, Some(2);
    three_that_reserve: Reserves, Nothing, 3 x 1, Some(2);
    two_whose_sleeps_end: Sleeps, Sleeps, 2 x 1, None;
    three_whose_sleeps_end: Sleeps, Sleeps, 3 x 1, Some(1);
    three_that_reserve_and_whose_sleeps_end: Reserves, Sleeps, 3 x 1, Some(1);
    a_holder_that_has_ended_and_one: Reserves, Holder, 2 x 1, None;
    a_holder_that_has_ended_and_two: Reserves, Holder, 3 x 1, Some(1);
}
