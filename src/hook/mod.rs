//! The entry of a call. Each hook translates its own ABI to an operation and a region, and calls `serialize()`.

pub mod ioctl;
mod locks;
pub mod section;
mod serialize;
mod thread;
pub mod verbs;

pub use serialize::{after_fork, after_fork_in_parent, before_fork};

use crate::call::operation::Operation;
use core::iter;

/// All operations, in the order of the report.
pub fn operations() -> impl Iterator<Item = &'static Operation> + Clone {
    verbs::operations()
        .chain(ioctl::operations())
        .chain(iter::once(&section::SECTION))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_has_its_own_place_in_the_record() {
        for (place, operation) in operations().enumerate() {
            assert_eq!(operation.index, place, "{}", operation.name);
        }
        assert!(operations().count() <= crate::record::MOST_OPERATIONS);
    }
}
