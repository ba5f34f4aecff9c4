//! Real kernels in a virtual machine, and programs that other people wrote. A program of its own, so that the virtual machine
//! shares the processors with no other tests.

#[macro_use]
#[path = "../common/mod.rs"]
mod common;

mod arm64;
mod checkpoint;
mod clients_vm;
mod gvisor;
mod mooncake;
mod peermem;
mod strangers;
mod vm;
