//! What the programs share.

use std::{sync::Barrier, thread};

pub const SIZE: usize = 1 << 20;
const THREADS: usize = 8;
const ROUNDS: usize = 20;

/// Every thread makes ready (`open` gets its number), all wait for each other, and then each calls several times what `open`
/// returned. Prints how many calls there were.
pub fn register<F: FnMut()>(open: impl Fn(usize) -> F + Sync) {
    let together = Barrier::new(THREADS);
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (open, together) = (&open, &together);
            scope.spawn(move || {
                let mut call = open(number);
                together.wait();
                (0..ROUNDS).for_each(|_| call());
            });
        }
    });
    println!("{} regions", THREADS * ROUNDS);
}
