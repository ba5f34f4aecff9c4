//! The record of a process (src/record/layout.rs), as plain data. It is read from a file, or from a living process's memory.

#![allow(dead_code, reason = "the commands use their parts")]

mod damage;
#[path = "../../../src/record/layout.rs"]
#[allow(dead_code, reason = "the library writes more than is read here")]
pub mod layout;
mod read;
#[cfg(any(test, fuzzing))]
pub mod sample;
mod section;
mod source;
#[cfg(test)]
mod tests;

pub use damage::Damage;
pub use source::{Memory, Source, open};

use serde::Serialize;
use std::{fs::File, path::Path, rc::Rc};

/// A record.
#[derive(Debug, PartialEq, Serialize)]
pub struct Record {
    /// How far the process is.
    pub state: State,
    /// Not 0: the record is not here, but at this address, where the process has mapped a file.
    #[serde(skip)]
    pub moved: u64,
    /// The process id, in its own pid namespace; 0 before the rest is there.
    pub process: u64,
    /// The inode of that pid namespace; 0 if it is not known.
    pub namespace: u64,
    /// When the record began, in nanoseconds since 1970.
    pub realtime: u64,
    /// The same moment, on CLOCK_MONOTONIC.
    pub monotonic: u64,
    /// The version of the library.
    pub library: String,
    /// The name of the program.
    pub program: String,
    /// The name of the host, or of the container.
    pub host: String,
    /// The settings as the log shows them.
    pub settings: String,
    /// The hooks that a call by name reaches.
    pub hooks: Vec<&'static str>,
    /// Counters of the whole process.
    pub totals: Totals,
    /// The operations, in the order of the report.
    pub operations: Vec<Operation>,
    /// The devices that were counted.
    pub devices: Vec<Device>,
    /// The threads that have a place in the record, also those that are in no call now.
    pub threads: Vec<Thread>,
    /// The last events, in order.
    pub events: Vec<Event>,
    /// How many events have room in the file; 0 if there is no file.
    pub capacity: u64,
    /// How many events were written in all.
    pub events_written: u64,
    /// How many threads or events could not be read, because they were being written, or do not make sense.
    pub unread: u64,
}

/// How far the process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The library was loaded; counters and times are not there yet.
    Loaded,
    /// The rest is there.
    Running,
    /// It has ended normally.
    Ended,
}

/// Counters of the whole process: `layout::Totals`.
#[derive(Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "see layout::Totals")]
pub struct Totals {
    pub most_at_once: u64,
    pub let_through: u64,
    pub frees_met: u64,
    pub unlisted: u64,
    pub lost_lines: u64,
}

/// What was counted for an operation. Times are in nanoseconds.
#[derive(Debug, PartialEq, Serialize)]
pub struct Operation {
    /// Its name in the report.
    pub name: String,
    /// What it does.
    pub kind: Kind,
    /// Whether such calls are serialized under the settings.
    pub is_serialized: bool,
    /// Calls.
    pub calls: u64,
    /// Those that failed.
    pub failures: u64,
    /// Those that waited.
    pub waits: u64,
    /// The sum of these waits.
    pub wait_ns: u64,
    /// The longest.
    pub longest_wait_ns: u64,
    /// How long the lock was held in total.
    pub inside_ns: u64,
    /// The longest time that it was held.
    pub longest_inside_ns: u64,
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It pins pages.
    Registration,
    /// It unpins pages.
    Deregistration,
    /// It frees GPU memory.
    Free,
    /// The program's own code between `mrlock_lock` and `mrlock_unlock`.
    Section,
    /// This command does not know it.
    Other,
}

/// A device that was counted.
#[derive(Debug, PartialEq, Serialize)]
pub struct Device {
    /// Its name.
    pub name: Rc<str>,
    /// The calls of it.
    pub calls: u64,
}

/// A thread, and the call that it is in.
#[derive(Debug, PartialEq, Serialize)]
pub struct Thread {
    /// Its id.
    pub id: u32,
    /// A moment at which it was alive, in hundredths of a second since boot.
    #[serde(skip)]
    pub alive_at: u64,
    /// Its name when it made its first call.
    pub name: String,
    /// The call that it is in.
    pub call: Option<Call>,
}

/// A call that is under way.
#[derive(Debug, PartialEq, Serialize)]
pub struct Call {
    /// How far it is.
    pub step: Step,
    /// Since when, on CLOCK_MONOTONIC.
    pub since: u64,
    /// For how long it waited before it was inside; 0 if it did not wait.
    pub waited: u64,
    /// The index in `Record::operations`.
    pub operation: usize,
    /// The device, if it is known.
    pub device: Option<Rc<str>>,
    /// Where the memory begins, and how many bytes it has, if the call says so.
    pub memory: Option<(u64, u64)>,
    /// The memory may be the GPU's, or this is a free of GPU memory.
    pub is_on_device: bool,
}

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// It is inside, and has the lock (or is observed).
    Inside,
    /// It waits for a lock.
    Waiting,
    /// It is inside without a lock: its memory is the host's.
    LetThrough,
}

/// A call that has ended.
#[derive(Debug, PartialEq, Serialize)]
pub struct Event {
    /// Its number: 0 is the first of the process.
    pub number: u64,
    /// The thread's id.
    pub thread: u32,
    /// The thread's name.
    pub name: String,
    /// When it was inside, on CLOCK_MONOTONIC.
    pub since: u64,
    /// For how long.
    pub duration: u64,
    /// For how long it waited before; 0 if it did not wait.
    pub waited: u64,
    /// The index in `Record::operations`.
    pub operation: usize,
    /// The device, if it is known.
    pub device: Option<Rc<str>>,
    /// Where the memory begins, and how many bytes it has, if the call says so.
    pub memory: Option<(u64, u64)>,
    /// The call failed.
    pub has_failed: bool,
    /// It was let through.
    pub was_let_through: bool,
}

impl Record {
    /// The record in a file. The file may belong to a living process, which writes meanwhile.
    pub fn in_file(path: &Path) -> Result<Self, Damage> {
        Self::of(&source::open(path)?)
    }

    /// The record in an open file.
    pub fn of(file: &File) -> Result<Self, Damage> {
        read::record(file, &|_| None)
    }

    /// The record that these bytes are, as in a file.
    pub fn in_bytes(bytes: &[u8]) -> Result<Self, Damage> {
        read::record(bytes, &|_| None)
    }

    /// The record that lies in a process's memory. `device` names a device of `layout::Thread::device`.
    pub fn in_memory(
        memory: &Memory,
        device: &dyn Fn(u64) -> Option<String>,
    ) -> Result<Self, Damage> {
        read::record(memory, device)
    }

    /// How many events were written over by later ones.
    pub fn overwritten(&self) -> u64 {
        self.events_written.saturating_sub(self.capacity)
    }

    /// The largest number of threads that were inside or waiting at once; while calls are observed, of threads inside.
    pub fn most_at_once(&self) -> u64 {
        let counted = self.totals.most_at_once;
        if mode(&self.settings) == Some("observe") {
            return counted;
        }
        // Threads are counted when they are inside: those that wait now are not yet. (Frees have a lock of their own. A thread that
        // ended inside may still be shown beside the one that is inside.)
        let calls = self.threads.iter().filter_map(|it| it.call.as_ref());
        let calls = calls.filter(|call| {
            let kind = self.operations.get(call.operation).map(|it| it.kind);
            kind != Some(Kind::Free)
        });
        let of = |step| calls.clone().filter(|call| call.step == step).count() as u64;
        counted.max(of(Step::Inside).min(1) + of(Step::Waiting))
    }

    /// When something was last written of a call, on CLOCK_MONOTONIC; `None` if there is no call.
    pub fn last_written(&self) -> Option<u64> {
        let ends = self.events.iter();
        let ends = ends.map(|event| event.since.saturating_add(event.duration));
        let calls = self.threads.iter().filter_map(|it| it.call.as_ref());
        ends.chain(calls.map(|call| call.since)).max()
    }

    /// Whether both are records of the same process.
    pub fn is_same_process(&self, other: &Self) -> bool {
        let identity = |it: &Self| (it.process, it.namespace, it.realtime, it.host.clone());
        identity(self) == identity(other)
    }

    /// A moment of CLOCK_MONOTONIC, in nanoseconds since 1970.
    pub fn date(&self, monotonic: u64) -> u64 {
        let later = monotonic.saturating_sub(self.monotonic);
        let earlier = self.monotonic.saturating_sub(monotonic);
        self.realtime.saturating_add(later).saturating_sub(earlier)
    }

    /// How many events were written over by later ones, or could not be read.
    pub fn events_lost(&self) -> u64 {
        self.events_written.saturating_sub(self.events.len() as u64)
    }
}

/// The value of `MRLOCK` in `Record::settings`.
pub fn mode(settings: &str) -> Option<&str> {
    let mut settings = settings.split(' ');
    settings.find_map(|setting| setting.strip_prefix("MRLOCK="))
}
