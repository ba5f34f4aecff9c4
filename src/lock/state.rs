//! Who is inside and who waits, in one word, so that one compare-exchange is all it takes to enter or to leave.

/// From low to high: the thread inside (its kernel id; 0 for nobody), how many threads are inside or waiting, and the ticket
/// that is being served. Waiters hold the tickets behind it, without a gap.
///
/// All zero: nobody is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State(pub u64);

/// The right to be served, in order. Never zero; comes again after 67 million others, so it says something only as long as it
/// is in the queue.
pub type Ticket = u64;

/// Enough for any thread id: PID_MAX_LIMIT of the kernel.
pub const ID_BITS: u32 = 22;
const COUNT_BITS: u32 = 16;
const TICKET_BITS: u32 = u64::BITS - COUNT_BITS - ID_BITS;

const ONE: u64 = 1 << ID_BITS;
const NEXT_TICKET: u64 = ONE << COUNT_BITS;
const ANY_THREAD: u64 = ONE - 1;
const ANY_COUNT: u64 = (1 << COUNT_BITS) - 1;
const ANY_TICKET: u64 = (1 << TICKET_BITS) - 1;

impl State {
    /// The kernel's id of the thread inside; 0 for nobody.
    pub fn holder(self) -> u64 {
        self.0 & ANY_THREAD
    }

    /// How many threads are inside or waiting.
    pub fn count(self) -> u64 {
        self.0 >> ID_BITS & ANY_COUNT
    }

    /// The ticket whose thread is inside, or is to enter.
    pub fn serving(self) -> Ticket {
        self.ticket(0)
    }

    /// The ticket that is served after `behind` others.
    pub fn ticket(self, behind: u64) -> Ticket {
        ((self.0 >> (ID_BITS + COUNT_BITS)) + behind) & ANY_TICKET | (ANY_TICKET + 1)
    }

    /// How many are served before `ticket`; `None` if it is not in the queue (any more).
    pub fn ahead_of(self, ticket: Ticket) -> Option<u64> {
        let ahead = ticket.wrapping_sub(self.serving()) & ANY_TICKET;
        (ahead < self.count()).then_some(ahead)
    }

    /// Whether the same ticket is served in both, and to the same thread.
    pub fn is_same_turn(self, other: Self) -> bool {
        (self.serving(), self.holder()) == (other.serving(), other.holder())
    }

    /// Whether one more would not fit.
    pub fn is_full(self) -> bool {
        self.count() == ANY_COUNT
    }

    /// One more thread, with the ticket `self.ticket(self.count())`.
    pub fn joined(self) -> Self {
        Self(self.0 + ONE)
    }

    /// `thread` is inside, where nobody was.
    pub fn taken_by(self, thread: u64) -> Self {
        Self(self.0 | thread)
    }

    /// The next ticket is served, and nobody is inside.
    pub fn passed_on(self) -> Self {
        Self((self.0 - self.holder() - ONE).wrapping_add(NEXT_TICKET))
    }

    /// Nobody is inside or waiting, and no ticket that may have been drawn is served any more.
    pub fn emptied(self) -> Self {
        let after_all = self.ticket(self.count() + 1) & ANY_TICKET;
        Self(after_all << (ID_BITS + COUNT_BITS))
    }
}
