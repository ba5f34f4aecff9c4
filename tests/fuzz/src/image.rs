//! The input changes a library as it lies in memory.

use crate::{
    image_reader::{sample, symbol},
    patches,
};

/// The search ends.
pub fn check(input: &[u8]) {
    let mut image = sample();
    patches::apply(input, &mut image);
    let _ = symbol(&image, 0x1000, "mrlock_record");
}
