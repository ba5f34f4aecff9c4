//! The function that the caller would have reached without us.
//!
//! The dynamic linker binds a call to the first definition in the global scope. If there is none, it takes one from the scope
//! that the caller was loaded with. This library is in the global scope. In a program that is linked to libibverbs, the next
//! definition in that scope is the real function for every caller.
//!
//! In a Python process there is no next definition: an extension module loaded libibverbs, outside the global scope, and another
//! module may have loaded a second copy. The object of a call identifies the copy that the call is for: a protection domain or
//! memory region works only in the copy that made it, so no working program passes it to another. (The return address does not
//! identify the copy. In Debian's build, the inner call of `ibv_reg_mr` is a jump that returns to NCCL, which has no libibverbs of
//! its own. A call may also come through a pointer or a wrapper.)

use crate::base::{dl, elf, processor::FIRST_GLIBC, sys::Errno};
use core::{
    ffi::{CStr, c_void},
    fmt,
    mem::{self, MaybeUninit},
    ptr::{self, NonNull},
    sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering},
};
use libc::{Dl_info, RTLD_LAZY, RTLD_NEXT, RTLD_NOLOAD, c_int};
use log::debug;

/// The address of a function to forward to.
pub type Target = NonNull<c_void>;

/// The first field of `struct ibv_pd` and `struct ibv_mr`, in every version of `<infiniband/verbs.h>`.
#[repr(C)]
pub struct Object {
    context: *const Context,
}

/// The first fields of `struct ibv_context`. The offset of `poll_cq` is part of the ABI: the inline function `ibv_poll_cq` reads it.
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
    found: &'static Found<N>,
}

/// What was found for them. Apart from `Resolver`, which the loader changes at start.
pub struct Found<const N: usize> {
    /// The next definitions in the global scope when we were loaded. They stay the next ones: later modules come after them.
    global: Targets<N>,
    /// The functions of each copy of libibverbs, by a function of its driver. The table has a fixed size: if it is full, a call
    /// looks its function up every time, which takes some microseconds.
    by_driver: [Slot<N>; SLOTS],
}

impl<const N: usize> Found<N> {
    /// Nothing has been looked up yet.
    pub const fn new() -> Self {
        Self {
            global: Targets::new(),
            by_driver: [const {
                Slot {
                    driver: AtomicUsize::new(FREE),
                    targets: Targets::new(),
                }
            }; SLOTS],
        }
    }
}

impl<const N: usize> Resolver<N> {
    /// For these symbols.
    pub const fn new(symbols: [Symbol; N], found: &'static Found<N>) -> Self {
        Self { symbols, found }
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
        self.found.global.get(index).or_else(own)
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
        if elf::may_be_defined(self.symbols.map(|symbol| symbol.name)) {
            self.set(&self.found.global, &self.symbols.map(next_in_global_scope));
            forget_failures();
        }
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
        for slot in &self.found.by_driver {
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
        for slot in &self.found.by_driver {
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
                note_libibverbs();
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
    if let Some(dlerror) = dl::dlerror() {
        // SAFETY: dlerror() has no preconditions.
        unsafe { dlerror() };
    }
}

/// Its soname. The loader knows a loaded library by this name, whatever its path.
const LIBIBVERBS: &CStr = c"libibverbs.so.1";

/// Whether a libibverbs was noticed in this process.
static NOTICED: AtomicBool = AtomicBool::new(false);

/// Records that this process has a libibverbs.
pub fn note_libibverbs() {
    // Relaxed: nothing else depends on it. Read first: a store would take the cache line from the other processors.
    if !NOTICED.load(Ordering::Relaxed) {
        NOTICED.store(true, Ordering::Relaxed);
    }
}

/// Whether this process was linked to a libibverbs or has used one. Does not call the loader, which takes a lock.
pub fn has_libibverbs() -> bool {
    // Relaxed: see `note_libibverbs`.
    NOTICED.load(Ordering::Relaxed)
}

/// dlsym(3): the first definition, of whatever version.
fn find(handle: *mut c_void, symbol: &CStr) -> Option<Target> {
    // SAFETY: the handle is open, or one of those that need no opening; the name is NUL-terminated.
    NonNull::new(unsafe { dl::dlsym()?(handle, symbol.as_ptr()) })
}

/// Whether a call of this function, from a module in the same scope as ours, reaches our definition.
pub fn is_bound_to_us((symbol, first): (&CStr, *const c_void)) -> bool {
    let ours = NonNull::new(first.cast_mut()).is_some_and(is_ours)
        // The main program. If it is not position-independent and takes the function's address, it has a stub of that
        // name, which jumps to the first real definition: ours, if another definition comes after ours.
        || file_of(first).is_some_and(CStr::is_empty) && next(symbol).is_some();
    // Also of the look-up before: that of `ioctl` fails where this library comes after libc.
    forget_failures();
    ours
}

/// The definition after ours that the loader would take, of whatever version.
///
/// For dlsym(), "next" means after its caller. A preload library before ours may define dlsym() itself, as libraries that share a
/// GPU do, and call libc's. Then that library is the caller, and the next definition is ours. So we call libc's dlsym() directly.
pub fn next(symbol: &CStr) -> Option<Target> {
    match find(RTLD_NEXT, symbol) {
        Some(found) if is_ours(found) => {
            let original = find_version(RTLD_NEXT, c"dlsym", FIRST_GLIBC)?;
            // SAFETY: this version of dlsym() has this type.
            let original = unsafe { mem::transmute::<Target, dl::Dlsym>(original) };
            // SAFETY: the name is NUL-terminated.
            NonNull::new(unsafe { original(RTLD_NEXT, symbol.as_ptr()) })
                .filter(|&target| !is_ours(target))
        }
        found => found,
    }
}

/// dlvsym(3), if the process has it: musl's loader has no symbol versions.
fn find_version(handle: *mut c_void, symbol: &CStr, version: &CStr) -> Option<Target> {
    // SAFETY: the handle is open, or RTLD_NEXT; both strings are NUL-terminated.
    NonNull::new(unsafe { dl::dlvsym()?(handle, symbol.as_ptr(), version.as_ptr()) })
}

/// Lets these functions run around each fork(), as pthread_atfork(3) does: before it, and then in the parent and in the child. glibc
/// links that function into each program, and its libc.so.6 has only `__register_atfork`, which it calls. musl's libc has
/// pthread_atfork() alone.
pub fn run_around_fork(
    before: extern "C" fn(),
    in_parent: extern "C" fn(),
    in_child: extern "C" fn(),
) {
    type Handler = extern "C" fn();
    type OfGlibc = unsafe extern "C" fn(Handler, Handler, Handler, *mut c_void) -> c_int;
    type OfMusl = unsafe extern "C" fn(Handler, Handler, Handler) -> c_int;
    // SAFETY: the assembly only reads. Each address is null or that of the function of this name, which has this type.
    let (of_glibc, of_musl) = unsafe {
        (
            mem::transmute::<*const c_void, Option<OfGlibc>>(weak_address!("__register_atfork")),
            mem::transmute::<*const c_void, Option<OfMusl>>(weak_address!("pthread_atfork")),
        )
    };
    if let Some(register) = of_glibc {
        // SAFETY: see above. NULL: the handlers belong to a library that is never unloaded.
        unsafe { register(before, in_parent, in_child, ptr::null_mut()) };
    } else if let Some(register) = of_musl {
        // SAFETY: see above.
        unsafe { register(before, in_parent, in_child) };
    }
}

/// Called by our destructor: lets `body` run after the destructors of all libraries. (musl's exit() forgets what is registered while
/// destructors run.)
///
/// glibc's exit() runs the destructors from the function that was registered first, so the table of these functions is empty by
/// now, and a new one needs no allocation.
pub fn run_after_destructors(body: extern "C" fn(*mut c_void)) {
    unsafe extern "C" {
        safe fn __cxa_atexit(
            body: extern "C" fn(*mut c_void),
            argument: *mut c_void,
            library: *mut c_void,
        ) -> c_int;
    }
    __cxa_atexit(body, ptr::null_mut(), ptr::null_mut());
}

/// The next definition after ours. Neither dlvsym() nor dlsym() is enough. Another library that replaces libibverbs may define
/// the symbol without a version, which dlvsym() does not find. Before glibc 2.36, dlsym() takes the oldest of several versions
/// in a module.
fn next_in_global_scope(symbol: Symbol) -> Option<Target> {
    let first = next(symbol.name)?;
    let versioned = find_version(RTLD_NEXT, symbol.name, symbol.version);
    let found = versioned.filter(|&versioned| base(versioned) == base(first));
    Some(keep_loaded(found.unwrap_or(first)))
}

/// A module that is loaded already, kept loaded while this value lives.
struct Module(NonNull<c_void>);

impl Module {
    fn loaded(name: &CStr) -> Option<Self> {
        // SAFETY: the name is NUL-terminated. With RTLD_NOLOAD nothing is loaded and no constructor runs.
        NonNull::new(unsafe { dl::dlopen()?(name.as_ptr(), RTLD_NOLOAD | RTLD_LAZY) }).map(Self)
    }

    /// The first definition in this module and its dependencies, unless it is our own. It may have no version: a module with
    /// libibverbs built in may define the functions without versions.
    fn find(&self, symbol: Symbol) -> Option<Target> {
        let handle = self.0.as_ptr();
        let found = find_version(handle, symbol.name, symbol.version)
            .or_else(|| find(handle, symbol.name))?;
        (!is_ours(found)).then_some(found)
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        if let Some(dlclose) = dl::dlclose() {
            // SAFETY: the handle is open and not used again.
            unsafe { dlclose(self.0.as_ptr()) };
        }
    }
}

/// The module that contains `address`.
fn module_of(address: *const c_void) -> Option<Module> {
    // The main program has no file name, and is never unloaded.
    file_of(address)
        .filter(|file| !file.is_empty())
        .and_then(Module::loaded)
}

/// Keeps the module of `target` loaded: its address may be called until the process ends.
fn keep_loaded(target: Target) -> Target {
    mem::forget(module_of(target.as_ptr()));
    target
}

/// The file of the module that contains `address`; empty for the main program. Valid while the module is loaded: the caller
/// ensures that it is.
fn file_of(address: *const c_void) -> Option<&'static CStr> {
    let Dl_info {
        dli_fbase,
        dli_fname,
        ..
    } = look_up(address)?;
    // SAFETY: getauxval() has no preconditions.
    let program = unsafe { libc::getauxval(libc::AT_PHDR) } as usize;
    let program = look_up(ptr::with_exposed_provenance(program));
    Some(
        if program.is_some_and(|program| program.dli_fbase == dli_fbase) {
            c""
        } else {
            // SAFETY: dladdr() has succeeded: this is NUL-terminated, and lives as long as the module.
            unsafe { CStr::from_ptr(dli_fname) }
        },
    )
}

/// dladdr(3).
fn look_up(address: *const c_void) -> Option<Dl_info> {
    let mut info = MaybeUninit::uninit();
    // SAFETY: `info` is valid for writing, and dladdr() takes any address.
    let found = unsafe { dl::dladdr()?(address, info.as_mut_ptr()) } != 0;
    // SAFETY: dladdr() has succeeded, so it has written all of it.
    found.then(|| unsafe { info.assume_init() })
}

/// Where the module that contains `target` is loaded.
fn base(target: Target) -> Option<usize> {
    look_up(target.as_ptr()).map(|info| info.dli_fbase as usize)
}

// Without this, a linker may export the symbol, and the loader may take that of another module for it.
core::arch::global_asm!(".hidden __ehdr_start", ".hidden _end");

/// Whether `target` is in this library. Not by dladdr(), which goes through all symbols of the module that it finds: that
/// would be two thirds of what this library adds to the start of a process.
fn is_ours(target: Target) -> bool {
    unsafe extern "C" {
        // Where this library begins and ends: the linker defines both.
        static __ehdr_start: u8;
        static _end: u8;
    }
    let ours = (&raw const __ehdr_start).addr()..(&raw const _end).addr();
    ours.contains(&target.addr().get())
}

/// For the log: the module that a function is in.
struct Location(Target);

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match file_of(self.0.as_ptr()) {
            Some(file) if !file.is_empty() => {
                write!(formatter, "{}", file.to_bytes().escape_ascii())
            }
            _ => write!(formatter, "{:p}", self.0),
        }
    }
}

/// A driver has a few `poll_cq` functions, and a process has one or two drivers.
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
