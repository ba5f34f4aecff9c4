//! One look: the processes, whether each has the library, and what the library does there.

use super::{
    absent, denied,
    host::{self, Directory, Stat},
    library::{self, Unread},
    maps,
    seen::{Coverage, Covered, Process},
    under_way,
};
use crate::failure::Failure;
use rustix::time::{ClockId, clock_gettime};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, ErrorKind},
};

/// What was seen.
#[derive(Default)]
pub struct Look {
    /// Parents come before their children.
    pub processes: Vec<Process>,
    /// With --all: those that could not be looked at.
    pub unknown: Vec<Process>,
}

/// Looks at a process and its descendants. Without `pid`: at all processes with the library, and their descendants. `pid` may
/// also be a thread's id.
pub fn look(pid: Option<i32>) -> Result<Look, Failure> {
    let ids = host::processes().map_err(|error| Failure::new(format!("/proc: {error}")))?;
    let stats = ids.filter_map(|pid| Directory::open(pid).ok()?.stat("stat"));
    let stats: BTreeMap<i32, Stat> = stats
        .filter(|stat| !stat.has_ended)
        .map(|stat| (stat.pid, stat))
        .collect();
    let mut look = Look::default();
    let roots = match pid {
        Some(pid) => {
            let root = Some(pid).filter(|pid| stats.contains_key(pid));
            let root = root.or_else(|| host::process_of(pid).filter(|pid| stats.contains_key(pid)));
            vec![root.ok_or_else(|| gone(pid))?]
        }
        None => with_library(&stats, &mut look.unknown),
    };
    look.processes = with_descendants(&roots, &stats);
    match (pid, look.processes.first()) {
        // It has ended meanwhile.
        (Some(pid), first) if first.is_none_or(|first| first.depth > 0) => Err(gone(pid)),
        _ => Ok(look),
    }
}

fn gone(pid: i32) -> Failure {
    Failure::new(format!("{pid}: no process has this id"))
}

/// The processes that have the library. Those that cannot be looked at are added to `unknown`.
fn with_library(stats: &BTreeMap<i32, Stat>, unknown: &mut Vec<Process>) -> Vec<i32> {
    let mut found = Vec::new();
    for stat in stats.values().filter(|stat| !stat.is_kernel) {
        let mappings = Directory::open(stat.pid).and_then(|process| maps::read(&process));
        match mappings {
            Ok(mappings) if !library::copies(&mappings).is_empty() => found.push(stat.pid),
            Ok(_) => {}
            Err(_) => unknown.extend(
                process(stat, 0).filter(|seen| matches!(seen.coverage, Coverage::Unknown { .. })),
            ),
        }
    }
    found
}

fn with_descendants(roots: &[i32], stats: &BTreeMap<i32, Stat>) -> Vec<Process> {
    let mut children: BTreeMap<i32, Vec<&Stat>> = BTreeMap::new();
    for stat in stats.values() {
        children.entry(stat.parent).or_default().push(stat);
    }
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for root in roots.iter().filter_map(|root| stats.get(root)) {
        let mut stack = vec![(root, 0)];
        while let Some((stat, depth)) = stack.pop() {
            // With --all, a process may also be a descendant of another one.
            if !seen.insert(stat.pid) {
                continue;
            }
            let of = children.get(&stat.pid).into_iter().flatten().rev();
            stack.extend(of.map(|&child| (child, depth + 1)));
            found.extend(process(stat, depth));
        }
    }
    found
}

/// `None` if it has ended meanwhile.
fn process(stat: &Stat, depth: usize) -> Option<Process> {
    let directory = Directory::open(stat.pid).ok()?;
    let coverage = coverage(&directory).unwrap_or_else(|error| Coverage::Unknown {
        reason: denied::why(stat.pid, &error),
    });
    directory.is_alive().then(|| Process {
        pid: stat.pid,
        parent: stat.parent,
        depth,
        program: stat.program.clone(),
        coverage,
    })
}

/// An error if the process cannot be looked at.
fn coverage(process: &Directory) -> io::Result<Coverage> {
    let copies = library::copies(&maps::read(process)?);
    if copies.is_empty() {
        return Ok(Coverage::NotCovered {
            reason: absent::reason(process)?,
        });
    }
    let unreadable = |error: &io::Error| Coverage::Unreadable {
        reason: match error.kind() {
            ErrorKind::PermissionDenied => denied::why(process.pid, error),
            _ => format!("its memory cannot be read ({error})"),
        },
    };
    let memory = match process.file("mem") {
        Ok(memory) => memory,
        Err(error) => return Ok(unreadable(&error)),
    };
    let mut read = Vec::new();
    let mut failed = None;
    for (index, copy) in copies.iter().enumerate() {
        match library::record(process, &memory, copy) {
            Ok(record) => read.push((index, record)),
            Err(Unread::Denied(error)) => failed = Some(unreadable(&error)),
            Err(Unread::Damaged(reason)) => failed = Some(Coverage::Unreadable { reason }),
        }
    }
    let calls = |record: &crate::record::Record| -> u64 {
        let calls = record.operations.iter().map(|operation| operation.calls);
        calls.fold(0, u64::saturating_add)
    };
    // The copy that the program reaches, if there are several.
    let Some((index, record)) = read.into_iter().max_by_key(|(_, record)| calls(record)) else {
        return Ok(failed.unwrap_or(Coverage::Unreadable {
            reason: "the library has no record".into(),
        }));
    };
    let now = clock_gettime(ClockId::Monotonic);
    let now = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
    let other = copies
        .iter()
        .enumerate()
        .filter(|(other, _)| *other != index);
    Ok(Coverage::Covered(Box::new(Covered {
        file: copies[index].file.clone(),
        other_copies: other.map(|(_, copy)| copy.file.clone()).collect(),
        under_way: under_way::calls(process, &record, now),
        version: record.library,
        settings: record.settings,
        hooks: record.hooks,
        most_at_once: record.totals.most_at_once,
        let_through: record.totals.let_through,
        calls_per_second: None,
        operations: record.operations,
        devices: record.devices,
        threads_not_shown: record.totals.unlisted.saturating_add(record.unread),
        now,
    })))
}
