//! What a waiter does when its sleep was long: it looks after the thread whose turn it is. One that is gone is passed over;
//! one that stays inside for too long is named.

use super::{Lock, NS_PER_S, futex::now, identity::Identity, owner::Purpose};
use crate::config;
use log::{error, warn};

/// The waiters far back look once in so many long sleeps.
const MOST_ROUNDS: u64 = 8;

/// How long a waiter sleeps without looking about, in nanoseconds as all here: a holder that is gone has to be noticed within a
/// second, by a waiter that may just have fallen asleep.
const LONG_SLEEP: u64 = 400_000_000;

/// What one waiter has seen so far.
pub struct Patrol {
    /// The ticket that was being served when it last looked.
    serving: u64,
    /// Since when that one has been served, at least.
    since: u64,
    /// How long it may stay before the next line about it.
    patience: Option<u64>,
    /// When it looks next.
    deadline: u64,
    /// How often it has looked.
    rounds: u64,
    /// It waits in a signal handler that has interrupted its own thread while that drew a ticket.
    has_interrupted: bool,
}

impl Patrol {
    /// Begins to watch while `serving` is served.
    pub fn begin(serving: u64, has_interrupted: bool) -> Self {
        let now = now();
        Self {
            serving,
            since: now,
            deadline: now + LONG_SLEEP,
            patience: patience(),
            rounds: 0,
            has_interrupted,
        }
    }

    /// When to wake up and `look`.
    pub fn deadline(&self) -> u64 {
        self.deadline
    }

    /// Looks after the ticket being served, for the waiter with `ticket`.
    pub fn look(&mut self, lock: &Lock, ticket: u64) {
        self.deadline = now() + LONG_SLEEP;
        let serving = lock.serving();
        let is_stuck = serving == self.serving;
        if !is_stuck {
            let rounds = self.rounds;
            *self = Self {
                rounds,
                ..Self::begin(serving, self.has_interrupted)
            };
        }
        // The next in line looks every time; those behind it less often, in case that one is gone too.
        self.rounds += 1;
        if !self
            .rounds
            .is_multiple_of(ticket.saturating_sub(serving).clamp(1, MOST_ROUNDS))
        {
            return;
        }
        let Some((thread, purpose)) = lock.owner(serving) else {
            // Whoever drew this ticket did not get to say so, for a whole long sleep. If we have interrupted a thread that
            // was drawing, it is that one, and it cannot go on before we do. It will find its ticket past, and draw again.
            if self.has_interrupted && is_stuck {
                lock.pass_over(serving);
            }
            return;
        };
        if !thread.is_gone() {
            // One line is enough, and the next in line writes it.
            if ticket == serving + 1 {
                self.complain(thread, &purpose);
            }
        } else if lock.pass_over(serving) {
            report_gone(thread, &purpose);
        }
    }

    fn complain(&mut self, thread: Identity, purpose: &Purpose) {
        let inside = now().saturating_sub(self.since);
        if let Some(patience) = self.patience.filter(|&patience| inside >= patience) {
            warn!(
                "{purpose}: thread {} has been inside for {} s or more while others wait",
                thread.id(),
                inside / NS_PER_S,
            );
            self.patience = patience.checked_mul(2);
        }
    }
}

#[cold]
fn report_gone(thread: Identity, purpose: &Purpose) {
    error!(
        "{purpose}: thread {} ended before it was done; the next in line goes on",
        thread.id()
    );
}

/// How long a thread may stay inside before a line about it; `None` is for ever.
fn patience() -> Option<u64> {
    let seconds = config::get().warn_after;
    (seconds > 0).then(|| seconds.saturating_mul(NS_PER_S))
}
