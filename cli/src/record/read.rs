//! From bytes to a record. Every number in them may be wrong.

use super::{
    Call, Damage, Device, Event, Kind, Operation, Record, Source, State, Step, Thread, Totals,
    layout,
    section::{Section, text, word},
};
use std::{mem::offset_of, rc::Rc};

const SIZE: usize = size_of::<layout::Record>();
const THREAD: usize = size_of::<layout::Thread>();
const EVENT: usize = size_of::<layout::Event>();

/// The bits of a thread's word that are its id.
const ID_BITS: u32 = 22;

/// How often a slot is read again that was being written.
const TRIES: usize = 100;

/// Finds the name of a device in a process.
type DeviceName<'a> = &'a dyn Fn(u64) -> Option<String>;

/// Reads a record. `device_name` is asked about the devices of a record without a table of them, in a process's memory.
pub fn record<S: Source + ?Sized>(source: &S, device_name: DeviceName) -> Result<Record, Damage> {
    let length = source.length()?;
    let capacity = check(source, length)?;
    let mut bytes = vec![0; SIZE];
    source.copy_at(&mut bytes, 0)?;
    let all = Section(&bytes);
    let header = all.part(
        offset_of!(layout::Record, header),
        size_of::<layout::Header>(),
    );
    let hooks = word!(header, layout::Header, hooks);
    let hooks = [(layout::VERBS, "verbs"), (layout::IOCTL, "ioctl")]
        .into_iter()
        .filter(|(bit, _)| hooks & bit != 0);
    let mut record = Record {
        state: match word!(header, layout::Header, state) {
            layout::LOADED => State::Loaded,
            layout::RUNNING => State::Running,
            _ => State::Ended,
        },
        moved: word!(header, layout::Header, moved),
        process: word!(header, layout::Header, process),
        namespace: word!(header, layout::Header, namespace),
        realtime: word!(header, layout::Header, realtime),
        monotonic: word!(header, layout::Header, monotonic),
        library: text!(header, layout::Header, library, 4),
        program: text!(header, layout::Header, program, 8),
        host: text!(header, layout::Header, host, 8),
        settings: text!(all, layout::Record, settings, 160),
        hooks: hooks.map(|(_, name)| name).collect(),
        totals: totals(all.part(
            offset_of!(layout::Record, totals),
            size_of::<layout::Totals>(),
        )),
        operations: operations(all),
        devices: devices(all),
        threads: Vec::new(),
        events: Vec::new(),
        capacity: word!(header, layout::Header, capacity),
        events_written: word!(header, layout::Header, events),
        unread: 0,
    };
    // In a file, or in what a process has mapped of one, and while calls are observed.
    let has_table = record.capacity > 0 || !record.devices.is_empty();
    threads(source, all, &mut record, has_table, device_name)?;
    events(source, capacity, &mut record)?;
    Ok(record)
}

/// Checks what a reader checks first. Returns how many events have room.
fn check<S: Source + ?Sized>(source: &S, length: Option<u64>) -> Result<u64, Damage> {
    let mut bytes = [0; size_of::<layout::Header>()];
    source.copy_at(&mut bytes, 0)?;
    let header = Section(&bytes);
    if word!(header, layout::Header, magic) != layout::MAGIC {
        return Err(Damage::NoRecord);
    }
    match word!(header, layout::Header, version) {
        layout::VERSION => {}
        version => return Err(Damage::Version(version)),
    }
    match word!(header, layout::Header, size) {
        size if size == SIZE as u64 => {}
        size => return Err(Damage::Size(size)),
    }
    let Some(length) = length else { return Ok(0) };
    let capacity = word!(header, layout::Header, capacity);
    if capacity > layout::MOST_EVENTS {
        return Err(Damage::Capacity(capacity));
    }
    let needed = SIZE as u64 + capacity * EVENT as u64;
    match length < needed {
        true => Err(Damage::Cut { length, needed }),
        false => Ok(capacity),
    }
}

fn totals(of: Section) -> Totals {
    Totals {
        most_at_once: word!(of, layout::Totals, most_at_once),
        let_through: word!(of, layout::Totals, let_through),
        frees_met: word!(of, layout::Totals, frees_met),
        unlisted: word!(of, layout::Totals, unlisted),
        lost_lines: word!(of, layout::Totals, lost_lines),
    }
}

fn operations(all: Section) -> Vec<Operation> {
    let start = offset_of!(layout::Record, operations);
    all.array(start, size_of::<layout::Operation>(), layout::OPERATIONS)
        .map(|of| Operation {
            name: text!(of, layout::Operation, name, 4),
            kind: match word!(of, layout::Operation, kind) {
                layout::KIND_REGISTRATION => Kind::Registration,
                layout::KIND_DEREGISTRATION => Kind::Deregistration,
                layout::KIND_FREE => Kind::Free,
                layout::KIND_SECTION => Kind::Section,
                _ => Kind::Other,
            },
            is_serialized: word!(of, layout::Operation, is_serialized) != 0,
            calls: word!(of, layout::Operation, calls),
            failures: word!(of, layout::Operation, failures),
            waits: word!(of, layout::Operation, waits),
            wait_ns: word!(of, layout::Operation, waiting),
            longest_wait_ns: word!(of, layout::Operation, longest_wait),
            inside_ns: word!(of, layout::Operation, inside),
            longest_inside_ns: word!(of, layout::Operation, longest_inside),
        })
        .take_while(|operation| !operation.name.is_empty())
        .collect()
}

fn devices(all: Section) -> Vec<Device> {
    let start = offset_of!(layout::Record, devices);
    all.array(start, size_of::<layout::Device>(), layout::DEVICES)
        .map(|of| Device {
            name: text!(of, layout::Device, name, 8).into(),
            calls: word!(of, layout::Device, calls),
        })
        .take_while(|device| !device.name.is_empty())
        .collect()
}

fn threads<S: Source + ?Sized>(
    source: &S,
    all: Section,
    record: &mut Record,
    has_table: bool,
    device_name: DeviceName,
) -> Result<(), Damage> {
    let start = offset_of!(layout::Record, threads);
    for (slot, seen) in (0..).zip(all.array(start, THREAD, layout::THREADS)) {
        // A thread that takes the slot from now on is not missed in this look.
        if word!(seen, layout::Thread, thread) == 0 && word!(seen, layout::Thread, sequence) == 0 {
            continue;
        }
        let Some(bytes) = settled(source, (start + slot * THREAD) as u64)? else {
            record.unread += 1;
            continue;
        };
        let of = Section(&bytes);
        let Some(id) = thread_id(word!(of, layout::Thread, thread)) else {
            continue;
        };
        let step = match word!(of, layout::Thread, state) {
            layout::OUTSIDE => None,
            layout::WAITING => Some(Step::Waiting),
            layout::INSIDE => Some(Step::Inside),
            layout::LET_THROUGH => Some(Step::LetThrough),
            _ => {
                record.unread += 1;
                continue;
            }
        };
        let Some(operation) = index(word!(of, layout::Thread, operation), &record.operations)
            .or(step.is_none().then_some(0))
        else {
            record.unread += 1;
            continue;
        };
        let device = word!(of, layout::Thread, device);
        let call = step.map(|step| Call {
            step,
            since: word!(of, layout::Thread, since),
            waited: word!(of, layout::Thread, waited),
            operation,
            device: match has_table {
                true => listed(device, &record.devices),
                false => device_name(device).map(Rc::from),
            },
            memory: memory(
                word!(of, layout::Thread, address),
                word!(of, layout::Thread, length),
            ),
            is_on_device: word!(of, layout::Thread, is_on_device) != 0,
        });
        record.threads.push(Thread {
            id,
            alive_at: word!(of, layout::Thread, thread) >> ID_BITS,
            name: text!(of, layout::Thread, name, 2),
            call,
        });
    }
    Ok(())
}

/// A thread's slot, as it was at one moment. `None` if it is being written all the time, or its thread ended while it wrote.
fn settled<S: Source + ?Sized>(source: &S, start: u64) -> Result<Option<[u8; THREAD]>, Damage> {
    let sequence = || -> Result<u64, Damage> {
        let mut word = [0; 8];
        let offset = offset_of!(layout::Thread, sequence) as u64;
        source.copy_at(&mut word, start + offset)?;
        Ok(u64::from_ne_bytes(word))
    };
    let mut bytes = [0; THREAD];
    for _ in 0..TRIES {
        let before = sequence()?;
        source.copy_at(&mut bytes, start)?;
        if before % 2 == 0 && sequence()? == before {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// The events. Only those are kept that did not change while they were read.
fn events<S: Source + ?Sized>(
    source: &S,
    capacity: u64,
    record: &mut Record,
) -> Result<(), Damage> {
    /// How many are read at once.
    const BLOCK: u64 = 512;
    let mut blocks = [const { Vec::new() }; 3];
    // The rest of the ring was not reached yet.
    let used = capacity.min(record.events_written);
    for first in (0..used).step_by(BLOCK as usize) {
        let count = BLOCK.min(used - first) as usize;
        // The sequence is in the first and the last block, the rest in the second.
        for block in &mut blocks {
            block.resize(count * EVENT, 0);
            source.copy_at(block, SIZE as u64 + first * EVENT as u64)?;
        }
        let [before, bytes, after] = &blocks;
        let section = |block: &'_ Vec<u8>, at: usize| {
            let sequence = Section(&block[at * EVENT..][..EVENT]);
            word!(sequence, layout::Event, sequence)
        };
        for at in 0..count {
            let sequence = section(before, at);
            let is_whole = sequence == section(after, at);
            // A number that does not belong at this place was never written by the library.
            let number = sequence
                .checked_sub(1)
                .filter(|number| is_whole && number % capacity == first + at as u64);
            let of = Section(&bytes[at * EVENT..][..EVENT]);
            match number.and_then(|number| event(of, number, record)) {
                Some(event) => record.events.push(event),
                None => record.unread += 1,
            }
        }
    }
    record.events.sort_unstable_by_key(|event| event.number);
    if let Some(last) = record.events.last() {
        // More were written meanwhile.
        record.events_written = record.events_written.max(last.number.saturating_add(1));
    }
    Ok(())
}

fn event(of: Section, number: u64, record: &Record) -> Option<Event> {
    let flags = word!(of, layout::Event, flags);
    Some(Event {
        number,
        thread: thread_id(word!(of, layout::Event, thread))?,
        name: text!(of, layout::Event, name, 2),
        since: word!(of, layout::Event, since),
        duration: word!(of, layout::Event, duration),
        waited: word!(of, layout::Event, waited),
        operation: index(word!(of, layout::Event, operation), &record.operations)?,
        device: listed(word!(of, layout::Event, device), &record.devices),
        memory: memory(
            word!(of, layout::Event, address),
            word!(of, layout::Event, length),
        ),
        has_failed: flags & layout::FAILED != 0,
        was_let_through: flags & layout::WAS_LET_THROUGH != 0,
    })
}

/// The id in a thread's word; `None` if there is no thread.
fn thread_id(word: u64) -> Option<u32> {
    let id = (word & ((1 << ID_BITS) - 1)) as u32;
    (id != 0).then_some(id)
}

fn index(word: u64, operations: &[Operation]) -> Option<usize> {
    usize::try_from(word)
        .ok()
        .filter(|&index| index < operations.len())
}

fn listed(word: u64, devices: &[Device]) -> Option<Rc<str>> {
    let index = usize::try_from(word.checked_sub(1)?).ok()?;
    Some(devices.get(index)?.name.clone())
}

fn memory(address: u64, length: u64) -> Option<(u64, u64)> {
    ((address, length) != (0, 0)).then_some((address, length))
}
