//! Reads a record that the library has left in a file.

#[path = "../../src/record/layout.rs"]
pub mod layout;

use layout::{Event, MAGIC, OPERATIONS, Record, VERSION};
use std::{collections::BTreeMap, fs, mem::offset_of, path::Path};

/// The parts of a record that the tests look at.
#[derive(Debug, PartialEq)]
pub struct Recorded {
    pub state: u64,
    pub process: u64,
    pub program: String,
    pub settings: String,
    /// How many events have room, and how many were written.
    pub capacity: u64,
    pub written: u64,
    pub let_through: u64,
    pub unlisted: u64,
    pub most_at_once: u64,
    /// The name of each operation, and how many calls were counted.
    pub operations: Vec<(String, u64)>,
    /// The number of waits that were counted for each operation, and their sum.
    pub waits: BTreeMap<String, (u64, u64)>,
    /// The threads that are in a call.
    pub inside: Vec<Recall>,
    /// The events that are there, oldest first.
    pub events: Vec<Recall>,
}

/// A call in progress, or an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Recall {
    pub thread: u64,
    pub name: String,
    /// Of a call in progress.
    pub state: u64,
    pub operation: String,
    /// Empty: not known.
    pub device: String,
    pub since: u64,
    /// Of an event.
    pub duration: u64,
    pub waited: u64,
    pub address: u64,
    pub length: u64,
    /// Of an event.
    pub flags: u64,
}

struct Bytes(Vec<u8>);

impl Bytes {
    fn word(&self, offset: usize) -> u64 {
        let bytes = self.0[offset..offset + 8].try_into().expect("eight bytes");
        u64::from_ne_bytes(bytes)
    }

    fn text(&self, offset: usize, words: usize) -> String {
        let bytes = &self.0[offset..offset + words * 8];
        let bytes = bytes.split(|byte| *byte == 0).next().expect("a part");
        String::from_utf8_lossy(bytes).into_owned()
    }

    fn operation(&self, index: u64) -> String {
        assert!((index as usize) < OPERATIONS, "operation {index}");
        let row = offset_of!(Record, operations) + index as usize * size_of::<layout::Operation>();
        self.text(row + offset_of!(layout::Operation, name), 4)
    }

    fn device(&self, index: u64) -> String {
        let Some(index) = index.checked_sub(1) else {
            return String::new();
        };
        assert!((index as usize) < layout::DEVICES, "device {index}");
        let row = offset_of!(Record, devices) + index as usize * size_of::<layout::Device>();
        self.text(row + offset_of!(layout::Device, name), 8)
    }
}

/// The id of a thread, without the moment above it.
fn id(word: u64) -> u64 {
    word & ((1 << 22) - 1)
}

macro_rules! field {
    ($bytes:expr, $base:expr, $type:ty, $($field:tt)+) => {
        $bytes.word($base + offset_of!($type, $($field)+))
    };
}

/// The record in this file. No process writes to it meanwhile, or each of its threads is blocked.
pub fn read(file: &Path) -> Recorded {
    let bytes = fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    assert!(bytes.len() >= size_of::<Record>(), "{}", bytes.len());
    let bytes = Bytes(bytes);
    let header = |offset| bytes.word(offset);
    assert_eq!(header(offset_of!(Record, header.magic)), MAGIC);
    assert_eq!(header(offset_of!(Record, header.version)), VERSION);
    let size = header(offset_of!(Record, header.size));
    assert_eq!(size, size_of::<Record>() as u64);
    let capacity = header(offset_of!(Record, header.capacity));
    let written = header(offset_of!(Record, header.events));
    let room = size_of::<Record>() + capacity as usize * size_of::<Event>();
    assert_eq!(bytes.0.len(), room, "{capacity} events");
    Recorded {
        state: header(offset_of!(Record, header.state)),
        process: header(offset_of!(Record, header.process)),
        program: bytes.text(offset_of!(Record, header.program), 8),
        settings: bytes.text(offset_of!(Record, settings), 160),
        capacity,
        written,
        let_through: header(offset_of!(Record, totals.let_through)),
        unlisted: header(offset_of!(Record, totals.unlisted)),
        most_at_once: header(offset_of!(Record, totals.most_at_once)),
        operations: operations(&bytes),
        waits: waits(&bytes),
        inside: inside(&bytes),
        events: events(&bytes, written, capacity),
    }
}

/// The name of each operation, and where its row is.
fn rows(bytes: &Bytes) -> impl Iterator<Item = (String, usize)> {
    let rows = (0..OPERATIONS).map(|index| {
        let row = offset_of!(Record, operations) + index * size_of::<layout::Operation>();
        (bytes.operation(index as u64), row)
    });
    rows.filter(|(name, _)| !name.is_empty())
}

fn operations(bytes: &Bytes) -> Vec<(String, u64)> {
    rows(bytes)
        .map(|(name, row)| (name, field!(bytes, row, layout::Operation, calls)))
        .collect()
}

fn waits(bytes: &Bytes) -> BTreeMap<String, (u64, u64)> {
    rows(bytes)
        .map(|(name, row)| {
            let waits = field!(bytes, row, layout::Operation, waits);
            let waiting = field!(bytes, row, layout::Operation, waiting);
            (name, (waits, waiting))
        })
        .collect()
}

fn inside(bytes: &Bytes) -> Vec<Recall> {
    let slots = (0..layout::THREADS)
        .map(|index| offset_of!(Record, threads) + index * size_of::<layout::Thread>());
    slots
        .filter(|slot| field!(bytes, *slot, layout::Thread, state) != layout::OUTSIDE)
        .map(|slot| Recall {
            thread: id(field!(bytes, slot, layout::Thread, thread)),
            name: bytes.text(slot + offset_of!(layout::Thread, name), 2),
            state: field!(bytes, slot, layout::Thread, state),
            operation: bytes.operation(field!(bytes, slot, layout::Thread, operation)),
            device: bytes.device(field!(bytes, slot, layout::Thread, device)),
            since: field!(bytes, slot, layout::Thread, since),
            duration: 0,
            waited: field!(bytes, slot, layout::Thread, waited),
            address: field!(bytes, slot, layout::Thread, address),
            length: field!(bytes, slot, layout::Thread, length),
            flags: 0,
        })
        .collect()
}

fn events(bytes: &Bytes, written: u64, capacity: u64) -> Vec<Recall> {
    (written.saturating_sub(capacity)..written)
        .map(|number| {
            let place = (number % capacity) as usize * size_of::<Event>();
            let event = size_of::<Record>() + place;
            assert_eq!(field!(bytes, event, Event, sequence), number + 1);
            Recall {
                thread: id(field!(bytes, event, Event, thread)),
                name: bytes.text(event + offset_of!(Event, name), 2),
                state: layout::OUTSIDE,
                operation: bytes.operation(field!(bytes, event, Event, operation)),
                device: bytes.device(field!(bytes, event, Event, device)),
                since: field!(bytes, event, Event, since),
                duration: field!(bytes, event, Event, duration),
                waited: field!(bytes, event, Event, waited),
                address: field!(bytes, event, Event, address),
                length: field!(bytes, event, Event, length),
                flags: field!(bytes, event, Event, flags),
            }
        })
        .collect()
}
