//! The function that the caller would have reached without us.
//!
//! The dynamic linker binds a call to the first definition in the global scope. If there is none, it takes one from the scope
//! that the caller was loaded with. This library is in the global scope. In a program that is linked to libibverbs, the next
//! definition in that scope is the real function, for every caller.
//!
//! In a Python process there is no next definition: an extension module loaded libibverbs, outside the global scope, and another
//! module may have loaded a second copy. The object of a call tells which copy the call is for: a protection domain or memory
//! region works only in the copy that made it, so no working program passes it to another. (The return address does not tell.
//! In Debian's build the inner call of `ibv_reg_mr` is a jump, and returns to NCCL, which has no libibverbs of its own. A call
//! may also come through a pointer or a wrapper.)

use crate::sys::Errno;
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

/// How `struct ibv_context` begins. The offset of `poll_cq` is part of the ABI: the inline function `ibv_poll_cq` reads it.
#[repr(C)]
struct Context {
    device: *const c_void,
    operations_before_poll_cq: [*const c_void; 11],
    poll_cq: *const c_void,
}

/// A function of the device's driver. It identifies the copy of libibverbs, because each copy loads its own drivers.
///
/// # Safety
///
/// `object` is null, or points to an object that a libibverbs made.
#[inline]
unsafe fn driver_function(object: *const Object) -> *const c_void {
    // SAFETY: as above. The real function is about to read the same fields.
    unsafe { object.as_ref().and_then(|object| object.context.as_ref()) }
        .map_or(ptr::null(), |context| context.poll_cq)
}

/// An ELF symbol and the version that it has in libibverbs.
#[derive(Clone, Copy)]
pub struct Symbol {
    /// Its name.
    pub name: &'static CStr,
    /// Its version.
    pub version: &'static CStr,
}

impl fmt::Display for Symbol {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let [name, version] = [self.name, self.version].map(|part| part.to_bytes().escape_ascii());
        write!(formatter, "{name}@{version}")
    }
}

/// Finds the functions for `N` symbols of libibverbs, which are named by their index.
pub struct Resolver<const N: usize> {
    symbols: [Symbol; N],
    /// The next definitions in the global scope when we were loaded. They stay the next: later modules come after them.
    global: Targets<N>,
    /// The functions of each copy of libibverbs, by a function of its driver. The table has a fixed size: if it is full, a call
    /// looks its function up every time, which takes some microseconds.
    by_driver: [Slot<N>; SLOTS],
}

impl<const N: usize> Resolver<N> {
    /// Nothing is looked up yet.
    pub const fn new(symbols: [Symbol; N]) -> Self {
        Self {
            symbols,
            global: Targets::new(),
            by_driver: [const {
                Slot {
                    driver: AtomicUsize::new(FREE),
                    targets: Targets::new(),
                }
            }; SLOTS],
        }
    }

    /// The symbol of this index.
    pub fn symbol(&self, index: usize) -> Symbol {
        self.symbols[index]
    }

    /// The function for a call of the symbol `index` that is applied to `object`, if there is one in this process.
    ///
    /// Looks all symbols up together, once for each copy of libibverbs: a call from within a call must find its function without
    /// the loader, because the lock is held then. A function that is not found is looked up again at the next call. Does not
    /// change errno.
    ///
    /// # Safety
    ///
    /// `object` is null, or points to an object that a libibverbs made.
    #[inline]
    pub unsafe fn target(&self, index: usize, object: *const Object) -> Option<Target> {
        // SAFETY: passed on to the caller.
        let own = || unsafe { self.own(index, object) };
        self.global.get(index).or_else(own)
    }

    /// The function of the copy that made `object`, where the global scope has none.
    ///
    /// # Safety
    ///
    /// As for `target`.
    #[inline(never)]
    unsafe fn own(&self, index: usize, object: *const Object) -> Option<Target> {
        // SAFETY: passed on to the caller.
        let driver = unsafe { driver_function(object) };
        self.known(driver, index)
            .or_else(|| self.find(driver, index))
    }

    /// Looks for the next definitions in the global scope. Our constructor calls this once, when there is no other thread and the
    /// program's own libraries are loaded. A definition that enters the scope later is found at the first call that needs it.
    pub fn find_in_global_scope(&self) {
        self.set(&self.global, &self.symbols.map(next_in_global_scope));
        forget_failures();
    }

    #[cold]
    fn find(&self, driver: *const c_void, index: usize) -> Option<Target> {
        Errno::preserve(|| {
            let module = module_of(driver);
            let found = self.symbols.map(|symbol| {
                let own = module.as_ref().and_then(|module| module.find(symbol));
                own.map(keep_loaded)
                    .or_else(|| next_in_global_scope(symbol))
                    .or_else(|| Module::loaded(LIBIBVERBS)?.find(symbol).map(keep_loaded))
            });
            forget_failures();
            let target = found[index];
            if target.is_some() {
                self.remember(driver, &found);
            }
            target
        })
    }

    /// The function that was found for this driver.
    #[inline]
    fn known(&self, driver: *const c_void, index: usize) -> Option<Target> {
        let key = (driver as usize).wrapping_add(FIRST_KEY);
        for slot in &self.by_driver {
            // Acquire pairs with the Release in `remember`: all the targets are there.
            match slot.driver.load(Ordering::Acquire) {
                FREE => return None,
                found if found == key => return slot.targets.get(index),
                _ => {}
            }
        }
        None
    }

    fn remember(&self, driver: *const c_void, found: &[Option<Target>; N]) {
        let key = (driver as usize).wrapping_add(FIRST_KEY);
        for slot in &self.by_driver {
            // Relaxed: claiming publishes nothing.
            match slot
                .driver
                .compare_exchange(FREE, CLAIMED, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => {}
                Err(known) if known == key => {}
                Err(_) => continue,
            }
            self.set(&slot.targets, found);
            // Release pairs with the Acquire in `known`.
            slot.driver.store(key, Ordering::Release);
            return;
        }
    }

    fn set(&self, targets: &Targets<N>, found: &[Option<Target>; N]) {
        for ((symbol, slot), found) in self.symbols.iter().zip(&targets.0).zip(found) {
            if let Some(target) = found {
                debug!("{symbol}: calls go to {}", Location(*target));
                // Relaxed: as in `get`.
                slot.store(target.as_ptr(), Ordering::Relaxed);
            }
        }
    }
}

/// Clears the error that our look-ups left for dlerror(). (An error of the host's own is lost already: glibc clears it at the
/// start of each look-up.)
fn forget_failures() {
    // SAFETY: dlerror() has no preconditions.
    unsafe { libc::dlerror() };
}

/// Its soname. The loader knows a loaded library by this name, whatever its path.
const LIBIBVERBS: &CStr = c"libibverbs.so.1";

/// Whether this process has loaded the system's libibverbs.
pub fn is_libibverbs_loaded() -> bool {
    Module::loaded(LIBIBVERBS).is_some()
}

/// Whether a call of this function, from a module in the same scope as ours, reaches our definition. Calls the loader.
pub fn is_bound_to_us(symbol: &CStr) -> bool {
    // SAFETY: the name is NUL-terminated.
    let first = unsafe { libc::dlsym(RTLD_DEFAULT, symbol.as_ptr()) };
    // SAFETY: as above.
    let is_before_another = || !unsafe { libc::dlsym(RTLD_NEXT, symbol.as_ptr()) }.is_null();
    let ours = match describe(first) {
        // The main program. If it is not position-independent and takes the function's address, it has a stub of that name,
        // which jumps to the first real definition. That is ours, unless there is none after ours.
        Some(module) if module.file.is_empty() => is_before_another(),
        Some(module) => Some(module.base) == our_base(),
        None => false,
    };
    forget_failures();
    ours
}

/// The next definition after ours. Neither function of the loader is enough. Another library that replaces libibverbs may
/// define the symbol without a version, which dlvsym() does not find. Of several versions in one module, dlsym() takes the
/// oldest, before glibc 2.36.
fn next_in_global_scope(symbol: Symbol) -> Option<Target> {
    let (symbol, version) = (symbol.name.as_ptr(), symbol.version.as_ptr());
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

    /// The first definition in this module and its dependencies, unless that is our own. It may lack a version: a module with
    /// libibverbs built in may define the functions without versions.
    fn find(&self, symbol: Symbol) -> Option<Target> {
        let (handle, name) = (self.0.as_ptr(), symbol.name.as_ptr());
        // SAFETY: the handle is open; both strings are NUL-terminated.
        let versioned =
            NonNull::new(unsafe { libc::dlvsym(handle, name, symbol.version.as_ptr()) });
        // SAFETY: as above.
        let found = versioned.or_else(|| NonNull::new(unsafe { libc::dlsym(handle, name) }))?;
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

/// A module, as the loader describes it.
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
    describe(our_base as *const c_void).map(|module| module.base)
}

/// Describes the module that contains `address`. Valid while the module is loaded: the caller knows that it is in use.
fn describe(address: *const c_void) -> Option<Description> {
    let (mut info, mut module) = (MaybeUninit::uninit(), ptr::null());
    if dladdr1(address, &mut info, &mut module, RTLD_DL_LINKMAP) == 0 {
        return None;
    }
    // SAFETY: dladdr1() has succeeded, so this points to the loader's own record of the module.
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

/// A driver has a few such functions, and a process has one or two drivers.
const SLOTS: usize = 32;

/// A function for each symbol, or null. The functions are independent of each other, and their code stays loaded.
struct Targets<const N: usize>([AtomicPtr<c_void>; N]);

impl<const N: usize> Targets<N> {
    const fn new() -> Self {
        Self([const { AtomicPtr::new(ptr::null_mut()) }; N])
    }

    #[inline]
    fn get(&self, index: usize) -> Option<Target> {
        // Relaxed: nothing else depends on it.
        NonNull::new(self.0[index].load(Ordering::Relaxed))
    }
}

struct Slot<const N: usize> {
    /// `FREE`; `CLAIMED` until the targets are set; then the address of the function, which may be null, plus `FIRST_KEY`.
    driver: AtomicUsize,
    targets: Targets<N>,
}

const FREE: usize = 0;
const CLAIMED: usize = 1;
const FIRST_KEY: usize = 2;
