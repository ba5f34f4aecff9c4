//! The calls in a record.

use super::process::{Call, Process, Slice, What};
use crate::{
    record::{Kind, Record, Step},
    status::life::{Life, life},
};
use std::rc::Rc;

/// What an event and a call under way have in common.
struct Made<'a> {
    /// When it was inside, or began to wait, on CLOCK_MONOTONIC; until when.
    since: u64,
    end: u64,
    waited: u64,
    step: Step,
    operation: usize,
    device: Option<&'a Rc<str>>,
    memory: Option<(u64, u64)>,
    failed: bool,
    is_under_way: bool,
}

impl Process {
    /// What a record says. `None`: it has no call.
    pub fn recorded(record: &Record) -> Option<Self> {
        let mut process = Self {
            id: record.process,
            namespace: record.namespace,
            host: record.host.clone(),
            name: record.program.clone(),
            settings: record.settings.clone(),
            // The numbers begin at 0, and the oldest are written over first.
            overwritten: record.events.first().map_or(0, |event| event.number),
            unread: record.unread,
            ..Self::default()
        };
        for event in &record.events {
            let made = Made {
                since: event.since,
                end: event.since.saturating_add(event.duration),
                waited: event.waited,
                step: match event.was_let_through {
                    true => Step::LetThrough,
                    false => Step::Inside,
                },
                operation: event.operation,
                device: event.device.as_ref(),
                memory: event.memory,
                failed: event.has_failed,
                is_under_way: false,
            };
            process.add(record, event.thread, &event.name, made);
        }
        let last = last(record);
        for thread in &record.threads {
            let Some(call) = &thread.call else { continue };
            let made = Made {
                since: call.since,
                end: last.max(call.since),
                waited: call.waited,
                step: call.step,
                operation: call.operation,
                device: call.device.as_ref(),
                memory: call.memory,
                failed: false,
                is_under_way: true,
            };
            process.add(record, thread.id, &thread.name, made);
        }
        for slices in process.threads.values_mut() {
            slices.sort_by_key(|slice| slice.start);
        }
        (!process.threads.is_empty()).then_some(process)
    }

    fn add(&mut self, record: &Record, thread: u32, thread_name: &str, made: Made) {
        if !thread_name.is_empty() {
            self.names.insert(thread, thread_name.into());
        }
        let operation = record.operations.get(made.operation);
        let name = operation.map_or("?", |it| &it.name).to_owned();
        let is_to_be_alone = matches!(
            operation.map(|it| it.kind),
            Some(Kind::Registration | Kind::Deregistration)
        );
        let mut slice = |start, end, is_under_way, what| {
            let (start, end) = (since_1970(record, start), since_1970(record, end));
            self.threads.entry(thread).or_default().push(Slice {
                start,
                end,
                is_under_way,
                what,
            });
        };
        let Made { since, end, .. } = made;
        if made.step == Step::Waiting {
            return slice(since, end, made.is_under_way, What::Waiting(name));
        }
        if made.waited > 0 {
            let start = since.saturating_sub(made.waited);
            slice(start, since, false, What::Waiting(name.clone()));
        }
        let call = Call {
            counts: made.step == Step::Inside && is_to_be_alone,
            name,
            device: made.device.map(|device| device.to_string()),
            memory: made.memory,
            failed: made.failed,
        };
        slice(since, end, made.is_under_way, What::Inside(call));
    }
}

/// Until when a call under way is drawn. A process that still runs is inside until now. When another one ended is not known: it is
/// its last sign of life.
fn last(record: &Record) -> u64 {
    let ends = record.events.iter();
    let ends = ends.map(|event| event.since.saturating_add(event.duration));
    let calls = record.threads.iter().filter_map(|it| it.call.as_ref());
    let starts = calls.map(|call| call.since.saturating_add(1000));
    let now = match life(record) {
        Life::Runs(process) => Some(process.now()),
        _ => None,
    };
    ends.chain(starts).chain(now).max().unwrap_or(0)
}

/// A time on CLOCK_MONOTONIC, in nanoseconds since 1970: other hosts, and this one after a restart, count from another moment.
fn since_1970(record: &Record, time: u64) -> u64 {
    let time = i128::from(time) - i128::from(record.monotonic) + i128::from(record.realtime);
    u64::try_from(time.max(0)).unwrap_or(u64::MAX)
}
