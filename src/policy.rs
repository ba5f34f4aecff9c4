//! Which calls are serialized.

use crate::{
    config::{self, Config},
    operation::{Kind, Layer},
};

/// Whether calls are caught at this layer at all.
pub fn catches(layer: Layer) -> bool {
    catches_under(config::get(), layer)
}

/// Whether calls of this kind that are caught at this layer take the lock in this process.
#[inline]
pub fn serializes(kind: Kind, layer: Layer) -> bool {
    let config = config::get();
    catches_under(config, layer)
        && match kind {
            Kind::Registration => config.calls.reg,
            Kind::Deregistration => config.calls.dereg,
            Kind::Section => true,
        }
}

#[inline]
fn catches_under(config: &Config, layer: Layer) -> bool {
    match layer {
        Layer::Verbs => config.enabled && config.hooks.verbs,
        Layer::Ioctl => config.enabled && config.hooks.ioctl,
        // mrlock_lock() locks whatever the settings say: a lock that does not lock would be a trap.
        Layer::Program => true,
    }
}
