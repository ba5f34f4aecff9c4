//! `mrlock_lock()` and `mrlock_unlock()`: a section of the program's own code holds the lock, as a hooked call does.

use super::{
    locks::{LOCK, has_interrupted_a_free},
    thread,
};
use crate::{
    base::sys,
    call::{
        device::Device,
        operation::{Kind, Layer, Operation},
    },
    lock::CallInfo,
    record::{
        counters,
        trace::{self, Inside},
    },
};
use core::ptr;
use libc::c_int;

/// The greatest depth to which sections nest.
const DEEPEST: u32 = i32::MAX as u32;

/// The operation of all sections, for the report and the log.
pub static SECTION: Operation = Operation::new("mrlock_lock", Kind::Section, Layer::Program);

/// The call that a section takes the lock for.
const CALL: CallInfo = CallInfo {
    name: &SECTION.name,
    device: Device::UNKNOWN,
    address: ptr::null(),
    length: 0,
};

/// Begins a section. Fails with EAGAIN if the thread is in `DEEPEST` sections already; with EDEADLK in a signal handler that has
/// interrupted a free.
pub fn begin() -> Result<(), c_int> {
    thread::with(|thread| {
        let sections = thread.sections.get();
        if sections == DEEPEST {
            return Err(libc::EAGAIN);
        }
        if has_interrupted_a_free(thread) {
            return Err(libc::EDEADLK);
        }
        let admission = LOCK.lock(&thread.lock, &CALL);
        thread.sections.set(sections + 1);
        if let Some(entered) = admission {
            counters::record(&SECTION, &admission, false, None);
            thread.section_waited.set(entered.waited.unwrap_or(0));
            let since = if counters::is_timed() { sys::now() } else { 0 };
            thread.section_since.set(since);
        }
        Ok(())
    })
}

/// Ends the innermost section; `false` if the thread is in none.
pub fn end() -> bool {
    thread::with(|thread| {
        let Some(sections) = thread.sections.get().checked_sub(1) else {
            return false;
        };
        thread.sections.set(sections);
        let since = match sections {
            0 => thread.section_since.replace(0),
            _ => 0,
        };
        let duration = match since {
            0 => 0,
            _ => sys::now().saturating_sub(since),
        };
        if since != 0 {
            counters::record_inside(&SECTION, duration);
        }
        LOCK.unlock(&thread.lock);
        if since != 0 {
            let waited = thread.section_waited.get();
            let inside = Inside {
                since,
                duration,
                waited: Some(waited).filter(|&waited| waited > 0),
                failed: false,
            };
            trace::write(&CALL, &None, &inside);
        }
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_nest_to_a_limit() {
        assert!(!end());
        assert_eq!(begin(), Ok(()));
        thread::with(|thread| thread.sections.set(DEEPEST));
        assert_eq!(begin(), Err(libc::EAGAIN));
        thread::with(|thread| thread.sections.set(1));
        assert!(end());
        assert!(!end());
    }
}
