//! What a call is, with a policy of its own.

#[path = "../../../src/call/device.rs"]
#[allow(dead_code, reason = "no name is looked up")]
pub mod device;

#[path = "../../../src/call/operation.rs"]
#[allow(dead_code, reason = "nothing is counted")]
pub mod operation;

pub mod policy {
    pub fn catches(_: super::operation::Layer) -> bool {
        true
    }
}
