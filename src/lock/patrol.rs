//! What a waiter does when its sleep was long: it looks after the thread whose turn it is. One that is gone is passed over;
//! one that stays inside for too long is named.

use super::{
    Lock,
    identity::Identity,
    owner::Purpose,
    state::{State, Ticket},
};
use crate::{
    config,
    sys::{NS_PER_S, now},
};
use log::{error, warn};

/// The waiters far back look once in so many long sleeps.
const MOST_ROUNDS: u64 = 8;

/// How long a waiter sleeps without looking about, in nanoseconds as all here: a holder that is gone has to be noticed within a
/// second, by a waiter that may just have fallen asleep.
const LONG_SLEEP: u64 = 400_000_000;

/// What one waiter has seen so far.
pub struct Patrol {
    /// Whose turn it was when it last looked.
    turn: State,
    /// Since when, at least.
    since: u64,
    /// How long that may take before the next line about it.
    patience: Option<u64>,
    /// When it looks next.
    deadline: u64,
    /// How often it has looked.
    rounds: u64,
}

impl Patrol {
    /// Begins to watch this turn.
    pub fn begin(turn: State, now: u64) -> Self {
        Self {
            turn,
            since: now,
            patience: patience(),
            deadline: now + LONG_SLEEP,
            rounds: 0,
        }
    }

    /// When to wake up and `look`.
    pub fn deadline(&self) -> u64 {
        self.deadline
    }

    /// Looks after the thread whose turn it is, for the waiter with `ticket`.
    pub fn look(&mut self, lock: &Lock, ticket: Ticket) {
        let now = now();
        self.deadline = now + LONG_SLEEP;
        let state = lock.state();
        let is_stuck = state.is_same_turn(self.turn);
        if !is_stuck {
            let rounds = self.rounds;
            *self = Self {
                rounds,
                ..Self::begin(state, now)
            };
        }
        let Some(ahead @ 1..) = state.ahead_of(ticket) else {
            return;
        };
        // The next in line looks every time; those behind it less often, in case that one is gone too.
        self.rounds += 1;
        if !self.rounds.is_multiple_of(ahead.min(MOST_ROUNDS)) {
            return;
        }
        match lock.owner(state) {
            Some((thread, _)) if thread.is_gone() => pass_over_gone(lock, state),
            // One line is enough, and the next in line writes it.
            Some((thread, purpose)) if ahead == 1 => {
                let is_inside = state.holder() != 0;
                self.complain(thread, is_inside.then_some(&purpose));
            }
            Some(_) => {}
            // Whoever drew this ticket did not get to say so, for a whole long sleep. It has ended; or else it will find its
            // ticket past, and draw again.
            None if is_stuck => {
                // In vain if somebody arrives just now: the next look is for that.
                lock.pass_on(state);
            }
            None => {}
        }
    }

    fn complain(&mut self, thread: Identity, purpose: Option<&Purpose>) {
        let (id, ns) = (thread.id(), now().saturating_sub(self.since));
        let Some(patience) = self.patience.filter(|&patience| ns >= patience) else {
            return;
        };
        let seconds = ns / NS_PER_S;
        match purpose {
            Some(purpose) => warn!(
                "{purpose}: thread {id} has been inside for {seconds} s or more while others wait"
            ),
            None => warn!(
                "thread {id} has not taken its turn for {seconds} s or more while others wait"
            ),
        }
        self.patience = patience.checked_mul(2);
    }
}

/// Ends the turn of a thread that is gone, and says so.
#[cold]
pub fn pass_over_gone(lock: &Lock, state: State) {
    let owner = lock.owner(state);
    if lock.pass_on(state)
        && let Some((thread, purpose)) = owner
    {
        error!(
            "{purpose}: thread {} ended before it was done; the next in line goes on",
            thread.id()
        );
    }
}

/// How long a thread may stay inside before a line about it; `None` is for ever.
fn patience() -> Option<u64> {
    let seconds = config::get().warn_after;
    (seconds > 0).then(|| seconds.saturating_mul(NS_PER_S))
}
