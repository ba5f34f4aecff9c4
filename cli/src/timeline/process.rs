//! What is drawn: the times in which the threads of a process waited or were inside.

use super::units;
use std::collections::BTreeMap;

/// A process that made calls.
#[derive(Default)]
pub struct Process {
    /// Its id, in its own pid namespace.
    pub id: u64,
    /// The inode of that pid namespace; 0 if it is not known.
    pub namespace: u64,
    /// The name of its host, or container.
    pub host: String,
    /// Its name.
    pub name: String,
    /// The settings as the log shows them.
    pub settings: String,
    /// What each thread did, by thread id, in the order of time.
    pub threads: BTreeMap<u32, Vec<Slice>>,
    /// The names of threads, if they are known.
    pub names: BTreeMap<u32, String>,
    /// How many earlier calls were written over by later ones.
    pub overwritten: u64,
    /// How many calls could not be read.
    pub unread: u64,
}

/// A time in which a thread waited, or was inside.
pub struct Slice {
    /// In nanoseconds since 1970.
    pub start: u64,
    /// The same. Of a call that is under way: now, or the last sign of life of its process.
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
    /// Where the memory begins, and how many bytes it has, if known.
    pub memory: Option<(u64, u64)>,
    /// Whether it failed.
    pub failed: bool,
    /// Whether it is one of the calls that are to be inside alone: not one that was let through, a free, or a section.
    pub counts: bool,
}

impl Slice {
    /// Whether it is a call that counts for the number inside.
    pub fn counts(&self) -> bool {
        matches!(&self.what, What::Inside(call) if call.counts)
    }

    fn is_inside(&self) -> bool {
        matches!(self.what, What::Inside(_))
    }
}

impl Process {
    /// What all threads did.
    pub fn slices(&self) -> impl Iterator<Item = &Slice> {
        self.threads.values().flatten()
    }

    /// The calls that were inside.
    pub fn calls(&self) -> impl Iterator<Item = (&Slice, &Call)> {
        self.slices().filter_map(|slice| match &slice.what {
            What::Inside(call) => Some((slice, call)),
            What::Waiting(_) => None,
        })
    }

    /// When the first call began, and when the last one ended.
    pub fn time(&self) -> (u64, u64) {
        let start = self.slices().map(|slice| slice.start).min();
        let end = self.slices().map(|slice| slice.end).max();
        (start.unwrap_or(0), end.unwrap_or(0))
    }

    /// Its name, its id, and where it ran.
    pub fn title(&self) -> String {
        let Self { name, id, host, .. } = self;
        match host.as_str() {
            // A kernel whose host was given no name says "(none)".
            "" | "(none)" => format!("{name} ({id})"),
            host => format!("{name} ({id}) on {host}"),
        }
    }

    /// What is not in the picture.
    pub fn notes(&self) -> Vec<String> {
        let under_way = |is_inside: bool| {
            let slices = self.slices();
            slices
                .filter(|slice| slice.is_under_way && slice.is_inside() == is_inside)
                .count()
        };
        let calls = match under_way(true) {
            0 => None,
            1 => Some("1 call is under way".into()),
            calls => Some(format!("{calls} calls are under way")),
        };
        let waits = match (under_way(false), calls.is_some()) {
            (0, _) => None,
            (1, true) => Some("1 waits".into()),
            (waiting, true) => Some(format!("{waiting} wait")),
            (1, false) => Some("1 call waits".into()),
            (waiting, false) => Some(format!("{waiting} calls wait")),
        };
        let parts: Vec<String> = calls.into_iter().chain(waits).collect();
        let mut notes = Vec::new();
        if !parts.is_empty() {
            notes.push(format!("the trace ends while {}", parts.join(" and ")));
        }
        for (calls, what) in [
            (self.overwritten, "overwritten"),
            (self.unread, "not readable"),
        ] {
            match calls {
                0 => {}
                1 => notes.push(format!("1 call was {what}")),
                calls => notes.push(format!("{} calls were {what}", units::count(calls))),
            }
        }
        notes
    }
}
