//! The `ibv_*` entry points, one line each. What is exported, forwarded, counted and reported follows from this list.
//!
//! Signatures and versions: `<infiniband/verbs.h>` and `libibverbs.map.in` of rdma-core 44. A caller that is bound to
//! `ibv_reg_mr@IBVERBS_1.0` bypasses these hooks; its function calls `ibv_reg_mr_iova2`, which is here.

use super::serialize::serialize;
use crate::{
    base::{sys::Errno, text::as_c_str},
    call::{
        device::Device,
        host_memory,
        operation::{Kind, Layer, Memory, ON_DEMAND, Operation, Region},
    },
    resolve::{Found, Resolver, Symbol, Target},
};
use core::{
    ffi::c_void,
    mem, ptr,
    sync::atomic::{AtomicBool, Ordering},
};
use libc::c_int;
use log::error;

macro_rules! entry_points {
    ($(
        $kind:ident fn $name:ident($object:ident: *mut $object_type:ty $(, $argument:ident: $type:ty)*) -> $result:ty,
        version $version:literal, memory $memory:expr, absent $absent:expr;
    )*) => {
        /// The hooked functions, as indices.
        #[allow(non_camel_case_types, reason = "the names that verbs gives them")]
        #[derive(Clone, Copy)]
        enum EntryPoint { $($name),* }

        /// How many there are.
        const ENTRY_POINTS: usize = [$(EntryPoint::$name),*].len();

        static OPERATIONS: [Operation; ENTRY_POINTS] =
            [$(Operation::new(EntryPoint::$name as usize, stringify!($name), Kind::$kind, Layer::Verbs)),*];

        #[unsafe(link_section = ".sbss.large")]
        static FOUND: Found<ENTRY_POINTS> = Found::new();
        static RESOLVER: Resolver<ENTRY_POINTS> = Resolver::new([$(Symbol {
            name: as_c_str(concat!(stringify!($name), "\0")),
            version: as_c_str(concat!($version, "\0")),
        }),*], &FOUND);

        $(
            #[cfg(feature = "verbs")]
            export!($name @@ $version);
            // For the compiler, it is in use nevertheless.
            #[cfg(not(feature = "verbs"))]
            const _: unsafe extern "C" fn(*mut $object_type $(, $type)*) -> $result = $name;

            unsafe extern "C" fn $name($object: *mut $object_type $(, $argument: $type)*) -> $result {
                // SAFETY: null or made by libibverbs, as the real function requires.
                let target = unsafe { RESOLVER.target(EntryPoint::$name as usize, $object.cast()) };
                let Some(target) = target else { return $absent };
                type Function = unsafe extern "C" fn(*mut $object_type $(, $type)*) -> $result;
                // SAFETY: the target is libibverbs' own function of this name and version, so it has this type.
                let function = unsafe { mem::transmute::<Target, Function>(target) };
                // SAFETY: the arguments are the caller's, unchanged: it guarantees what the function requires.
                let call = || unsafe { function($object $(, $argument)*) };
                let device = Device::of_object($object.cast());
                serialize(&OPERATIONS[EntryPoint::$name as usize], device, $memory, call)
            }
        )*
    };
}

/// How many operations there are: none in libmrlock-ioctl.so, which does not export the functions, so that nothing calls them.
pub const COUNT: usize = if cfg!(feature = "verbs") {
    ENTRY_POINTS
} else {
    0
};

/// The operations of this layer.
pub fn operations() -> impl Iterator<Item = &'static Operation> + Clone {
    OPERATIONS.iter().take(COUNT)
}

/// Looks up the functions to forward to. Called once by our constructor.
pub fn find_next() {
    if cfg!(feature = "verbs") {
        RESOLVER.find_in_global_scope();
    }
}

/// `struct ibv_pd`, a protection domain. Its fields are not used here.
#[expect(non_camel_case_types, reason = "the name that verbs gives it")]
enum ibv_pd {}

/// `struct ibv_mr`, a registered memory region, as far as we read it: the same in every version from 1.1 on.
#[allow(non_camel_case_types, reason = "the name that verbs gives it")]
#[repr(C)]
struct ibv_mr {
    context: *const c_void,
    pd: *const ibv_pd,
    addr: *mut c_void,
    length: usize,
}

/// `struct ibv_mr_init_attr` of rdma-core 61, as far as we read it.
#[allow(non_camel_case_types, reason = "the name that verbs gives it")]
#[repr(C)]
struct ibv_mr_init_attr {
    length: usize,
    access: c_int,
    comp_mask: u64,
    iova: u64,
    addr: *mut c_void,
}

/// The same of rdma-core 65, for a caller whose `comp_mask` has `IBV_REG_MR_MASK_BUF`.
#[repr(C)]
struct WithBuffer {
    before: ibv_mr_init_attr,
    fd: c_int,
    fd_offset: u64,
    dmah: *const c_void,
    buf: *const ibv_buf,
}

/// `struct ibv_buf` of rdma-core 65, which `ibv_alloc_buf` makes. It is private to libibverbs and its drivers.
#[repr(C)]
struct ibv_buf {
    addr: *mut c_void,
    size: usize,
    pd: *const ibv_pd,
    dmabuf_fd: c_int,
}

// enum ibv_mr_init_attr_mask
const IBV_REG_MR_MASK_IOVA: u64 = 1 << 0;
const IBV_REG_MR_MASK_ADDR: u64 = 1 << 1;
const IBV_REG_MR_MASK_FD: u64 = 1 << 2;
const IBV_REG_MR_MASK_BUF: u64 = 1 << 5;

/// `IBV_REREG_MR_CHANGE_TRANSLATION`: the region gets other memory.
const IBV_REREG_MR_CHANGE_TRANSLATION: c_int = 1 << 0;

/// `IBV_REREG_MR_CHANGE_ACCESS`: it gets other access flags.
const IBV_REREG_MR_CHANGE_ACCESS: c_int = 1 << 2;

/// The memory that a registration with these access flags describes.
fn at(address: *const c_void, length: usize, access: u32) -> Memory {
    Memory::with_access(Region { address, length }, access)
}

/// The memory of a region that is registered.
fn registered(mr: *const ibv_mr) -> Memory {
    // SAFETY: null or made by libibverbs, as the real function requires, and not deregistered yet.
    match unsafe { mr.as_ref() } {
        Some(mr) => at(mr.addr, mr.length, 0),
        None => Memory::Unknown,
    }
}

/// The memory that a re-registration unpins and pins.
fn moved(
    mr: *const ibv_mr,
    flags: c_int,
    address: *const c_void,
    length: usize,
    access: c_int,
) -> Memory {
    if flags & IBV_REREG_MR_CHANGE_ACCESS != 0 && access as u32 & ON_DEMAND != 0 {
        // Its deregistration does not say that it is on demand.
        host_memory::note_on_demand();
        return Memory::Unknown;
    }
    match registered(mr) {
        Memory::At(old) if flags & IBV_REREG_MR_CHANGE_TRANSLATION != 0 => {
            Memory::Moved(old, Region { address, length })
        }
        old => old,
    }
}

/// The memory that `ibv_reg_mr_ex` is to register.
fn described(pd: *const ibv_pd, attributes: *const ibv_mr_init_attr) -> Memory {
    // SAFETY: null or valid, as the real function requires.
    let Some(known) = (unsafe { attributes.as_ref() }) else {
        return Memory::Unknown;
    };
    let has = |mask| known.comp_mask & mask != 0;
    // SAFETY: called only if IBV_REG_MR_MASK_BUF is set. A caller that sets it has a structure with this field.
    let buffer = || unsafe { (*attributes.cast::<WithBuffer>()).buf };
    if has(IBV_REG_MR_MASK_FD) || has(IBV_REG_MR_MASK_BUF) && is_dma_buf(buffer(), pd) {
        Memory::DmaBuf
    } else if has(IBV_REG_MR_MASK_ADDR) {
        at(known.addr, known.length, known.access as u32)
    } else {
        Memory::Unknown
    }
}

/// Whether a buffer is a dma-buf. libibverbs registers a buffer in its own domain alone: if the domain is another one, the call
/// fails, or a later version has changed the structure. (Were this wrong for such a version, the ioctl hook would still find the
/// address in the request, and serialize that.)
fn is_dma_buf(buffer: *const ibv_buf, pd: *const ibv_pd) -> bool {
    // SAFETY: null or made by `ibv_alloc_buf`, as the real function requires.
    unsafe { buffer.as_ref() }.is_some_and(|buffer| buffer.pd == pd && buffer.dmabuf_fd >= 0)
}

entry_points! {
    Registration fn ibv_reg_mr(pd: *mut ibv_pd, address: *mut c_void, length: usize, access: c_int) -> *mut ibv_mr,
        version "IBVERBS_1.1", memory at(address, length, access as u32),
        absent unavailable(EntryPoint::ibv_reg_mr, ptr::null_mut());

    Registration fn ibv_reg_mr_iova(
        pd: *mut ibv_pd, address: *mut c_void, length: usize, iova: u64, access: c_int) -> *mut ibv_mr,
        version "IBVERBS_1.7", memory at(address, length, access as u32),
        absent unavailable(EntryPoint::ibv_reg_mr_iova, ptr::null_mut());

    Registration fn ibv_reg_mr_iova2(
        pd: *mut ibv_pd, address: *mut c_void, length: usize, iova: u64, access: u32) -> *mut ibv_mr,
        version "IBVERBS_1.8", memory at(address, length, access),
        absent reg_mr_without_iova2(pd, address, length, iova, access);

    Registration fn ibv_reg_mr_ex(pd: *mut ibv_pd, attributes: *mut ibv_mr_init_attr) -> *mut ibv_mr,
        version "IBVERBS_1.15", memory described(pd, attributes),
        absent reg_mr_without_ex(pd, attributes);

    Registration fn ibv_rereg_mr(
        mr: *mut ibv_mr, flags: c_int, pd: *mut ibv_pd, address: *mut c_void, length: usize, access: c_int) -> c_int,
        version "IBVERBS_1.1", memory moved(mr, flags, address, length, access),
        absent unavailable(EntryPoint::ibv_rereg_mr, IBV_REREG_MR_ERR_INPUT);

    Deregistration fn ibv_dereg_mr(mr: *mut ibv_mr) -> c_int,
        version "IBVERBS_1.1", memory registered(mr),
        absent unavailable(EntryPoint::ibv_dereg_mr, libc::ENOSYS);
}

/// Of `enum ibv_rereg_mr_err_code`: the input is invalid, and the old region is still valid.
const IBV_REREG_MR_ERR_INPUT: c_int = -1;

/// `IBV_ACCESS_OPTIONAL_RANGE` of `<infiniband/verbs.h>`: bits 20 to 29, which a device may ignore.
const IBV_ACCESS_OPTIONAL_RANGE: u32 = 0x3ff0_0000;

/// For a program whose libibverbs has no `ibv_reg_mr_iova2` (before rdma-core 28). With the preload, the program finds one, and
/// calls it instead of an older function. Optional access flags are dropped, as an old kernel would drop them.
fn reg_mr_without_iova2(
    pd: *mut ibv_pd,
    address: *mut c_void,
    length: usize,
    iova: u64,
    access: u32,
) -> *mut ibv_mr {
    let access = (access & !IBV_ACCESS_OPTIONAL_RANGE) as c_int;
    if iova == address as u64 {
        // SAFETY: the caller's own arguments; it guarantees for them what ibv_reg_mr requires.
        return unsafe { ibv_reg_mr(pd, address, length, access) };
    }
    // Since rdma-core 25.
    // SAFETY: null or made by libibverbs, as the real function requires.
    if unsafe { RESOLVER.target(EntryPoint::ibv_reg_mr_iova as usize, pd.cast()) }.is_none() {
        return unavailable(EntryPoint::ibv_reg_mr_iova2, ptr::null_mut());
    }
    // SAFETY: as for ibv_reg_mr.
    unsafe { ibv_reg_mr_iova(pd, address, length, iova, access) }
}

/// For a program whose libibverbs has no `ibv_reg_mr_ex` (before rdma-core 61). Without the preload, the program would not find
/// the function; with it, it does. The older functions do what they can. (They cannot register a dma-buf.)
fn reg_mr_without_ex(pd: *mut ibv_pd, attributes: *mut ibv_mr_init_attr) -> *mut ibv_mr {
    const ADDR_AND_IOVA: u64 = IBV_REG_MR_MASK_ADDR | IBV_REG_MR_MASK_IOVA;
    // SAFETY: null or valid, as the real function requires.
    let attributes = unsafe { attributes.as_ref() };
    let Some(&ibv_mr_init_attr {
        length,
        access,
        comp_mask,
        iova,
        addr,
    }) = attributes
    else {
        return unavailable(EntryPoint::ibv_reg_mr_ex, ptr::null_mut());
    };
    let iova = match comp_mask {
        IBV_REG_MR_MASK_ADDR => addr as u64,
        ADDR_AND_IOVA => iova,
        _ => return unavailable(EntryPoint::ibv_reg_mr_ex, ptr::null_mut()),
    };
    // SAFETY: the caller's own arguments; it guarantees for them what ibv_reg_mr_iova2 requires.
    unsafe { ibv_reg_mr_iova2(pd, addr, length, iova, access as u32) }
}

/// The result of a call whose function no library of this process defines: `failure`, with errno ENOSYS. Logs this once.
#[cold]
fn unavailable<R>(entry: EntryPoint, failure: R) -> R {
    static SAID: [AtomicBool; ENTRY_POINTS] = [const { AtomicBool::new(false) }; ENTRY_POINTS];
    // Relaxed: the flag orders nothing, it only keeps a line from being repeated.
    if !SAID[entry as usize].swap(true, Ordering::Relaxed) {
        error!(
            "{}: not defined by any library of this process, the call fails with ENOSYS; load libibverbs.so.1 first",
            RESOLVER.symbol(entry as usize)
        );
    }
    Errno::set(libc::ENOSYS);
    failure
}
