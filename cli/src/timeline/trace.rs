//! What is drawn: the times in which the threads of some processes waited or were inside.

use std::collections::BTreeMap;

/// The calls in a trace, by process.
#[derive(Default)]
pub struct Trace {
    /// By process id. (Of two processes with the same id, in two containers, the second has a number above all ids.)
    pub processes: BTreeMap<i64, Process>,
    /// How many lines of a Chrome trace are no events. A last line that was cut short is not counted.
    pub damaged: usize,
}

/// One process.
#[derive(Default)]
pub struct Process {
    /// Its name.
    pub name: Option<String>,
    /// The value of MRLOCK: "on" or "observe".
    pub mode: Option<String>,
    /// By thread id.
    pub threads: BTreeMap<i64, Vec<Slice>>,
    /// The names of threads, if they are known.
    pub names: BTreeMap<i64, String>,
    /// How many earlier calls were written over by later ones.
    pub overwritten: u64,
}

/// A time in which a thread waited, or was inside.
pub struct Slice {
    /// Nanoseconds.
    pub start: u64,
    /// Nanoseconds. Of a call that is under way: when the record was last written.
    pub end: u64,
    /// The call was under way when the record ended.
    pub is_under_way: bool,
    /// What the thread did.
    pub what: What,
}

/// What a thread did.
pub enum What {
    /// It waited until it could make this call.
    Waiting(String),
    /// It was inside this call.
    Inside(Call),
}

/// A call.
pub struct Call {
    /// Its name.
    pub name: String,
    /// The device, if known.
    pub device: Option<String>,
    /// Where the memory is, if known.
    pub address: Option<String>,
    /// The length of the memory, if known.
    pub length: Option<u64>,
    /// Whether it failed.
    pub failed: bool,
    /// Whether it is one of the calls that are to be inside alone: not one that was let through, a free, or a section.
    pub counts: bool,
}

impl Trace {
    /// Adds a process with this id.
    pub fn add_process(&mut self, id: i64, process: Process) {
        let mut key = id;
        while self.processes.contains_key(&key) {
            key += ID_STEP;
        }
        self.processes.insert(key, process);
    }

    /// Removes what has no calls, and puts the rest into its order.
    pub fn arrange(&mut self) {
        for process in self.processes.values_mut() {
            for slices in process.threads.values_mut() {
                slices.sort_by_key(|slice| slice.start);
            }
        }
        self.processes
            .retain(|_, process| !process.threads.is_empty());
    }
}

/// Above all process ids.
const ID_STEP: i64 = 1 << 32;

/// The id of a process, from its key in `Trace::processes`.
pub fn id(key: i64) -> i64 {
    key % ID_STEP
}

impl Slice {
    /// Whether it is a call that counts for the number inside.
    pub fn counts(&self) -> bool {
        matches!(&self.what, What::Inside(call) if call.counts)
    }
}

impl Process {
    /// How many calls were under way when the record ended.
    pub fn under_way(&self) -> usize {
        let slices = self.threads.values().flatten();
        slices
            .filter(|slice| slice.is_under_way && matches!(slice.what, What::Inside(_)))
            .count()
    }
}
