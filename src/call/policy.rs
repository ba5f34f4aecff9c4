//! Which calls are serialized.

use crate::{
    base::settings::{self, MemoryKind, Mode, Settings},
    call::{
        host_memory,
        operation::{Kind, Layer, Memory},
    },
};

/// Whether calls are caught at this layer at all.
pub fn catches(layer: Layer) -> bool {
    catches_under(settings::get(), layer)
}

/// Whether calls of this kind that are caught at this layer take the lock in this process, or are observed.
#[inline]
pub fn serializes(kind: Kind, layer: Layer) -> bool {
    let settings = settings::get();
    catches_under(settings, layer)
        && match kind {
            Kind::Registration => settings.calls.reg,
            Kind::Deregistration => settings.calls.dereg,
            Kind::Free => settings.calls.free,
            Kind::Section => true,
        }
}

/// Whether calls that would take the lock are counted instead, without waiting.
#[inline]
pub fn observes() -> bool {
    settings::get().mode == Mode::Observe
}

/// What a call that is serialized has to wait for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Nothing: the kernel does not call nvidia-peermem for it.
    LetThrough,
    /// Other registrations and deregistrations.
    Serialized {
        /// And frees of GPU memory.
        meets_frees: bool,
    },
}

/// What a registration or deregistration of this memory has to wait for.
#[inline]
pub fn way(kind: Kind, memory: Memory) -> Way {
    let settings = settings::get();
    let spares_host = settings.memory == MemoryKind::Device;
    match memory {
        Memory::DmaBuf => return Way::LetThrough,
        // Noted in any case: its deregistration may come after the first free.
        Memory::OnDemand(_) => host_memory::note_on_demand(),
        _ => {}
    }
    // The question takes a microsecond, so it is asked only where the answer matters. Before the first free it does not: at
    // worst, that one free waits for a call on host memory. (CUDA makes it during its initialization, before there is GPU memory.)
    let keeps_frees_apart = settings.calls.free && host_memory::is_any_freed();
    let asks = spares_host || keeps_frees_apart || settings.mode == Mode::Observe;
    let is_host = asks && is_host(kind, memory);
    if spares_host && is_host {
        Way::LetThrough
    } else {
        Way::Serialized {
            meets_frees: settings.calls.free && !is_host,
        }
    }
}

/// Whether it is known that the kernel does not call nvidia-peermem for this memory.
fn is_host(kind: Kind, memory: Memory) -> bool {
    match memory {
        Memory::OnDemand(_) => true,
        // The pages of an on-demand region may be missing when it is deregistered: the question would bring them in, or wait
        // for the thread that does.
        _ if kind == Kind::Deregistration && host_memory::is_any_on_demand() => false,
        Memory::At(region) => host_memory::is_host(region),
        Memory::Moved(old, new) => host_memory::is_host(old) && host_memory::is_host(new),
        Memory::Unknown | Memory::DmaBuf => false,
    }
}

#[inline]
fn catches_under(settings: &Settings, layer: Layer) -> bool {
    match layer {
        Layer::Verbs => settings.mode != Mode::Off && settings.hooks.verbs,
        Layer::Ioctl => settings.mode != Mode::Off && settings.hooks.ioctl,
        // mrlock_lock() locks under all settings: its caller relies on it.
        Layer::Program => true,
    }
}
