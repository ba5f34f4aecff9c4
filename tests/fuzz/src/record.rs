//! The input changes a record.

// The report's names for what it reads.
pub use crate::record_reader::{Device, Kind, Operation, Record, State, mode};

use crate::{
    patches,
    record_reader::sample::sample,
    report::render::{self, End, Process},
};

/// The reader says what is wrong in one line of plain text, or gives a record that makes sense and can be reported.
pub fn check(input: &[u8]) {
    let mut bytes = sample();
    patches::apply(input, &mut bytes);
    let record = match Record::in_bytes(&bytes) {
        Ok(record) => record,
        Err(damage) => {
            let line = damage.to_string();
            assert!(!line.contains(char::is_control), "{line:?}");
            return;
        }
    };
    let mut indices: Vec<_> = record.events.iter().map(|event| event.operation).collect();
    let calls = record
        .threads
        .iter()
        .filter_map(|thread| thread.call.as_ref());
    indices.extend(calls.map(|call| call.operation));
    let operations = record.operations.len();
    assert!(indices.iter().all(|&index| index < operations));
    let numbers: Vec<_> = record.events.iter().map(|event| event.number).collect();
    assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
    let written = record.events_written;
    assert!(
        numbers.iter().all(|&number| number < written),
        "{numbers:?} of {written}"
    );

    // Twice: sums must not overflow.
    let again = Record::in_bytes(&bytes).expect("the same");
    let processes = [record, again].map(|record| Process {
        from: "trace".into(),
        record,
        end: End::Sudden,
        under_way: Vec::new(),
    });
    let text = render::text(&processes);
    let is_command = |it: char| it.is_control() && it != '\n';
    assert!(!text.contains(is_command), "{text:?}");
}
