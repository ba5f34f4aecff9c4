//! The lock: first come, first served; the thread inside may enter again; who has to wait sleeps in the kernel.
//!
//! A thread draws a ticket and enters when that ticket is served. Leaving serves the next ticket, and wakes the thread
//! that holds it; where calls are short, also the one behind, which is to be awake when its turn comes. Nothing here is ever allocated, freed or initialized.
//!
//! Tickets have 64 bits: they never come again, and so a thread's last ticket says by itself where the thread stands.
//! Not yet served: it waits. Being served: it is inside. Past: it is outside.

#[cfg(not(loom))]
mod futex;
#[cfg(not(loom))]
mod identity;
mod owner;
mod patrol;

pub use futex::now;
pub use owner::Purpose;

use core::{cell::Cell, sync::atomic::compiler_fence};
use futex::{Slept, Word};
use identity::Identity;
use owner::Owner;
use patrol::Patrol;
use sync::{AtomicU64, Ordering, give_way};

/// What the lock is made of: the machine's, or loom's when tests/model checks the algorithm.
mod sync {
    #[cfg(not(loom))]
    pub use super::futex::give_way;
    #[cfg(not(loom))]
    pub use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
    #[cfg(loom)]
    pub use loom::{
        sync::atomic::{AtomicU64, Ordering},
        thread::yield_now as give_way,
    };
}
#[cfg(loom)]
use crate::{futex, identity};

/// How long the next in line stays awake, in nanoseconds (measured: benches/README.md). Where calls are shorter, nobody is
/// waited for to wake up, which would take 5 to 50 us.
const AWAKE: u64 = if cfg!(loom) { 0 } else { 300_000 };

/// Of so many sleepers that are called, one has the next in line woken with it.
const TRIED_AGAIN: u64 = if cfg!(loom) { 2 } else { 8 };

/// Each waiter sleeps on a bell of its own as long as there are no more waiters than bells. A power of two. (The model has all
/// of them share one.)
const BELLS: usize = if cfg!(loom) { 1 } else { 1024 };

const NS_PER_S: u64 = 1_000_000_000;

/// The first ticket. Zero is what a thread has that never drew one.
const FIRST: u64 = 1;

/// A first-come-first-served, re-entrant lock.
pub struct Lock {
    /// The ticket that the next arrival draws. On a cache line of its own: arrivals must not disturb those who watch
    /// `serving`.
    next: Line<AtomicU64>,
    /// The ticket whose thread may be inside.
    serving: Line<AtomicU64>,
    /// The thread inside, and what for.
    inside: Line<Owner>,
    /// Where the holder of ticket `t` sleeps: `bells[t % BELLS]`.
    bells: [Bell; BELLS],
}

/// A value on a cache line of its own; on two, because processors fetch them in pairs.
#[repr(align(128))]
struct Line<T>(T);

/// Where one waiter sleeps.
struct Bell {
    /// Changed by every ring; `ASLEEP` is set while somebody may sleep on it.
    word: Word,
    /// The waiter.
    owner: Owner,
}

/// In a bell's word: somebody may be asleep on it.
const ASLEEP: u32 = 1;
/// In a bell's word: what each ring adds, so that who is about to fall asleep sees that it was rung.
const RING: u32 = 2;

/// Where one thread stands with the lock. All zero: it never came here.
///
/// Plain cells, because only the thread itself and the signal handlers that interrupt it look.
#[repr(C)]
pub struct Place {
    /// The last ticket it drew.
    ticket: Cell<u64>,
    /// It is drawing one: a signal handler that finds this set has interrupted it there.
    drawing: Cell<bool>,
    /// Who it is; looked up once.
    thread: Cell<Identity>,
}

/// What it took to get in.
#[derive(Clone, Copy)]
pub struct Admission {
    /// Whether this thread was outside before. If not, the call is part of the outer one.
    pub outermost: bool,
    /// Nanoseconds of waiting; `None` if the lock was free, or held by this very thread.
    pub waited: Option<u64>,
    /// How many threads were inside or waiting just then, this one included.
    pub crowd: u64,
}

impl Place {
    /// A thread of the model's.
    #[cfg(loom)]
    pub fn of(thread: u64) -> Self {
        Self {
            ticket: Cell::new(0),
            drawing: Cell::new(false),
            thread: Cell::new(Identity {
                number: thread,
                process: 0,
            }),
        }
    }

    /// The ticket it drew last.
    #[cfg(loom)]
    pub fn last_ticket(&self) -> u64 {
        self.ticket.get()
    }

    /// Who this thread is.
    #[inline]
    fn identity(&self) -> Identity {
        let known = self.thread.get();
        if known != Identity::UNKNOWN {
            return known;
        }
        let found = Identity::of_this_thread();
        self.thread.set(found);
        found
    }
}

impl Lock {
    /// A free lock.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            next: Line(AtomicU64::new(FIRST)),
            serving: Line(AtomicU64::new(FIRST)),
            inside: Line(Owner::nobody()),
            bells: [const {
                Bell {
                    word: Word(sync::AtomicU32::new(0)),
                    owner: Owner::nobody(),
                }
            }; BELLS],
        }
    }

    /// A free lock of the model's.
    #[cfg(loom)]
    pub fn new() -> Self {
        let bell = || Bell {
            word: Word::default(),
            owner: Owner::default(),
        };
        Self {
            next: Line(AtomicU64::new(FIRST)),
            serving: Line(AtomicU64::new(FIRST)),
            inside: Line(Owner::default()),
            bells: core::array::from_fn(|_| bell()),
        }
    }

    /// Enters, after everybody who came before. Every `enter` is followed by a `leave` on the same thread.
    ///
    /// A signal handler may come here at any time. Where it interrupts this thread's call, it is inside already; where it
    /// interrupts the wait, it waits for the same ticket; where it interrupts the drawing of a ticket, see `Patrol::look`.
    #[inline]
    pub fn enter(&self, place: &Place, purpose: &Purpose) -> Admission {
        let has_interrupted = place.drawing.get();
        let ticket = place.ticket.get();
        let serving = self.serving();
        let is_part =
            ticket == serving || ticket > serving && self.wait_for(ticket, place, has_interrupted);
        if is_part {
            return Admission {
                outermost: false,
                waited: None,
                crowd: 1,
            };
        }
        let mut ticket = self.draw(place);
        let ahead = ticket.saturating_sub(self.serving());
        let waited = (self.serving() != ticket).then(|| {
            let since = now();
            while !self.wait_for(ticket, place, has_interrupted) {
                ticket = self.draw(place);
            }
            now().saturating_sub(since)
        });
        self.inside.0.sign(ticket, place.identity(), purpose);
        Admission {
            outermost: true,
            waited,
            crowd: ahead + 1,
        }
    }

    /// Draws the next ticket, and notes it.
    #[inline]
    fn draw(&self, place: &Place) -> u64 {
        let has_interrupted = place.drawing.replace(true);
        // A handler on this thread must find `drawing` set before the ticket is drawn, and until it is noted.
        compiler_fence(Ordering::SeqCst);
        // Acquire pairs with the Release in `is_wanted`: if the holder before us found nobody waiting, we see that it is our
        // turn. What it did inside is seen through `serving`.
        let ticket = self.next.0.fetch_add(1, Ordering::Acquire);
        place.ticket.set(ticket);
        compiler_fence(Ordering::SeqCst);
        place.drawing.set(has_interrupted);
        ticket
    }

    /// Leaves what `enter` admitted to; with the outermost call, the next in line enters.
    #[inline]
    pub fn leave(&self, place: &Place, admission: &Admission) {
        if admission.outermost {
            let ticket = place.ticket.get();
            // A thread that was taken for gone, and is not, must not bring back what is past.
            if self.serving() != ticket {
                return;
            }
            // Release pairs with the Acquire of `serving()`: the next holder sees all that we did inside.
            self.serving.0.store(ticket + 1, Ordering::Release);
            if self.is_wanted(ticket + 1) {
                self.call(ticket + 1);
            }
        }
    }

    /// Whether `ticket`, which is being served by now, has been drawn. Where nobody waits, this keeps `leave` to the cache
    /// lines that `enter` has used, and away from the bells.
    #[inline]
    fn is_wanted(&self, ticket: u64) -> bool {
        // A read-modify-write that changes nothing: it comes before or after the `fetch_add` that draws the ticket. If
        // after, we see that it was drawn. If before, who draws it sees `serving` as it was stored before this.
        // Release pairs with the Acquire in `enter`. Relaxed on failure: only the number counts.
        self.next
            .0
            .compare_exchange(ticket, ticket, Ordering::Release, Ordering::Relaxed)
            .is_err()
    }

    /// Makes the lock that of the one thread that a forked child has: its own if it is inside, free otherwise.
    pub fn after_fork(&self, place: &Place) {
        place.thread.set(Identity::UNKNOWN);
        let ticket = place.ticket.get();
        // Relaxed: there is no other thread.
        if ticket >= self.serving.0.load(Ordering::Relaxed) {
            self.serving.0.store(ticket, Ordering::Relaxed);
            self.next.0.store(ticket + 1, Ordering::Relaxed);
            self.inside.0.hand_over(ticket, place.identity());
        } else {
            let next = self.next.0.load(Ordering::Relaxed);
            self.serving.0.store(next, Ordering::Relaxed);
        }
    }

    /// Waits until `ticket` is served; `false` if it was passed over.
    #[cold]
    fn wait_for(&self, ticket: u64, place: &Place, has_interrupted: bool) -> bool {
        let bell = self.bell(ticket);
        bell.owner.sign(ticket, place.identity(), &Purpose::WAIT);
        let mut patrol = Patrol::begin(self.serving(), has_interrupted);
        loop {
            let awake_until = now() + AWAKE;
            loop {
                match ticket.checked_sub(self.serving()) {
                    None => return false,
                    Some(0) => return true,
                    Some(1) if now() < awake_until => give_way(),
                    Some(_) => break,
                }
            }
            // AcqRel pairs with the `fetch_add` in `ring`: both change the same word, so one comes first. If the ring
            // does, we see `serving` as it was stored before; if ours does, the ring sees that we may be asleep.
            let heard = bell.word.0.fetch_or(ASLEEP, Ordering::AcqRel) | ASLEEP;
            if self.serving() < ticket && bell.word.wait(heard, patrol.deadline()) == Slept::Long {
                patrol.look(self, ticket);
            }
        }
    }

    /// Wakes the thread whose turn it is, and the one behind it: that one is next in line now, and has to be awake when
    /// its turn comes, because waking up takes longer than many a registration.
    ///
    /// If the first one was asleep, then calls take longer than the next in line stays awake, and to wake the one behind is
    /// in vain and in the way. Whether that has changed is tried now and then.
    #[inline]
    fn call(&self, ticket: u64) {
        let was_asleep = self.ring(self.bell(ticket));
        if was_asleep && !ticket.is_multiple_of(TRIED_AGAIN) {
            return;
        }
        let behind = self.bell(ticket + 1);
        // Relaxed: if it is missed, it will be woken in its turn.
        if behind.word.0.load(Ordering::Relaxed) & ASLEEP != 0 {
            self.ring(behind);
        }
    }

    /// Wakes who sleeps there, and says whether somebody may have.
    #[inline]
    fn ring(&self, bell: &Bell) -> bool {
        // AcqRel: see `wait_for`.
        let asleep = bell.word.0.fetch_add(RING, Ordering::AcqRel) & ASLEEP != 0;
        if asleep {
            wake_all(bell);
        }
        asleep
    }

    /// Who holds `ticket`, and for what. It is known once that thread has entered or gone to sleep.
    fn owner(&self, ticket: u64) -> Option<(Identity, Purpose)> {
        self.inside
            .0
            .of(ticket)
            .or_else(|| self.bell(ticket).owner.of(ticket))
    }

    /// Serves the ticket behind this one, whose thread is gone. `false` if it is not being served (any more).
    fn pass_over(&self, ticket: u64) -> bool {
        // AcqRel as in `leave` and `serving()`: what the thread did before it ended is seen by the next holder.
        let passed = self
            .serving
            .0
            .compare_exchange(ticket, ticket + 1, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok();
        if passed {
            self.call(ticket + 1);
        }
        passed
    }

    /// The ticket being served. Acquire pairs with the Release in `leave`.
    #[inline]
    fn serving(&self) -> u64 {
        self.serving.0.load(Ordering::Acquire)
    }

    #[inline]
    fn bell(&self, ticket: u64) -> &Bell {
        &self.bells[ticket as usize % BELLS]
    }
}

/// Wakes all who sleep on this bell: one thread, unless there are more waiters than bells; then the others look and
/// fall asleep again.
#[cold]
fn wake_all(bell: &Bell) {
    // Relaxed: who sets the flag again compares the whole word when it falls asleep, and the wake-up comes after.
    bell.word.0.fetch_and(!ASLEEP, Ordering::Relaxed);
    bell.word.wake();
}

#[cfg(all(test, not(loom)))]
mod tests;
