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

fn place() -> Place {
    Place {
        ticket: Cell::new(0),
        drawing: Cell::new(false),
        thread: Cell::new(Identity::UNKNOWN),
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
                    let admission = LOCK.enter(&place, &CALL);
                    // Relaxed: only the lock may order these.
                    assert!(!INSIDE.swap(true, Ordering::Relaxed));
                    assert!(INSIDE.swap(false, Ordering::Relaxed));
                    LOCK.leave(&place, &admission);
                }
            });
        }
    });
}

#[test]
fn the_holder_may_enter_again_and_lets_go_with_its_outermost_leave() {
    let lock = Lock::new();
    let (holder, other) = (place(), place());
    let outer = lock.enter(&holder, &CALL);
    let inner = lock.enter(&holder, &CALL);
    assert_eq!(
        (outer.outermost, outer.waited, outer.crowd),
        (true, None, 1)
    );
    assert_eq!(
        (inner.outermost, inner.waited, inner.crowd),
        (false, None, 1)
    );
    lock.leave(&holder, &inner);
    assert_eq!(lock.serving(), FIRST, "still inside");
    lock.leave(&holder, &outer);
    assert_eq!(lock.serving(), FIRST + 1);
    assert_eq!(lock.enter(&other, &CALL).waited, None);
}

/// What a signal handler does that interrupts its thread's wait: it enters with the ticket that the thread waits with.
#[test]
fn a_waiter_that_is_interrupted_enters_with_its_own_ticket() {
    let lock = Lock::new();
    let (holder, waiter) = (place(), place());
    let inside = lock.enter(&holder, &CALL);
    waiter
        .ticket
        .set(lock.next.0.fetch_add(1, Ordering::Relaxed));
    lock.leave(&holder, &inside);
    let handler = lock.enter(&waiter, &CALL);
    assert!(!handler.outermost);
    lock.leave(&waiter, &handler);
    assert_eq!(
        lock.serving(),
        FIRST + 1,
        "the turn of the interrupted call is not given away"
    );
}

/// What a signal handler does that interrupts its thread between drawing a ticket and noting it: nobody can take the turn
/// of that ticket, so it is passed over, and drawn anew.
#[test]
fn a_thread_that_is_interrupted_while_it_draws_draws_again() {
    let lock = Lock::new();
    let place = place();
    place.drawing.set(true);
    lock.next.0.fetch_add(1, Ordering::Relaxed);
    let handler = lock.enter(&place, &CALL);
    assert!(handler.outermost && handler.waited.is_some());
    assert!(place.drawing.get(), "the thread is drawing still");
    lock.leave(&place, &handler);
    // Back in the thread, which has a ticket that is past.
    assert!(!lock.wait_for(FIRST, &place, false));
}

#[test]
fn first_come_first_served_and_everybody_is_counted() {
    static LOCK: Lock = Lock::new();
    let order = Mutex::new(Vec::new());
    let holder = place();
    let inside = LOCK.enter(&holder, &CALL);
    thread::scope(|scope| {
        for arrival in 1..=5 {
            let order = &order;
            scope.spawn(move || {
                let place = place();
                let admission = LOCK.enter(&place, &CALL);
                order
                    .lock()
                    .expect("nobody panicked")
                    .push((arrival, admission.crowd));
                assert!(admission.waited.is_some());
                LOCK.leave(&place, &admission);
            });
            // The next one arrives when this one has its ticket.
            while LOCK.next.0.load(Ordering::Relaxed) != FIRST + 1 + arrival {
                thread::yield_now();
            }
        }
        LOCK.leave(&holder, &inside);
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
    let inside = LOCK.enter(&holder, &CALL);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            let small = thread::Builder::new().stack_size(64 << 10);
            let body = || {
                let place = place();
                let admission = LOCK.enter(&place, &CALL);
                // Relaxed load and store: the lock makes one addition of them.
                CALLS.store(CALLS.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                LOCK.leave(&place, &admission);
            };
            small.spawn_scoped(scope, body).expect("a thread");
        }
        while LOCK.next.0.load(Ordering::Relaxed) != FIRST + 1 + THREADS as u64 {
            thread::yield_now();
        }
        LOCK.leave(&holder, &inside);
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
    let admission = LOCK.enter(&place, &CALL);
    assert!(admission.waited.is_some());
    LOCK.leave(&place, &admission);
}

#[test]
fn waiters_that_are_gone_are_passed_over_in_their_turn() {
    static LOCK: Lock = Lock::new();
    let holder = place();
    let inside = LOCK.enter(&holder, &CALL);
    for _ in 0..2 {
        thread::spawn(|| {
            let ticket = LOCK.next.0.fetch_add(1, Ordering::Relaxed);
            LOCK.bell(ticket)
                .owner
                .sign(ticket, place().identity(), &Purpose::WAIT);
        })
        .join()
        .expect("it ended in the queue");
    }
    LOCK.leave(&holder, &inside);
    assert!(LOCK.enter(&holder, &CALL).waited.is_some());
}

#[test]
fn a_living_thread_is_never_taken_for_gone() {
    let identity = place().identity();
    assert!(!identity.is_gone());
    assert!(
        thread::spawn(move || !identity.is_gone())
            .join()
            .expect("it looked")
    );
}

#[test]
fn a_thread_that_has_ended_is_gone_even_if_its_number_is_used_again() {
    let ended = thread::spawn(|| place().identity())
        .join()
        .expect("it ended");
    while !ended.is_gone() {
        thread::yield_now(); // join() returns a little before the kernel has done with the thread
    }
    // This very thread's number, with a life that ended before this thread began.
    let earlier = place().identity().born_earlier();
    assert!(earlier.is_gone());
}

/// A lock with a thread inside and one that waits, and the place of the first.
fn held_and_waited_for() -> (Lock, Place) {
    let (lock, holder) = (Lock::new(), place());
    lock.enter(&holder, &CALL);
    lock.draw(&place());
    (lock, holder)
}

#[test]
fn a_child_has_a_free_lock_or_its_own() {
    let (lock, _) = held_and_waited_for();
    let outsider = place();

    // As in a child of a thread that is outside: the holder and the waiter are not there.
    lock.after_fork(&outsider);
    let admission = lock.enter(&outsider, &CALL);
    assert_eq!((admission.outermost, admission.waited), (true, None));
    lock.leave(&outsider, &admission);

    // As in a child of a holder.
    let (lock, holder) = held_and_waited_for();
    let outsider = place();
    lock.after_fork(&holder);
    assert!(!lock.enter(&holder, &CALL).outermost, "still inside");
    lock.leave(
        &holder,
        &Admission {
            outermost: true,
            waited: None,
            crowd: 1,
        },
    );
    assert_eq!(
        lock.enter(&outsider, &CALL).waited,
        None,
        "the waiter is not waited for"
    );
}
