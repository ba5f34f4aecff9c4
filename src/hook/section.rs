//! `mrlock_lock()` and `mrlock_unlock()`: a section of the program's own code that takes the lock as a call does.

use super::{LOCK, Layer, Operation, leave};
use crate::{
    errno::Errno,
    lock::{Purpose, now},
    policy::Kind,
    stats::{self, Counters},
    thread,
};
use core::{
    ptr,
    sync::atomic::{Ordering, compiler_fence},
};

/// A section as the report and the log name it.
pub static SECTION: Operation = Operation {
    name: "mrlock_lock",
    kind: Kind::Section,
    layer: Layer::Program,
    counters: Counters::new(),
};

/// Begins a section; `false` if the thread is in too many, one within the other.
pub fn begin() -> bool {
    thread::with(|thread| {
        if thread.sections.get() == u32::MAX {
            return false;
        }
        let errno = Errno::save();
        let is_outermost = thread.calls.get() == 0 && thread.sections.get() == 0;
        let purpose = Purpose {
            name: &SECTION.name,
            address: ptr::null(),
            length: 0,
        };
        let admission = LOCK.enter(&thread.place, &purpose);
        thread.sections.set(thread.sections.get() + 1);
        // In this order: a signal handler would take what is kept for no section for its own.
        compiler_fence(Ordering::SeqCst);
        if admission.outermost {
            thread.keeps.set(true);
        }
        if is_outermost {
            stats::record(&SECTION, admission, false, None);
            let since = if stats::is_timed() { now() } else { 0 };
            thread.section_since.set(since);
        }
        errno.restore();
        true
    })
}

/// Ends a section; `false` if the thread is in none.
pub fn end() -> bool {
    thread::with(|thread| {
        let sections = thread.sections.get();
        if sections == 0 {
            return false;
        }
        let errno = Errno::save();
        if sections == 1 {
            let since = thread.section_since.replace(0);
            if since != 0 {
                stats::record_inside(&SECTION, now().saturating_sub(since));
            }
        }
        leave(thread, &thread.sections, false);
        errno.restore();
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_an_end_to_how_deep_they_nest() {
        assert!(!end());
        assert!(begin());
        thread::with(|thread| thread.sections.set(u32::MAX));
        assert!(!begin());
        thread::with(|thread| thread.sections.set(1));
        assert!(end());
        assert!(!end());
    }
}
