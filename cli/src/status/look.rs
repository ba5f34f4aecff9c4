//! One look: the processes, whether each has the library, and what the library does there.

use super::{
    found::{Found, found},
    host::{self, Directory, Stat},
    library, maps,
    seen::{Coverage, Covered, Process},
    under_way,
};
use crate::failure::Failure;
use std::collections::{BTreeMap, BTreeSet};

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
    let coverage = coverage(&directory);
    directory.is_alive().then(|| Process {
        pid: stat.pid,
        parent: stat.parent,
        depth,
        program: stat.program.clone(),
        coverage,
    })
}

fn coverage(process: &Directory) -> Coverage {
    let Found {
        record,
        file,
        other_copies,
    } = match found(process) {
        Ok(found) => found,
        Err(coverage) => return coverage,
    };
    let now = process.now();
    Coverage::Covered(Box::new(Covered {
        file,
        other_copies,
        under_way: under_way::calls(Some(process), &record, now),
        most_at_once: record.most_at_once(),
        version: record.library,
        settings: record.settings,
        hooks: record.hooks,
        let_through: record.totals.let_through,
        calls_per_second: None,
        operations: record.operations,
        devices: record.devices,
        threads_not_shown: record.totals.unlisted.saturating_add(record.unread),
        now,
    }))
}
