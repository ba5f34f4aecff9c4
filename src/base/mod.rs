//! What every layer above stands on: the kernel, the processor, text without allocation, and the settings.

#[macro_use]
#[cfg_attr(target_arch = "x86_64", path = "x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "aarch64.rs")]
pub mod processor;

#[macro_use]
mod symbols;

#[macro_use]
pub mod sys;

pub mod clock;
pub mod dl;
pub mod elf;
pub mod log_sink;
pub mod proc_stat;
pub mod process;
pub mod settings;
pub mod stream;
pub mod text;
