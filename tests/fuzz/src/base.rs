//! The lowest layer, with a log sink of its own.

#[macro_use]
#[cfg_attr(target_arch = "x86_64", path = "../../../src/base/x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "../../../src/base/aarch64.rs")]
#[allow(dead_code, unused_macros, reason = "only the system call is used")]
pub mod processor;

#[macro_use]
#[path = "../../../src/base/sys.rs"]
#[allow(dead_code, reason = "each file uses its own part")]
pub mod sys;

#[path = "../../../src/base/text.rs"]
#[allow(dead_code, reason = "the report is not here")]
pub mod text;

#[path = "../../../src/base/proc_stat.rs"]
#[allow(dead_code, reason = "nothing is read")]
pub mod proc_stat;

#[path = "../../../src/base/stream.rs"]
#[allow(dead_code, reason = "nothing is written")]
pub mod stream;

#[path = "../../../src/base/settings/mod.rs"]
#[allow(
    dead_code,
    reason = "the settings are read again and again, and not kept"
)]
pub mod settings;

#[path = "log_sink.rs"]
pub mod log_sink;
