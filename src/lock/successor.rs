//! When the successor takes the lock. Of all waiters, it alone is awake while calls are short.

use super::state::{RESERVED, State};
use super::sync::{AtomicBool, Ordering};

/// For how long the successor lets running threads take the lock before it reserves it, in nanoseconds as all here: where
/// calls are short, and where they are long (measured: benches/README.md).
const BYPASS: u64 = 250_000;
const BYPASS_LONG: u64 = 2_000_000;

/// A call is long if it takes longer than a sleep and a wake-up are worth. For so long, the successor waits awake.
const LONG: u64 = 300_000;

/// How often the successor sees the lock free before it takes it unreserved: a thread that has just left, and comes again
/// within a microsecond or two, needs no other to be woken.
const LOOKS: u32 = if cfg!(loom) { 1 } else { 4 };

/// What the successor does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Move {
    /// Take the lock, which is free.
    Take,
    /// Reserve it.
    Reserve,
    /// Look again.
    Spin,
    /// Sleep until then.
    Sleep(u64),
}

/// What one waiter has seen since it became the successor.
pub struct Succession {
    since: u64,
    turn: u64,
    turn_since: u64,
    looks: u32,
}

impl Succession {
    /// It becomes the successor in this state.
    pub fn begin(state: State, now: u64) -> Self {
        Self {
            since: now,
            turn: state.turn(),
            turn_since: now,
            looks: 0,
        }
    }

    /// What to do in this state. `are_long` is what successors have found out about calls.
    pub fn next_move(&mut self, state: State, now: u64, are_long: &AtomicBool) -> Move {
        let turns = state.turns_since(self.turn);
        let is_long = now.saturating_sub(self.turn_since) / turns.max(1) > LONG;
        // Relaxed: a hint. Written only when it changes: successors of all times read it.
        let were_long = are_long.load(Ordering::Relaxed);
        if were_long != is_long && (is_long || turns > 0 || state.is_free()) {
            are_long.store(is_long, Ordering::Relaxed);
        }
        if turns > 0 {
            (self.turn, self.turn_since, self.looks) = (state.turn(), now, 0);
        }
        if state.is_free() {
            self.looks += 1;
            let takes = were_long || state.has(RESERVED) || self.looks >= LOOKS;
            return if takes { Move::Take } else { Move::Spin };
        }
        let reserves_at = self.since + if were_long { BYPASS_LONG } else { BYPASS };
        match () {
            () if state.has(RESERVED) && (were_long || is_long) => Move::Sleep(u64::MAX),
            () if state.has(RESERVED) => Move::Spin,
            () if now >= reserves_at => Move::Reserve,
            () if were_long || is_long => Move::Sleep(reserves_at),
            () => Move::Spin,
        }
    }
}
