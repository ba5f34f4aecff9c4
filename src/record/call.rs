//! One call on its way: what the record shows of it now, and what it counts in the end.

use super::{
    Place, begun, counters,
    counters::add_shared,
    devices, events,
    layout::{self, INSIDE, LET_THROUGH, OUTSIDE, Record, WAITING},
    place::{self, Contents},
};
use crate::{
    base::{clock, process, settings},
    call::operation::{Kind, Operation},
    lock::{Admission, CallInfo},
};
use core::sync::atomic::{Ordering, fence};

/// A call that waits, or is inside.
pub struct Call<'a> {
    place: &'a Place,
    operation: &'static Operation,
    /// The generation in which it began. In a child that was forked since, its device has no entry.
    generation: u32,
    contents: Contents,
    /// What the thread's slot said before: a signal handler's call has interrupted another one, or the call is in a section.
    outer: Contents,
    /// Whether `since` is exact, and the time inside is counted.
    is_timed: bool,
}

impl<'a> Call<'a> {
    /// The call waits for a lock.
    #[inline]
    pub fn waits(
        place: &'a Place,
        operation: &'static Operation,
        info: &CallInfo,
        is_on_device: bool,
    ) -> Self {
        Self::begin(place, operation, info, is_on_device, WAITING)
    }

    /// The call is observed: it is inside at once, however many others are.
    pub fn observed(
        place: &'a Place,
        operation: &'static Operation,
        info: &CallInfo,
        is_on_device: bool,
    ) -> Self {
        // A child may still have its parent's generation. The lock would find that out, but an observed call takes none.
        process::is_recorded(0);
        let call = Self::begin(place, operation, info, is_on_device, INSIDE);
        let (record, _) = begun(place);
        devices::count(record, call.contents.device);
        meet(record, operation.kind, is_on_device);
        call
    }

    /// The call is let through, because its memory is the host's.
    pub fn let_through(place: &'a Place, operation: &'static Operation, info: &CallInfo) -> Self {
        let (record, _) = begun(place);
        add_shared(&record.totals.let_through, 1);
        Self::begin(place, operation, info, false, LET_THROUGH)
    }

    #[inline(always)]
    fn begin(
        place: &'a Place,
        operation: &'static Operation,
        info: &CallInfo,
        is_on_device: bool,
        state: u64,
    ) -> Self {
        let (record, generation) = begun(place);
        let is_timed = counters::is_timed();
        let device = if settings::get().names_devices {
            // First: if the thread has no slot in this record yet, this also forgets the device's entry in the old record.
            place.slot(record, generation);
            place.device.entry(record, info.device)
        } else {
            info.device.bits() as u64
        };
        let contents = Contents {
            state,
            since: if is_timed {
                clock::now()
            } else {
                clock::at_last_tick()
            },
            waited: 0,
            operation: operation.index as u64,
            device,
            address: info.address.addr() as u64,
            length: info.length as u64,
            is_on_device: is_on_device.into(),
        };
        let outer = place.shown();
        place.show(&contents, record, generation);
        Self {
            place,
            operation,
            generation,
            contents,
            outer,
            is_timed,
        }
    }

    /// The call has taken the lock, and is inside.
    #[inline]
    pub fn enters(&mut self, admission: &Option<Admission>) {
        self.contents.state = INSIDE;
        let waited = admission.and_then(|admission| admission.waited);
        self.contents.waited = waited.unwrap_or(0);
        // Before it took a free lock, this thread may have been without a processor, while another one was inside: in the record,
        // both would be inside at once. Only a time that is read now is one at which this thread had the lock.
        if waited.is_some() || self.is_timed {
            self.contents.since = clock::now();
        }
        self.show(&self.contents);
    }

    /// The thread had the lock before, so the section is part of what it is in: the record shows that again.
    pub fn gives_way(&self) {
        self.show(&self.outer);
    }

    /// The call has ended. The caller still has the lock. (`None` for the admission: it had it before the call.)
    #[inline]
    pub fn ends(&self, admission: &Option<Admission>, failed: bool) -> Ended {
        let duration = self.duration();
        let (record, _) = begun(self.place);
        // In a section, the time is the section's.
        let inside = duration.filter(|_| admission.is_some());
        counters::count(record, self.operation, admission, failed, inside);
        self.leave(duration, failed)
    }

    /// The observed call has ended.
    pub fn ends_observed(&self, failed: bool) -> Ended {
        let duration = self.duration();
        // As in `observed`: a signal handler may have forked since.
        process::is_recorded(0);
        let (record, _) = begun(self.place);
        counters::count_observed(record, self.operation, failed, duration);
        self.leave(duration, failed)
    }

    /// The call that was let through has ended.
    pub fn ends_let_through(&self, failed: bool) -> Ended {
        self.leave(self.duration(), failed)
    }

    fn duration(&self) -> Option<u64> {
        self.is_timed
            .then(|| clock::now().saturating_sub(self.contents.since))
    }

    #[inline]
    fn leave(&self, duration: Option<u64>, failed: bool) -> Ended {
        self.show(&self.outer);
        Ended { duration, failed }
    }

    #[inline]
    fn show(&self, contents: &Contents) {
        let (record, generation) = begun(self.place);
        self.place
            .show(&self.in_process(contents, generation), record, generation);
    }

    /// What is known of the call in the process of this generation.
    fn in_process(&self, contents: &Contents, generation: u32) -> Contents {
        let mut contents = *contents;
        if generation != self.generation {
            contents.device = 0;
        }
        contents
    }

    /// Adds the call to the events, if there is a file. No lock is held: no other thread waits for it.
    #[inline]
    pub fn note(&self, ended: &Ended) {
        if let Some(duration) = ended.duration {
            let (record, generation) = begun(self.place);
            events::write(
                record,
                self.place.slot(record, generation),
                &self.in_process(&self.contents, generation),
                duration,
                ended.failed,
            );
        }
    }
}

/// How a call has ended.
pub struct Ended {
    duration: Option<u64>,
    failed: bool,
}

/// When a section began to be inside, and for how long it had waited, in nanoseconds.
#[derive(Clone, Copy, Default)]
pub struct Times {
    /// 0: nothing is recorded of the section.
    since: u64,
    waited: u64,
    is_timed: bool,
}

impl Times {
    /// In a forked child: the section was counted in the parent.
    pub fn untimed(self) -> Self {
        Self {
            is_timed: false,
            ..self
        }
    }
}

/// A section, from `mrlock_lock` to `mrlock_unlock`: one call, of which the thread keeps the `Times` in between.
impl<'a> Call<'a> {
    /// Counts the section, which is inside.
    pub fn counts(&self, admission: &Option<Admission>) {
        let (record, _) = begun(self.place);
        counters::count(record, self.operation, admission, false, None);
    }

    /// What `resumed` takes.
    pub fn times(&self) -> Times {
        Times {
            since: self.contents.since,
            waited: self.contents.waited,
            is_timed: self.is_timed,
        }
    }

    /// The section that this thread is in.
    pub fn resumed(place: &'a Place, operation: &'static Operation, times: Times) -> Self {
        let contents = Contents {
            state: INSIDE,
            since: times.since,
            waited: times.waited,
            operation: operation.index as u64,
            ..Contents::NONE
        };
        Self {
            place,
            operation,
            generation: 0,
            contents,
            outer: Contents::NONE,
            is_timed: times.is_timed,
        }
    }

    /// The section has ended. The caller still has the lock.
    pub fn ends_section(&self) -> Ended {
        let duration = self.duration();
        if let Some(duration) = duration {
            let (record, _) = begun(self.place);
            counters::add_time_inside(record, self.operation, duration);
        }
        // Zero: the section began within another call, which is still shown.
        if self.contents.since != 0 {
            self.show(&self.outer);
        }
        Ended {
            duration,
            failed: false,
        }
    }
}

/// Counts what is inside together with a call that has just been observed to enter.
fn meet(record: &Record, kind: Kind, is_on_device: bool) {
    // Each thread shows itself before it looks at the others: of two that are inside together, at least one sees the other.
    fence(Ordering::SeqCst);
    let (mut calls, mut frees, mut on_device) = count_inside(record);
    let meets = |frees: u64, on_device: u64| {
        if kind == Kind::Free {
            on_device > 0
        } else {
            is_on_device && frees > 0
        }
    };
    let most = &record.totals.most_at_once;
    if calls > most.load(Ordering::Relaxed) || meets(frees, on_device) {
        drop_ended(record);
        (calls, frees, on_device) = count_inside(record);
    }
    most.fetch_max(calls, Ordering::Relaxed);
    if meets(frees, on_device) {
        add_shared(&record.totals.frees_met, 1);
    }
}

/// How many registrations and deregistrations are inside; how many frees; and how many of the former on memory that may be the
/// GPU's.
fn count_inside(record: &Record) -> (u64, u64, u64) {
    let (mut calls, mut frees, mut on_device) = (0, 0, 0);
    // Slots are given from the first one on.
    let used = record
        .threads
        .iter()
        .take_while(|slot| slot.thread.load(Ordering::Relaxed) != 0);
    for slot in used.filter(|slot| slot.state.load(Ordering::SeqCst) == INSIDE) {
        let operation = slot.operation.load(Ordering::Relaxed) as usize;
        let kind = record.operations.get(operation);
        match kind.map(|it| it.kind.load(Ordering::Relaxed)) {
            Some(layout::KIND_FREE) => frees += 1,
            Some(layout::KIND_REGISTRATION | layout::KIND_DEREGISTRATION) => {
                calls += 1;
                on_device += slot.is_on_device.load(Ordering::Relaxed);
            }
            _ => {}
        }
    }
    (calls, frees, on_device)
}

/// Removes the calls of threads that have ended inside.
#[cold]
fn drop_ended(record: &Record) {
    for slot in &record.threads {
        let state = slot.state.load(Ordering::Relaxed);
        if state != OUTSIDE && place::has_ended(slot).is_some() {
            slot.state.store(OUTSIDE, Ordering::SeqCst);
        }
    }
}
