//! Where a call comes in: `serialize()` is the one path that every hooked call takes.

mod verbs;

pub use verbs::EntryPoint;

use crate::{
    errno::Errno,
    lock::{Lock, now},
    next::{self, Target},
    policy, stats, thread,
};
use core::ffi::c_void;
use log::trace;

/// The one lock of this process.
static LOCK: Lock = Lock::new();

/// A hooked call, in the words of no particular ABI.
#[derive(Clone, Copy)]
pub struct Call {
    /// The entry point.
    pub entry: EntryPoint,
    /// Where the caller continues afterwards: it tells whose call this is.
    pub caller: *const c_void,
    /// The start of the memory region; null where the call does not say.
    pub address: *const c_void,
    /// Its length in bytes; 0 where the call does not say.
    pub length: usize,
}

/// What a hooked function returns.
pub trait Outcome {
    /// Whether the value says that the call failed.
    fn failed(&self) -> bool;
}

impl<T> Outcome for *mut T {
    fn failed(&self) -> bool {
        self.is_null()
    }
}

impl Outcome for libc::c_int {
    fn failed(&self) -> bool {
        *self != 0
    }
}

/// Forwards `call` to the function that its caller would have reached without us: alone, if the policy says so.
///
/// `absent` makes the result if there is no such function.
#[inline]
fn serialize<R: Outcome>(
    call: Call,
    forward: impl FnOnce(Target) -> R,
    absent: impl FnOnce() -> R,
) -> R {
    let errno = Errno::save();
    thread::with(|thread| {
        // A call from within a call (libibverbs' own, through its PLT) belongs to the same copy of libibverbs. Its target
        // was found with the outer one's, because now that the lock is held nothing may be looked up.
        // SAFETY: the pointer is set below for as long as the outer call, whose frame holds the family, is under way.
        let outer = unsafe { thread.family.get().as_ref() };
        let family = outer
            .copied()
            .unwrap_or_else(|| next::family(call.caller, call.entry));
        let Some(target) = family.get(call.entry) else {
            errno.restore();
            return absent();
        };
        if outer.is_some() || !policy::serializes(call.entry.kind()) {
            errno.restore();
            return forward(target);
        }

        let admission = LOCK.enter(&thread.place);
        thread.family.set(&raw const family);
        let since = stats::is_timed().then(now);
        errno.restore();
        let result = forward(target);
        let errno = Errno::save();
        let inside = since.map(|since| now().saturating_sub(since));
        stats::record(call.entry, admission, result.failed(), inside);
        thread.family.set(core::ptr::null());
        LOCK.leave(&thread.place);

        trace!(
            "{entry} address {address:p} length {length}: waited {waited} ns, {failed}",
            entry = call.entry.name(),
            address = call.address,
            length = call.length,
            waited = admission.waited.unwrap_or(0),
            failed = if result.failed() {
                "failed"
            } else {
                "succeeded"
            },
        );
        errno.restore();
        result
    })
}
