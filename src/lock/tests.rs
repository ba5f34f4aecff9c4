//! The lock by itself, in real threads. `model` has all interleavings of a few; here are many threads and real time.

use super::*;
use std::{
    ptr,
    sync::{
        Barrier, Mutex,
        atomic::{AtomicBool, AtomicU32},
    },
    thread,
};

const CALL: Purpose = Purpose {
    name: &"call",
    address: ptr::null(),
    length: 0,
};

/// The place of the thread that uses it first.
fn place() -> Place {
    Place {
        thread: Cell::new(Identity::UNKNOWN),
        forks: Cell::new(0),
        ticket: Cell::new(0),
        depth: Cell::new(0),
    }
}

/// The place of a thread that is only played: whether it is gone, nobody can tell.
fn played(id: u64) -> Place {
    let place = place();
    place.thread.set(Identity {
        number: id,
        process: 0,
    });
    place
}

impl Lock {
    /// What a thread does that is stopped right after it has drawn a ticket.
    fn only_draw(&self, place: &Place) -> Ticket {
        place.depth.set(1);
        let drawn = self.draw(place, &CALL);
        drawn.expect("somebody is inside").0
    }

    /// The rest of it.
    fn then_wait(&self, place: &Place, ticket: Ticket) -> bool {
        self.wait_for(ticket, now(), place, &CALL)
    }

    /// Waits until so many threads are inside or waiting.
    fn until_count_is(&self, count: u64) {
        while self.state().count() != count {
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
                let place = place();
                start.wait();
                for _ in 0..10_000 {
                    LOCK.enter(&place, &CALL);
                    // Relaxed: only the lock may order these.
                    assert!(!INSIDE.swap(true, Ordering::Relaxed));
                    assert!(INSIDE.swap(false, Ordering::Relaxed));
                    LOCK.leave(&place);
                }
            });
        }
    });
}

#[test]
fn the_holder_may_enter_again() {
    let lock = Lock::new();
    let (holder, other) = (played(1), played(2));
    assert_eq!(lock.enter(&holder, &CALL), Some(Admission::AT_ONCE));
    assert_eq!(lock.enter(&holder, &CALL), None);
    lock.leave(&holder);
    assert_eq!(lock.state().holder(), 1, "still inside");
    lock.leave(&holder);
    assert_eq!(lock.enter(&other, &CALL), Some(Admission::AT_ONCE));
}

/// A signal handler that interrupts a thread's first call, and a child that was forked while it waited, are not known yet.
#[test]
fn a_free_lock_is_held_by_nobody() {
    let (lock, thread) = (Lock::new(), place());
    thread.depth.set(1);
    assert!(!lock.is_held_here(&thread));
    lock.enter(&thread, &CALL);
    assert!(lock.is_held_here(&thread));
}

/// A thread that was taken for gone, and is not.
#[test]
fn who_is_not_inside_ends_no_turn() {
    let lock = Lock::new();
    let (first, second) = (played(1), played(2));
    lock.enter(&first, &CALL);
    lock.pass_on(lock.state());
    lock.enter(&second, &CALL);
    lock.leave(&first);
    assert_eq!(lock.state().holder(), 2);
}

#[test]
fn tickets_come_again_after_the_last() {
    let lock = Lock::new();
    let (first, second) = (played(1), played(2));
    let last = State(!0 << 38);
    lock.word.0.store(last.0, Ordering::Relaxed);
    for _ in 0..2 {
        lock.enter(&first, &CALL);
        let ticket = lock.only_draw(&second);
        assert_eq!(lock.state().ahead_of(ticket), Some(1));
        lock.leave(&first);
        assert!(lock.then_wait(&second, ticket));
        lock.leave(&second);
        assert_eq!(lock.state().ahead_of(ticket), None);
    }
    assert!(lock.turn() < last.serving());
}

/// What a signal handler does that interrupts its thread in `enter`, before that has got anywhere, or in `leave`, before it
/// has let go.
#[test]
fn a_handler_leaves_the_lock_to_the_call_that_it_interrupts() {
    let lock = Lock::new();
    let (thread, other) = (played(1), played(2));
    thread.depth.set(1);
    assert_eq!(lock.enter(&thread, &CALL), Some(Admission::AT_ONCE));
    lock.leave(&thread);
    assert_eq!(lock.state().holder(), 1, "the call is about to enter");
    assert_eq!(lock.draw(&thread, &CALL), None, "and has entered");

    thread.depth.set(0);
    assert_eq!(lock.enter(&thread, &CALL), None, "about to leave");
    lock.leave(&thread);
    assert_eq!(lock.enter(&other, &CALL), Some(Admission::AT_ONCE));
}

/// A signal handler that interrupts its thread's wait enters with the ticket that the thread waits with, or is about to
/// draw.
#[test]
fn a_handler_enters_with_the_ticket_of_the_wait_that_it_interrupts() {
    let lock = Lock::new();
    let (holder, waiter, third) = (played(1), played(2), played(3));
    lock.enter(&holder, &CALL);
    let ticket = lock.only_draw(&waiter);
    let behind = lock.only_draw(&third);
    lock.leave(&holder);
    assert_eq!(lock.enter(&waiter, &CALL), None);
    lock.leave(&waiter);
    assert!(lock.then_wait(&waiter, ticket), "its turn was given away");
    lock.leave(&waiter);
    assert!(lock.then_wait(&third, behind));
}

/// The same where another thread drew the ticket that the interrupted one was about to draw: that one draws anew.
#[test]
fn who_loses_its_turn_to_a_handler_draws_again() {
    let lock = Lock::new();
    let (holder, waiter, robbed) = (played(1), played(2), played(3));
    lock.enter(&holder, &CALL);
    let ticket = lock.only_draw(&robbed);
    waiter.depth.set(1);
    waiter.ticket.set(ticket);
    lock.leave(&holder);
    assert_eq!(lock.enter(&waiter, &CALL), None);
    lock.leave(&waiter);
    assert!(!lock.then_wait(&robbed, ticket));
    // Back in the interrupted thread.
    assert_eq!(lock.draw(&waiter, &CALL), None);
    lock.leave(&waiter);
    assert_eq!(lock.enter(&robbed, &CALL), Some(Admission::AT_ONCE));
}

#[test]
fn first_come_first_served_and_everybody_is_counted() {
    static LOCK: Lock = Lock::new();
    let order = Mutex::new(Vec::new());
    let holder = place();
    LOCK.enter(&holder, &CALL);
    thread::scope(|scope| {
        for arrival in 1..=5 {
            let order = &order;
            scope.spawn(move || {
                let place = place();
                let admission = LOCK.enter(&place, &CALL).expect("it was outside");
                order
                    .lock()
                    .expect("nobody panicked")
                    .push((arrival, admission.crowd));
                assert!(admission.waited.is_some());
                LOCK.leave(&place);
            });
            // The next one arrives when this one has its ticket.
            LOCK.until_count_is(1 + arrival);
        }
        LOCK.leave(&holder);
    });
    assert_eq!(
        order.into_inner().expect("nobody panicked"),
        [(1, 2), (2, 3), (3, 4), (4, 5), (5, 6)]
    );
}

#[test]
fn more_waiters_than_bells() {
    static LOCK: Lock = Lock::new();
    static CALLS: AtomicU32 = AtomicU32::new(0);
    const THREADS: usize = BELLS + 200;
    let holder = place();
    LOCK.enter(&holder, &CALL);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            let small = thread::Builder::new().stack_size(64 << 10);
            let body = || {
                let place = place();
                LOCK.enter(&place, &CALL);
                // Relaxed load and store: the lock makes one addition of them.
                CALLS.store(CALLS.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                LOCK.leave(&place);
            };
            small.spawn_scoped(scope, body).expect("a thread");
        }
        LOCK.until_count_is(1 + THREADS as u64);
        LOCK.leave(&holder);
    });
    assert_eq!(CALLS.load(Ordering::Relaxed) as usize, THREADS);
}

#[test]
fn a_holder_that_is_gone_is_passed_over() {
    static LOCK: Lock = Lock::new();
    thread::spawn(|| LOCK.enter(&place(), &CALL))
        .join()
        .expect("it ended inside");
    let place = place();
    assert_ne!(LOCK.enter(&place, &CALL), Some(Admission::AT_ONCE));
    LOCK.leave(&place);
}

#[test]
fn waiters_that_are_gone_are_passed_over_in_their_turn() {
    static LOCK: Lock = Lock::new();
    let holder = place();
    LOCK.enter(&holder, &CALL);
    for _ in 0..2 {
        thread::spawn(|| {
            let (place, me) = (place(), Identity::of_this_thread());
            place.thread.set(me);
            let ticket = LOCK.only_draw(&place);
            LOCK.bell(ticket).owner.sign(ticket, me, &Purpose::WAIT);
        })
        .join()
        .expect("it ended in the queue");
    }
    thread::scope(|scope| {
        let last = scope.spawn(|| LOCK.enter(&place(), &CALL));
        LOCK.until_count_is(4);
        LOCK.leave(&holder);
        last.join().expect("it was served");
    });
}

/// The shortest life: one compare-exchange, and the end.
#[test]
fn a_holder_that_never_said_who_it_is_is_passed_over() {
    static LOCK: Lock = Lock::new();
    thread::spawn(|| {
        let state = LOCK.state();
        assert!(LOCK.replace(
            state,
            state.joined().taken_by(Identity::of_this_thread().id())
        ));
    })
    .join()
    .expect("it ended inside");
    assert_ne!(LOCK.enter(&place(), &CALL), Some(Admission::AT_ONCE));
}

#[test]
fn a_waiter_that_never_said_who_it_is_is_passed_over() {
    let lock = Lock::new();
    let (holder, nobody, next) = (played(1), played(2), played(3));
    lock.enter(&holder, &CALL);
    let ticket = lock.only_draw(&nobody);
    lock.leave(&holder);
    assert_ne!(lock.enter(&next, &CALL), Some(Admission::AT_ONCE));
    assert!(!lock.then_wait(&nobody, ticket), "should it live after all");
}

#[test]
fn a_new_thread_with_the_id_of_the_holder_is_not_the_holder() {
    let lock = Lock::new();
    let me = Identity::of_this_thread();
    let earlier = played(me.id());
    lock.enter(&earlier, &CALL);
    assert_eq!(lock.enter(&place(), &CALL), Some(Admission::AT_ONCE));
}

#[test]
fn a_living_thread_is_never_taken_for_gone() {
    let identity = Identity::of_this_thread();
    assert!(!identity.is_gone());
    assert!(
        thread::spawn(move || !identity.is_gone())
            .join()
            .expect("it looked")
    );
}

#[test]
fn a_thread_that_has_ended_is_gone_even_if_its_number_is_used_again() {
    let ended = thread::spawn(Identity::of_this_thread)
        .join()
        .expect("it ended");
    while !ended.is_gone() {
        thread::yield_now(); // join() returns a little before the kernel has done with the thread
    }
    // This very thread's number, with a life that ended before this thread began.
    assert!(Identity::of_this_thread().born_earlier().is_gone());
}

#[test]
fn a_child_has_a_free_lock_or_its_own() {
    // The lock with a thread inside and one that waits, and the place of the first.
    let held_and_waited_for = || {
        let (lock, holder) = (Lock::new(), played(1));
        lock.enter(&holder, &CALL);
        lock.only_draw(&played(2));
        (lock, holder)
    };

    // As in a child of a thread that is outside: the holder and the waiter are not there.
    let (lock, _) = held_and_waited_for();
    let outsider = played(3);
    lock.after_fork(&outsider);
    assert_eq!(lock.enter(&outsider, &CALL), Some(Admission::AT_ONCE));
    lock.leave(&outsider);

    // As in a child of a holder, which is another thread to the kernel.
    let (lock, holder) = held_and_waited_for();
    lock.after_fork(&holder);
    assert_eq!(lock.state().holder(), Identity::of_this_thread().id());
    assert_eq!(lock.enter(&holder, &CALL), None, "still inside");
    lock.leave(&holder);
    lock.leave(&holder);
    let outsider = played(3);
    let admission = lock.enter(&outsider, &CALL);
    assert_eq!(admission, Some(Admission::AT_ONCE), "nobody is waited for");
}

#[test]
fn a_full_queue_admits_nobody_until_there_is_room() {
    static LOCK: Lock = Lock::new();
    let full = State(0xffff << 22);
    assert!(full.is_full());
    LOCK.word.0.store(full.0, Ordering::Relaxed);
    static COMES: AtomicBool = AtomicBool::new(false);
    thread::scope(|scope| {
        let last = scope.spawn(|| {
            COMES.store(true, Ordering::SeqCst);
            LOCK.only_draw(&played(1))
        });
        while !COMES.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        for _ in 0..1000 {
            thread::yield_now();
            assert_eq!(LOCK.state(), full, "one too many");
        }
        LOCK.pass_on(LOCK.state());
        let ticket = last.join().expect("it has drawn one");
        assert_eq!(LOCK.state().ahead_of(ticket), Some(0xfffe));
    });
}
