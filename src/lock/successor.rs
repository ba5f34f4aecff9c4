//! When the successor takes the lock. While calls are short, it is nearly always the only waiter that is awake.

use super::state::{RESERVED, State};
use super::sync::{HintWord, Ordering};

/// For how long the successor lets running threads take the lock before it reserves it: this time and four calls, and at most
/// `MOST_BYPASS`. All times in this file are in nanoseconds. (Measured: benches/README.md.)
const BYPASS: u64 = if cfg!(loom) { 1 } else { 150_000 };
const MOST_BYPASS: u64 = 2_000_000;

/// A call is long if waiting for its end awake costs more than a sleep and a wake-up. The successor stays awake for at most this
/// time until one call ends.
const LONG: u64 = 300_000;

/// Where a call takes long enough, the successor sleeps for most of it, and is awake for so long before its usual end. The kernel
/// may wake an ordinary thread 50 us late, and then the thread needs some more to run.
const AWAKE: u64 = 80_000;

/// A shorter sleep is not worth its system call.
const LEAST_NAP: u64 = 30_000;

/// How many times the successor sees the lock free before it takes it without a reservation. A thread that has just unlocked,
/// and locks again within a microsecond or two, can then do so, and no other thread has to be woken.
const LOOKS: u32 = if cfg!(loom) { 1 } else { 4 };

/// How long a call takes, as measured by successors, their own delays included.
#[cfg_attr(loom, derive(Default))]
pub struct UsualHold(HintWord);

impl UsualHold {
    /// Not known.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self(HintWord::new(0))
    }

    /// For the model.
    #[cfg(loom)]
    pub fn of(hold: u64) -> Self {
        Self(HintWord::new(hold))
    }

    fn get(&self) -> u64 {
        // Relaxed, here and below: a hint.
        self.0.load(Ordering::Relaxed)
    }

    /// Whether calls are long.
    pub fn is_long(&self) -> bool {
        self.get() > LONG
    }

    /// A single long call, whose thread has lost the processor, changes the estimate little.
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
    /// Look again soon.
    Spin,
    /// Sleep until the thread inside leaves.
    Sleep,
    /// The same, but wake up at this time, a little before it will probably leave.
    Nap(u64),
}

/// What one waiter has seen since it became the successor.
pub struct Succession {
    since: u64,
    turn: u64,
    turn_since: u64,
    looks: u32,
    /// It has probably taken its processor from the thread inside.
    shares_processor: bool,
}

impl Succession {
    /// The waiter has become the successor in this state.
    pub fn begin(state: State, now: u64, shares_processor: bool) -> Self {
        Self {
            since: now,
            turn: state.turn(),
            turn_since: now,
            looks: 0,
            shares_processor,
        }
    }

    /// What to do in this state.
    pub fn next_move(&mut self, state: State, now: u64, hold: &UsualHold) -> Move {
        let turns = state.turns_since(self.turn);
        let is_long = hold.is_long();
        let watched = now.saturating_sub(self.turn_since);
        if let Some(mean) = watched.checked_div(turns) {
            hold.learn(mean);
            self.turn = state.turn();
            self.turn_since = now;
            self.looks = 0;
            self.shares_processor = false;
        }
        let is_bypassed = now >= self.since + (BYPASS + 4 * hold.get()).min(MOST_BYPASS);
        if state.is_free() {
            self.looks += 1;
            let takes = is_long || is_bypassed || state.has(RESERVED) || self.looks >= LOOKS;
            if takes && turns == 0 && watched > 0 {
                hold.learn(watched);
            }
            return if takes { Move::Take } else { Move::Spin };
        }
        // Only just after another thread has entered: both are probably running then, and the successor is awake when that call
        // ends.
        if is_bypassed && turns > 0 && !state.has(RESERVED) {
            return Move::Reserve;
        }
        // The holder probably waits for this processor; or it stays inside for longer than usual, and has lost another one. (Without
        // the second, calls take longer beside other programs: benches/README.md.)
        let patience = (4 * hold.get()).clamp(LONG / 6, LONG);
        let sleeps =
            is_long || self.shares_processor || now.saturating_sub(self.turn_since) > patience;
        let nap_end = (self.turn_since + hold.get()).saturating_sub(AWAKE);
        if sleeps {
            Move::Sleep
        } else if nap_end > now + LEAST_NAP {
            Move::Nap(nap_end)
        } else {
            Move::Spin
        }
    }
}
