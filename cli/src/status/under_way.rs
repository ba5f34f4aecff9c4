//! The calls that are under way in a process, from its record.

use super::{host::Directory, seen::UnderWay};
use crate::record::{Call, Kind, Record, Step, Thread};

/// Those inside, then those that wait, in order of waiting, then those that were let through. `now` is on the process's CLOCK_MONOTONIC.
/// Without a process, which may have ended, there is only what the record says of its threads.
pub fn calls(process: Option<&Directory>, record: &Record, now: u64) -> Vec<UnderWay> {
    let in_call: Vec<_> = record
        .threads
        .iter()
        .filter_map(|thread| Some((thread, thread.call.as_ref()?)))
        .collect();
    if in_call.is_empty() {
        return Vec::new();
    }
    let mut calls: Vec<_> = match process {
        Some(process) => living(process, record, now, &in_call),
        None => in_call
            .iter()
            .map(|(thread, call)| of(thread, call, record, now))
            .collect(),
    };
    calls.sort_by_key(|call| (call.step, std::cmp::Reverse(call.for_ns)));
    find_what_they_wait_for(&mut calls);
    calls
}

/// The calls, with the ids and the names that the threads have now.
fn living(
    process: &Directory,
    record: &Record,
    now: u64,
    in_call: &[(&Thread, &Call)],
) -> Vec<UnderWay> {
    let ids = ids(process);
    let started = process
        .stat(&format!("task/{}/stat", process.pid))
        .map_or(0, |stat| process.own_start(&stat));
    let calls = in_call.iter().map(|(thread, call)| {
        let id = ids.iter().find(|(own, _)| *own == thread.id);
        // In the record is a moment at which the thread was alive: a thread that was started later has only its id. But if the
        // process, too, was started later, it was restored from a checkpoint, and start times prove nothing.
        let there = id.filter(|(_, id)| {
            let stat = process.stat(&format!("task/{id}/stat"));
            let start = stat.map(|stat| process.own_start(&stat));
            start.is_some_and(|start| start <= thread.alive_at || started > thread.alive_at)
        });
        let name = there.and_then(|(_, id)| process.read(&format!("task/{id}/comm")).ok());
        let name = name.map(|name| String::from_utf8_lossy(name.trim_ascii_end()).into_owned());
        UnderWay {
            thread: there.map_or(thread.id, |(_, id)| *id),
            name: name.unwrap_or_else(|| thread.name.clone()),
            has_ended: there.is_none(),
            ..of(thread, call, record, now)
        }
    });
    calls.collect()
}

fn of(thread: &Thread, call: &Call, record: &Record, now: u64) -> UnderWay {
    let operation = record.operations.get(call.operation);
    UnderWay {
        thread: thread.id,
        name: thread.name.clone(),
        step: call.step,
        operation: operation.map_or(String::new(), |operation| operation.name.clone()),
        is_free: operation.is_some_and(|operation| operation.kind == Kind::Free),
        device: call.device.clone(),
        address: call.memory.map(|memory| memory.0),
        length: call.memory.map(|memory| memory.1),
        is_on_device: call.is_on_device,
        for_ns: now.saturating_sub(call.since),
        waited_ns: call.waited,
        waits_for: None,
        has_ended: false,
    }
}

/// Of the two locks, the first has one registration (or section) inside; a free, and a call on memory that may be the GPU's, need the
/// second. What waits for the first also waits for what its holder waits for.
fn find_what_they_wait_for(calls: &mut [UnderWay]) {
    let inside = |wanted: fn(&UnderWay) -> bool| {
        let mut inside = calls.iter().filter(|call| call.step == Step::Inside);
        inside.find(|call| wanted(call)).map(|call| call.thread)
    };
    let registration = inside(|call| !call.is_free);
    let on_device = inside(|call| !call.is_free && call.is_on_device);
    let free = inside(|call| call.is_free);
    for call in calls.iter_mut().filter(|call| call.step == Step::Waiting) {
        call.waits_for = match call.is_free {
            true => free.or(on_device),
            false => registration.or(free),
        };
    }
}

/// The ids of the process's threads: in its own pid namespace, and as this command's /proc has them.
fn ids(process: &Directory) -> Vec<(u32, u32)> {
    let threads = process.threads().filter_map(|thread| {
        let ids = process.status("NSpid", &format!("task/{thread}/status"));
        let thread = u32::try_from(thread).ok()?;
        // The last is that of the innermost namespace. (A kernel without namespaces has no such line.)
        let own = ids.and_then(|ids| ids.split_whitespace().last()?.parse().ok());
        Some((own.unwrap_or(thread), thread))
    });
    threads.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{
        layout as l,
        sample::{put, sample, thread},
    };
    use std::mem::offset_of;

    #[test]
    fn the_order_of_waiting() {
        let mut bytes = sample();
        for (slot, since) in [(0, 900), (1, 700), (2, 800)] {
            put(
                &mut bytes,
                thread(slot) + offset_of!(l::Thread, thread),
                slot as u64 + 1,
            );
            put(
                &mut bytes,
                thread(slot) + offset_of!(l::Thread, state),
                l::WAITING,
            );
            put(
                &mut bytes,
                thread(slot) + offset_of!(l::Thread, since),
                since,
            );
        }
        let record = Record::in_bytes(&bytes).expect("a record");
        let own = Directory::open(std::process::id() as i32).expect("/proc");
        let seen = calls(Some(&own), &record, 2000);
        let seen: Vec<_> = seen
            .iter()
            .map(|call| (call.for_ns, call.waits_for))
            .collect();
        let waits = Some(78);
        assert_eq!(
            seen,
            [(1000, None), (1300, waits), (1200, waits), (1100, waits)]
        );
        // This process has no such threads.
        assert!(
            calls(Some(&own), &record, 2000)
                .iter()
                .all(|call| call.has_ended)
        );
        // Of a process that has ended, this says nothing.
        assert!(
            calls(None, &record, 2000)
                .iter()
                .all(|call| !call.has_ended)
        );
    }
}
