//! The lock: first come, first served; the thread inside may enter again; who has to wait sleeps in the kernel.
//!
//! A thread draws a ticket and enters when that ticket is served. Leaving serves the next ticket and wakes the one
//! thread that holds it. Nothing here is ever freed, allocated or initialized at run time.

mod futex;

pub use futex::now;

use core::{
    cell::Cell,
    hint,
    sync::atomic::{AtomicU32, Ordering},
};

/// How often the next in line looks before it goes to sleep: some 20 to 40 us, about what waking up costs.
const LOOKS_BEFORE_SLEEP: u32 = 1000;

/// Each waiter sleeps on a bell of its own as long as there are no more waiters than bells. A power of two.
const BELLS: usize = 1024;

/// In a bell: somebody may be asleep on it.
const ASLEEP: u32 = 1;
/// In a bell: what each ring adds, so that a sleeper about to fall asleep sees that it was rung.
const RING: u32 = 2;

/// A first-come-first-served, re-entrant lock.
pub struct Lock {
    /// The ticket that the next arrival draws. On a cache line of its own: arrivals must not disturb those who watch
    /// `serving`.
    next: Line<AtomicU32>,
    /// The ticket whose thread may be inside.
    serving: Line<AtomicU32>,
    /// Where ticket `t` sleeps: `bells[t % BELLS]`.
    bells: [AtomicU32; BELLS],
}

/// A value on a cache line of its own.
#[repr(align(64))]
struct Line<T>(T);

/// Where one thread stands with the lock. All zero: outside.
///
/// Plain cells, because only the thread itself and the signal handlers that interrupt it look.
#[repr(C)]
pub struct Place {
    /// How many calls of this thread are inside or, with the first of them, waiting to be.
    depth: Cell<u32>,
    /// The ticket of the first of them.
    ticket: Cell<u32>,
}

/// What it took to get in.
#[derive(Clone, Copy)]
pub struct Admission {
    /// Nanoseconds of waiting; `None` if the lock was free, or held by this very thread.
    pub waited: Option<u64>,
    /// How many threads were inside or waiting just then, this one included.
    pub crowd: u32,
}

impl Lock {
    /// A free lock.
    pub const fn new() -> Self {
        Self {
            next: Line(AtomicU32::new(0)),
            serving: Line(AtomicU32::new(0)),
            bells: [const { AtomicU32::new(0) }; BELLS],
        }
    }

    /// Enters, after everybody who came before. Every `enter` is followed by a `leave` on the same thread.
    #[inline]
    pub fn enter(&self, place: &Place) -> Admission {
        let depth = place.depth.get();
        place.depth.set(depth + 1);
        if depth == 0 {
            // Relaxed: it only has to be a number of our own. What the holders before us did is seen through `serving`.
            place
                .ticket
                .set(self.next.0.fetch_add(1, Ordering::Relaxed));
        }
        let ticket = place.ticket.get();
        let ahead = ticket.wrapping_sub(self.serving());
        if ahead == 0 {
            return Admission {
                waited: None,
                crowd: 1,
            };
        }
        // Also for depth > 0: a signal handler that interrupted our own wait has to wait for the same ticket.
        let since = now();
        self.wait_for(ticket);
        Admission {
            waited: Some(now().saturating_sub(since)),
            crowd: ahead.saturating_add(1),
        }
    }

    /// Leaves; with the outermost call of this thread, the next in line enters.
    #[inline]
    pub fn leave(&self, place: &Place) {
        let depth = place.depth.get().saturating_sub(1);
        place.depth.set(depth);
        if depth == 0 {
            let next = place.ticket.get().wrapping_add(1);
            // Release pairs with the Acquire of `serving()`: the next holder sees all that we did inside.
            self.serving.0.store(next, Ordering::Release);
            let bell = self.bell(next);
            // AcqRel pairs with the waiter's `fetch_or`: both change the same word, so one comes first. If ours does, the
            // waiter sees `serving` as we just stored it; if the waiter's does, we see that it may be asleep.
            if bell.fetch_add(RING, Ordering::AcqRel) & ASLEEP != 0 {
                wake_all(bell);
            }
        }
    }

    #[cold]
    fn wait_for(&self, ticket: u32) {
        let bell = self.bell(ticket);
        loop {
            let mut looks = 0;
            loop {
                match ticket.wrapping_sub(self.serving()) {
                    0 => return,
                    1 if looks < LOOKS_BEFORE_SLEEP => looks += 1,
                    _ => break,
                }
                hint::spin_loop();
            }
            // AcqRel pairs with the `fetch_add` in `leave`, as said there.
            let heard = bell.fetch_or(ASLEEP, Ordering::AcqRel) | ASLEEP;
            if self.serving() != ticket {
                futex::wait(bell, heard);
            }
        }
    }

    /// The ticket being served. Acquire pairs with the Release in `leave`.
    #[inline]
    fn serving(&self) -> u32 {
        self.serving.0.load(Ordering::Acquire)
    }

    #[inline]
    fn bell(&self, ticket: u32) -> &AtomicU32 {
        &self.bells[ticket as usize % BELLS]
    }
}

/// Wakes all who sleep on this bell: one thread, unless there are more waiters than bells; then the others look and
/// fall asleep again.
#[cold]
fn wake_all(bell: &AtomicU32) {
    // Relaxed: whoever sets the flag again compares the whole word when it falls asleep, and the wake-up comes after.
    bell.fetch_and(!ASLEEP, Ordering::Relaxed);
    futex::wake(bell);
}
