//! Reads and judges the kernel's trace that `tests/vm/guest` writes.

use std::collections::{BTreeMap, BTreeSet};

/// Counts from a raw trace of the probes: an entry and a return of each function.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct KernelWitness {
    pub registrations: usize,
    /// Those of them that pin nothing yet.
    pub on_demand: usize,
    pub deregistrations: usize,
    /// The most threads in a registration at one moment.
    pub registrations_at_once: usize,
    /// The most threads in a registration or a deregistration at one moment.
    pub overlap: usize,
    /// Frees of GPU memory.
    pub frees: usize,
    /// How often one of the two began while the other was under way: a free of GPU memory, and a registration or
    /// deregistration.
    pub meetings: usize,
    /// The names of threads that were inside beside a thread of another name.
    pub mixed_names: BTreeSet<String>,
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
            if let Some(what) = name.strip_prefix("enter_") {
                if inside.insert(thread, (task, what)).is_some() {
                    return Err(format!("thread {thread} enters twice: {line}"));
                }
                match what {
                    "get" => witness.registrations += 1,
                    "odp_get" => {
                        witness.registrations += 1;
                        witness.on_demand += 1;
                    }
                    "release" => witness.deregistrations += 1,
                    "free" => witness.frees += 1,
                    _ => return Err(format!("not an event of ours: {line}")),
                }
                for (other, _) in inside.values().filter(|(other, _)| *other != task) {
                    witness.mixed_names.extend([task.into(), (*other).into()]);
                }
                let [registering, deregistering, freeing] =
                    [&["get", "odp_get"][..], &["release"], &["free"]].map(|kinds| {
                        inside
                            .values()
                            .filter(|(_, what)| kinds.contains(what))
                            .count()
                    });
                let pinning = registering + deregistering;
                witness.overlap = witness.overlap.max(pinning);
                witness.registrations_at_once = witness.registrations_at_once.max(registering);
                witness.meetings += usize::from(if what == "free" { pinning } else { freeing } > 0);
            } else if let Some(what) = name.strip_prefix("leave_") {
                if inside.remove(&thread).map(|(_, entered)| entered) != Some(what) {
                    return Err(format!("thread {thread} was not inside: {line}"));
                }
            } else {
                return Err(format!("not an event of ours: {line}"));
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

/// Two comments show lost events: the buffer's own count, and the profile of the probes.
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
