//! The lock: one thread inside, which may enter again; a running thread takes it when it is open; no waiter is bypassed for
//! long; waiters sleep in the kernel.
//!
//! Nothing here is ever allocated, freed or initialized: all zero is a free lock, and a thread that never came here.
//!
//! # What one thread does
//!
//! ```text
//!               the lock is open                          unlock: if the successor is
//!   outside ------------------------------> holder        asleep, wake it; if there is
//!      |                                    ^  ^  |       none, wake one of the queue; if the
//!      |                                    |  |  |       thread stays away, reserve the lock
//!      |                                    |  |  |       for a successor that is awake or dozes, wake one
//!      | otherwise                 is open  |  |  | -----------------------------> outside
//!      v                                    |  |
//!   waiter ---------------------------------+  | free for some looks,
//!      |  |                                 ^  | or free and reserved
//!      |  | no successor, queue empty       |  |
//!      |  +------------------------> successor | spins; reserves the lock when it was bypassed for
//!      | otherwise                     ^       | long enough; sleeps for most of a call if it is long enough
//!      v         woken, or a long sleep|
//!   wait queue ------------------------+
//! ```
//!
//! The lock is *open* if it is free and not reserved. There is at most one *successor*: the waiter that is next. All others sleep
//! in the wait queue, which is the kernel's, in order of arrival (`EventCount`). A waiter that wakes to run its `Watchdog`, or
//! because the lock is reserved for a successor that does not run, goes back to sleep behind the waiters that have slept for as
//! many periods, and ahead of those that have slept for fewer.
//!
//! # Modes
//!
//! How calls usually go (`Habits`) decides how the successor waits:
//!
//! | calls | the successor |
//! |---|---|
//! | take more than 0.3 ms (`LONG`) | sleeps until the lock is free |
//! | take less, and threads that unlock have taken the lock again for a long time (`RESERVATIONS`) | *dozes*: sleeps while they call, and is awake before it may reserve the lock |
//! | take more than 0.08 ms (`AWAKE`) | naps: sleeps for most of a call, and is awake before its usual end |
//! | take less | stays awake |
//!
//! It also sleeps until the lock is free if a call takes much longer than usual, or if it has probably taken its processor from the
//! holder. A thread that unlocks wakes a successor that sleeps or naps, and one that dozes only if it reserves the lock for it.
//!
//! benches/README.md says for each constant what gets worse without it.
//!
//! What the unlocking thread has done before (`stays_away`) decides in which state it leaves the lock:
//!
//! | the thread | the lock |
//! |---|---|
//! | has come back at once | open: the thread may take it again, until the successor has been bypassed for long enough (`BYPASS`) |
//! | has stayed away, and calls are not long | reserved, if the successor is awake or dozes; open otherwise |
//!
//! # When the next successor is woken
//!
//! A thread that unlocks and locks again at once keeps the lock for a time; where calls are short, nearly without wake-ups.
//! When this time is over, the successor takes the lock, and wakes the next one at its own first unlock. By then the thread
//! that had the lock before usually sleeps, so that a processor is idle. (If the thread that had the lock before woke the next
//! one itself, it would often lose its processor to it before it could sleep. After a few such wake-ups no thread would be in
//! the queue, and the scheduler, not the lock, would order them.)
//!
//! A thread that *stays away*, as it has done before, wakes the next one earlier. If the successor is awake or dozes, and calls are
//! short, it reserves the lock for the successor when it unlocks, and wakes the next one then. If it has waited and there is no
//! successor, it wakes one when it enters. So where every call is a hand-over, the successor is usually awake in time.
//!
//! # The bound
//!
//! A successor enters after at most 2.6 ms (`BYPASS` and four usual calls) and two calls: the call that is under way when this time
//! is over, and one more; and after its own wake-up, if it sleeps. Each thread ahead of a waiter adds as much, and its own call. (A waiter
//! that goes back to sleep has more threads ahead, for at most a period of the watchdog. So does one whose sleep a signal handler
//! ends: with a signal every 3 ms, a wait of 136 ms took 312.)
//!
//! The bound holds for threads that the kernel lets run. If the successor of a reserved lock does not take it, because other
//! programs have the processor, another waiter does: one that is awake after `IDLE_NAP` (0.1 ms); one that sleeps in the queue,
//! and where calls are long, after two periods of the watchdog. Threads with a real-time priority are woken before all others,
//! and after 10 s of waiting (`AGES`) the order is that of the last sleep.
//!
//! # Invariants
//!
//! 1. A thread is inside if and only if the word has its id as the holder's. Only the thread itself writes it, when the word has
//!    no holder. So a successor, a reservation or a wake-up may be withdrawn at any time.
//! 2. Every change of the word is a read-modify-write, and each turn has a new number: a change by a thread that has read an old
//!    state fails.
//! 3. At most one thread of the wait queue is being woken (`WAKING`) until it has changed the word. If a thread wrongly takes
//!    itself for the woken one, there is one wake-up too many, never one too few.
//! 4. A waiter reads the count of the event that it will sleep for, then confirms the state that makes it sleep; a thread that
//!    wakes others changes the state, then the count. So either the waiter sees the new state, or the kernel sees the
//!    new count.
//! 5. While the lock is open and threads wait, a thread that is awake will look at the word: the successor, a woken thread, or a
//!    thread that is about to wake another. (A successor that dozes will do so when its doze ends.) A reserved lock has a
//!    successor, which is awake or about to be woken.
//!    A signal handler finds in the `ThreadState` what the interrupted thread was about to do, and does it.
//! 6. If a thread ends at any point, or leaves its wait by `siglongjmp`, only 5 can be broken. No sleep is longer than the
//!    watchdog's period, and a waiter that has slept for a whole period replaces a holder that has ended, or a successor that does
//!    not take the free lock.

#[cfg(not(loom))]
mod futex;
mod holder;
mod state;
mod successor;
#[cfg(not(loom))]
mod thread_id;
mod watchdog;

pub use holder::CallInfo;
#[cfg(not(loom))]
pub use thread_id::ThreadId;

use crate::base::{
    process::{self, PreparedFor},
    sys::{self, Errno, now},
};
#[cfg(loom)]
use crate::{futex, thread_id};
use core::{cell::Cell, sync::atomic::compiler_fence};
use futex::EventCount;
use holder::HolderRecord;
use state::{ASLEEP, QUEUED, RESERVED, State, WAKING};
use successor::{Habits, Move, Succession};
use sync::{HintWord, Ordering, Word, pause};
#[cfg(loom)]
use thread_id::ThreadId;
use watchdog::Watchdog;

/// The atomics that the lock is built on: the machine's, or loom's when the model checks the algorithm.
mod sync {
    // Under loom, hints, statistics and the record are ordinary atomics, so that the model has fewer interleavings: hints and
    // statistics order nothing, and the record has a model of its own.
    #[cfg(loom)]
    pub use crate::Word;
    #[cfg(not(loom))]
    pub use core::sync::atomic::AtomicU64 as Word;
    pub use core::sync::atomic::Ordering;
    pub use core::sync::atomic::{AtomicU64 as HintWord, AtomicU64 as RecordWord};
    #[cfg(loom)]
    pub use loom::thread::yield_now as pause;

    /// Takes about a tenth of a microsecond. It does not yield the processor: the kernel may give it back only after milliseconds.
    /// (With shorter pauses, the successor sees a free lock four times before the thread that comes back takes it, and dozes less.)
    #[cfg(not(loom))]
    pub fn pause() {
        for _ in 0..8 {
            core::hint::spin_loop();
        }
    }
}

/// A re-entrant lock with bounded bypass. All zero: free.
#[cfg_attr(loom, derive(Default))]
pub struct Lock {
    prepared: PreparedFor,
    /// The holder and the turn while the holder forks; otherwise 0.
    forking: HintWord,
    /// A `State`.
    word: CachePadded<Word>,
    /// The holder and its call.
    record: CachePadded<HolderRecord>,
    /// Where the successor sleeps.
    successor: CachePadded<EventCount>,
    /// The wait queue, in parts: one for each number of watchdog periods that its waiters have slept.
    queues: [EventCount; AGES],
    habits: Habits,
    /// The number of the processor on which a waiter has entered last, plus one; 0 if it is not known. A thread that has entered
    /// without waiting leaves it as it is.
    processor: HintWord,
    /// The number of waiters, or more: a thread that ends while it waits, or leaves the wait by `siglongjmp`, is still counted.
    waiters: HintWord,
}

/// The number of parts of the wait queue. After so many watchdog periods, a waiter stays in the last part. (With one part, a
/// waiter of a queue of a second waits four times as long: benches/README.md.)
const AGES: usize = if cfg!(loom) { 2 } else { 32 };

/// A value on a cache line of its own; on two, because processors fetch them in pairs.
#[cfg_attr(loom, derive(Default))]
#[repr(align(128))]
struct CachePadded<T>(T);

/// One thread's own state. All zero: the thread has not used the lock.
///
/// Plain cells, because only the thread itself and the signal handlers that interrupt it access them.
#[cfg_attr(any(test, loom), derive(Default))]
#[repr(C)]
pub struct ThreadState {
    /// The thread's id, looked up once in each process.
    id: Cell<ThreadId>,
    /// The generation of the process in which it has this id; 0 if the id has to be looked up in any case.
    generation: Cell<u32>,
    /// How many of its `lock` calls are inside, or about to be. One that waits is not counted: a signal handler may interrupt the
    /// wait and leave it by `siglongjmp`.
    depth: Cell<u32>,
    /// How many waits it is in, or has left by `siglongjmp`: a signal handler that interrupts a wait may begin another one.
    waits: Cell<u64>,
    /// The kernel may have chosen this thread for the wake-up that `WAKING` stands for.
    is_called: Cell<bool>,
    /// It has freed the lock, or is about to, and may not have woken the next thread yet.
    owes_wake_up: Cell<bool>,
    /// The turn in which it was last inside.
    left_in: Cell<u64>,
    /// How many times in succession it has stayed away for more than `SHORT_ABSENCE` before it had to wait.
    absences: Cell<u64>,
}

/// How a thread got the lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Admission {
    /// Nanoseconds of waiting; `None` if the lock was free.
    pub waited: Option<u64>,
    /// How many threads were inside or waiting at that moment, this one included.
    pub contenders: u64,
}

impl Admission {
    /// The lock was free.
    const AT_ONCE: Self = Self {
        waited: None,
        contenders: 1,
    };

    /// Two locks, one after the other; `second` is `None` if the thread held that one already.
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

/// In calls of other threads. A thread that is back after at most so many has called again at once, and was delayed. (With 0, the
/// longest of 64 threads' calls of 200 us takes nearly twice as long.)
const SHORT_ABSENCE: u64 = if cfg!(loom) { 0 } else { 2 };

impl ThreadState {
    /// The state of a thread with this id, which no real thread needs to have.
    #[cfg(any(test, loom))]
    pub fn of(id: u64) -> Self {
        Self {
            id: Cell::new(ThreadId {
                bits: id,
                process: 0,
            }),
            generation: Cell::new(if id == 0 { 0 } else { process::generation() }),
            ..Self::default()
        }
    }

    /// The same, for a thread that has stayed away so far.
    #[cfg(any(test, loom))]
    pub fn that_stays_away(id: u64) -> Self {
        let absences = Cell::new(2);
        Self {
            absences,
            ..Self::of(id)
        }
    }

    /// One more call is about to be inside: from here on, the `unlock` of a signal handler leaves the lock to it.
    fn count_in(&self) {
        self.depth.set(self.depth.get().wrapping_add(1));
        compiler_fence(Ordering::SeqCst);
    }

    /// One less: if it is the last, the `unlock` of a signal handler frees the lock from here on.
    fn count_out(&self) {
        self.depth.set(self.depth.get().wrapping_sub(1));
        compiler_fence(Ordering::SeqCst);
    }

    /// The kernel's id of the thread; 0 if it has not used the lock.
    pub fn id(&self) -> u64 {
        self.id.get().id()
    }

    /// Whether the thread waits for the lock: then the caller is a signal handler.
    pub fn is_waiting(&self) -> bool {
        self.waits.get() > 0
    }

    /// Whether it will probably not come back soon. (One long absence proves nothing: it may have lost the processor. After the first
    /// one, the longest call takes four times as long with 64 threads and 16 us on two processors.)
    fn stays_away(&self) -> bool {
        self.absences.get() > 1
    }

    /// Notes for how long it was away when it begins to wait in this state. (The first wait nearly always counts as a long
    /// absence.)
    fn note_absence(&self, state: State) {
        if state.turns_since(self.left_in.get()) > SHORT_ABSENCE {
            self.absences.set(self.absences.get() + 1);
        } else {
            self.absences.set(0);
        }
    }
}

impl Lock {
    /// A free lock.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            prepared: PreparedFor::none(),
            forking: HintWord::new(0),
            word: CachePadded(Word::new(0)),
            record: CachePadded(HolderRecord::new()),
            successor: CachePadded(EventCount::new()),
            queues: [const { EventCount::new() }; AGES],
            habits: Habits::new(),
            processor: HintWord::new(0),
            waiters: HintWord::new(0),
        }
    }

    /// A free lock for the model, where a call has taken so long.
    #[cfg(loom)]
    pub fn with_calls_of(hold: u64, allow_dozing: bool) -> Self {
        Self {
            habits: Habits::of(hold, allow_dozing),
            ..Self::default()
        }
    }

    /// Takes the lock; `None` if this thread is inside already. Either way, `unlock` has to follow on the same thread.
    ///
    /// A signal handler may call this at any time. If it interrupts this thread's call, the thread is inside already. If it
    /// interrupts the wait, it waits, too, enters, and leaves; then the interrupted wait goes on.
    #[inline]
    pub fn lock(&self, thread: &ThreadState, call: &CallInfo) -> Option<Admission> {
        let (state, me) = self.look(thread);
        let is_inside = state.holder() == me.id();
        if is_inside || state.is_open() && thread.waits.get() == 0 {
            thread.count_in();
            // If this is a handler that has interrupted `unlock`, another one may have freed the lock before this call was counted.
            if is_inside && self.is_held_by(thread) {
                return None;
            }
            if !is_inside && self.take(state, state.taken_by(me.id()), me, call) {
                return Some(Admission::AT_ONCE);
            }
            thread.count_out();
        }
        Some(self.wait(state, thread, call))
    }

    /// Takes the lock if it is free, even if it is reserved, and this thread does not wait for it; does not wait. If the result
    /// is not `None`, `unlock` has to follow. (A signal handler that interrupts this leaves the lock to it. Then this attempt may
    /// fail, and the next one finds the lock taken for its thread.)
    #[cold]
    pub fn take_if_free(&self, thread: &ThreadState, call: &CallInfo) -> Option<Admission> {
        thread.count_in();
        let (state, me) = self.look(thread);
        let taken = state.without(RESERVED).taken_by(me.id());
        let can_take = state.is_free() && !thread.is_waiting();
        if state.holder() == me.id() || can_take && self.take(state, taken, me, call) {
            return Some(Admission::AT_ONCE);
        }
        thread.count_out();
        None
    }

    /// The kernel's id of the thread that is inside; 0 if there is none.
    pub fn holder_id(&self) -> u64 {
        self.state().holder()
    }

    /// Whether the calling thread is inside.
    #[inline]
    pub fn is_held_by(&self, thread: &ThreadState) -> bool {
        let generation = thread.generation.get();
        if generation != 0 && process::is_at(generation) {
            return self.state().holder() == thread.id.get().id();
        }
        thread.depth.get() > 0 && self.is_held_by_newcomer(thread)
    }

    /// The same, in the thread's first call in this process, or in one that began before the process was forked.
    #[cold]
    fn is_held_by_newcomer(&self, thread: &ThreadState) -> bool {
        let (state, me) = self.look(thread);
        state.holder() == me.id()
    }

    /// Undoes one `lock`. The last `unlock` of the thread frees the lock, whichever `lock` it belongs to.
    #[inline]
    pub fn unlock(&self, thread: &ThreadState) {
        thread.count_out();
        if thread.depth.get() > 0 {
            return;
        }
        loop {
            let (state, me) = self.look(thread);
            // The lock may have been released because this thread seemed to have ended. Then it belongs to another thread.
            if state.holder() != me.id() {
                return;
            }
            thread.left_in.set(state.turn());
            // Where calls are long, a reservation that is not used at once keeps others out for periods of the watchdog.
            let is_left_to_successor =
                state.has_awake_successor() && thread.stays_away() && !self.habits.are_long();
            let (left, next) = if is_left_to_successor {
                (state.with(RESERVED), state.succeeded_by(0))
            } else {
                (state.without(ASLEEP), state)
            };
            let dozes = is_left_to_successor && self.habits.allow_dozing();
            let (wakes_successor, wakes_queued) =
                (state.has(ASLEEP) || dozes, next.lacks_successor());
            let free = left.released().waking_if(wakes_queued);
            let (owed, owes) = (thread.owes_wake_up.get(), wakes_successor || wakes_queued);
            // Set before the lock is free: a handler that interrupts this may wait for the lock, and must wake first. If this call
            // is a handler's, a wake-up that the interrupted call owes stays owed.
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

    /// Called by a thread that is about to fork.
    pub fn before_fork(&self, thread: &ThreadState) {
        if self.is_held_by(thread) {
            // Relaxed, all accesses: the child's threads begin after it.
            self.forking
                .store(self.state().possession(), Ordering::Relaxed);
        }
    }

    /// Called by a thread that has forked, in the parent.
    pub fn after_fork_in_parent(&self, thread: &ThreadState) {
        if self.forking.load(Ordering::Relaxed) != 0 && self.is_held_by(thread) {
            self.forking.store(0, Ordering::Relaxed);
        }
    }

    /// Called by a thread that has forked, in the child.
    pub fn after_fork(&self, thread: &ThreadState) {
        // Otherwise there is nothing to change, and the kernel need not copy the page.
        if thread.generation.get() != 0 || !self.state().is_idle() {
            self.look(thread);
        }
    }

    /// Adapts the lock to a new process; it was prepared for the generation `old`. The thread that forked holds it if it was
    /// inside. Otherwise it is free.
    ///
    /// If another thread of the child comes first, `forking` tells whether the thread that forked is inside, which is the
    /// child's main thread. Without fork handlers, it does not tell. Then the lock is free, although the thread that
    /// forked may be inside, because the threads of the child must not wait for a thread that is not there.
    fn adopt(&self, thread: &ThreadState, old: u32, generation: u32) {
        let (before, state) = (thread.id.get(), self.state());
        let has_forked = old != 0 && thread.generation.get() == old;
        let was_inside = if state.is_free() {
            false
        } else if has_forked {
            state.holder() == before.id()
        } else {
            state.possession() == self.forking.load(Ordering::Relaxed)
        };
        let mut new = state.reset();
        if was_inside {
            let holder = if has_forked {
                ThreadId::current()
            } else {
                ThreadId::main()
            };
            new = new.taken_by(holder.id());
            self.record.0.rename(new.turn(), holder);
        }
        let mut waits = 0;
        if has_forked {
            thread.id.set(ThreadId::current());
            thread.generation.set(generation);
            self.forking.store(0, Ordering::Relaxed);
            waits = thread.waits.get();
        }
        // Relaxed, both stores: other threads wait until the lock is prepared.
        self.waiters.store(waits, Ordering::Relaxed);
        self.word.0.store(new.0, Ordering::Relaxed);
        self.keep_awake();
    }

    /// The state of the lock, and the calling thread.
    #[inline]
    fn look(&self, thread: &ThreadState) -> (State, ThreadId) {
        loop {
            let generation = self
                .prepared
                .ensure(|old, new| self.adopt(thread, old, new));
            if thread.generation.get() != generation && !self.identify(thread, generation) {
                continue;
            }
            let (state, me) = (self.state(), thread.id.get());
            // A signal handler may have forked in between: then the id is the parent thread's, and the state may be the child's.
            compiler_fence(Ordering::SeqCst);
            if process::is_at(generation) {
                return (state, me);
            }
        }
    }

    /// Looks up the id of the calling thread, at its first use of the lock in this process. `false`: something has changed
    /// meanwhile.
    #[cold]
    fn identify(&self, thread: &ThreadState, generation: u32) -> bool {
        let last = thread.generation.get();
        let (before, me) = (thread.id.get(), ThreadId::current());
        let is_recorded = process::is_recorded(before.id());
        let state = self.state();
        // A signal handler may have done this already, and may have taken the lock for this thread. Or it may have forked. (If it
        // forks later, `thread` gets the generation of the parent.)
        compiler_fence(Ordering::SeqCst);
        if thread.generation.get() != last || !process::is_at(generation) {
            return false;
        }
        let is_same = (before.id(), before.process) == (me.id(), me.process);
        // It was inside when it forked, and another thread of this process, which has prepared the lock, knew.
        let forking = State(self.forking.load(Ordering::Relaxed)).holder();
        let was_inside = last != 0 && forking == before.id();
        if state.holder() == me.id() && !is_same && !was_inside {
            // The holder has ended, and the kernel has given its id to this thread. (The main thread has an id that was never
            // another's: it has forked while a thread that was inside did so, too.)
            watchdog::release(self, state, !me.is_main());
            return false;
        }
        if last != 0 {
            // It has forked, perhaps in its wait.
            self.forking.store(0, Ordering::Relaxed);
            self.waiters
                .fetch_add(thread.waits.get(), Ordering::Relaxed);
        }
        thread.id.set(me);
        // A child of vfork uses the variables of its parent's thread, which is to have its own id afterwards.
        if is_recorded {
            thread.generation.set(generation);
        }
        true
    }

    /// Waits until the lock is this thread's.
    #[cold]
    fn wait(&self, state: State, thread: &ThreadState, call: &CallInfo) -> Admission {
        if thread.owes_wake_up.get() {
            self.wake(true, true);
        }
        let since = now();
        let mut waiter = Waiter::begin(state, since);
        // Otherwise this is a handler, and the wait that it interrupts has noted it.
        if thread.waits.get() == 0 {
            thread.note_absence(state);
        }
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
            // The wait that this handler has interrupted may be about to sleep as the successor, which it no longer is.
            self.keep_awake();
        }
        Admission {
            waited: waited.map(|_| now().saturating_sub(since)),
            contenders: (others + 1 + holders).max(1 + u64::from(waited.is_some())),
        }
    }

    /// Looks at the state once, and acts on it: takes the lock, becomes the successor, spins or sleeps. Returns whether this
    /// thread is inside.
    fn try_to_enter(&self, thread: &ThreadState, call: &CallInfo, waiter: &mut Waiter) -> bool {
        let (state, me) = self.look(thread);
        let is_called = thread.is_called.get();
        // This thread is the woken one. Others may still be asleep in the queue.
        let seen = if is_called {
            state.without(WAKING).with(QUEUED)
        } else {
            state
        };
        if state.holder() == me.id() {
            // A signal handler that interrupted this wait has taken the lock and has not freed it. `WAKING` is still set if the
            // wake-up was for us.
            thread.count_in();
            // Another handler may have freed it before this call was counted.
            let is_inside = self.state().holder() == me.id();
            let is_done = is_inside && (!is_called || self.replace(state, seen));
            if is_done {
                self.waiters.fetch_sub(1, Ordering::Relaxed);
            } else {
                thread.count_out();
            }
            return is_done;
        }
        if state.successor() == me.id() {
            return self.succeed(state, thread, call, waiter);
        }
        waiter.succession = None;
        if state.is_open() {
            return self.take_as_waiter(state, seen, thread, call);
        }
        if state.successor() == 0 && (is_called || !state.has(QUEUED | WAKING)) {
            if self.replace(state, seen.succeeded_by(me.id())) {
                thread.is_called.set(false);
            }
            return false;
        }
        if state.is_free() {
            waiter.idle_looks += 1;
        } else {
            waiter.idle_looks = 0;
        }
        if waiter.idle_looks > IDLE_LOOKS {
            // The successor reserves the lock again if its time is over.
            return self.take_as_waiter(state, seen.without(RESERVED), thread, call);
        }
        if (1..IDLE_LOOKS).contains(&waiter.idle_looks) && !self.habits.are_long() {
            pause();
        } else {
            self.sleep(state, seen, thread, waiter);
        }
        false
    }

    /// Sleeps in the wait queue: for `IDLE_NAP` if the lock stays free, otherwise until the watchdog's next check.
    fn sleep(&self, state: State, seen: State, thread: &ThreadState, waiter: &mut Waiter) {
        let naps = waiter.idle_looks == IDLE_LOOKS;
        let nap = naps.then(|| now() + IDLE_NAP);
        let queue = &self.queues[waiter.age.min(AGES - 1)];
        // Invariant 4.
        let count = queue.get();
        if !self.replace(state, seen.with(QUEUED)) {
            return;
        }
        // Set before the sleep: a handler that interrupts the sleep must know that the kernel may have chosen this thread.
        thread.is_called.set(true);
        let error = queue.wait(count, nap.unwrap_or(waiter.watchdog.deadline()));
        thread.is_called.set(error.is_none());
        if !naps && error == Some(Errno::ETIMEDOUT) {
            waiter.age += 1;
            // A thread that had to wake this one may have ended: the woken thread, or the holder. Then this thread acts as woken.
            let now = self.state();
            let had_no_successor = state.successor() == 0 && now.successor() == 0;
            let was_waking = state.has(WAKING) && now.has(WAKING);
            let is_same_call = state.possession() == now.possession();
            thread
                .is_called
                .set(had_no_successor && (was_waking || is_same_call));
            waiter.watchdog.check(self, thread.id.get());
        }
    }

    /// `try_to_enter` for the successor.
    fn succeed(
        &self,
        state: State,
        thread: &ThreadState,
        call: &CallInfo,
        waiter: &mut Waiter,
    ) -> bool {
        let (now, me) = (now(), thread.id.get());
        let succession = waiter.succession.get_or_insert_with(|| {
            // Relaxed: a hint.
            let holders = self.processor.load(Ordering::Relaxed);
            let shares = sys::processor().is_some_and(|it| it + 1 == holders);
            Succession::begin(state, now, shares)
        });
        match succession.next_move(state, now, &self.habits) {
            Move::Take => return self.take_as_waiter(state, state, thread, call),
            Move::Reserve => {
                // Tries again at once: after a new look at the clock, the state might have changed again.
                let mut state = state;
                while state.successor() == me.id() && !self.replace(state, state.with(RESERVED)) {
                    state = self.state();
                }
            }
            Move::Spin => pause(),
            Move::Sleep => {
                if self.sleeps_too_long(state, waiter.watchdog.deadline()) {
                    waiter.watchdog.check(self, me);
                }
            }
            Move::Doze(end) => {
                // Invariant 4: a thread that reserves the lock for this one counts an event afterwards. A signal handler may have
                // taken the successor's place since the look.
                let count = self.successor.0.get();
                let state = self.state();
                if state.successor() == me.id() && !state.has(RESERVED) {
                    self.successor.0.wait(count, end);
                }
            }
            Move::Nap(end) => {
                if self.sleeps_too_long(state, end) {
                    // It is awake again. (If the word has changed meanwhile, there is one wake-up too many.)
                    let state = self.state();
                    if state.successor() == me.id() {
                        self.replace(state, state.without(ASLEEP));
                    }
                }
            }
        }
        false
    }

    /// The successor sleeps. Whether until the deadline.
    fn sleeps_too_long(&self, state: State, deadline: u64) -> bool {
        // Invariant 4.
        let count = self.successor.0.get();
        self.replace(state, state.with(ASLEEP))
            && self.successor.0.wait(count, deadline) == Some(Errno::ETIMEDOUT)
    }

    /// `take` for a waiter. A thread that will not come back soon also wakes the next successor. (Where calls are long, it then
    /// goes back to sleep; but without successors nobody would find out that calls have become short.)
    fn take_as_waiter(
        &self,
        old: State,
        seen: State,
        thread: &ThreadState,
        call: &CallInfo,
    ) -> bool {
        let me = thread.id.get();
        let taken = seen.taken_by(me.id());
        let wakes_queued = taken.lacks_successor() && thread.stays_away();
        // Before the attempt: a thread that arrives meanwhile must not count this one twice, as a waiter and as the holder.
        self.waiters.fetch_sub(1, Ordering::Relaxed);
        thread.count_in();
        let is_taken = self.take(old, taken.waking_if(wakes_queued), me, call);
        if !is_taken {
            self.waiters.fetch_add(1, Ordering::Relaxed);
            thread.count_out();
            return false;
        }
        // Relaxed: a hint.
        let processor = sys::processor().map_or(0, |it| it + 1);
        self.processor.store(processor, Ordering::Relaxed);
        if wakes_queued {
            self.wake(false, true);
        }
        true
    }

    /// Makes the threads that are about to sleep look again.
    fn keep_awake(&self) {
        self.successor.0.count();
        for queue in &self.queues {
            queue.count();
        }
    }

    /// Wakes the successor, or a thread of the wait queue, for which `WAKING` is set.
    #[inline(never)]
    fn wake(&self, successor: bool, queued: bool) {
        if successor {
            self.successor.0.signal(i32::MAX);
        }
        if !queued {
            return;
        }
        while !self.wake_oldest() {
            // No thread slept. Those that were about to sleep look again. If one has fallen asleep since, `QUEUED` is set, and it
            // has to be woken.
            let state = self.state();
            if !state.has(WAKING) {
                return;
            }
            if state.has(QUEUED) {
                self.replace(state, state.without(QUEUED));
            } else if self.replace(state, state.without(WAKING)) {
                return;
            }
        }
    }

    /// Wakes the thread of the wait queue that has slept for the most periods; of these, the one that fell asleep first. `false` if
    /// no thread sleeps there.
    fn wake_oldest(&self) -> bool {
        for queue in self.queues.iter().rev() {
            if queue.signal(1) {
                return true;
            }
        }
        false
    }

    /// Takes the lock if the word is still `old`; then it becomes `new`.
    #[inline]
    fn take(&self, old: State, new: State, me: ThreadId, call: &CallInfo) -> bool {
        let is_taken = self.replace(old, new);
        if is_taken {
            self.record.0.write(new.turn(), me, call);
        }
        is_taken
    }

    /// The holder, and its call. If it has not written its record yet, it is the thread that has this id now.
    fn holder(&self, state: State) -> (ThreadId, CallInfo) {
        let record = self.record.0.read(state.turn());
        record
            .filter(|(thread, _)| thread.id() == state.holder())
            .unwrap_or_else(|| (ThreadId::of_lock(state.holder()), CallInfo::WAITING))
    }

    /// Changes the word from `old` to `new`, if it is still `old`.
    #[inline]
    fn replace(&self, old: State, new: State) -> bool {
        // AcqRel: the Release of the holder that frees the lock pairs with the Acquire of the next holder. All changes in between
        // are read-modify-writes, so they continue the release sequence. Relaxed on failure: the value is not used.
        let changed =
            self.word
                .0
                .compare_exchange(old.0, new.0, Ordering::AcqRel, Ordering::Relaxed);
        #[cfg(any(test, loom))]
        if changed.is_ok() {
            new.check_step_from(old);
        }
        changed.is_ok()
    }

    /// The present state.
    #[inline]
    fn state(&self) -> State {
        // Relaxed: `replace` confirms it, or the event count orders it (invariant 4). A thread always sees its own changes.
        State(self.word.0.load(Ordering::Relaxed))
    }
}

/// A waiter that has seen the lock free but reserved so many times sleeps for `IDLE_NAP` nanoseconds. If the successor has not
/// taken the lock then, it has lost the processor, and the waiter takes the lock itself. (Without it, more time is lost where
/// threads contend for two processors: benches/README.md.)
const IDLE_LOOKS: u32 = if cfg!(loom) { 1 } else { 20 };
const IDLE_NAP: u64 = 100_000;

/// The state of one wait.
struct Waiter {
    watchdog: Watchdog,
    /// Set while the thread is the successor.
    succession: Option<Succession>,
    /// For how many watchdog periods it has slept in the wait queue.
    age: usize,
    /// How often in succession it has seen the lock free but reserved.
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
