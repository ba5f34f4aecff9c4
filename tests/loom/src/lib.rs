//! The lock's own source under loom, which runs every interleaving of a few threads, and lets every load see every value that
//! the orderings allow. Around it are the parts of the world that loom cannot run: the kernel's futex, the clock, and the
//! death of a thread.

#![cfg(test)]

#[cfg(miri)]
extern crate mrlock_loom_threads as loom;

#[path = "../../../src/lock/mod.rs"]
#[allow(dead_code, reason = "fork and the log are not part of the model")]
mod lock;

use lock::{Lock, Place, Purpose};
use loom::{cell::UnsafeCell, sync::Arc, thread};

mod futex {
    use loom::sync::{
        Condvar, Mutex,
        atomic::{AtomicU32, Ordering},
    };

    #[allow(dead_code, reason = "there are no signals here")]
    pub enum Slept {
        Woken,
        Interrupted,
        Long,
    }

    /// A futex: compares and falls asleep in one step, as seen by who wakes.
    #[derive(Default)]
    pub struct Word(pub AtomicU32, Mutex<()>, Condvar);

    impl Word {
        pub fn wait(&self, expected: u32, _: u64) -> Slept {
            if crate::somebody_may_be_gone() {
                // A sleep that ends by itself, whenever loom lets it.
                loom::thread::yield_now();
                return Slept::Long;
            }
            let sleepers = self.1.lock().unwrap();
            // Relaxed: the lock must not rely on an ordering of the kernel's.
            if self.0.load(Ordering::Relaxed) == expected {
                drop(self.2.wait(sleepers).unwrap());
            }
            Slept::Woken
        }

        pub fn wake(&self) {
            let _sleepers = self.1.lock().unwrap();
            self.2.notify_all();
        }
    }
}

mod sys {
    pub const NS_PER_S: u64 = 1_000_000_000;

    pub fn without_signals(body: impl FnOnce()) {
        body();
    }

    pub fn now() -> u64 {
        0
    }
}

mod identity {
    /// A thread of the model.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Identity {
        pub number: u64,
        pub process: i32,
    }

    impl Identity {
        pub const UNKNOWN: Self = Self {
            number: 0,
            process: 0,
        };

        pub fn of_this_thread() -> Self {
            unreachable!("every thread of the model is given a number")
        }

        pub fn seen_now(id: u64) -> Self {
            Self {
                number: id,
                process: 0,
            }
        }

        pub fn is_known(self) -> bool {
            self.number != 0
        }

        pub fn id(self) -> u64 {
            self.number
        }

        pub fn is_gone(self) -> bool {
            crate::is_gone(self.number)
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

/// The thread that the model lets die, and whether it has.
struct Death {
    thread: std::sync::atomic::AtomicU64,
    happened: loom::sync::atomic::AtomicBool,
}

loom::lazy_static! {
    static ref DEATH: Death = Death {
        thread: std::sync::atomic::AtomicU64::new(0),
        happened: loom::sync::atomic::AtomicBool::new(false),
    };
}

fn somebody_may_be_gone() -> bool {
    DEATH.thread.load(std::sync::atomic::Ordering::Relaxed) != 0
}

fn is_gone(thread: u64) -> bool {
    DEATH.thread.load(std::sync::atomic::Ordering::Relaxed) == thread
        && DEATH.happened.load(loom::sync::atomic::Ordering::Acquire)
}

const CALL: Purpose = Purpose {
    name: &"call",
    address: std::ptr::null(),
    length: 0,
};

/// What the lock protects: loom fails a test in which two threads are at it at once, or one does not see what another did.
struct Guarded {
    lock: Lock,
    last_ticket: UnsafeCell<u64>,
}

impl Guarded {
    fn new() -> Arc<Self> {
        let lock = Lock::new();
        let last_ticket = UnsafeCell::new(lock.turn() - 1);
        Arc::new(Self { lock, last_ticket })
    }

    /// What is done inside.
    fn note(&self, ticket: u64) {
        self.last_ticket.with_mut(|last| {
            // SAFETY: that nobody else is here is what loom checks.
            let last = unsafe { &mut *last };
            assert!(*last < ticket, "served out of order");
            if !somebody_may_be_gone() {
                assert_eq!(*last + 1, ticket, "a ticket was passed over");
            }
            *last = ticket;
        });
    }

    fn call(&self, place: &Place) {
        assert!(self.lock.enter(place, &CALL).is_some());
        let ticket = self.lock.turn();
        self.note(ticket);
        assert_eq!(self.lock.enter(place, &CALL), None, "again");
        self.lock.leave(place);
        self.lock.leave(place);
    }
}

/// Runs `model` in every interleaving in which no more than `preemptions` times a thread loses the processor although it could go
/// on. (Without this bound there are more than can be run in a day.)
fn check(preemptions: usize, model: fn()) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 100_000;
    builder.check(model);
}

/// Mutual exclusion, order, re-entry; a wake-up that is lost is a deadlock, which loom reports.
fn contend(threads: u64, entries: usize) {
    let guarded = Guarded::new();
    let others: Vec<_> = (1..threads)
        .map(|number| {
            let guarded = guarded.clone();
            thread::spawn(move || {
                let place = Place::of(number);
                (0..entries).for_each(|_| guarded.call(&place));
            })
        })
        .collect();
    let place = Place::of(threads);
    (0..entries).for_each(|_| guarded.call(&place));
    others.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn two_threads_two_entries_each() {
    check(4, || contend(2, 2));
}

#[test]
fn three_threads_one_entry_each() {
    check(3, || contend(3, 1));
}

#[test]
fn three_threads_two_entries_each() {
    check(1, || contend(3, 2));
}

/// A thread ends inside; the two others go on.
#[test]
fn a_holder_that_is_gone() {
    check(1, || {
        const DYING: u64 = 1;
        DEATH
            .thread
            .store(DYING, std::sync::atomic::Ordering::Relaxed);
        let guarded = Guarded::new();
        let dying = {
            let guarded = guarded.clone();
            thread::spawn(move || {
                let place = Place::of(DYING);
                guarded.lock.enter(&place, &CALL);
                guarded.note(guarded.lock.turn());
                DEATH
                    .happened
                    .store(true, loom::sync::atomic::Ordering::Release);
            })
        };
        let other = {
            let guarded = guarded.clone();
            thread::spawn(move || guarded.call(&Place::of(2)))
        };
        guarded.call(&Place::of(3));
        dying.join().unwrap();
        other.join().unwrap();
    });
}
