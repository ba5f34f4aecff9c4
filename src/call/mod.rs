//! What a call is, and which calls are serialized.

pub mod device;
pub mod host_memory;
pub mod operation;
pub mod policy;
