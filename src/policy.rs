//! Which calls are serialized.

use crate::{
    config::{self, Config},
    hook::Layer,
};

/// What a call does to the pages of a memory region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It pins pages: `ibv_reg_mr` and its variants, and `ibv_rereg_mr`, which also unpins the old ones.
    Registration,
    /// It unpins pages: `ibv_dereg_mr`. The documented nvidia-peermem races are between its free callback and the
    /// callbacks of a registration, so it is the other half of the same window.
    Deregistration,
    /// The program knows: between `mrlock_lock` and `mrlock_unlock`.
    Section,
}

/// Whether calls are caught at this layer at all.
pub fn catches(layer: Layer) -> bool {
    catches_under(config::get(), layer)
}

/// Whether what is caught at this layer goes through the lock in this process.
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
        // A lock that is asked for by its name and does not lock would be a trap.
        Layer::Program => true,
    }
}
