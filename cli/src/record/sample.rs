//! A record for tests, also for those of tests/fuzz.

use super::layout as l;
use std::mem::{offset_of, size_of};

/// The size of a record without events.
pub const SIZE: usize = size_of::<l::Record>();

/// Writes a word.
pub fn put(bytes: &mut [u8], offset: usize, word: u64) {
    bytes[offset..offset + 8].copy_from_slice(&word.to_ne_bytes());
}

/// Writes a text.
pub fn write(bytes: &mut [u8], offset: usize, text: &str) {
    bytes[offset..offset + text.len()].copy_from_slice(text.as_bytes());
}

/// Where a thread's slot begins.
pub fn thread(slot: usize) -> usize {
    offset_of!(l::Record, threads) + slot * size_of::<l::Thread>()
}

/// Where an event begins.
pub fn event(index: usize) -> usize {
    SIZE + index * size_of::<l::Event>()
}

/// One operation, one device, a thread that is inside, and room for four events, of which the first two were overwritten.
pub fn sample() -> Vec<u8> {
    let mut bytes = vec![0; event(4)];
    let b = &mut bytes;
    put(b, offset_of!(l::Record, header.magic), l::MAGIC);
    put(b, offset_of!(l::Record, header.version), l::VERSION);
    put(b, offset_of!(l::Record, header.size), SIZE as u64);
    put(b, offset_of!(l::Record, header.state), 1);
    put(b, offset_of!(l::Record, header.hooks), l::IOCTL);
    put(b, offset_of!(l::Record, header.capacity), 4);
    put(b, offset_of!(l::Record, header.events), 6);
    put(b, offset_of!(l::Record, header.process), 77);
    write(b, offset_of!(l::Record, header.program), "server");
    write(b, offset_of!(l::Record, settings), "MRLOCK=on");
    put(b, offset_of!(l::Record, totals.let_through), 9);
    let operation = offset_of!(l::Record, operations);
    write(b, operation + offset_of!(l::Operation, name), "ibv_reg_mr");
    put(
        b,
        operation + offset_of!(l::Operation, kind),
        l::KIND_REGISTRATION,
    );
    put(b, operation + offset_of!(l::Operation, calls), 5);
    write(b, offset_of!(l::Record, devices), "mlx5_0");
    put(b, thread(3) + offset_of!(l::Thread, sequence), 4);
    put(b, thread(3) + offset_of!(l::Thread, thread), 555 << 22 | 78);
    write(b, thread(3) + offset_of!(l::Thread, name), "pin-3");
    put(b, thread(3) + offset_of!(l::Thread, state), l::INSIDE);
    put(b, thread(3) + offset_of!(l::Thread, since), 1000);
    put(b, thread(3) + offset_of!(l::Thread, device), 1);
    put(b, thread(3) + offset_of!(l::Thread, address), 0x7000);
    put(b, thread(3) + offset_of!(l::Thread, length), 4096);
    for number in 2..6 {
        let at = event(number % 4);
        put(b, at + offset_of!(l::Event, sequence), number as u64 + 1);
        put(b, at + offset_of!(l::Event, thread), 78);
        put(b, at + offset_of!(l::Event, duration), 10 * number as u64);
        put(b, at + offset_of!(l::Event, flags), l::FAILED);
    }
    bytes
}
