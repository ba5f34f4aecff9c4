//! The library's own source as far as it reads what others wrote. Around it are stand-ins for the parts that act on it.

#[macro_use]
#[path = "../../../src/x86_64.rs"]
#[allow(unused_macros, reason = "only the system call is used")]
mod x86_64;

#[macro_use]
#[path = "../../../src/sys.rs"]
#[allow(dead_code, reason = "each file uses its own part")]
mod sys;

#[path = "../../../src/text.rs"]
#[allow(dead_code, reason = "the report is not here")]
mod text;

#[path = "../../../src/stream.rs"]
#[allow(dead_code, reason = "nothing is written")]
mod stream;

#[path = "../../../src/device.rs"]
#[allow(dead_code, reason = "no name is looked up")]
mod device;

#[path = "../../../src/operation.rs"]
#[allow(dead_code, reason = "nothing is counted")]
mod operation;

#[path = "../../../src/config.rs"]
#[allow(
    dead_code,
    reason = "the settings are read again and again, and not kept"
)]
mod config;

#[allow(dead_code, reason = "the call itself is not made")]
mod hook;

mod policy {
    pub fn catches(_: crate::operation::Layer) -> bool {
        true
    }
}

#[allow(dead_code, reason = "nothing is looked up")]
mod resolve {
    use std::{
        ffi::{CStr, c_void},
        ptr::NonNull,
    };

    pub fn note_libibverbs() {}

    pub fn next(_: &CStr) -> Option<NonNull<c_void>> {
        None
    }
}

/// Keeps the lines, and checks that each is one line of plain text.
mod logger {
    use log::{LevelFilter, Log, Metadata, Record};
    use std::cell::RefCell;

    thread_local! {
        pub static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }

    struct Lines;

    impl Log for Lines {
        fn enabled(&self, _: &Metadata) -> bool {
            true
        }

        fn log(&self, record: &Record) {
            let line = record.args().to_string();
            let is_plain = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
            assert!(line.bytes().all(is_plain), "{line:?}");
            LINES.with_borrow_mut(|lines| lines.push(line));
        }

        fn flush(&self) {}
    }

    pub fn install(level: LevelFilter) {
        let _ = log::set_logger(&Lines);
        log::set_max_level(level);
    }
}

mod environment;
pub mod report_name;
pub mod settings;
pub mod uverbs;
