//! `mrlock_lock()` and `mrlock_unlock()`: a section of the program's own code holds the lock, as a hooked call does.

use super::{
    ioctl,
    locks::{LOCK, has_interrupted_a_free},
    thread, verbs,
};
use crate::{
    call::{
        device::Device,
        operation::{Kind, Layer, Operation},
    },
    lock::CallInfo,
    record::Call,
};
use core::ptr;
use libc::c_int;

/// The greatest depth to which sections nest.
const DEEPEST: u32 = i32::MAX as u32;

/// The operation of all sections, for the report and the log.
pub static SECTION: Operation = Operation::new(
    verbs::COUNT + ioctl::COUNT,
    "mrlock_lock",
    Kind::Section,
    Layer::Program,
);

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
        let mut recorded = Call::waits(&thread.place, &SECTION, &CALL, false);
        let admission = LOCK.lock(&thread.lock, &CALL);
        thread.sections.set(sections + 1);
        if admission.is_none() {
            recorded.gives_way();
            return Ok(());
        }
        recorded.enters(&admission);
        recorded.counts(&admission);
        thread.section.set(recorded.times());
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
        if sections > 0 {
            LOCK.unlock(&thread.lock);
            return true;
        }
        let recorded = Call::resumed(&thread.place, &SECTION, thread.section.take());
        let ended = recorded.ends_section();
        LOCK.unlock(&thread.lock);
        recorded.note(&ended);
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
