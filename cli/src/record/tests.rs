use super::{
    layout as l,
    sample::{SIZE, event, put, sample, thread},
    *,
};
use std::{cell::Cell, fs, io, mem::offset_of};

fn reason(bytes: &[u8]) -> String {
    Record::in_bytes(bytes).expect_err("damage").to_string()
}

#[test]
fn a_record_with_events() {
    let record = Record::in_bytes(&sample()).expect("a record");
    assert_eq!(record.state, State::Running);
    assert_eq!(
        (record.process, &*record.program, &*record.settings),
        (77, "server", "MRLOCK=on")
    );
    assert_eq!(record.hooks, ["ioctl"]);
    assert_eq!(record.totals.let_through, 9);
    assert_eq!(record.operations.len(), 1);
    assert_eq!(
        (&*record.operations[0].name, record.operations[0].calls),
        ("ibv_reg_mr", 5)
    );
    let call = Call {
        step: Step::Inside,
        since: 1000,
        waited: 0,
        operation: 0,
        device: Some("mlx5_0".into()),
        memory: Some((0x7000, 4096)),
        is_on_device: false,
    };
    let thread = Thread {
        id: 78,
        alive_at: 555,
        name: "pin-3".into(),
        call: Some(call),
    };
    assert_eq!(record.threads, [thread]);
    let events: Vec<_> = record
        .events
        .iter()
        .map(|event| (event.number, event.duration, event.has_failed))
        .collect();
    assert_eq!(
        events,
        [(2, 20, true), (3, 30, true), (4, 40, true), (5, 50, true)]
    );
    assert_eq!((record.events_written, record.events_lost()), (6, 2));
    assert_eq!(record.unread, 0);
}

#[test]
fn a_file() {
    let path = std::env::temp_dir().join(format!("mrlock-record-{}", std::process::id()));
    fs::write(&path, sample()).expect("a file");
    let read = Record::in_file(&path);
    fs::remove_file(&path).expect("ours to remove");
    assert_eq!(
        read.expect("a record"),
        Record::in_bytes(&sample()).expect("a record")
    );
    for (path, expected) in [
        ("/dev/null", "it is no regular file"),
        ("/", "it is no regular file"),
        ("/no/such/file", "there is no such file"),
    ] {
        let damage = Record::in_file(Path::new(path)).expect_err("no record");
        assert!(damage.to_string().starts_with(expected), "{damage}");
    }
}

#[test]
fn what_is_no_record_is_named() {
    let complete = sample();
    assert_eq!(reason(b""), "it is no record of mrlock");
    assert_eq!(reason(&[0xff; SIZE]), "it is no record of mrlock");
    assert_eq!(
        reason(&complete[..event(4) - 1]),
        format!("it is cut: it has {} bytes of {}", event(4) - 1, event(4))
    );
    for (field, value, expected) in [
        (offset_of!(l::Header, version), 9, "version 9"),
        (offset_of!(l::Header, size), 8, "would have 8 bytes"),
        (
            offset_of!(l::Header, capacity),
            u64::MAX,
            "room for 18446744073709551615 events",
        ),
        (offset_of!(l::Header, capacity), 5, "it is cut"),
    ] {
        let mut bytes = complete.clone();
        put(&mut bytes, field, value);
        assert!(reason(&bytes).contains(expected), "{}", reason(&bytes));
    }
}

/// An index may be any number, and a text may have no end.
#[test]
fn what_does_not_make_sense_is_counted() {
    let mut bytes = sample();
    put(&mut bytes, thread(3) + offset_of!(l::Thread, operation), 1);
    put(&mut bytes, event(0) + offset_of!(l::Event, operation), 24);
    put(&mut bytes, event(1) + offset_of!(l::Event, sequence), 0);
    put(
        &mut bytes,
        event(2) + offset_of!(l::Event, device),
        u64::MAX,
    );
    put(&mut bytes, event(3) + offset_of!(l::Event, sequence), 5);
    bytes[offset_of!(l::Record, settings)..][..1280].fill(b'x');
    let record = Record::in_bytes(&bytes).expect("a record");
    assert_eq!(record.settings.len(), 1280);
    assert!(record.threads.is_empty());
    let numbers: Vec<_> = record.events.iter().map(|event| event.number).collect();
    assert_eq!(
        (&*numbers, record.events[0].device.as_deref()),
        (&[2][..], None)
    );
    assert_eq!(record.unread, 4);
    assert_eq!(record.events_lost(), 5);
}

/// The writer changes a slot, or an event, for as long as `looks` reads.
struct Changing {
    bytes: Vec<u8>,
    at: usize,
    looks: Cell<u64>,
}

impl Source for Changing {
    fn length(&self) -> io::Result<Option<u64>> {
        self.bytes.length()
    }

    fn copy_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let mut now = self.bytes.clone();
        if let Some(left) = self.looks.get().checked_sub(1) {
            self.looks.set(left);
            let sequence = u64::from_ne_bytes(now[self.at..][..8].try_into().expect("a word"));
            put(&mut now, self.at, sequence + 2 * (left + 1));
        }
        now.copy_at(bytes, offset)
    }
}

#[test]
fn a_slot_that_is_being_written() {
    let read = |looks: u64, at| {
        let source = Changing {
            bytes: sample(),
            at,
            looks: looks.into(),
        };
        read::record(&source, &|_| None).expect("a record")
    };
    let mut record = read(10, thread(3));
    assert_eq!((record.threads.len(), record.unread), (1, 0));
    record = read(u64::MAX / 4, thread(3));
    assert_eq!((record.threads.len(), record.unread), (0, 1));
    record = read(u64::MAX / 4, event(1));
    assert_eq!((record.events.len(), record.unread), (3, 1));

    // Its thread has ended while it wrote.
    let mut bytes = sample();
    put(&mut bytes, thread(3), 5);
    let record = Record::in_bytes(&bytes).expect("a record");
    assert_eq!((record.threads.len(), record.unread), (0, 1));
}
