//! Keeps the lines, and checks that each is one line of plain text.

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
