//! The function that the caller would have reached without us.
//!
//! The dynamic linker binds a symbol to the first definition in the global scope or, failing that, in the scope of the
//! caller's own module. With us in the global scope it stops here, so we go on where it would have gone on: the next
//! definition in the global scope; else the first in the caller's module and its dependencies (a Python extension brings
//! libibverbs along without making it global); else, for code that belongs to no module, the libibverbs that is loaded.

use crate::hook::EntryPoint;
use core::{
    ffi::{CStr, c_void},
    fmt,
    mem::{self, MaybeUninit},
    ptr::{self, NonNull},
    sync::atomic::{AtomicPtr, AtomicUsize, Ordering},
};
use libc::{RTLD_LAZY, RTLD_NEXT, RTLD_NOLOAD};
use log::debug;

/// The address of a function to forward to.
pub type Target = NonNull<c_void>;

const ENTRY_POINTS: usize = EntryPoint::ALL.len();

/// What one caller's calls are forwarded to, for every entry point. Found all at once, because a call that comes from
/// within a call may no longer look anything up.
#[derive(Clone, Copy)]
pub struct Family([*mut c_void; ENTRY_POINTS]);

impl Family {
    /// The function for `entry`, if this caller has one.
    #[inline]
    pub fn get(&self, entry: EntryPoint) -> Option<Target> {
        NonNull::new(self.0[entry as usize])
    }
}

/// The family of the code that continues at `caller`. Complete as far as it is known; looked up (again) if it has no
/// function for `entry`: a library that is not there yet may be loaded later.
#[inline]
pub fn family(caller: *const c_void, entry: EntryPoint) -> Family {
    match KNOWN.get(caller) {
        Some(family) if family.get(entry).is_some() => family,
        _ => find(caller, entry),
    }
}

#[cold]
fn find(caller: *const c_void, entry: EntryPoint) -> Family {
    let caller_module = module_of(caller);
    let family = Family(EntryPoint::ALL.map(|entry| {
        let found = next_in_global_scope(entry)
            .or_else(|| caller_module.as_ref().and_then(|module| module.find(entry)))
            .or_else(|| Module::loaded(LIBIBVERBS).and_then(|module| module.find(entry)));
        found.map_or(ptr::null_mut(), keep_loaded)
    }));
    // SAFETY: dlerror() has no preconditions. It forgets what our failed look-ups left for it to report, so that the
    // host does not find it there.
    unsafe { libc::dlerror() };
    if let Some(target) = family.get(entry) {
        debug!(
            "{}: a call from {} goes to {}",
            entry.name(),
            Location(caller),
            Location(target.as_ptr())
        );
        KNOWN.insert(caller, &family);
    }
    family
}

/// Its soname, by which the loader knows it wherever it came from.
const LIBIBVERBS: &CStr = c"libibverbs.so.1";

/// Whether this process has loaded the system's libibverbs.
pub fn is_libibverbs_loaded() -> bool {
    Module::loaded(LIBIBVERBS).is_some()
}

fn next_in_global_scope(entry: EntryPoint) -> Option<Target> {
    // SAFETY: both strings are NUL-terminated.
    NonNull::new(unsafe {
        libc::dlvsym(RTLD_NEXT, entry.symbol().as_ptr(), entry.version().as_ptr())
    })
}

/// A module that is loaded already, kept loaded while this value lives.
struct Module(NonNull<c_void>);

impl Module {
    fn loaded(name: &CStr) -> Option<Self> {
        // SAFETY: the name is NUL-terminated. With RTLD_NOLOAD nothing is loaded and no constructor runs.
        NonNull::new(unsafe { libc::dlopen(name.as_ptr(), RTLD_NOLOAD | RTLD_LAZY) }).map(Self)
    }

    /// The first definition in this module and its dependencies that is not our own.
    fn find(&self, entry: EntryPoint) -> Option<Target> {
        // SAFETY: the handle is open; both strings are NUL-terminated.
        let found = unsafe {
            libc::dlvsym(
                self.0.as_ptr(),
                entry.symbol().as_ptr(),
                entry.version().as_ptr(),
            )
        };
        let ourselves = describe(family as *const c_void)?.base;
        NonNull::new(found)
            .filter(|found| describe(found.as_ptr()).is_some_and(|module| module.base != ourselves))
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
    Module::loaded(describe(address)?.file)
}

/// What the loader knows of the module that contains an address.
struct Description {
    /// Where it is loaded: no two modules have the same.
    base: *const c_void,
    /// The file that it came from.
    file: &'static CStr,
}

/// Describes the module that contains `address`, which must be code that is running, kept loaded, or just found: the
/// description is good as long as the module is loaded.
fn describe(address: *const c_void) -> Option<Description> {
    let mut info = MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: `info` is valid for writing; any address may be asked for.
    if unsafe { libc::dladdr(address, info.as_mut_ptr()) } == 0 {
        return None;
    }
    // SAFETY: dladdr() succeeded, so it filled `info` in.
    let info = unsafe { info.assume_init() };
    if info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: the name is NUL-terminated and lives as long as the module.
    let file = unsafe { CStr::from_ptr(info.dli_fname) };
    Some(Description {
        base: info.dli_fbase,
        file,
    })
}

/// Makes sure that `target` is never unloaded: its address may be called until the process ends.
fn keep_loaded(target: Target) -> *mut c_void {
    mem::forget(module_of(target.as_ptr()));
    target.as_ptr()
}

/// For the log: the module that an address is in.
struct Location(*const c_void);

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match describe(self.0) {
            Some(module) => write!(formatter, "{}", module.file.to_bytes().escape_ascii()),
            None => write!(formatter, "{:p}", self.0),
        }
    }
}

/// The families found so far, by where their callers continue. Fixed in size: a caller that finds no room in it is
/// looked up at every call, which costs some microseconds and is otherwise the same.
static KNOWN: Known = Known([const { Slot::new() }; KNOWN_SLOTS]);

/// A power of two. A process has a handful of call sites.
const KNOWN_SLOTS: usize = 64;

struct Known([Slot; KNOWN_SLOTS]);

struct Slot {
    /// Where the caller continues; `FREE`; or `IN_USE` while the slot is being filled.
    caller: AtomicUsize,
    targets: [AtomicPtr<c_void>; ENTRY_POINTS],
}

const FREE: usize = 0;
const IN_USE: usize = 1;

impl Slot {
    const fn new() -> Self {
        Self {
            caller: AtomicUsize::new(FREE),
            targets: [const { AtomicPtr::new(ptr::null_mut()) }; ENTRY_POINTS],
        }
    }
}

impl Known {
    /// The slots where `caller` may be, the likeliest first.
    fn slots(&self, caller: usize) -> impl Iterator<Item = &Slot> {
        // Return addresses have no alignment; two call sites of one function differ in the low bits.
        (0..KNOWN_SLOTS).map(move |step| &self.0[(caller + step) % KNOWN_SLOTS])
    }

    #[inline]
    fn get(&self, caller: *const c_void) -> Option<Family> {
        for slot in self.slots(caller as usize) {
            // Acquire pairs with the Release in `insert`: the targets are those of this caller.
            match slot.caller.load(Ordering::Acquire) {
                // Relaxed: published by `caller`; what a later look-up adds stays loaded, too.
                found if found == caller as usize => {
                    return Some(Family(
                        slot.targets
                            .each_ref()
                            .map(|target| target.load(Ordering::Relaxed)),
                    ));
                }
                FREE => return None,
                _ => {}
            }
        }
        None
    }

    fn insert(&self, caller: *const c_void, family: &Family) {
        for slot in self.slots(caller as usize) {
            let claim =
                slot.caller
                    .compare_exchange(FREE, IN_USE, Ordering::Relaxed, Ordering::Relaxed);
            if claim.is_err() && claim != Err(caller as usize) {
                continue;
            }
            for (known, &target) in slot.targets.iter().zip(&family.0) {
                if !target.is_null() {
                    // Relaxed: published by the store below.
                    known.store(target, Ordering::Relaxed);
                }
            }
            // Release pairs with the Acquire in `get`.
            slot.caller.store(caller as usize, Ordering::Release);
            return;
        }
    }
}
