//! What every layer above stands on: the kernel, the processor, text without allocation, and the settings.

#[macro_use]
pub mod x86_64;

#[macro_use]
pub mod sys;

pub mod clock;
pub mod elf;
pub mod log_sink;
pub mod proc_stat;
pub mod process;
pub mod settings;
pub mod stream;
pub mod text;
