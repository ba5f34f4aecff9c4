//! When the successor takes the lock. Of all waiters, it alone is awake while calls are short.

use super::state::{RESERVED, State};
use super::sync::{HintWord, Ordering};

/// For how long the successor lets running threads take the lock before it reserves it, in nanoseconds as all here: where
/// calls are short, and where they are long (measured: benches/README.md).
const BYPASS: u64 = if cfg!(loom) { 1 } else { 250_000 };
const BYPASS_LONG: u64 = 2_000_000;

/// A call is long if it takes longer than a sleep and a wake-up are worth. For so long at most, the successor waits awake
/// for the end of one call.
const LONG: u64 = 300_000;

/// How often the successor sees the lock free before it takes it unreserved: a thread that has just left, and comes again
/// within a microsecond or two, needs no other to be woken.
const LOOKS: u32 = if cfg!(loom) { 1 } else { 4 };

/// What successors have found out: how long a call takes.
#[cfg_attr(loom, derive(Default))]
pub struct UsualHold(HintWord);

impl UsualHold {
    /// Not known.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self(HintWord::new(0))
    }

    /// Of the model's.
    #[cfg(loom)]
    pub fn long() -> Self {
        Self(HintWord::new(2 * LONG))
    }

    fn get(&self) -> u64 {
        // Relaxed, here and below: a hint.
        self.0.load(Ordering::Relaxed)
    }

    /// Whether calls are long.
    pub fn is_long(&self) -> bool {
        self.get() > LONG
    }

    /// One call among many that takes long, because its thread has lost the processor, changes little.
    pub fn learn(&self, hold: u64) {
        let usual = (3 * self.get() + hold.min(2 * LONG)) / 4;
        self.0.store(usual, Ordering::Relaxed);
    }
}

/// What the successor does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Move {
    /// Take the lock, which is free.
    Take,
    /// Reserve it.
    Reserve,
    /// Look again.
    Spin,
    /// Sleep until the thread inside leaves.
    Sleep,
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

    /// What to do in this state.
    pub fn next_move(&mut self, state: State, now: u64, hold: &UsualHold) -> Move {
        let turns = state.turns_since(self.turn);
        let is_long = hold.is_long();
        if let Some(mean) = now.saturating_sub(self.turn_since).checked_div(turns) {
            hold.learn(mean);
            (self.turn, self.turn_since, self.looks) = (state.turn(), now, 0);
        }
        if state.is_free() {
            self.looks += 1;
            let takes = is_long || state.has(RESERVED) || self.looks >= LOOKS;
            return if takes { Move::Take } else { Move::Spin };
        }
        // Reserved only by a thread that runs, while one runs that has just entered: they meet where this call ends.
        let reserves_at = self.since + if is_long { BYPASS_LONG } else { BYPASS };
        if turns > 0 && now >= reserves_at && !state.has(RESERVED) {
            return Move::Reserve;
        }
        // A thread that stays inside for longer than usual has lost the processor, maybe to this one.
        let patience = (4 * hold.get()).clamp(LONG / 6, LONG);
        let sleeps = is_long || now.saturating_sub(self.turn_since) > patience;
        if sleeps { Move::Sleep } else { Move::Spin }
    }
}
