//! The calls in a record.

use super::trace::{Call, Process, Slice, Trace, What};
use crate::{
    record::{Event, Kind, Record, Step, mode},
    status::{
        host::now,
        life::{Life, life},
    },
};

impl Trace {
    /// Adds what a record says.
    pub fn add_record(&mut self, record: &Record) {
        let mut process = Process {
            name: Some(record.program.clone()),
            mode: mode(&record.settings).map(str::to_owned),
            overwritten: record.events_lost(),
            ..Process::default()
        };
        for event in &record.events {
            process.name_thread(event.thread, &event.name);
            let slices = process.threads.entry(event.thread.into()).or_default();
            add_event(slices, record, event);
        }
        let calls = record.threads.iter().filter_map(|thread| {
            let call = thread.call.as_ref()?;
            Some((thread, call))
        });
        let ends = record
            .events
            .iter()
            .map(|it| it.since.saturating_add(it.duration));
        let starts = calls
            .clone()
            .map(|(_, call)| call.since.saturating_add(1000));
        // A process that still runs is inside until now. When another one ended is not known: its last sign of life is drawn.
        let now = matches!(life(record), Life::Runs(_)).then(now);
        let last = ends.chain(starts).chain(now).max().unwrap_or(0);
        for (thread, call) in calls {
            process.name_thread(thread.id, &thread.name);
            let name = record
                .operations
                .get(call.operation)
                .map_or("?", |it| &it.name);
            let what = match call.step {
                Step::Waiting => What::Waiting(name.into()),
                Step::Inside | Step::LetThrough => What::Inside(Call {
                    counts: call.step == Step::Inside && is_to_be_alone(record, call.operation),
                    name: name.into(),
                    device: call.device.as_deref().map(str::to_owned),
                    address: call.memory.map(|(address, _)| format!("{address:#x}")),
                    length: call.memory.map(|(_, length)| length),
                    failed: false,
                }),
            };
            process
                .threads
                .entry(thread.id.into())
                .or_default()
                .push(Slice {
                    start: call.since,
                    end: last,
                    is_under_way: true,
                    what,
                });
        }
        // Its own time began with it: an id of another container is another process.
        self.add_process(record.process as i64, process);
        self.arrange();
    }
}

impl Process {
    fn name_thread(&mut self, id: u32, name: &str) {
        if !name.is_empty() {
            self.names.insert(id.into(), name.into());
        }
    }
}

fn add_event(slices: &mut Vec<Slice>, record: &Record, event: &Event) {
    let name = record
        .operations
        .get(event.operation)
        .map_or("?", |it| &it.name);
    if event.waited > 0 {
        slices.push(Slice {
            start: event.since.saturating_sub(event.waited),
            end: event.since,
            is_under_way: false,
            what: What::Waiting(name.into()),
        });
    }
    slices.push(Slice {
        start: event.since,
        end: event.since.saturating_add(event.duration),
        is_under_way: false,
        what: What::Inside(Call {
            counts: !event.was_let_through && is_to_be_alone(record, event.operation),
            name: name.into(),
            device: event.device.as_deref().map(str::to_owned),
            address: event.memory.map(|(address, _)| format!("{address:#x}")),
            length: event.memory.map(|(_, length)| length),
            failed: event.has_failed,
        }),
    });
}

/// Whether such calls are to be inside alone.
fn is_to_be_alone(record: &Record, operation: usize) -> bool {
    let kind = record.operations.get(operation).map(|it| it.kind);
    matches!(kind, Some(Kind::Registration | Kind::Deregistration))
}
