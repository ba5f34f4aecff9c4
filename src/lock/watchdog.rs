//! What a waiter does when its sleep was long: the successor looks after the holder, the others look after the successor.
//! (Where there is none during a whole sleep, `Lock::sleep` makes this waiter the successor.) A thread that has ended is replaced;
//! a holder that stays inside for too long is named.

use super::{
    Lock,
    holder::CallInfo,
    state::{ASLEEP, State},
};
use crate::{
    config,
    sys::{NS_PER_S, now},
    thread_id::ThreadId,
};
use log::{error, warn};

/// How long a waiter sleeps before it looks, in nanoseconds as all here. A holder that has ended has to be noticed within a
/// second, and that takes three periods at most: where it was to wake the next successor, one of the queue has to see twice
/// that there is none.
const PERIOD: u64 = 300_000_000;

/// What one waiter has seen so far.
pub struct Watchdog {
    /// What it saw when it last looked.
    seen: State,
    /// Since when, at least, the same turn lasts.
    since: u64,
    /// How long that may take before the next line about it.
    patience: Option<u64>,
    /// When it looks next.
    deadline: u64,
}

impl Watchdog {
    /// Begins to watch.
    pub fn begin(seen: State, now: u64) -> Self {
        Self {
            seen,
            since: now,
            patience: patience(),
            deadline: now + PERIOD,
        }
    }

    /// When to wake up and `check`.
    pub fn deadline(&self) -> u64 {
        self.deadline
    }

    /// Looks after the thread that the waiter `me` depends on.
    #[cold]
    pub fn check(&mut self, lock: &Lock, me: ThreadId) {
        let (now, state) = (now(), lock.state());
        self.deadline = now + PERIOD;
        let before = core::mem::replace(&mut self.seen, state);
        let is_same_turn = (state.turn(), state.holder()) == (before.turn(), before.holder());
        if !is_same_turn {
            self.since = now;
            self.patience = patience();
        }
        if state.holder() == me.id() {
            // A signal handler has taken it for this thread.
        } else if state.successor() == me.id() {
            if !state.is_free() {
                self.check_holder(lock, state, now);
            }
        } else if state.successor() != 0 && state.successor() == before.successor() {
            // All this time, the lock was free, or there was another holder: the successor had an occasion.
            let is_idle = !is_same_turn || state.is_free();
            let successor = ThreadId::alive_now(state.successor());
            let has_ended = successor.has_ended();
            let is_replaced = is_idle || has_ended;
            if is_replaced && lock.replace(state, state.succeeded_by(me.id())) && has_ended {
                report_ended(successor, &CallInfo::WAITING);
            }
        }
    }

    fn check_holder(&mut self, lock: &Lock, state: State, now: u64) {
        let (holder, call) = lock.holder(state);
        if holder.has_ended() {
            release_of_ended(lock, state);
            return;
        }
        let (id, ns) = (holder.id(), now.saturating_sub(self.since));
        let Some(patience) = self.patience.filter(|&patience| ns >= patience) else {
            return;
        };
        let seconds = ns / NS_PER_S;
        // The holder may be leaving, and its device closed: if it is still inside, what was read is the name.
        let device = call.device.name();
        let state = lock.state();
        let is_inside = (state.turn(), state.holder()) == (self.seen.turn(), self.seen.holder());
        match device.filter(|_| is_inside) {
            Some(device) => warn!(
                "{call} on {device}: thread {id} has been inside for {seconds} s or more while others wait"
            ),
            None => warn!(
                "{call}: thread {id} has been inside for {seconds} s or more while others wait"
            ),
        }
        self.patience = patience.checked_mul(2);
    }
}

/// Releases the lock of a holder that has ended, and says so.
#[cold]
pub fn release_of_ended(lock: &Lock, state: State) {
    let (holder, call) = lock.holder(state);
    if lock.replace(state, state.released().without(ASLEEP)) {
        lock.wake(state.has(ASLEEP), false);
        report_ended(holder, &call);
    }
}

fn report_ended(thread: ThreadId, call: &CallInfo) {
    let id = thread.id();
    error!("{call}: thread {id} ended before it was done; the next in line goes on");
}

/// How long a thread may stay inside before a line about it; `None` is for ever.
fn patience() -> Option<u64> {
    let seconds = config::get().warn_after;
    (seconds > 0).then(|| seconds.saturating_mul(NS_PER_S))
}
