//! The hook on ioctl, without the call itself.

/// In place of the macro that exports `ioctl`: makes the hook callable.
macro_rules! export_ioctl {
    ($verbs:ident => $hook:ident, $free:ident => $_hook:ident, else $next:ident) => {
        pub fn enter(argument: *mut c_void) {
            $hook(-1, c_ulong::from($verbs), argument);
        }
    };
}

#[path = "../../../src/hook/ioctl.rs"]
pub mod ioctl;

pub mod verbs {
    pub const COUNT: usize = 0;
}

pub mod serialize {
    use crate::call::{
        device::Device,
        operation::{Memory, Operation},
    };
    use std::cell::Cell;

    thread_local! {
        /// What was recognized in the last request.
        pub static LAST: Cell<Option<(&'static str, Memory)>> = const { Cell::new(None) };
    }

    pub fn is_part_of_a_call() -> bool {
        false
    }

    pub fn serialize(
        operation: &'static Operation,
        _: Device,
        memory: Memory,
        _: impl FnOnce() -> i32,
    ) -> i32 {
        LAST.set(Some((operation.name, memory)));
        0
    }

    pub fn serialize_free(_: &'static Operation, _: Device, _: impl FnOnce() -> i32) -> i32 {
        0
    }
}
