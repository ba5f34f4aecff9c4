//! The `ibv_*` entry points, one line each. What is exported, forwarded, counted and reported follows from this list.
//!
//! Signatures and versions: `<infiniband/verbs.h>` and `libibverbs.map.in` of rdma-core 44. A caller that is bound to
//! `ibv_reg_mr@IBVERBS_1.0` passes these by; its function calls `ibv_reg_mr_iova2`, which is here.

use super::{Layer, Operation, Region, serialize};
use crate::{errno::Errno, next, policy::Kind, stats::Counters};
use core::{
    ffi::{CStr, c_void},
    mem, ptr,
    sync::atomic::{AtomicBool, Ordering},
};
use libc::c_int;
use log::error;

macro_rules! entry_points {
    ($(
        $variant:ident $kind:ident $name:ident @@ $version:literal
        ($object:ident: *mut $object_type:ty $(, $argument:ident: $type:ty)*) -> $result:ty,
        region $region:expr; absent $absent:expr
    )*) => {
        /// A hooked function.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum EntryPoint { $($variant),* }

        static OPERATIONS: [Operation; EntryPoint::ALL.len()] = [$(Operation {
            name: stringify!($name),
            kind: Kind::$kind,
            layer: Layer::Verbs,
            counters: Counters::new(),
        }),*];

        impl EntryPoint {
            /// All of them; `ALL[e as usize] == e`.
            pub const ALL: [Self; [$(Self::$variant),*].len()] = [$(Self::$variant),*];

            /// Its ELF name.
            pub const fn symbol(self) -> &'static CStr {
                match self { $(Self::$variant => const { as_c_str(concat!(stringify!($name), "\0")) }),* }
            }

            /// Its ELF version.
            pub const fn version(self) -> &'static CStr {
                match self { $(Self::$variant => const { as_c_str(concat!($version, "\0")) }),* }
            }
        }

        $(
            export!($name @@ $version);

            unsafe extern "C" fn $name($object: *mut $object_type $(, $argument: $type)*) -> $result {
                // SAFETY: null or made by libibverbs, as the real function requires.
                let target = unsafe { next::target(EntryPoint::$variant, $object.cast()) };
                let Some(target) = target else { return $absent };
                type Function = unsafe extern "C" fn(*mut $object_type $(, $type)*) -> $result;
                // SAFETY: the target is libibverbs' own function of this name and version, so it has this type.
                let function = unsafe { mem::transmute::<next::Target, Function>(target) };
                // SAFETY: the arguments are the caller's, unchanged: it answers for them as it would without us.
                let call = || unsafe { function($object $(, $argument)*) };
                serialize(&OPERATIONS[EntryPoint::$variant as usize], $region, call)
            }
        )*
    };
}

/// The operations of this layer.
pub fn operations() -> impl Iterator<Item = &'static Operation> {
    OPERATIONS.iter()
}

/// `struct ibv_pd`, a protection domain. Never looked into.
#[expect(non_camel_case_types, reason = "the name that verbs gives it")]
enum ibv_pd {}

/// `struct ibv_mr`, a registered memory region. Never looked into.
#[expect(non_camel_case_types, reason = "the name that verbs gives it")]
enum ibv_mr {}

entry_points! {
    RegMr Registration ibv_reg_mr @@ "IBVERBS_1.1"
        (pd: *mut ibv_pd, address: *mut c_void, length: usize, access: c_int) -> *mut ibv_mr,
        region Region { address, length };
        absent unavailable(EntryPoint::RegMr, ptr::null_mut())

    RegMrIova Registration ibv_reg_mr_iova @@ "IBVERBS_1.7"
        (pd: *mut ibv_pd, address: *mut c_void, length: usize, iova: u64, access: c_int) -> *mut ibv_mr,
        region Region { address, length };
        absent unavailable(EntryPoint::RegMrIova, ptr::null_mut())

    RegMrIova2 Registration ibv_reg_mr_iova2 @@ "IBVERBS_1.8"
        (pd: *mut ibv_pd, address: *mut c_void, length: usize, iova: u64, access: u32) -> *mut ibv_mr,
        region Region { address, length };
        absent reg_mr_without_iova2(pd, address, length, iova, access)

    ReregMr Registration ibv_rereg_mr @@ "IBVERBS_1.1"
        (mr: *mut ibv_mr, flags: c_int, pd: *mut ibv_pd, address: *mut c_void, length: usize, access: c_int) -> c_int,
        region Region { address, length };
        absent unavailable(EntryPoint::ReregMr, IBV_REREG_MR_ERR_INPUT)

    DeregMr Deregistration ibv_dereg_mr @@ "IBVERBS_1.1"
        (mr: *mut ibv_mr) -> c_int,
        region Region::UNKNOWN;
        absent unavailable(EntryPoint::DeregMr, libc::ENOSYS)
}

/// "Old MR is valid, invalid input": of `enum ibv_rereg_mr_err_code`, the one that says that nothing was done.
const IBV_REREG_MR_ERR_INPUT: c_int = -1;

/// `IBV_ACCESS_OPTIONAL_RANGE` of `<infiniband/verbs.h>`: bits 20 to 29, which a device may ignore.
const IBV_ACCESS_OPTIONAL_RANGE: u32 = 0x3ff0_0000;

/// What a program does whose libibverbs has no `ibv_reg_mr_iova2` (before rdma-core 28). With the preload it sees one,
/// and asks here for what it would have asked `ibv_reg_mr`: optional access is dropped, as an old kernel would drop it.
fn reg_mr_without_iova2(
    pd: *mut ibv_pd,
    address: *mut c_void,
    length: usize,
    iova: u64,
    access: u32,
) -> *mut ibv_mr {
    if iova != address as u64 {
        return unavailable(EntryPoint::RegMrIova2, ptr::null_mut());
    }
    let access = (access & !IBV_ACCESS_OPTIONAL_RANGE) as c_int;
    // SAFETY: the caller's own arguments; it answers for them as in a call of ibv_reg_mr.
    unsafe { ibv_reg_mr(pd, address, length, access) }
}

/// The result of a call whose function is nowhere in this process: `failure`, with errno ENOSYS. Says so once.
#[cold]
fn unavailable<R>(entry: EntryPoint, failure: R) -> R {
    static SAID: [AtomicBool; EntryPoint::ALL.len()] =
        [const { AtomicBool::new(false) }; EntryPoint::ALL.len()];
    // Relaxed: the flag orders nothing, it only keeps a line from being repeated.
    if !SAID[entry as usize].swap(true, Ordering::Relaxed) {
        error!(
            "{name}@{version}: not defined by any library of this process, the call fails with ENOSYS; \
             load libibverbs.so.1 first",
            name = OPERATIONS[entry as usize].name,
            version = entry.version().to_bytes().escape_ascii(),
        );
    }
    Errno::set(libc::ENOSYS);
    failure
}

/// `text`, which ends with NUL, as a C string. Evaluated by the compiler only.
const fn as_c_str(text: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(text) => text,
        Err(_) => panic!("a NUL inside or none at the end"),
    }
}
