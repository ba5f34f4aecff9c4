//! The lock: one thread inside, which may enter again; a running thread takes it when it is free; no waiter is bypassed for
//! long; waiters sleep in the kernel.
//!
//! Nothing here is ever allocated, freed or initialized: all zero is a free lock, and a thread that never came here.
//!
//! # What one thread does
//!
//! ```text
//!               the lock is open                          unlock: if the successor is
//!   outside ------------------------------> holder        asleep, wake it; if there is
//!      |                                    ^  ^  |       none, wake one of the queue
//!      | otherwise                 is open  |  |  | -----------------------------> outside
//!      v                                    |  |
//!   waiter ---------------------------------+  | free for some looks,
//!      |  |                                 ^  | or free and reserved
//!      |  | no successor, queue empty       |  |
//!      |  +------------------------> successor | spins; reserves the lock when it was bypassed for
//!      | otherwise                     ^       | long enough; sleeps where a call takes too long
//!      v         woken, or a long sleep|
//!   wait queue ------------------------+
//! ```
//!
//! The lock is *open* if it is free and not reserved. There is one *successor* at most: the waiter that is next. All others sleep
//! in the wait queue, which is the kernel's, in order of arrival (`EventCount`). One that has looked after the others
//! (`Watchdog`) falls asleep behind those that have slept for as long, and before all others.
//!
//! # The bound
//!
//! A successor enters after `BYPASS_LONG` (2 ms) and two calls at most: the one that is inside when this time is over, and one
//! more. A waiter with n others ahead of it enters after n + 1 times that, and the wake-ups. Until then, a thread that
//! leaves and comes again keeps the lock, which costs no wake-up.
//!
//! The bound holds for threads that the kernel lets run. A reserved lock that its successor does not take, because other
//! programs have the processor, is taken by another waiter: after `IDLE_NAP` (0.1 ms), or, where calls are long, after two
//! periods of the watchdog. Threads with a real-time priority are woken before all others, and after 10 s of waiting (`AGES`)
//! the order is that of the last sleep.
//!
//! # Invariants
//!
//! 1. A thread is inside if and only if its id is the holder's in the word. It has put it there itself, where there
//!    was none. So successors, reservations and wake-ups may be taken back at any time.
//! 2. Whatever changes the word is a read-modify-write, and each turn has another number: a change that is made by a thread
//!    that has read an old state fails.
//! 3. Of the wait queue, one thread at a time is being woken (`WAKING`), until it has looked. A thread that takes itself for this
//!    one, and is not, causes one wake-up too many, never one too few.
//! 4. A waiter reads the count of the event that it will sleep for, then confirms the state that makes it sleep; a thread that
//!    wakes others changes the state, then the count. So either the waiter sees the new state, or the kernel sees the
//!    new count.
//! 5. While the lock is open and threads wait, one that is awake is going to look: the successor, a thread that was woken, or one
//!    that is about to wake another. A reserved lock has a successor, which is awake or about to be woken.
//!    A signal handler finds in the `ThreadState` what the interrupted thread was about to do, and does it.
//! 6. A thread that ends anywhere breaks 5 at worst. No sleep is longer than the watchdog's period, and a waiter that has
//!    slept for so long replaces an ended holder, or a successor that makes nothing of its chance.

mod holder;
mod state;
mod successor;
mod watchdog;

pub use holder::CallInfo;

use crate::{
    fork::ForkMark,
    futex::EventCount,
    sys::{Errno, now},
    thread_id::ThreadId,
};
use core::{cell::Cell, sync::atomic::compiler_fence};
use holder::HolderRecord;
use state::{ASLEEP, QUEUED, RESERVED, State, WAKING};
use successor::{Move, Succession, UsualHold};
use sync::{HintWord, Ordering, Word, pause};
use watchdog::Watchdog;

/// What the lock is made of: the machine's, or loom's when the model checks the algorithm.
mod sync {
    // Hints and statistics, which order nothing, and the record, which has a model of its own: one value at a time is all
    // that the model of the algorithm has to try.
    #[cfg(loom)]
    pub use crate::Word;
    #[cfg(not(loom))]
    pub use core::sync::atomic::AtomicU64 as Word;
    pub use core::sync::atomic::Ordering;
    pub use core::sync::atomic::{AtomicU64 as HintWord, AtomicU64 as RecordWord};
    #[cfg(loom)]
    pub use loom::thread::yield_now as pause;

    /// About a tenth of a microsecond. The processor is not given away: the kernel may take it for milliseconds.
    #[cfg(not(loom))]
    pub fn pause() {
        (0..8).for_each(|_| core::hint::spin_loop());
    }
}

/// A re-entrant lock with bounded bypass. All zero: free.
#[cfg_attr(loom, derive(Default))]
pub struct Lock {
    fork: ForkMark,
    /// A `State`.
    word: CachePadded<Word>,
    /// The holder and its call.
    record: CachePadded<HolderRecord>,
    /// Where the successor sleeps.
    successor: CachePadded<EventCount>,
    /// The wait queue: one for each number of periods of the watchdog that a waiter has slept.
    queues: [EventCount; AGES],
    hold: UsualHold,
    /// How many threads wait, at most: one that ends while it waits stays in it.
    waiters: HintWord,
}

/// A waiter that has slept for so many periods of the watchdog gets no older.
const AGES: usize = if cfg!(loom) { 2 } else { 32 };

/// A value on a cache line of its own; on two, because processors fetch them in pairs.
#[cfg_attr(loom, derive(Default))]
#[repr(align(128))]
struct CachePadded<T>(T);

/// What one thread knows of itself. All zero: it never came here.
///
/// Plain cells, because only the thread itself and the signal handlers that interrupt it look.
#[cfg_attr(any(test, loom), derive(Default))]
#[repr(C)]
pub struct ThreadState {
    /// Looked up once.
    id: Cell<ThreadId>,
    /// How often it has locked, or is about to, and not unlocked.
    depth: Cell<u32>,
    /// How many waits it is in: a signal handler that interrupts one may begin another.
    waits: Cell<u64>,
    /// A wake-up may be under way that only this thread can complete.
    is_called: Cell<bool>,
    /// It has freed the lock, and may not have woken those that wait for it.
    owes_wake_up: Cell<bool>,
}

/// What it took to get in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Admission {
    /// Nanoseconds of waiting; `None` if the lock was free.
    pub waited: Option<u64>,
    /// How many threads were inside or waiting just then, this one included.
    pub contenders: u64,
}

impl Admission {
    /// Into a free lock.
    const AT_ONCE: Self = Self {
        waited: None,
        contenders: 1,
    };

    /// Into two locks, one after the other; `second` is `None` if the thread was inside that one already.
    pub fn and(self, second: Option<Self>) -> Self {
        let Some(second) = second else { return self };
        Self {
            waited: match (self.waited, second.waited) {
                (Some(first), Some(second)) => Some(first + second),
                (first, second) => first.or(second),
            },
            contenders: self.contenders.max(second.contenders),
        }
    }
}

impl ThreadState {
    /// A thread that has this id, or seems to.
    #[cfg(any(test, loom))]
    pub fn of(id: u64) -> Self {
        Self {
            id: Cell::new(ThreadId {
                bits: id,
                process: 0,
            }),
            ..Self::default()
        }
    }
}

impl Lock {
    /// A free lock.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            fork: ForkMark::new(),
            word: CachePadded(Word::new(0)),
            record: CachePadded(HolderRecord::new()),
            successor: CachePadded(EventCount::new()),
            queues: [const { EventCount::new() }; AGES],
            hold: UsualHold::new(),
            waiters: HintWord::new(0),
        }
    }

    /// A free lock of the model's.
    #[cfg(loom)]
    pub fn with_long_calls() -> Self {
        Self {
            hold: UsualHold::long(),
            ..Self::default()
        }
    }

    /// Enters; `None` if this thread is inside already. Either way, `unlock` has to follow on the same thread.
    ///
    /// A signal handler may come here at any time. Where it interrupts this thread's call, it is inside already; where it
    /// interrupts the wait, what it has entered is the thread's when it returns.
    #[inline]
    pub fn lock(&self, thread: &ThreadState, call: &CallInfo) -> Option<Admission> {
        thread.depth.set(thread.depth.get().wrapping_add(1));
        // A handler that comes in from here on is not the last to leave.
        compiler_fence(Ordering::SeqCst);
        let (state, me) = self.look(thread);
        if state.holder() == me.id() {
            None
        } else if state.is_open()
            && thread.waits.get() == 0
            && self.take(state, state.taken_by(me.id()), me, call)
        {
            Some(Admission::AT_ONCE)
        } else {
            Some(self.wait(state, thread, call))
        }
    }

    /// Whether the calling thread is inside.
    #[inline]
    pub fn is_held_by(&self, thread: &ThreadState) -> bool {
        let me = thread.id.get();
        me.is_known() && self.state().holder() == me.id()
    }

    /// Takes one `lock` back. With the thread's last, in whatever order they end, the lock is free.
    #[inline]
    pub fn unlock(&self, thread: &ThreadState) {
        thread.depth.set(thread.depth.get().wrapping_sub(1));
        // A handler that comes in from here on unlocks for us.
        compiler_fence(Ordering::SeqCst);
        if thread.depth.get() > 0 {
            return;
        }
        loop {
            let (state, me) = self.look(thread);
            // A thread that was taken for ended, and is not, must not release the lock of another.
            if state.holder() != me.id() {
                return;
            }
            let (wakes_successor, wakes_queued) = (state.has(ASLEEP), state.lacks_successor());
            let free = state.released().without(ASLEEP).waking_if(wakes_queued);
            let (owed, owes) = (thread.owes_wake_up.get(), wakes_successor || wakes_queued);
            // Before the lock is free: a handler that interrupts this may wait for it. What the call owes that this one has
            // interrupted stays.
            thread.owes_wake_up.set(owed || owes);
            let is_free = self.replace(state, free);
            if is_free && owes {
                self.wake(wakes_successor, wakes_queued);
            }
            thread.owes_wake_up.set(owed);
            if is_free {
                return;
            }
        }
    }

    /// Makes the lock that of the one thread that a forked child has: its own if it is inside, free otherwise.
    #[cfg(not(loom))]
    pub fn after_fork(&self, thread: &ThreadState) {
        self.fork.unmark();
        // Otherwise there is nothing to change, and no page to copy.
        if thread.id.get().is_known() || !self.state().is_idle() {
            self.fork.mark(|| self.adopt(thread));
        }
    }

    /// The same where no fork handler has run, or the process is new. (The first thread that comes here has to be the one that
    /// forked.)
    fn adopt(&self, thread: &ThreadState) {
        let (parent, state) = (thread.id.get(), self.state());
        // Relaxed, all stores: there is no other thread.
        self.waiters.store(thread.waits.get(), Ordering::Relaxed);
        thread.id.set(ThreadId::default());
        let mut new = state.reset();
        if parent.is_known() && parent.id() == state.holder() {
            let me = ThreadId::current();
            thread.id.set(me);
            new = new.taken_by(me.id());
            self.record.0.rename(new.turn(), me);
        }
        self.word.0.store(new.0, Ordering::Relaxed);
        self.keep_awake();
    }

    /// The state of the lock, and the calling thread.
    #[inline]
    fn look(&self, thread: &ThreadState) -> (State, ThreadId) {
        loop {
            if !self.fork.is_marked() {
                self.fork.mark(|| self.adopt(thread));
            }
            let me = thread.id.get();
            let me = if me.is_known() {
                me
            } else {
                self.identify(thread)
            };
            let state = self.state();
            // A signal handler may have forked in between: then the state is no longer the one that goes with this id.
            compiler_fence(Ordering::SeqCst);
            if thread.id.get() == me {
                return (state, me);
            }
        }
    }

    /// Looks up the id of the calling thread, which never came here before.
    #[cold]
    fn identify(&self, thread: &ThreadState) -> ThreadId {
        let me = ThreadId::current();
        let state = self.state();
        // A signal handler may have come here before us, and be inside for us.
        compiler_fence(Ordering::SeqCst);
        if !thread.id.get().is_known() {
            // The kernel has given this thread the id of one that has ended.
            if state.holder() == me.id() {
                watchdog::release_of_ended(self, state);
            }
            thread.id.set(me);
        }
        // Or it may have forked: in the child, this thread has another id.
        while !thread.id.get().is_current() {
            thread.id.set(ThreadId::current());
        }
        thread.id.get()
    }

    /// Waits until the lock is this thread's.
    #[cold]
    fn wait(&self, state: State, thread: &ThreadState, call: &CallInfo) -> Admission {
        if thread.owes_wake_up.get() {
            self.wake(true, true);
        }
        let since = now();
        let mut waiter = Waiter::begin(state, since);
        thread.waits.set(thread.waits.get() + 1);
        // Relaxed, and below: a statistic.
        let others = self.waiters.fetch_add(1, Ordering::Relaxed);
        let holders = u64::from(!state.is_free());
        let mut waited = None;
        while !self.try_to_enter(thread, call, &mut waiter) {
            waited = Some(0);
        }
        thread.is_called.set(false);
        thread.waits.set(thread.waits.get() - 1);
        if thread.waits.get() > 0 {
            // The wait that a handler has interrupted may be about to sleep, with the lock its own.
            self.keep_awake();
        }
        Admission {
            waited: waited.map(|_| now().saturating_sub(since)),
            contenders: (others + 1 + holders).max(1 + u64::from(waited.is_some())),
        }
    }

    /// Looks once, and does what has to be done then: enters, becomes the successor, spins or sleeps. Whether this thread is
    /// inside.
    fn try_to_enter(&self, thread: &ThreadState, call: &CallInfo, waiter: &mut Waiter) -> bool {
        let (state, me) = self.look(thread);
        let is_called = thread.is_called.get();
        // A thread that was woken has arrived, and does not know whether others are still asleep.
        let seen = match is_called {
            true => state.without(WAKING).with(QUEUED),
            false => state,
        };
        if state.holder() == me.id() {
            // A signal handler that interrupted this wait has taken it, but not the wake-up, if that was for us.
            let is_done = !is_called || self.replace(state, seen);
            if is_done {
                self.waiters.fetch_sub(1, Ordering::Relaxed);
            }
            return is_done;
        }
        if state.successor() == me.id() {
            return self.succeed(state, me, call, waiter);
        }
        waiter.succession = None;
        if state.is_open() {
            return self.take_and_wake(state, seen, me, call);
        }
        if state.successor() == 0 && (is_called || !state.has(QUEUED | WAKING)) {
            if self.replace(state, seen.succeeded_by(me.id())) {
                thread.is_called.set(false);
            }
            return false;
        }
        waiter.idle_looks = u32::from(state.is_free()) * (waiter.idle_looks + 1);
        if waiter.idle_looks > IDLE_LOOKS {
            // The successor reserves the lock again when it looks.
            return self.take_and_wake(state, seen.without(RESERVED), me, call);
        }
        if (1..IDLE_LOOKS).contains(&waiter.idle_looks) && !self.hold.is_long() {
            pause();
        } else {
            self.sleep(state, seen, thread, waiter);
        }
        false
    }

    /// Sleeps in the wait queue, or only naps there.
    fn sleep(&self, state: State, seen: State, thread: &ThreadState, waiter: &mut Waiter) {
        let naps = waiter.idle_looks == IDLE_LOOKS;
        let nap = naps.then(|| now() + IDLE_NAP);
        let queue = &self.queues[waiter.age.min(AGES - 1)];
        // Invariant 4.
        let count = queue.get();
        if !self.replace(state, seen.with(QUEUED)) {
            return;
        }
        // Before the sleep: a handler that interrupts it may find that the kernel has chosen this thread.
        thread.is_called.set(true);
        let error = queue.wait(count, nap.unwrap_or(waiter.watchdog.deadline()));
        thread.is_called.set(error.is_none());
        if !naps && error == Some(Errno::ETIMEDOUT) {
            waiter.age += 1;
            // It may be that a thread has ended that was to wake this one: one that was woken for it, or the holder.
            let now = self.state();
            let lack_successor = [state, now].map(State::successor) == [0, 0];
            let are_waking = state.has(WAKING) && now.has(WAKING);
            let are_one_call = (state.turn(), state.holder()) == (now.turn(), now.holder());
            thread
                .is_called
                .set(lack_successor && (are_waking || are_one_call));
            waiter.watchdog.check(self, thread.id.get());
        }
    }

    /// The same for the successor.
    fn succeed(&self, state: State, me: ThreadId, call: &CallInfo, waiter: &mut Waiter) -> bool {
        let now = now();
        let succession = waiter
            .succession
            .get_or_insert_with(|| Succession::begin(state, now));
        match succession.next_move(state, now, &self.hold) {
            Move::Take => return self.take_and_wake(state, state, me, call),
            Move::Reserve => {
                // The state may be another with every look at the clock.
                let mut state = state;
                while state.successor() == me.id() && !self.replace(state, state.with(RESERVED)) {
                    state = self.state();
                }
            }
            Move::Spin => pause(),
            Move::Sleep => {
                // Invariant 4.
                let count = self.successor.0.get();
                if self.replace(state, state.with(ASLEEP)) {
                    let error = self.successor.0.wait(count, waiter.watchdog.deadline());
                    if error == Some(Errno::ETIMEDOUT) {
                        waiter.watchdog.check(self, me);
                    }
                }
            }
        }
        false
    }

    /// `take` for a waiter. Where calls are short, the next successor is awake by the time that this one leaves.
    fn take_and_wake(&self, old: State, seen: State, me: ThreadId, call: &CallInfo) -> bool {
        let taken = seen.taken_by(me.id());
        let wakes_queued = taken.lacks_successor() && !self.hold.is_long();
        let taken = taken.waking_if(wakes_queued);
        // Before the attempt: a thread that arrives meanwhile must not count this one as a waiter and as the holder.
        self.waiters.fetch_sub(1, Ordering::Relaxed);
        let is_taken = self.take(old, taken, me, call);
        if !is_taken {
            self.waiters.fetch_add(1, Ordering::Relaxed);
        } else if wakes_queued {
            self.wake(false, true);
        }
        is_taken
    }

    /// Threads that are about to sleep look again.
    fn keep_awake(&self) {
        self.successor.0.count();
        self.queues.iter().for_each(EventCount::count);
    }

    /// Wakes the successor, or a thread of the wait queue, for which `WAKING` is set.
    #[inline(never)]
    fn wake(&self, successor: bool, queued: bool) {
        if successor {
            self.successor.0.signal(i32::MAX);
        }
        while queued && !self.queues.iter().rev().any(|queue| queue.signal(1)) {
            // None slept. Those that were about to, look again; one that has fallen asleep since relies on the wake-up.
            let state = self.state();
            let flag = if state.has(QUEUED) { QUEUED } else { WAKING };
            if !state.has(WAKING) || self.replace(state, state.without(flag)) && flag == WAKING {
                return;
            }
        }
    }

    /// Enters if `old` is still there; `new` is what it then is.
    #[inline]
    fn take(&self, old: State, new: State, me: ThreadId, call: &CallInfo) -> bool {
        let is_taken = self.replace(old, new);
        if is_taken {
            self.record.0.write(new.turn(), me, call);
        }
        is_taken
    }

    /// The thread inside, and its call. One that has not said so yet is the one that has its id now.
    fn holder(&self, state: State) -> (ThreadId, CallInfo) {
        let record = self.record.0.read(state.turn());
        record
            .filter(|(thread, _)| thread.id() == state.holder())
            .unwrap_or_else(|| (ThreadId::alive_now(state.holder()), CallInfo::WAITING))
    }

    /// Puts `new` in the place of `old`, if that is still there.
    #[inline]
    fn replace(&self, old: State, new: State) -> bool {
        // AcqRel: this is how one holder sees what another did inside. The one releases the lock (Release); all changes until the
        // other takes it (Acquire) are read-modify-writes too, and so keep the chain. Relaxed on failure: nothing was learned.
        let changed =
            self.word
                .0
                .compare_exchange(old.0, new.0, Ordering::AcqRel, Ordering::Relaxed);
        #[cfg(any(test, loom))]
        changed.iter().for_each(|_| new.check_step_from(old));
        changed.is_ok()
    }

    /// What the word says now.
    #[inline]
    fn state(&self) -> State {
        // Relaxed: `replace` confirms it, or the event count orders it (invariant 4). What a thread has put there itself it sees.
        State(self.word.0.load(Ordering::Relaxed))
    }
}

/// How often a waiter sees the lock left to a successor that does not take it, before it naps; and for how long, in
/// nanoseconds, before it takes the lock itself: the successor has lost the processor.
const IDLE_LOOKS: u32 = if cfg!(loom) { 1 } else { 20 };
const IDLE_NAP: u64 = 100_000;

/// What a thread knows of its own wait.
struct Waiter {
    watchdog: Watchdog,
    /// Since it is the successor.
    succession: Option<Succession>,
    /// For how many periods of the watchdog it has slept in the wait queue.
    age: usize,
    /// How often, just now, it has seen the lock left to the successor.
    idle_looks: u32,
}

impl Waiter {
    fn begin(state: State, now: u64) -> Self {
        Self {
            watchdog: Watchdog::begin(state, now),
            succession: None,
            age: 0,
            idle_looks: 0,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
