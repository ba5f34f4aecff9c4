//! The lock by itself, in real threads. The loom model runs all interleavings of a few threads; here are many threads, and time.

use super::thread_id::ID_BITS;
use super::*;
use crate::call::device::Device;
use std::{
    ptr,
    sync::{
        Barrier, Mutex,
        atomic::{AtomicBool, AtomicU32},
    },
    thread,
};

const CALL: CallInfo = CallInfo {
    name: &"call",
    device: Device::UNKNOWN,
    address: ptr::null(),
    length: 0,
};

/// The state of the thread that uses it first.
fn new_thread() -> ThreadState {
    ThreadState::of(0)
}

/// A lock that this process has used before.
fn used_lock() -> Lock {
    let lock = Lock::new();
    lock.prepared.ensure(|_, _| ());
    lock
}

impl Lock {
    /// Looks once, as a waiter that has just come.
    fn try_once(&self, thread: &ThreadState) -> bool {
        let mut waiter = Waiter::begin(self.state(), now());
        self.try_to_enter(thread, &CALL, &mut waiter)
    }

    fn set(&self, change: impl Fn(State) -> State) {
        let once = || {
            let state = self.state();
            self.replace(state, change(state))
        };
        while !once() {}
    }

    /// As successors have found out.
    fn with_long_calls(self) -> Self {
        (0..20).for_each(|_| self.habits.learn(1_000_000));
        self
    }

    /// Waits until so many threads wait.
    fn until_waiters_are(&self, count: u64) {
        while self.waiters.load(Ordering::Relaxed) != count {
            thread::yield_now();
        }
    }
}

#[test]
fn one_thread_at_a_time() {
    static LOCK: Lock = Lock::new();
    static INSIDE: AtomicBool = AtomicBool::new(false);
    let start = Barrier::new(8);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let thread = new_thread();
                start.wait();
                for _ in 0..10_000 {
                    LOCK.lock(&thread, &CALL);
                    // Relaxed: only the lock may order these.
                    assert!(!INSIDE.swap(true, Ordering::Relaxed));
                    assert!(INSIDE.swap(false, Ordering::Relaxed));
                    LOCK.unlock(&thread);
                }
            });
        }
    });
}

#[test]
fn the_holder_may_enter_again() {
    let lock = used_lock();
    let (holder, other) = (ThreadState::of(1), ThreadState::of(2));
    assert_eq!(lock.lock(&holder, &CALL), Some(Admission::AT_ONCE));
    assert_eq!(lock.lock(&holder, &CALL), None);
    lock.unlock(&holder);
    assert_eq!(lock.state().holder(), 1, "still inside");
    lock.unlock(&holder);
    assert_eq!(lock.lock(&other, &CALL), Some(Admission::AT_ONCE));
}

/// In a signal handler that interrupts the thread's first call, and in a child forked during a wait, the thread has no id yet.
#[test]
fn a_free_lock_is_held_by_no_thread() {
    let (lock, thread) = (used_lock(), new_thread());
    thread.depth.set(1);
    assert!(!lock.is_held_by(&thread));
    lock.lock(&thread, &CALL);
    assert!(lock.is_held_by(&thread));
}

/// A thread whose lock was released because it seemed to have ended.
#[test]
fn a_thread_that_is_not_inside_releases_nothing() {
    let lock = used_lock();
    let (first, second) = (ThreadState::of(1), ThreadState::of(2));
    lock.lock(&first, &CALL);
    lock.set(State::released);
    lock.lock(&second, &CALL);
    lock.unlock(&first);
    assert_eq!(lock.state().holder(), 2);
}

#[test]
fn turns_begin_again_after_the_last() {
    let (lock, thread) = (used_lock(), ThreadState::of(1));
    lock.word.0.store(0xffff << 44, Ordering::Relaxed);
    let last = lock.state().turn();
    lock.lock(&thread, &CALL);
    assert_eq!((last, lock.state().turn()), (0xffff, 0));
    assert_eq!(lock.state().turns_since(last), 1);
    assert_eq!(lock.state().holder(), 1);
    lock.unlock(&thread);
    assert!(lock.state().is_idle());
}

#[test]
fn a_thread_that_stays_away_leaves_the_lock_to_the_successor_and_wakes_the_next_one() {
    let [comes_back, stays_away] = [ThreadState::of(1), ThreadState::that_stays_away(1)];
    for (thread, stays_away) in [(comes_back, false), (stays_away, true)] {
        let lock = used_lock();
        lock.lock(&thread, &CALL);
        lock.set(|state| state.succeeded_by(2).with(QUEUED));
        let wake_ups = lock.queues[0].get();
        lock.unlock(&thread);
        assert_eq!(lock.state().is_open(), !stays_away);
        assert_eq!(lock.state().successor(), 2);
        assert_eq!(lock.queues[0].get() != wake_ups, stays_away);
    }
}

#[test]
fn a_thread_that_stays_away_reserves_nothing_where_calls_are_long() {
    let lock = used_lock().with_long_calls();
    let thread = ThreadState::that_stays_away(1);
    lock.lock(&thread, &CALL);
    lock.set(|state| state.succeeded_by(2).with(QUEUED));
    lock.unlock(&thread);
    assert!(lock.state().is_open());
}

#[test]
fn a_waiter_that_stays_away_wakes_the_next_successor_when_it_enters() {
    let [comes_back, stays_away] = [ThreadState::of(2), ThreadState::that_stays_away(2)];
    for (waiter, stays_away) in [(comes_back, false), (stays_away, true)] {
        let lock = used_lock();
        lock.set(|state| state.succeeded_by(2).with(RESERVED | QUEUED));
        let wake_ups = lock.queues[0].get();
        assert!(lock.try_once(&waiter));
        assert_eq!(lock.queues[0].get() != wake_ups, stays_away);
    }
}

#[test]
fn two_long_absences_in_succession_are_a_habit() {
    let (lock, thread) = (used_lock(), ThreadState::of(1));
    let away_for = |calls: u64| {
        lock.lock(&thread, &CALL);
        lock.unlock(&thread);
        for _ in 0..calls {
            lock.set(|state| state.taken_by(2));
            lock.set(State::released);
        }
        thread.note_absence(lock.state());
        thread.stays_away()
    };
    assert_eq!(
        [9, 9, 2, 9, 9].map(away_for),
        [false, true, false, false, true]
    );
}

/// A signal handler interrupts `lock` before it has looked at the word, or `unlock` before it has freed the lock.
#[test]
fn a_handler_leaves_the_lock_to_the_call_that_it_interrupts() {
    let lock = used_lock();
    let (thread, other) = (ThreadState::of(1), ThreadState::of(2));
    thread.depth.set(1);
    assert_eq!(lock.lock(&thread, &CALL), Some(Admission::AT_ONCE));
    lock.unlock(&thread);
    assert_eq!(lock.state().holder(), 1, "the call is about to enter");
    assert!(lock.try_once(&thread), "and has entered");

    thread.depth.set(0);
    assert_eq!(lock.lock(&thread, &CALL), None, "about to leave");
    lock.unlock(&thread);
    assert_eq!(lock.lock(&other, &CALL), Some(Admission::AT_ONCE));
}

/// A signal handler interrupts `take_if_free` before its attempt, which fails then.
#[test]
fn the_next_attempt_finds_what_a_handler_has_left() {
    let lock = used_lock();
    let thread = ThreadState::of(1);
    thread.count_in();
    lock.take_if_free(&thread, &CALL).expect("it is free");
    lock.unlock(&thread);
    assert_eq!(lock.state().holder(), 1, "left to the attempt");
    thread.count_out();
    lock.take_if_free(&thread, &CALL).expect("left to it");
    lock.unlock(&thread);
    assert!(lock.state().is_idle());
}

/// A signal handler interrupts the successor after its look, and takes the lock in its place. (Otherwise this sleeps for an hour.)
#[test]
fn a_thread_that_is_no_successor_any_more_does_not_doze() {
    let mut lock = used_lock();
    lock.habits = Habits::of(16_000, true);
    let [holder, thread] = [1, 2].map(ThreadState::of);
    lock.lock(&holder, &CALL);
    let seen = lock.state().succeeded_by(2);
    let mut waiter = Waiter::begin(seen, now());
    let in_an_hour = now() + 3600 * sys::NS_PER_S;
    waiter.succession = Some(Succession::begin(seen, in_an_hour, false));
    assert!(!lock.succeed(seen, &thread, &CALL, &mut waiter));
}

/// A signal handler that interrupts its thread's wait is the successor if the thread is.
#[test]
fn a_handler_has_the_place_of_the_wait_that_it_interrupts() {
    let lock = used_lock();
    let (holder, waiter) = (ThreadState::of(1), ThreadState::of(2));
    lock.lock(&holder, &CALL);
    assert!(!lock.try_once(&waiter));
    assert_eq!(lock.state().successor(), 2);
    lock.set(|state| state.with(RESERVED));
    lock.unlock(&holder);
    lock.lock(&waiter, &CALL).expect("it was outside");
    lock.unlock(&waiter);
    assert!(lock.state().is_idle());
    assert!(lock.try_once(&waiter), "the interrupted wait goes on");
}

/// A signal handler that interrupts its thread's wait returns while it is inside.
#[test]
fn a_wait_ends_if_its_handler_stays_inside() {
    let (lock, waiter) = (used_lock(), ThreadState::of(2));
    lock.lock(&waiter, &CALL).expect("it was outside");
    assert!(lock.try_once(&waiter), "back in the interrupted wait");
    lock.unlock(&waiter);
    assert_eq!(lock.state().holder(), 2, "the handler's call is not over");
    lock.unlock(&waiter);
    assert!(lock.state().is_idle());
}

/// A signal handler leaves the wait that it interrupts by siglongjmp().
#[test]
fn a_wait_that_is_left_keeps_nothing() {
    let lock = used_lock();
    let [holder, waiter, other] = [1, 2, 3].map(ThreadState::of);
    lock.lock(&holder, &CALL);
    waiter.waits.set(1);
    assert!(!lock.try_once(&waiter), "it becomes the successor");
    lock.set(|state| state.with(ASLEEP | QUEUED));
    waiter.is_called.set(true);
    lock.unlock(&holder);
    for _ in 0..2 {
        lock.lock(&waiter, &CALL).expect("it was outside");
        lock.unlock(&waiter);
        assert!(lock.state().is_free());
    }
    lock.lock(&other, &CALL).expect("it was outside");
    lock.unlock(&other);
}

/// A thread is woken, and before it looks, a signal handler interrupts it and finds the lock free.
#[test]
fn a_wake_up_is_not_lost_in_a_handler() {
    for leaves in [true, false] {
        let (lock, waiter) = (used_lock(), ThreadState::of(2));
        lock.set(|state| state.waking_if(true));
        lock.lock(&waiter, &CALL).expect("it was outside");
        if leaves {
            lock.unlock(&waiter);
        }
        waiter.is_called.set(true);
        assert!(lock.try_once(&waiter));
        assert!(!lock.state().has(WAKING), "none is under way");
        assert!(lock.state().has(QUEUED), "the other still sleeps");
    }
}

/// No thread sleeps, so neither flag may stay set.
#[test]
fn a_wake_up_of_no_thread_leaves_nothing_behind() {
    let lock = used_lock();
    lock.set(|state| state.with(QUEUED | WAKING));
    lock.wake(false, true);
    assert!(lock.state().is_idle());
}

#[test]
fn a_reserved_lock_is_for_the_successor() {
    let lock = used_lock();
    let (holder, waiter) = (ThreadState::of(1), ThreadState::of(2));
    lock.lock(&holder, &CALL);
    assert!(!lock.try_once(&waiter), "it becomes the successor");
    lock.unlock(&holder);
    assert!(lock.state().is_open(), "a running thread may take it");
    lock.lock(&holder, &CALL);
    lock.set(|state| state.with(RESERVED));
    lock.unlock(&holder);
    assert!(!lock.state().is_open(), "no longer");
    assert!(lock.try_once(&waiter));
    assert_eq!(lock.state().taken_by(2).successor(), 0);
    lock.unlock(&waiter);
    assert!(lock.state().is_idle());
}

/// With short calls, the successor stays awake and reserves the lock after some time. With long calls, it sleeps in between.
#[test]
fn a_successor_is_bypassed_for_a_limited_time() {
    use successor::Move::*;
    let habits = Habits::new();
    let mut now = 1_000_000_000;
    let mut turn = State(0).taken_by(1);
    // Calls of this length until the successor reserves the lock. Returns after how long it does, and its move at each call.
    let mut bypass = |hold_ns: u64| {
        let (since, mut moves) = (now, Vec::new());
        let mut succession = Succession::begin(turn, now, false);
        while moves.last() != Some(&Reserve) {
            now += hold_ns;
            turn = turn.released();
            let takes = succession.next_move(turn, now, &habits);
            // Its time is over: this thread might also have taken the lock now.
            let is_over = now - since >= 200_000;
            assert!(is_over || takes == if habits.are_long() { Take } else { Spin });
            turn = turn.taken_by(1);
            moves.push(succession.next_move(turn, now, &habits));
            assert!(moves.len() < 100, "{moves:?}");
        }
        turn = turn.with(RESERVED);
        let reserved = succession.next_move(turn, now, &habits);
        turn = turn.released();
        assert_eq!(succession.next_move(turn, now, &habits), Take);
        turn = turn.taken_by(1).without(RESERVED);
        moves.pop();
        (now - since, moves, reserved)
    };

    let (ns, moves, reserved) = bypass(16_000);
    assert!((200_000..400_000).contains(&ns));
    assert!(moves.iter().all(|it| *it == Spin), "{moves:?}");
    assert_eq!(reserved, Spin);

    (0..20).for_each(|_| habits.learn(1_000_000));
    let (ns, moves, reserved) = bypass(500_000);
    assert!((1_500_000..3_000_000).contains(&ns));
    assert!(moves.iter().all(|it| *it == Sleep), "{moves:?}");
    assert_eq!(reserved, Sleep);

    // Short calls again.
    (0..20).for_each(|_| habits.learn(16_000));
    assert_eq!(bypass(16_000).2, Spin);
}

#[test]
fn a_successor_whose_time_is_over_takes_a_free_lock_at_once() {
    use successor::Move::*;
    let (habits, free, now) = (Habits::new(), State(0).succeeded_by(2), 1_000_000_000);
    let mut succession = Succession::begin(free, now, false);
    assert_eq!(succession.next_move(free, now, &habits), Spin);
    assert_eq!(succession.next_move(free, now + 2_000_000, &habits), Take);
}

/// Where each call is a hand-over, no successor sees two turns.
#[test]
fn a_successor_learns_from_the_one_call_that_it_waits_for() {
    let (habits, inside, now) = (Habits::new(), State(0).taken_by(1), 1_000_000_000);
    for _ in 0..20 {
        let mut succession = Succession::begin(inside, now, false);
        let free = inside.released().with(RESERVED);
        let takes = succession.next_move(free, now + 500_000, &habits);
        assert_eq!(takes, successor::Move::Take);
    }
    assert!(habits.are_long());
}

#[test]
fn a_successor_sleeps_for_most_of_a_call() {
    use successor::Move::*;
    let (habits, inside, now) = (Habits::new(), State(0).taken_by(1), 1_000_000_000);
    (0..40).for_each(|_| habits.learn(200_000));
    let mut succession = Succession::begin(inside, now, false);
    let Nap(end) = succession.next_move(inside, now, &habits) else {
        panic!("a call of 200 us")
    };
    assert!((100_000..150_000).contains(&(end - now)));
    assert_eq!(succession.next_move(inside, end, &habits), Spin);
    // Shorter calls.
    (0..40).for_each(|_| habits.learn(16_000));
    assert_eq!(succession.next_move(inside, now, &habits), Spin);
}

/// Where threads take the lock again and again, the successor sleeps for most of the time for which it lets them.
#[test]
fn a_successor_dozes_where_threads_come_back() {
    use successor::Move::*;
    let habits = Habits::of(16_000, false);
    let (inside, since) = (State(0).taken_by(1), 1_000_000_000);
    let reserve = || {
        let mut succession = Succession::begin(inside, since, false);
        let come_back = |state: State, _| state.released().taken_by(1);
        let again = (0..19).fold(inside, come_back);
        succession.next_move(again, since + 19 * 16_000, &habits)
    };
    let first_move = || Succession::begin(inside, since, false).next_move(inside, since, &habits);
    for _ in 0..64 {
        assert_eq!(first_move(), Spin);
        assert_eq!(reserve(), Reserve);
    }
    let Doze(end) = first_move() else {
        panic!("all of them have come back")
    };
    assert!((100_000..150_000).contains(&(end - since)));
    // A thread leaves and does not come back.
    let mut succession = Succession::begin(inside, since, false);
    let looks: Vec<_> = (0..4)
        .map(|_| succession.next_move(inside.released(), since, &habits))
        .collect();
    assert_eq!(looks, [Spin, Spin, Spin, Take]);
    assert_eq!(first_move(), Spin);
}

/// Nobody else may take the lock then.
#[test]
fn a_dozing_successor_is_woken_when_the_lock_is_left_to_it() {
    for dozes in [false, true] {
        let mut lock = used_lock();
        lock.habits = Habits::of(16_000, dozes);
        let thread = ThreadState::that_stays_away(1);
        lock.lock(&thread, &CALL);
        lock.set(|state| state.succeeded_by(2));
        let wake_ups = lock.successor.0.get();
        lock.unlock(&thread);
        assert!(lock.state().has(RESERVED));
        assert_eq!(lock.successor.0.get() != wake_ups, dozes);
    }
}

/// The holder has lost the processor, perhaps to the successor.
#[test]
fn a_successor_that_sees_no_end_of_a_call_sleeps() {
    use successor::Move::*;
    let (habits, inside, now) = (Habits::new(), State(0).taken_by(1), 1_000_000_000);
    (0..20).for_each(|_| habits.learn(16_000));
    let mut succession = Succession::begin(inside, now, false);
    assert_eq!(succession.next_move(inside, now + 20_000, &habits), Spin);
    assert_eq!(succession.next_move(inside, now + 200_000, &habits), Sleep);

    let mut succession = Succession::begin(inside, now, true);
    assert_eq!(
        succession.next_move(inside, now, &habits),
        Sleep,
        "the holder needs the processor"
    );
    assert_eq!(
        succession.next_move(inside.released().taken_by(2), now, &habits),
        Spin
    );
}

/// The successor has lost the processor.
#[test]
fn a_reserved_lock_does_not_stay_free_for_long() {
    let lock = used_lock();
    lock.set(|state| state.succeeded_by(2).with(RESERVED));
    let thread = ThreadState::of(1);
    lock.lock(&thread, &CALL).expect("it was outside");
    assert_eq!(
        (lock.state().holder(), lock.state().successor()),
        (1, 2),
        "the successor keeps its place"
    );
    lock.unlock(&thread);
    assert!(lock.state().is_open(), "until it looks again");
}

/// A handler interrupts a wait between the last look and the sleep, takes the free lock, and frees it.
#[test]
fn a_handler_keeps_the_wait_that_it_interrupts_awake() {
    let lock = used_lock();
    let waiter = ThreadState::of(2);
    let events: Vec<_> = lock.queues.iter().chain([&lock.successor.0]).collect();
    let before: Vec<_> = events.iter().map(|it| it.get()).collect();
    waiter.waits.set(1);
    lock.lock(&waiter, &CALL).expect("it was outside");
    lock.unlock(&waiter);
    assert!(lock.state().is_idle());
    for (event, before) in events.iter().zip(before) {
        assert_ne!(event.get(), before, "the sleep would begin");
    }
}

/// A handler interrupts `unlock` between the change of the state and the wake-up, and waits for the lock.
#[test]
fn a_handler_wakes_those_that_the_interrupted_unlock_owes_it() {
    let (lock, thread, is_held) = (used_lock(), new_thread(), Barrier::new(2));
    let before = lock.successor.0.get();
    thread.owes_wake_up.set(true);
    thread::scope(|scope| {
        scope.spawn(|| {
            let holder = new_thread();
            lock.lock(&holder, &CALL);
            is_held.wait();
            loop {
                let is_asleep = lock.state().has(ASLEEP);
                if lock.successor.0.get() != before {
                    break;
                }
                assert!(!is_asleep, "before it has woken any");
                thread::yield_now();
            }
            lock.unlock(&holder);
        });
        is_held.wait();
        lock.lock(&thread, &CALL).expect("it was outside");
    });
    lock.unlock(&thread);
    assert!(thread.owes_wake_up.get(), "the interrupted call goes on");
}

/// Calls as short as the look of a successor.
#[test]
fn a_successor_reserves_a_lock_that_changes_all_the_time() {
    static LOCK: Lock = Lock::new();
    let is_over = AtomicBool::new(false);
    let holder = new_thread();
    LOCK.lock(&holder, &CALL);
    thread::scope(|scope| {
        scope.spawn(|| {
            let thread = new_thread();
            for _ in 0..20 {
                LOCK.lock(&thread, &CALL);
                LOCK.unlock(&thread);
            }
            // Relaxed: nothing is ordered by it.
            is_over.store(true, Ordering::Relaxed);
        });
        LOCK.until_waiters_are(1);
        LOCK.unlock(&holder);
        while !is_over.load(Ordering::Relaxed) {
            LOCK.lock(&holder, &CALL);
            LOCK.unlock(&holder);
        }
    });
}

#[test]
fn every_waiter_is_counted_and_served() {
    static LOCK: Lock = Lock::new();
    let counted = Mutex::new(Vec::new());
    let holder = new_thread();
    LOCK.lock(&holder, &CALL);
    thread::scope(|scope| {
        for arrival in 1..=5 {
            let counted = &counted;
            scope.spawn(move || {
                let thread = new_thread();
                let admission = LOCK.lock(&thread, &CALL).expect("it was outside");
                assert!(admission.waited.is_some());
                counted
                    .lock()
                    .expect("no thread panicked")
                    .push((arrival, admission.contenders));
                LOCK.unlock(&thread);
            });
            // The next one arrives when this one waits.
            LOCK.until_waiters_are(arrival);
        }
        LOCK.unlock(&holder);
    });
    let mut counted = counted.into_inner().expect("no thread panicked");
    counted.sort();
    assert_eq!(counted, [(1, 2), (2, 3), (3, 4), (4, 5), (5, 6)]);
}

/// The queue lasts for longer than a waiter sleeps.
#[test]
fn a_long_queue_is_served_in_order() {
    const THREADS: usize = 200;
    static LOCK: Lock = Lock::new();
    static TURNS: AtomicU32 = AtomicU32::new(0);
    let worst: Vec<u32> = thread::scope(|scope| {
        let work = || {
            let state = new_thread();
            let mut worst = 0;
            for _ in 0..5 {
                // Relaxed, all: it need not be exact.
                let arrived = TURNS.load(Ordering::Relaxed);
                LOCK.lock(&state, &CALL);
                let entered = TURNS.fetch_add(1, Ordering::Relaxed);
                worst = worst.max(entered - arrived);
                thread::sleep(std::time::Duration::from_millis(5));
                LOCK.unlock(&state);
            }
            worst
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        let threads = threads.into_iter();
        threads.map(|it| it.join().expect("it ended")).collect()
    });
    let worst = worst.into_iter().max();
    assert!(worst < Some(3 * THREADS as u32), "{worst:?}");
}

#[test]
fn more_than_a_thousand_waiters() {
    static LOCK: Lock = Lock::new();
    static CALLS: AtomicU32 = AtomicU32::new(0);
    const THREADS: u32 = 1224;
    let holder = new_thread();
    LOCK.lock(&holder, &CALL);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            let small = thread::Builder::new().stack_size(64 << 10);
            let body = || {
                let thread = new_thread();
                LOCK.lock(&thread, &CALL);
                // Relaxed load and store: the lock makes one addition of them.
                CALLS.store(CALLS.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                LOCK.unlock(&thread);
            };
            small.spawn_scoped(scope, body).expect("a thread");
        }
        LOCK.until_waiters_are(THREADS.into());
        LOCK.unlock(&holder);
    });
    assert_eq!(CALLS.load(Ordering::Relaxed), THREADS);
}

#[test]
fn the_lock_of_a_holder_that_has_ended_is_released() {
    static LOCK: Lock = Lock::new();
    thread::spawn(|| LOCK.lock(&new_thread(), &CALL))
        .join()
        .expect("it ended inside");
    let thread = new_thread();
    assert_ne!(LOCK.lock(&thread, &CALL), Some(Admission::AT_ONCE));
    LOCK.unlock(&thread);
}

/// The shortest life: one compare-exchange, and the end.
#[test]
fn a_holder_that_never_said_so_is_found_to_have_ended() {
    static LOCK: Lock = Lock::new();
    LOCK.prepared.ensure(|_, _| ());
    thread::spawn(|| LOCK.set(|state| state.taken_by(ThreadId::current().id())))
        .join()
        .expect("it ended inside");
    assert_ne!(LOCK.lock(&new_thread(), &CALL), Some(Admission::AT_ONCE));
}

/// The holder would have woken the next successor.
#[test]
fn the_lock_of_a_holder_that_has_ended_is_released_where_all_others_sleep_in_the_queue() {
    let lock = used_lock().with_long_calls();
    thread::scope(|scope| {
        let ended = scope.spawn(|| {
            let me = ThreadId::current().id();
            lock.set(|state| state.taken_by(me).with(QUEUED));
        });
        ended.join().expect("it ended inside");
        for _ in 0..2 {
            scope.spawn(|| {
                let thread = new_thread();
                lock.lock(&thread, &CALL);
                lock.unlock(&thread);
            });
        }
    });
}

/// Its reservation, too, ends with it. And others may sleep that only it would have had woken.
#[test]
fn a_successor_that_has_ended_is_replaced() {
    static LOCK: Lock = Lock::new();
    let holder = new_thread();
    LOCK.lock(&holder, &CALL);
    thread::spawn(|| {
        let me = ThreadId::current().id();
        LOCK.set(|state| state.succeeded_by(me).with(RESERVED | ASLEEP));
    })
    .join()
    .expect("it ended while it waited");
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let thread = new_thread();
                LOCK.lock(&thread, &CALL);
                LOCK.unlock(&thread);
            });
        }
        LOCK.until_waiters_are(2);
        LOCK.unlock(&holder);
    });
}

/// Played by a number that no thread can have: it is as if it were stopped.
#[test]
fn a_successor_that_makes_nothing_of_its_chance_is_replaced() {
    let lock = used_lock().with_long_calls();
    lock.set(|state| state.succeeded_by((1 << 22) - 1).with(RESERVED));
    let thread = new_thread();
    lock.lock(&thread, &CALL).expect("it was outside");
    lock.unlock(&thread);
    assert_eq!(lock.state().successor(), 0);
}

#[test]
fn a_thread_that_ends_while_it_is_woken_is_not_waited_for() {
    let lock = used_lock();
    lock.set(|state| state.taken_by((1 << 22) - 1).waking_if(true));
    thread::scope(|scope| {
        scope.spawn(|| {
            let thread = new_thread();
            lock.lock(&thread, &CALL);
            lock.unlock(&thread);
        });
        lock.until_waiters_are(1);
        lock.set(State::released);
    });
}

#[test]
fn a_new_thread_with_the_id_of_the_holder_is_not_the_holder() {
    let lock = used_lock();
    let earlier = ThreadState::of(ThreadId::current().id());
    lock.lock(&earlier, &CALL);
    assert_eq!(lock.lock(&new_thread(), &CALL), Some(Admission::AT_ONCE));
}

#[test]
fn a_living_thread_is_never_taken_for_ended() {
    let id = ThreadId::current();
    assert!(!id.has_ended());
    assert!(
        thread::spawn(move || !id.has_ended())
            .join()
            .expect("it looked")
    );
}

#[test]
fn a_thread_that_has_ended_is_found_out() {
    let ended = thread::spawn(ThreadId::current).join().expect("it ended");
    while !ended.has_ended() {
        thread::yield_now(); // join() returns a little before the kernel has done with the thread
    }
}

/// This thread's own id, with a life that ended before this thread began. After a restoration from a checkpoint, it is the
/// other way round: the thread, as its process, seems to have begun later.
#[test]
fn an_id_that_is_used_again_is_told_from_a_restored_process() {
    let began = thread_id::process_start().expect("/proc is there");
    while ThreadId::current().alive_at() < began + 3 {
        thread::yield_now();
    }
    let look = move || {
        let with = |alive_at| ThreadId {
            bits: alive_at << ID_BITS | ThreadId::current().id(),
            ..ThreadId::current()
        };
        (with(began + 1).has_ended(), with(began - 1).has_ended())
    };
    assert_eq!(
        thread::spawn(look).join().expect("it looked"),
        (true, false)
    );
}

// A forked child. (These tests do not fork: the lock and the threads have the generation of another process.)

/// The generation of the parent.
const PARENT: u32 = 1 << 30;

/// A thread that has used the lock in the parent, under this id.
fn of_parent(id: u64) -> ThreadState {
    let thread = ThreadState::of(id);
    thread.generation.set(PARENT);
    thread
}

/// The lock as a child gets it: in the parent, thread 1 was inside and thread 2 waited.
fn inherited() -> Lock {
    let mut lock = used_lock();
    lock.lock(&ThreadState::of(1), &CALL);
    assert!(!lock.try_once(&ThreadState::of(2)));
    lock.prepared = PreparedFor::earlier(PARENT);
    lock
}

#[test]
fn a_child_of_a_thread_that_was_outside_has_a_free_lock() {
    for outsider in [of_parent(3), new_thread()] {
        let lock = inherited();
        lock.after_fork(&outsider);
        assert_eq!(lock.lock(&outsider, &CALL), Some(Admission::AT_ONCE));
        lock.unlock(&outsider);
        assert!(lock.state().is_idle(), "there are no waiters");
    }
}

/// The holder is another thread to the kernel now.
#[test]
fn a_child_of_the_holder_has_its_lock() {
    let (lock, holder) = (inherited(), of_parent(1));
    holder.depth.set(1);
    lock.after_fork(&holder);
    assert_eq!(lock.state().holder(), ThreadId::current().id());
    assert_eq!(lock.lock(&holder, &CALL), None, "still inside");
    lock.unlock(&holder);
    lock.unlock(&holder);
    assert!(lock.state().is_idle(), "there are no waiters");
}

/// Another thread of the child has come first, and has found the lock free.
#[test]
fn the_thread_that_forked_gets_an_id_of_the_child() {
    let (lock, forked) = (inherited(), of_parent(3));
    forked.waits.set(1);
    assert_eq!(lock.lock(&new_thread(), &CALL), Some(Admission::AT_ONCE));
    lock.after_fork(&forked);
    assert_eq!(forked.id.get().id(), ThreadId::current().id());
    assert_eq!(lock.waiters.load(Ordering::Relaxed), 1, "it is in a wait");
}

/// The fork handler of another library has started a thread, and ours has not run yet.
#[test]
fn a_thread_that_comes_first_leaves_the_lock_to_a_thread_that_forked_from_inside() {
    let lock = inherited();
    lock.forking
        .store(lock.state().possession(), Ordering::Relaxed);
    assert!(!lock.try_once(&new_thread()));
    assert_eq!(lock.state().holder(), ThreadId::main().id());
}

#[test]
fn a_preparation_that_the_parent_had_not_finished_begins_again() {
    let mut lock = inherited();
    lock.prepared = PreparedFor::earlier(PARENT | 1 << 31);
    assert_eq!(lock.lock(&new_thread(), &CALL), Some(Admission::AT_ONCE));
}
