//! Which calls are serialized.

use crate::{
    config::{self, Config, MemoryKind, Mode},
    memory,
    operation::{Kind, Layer, Memory},
};

/// Whether calls are caught at this layer at all.
pub fn catches(layer: Layer) -> bool {
    catches_under(config::get(), layer)
}

/// Whether calls of this kind that are caught at this layer take the lock in this process, or are observed.
#[inline]
pub fn serializes(kind: Kind, layer: Layer) -> bool {
    let config = config::get();
    catches_under(config, layer)
        && match kind {
            Kind::Registration => config.calls.reg,
            Kind::Deregistration => config.calls.dereg,
            Kind::Free => config.calls.free,
            Kind::Section => true,
        }
}

/// Whether calls that would take the lock are observed or traced.
#[inline]
pub fn watches() -> bool {
    config::get().is_watched
}

/// Whether calls that would take the lock are counted instead, without waiting.
pub fn observes() -> bool {
    config::get().mode == Mode::Observe
}

/// Whether a call on this memory does not take the lock, because the kernel does not call nvidia-peermem for it.
#[inline]
pub fn lets_through(memory: Memory) -> bool {
    match memory {
        Memory::DmaBuf => true,
        _ if config::get().memory == MemoryKind::Any => false,
        Memory::Unknown => false,
        Memory::At(region) => memory::is_host(region),
        Memory::Moved(old, new) => memory::is_host(old) && memory::is_host(new),
    }
}

/// Whether no GPU memory is freed while a registration or deregistration is under way.
#[inline]
pub fn excludes_frees() -> bool {
    config::get().calls.free
}

#[inline]
fn catches_under(config: &Config, layer: Layer) -> bool {
    match layer {
        Layer::Verbs => config.mode != Mode::Off && config.hooks.verbs,
        Layer::Ioctl => config.mode != Mode::Off && config.hooks.ioctl,
        // mrlock_lock() locks under all settings: its caller relies on it.
        Layer::Program => true,
    }
}
