//! What was seen of a process: plain data, also for JSON.

use crate::record::{Device, Operation, Step, mode};
use serde::Serialize;
use std::rc::Rc;

/// A process.
#[derive(Serialize)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// How many generations it is below the process that the user named.
    #[serde(skip)]
    pub depth: usize,
    /// The name that the kernel has for it.
    pub program: String,
    /// What is known about the library in it.
    #[serde(flatten)]
    pub coverage: Coverage,
}

/// What is known about the library in a process.
#[derive(Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Coverage {
    /// It is mapped.
    Covered(Box<Covered>),
    /// It is mapped, but its record could not be read.
    Unreadable {
        /// The reason.
        reason: String,
    },
    /// It is not mapped.
    NotCovered {
        /// The reason.
        reason: String,
    },
    /// Nothing is known.
    Unknown {
        /// The reason.
        reason: String,
    },
}

/// What the library's record says.
#[derive(Serialize)]
pub struct Covered {
    /// Its file.
    pub file: String,
    /// The files of other copies in the same process.
    pub other_copies: Vec<String>,
    /// Its version.
    pub version: String,
    /// Its settings: variables and values.
    pub settings: String,
    /// The hooks that a call by name reaches.
    pub hooks: Vec<&'static str>,
    /// The largest number of threads that were inside or waiting at once; while calls are observed, of threads inside.
    pub most_at_once: u64,
    /// Calls that were let through.
    pub let_through: u64,
    /// Calls that ended in each second since the look before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls_per_second: Option<f64>,
    /// The counters.
    pub operations: Vec<Operation>,
    /// The devices that were counted.
    pub devices: Vec<Device>,
    /// The calls under way: those inside, then those that wait, in order of waiting, then those that were let through.
    pub under_way: Vec<UnderWay>,
    /// How many threads had no room in the record, or were just changing it.
    pub threads_not_shown: u64,
    /// When this was seen, on CLOCK_MONOTONIC.
    #[serde(skip)]
    pub now: u64,
}

/// A call that is under way.
#[derive(Serialize)]
pub struct UnderWay {
    /// The thread's id, as this command's /proc has it.
    pub thread: u32,
    /// The thread's name.
    pub name: String,
    /// How far the call is.
    pub step: Step,
    /// The operation.
    pub operation: String,
    /// Whether it frees GPU memory.
    #[serde(skip)]
    pub is_free: bool,
    /// The device, if it is known.
    pub device: Option<Rc<str>>,
    /// Where the memory begins, if the call says so.
    pub address: Option<u64>,
    /// How many bytes it has.
    pub length: Option<u64>,
    /// Whether the memory may be the GPU's.
    pub is_on_device: bool,
    /// For how long it has been inside, or waited.
    pub for_ns: u64,
    /// For how long it waited before it was inside.
    pub waited_ns: u64,
    /// Which thread's call it waits for.
    pub waits_for: Option<u32>,
    /// The thread has ended, inside.
    pub has_ended: bool,
}

impl Covered {
    /// The value of `MRLOCK`.
    pub fn mode(&self) -> &str {
        mode(&self.settings).unwrap_or("?")
    }

    /// All calls.
    pub fn calls(&self) -> u64 {
        self.sum(|operation| operation.calls)
    }

    /// The sum of a counter.
    pub fn sum(&self, of: fn(&Operation) -> u64) -> u64 {
        self.operations.iter().map(of).fold(0, u64::saturating_add)
    }

    /// The longest wait that has ended.
    pub fn longest_wait_ns(&self) -> u64 {
        let waits = self.operations.iter().map(|it| it.longest_wait_ns);
        waits.max().unwrap_or(0)
    }
}
