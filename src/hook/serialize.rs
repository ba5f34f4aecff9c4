//! `serialize()`: the one path that every hooked call takes.

use super::{
    locks::{self, FREES, is_inside},
    thread::{self, Thread},
};
use crate::{
    base::{process, sys},
    call::{
        device::{Device, Name},
        operation::{Memory, Operation},
        policy::{self, Way},
    },
    lock::{Admission, CallInfo},
    record::{counters, observed, trace},
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

/// Whether the calling thread is inside a serialized call. The calls that it makes from there (of libibverbs' own functions,
/// through its PLT; then of ioctl) are part of that call.
#[inline]
pub fn is_part_of_a_call() -> bool {
    thread::with(|thread| thread.observed.get() != 0 || is_inside(thread))
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
        if is_inside(thread) || !policy::serializes(operation.kind, operation.layer) {
            return call();
        }
        if was_let_through(thread, memory) {
            return let_through(thread, memory, call);
        }
        let Way::Serialized { meets_frees } = policy::way(operation.kind, memory) else {
            return let_through(thread, memory, call);
        };
        let region = memory.region();
        let info = CallInfo {
            name: &operation.name,
            device,
            address: region.address,
            length: region.length,
        };
        if policy::watches() {
            let alone = |thread: &_, operation, info: &_, call| {
                under_lock(thread, operation, info, meets_frees, call)
            };
            watch(thread, operation, &info, call, alone)
        } else {
            under_lock(thread, operation, &info, meets_frees, call).result
        }
    })
}

/// Makes a serialized call.
#[inline(always)]
fn under_lock<R: Outcome, C: FnOnce() -> R>(
    thread: &Thread,
    operation: &'static Operation,
    info: &CallInfo,
    meets_frees: bool,
    call: C,
) -> Called<R> {
    let (taken, admission) = locks::enter(thread, info, meets_frees);
    let (result, time) = count(thread, operation, &admission, call);
    locks::leave(thread, &taken);
    log_call(info, &admission, &result);
    Called {
        result,
        admission,
        time,
    }
}

/// Frees GPU memory while no registration and no deregistration is under way.
pub fn serialize_free<R: Outcome>(
    operation: &'static Operation,
    device: Device,
    call: impl FnOnce() -> R,
) -> R {
    thread::with(|thread| {
        if !policy::serializes(operation.kind, operation.layer) {
            return call();
        }
        let info = CallInfo {
            name: &operation.name,
            device,
            address: ptr::null(),
            length: 0,
        };
        if policy::watches() {
            watch(thread, operation, &info, call, apart_from_registrations)
        } else {
            apart_from_registrations(thread, operation, &info, call).result
        }
    })
}

/// Frees while no other thread frees and no registration is under way. A call from within the free is not part of it.
#[inline(always)]
fn apart_from_registrations<R: Outcome, C: FnOnce() -> R>(
    thread: &Thread,
    operation: &'static Operation,
    info: &CallInfo,
    call: C,
) -> Called<R> {
    let admission = FREES.lock(&thread.frees, info);
    let (result, time) = timed(operation, &admission, call);
    FREES.unlock(&thread.frees);
    log_call(info, &admission, &result);
    Called {
        result,
        admission,
        time,
    }
}

/// How a call went.
struct Called<R> {
    result: R,
    /// What the lock returned; `None` if the thread held it already, or the call was only observed.
    admission: Option<Admission>,
    time: Option<Time>,
}

/// Makes a call that is to be traced, or observed in the place of taking the lock.
#[inline(never)]
fn watch<R: Outcome, C: FnOnce() -> R>(
    thread: &Thread,
    operation: &'static Operation,
    info: &CallInfo,
    call: C,
    alone: impl FnOnce(&Thread, &'static Operation, &CallInfo, C) -> Called<R>,
) -> R {
    // A call from within a call is part of it.
    if thread.observed.get() != 0 {
        return call();
    }
    // After the call, its object may no longer exist.
    let device = info.device.name();
    let called = if policy::observes() {
        observe(thread, operation, &device, call)
    } else {
        alone(thread, operation, info, call)
    };
    if let Some(Time { since, duration }) = called.time {
        let inside = trace::Inside {
            since,
            duration,
            waited: called.admission.and_then(|admission| admission.waited),
            failed: called.result.failed(),
        };
        trace::write(info, &device, &inside);
    }
    called.result
}

/// Makes a call at once, without the lock, and counts it while others run.
fn observe<R: Outcome>(
    thread: &Thread,
    operation: &'static Operation,
    device: &Option<Name>,
    call: impl FnOnce() -> R,
) -> Called<R> {
    if let Some(device) = device {
        observed::count_device(device);
    }
    thread.observed.set(observed::enter());
    let since = counters::is_timed().then(sys::now);
    let result = call();
    let time = since.map(Time::since);
    observed::leave(thread.observed.replace(0));
    counters::record_observed(operation, result.failed(), time.map(|time| time.duration));
    Called {
        result,
        admission: None,
        time,
    }
}

/// Whether the thread is in a call that was let through, and calls within it for the same memory, or with only a handle. (The
/// same question of the kernel would have the same answer, and takes as long again. A signal handler's call for other memory is
/// judged by itself.)
#[inline]
fn was_let_through(thread: &Thread, memory: Memory) -> bool {
    thread.let_through.get() > 0
        && match memory {
            Memory::Unknown => true,
            Memory::At(region) | Memory::OnDemand(region) => {
                region == thread.let_through_region.get()
            }
            Memory::Moved(..) | Memory::DmaBuf => false,
        }
}

/// Makes a call without the lock, and the calls within it for which `was_let_through` says so.
#[inline(never)]
fn let_through<R>(thread: &Thread, memory: Memory, call: impl FnOnce() -> R) -> R {
    let depth = thread.let_through.get();
    if depth == 0 && !matches!(memory, Memory::DmaBuf) {
        counters::record_let_through();
    }
    thread.let_through.set(depth + 1);
    let outer = thread.let_through_region.replace(memory.region());
    let result = call();
    thread.let_through_region.set(outer);
    thread.let_through.set(depth);
    result
}

/// When a call was made, and how long it took, in nanoseconds.
#[derive(Clone, Copy)]
struct Time {
    since: u64,
    duration: u64,
}

impl Time {
    /// From `since` until now.
    fn since(since: u64) -> Self {
        let duration = sys::now().saturating_sub(since);
        Self { since, duration }
    }
}

/// Makes a call inside the lock, and counts it.
#[inline(always)]
fn count<R: Outcome>(
    thread: &Thread,
    operation: &'static Operation,
    admission: &Option<Admission>,
    call: impl FnOnce() -> R,
) -> (R, Option<Time>) {
    // Only while the thread holds the locks: calls of a signal handler before and after are not part of this call.
    thread.calls.set(thread.calls.get() + 1);
    let called = timed(operation, admission, call);
    thread.calls.set(thread.calls.get() - 1);
    called
}

/// As above, but calls within this call are not part of it. The caller holds the operation's lock.
#[inline(always)]
fn timed<R: Outcome>(
    operation: &'static Operation,
    admission: &Option<Admission>,
    call: impl FnOnce() -> R,
) -> (R, Option<Time>) {
    let since = counters::is_timed().then(sys::now);
    let result = call();
    let time = since.map(Time::since);
    // In a section, the time is the section's.
    let inside = time
        .filter(|_| admission.is_some())
        .map(|time| time.duration);
    counters::record(operation, admission, result.failed(), inside);
    (result, time)
}

#[inline]
fn log_call<R: Outcome>(info: &CallInfo, admission: &Option<Admission>, result: &R) {
    if log_enabled!(Level::Trace) {
        say(info, admission, result.failed());
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
        counters::drop_inherited();
        thread
            .observed
            .set(observed::after_fork(thread.observed.get()));
        // The section that the thread is in was counted in the parent.
        thread.section_since.set(0);
    });
}
