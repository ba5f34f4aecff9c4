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

/// Whether calls that would take the lock are observed or traced.
#[inline]
pub fn watches() -> bool {
    settings::get().is_watched
}

/// Whether calls that would take the lock are counted instead, without waiting.
pub fn observes() -> bool {
    settings::get().mode == Mode::Observe
}

/// Whether a call on this memory does not take the lock, because the kernel does not call nvidia-peermem for it.
#[inline]
pub fn lets_through(memory: Memory) -> bool {
    match memory {
        Memory::DmaBuf => true,
        _ if settings::get().memory == MemoryKind::Any => false,
        Memory::Unknown => false,
        Memory::At(region) => host_memory::is_host(region),
        Memory::Moved(old, new) => host_memory::is_host(old) && host_memory::is_host(new),
    }
}

/// Whether no GPU memory is freed while a registration or deregistration is under way.
#[inline]
pub fn excludes_frees() -> bool {
    settings::get().calls.free
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
