//! Which calls are serialized.

use crate::config;

/// What a call does to the pages of a memory region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It pins pages: `ibv_reg_mr` and its variants, and `ibv_rereg_mr`, which also unpins the old ones.
    Registration,
    /// It unpins pages: `ibv_dereg_mr`. The documented nvidia-peermem races are between its free callback and the
    /// callbacks of a registration, so it is the other half of the same window.
    Deregistration,
}

/// Whether calls of this kind go through the lock in this process.
pub fn serializes(kind: Kind) -> bool {
    let config = config::get();
    config.enabled
        && match kind {
            Kind::Registration => config.calls.reg,
            Kind::Deregistration => config.calls.dereg,
        }
}
