//! What is serialized: the kind of call, the layer that catches it, the memory that it is applied to, and its place in the record.

use core::{ffi::c_void, ptr};

/// A row of the tables in `hook::verbs` and `hook::ioctl`, or a section between `mrlock_lock` and `mrlock_unlock`.
pub struct Operation {
    /// Its name in the report and in the log.
    pub name: &'static str,
    /// What it does to the pages.
    pub kind: Kind,
    /// Where it is caught.
    pub layer: Layer,
    /// Its place in the record.
    pub index: usize,
}

impl Operation {
    /// The operation with this place in the record.
    pub const fn new(index: usize, name: &'static str, kind: Kind, layer: Layer) -> Self {
        Self {
            name,
            kind,
            layer,
            index,
        }
    }
}

/// What a call does to the pages of a memory region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It pins pages: `ibv_reg_mr` and its variants, and `ibv_rereg_mr`, which also unpins the old ones.
    Registration,
    /// It unpins pages: `ibv_dereg_mr`.
    Deregistration,
    /// It frees GPU memory, which may be registered.
    Free,
    /// The program's own code between `mrlock_lock` and `mrlock_unlock`.
    Section,
}

/// Where a call is caught.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layer {
    /// On its way into libibverbs.
    Verbs,
    /// On its way into the kernel.
    Ioctl,
    /// In the program itself, which calls `mrlock_lock`.
    Program,
}

/// The memory that a call pins or unpins, as the call describes it.
#[derive(Clone, Copy)]
pub enum Memory {
    /// The call does not say.
    Unknown,
    /// One region.
    At(Region),
    /// One region whose registration pins nothing (`ON_DEMAND`): its pages may be missing, and are not asked.
    OnDemand(Region),
    /// An old region and the new one that takes its place.
    Moved(Region, Region),
    /// A dma-buf, which its exporter pins: the kernel does not call nvidia-peermem.
    DmaBuf,
}

/// A range of addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Its start.
    pub address: *const c_void,
    /// Its length in bytes.
    pub length: usize,
}

/// Of `enum ib_uverbs_access_flags`, and in libibverbs `IBV_ACCESS_ON_DEMAND`: nothing is pinned.
pub const ON_DEMAND: u32 = 1 << 6;

impl Memory {
    /// The memory of a registration of this region with these access flags.
    #[inline]
    pub fn with_access(region: Region, access: u32) -> Self {
        if access & ON_DEMAND != 0 {
            Self::OnDemand(region)
        } else {
            Self::At(region)
        }
    }

    /// The region to name in a message: null and empty if there is none.
    pub fn region(self) -> Region {
        match self {
            Self::At(region) | Self::OnDemand(region) | Self::Moved(_, region) => region,
            Self::Unknown | Self::DmaBuf => Region {
                address: ptr::null(),
                length: 0,
            },
        }
    }
}
