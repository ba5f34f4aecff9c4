//! What a waiter checks after a whole period of sleep: the successor checks the holder, the other waiters check the successor.
//! (Where there was none for the whole period, `Lock::sleep` makes this waiter the successor.) A thread that has ended is
//! replaced; a holder that stays inside for too long is named in a warning.

use super::{
    Lock,
    holder::CallInfo,
    state::{ASLEEP, State},
    thread_id::ThreadId,
};
use crate::base::{
    process, settings,
    sys::{NS_PER_S, now},
};
use core::sync::atomic::{AtomicU64, Ordering};
use log::{error, warn};

/// How long a waiter sleeps before a check. All times in this file are in nanoseconds. A holder that has ended has to be noticed
/// within a second, which takes at most three periods: if the ended holder had to wake the next successor, a waiter of the queue
/// first has to see twice that there is none.
const PERIOD: u64 = 300_000_000;

/// What one waiter has seen in its checks.
pub struct Watchdog {
    /// The state at the last check.
    seen: State,
    /// A time at which the present turn had begun.
    since: u64,
    /// How long the turn may last before the next warning.
    patience: Option<u64>,
    /// The time of the next check.
    deadline: u64,
}

impl Watchdog {
    /// At the beginning of a wait.
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

    /// Checks the thread that the waiter `me` depends on.
    #[cold]
    pub fn check(&mut self, lock: &Lock, me: ThreadId) {
        let generation = process::generation();
        process::is_recorded(me.id());
        let (now, state) = (now(), lock.state());
        self.deadline = now + PERIOD;
        if !process::is_at(generation) {
            // What it waited for was in another process. (There was no sign of the fork before.)
            return;
        }
        let before = core::mem::replace(&mut self.seen, state);
        let is_same_turn = (state.turn(), state.holder()) == (before.turn(), before.holder());
        if !is_same_turn {
            self.since = now;
            self.patience = patience();
        }
        if state.holder() == me.id() {
            // A signal handler has taken the lock for this thread.
        } else if state.successor() == me.id() {
            if !state.is_free() {
                self.check_holder(lock, state, now);
            }
        } else if state.successor() != 0 && state.successor() == before.successor() {
            // Since the last check, the lock was free for a time: the successor could have taken it.
            let is_idle = !is_same_turn || state.is_free();
            let successor = ThreadId::of_lock(state.successor());
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
            release(lock, state, true);
            return;
        }
        let (id, ns) = (holder.id(), now.saturating_sub(self.since));
        let Some(patience) = self.patience.filter(|&patience| ns >= patience) else {
            return;
        };
        let seconds = ns / NS_PER_S;
        // The holder may just be unlocking, and may have closed its device. The name is right if the holder is still inside.
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

/// Releases the lock of a holder that is not there any more; logs an error if it has ended.
#[cold]
pub fn release(lock: &Lock, state: State, has_ended: bool) {
    let (holder, call) = lock.holder(state);
    if lock.replace(state, state.released().without(ASLEEP)) {
        lock.wake(state.has(ASLEEP), false);
        if has_ended {
            report_ended(holder, &call);
        }
    }
}

/// Once for a thread, which may have held two locks.
fn report_ended(thread: ThreadId, call: &CallInfo) {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let id = thread.id();
    // Relaxed: it only keeps a line from being repeated.
    if LAST.swap(id, Ordering::Relaxed) == id {
        return;
    }
    error!("{call}: thread {id} ended before it was done; the next in line goes on");
}

/// How long a thread may stay inside before a warning; `None`: for ever.
fn patience() -> Option<u64> {
    let seconds = settings::get().warn_after;
    (seconds > 0).then(|| seconds.saturating_mul(NS_PER_S))
}
