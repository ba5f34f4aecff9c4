//! The function that the caller would have reached without us.
//!
//! The dynamic linker binds a call to the first definition in the global scope or, failing that, to one in the scope that the
//! caller was loaded with. We are in the global scope, so we go on behind ourselves: there is the next definition, in every
//! program that is linked to libibverbs, and it is everybody's.
//!
//! A Python process has none there: libibverbs came with an extension module, outside the global scope, and there may be a
//! second copy with another one. Which copy a call is for is told by what it is applied to. A protection domain or memory
//! region is good in the copy that made it and fatal in any other, so no working program passes it to another. (Who
//! calls is no evidence: in Debian's build the inner call of `ibv_reg_mr` is a jump, and returns to NCCL, which has
//! no libibverbs of its own; a call may also come through a pointer or a wrapper.)

use crate::{errno::Errno, hook::EntryPoint};
use core::{
    ffi::{CStr, c_char, c_void},
    fmt,
    mem::{self, MaybeUninit},
    ptr::{self, NonNull},
    sync::atomic::{AtomicPtr, AtomicUsize, Ordering},
};
use libc::{RTLD_DEFAULT, RTLD_LAZY, RTLD_NEXT, RTLD_NOLOAD, c_int};
use log::debug;

/// The address of a function to forward to.
pub type Target = NonNull<c_void>;

/// How `struct ibv_pd` and `struct ibv_mr` begin, in every version of `<infiniband/verbs.h>`.
#[repr(C)]
pub struct Object {
    context: *const Context,
}

/// How `struct ibv_context` begins. `ibv_poll_cq` is an inline function that reads `poll_cq`: every program compiled since
/// rdma-core's beginnings relies on where it is.
#[repr(C)]
struct Context {
    device: *const c_void,
    operations_before_poll_cq: [*const c_void; 11],
    poll_cq: *const c_void,
}

/// The function of the device's driver that tells one copy of libibverbs from another: a copy loads drivers of its own.
///
/// # Safety
///
/// `object` is null, or points to what a libibverbs made.
#[inline]
unsafe fn driver_function(object: *const Object) -> *const c_void {
    // SAFETY: as above; what the real function is about to look into, this may look into.
    unsafe { object.as_ref().and_then(|object| object.context.as_ref()) }
        .map_or(ptr::null(), |context| context.poll_cq)
}

/// The function for a call of `entry` that is applied to `object`, if there is one in this process.
///
/// Looks it up at most once for each copy of libibverbs, all entry points together: a call from within a call must find its
/// function without asking the loader, because the lock is held then. What is not found is looked up again next time. Leaves
/// errno alone.
///
/// # Safety
///
/// `object` is null, or points to what a libibverbs made.
#[inline]
pub unsafe fn target(entry: EntryPoint, object: *const Object) -> Option<Target> {
    // SAFETY: passed on to the caller.
    GLOBAL.get(entry).or_else(|| unsafe { own(entry, object) })
}

/// The function of the copy that made `object`, where there is none for everybody.
///
/// # Safety
///
/// As for `target`.
#[inline(never)]
unsafe fn own(entry: EntryPoint, object: *const Object) -> Option<Target> {
    // SAFETY: passed on to the caller.
    let driver = unsafe { driver_function(object) };
    BY_DRIVER.get(driver, entry).or_else(|| find(driver, entry))
}

/// Looks behind us in the global scope. Called once by our constructor, when there is no other thread and the program's own
/// libraries are there; what comes into that scope later is found when it is first called for.
pub fn find_in_global_scope() {
    GLOBAL.set(&EntryPoint::ALL.map(next_in_global_scope));
    forget_failures();
}

#[cold]
fn find(driver: *const c_void, entry: EntryPoint) -> Option<Target> {
    let errno = Errno::save();
    let module = module_of(driver);
    let found = EntryPoint::ALL.map(|entry| {
        let own = module.as_ref().and_then(|module| module.find(entry));
        own.map(keep_loaded)
            .or_else(|| next_in_global_scope(entry))
            .or_else(|| Module::loaded(LIBIBVERBS)?.find(entry).map(keep_loaded))
    });
    forget_failures();
    let target = found[entry as usize];
    if target.is_some() {
        BY_DRIVER.insert(driver, &found);
    }
    drop(module);
    errno.restore();
    target
}

/// Forgets what our look-ups left for dlerror() to report. (Had the host something to ask it for, that is gone since glibc
/// began the first of them.)
fn forget_failures() {
    // SAFETY: dlerror() has no preconditions.
    unsafe { libc::dlerror() };
}

/// Its soname, by which the loader knows it wherever it came from.
const LIBIBVERBS: &CStr = c"libibverbs.so.1";

/// Whether this process has loaded the system's libibverbs.
pub fn is_libibverbs_loaded() -> bool {
    Module::loaded(LIBIBVERBS).is_some()
}

/// Whether who is loaded as we are, and calls a function of this name, calls ours. Asks the loader.
pub fn is_bound_to_us(symbol: &CStr) -> bool {
    // SAFETY: the name is NUL-terminated.
    let first = unsafe { libc::dlsym(RTLD_DEFAULT, symbol.as_ptr()) };
    // SAFETY: as above.
    let is_before_another = || !unsafe { libc::dlsym(RTLD_NEXT, symbol.as_ptr()) }.is_null();
    let ours = match describe(first) {
        // The main program. A program that is not position-independent and takes the function's address has a stub of that
        // name, which jumps to the first real definition: ours, unless there is none behind us.
        Some(module) if module.file.is_empty() => is_before_another(),
        Some(module) => Some(module.base) == our_base(),
        None => false,
    };
    forget_failures();
    ours
}

/// The definition behind ours. Another library that stands in for libibverbs may have it without a version, and dlvsym()
/// passes by those; but of several versions in one module, dlsym() takes the oldest, before glibc 2.36.
fn next_in_global_scope(entry: EntryPoint) -> Option<Target> {
    let (symbol, version) = (entry.symbol().as_ptr(), entry.version().as_ptr());
    // SAFETY: the name is NUL-terminated.
    let first = NonNull::new(unsafe { libc::dlsym(RTLD_NEXT, symbol) })?;
    // SAFETY: both strings are NUL-terminated.
    let ours = NonNull::new(unsafe { libc::dlvsym(RTLD_NEXT, symbol, version) });
    let module = |target: Target| describe(target.as_ptr()).map(|module| module.base);
    let found = ours.filter(|&ours| module(ours) == module(first));
    Some(keep_loaded(found.unwrap_or(first)))
}

/// A module that is loaded already, kept loaded while this value lives.
struct Module(NonNull<c_void>);

impl Module {
    fn loaded(name: &CStr) -> Option<Self> {
        // SAFETY: the name is NUL-terminated. With RTLD_NOLOAD nothing is loaded and no constructor runs.
        NonNull::new(unsafe { libc::dlopen(name.as_ptr(), RTLD_NOLOAD | RTLD_LAZY) }).map(Self)
    }

    /// The first definition in this module and its dependencies, unless that is our own. One without a version will do: a
    /// module with libibverbs built in may have left the versions out.
    fn find(&self, entry: EntryPoint) -> Option<Target> {
        let (handle, symbol) = (self.0.as_ptr(), entry.symbol().as_ptr());
        // SAFETY: the handle is open; both strings are NUL-terminated.
        let versioned =
            NonNull::new(unsafe { libc::dlvsym(handle, symbol, entry.version().as_ptr()) });
        // SAFETY: as above.
        let found = versioned.or_else(|| NonNull::new(unsafe { libc::dlsym(handle, symbol) }))?;
        (describe(found.as_ptr())?.base != our_base()?).then_some(found)
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: the handle is open and not used again.
        unsafe { libc::dlclose(self.0.as_ptr()) };
    }
}

/// The module that contains `address`.
fn module_of(address: *const c_void) -> Option<Module> {
    // The main program has no name, and is never unloaded.
    describe(address)
        .filter(|module| !module.file.is_empty())
        .and_then(|module| Module::loaded(module.file))
}

/// Makes sure that `target` is never unloaded: its address may be called until the process ends.
fn keep_loaded(target: Target) -> Target {
    mem::forget(module_of(target.as_ptr()));
    target
}

/// What the loader knows of the module that contains an address.
struct Description {
    /// Where it is loaded: no two modules have the same.
    base: usize,
    /// The file that it came from; empty for the main program.
    file: &'static CStr,
}

/// `struct link_map` of `<link.h>`, as far as we read it.
#[repr(C)]
struct LinkMap {
    base: usize,
    name: *const c_char,
}

unsafe extern "C" {
    /// dladdr(3), with the module's `struct link_map` for `RTLD_DL_LINKMAP`.
    safe fn dladdr1(
        address: *const c_void,
        info: &mut MaybeUninit<libc::Dl_info>,
        extra: &mut *const LinkMap,
        flags: c_int,
    ) -> c_int;
}
const RTLD_DL_LINKMAP: c_int = 2;

/// Where we are loaded.
fn our_base() -> Option<usize> {
    describe(find as *const c_void).map(|module| module.base)
}

/// Describes the module that contains `address`. Good as long as the module is loaded: the caller knows that it is in use.
fn describe(address: *const c_void) -> Option<Description> {
    let (mut info, mut module) = (MaybeUninit::uninit(), ptr::null());
    if dladdr1(address, &mut info, &mut module, RTLD_DL_LINKMAP) == 0 {
        return None;
    }
    // SAFETY: found, so it points to the loader's own record of the module.
    let LinkMap { base, name } = unsafe { module.read() };
    // SAFETY: NUL-terminated, and it lives as long as the module.
    let file = unsafe { CStr::from_ptr(name) };
    Some(Description { base, file })
}

/// For the log: the module that a function is in.
struct Location(Target);

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match describe(self.0.as_ptr()) {
            Some(module) if !module.file.is_empty() => {
                write!(formatter, "{}", module.file.to_bytes().escape_ascii())
            }
            _ => write!(formatter, "{:p}", self.0),
        }
    }
}

/// What was found behind us in the global scope when we were loaded. It stays the first there: what is loaded later comes
/// behind it.
static GLOBAL: Targets = Targets::new();

/// What was found for each copy of libibverbs, by a function of its driver. Fixed in size: a driver that finds no room is
/// looked up at every call, which costs some microseconds and is otherwise the same.
static BY_DRIVER: ByDriver = ByDriver(
    [const {
        Slot {
            driver: AtomicUsize::new(FREE),
            targets: Targets::new(),
        }
    }; SLOTS],
);

/// A driver has a few functions of this kind, a process one or two drivers.
const SLOTS: usize = 32;

/// A function for each entry point, or null. Each is good by itself: code that stays loaded.
struct Targets([AtomicPtr<c_void>; EntryPoint::ALL.len()]);

impl Targets {
    const fn new() -> Self {
        Self([const { AtomicPtr::new(ptr::null_mut()) }; EntryPoint::ALL.len()])
    }

    #[inline]
    fn get(&self, entry: EntryPoint) -> Option<Target> {
        // Relaxed: nothing else depends on it.
        NonNull::new(self.0[entry as usize].load(Ordering::Relaxed))
    }

    fn set(&self, found: &[Option<Target>; EntryPoint::ALL.len()]) {
        for entry in EntryPoint::ALL {
            if let Some(target) = found[entry as usize] {
                debug!(
                    "{}: calls go to {}",
                    entry.symbol().to_bytes().escape_ascii(),
                    Location(target)
                );
                self.0[entry as usize].store(target.as_ptr(), Ordering::Relaxed);
            }
        }
    }
}

struct ByDriver([Slot; SLOTS]);

struct Slot {
    /// `FREE`, or `CLAIMED` until the targets are there, or the address of the function plus `FIRST_KEY`: there may be none.
    driver: AtomicUsize,
    targets: Targets,
}

const FREE: usize = 0;
const CLAIMED: usize = 1;
const FIRST_KEY: usize = 2;

impl ByDriver {
    #[inline]
    fn get(&self, driver: *const c_void, entry: EntryPoint) -> Option<Target> {
        let key = (driver as usize).wrapping_add(FIRST_KEY);
        for slot in &self.0 {
            // Acquire pairs with the Release in `insert`: all the targets are there.
            match slot.driver.load(Ordering::Acquire) {
                FREE => return None,
                found if found == key => return slot.targets.get(entry),
                _ => {}
            }
        }
        None
    }

    fn insert(&self, driver: *const c_void, found: &[Option<Target>; EntryPoint::ALL.len()]) {
        let key = (driver as usize).wrapping_add(FIRST_KEY);
        for slot in &self.0 {
            // Relaxed: claiming publishes nothing.
            match slot
                .driver
                .compare_exchange(FREE, CLAIMED, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => {}
                Err(known) if known == key => {}
                Err(_) => continue,
            }
            slot.targets.set(found);
            // Release pairs with the Acquire in `get`.
            slot.driver.store(key, Ordering::Release);
            return;
        }
    }
}
