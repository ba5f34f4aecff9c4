//! When the successor takes the lock. While calls are short, it is nearly always the only waiter that is awake.

use super::state::{RESERVED, State};
use super::sync::{HintWord, Ordering};

/// For how long the successor lets running threads take the lock before it reserves it: this time and four usual calls, together at
/// most 2.55 ms, because a longer call counts as one of 0.6 ms. (Without the time, more is lost with 64 threads and 16 us; without
/// the calls, with 64 threads and 200 us.) All times in this file are in nanoseconds.
const BYPASS: u64 = if cfg!(loom) { 1 } else { 150_000 };

/// A call is long if waiting for its end awake costs more than a sleep and a wake-up. The successor stays awake for at most this
/// time until one call ends. (Without it, calls of 0.6 ms keep 1.02 processors busy instead of 1.01: little
/// more than the spread.)
const LONG: u64 = 300_000;

/// Where a call takes long enough, the successor sleeps for most of it, and is awake for so long before its usual end. The kernel
/// may wake an ordinary thread 50 us late, and then the thread needs some more to run. (With less, more time is lost at 100 us; with no
/// sleep at all, half a processor more is busy at 200 us.)
const AWAKE: u64 = 80_000;

/// How many times the successor sees the lock free before it takes it without a reservation. A thread that has just unlocked,
/// and locks again within a microsecond or two, can then do so, and no other thread has to be woken. (With two looks, threads that
/// come back are taken for threads that do not, and the successor does not doze: 1.8 processors are busy at 16 us.)
const LOOKS: u32 = if cfg!(loom) { 1 } else { 4 };

/// So many times, a successor has to reserve the lock, and none may see it left free, before the next one dozes. If the lock is then
/// left free, it is idle until the doze ends, and the count begins again. (With 0, half of the time is lost where threads make four
/// calls at a time.)
const RESERVATIONS: u64 = if cfg!(loom) { 1 } else { 64 };

/// What successors have learned of the calls of this process. Hints.
#[cfg_attr(loom, derive(Default))]
pub struct Habits {
    /// How long a call takes, the successors' own delays included.
    hold: HintWord,
    /// How many times a successor had to reserve the lock, because threads that had just unlocked it took it again, since one has
    /// seen it left free.
    reservations: HintWord,
}

impl Habits {
    /// Nothing is known.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            hold: HintWord::new(0),
            reservations: HintWord::new(0),
        }
    }

    /// For the model, and for tests.
    #[cfg(any(test, loom))]
    pub fn of(hold: u64, allow_dozing: bool) -> Self {
        let reservations = if allow_dozing { RESERVATIONS } else { 0 };
        Self {
            hold: HintWord::new(hold),
            reservations: HintWord::new(reservations),
        }
    }

    fn hold(&self) -> u64 {
        // Relaxed, here and below: a hint.
        self.hold.load(Ordering::Relaxed)
    }

    /// Whether calls are long.
    pub fn are_long(&self) -> bool {
        self.hold() > LONG
    }

    /// A call has taken so long. A single long one, whose thread has lost the processor, changes the estimate little. (Without
    /// the limit, the longest of 8 threads' calls of 10 ms takes three times as long.)
    pub fn learn(&self, hold: u64) {
        let usual = (3 * self.hold() + hold.min(2 * LONG)) / 4;
        self.hold.store(usual, Ordering::Relaxed);
    }

    /// Whether a successor may doze now.
    pub fn allow_dozing(&self) -> bool {
        self.reservations.load(Ordering::Relaxed) >= RESERVATIONS
    }

    fn count_reservation(&self) {
        let before = self.reservations.load(Ordering::Relaxed);
        self.reservations.store(before + 1, Ordering::Relaxed);
    }

    fn forget_reservations(&self) {
        self.reservations.store(0, Ordering::Relaxed);
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
    /// Sleep until this time, a little before the lock may be reserved. Meanwhile threads leave and come back.
    Doze(u64),
}

/// What one waiter has seen since it became the successor.
pub struct Succession {
    since: u64,
    turn: u64,
    turn_since: u64,
    looks: u32,
    /// It has probably taken its processor from the thread inside. (Without this, more time is lost where threads on two processors
    /// make a few calls at a time.)
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
    pub fn next_move(&mut self, state: State, now: u64, habits: &Habits) -> Move {
        let turns = state.turns_since(self.turn);
        let is_long = habits.are_long();
        let watched = now.saturating_sub(self.turn_since);
        if let Some(mean) = watched.checked_div(turns) {
            habits.learn(mean);
            self.turn = state.turn();
            self.turn_since = now;
            self.looks = 0;
            self.shares_processor = false;
        }
        let bypass_end = self.since + BYPASS + 4 * habits.hold();
        let is_bypassed = now >= bypass_end;
        if state.is_free() {
            self.looks += 1;
            let takes = is_long || is_bypassed || state.has(RESERVED) || self.looks >= LOOKS;
            if takes && turns == 0 && watched > 0 {
                habits.learn(watched);
            }
            if self.looks >= LOOKS {
                habits.forget_reservations();
            }
            return if takes { Move::Take } else { Move::Spin };
        }
        // Only just after another thread has entered: both are probably running then, and the successor is awake when that call
        // ends.
        if is_bypassed && turns > 0 && !state.has(RESERVED) {
            habits.count_reservation();
            return Move::Reserve;
        }
        // The holder probably waits for this processor; or it stays inside for longer than usual, and has lost another one. (Without
        // the second, calls take longer beside other programs.)
        let patience = (4 * habits.hold()).min(LONG);
        let sleeps =
            is_long || self.shares_processor || now.saturating_sub(self.turn_since) > patience;
        let nap_end = (self.turn_since + habits.hold()).saturating_sub(AWAKE);
        let doze_end = bypass_end.saturating_sub(AWAKE);
        if sleeps {
            Move::Sleep
        } else if habits.allow_dozing() && doze_end > now {
            Move::Doze(doze_end)
        } else if nap_end > now {
            Move::Nap(nap_end)
        } else {
            Move::Spin
        }
    }
}
