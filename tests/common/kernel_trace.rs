//! Reads and judges the kernel's trace that `tests/vm/guest` writes.

use std::collections::{BTreeMap, BTreeSet};

/// Counts from a raw trace of the four probes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct KernelWitness {
    pub registrations: usize,
    pub deregistrations: usize,
    /// The most threads in a registration at one moment.
    pub registrations_at_once: usize,
    /// The most threads in a registration or a deregistration at one moment.
    pub overlap: usize,
    /// The names of threads that were inside beside a thread of another name.
    pub strangers: BTreeSet<String>,
}

impl KernelWitness {
    /// Refuses a trace with a gap in it: one lost event can hide an overlap.
    pub fn of(trace: &str) -> Result<Self, String> {
        let mut witness = Self::default();
        let mut inside = BTreeMap::new();
        for line in trace.lines().filter(|line| !line.trim().is_empty()) {
            if let Some(comment) = line.strip_prefix('#') {
                is_without_loss(comment)?;
                continue;
            }
            let Event { task, thread, name } =
                event(line).ok_or_else(|| format!("not an event of ours: {line}"))?;
            match name {
                "enter_get" | "enter_release" => {
                    if inside.insert(thread, (task, name == "enter_get")).is_some() {
                        return Err(format!("thread {thread} enters twice: {line}"));
                    }
                    if name == "enter_get" {
                        witness.registrations += 1;
                    } else {
                        witness.deregistrations += 1;
                    }
                    for (other, _) in inside.values().filter(|(other, _)| *other != task) {
                        witness.strangers.extend([task.into(), (*other).into()]);
                    }
                    let registering = inside.values().filter(|(_, is_get)| *is_get).count();
                    witness.overlap = witness.overlap.max(inside.len());
                    witness.registrations_at_once = witness.registrations_at_once.max(registering);
                }
                "leave_get" | "leave_release" => {
                    if inside.remove(&thread).map(|(_, is_get)| is_get) != Some(name == "leave_get")
                    {
                        return Err(format!("thread {thread} was not inside: {line}"));
                    }
                }
                _ => return Err(format!("not an event of ours: {line}")),
            }
        }
        if inside.is_empty() {
            Ok(witness)
        } else {
            Err(format!("never left: threads {:?}", inside.keys()))
        }
    }
}

/// One line of a trace.
pub struct Event<'a> {
    /// The name of its thread.
    pub task: &'a str,
    pub thread: u32,
    pub name: &'a str,
}

/// The event in "TASK-THREAD [CPU] FLAGS TIME: NAME: (PLACE)...". TASK may hold anything.
pub fn event(line: &str) -> Option<Event<'_>> {
    let (head, _place) = line.rsplit_once(": (")?;
    let (head, name) = head.rsplit_once(' ')?;
    let (task, thread) = head.rsplit_once('[')?.0.trim().rsplit_once('-')?;
    Some(Event {
        task,
        thread: thread.parse().ok()?,
        name,
    })
}

/// Two comments tell of lost events: the buffer's own count, and the profile of the probes.
pub fn is_without_loss(comment: &str) -> Result<(), String> {
    if let Some((_, counts)) = comment.split_once("entries-in-buffer/entries-written: ") {
        // "96/96   #P:4"
        let (held, rest) = counts.split_once('/').unwrap_or_default();
        if rest.split_whitespace().next() != Some(held) {
            return Err(format!("the buffer was too small: {counts}"));
        }
    }
    if let Some((_, profile)) = comment.split_once("profile: ")
        && !profile.ends_with(" 0")
    {
        return Err(format!(
            "a probe was missed (name, hits, misses): {profile}"
        ));
    }
    Ok(())
}
