//! `serialize()`: the one path that every hooked call takes.

use super::{
    locks::{self, FREES, Taken, is_inside},
    thread::{self, Thread},
};
use crate::{
    base::process,
    call::{
        device::Device,
        host_memory,
        operation::{Memory, Operation, Region},
        policy::{self, Way},
    },
    lock::{Admission, CallInfo},
    record::{self, Call},
};
use core::ptr;
use log::{Level, log_enabled, trace};

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

/// Whether a call that the calling thread makes now is part of one that is serialized or observed.
#[inline]
pub fn is_part_of_a_call() -> bool {
    thread::with(is_in_a_call)
}

#[inline]
fn is_in_a_call(thread: &Thread) -> bool {
    thread.observed.get() || is_inside(thread)
}

/// Makes a call, and serializes it if the policy says so. All look-ups for the call are done. errno is the host's, before and
/// after the call: our own system calls do not change it.
#[inline]
pub fn serialize<R: Outcome>(
    operation: &'static Operation,
    device: Device,
    memory: Memory,
    call: impl FnOnce() -> R,
) -> R {
    thread::with(|thread| {
        let way = TakenWay::enter(thread, operation, device, memory);
        let result = call();
        way.leave(thread, result.failed());
        result
    })
}

/// The way that a call has taken. (Its functions are not generic, so the library has one copy of each.)
enum TakenWay<'a> {
    /// It is part of another call, or such calls are not serialized.
    Forwarded,
    LetThrough {
        /// `None`: it is part of another call, or let through under all settings.
        recorded: Option<Call<'a>>,
        /// The calls that it is within: how many, and the region of the innermost.
        depth: u32,
        outer: Region,
    },
    Observed(Call<'a>),
    Serialized {
        recorded: Call<'a>,
        taken: Taken,
        admission: Option<Admission>,
        info: CallInfo,
    },
}

impl<'a> TakenWay<'a> {
    #[inline(never)]
    fn enter(
        thread: &'a Thread,
        operation: &'static Operation,
        device: Device,
        memory: Memory,
    ) -> Self {
        if is_in_a_call(thread)
            || is_part_of_one_let_through(thread, memory)
            || !policy::serializes(operation.kind, operation.layer)
        {
            return Self::Forwarded;
        }
        let region = memory.region();
        let info = CallInfo {
            name: &operation.name,
            device,
            address: region.address,
            length: region.length,
        };
        match policy::way(operation.kind, memory) {
            Way::LetThrough => {
                let depth = thread.let_through.get();
                // A call within a call is part of it. A dma-buf is let through under all settings: that is not recorded.
                let is_recorded = depth == 0 && !matches!(memory, Memory::DmaBuf);
                let recorded =
                    is_recorded.then(|| Call::let_through(&thread.place, operation, &info));
                thread.let_through.set(depth + 1);
                let outer = thread.let_through_region.replace(region);
                Self::LetThrough {
                    recorded,
                    depth,
                    outer,
                }
            }
            Way::Serialized { meets_frees } if policy::observes() => {
                let recorded = Call::observed(&thread.place, operation, &info, meets_frees);
                // A call from within it is part of it.
                thread.observed.set(true);
                Self::Observed(recorded)
            }
            Way::Serialized { meets_frees } => {
                let mut recorded = Call::waits(&thread.place, operation, &info, meets_frees);
                let (taken, admission) = locks::enter(thread, &info, meets_frees);
                recorded.enters(&admission);
                // Only while the thread holds the locks: calls of a signal handler before and after are not part of this call.
                thread.calls.set(thread.calls.get() + 1);
                Self::Serialized {
                    recorded,
                    taken,
                    admission,
                    info,
                }
            }
        }
    }

    #[inline(never)]
    fn leave(self, thread: &Thread, failed: bool) {
        match self {
            Self::Forwarded => {}
            Self::LetThrough {
                recorded,
                depth,
                outer,
            } => {
                thread.let_through_region.set(outer);
                thread.let_through.set(depth);
                if let Some(recorded) = recorded {
                    let ended = recorded.ends_let_through(failed);
                    recorded.note(&ended);
                }
            }
            Self::Observed(recorded) => {
                thread.observed.set(false);
                let ended = recorded.ends_observed(failed);
                recorded.note(&ended);
            }
            Self::Serialized {
                recorded,
                taken,
                admission,
                info,
            } => {
                thread.calls.set(thread.calls.get() - 1);
                let ended = recorded.ends(&admission, failed);
                locks::leave(thread, &taken);
                recorded.note(&ended);
                log_call(&info, &admission, failed);
            }
        }
    }
}

/// Whether a call on this memory is part of one that was let through: the thread is in such a call, and this one is for the same
/// memory, or does not name any. (To ask the kernel about the same memory again would take time and change nothing. A signal
/// handler's call for other memory is judged by itself.)
#[inline]
fn is_part_of_one_let_through(thread: &Thread, memory: Memory) -> bool {
    if thread.let_through.get() == 0 {
        return false;
    }
    match memory {
        Memory::Unknown => true,
        Memory::At(region) | Memory::OnDemand(region) => region == thread.let_through_region.get(),
        Memory::Moved(..) | Memory::DmaBuf => false,
    }
}

/// Frees GPU memory while no other thread frees, and no registration or deregistration of GPU memory is under way. A call from
/// within the free is not part of it.
pub fn serialize_free<R: Outcome>(
    operation: &'static Operation,
    device: Device,
    call: impl FnOnce() -> R,
) -> R {
    thread::with(|thread| {
        if thread.observed.get() || !policy::serializes(operation.kind, operation.layer) {
            return call();
        }
        host_memory::note_free();
        let info = CallInfo {
            name: &operation.name,
            device,
            address: ptr::null(),
            length: 0,
        };
        if policy::observes() {
            let recorded = Call::observed(&thread.place, operation, &info, true);
            thread.observed.set(true);
            let result = call();
            TakenWay::Observed(recorded).leave(thread, result.failed());
            return result;
        }
        let mut recorded = Call::waits(&thread.place, operation, &info, true);
        let admission = FREES.lock(&thread.frees, &info);
        recorded.enters(&admission);
        let result = call();
        let ended = recorded.ends(&admission, result.failed());
        FREES.unlock(&thread.frees);
        recorded.note(&ended);
        log_call(&info, &admission, result.failed());
        result
    })
}

#[inline]
fn log_call(info: &CallInfo, admission: &Option<Admission>, failed: bool) {
    if log_enabled!(Level::Trace) {
        say(info, admission, failed);
    }
}

#[cold]
fn say(info: &CallInfo, admission: &Option<Admission>, failed: bool) {
    let outcome = if failed { "failed" } else { "succeeded" };
    let waited = admission
        .and_then(|admission| admission.waited)
        .unwrap_or(0);
    trace!("{info}: {outcome}, waited {waited} ns");
}

/// In the thread that is about to fork.
pub fn before_fork() {
    thread::with(|thread| {
        thread.forks_in.set(process::before_fork());
        locks::before_fork(thread);
    });
}

/// In the thread that has forked, in the parent.
pub fn after_fork_in_parent() {
    thread::with(locks::after_fork_in_parent);
}

/// In the thread that has forked, in the child.
pub fn after_fork() {
    thread::with(|thread| {
        process::after_fork(thread.forks_in.get());
        locks::after_fork(thread);
        record::take_along(&thread.place);
        // The section that the thread is in was counted in the parent.
        thread.section.set(thread.section.get().untimed());
    });
}
