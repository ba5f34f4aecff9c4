//! The lock: first come, first served; the thread inside may enter again; who has to wait sleeps in the kernel.
//!
//! Where nobody is, a thread enters with one compare-exchange that puts its own id into the lock's word, and leaves with
//! another. Where somebody is, it draws a ticket, and enters when that is served. Leaving serves the next ticket, and wakes the
//! thread that holds it; where calls are short, also the one behind, which is to be awake when its turn comes. Nothing here is ever
//! allocated, freed or initialized.
//!
//! A turn is taken, never given: only who puts its id into the word is inside. Therefore a ticket may be passed over at any
//! time. Its thread, should it live, finds that out, and draws another.

#[cfg(not(loom))]
mod futex;
#[cfg(not(loom))]
mod identity;
mod owner;
mod patrol;
mod state;

pub use owner::Purpose;

use core::{cell::Cell, sync::atomic::compiler_fence};
use futex::{Slept, Word};
use identity::Identity;
use owner::Owner;
use patrol::Patrol;
use state::{State, Ticket};
use sync::{AtomicBool, AtomicU64, Ordering, give_way};

/// What the lock is made of: the machine's, or loom's when tests/loom checks the algorithm.
mod sync {
    #[cfg(not(loom))]
    pub use crate::sys::yield_now as give_way;
    // A hint that orders nothing: one value at a time is all that the model has to try.
    pub use core::sync::atomic::AtomicBool;
    #[cfg(not(loom))]
    pub use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
    #[cfg(loom)]
    pub use loom::{
        sync::atomic::{AtomicU64, Ordering},
        thread::yield_now as give_way,
    };
}
use crate::sys::{self, now};
#[cfg(loom)]
use crate::{futex, identity};

/// How long the next in line stays awake, in nanoseconds (measured: benches/README.md). Where calls are shorter, nobody is
/// waited for to wake up, which would take 5 to 50 us.
const AWAKE: u64 = if cfg!(loom) { 0 } else { 300_000 };

/// Where calls are longer, one ticket in so many finds out whether they still are.
const TRIED_AGAIN: u64 = if cfg!(loom) { 2 } else { 8 };

/// Each waiter sleeps on a bell of its own as long as there are no more waiters than bells. A power of two. (The model has all
/// of them share one.)
const BELLS: usize = if cfg!(loom) { 1 } else { 1024 };

/// A first-come-first-served, re-entrant lock. All zero: nobody is there.
pub struct Lock {
    /// Who is inside and who waits: a `State`.
    word: Line<AtomicU64>,
    /// The thread inside, and what for.
    inside: Line<Owner>,
    /// The last call that was waited for took longer than the next in line stays awake.
    is_slow: Line<AtomicBool>,
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
    /// Who it is; looked up once.
    thread: Cell<Identity>,
    /// How often it has come out of fork() as somebody else.
    forks: Cell<u32>,
    /// The ticket that it waits with, or is just drawing; 0 for none. Noted before it is drawn: a signal handler that
    /// interrupts the thread anywhere from there to its turn waits with the same ticket.
    ticket: Cell<Ticket>,
    /// How often it has entered, or is about to, and not left.
    depth: Cell<u32>,
}

/// What it took to get in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Admission {
    /// Nanoseconds of waiting; `None` if the lock was free.
    pub waited: Option<u64>,
    /// How many threads were inside or waiting just then, this one included.
    pub crowd: u64,
}

impl Admission {
    /// Into a free lock.
    const AT_ONCE: Self = Self {
        waited: None,
        crowd: 1,
    };
}

impl Place {
    /// A thread of the model's.
    #[cfg(loom)]
    pub fn of(thread: u64) -> Self {
        Self {
            thread: Cell::new(Identity {
                number: thread,
                process: 0,
            }),
            forks: Cell::new(0),
            ticket: Cell::new(0),
            depth: Cell::new(0),
        }
    }

    /// How often the thread has entered and not left.
    #[inline]
    pub fn depth(&self) -> u32 {
        self.depth.get()
    }
}

impl Lock {
    /// A free lock.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            word: Line(AtomicU64::new(0)),
            inside: Line(Owner::nobody()),
            is_slow: Line(AtomicBool::new(false)),
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
            word: Line(AtomicU64::new(0)),
            inside: Line(Owner::default()),
            is_slow: Line(AtomicBool::new(false)),
            bells: core::array::from_fn(|_| bell()),
        }
    }

    /// Enters, after everybody who came before; `None` if this thread is inside already. Either way, `leave` has to follow on the
    /// same thread.
    ///
    /// A signal handler may come here at any time. Where it interrupts this thread's call, it is inside already; where it
    /// interrupts the wait, it waits with the same ticket, and what it has entered is the thread's when it returns.
    #[inline]
    pub fn enter(&self, place: &Place, purpose: &Purpose) -> Option<Admission> {
        place.depth.set(place.depth.get().wrapping_add(1));
        // A handler that comes in from here on is not the last to leave.
        compiler_fence(Ordering::SeqCst);
        let (state, me) = self.look(place);
        if state.holder() == me.id() {
            None
        } else if state.count() == 0 && self.take(state, me, purpose) {
            Some(Admission::AT_ONCE)
        } else {
            self.queue(place, purpose)
        }
    }

    /// Whether the calling thread is inside.
    #[inline]
    pub fn is_held_here(&self, place: &Place) -> bool {
        let me = place.thread.get();
        me.is_known() && self.state().holder() == me.id()
    }

    /// Takes one `enter` back. With the thread's last, in whatever order they end, the next in line enters.
    #[inline]
    pub fn leave(&self, place: &Place) {
        place.depth.set(place.depth.get().wrapping_sub(1));
        // A handler that comes in from here on leaves for us.
        compiler_fence(Ordering::SeqCst);
        if place.depth.get() > 0 {
            return;
        }
        loop {
            let (state, me) = self.look(place);
            // A thread that was taken for gone, and is not, must not end the turn of another.
            if state.holder() != me.id() || self.pass_on(state) {
                return;
            }
        }
    }

    /// Makes the lock that of the one thread that a forked child has: its own if it is inside, free otherwise.
    pub fn after_fork(&self, place: &Place) {
        place.forks.set(place.forks.get().wrapping_add(1));
        let parent = place.thread.get();
        let state = self.state();
        // Relaxed, both stores: there is no other thread.
        if parent.is_known() && parent.id() == state.holder() {
            let me = Identity::of_this_thread();
            let new = state.emptied().joined().taken_by(me.id());
            // A signal handler must find it inside.
            sys::without_signals(|| {
                self.word.0.store(new.0, Ordering::Relaxed);
                self.inside.0.hand_over(new.serving(), me);
                place.thread.set(me);
            });
        } else if parent.is_known() || state.count() > 0 {
            // In this order: a handler in between is its parent, in a free lock. (Otherwise: nothing to change, no page to
            // copy.)
            self.word.0.store(state.emptied().0, Ordering::Relaxed);
            compiler_fence(Ordering::SeqCst);
            place.thread.set(Identity::UNKNOWN);
        }
    }

    /// Who is inside and who waits, and who the calling thread is.
    #[inline]
    fn look(&self, place: &Place) -> (State, Identity) {
        loop {
            let me = self.identity(place);
            let state = self.state();
            // As in `introduce`.
            compiler_fence(Ordering::SeqCst);
            if place.thread.get().number == me.number {
                return (state, me);
            }
        }
    }

    /// Who the calling thread is.
    #[inline]
    fn identity(&self, place: &Place) -> Identity {
        let known = place.thread.get();
        if known.is_known() {
            known
        } else {
            self.introduce(place)
        }
    }

    /// Finds out who the calling thread is, which never came here before.
    #[cold]
    fn introduce(&self, place: &Place) -> Identity {
        loop {
            let forks = place.forks.get();
            let me = Identity::of_this_thread();
            let state = self.state();
            // A signal handler may have come here before us, and be inside for us.
            compiler_fence(Ordering::SeqCst);
            if place.thread.get().is_known() {
                return place.thread.get();
            }
            // The kernel has given this thread the id of one that is gone.
            if state.holder() == me.id() {
                patrol::pass_over_gone(self, state);
                continue;
            }
            place.thread.set(me);
            // A signal handler may have forked in between; in the child, this thread has another id.
            compiler_fence(Ordering::SeqCst);
            if place.forks.get() == forks {
                return me;
            }
            place.thread.set(Identity::UNKNOWN);
        }
    }

    /// Draws a ticket and waits for its turn.
    #[cold]
    fn queue(&self, place: &Place, purpose: &Purpose) -> Option<Admission> {
        let since = now();
        let interrupted = place.ticket.get();
        if interrupted != 0 && self.wait_for(interrupted, since, place, purpose) {
            return None;
        }
        let mut admission = Admission::AT_ONCE;
        while let Some((ticket, crowd)) = self.draw(place, purpose) {
            let is_inside = self.wait_for(ticket, since, place, purpose);
            admission.waited = Some(now().saturating_sub(since));
            admission.crowd = crowd;
            if is_inside {
                break;
            }
        }
        place.ticket.set(0);
        Some(admission)
    }

    /// Draws the next ticket, and says how many are inside or waiting with it; `None` if this thread has got inside instead.
    fn draw(&self, place: &Place, purpose: &Purpose) -> Option<(Ticket, u64)> {
        loop {
            let (state, me) = self.look(place);
            // A handler that interrupted us here has waited with the ticket that we were about to draw, and its turn is ours.
            if state.holder() == me.id() || state.count() == 0 && self.take(state, me, purpose) {
                return None;
            }
            if state.count() == 0 {
                continue;
            }
            if state.is_full() {
                give_way();
                continue;
            }
            let ticket = state.ticket(state.count());
            place.ticket.set(ticket);
            // A handler on this thread must find the note by the time that the ticket is drawn.
            compiler_fence(Ordering::SeqCst);
            if self.replace(state, state.joined()) {
                return Some((ticket, state.joined().count()));
            }
        }
    }

    /// Waits until `ticket` is served, and enters; `false` if it was passed over.
    fn wait_for(&self, ticket: Ticket, since: u64, place: &Place, purpose: &Purpose) -> bool {
        let bell = self.bell(ticket);
        bell.owner
            .sign(ticket, self.identity(place), &Purpose::WAIT);
        let mut patrol = Patrol::begin(self.state(), since);
        let mut awake_since = since;
        loop {
            let mut was_awake = false;
            loop {
                let (state, me) = self.look(place);
                match state.ahead_of(ticket) {
                    None => return false,
                    Some(0) if state.holder() != 0 => return state.holder() == me.id(),
                    Some(0) if self.take(state, me, purpose) => {
                        if was_awake {
                            self.set_slow(false);
                        }
                        return true;
                    }
                    Some(0) => {}
                    Some(1) if self.stays_awake(ticket, awake_since) => {
                        was_awake = true;
                        give_way();
                    }
                    Some(_) => break,
                }
            }
            // AcqRel pairs with the `fetch_add` in `ring`: both change the same word, so one comes first. If the ring
            // does, we see the state as it was put before; if ours does, the ring sees that we may be asleep.
            let heard = bell.word.0.fetch_or(ASLEEP, Ordering::AcqRel) | ASLEEP;
            if self.state().ahead_of(ticket).is_none_or(|ahead| ahead == 0) {
                continue;
            }
            match bell.word.wait(heard, patrol.deadline()) {
                Slept::Woken => awake_since = now(),
                // No reason to stay awake: who could be kept awake by signals would, with a real-time priority, keep the
                // holder from its work.
                Slept::Interrupted => {}
                Slept::Long => patrol.look(self, ticket),
            }
        }
    }

    /// Takes the turn, if `state` is still what it leaves to this thread.
    #[inline]
    fn take(&self, state: State, me: Identity, purpose: &Purpose) -> bool {
        // Who finds nobody joins first.
        let joined = if state.count() == 0 {
            state.joined()
        } else {
            state
        };
        let is_taken = self.replace(state, joined.taken_by(me.id()));
        if is_taken {
            self.inside.0.sign(state.serving(), me, purpose);
        }
        is_taken
    }

    /// Whether the next in line, with `ticket`, waits for its turn awake, as it has done since then.
    fn stays_awake(&self, ticket: Ticket, since: u64) -> bool {
        if !self.is_called_early(ticket) {
            return false;
        }
        let stays = now().saturating_sub(since) < AWAKE;
        if !stays {
            self.set_slow(true);
        }
        stays
    }

    /// Whether the holder of `ticket` is woken when it gets next in line, or only when its turn comes. Where calls take
    /// longer than the next in line stays awake, the former would be in vain and in the way; whether they still do is tried
    /// now and then.
    fn is_called_early(&self, ticket: Ticket) -> bool {
        // Relaxed: a hint.
        !self.is_slow.0.load(Ordering::Relaxed) || ticket.is_multiple_of(TRIED_AGAIN)
    }

    /// Notes how the last wait went.
    fn set_slow(&self, is_slow: bool) {
        // Relaxed: a hint. Written only when it changes: all waiters read it.
        if self.is_slow.0.load(Ordering::Relaxed) != is_slow {
            self.is_slow.0.store(is_slow, Ordering::Relaxed);
        }
    }

    /// Ends this turn, if nothing has changed, and wakes the thread whose turn is next.
    #[inline]
    fn pass_on(&self, state: State) -> bool {
        let is_done = self.replace(state, state.passed_on());
        if is_done && state.count() > 1 {
            self.call(state.passed_on().serving());
        }
        is_done
    }

    /// Wakes the thread whose turn it is, and the one behind it: that one is next in line now, and has to be awake when its turn
    /// comes, because waking up takes longer than many a registration.
    #[inline(never)]
    fn call(&self, ticket: Ticket) {
        self.ring(self.bell(ticket));
        let behind = ticket + 1;
        if self.is_called_early(behind) {
            let bell = self.bell(behind);
            // Relaxed: if it is missed, it will be woken in its turn.
            if bell.word.0.load(Ordering::Relaxed) & ASLEEP != 0 {
                self.ring(bell);
            }
        }
    }

    /// Wakes all who sleep there: one thread, unless there are more waiters than bells; then the others look and fall asleep
    /// again.
    fn ring(&self, bell: &Bell) {
        // AcqRel: see `wait_for`.
        if bell.word.0.fetch_add(RING, Ordering::AcqRel) & ASLEEP != 0 {
            // Relaxed: who sets the flag again compares the whole word when it falls asleep, and the wake-up comes after.
            bell.word.0.fetch_and(!ASLEEP, Ordering::Relaxed);
            bell.word.wake();
        }
    }

    /// Whose turn it is, and what for. Not known if the turn is that of a ticket whose thread has not gone to sleep yet.
    fn owner(&self, state: State) -> Option<(Identity, Purpose)> {
        if state.holder() == 0 {
            return self.bell(state.serving()).owner.of(state.serving());
        }
        let signed = self.inside.0.of(state.serving());
        signed
            .filter(|(thread, _)| thread.id() == state.holder())
            .or_else(|| Some((Identity::seen_now(state.holder()), Purpose::WAIT)))
    }

    /// Puts `new` in the place of `old`, if that is still there.
    #[inline]
    fn replace(&self, old: State, new: State) -> bool {
        // AcqRel: this is how one holder sees what another did inside. The one passes its turn on (Release); all that comes
        // until the other takes its turn (Acquire) are read-modify-writes too, and so keep the chain. Relaxed on failure: nothing was
        // learned.
        self.word
            .0
            .compare_exchange(old.0, new.0, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Who is inside and who waits.
    #[inline]
    fn state(&self) -> State {
        // Relaxed: `replace` confirms it, the bell orders it before a sleep, and what a thread has put here itself it sees.
        State(self.word.0.load(Ordering::Relaxed))
    }

    /// Which turn it is.
    #[cfg(any(test, loom))]
    pub fn turn(&self) -> Ticket {
        self.state().serving()
    }

    fn bell(&self, ticket: Ticket) -> &Bell {
        &self.bells[ticket as usize % BELLS]
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
