//! Which calls are serialized.

use crate::{
    config::{self, Config},
    hook::{Layer, Operation},
};

/// What a call does to the pages of a memory region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It pins pages: `ibv_reg_mr` and its variants, and `ibv_rereg_mr`, which also unpins the old ones.
    Registration,
    /// It unpins pages: `ibv_dereg_mr`. The documented nvidia-peermem races are between its free callback and the
    /// callbacks of a registration, so it is the other half of the same window.
    Deregistration,
}

/// Whether calls are caught at this layer at all.
pub fn catches(layer: Layer) -> bool {
    catches_under(config::get(), layer)
}

/// Whether this operation goes through the lock in this process.
#[inline]
pub fn serializes(operation: &Operation) -> bool {
    let config = config::get();
    catches_under(config, operation.layer)
        && match operation.kind {
            Kind::Registration => config.calls.reg,
            Kind::Deregistration => config.calls.dereg,
        }
}

#[inline]
fn catches_under(config: &Config, layer: Layer) -> bool {
    config.enabled
        && match layer {
            Layer::Verbs => config.hooks.verbs,
            Layer::Ioctl => config.hooks.ioctl,
        }
}
