//! The entry of a call. Each hook translates its own ABI to an operation and a region, and calls `serialize()`.

pub mod ioctl;
pub mod section;
mod serialize;
pub mod verbs;

pub use serialize::after_fork;

use crate::operation::Operation;
use core::iter;

/// All operations, in the order of the report.
pub fn operations() -> impl Iterator<Item = &'static Operation> {
    verbs::operations()
        .chain(ioctl::operations())
        .chain(iter::once(&section::SECTION))
}
