//! What the library does in a process: programs run first without it and then with it, on a libibverbs in software
//! (`tests/fake_libibverbs`). `make test` runs these tests twice: the second time with the library of `make dist`.

#[macro_use]
#[path = "../common/mod.rs"]
mod common;

mod c_api;
mod children;
mod dma_buf;
mod exit;
mod forwarding;
mod gpu_memory;
mod ioctl_hook;
mod ioctl_library;
mod linked;
mod observe;
mod ordinary_programs;
mod other_tools;
mod report;
mod serialization;
mod settings;
mod slots;
mod status;
mod streams;
mod survival;
mod trace;
mod transparency;
mod ways_to_load;
