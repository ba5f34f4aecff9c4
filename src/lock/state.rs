//! The lock's word: everything that has to change in one step.

use super::thread_id::ID_BITS;

/// From low to high: the holder's thread id, the successor's thread id (0 for none, both), the turn, and the flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State(pub u64);

const TURN_BITS: u32 = 16;

const ANY_ID: u64 = (1 << ID_BITS) - 1;
const ANY_TURN: u64 = (1 << TURN_BITS) - 1;
const SUCCESSOR: u32 = ID_BITS;
const TURN: u32 = 2 * ID_BITS;

/// Only the successor may take the lock.
pub const RESERVED: u64 = 1 << 60;
/// The successor may be asleep.
pub const ASLEEP: u64 = 1 << 61;
/// Threads may be asleep in the wait queue.
pub const QUEUED: u64 = 1 << 62;
/// A thread of the wait queue has been woken, and has not changed the word yet.
pub const WAKING: u64 = 1 << 63;

impl State {
    /// The thread inside.
    pub fn holder(self) -> u64 {
        self.0 & ANY_ID
    }

    /// The waiter that is the next to enter.
    pub fn successor(self) -> u64 {
        self.0 >> SUCCESSOR & ANY_ID
    }

    /// How many times the lock was taken, modulo 65536.
    pub fn turn(self) -> u64 {
        self.0 >> TURN & ANY_TURN
    }

    /// How many times it was taken since that turn.
    pub fn turns_since(self, turn: u64) -> u64 {
        self.turn().wrapping_sub(turn) & ANY_TURN
    }

    /// Whether at least one of these flags is set.
    pub fn has(self, flags: u64) -> bool {
        self.0 & flags != 0
    }

    /// Whether no thread is inside.
    pub fn is_free(self) -> bool {
        self.holder() == 0
    }

    /// Whether any running thread may take the lock.
    pub fn is_open(self) -> bool {
        self.is_free() && !self.has(RESERVED)
    }

    /// Whether a thread of the wait queue should be woken to become the successor, and none is being woken.
    pub fn lacks_successor(self) -> bool {
        self.has(QUEUED) && !self.has(WAKING) && self.successor() == 0
    }

    /// Whether there is a successor, and it is awake.
    pub fn has_awake_successor(self) -> bool {
        self.successor() != 0 && !self.has(ASLEEP)
    }

    /// The holder and the turn.
    pub fn possession(self) -> u64 {
        self.0 & (ANY_ID | ANY_TURN << TURN)
    }

    /// Whether no thread is inside or waiting, and no flag is set.
    pub fn is_idle(self) -> bool {
        self.0 & !(ANY_TURN << TURN) == 0
    }

    /// These flags set.
    pub fn with(self, flags: u64) -> Self {
        Self(self.0 | flags)
    }

    /// These flags cleared.
    pub fn without(self, flags: u64) -> Self {
        Self(self.0 & !flags)
    }

    /// `thread` is inside. If it was the successor, there is none any more.
    pub fn taken_by(self, thread: u64) -> Self {
        let succeeds = self.successor() == thread;
        let waiting = if succeeds { self.succeeded_by(0) } else { self };
        Self(waiting.next_turn().0 | thread)
    }

    /// No thread is inside.
    pub fn released(self) -> Self {
        Self(self.0 & !ANY_ID)
    }

    /// `thread` is the successor, awake, and has no reservation.
    pub fn succeeded_by(self, thread: u64) -> Self {
        let without = self.0 & !(ANY_ID << SUCCESSOR) & !(RESERVED | ASLEEP);
        Self(without | thread << SUCCESSOR)
    }

    /// If `wakes`, a thread of the wait queue is being woken. That thread sets `QUEUED` again: others may still be asleep.
    pub fn waking_if(self, wakes: bool) -> Self {
        let waking = self.without(QUEUED).with(WAKING);
        if wakes { waking } else { self }
    }

    /// No thread is inside or waiting. A thread that has read an earlier state can no longer change the word.
    pub fn reset(self) -> Self {
        Self(self.next_turn().0 & ANY_TURN << TURN)
    }

    fn next_turn(self) -> Self {
        let turn = (self.turn() + 1) & ANY_TURN;
        Self(self.0 & !(ANY_TURN << TURN) | turn << TURN)
    }

    /// What holds for every change of the word, except after a fork.
    #[cfg(any(test, loom))]
    pub fn check_step_from(self, old: Self) {
        let (before, after) = (old.holder(), self.holder());
        assert!(before == 0 || after == 0 || before == after, "invariant 1");
        if before == 0 && after != 0 {
            assert_eq!(self.turns_since(old.turn()), 1, "invariant 2");
        } else {
            assert_eq!(self.turn(), old.turn(), "invariant 2");
        }
        let has_successor = self.successor() != 0;
        assert!(has_successor || !self.has(RESERVED | ASLEEP));
        assert!(!has_successor || self.successor() != after);
    }
}
