//! The verbs, from this machine's libibverbs. They are looked up in the same order as for a linked program: preloaded functions
//! come first.

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use std::{
    error::Error as _,
    ffi::{CStr, c_char, c_int, c_uint, c_void},
    io, mem, ptr, slice,
};

/// `struct ibv_device`, of which only the address is used.
#[repr(C)]
pub struct Device {
    _private: [u8; 0],
}

/// `struct ibv_context`, of which only the address is used.
#[repr(C)]
pub struct Context {
    _private: [u8; 0],
}

/// `struct ibv_pd`, of which only the address is used.
#[repr(C)]
pub struct Pd {
    _private: [u8; 0],
}

/// `struct ibv_mr`.
#[repr(C)]
pub struct Mr {
    context: *mut Context,
    pd: *mut Pd,
    addr: *mut c_void,
    length: usize,
    handle: u32,
    lkey: u32,
    rkey: u32,
}

/// Local and remote reading and writing.
const ACCESS: c_int = 1 | 1 << 1 | 1 << 2;
const RELAXED_ORDERING: c_uint = 1 << 20;
const CHANGE_TRANSLATION: c_int = 1;
const CHANGE_ACCESS: c_int = 1 << 2;

const NO_DRIVER: &str = "no RDMA device: ib_uverbs is not loaded: load the driver of the device (modprobe mlx5_ib), or make a \
     device in software (rdma link add rxe0 type rxe netdev eth0)";
const NO_DEVICE: &str = "no RDMA device: see ibv_devices, and /dev/infiniband in a container; without hardware, make a device in \
     software (rdma link add rxe0 type rxe netdev eth0)";
const MAY_NOT: &str = "see ls -l /dev/infiniband, and run it as root or as a user who may open these files; start a container with \
     --device=/dev/infiniband";
const NO_FILE: &str = "its file in /dev/infiniband is missing: modprobe ib_uverbs, and start a container with \
     --device=/dev/infiniband";

type RegMr = unsafe extern "C" fn(*mut Pd, *mut c_void, usize, c_int) -> *mut Mr;
type RegMrIova = unsafe extern "C" fn(*mut Pd, *mut c_void, usize, u64, c_int) -> *mut Mr;
type RegMrIova2 = unsafe extern "C" fn(*mut Pd, *mut c_void, usize, u64, c_uint) -> *mut Mr;
type ReregMr = unsafe extern "C" fn(*mut Mr, c_int, *mut Pd, *mut c_void, usize, c_int) -> c_int;

/// The functions of libibverbs.
pub struct Verbs {
    get_device_list: unsafe extern "C" fn(*mut c_int) -> *mut *mut Device,
    get_device_name: unsafe extern "C" fn(*mut Device) -> *const c_char,
    open_device: unsafe extern "C" fn(*mut Device) -> *mut Context,
    close_device: unsafe extern "C" fn(*mut Context) -> c_int,
    alloc_pd: unsafe extern "C" fn(*mut Context) -> *mut Pd,
    dealloc_pd: unsafe extern "C" fn(*mut Pd) -> c_int,
    reg_mr: RegMr,
    reg_mr_iova: Option<RegMrIova>,
    reg_mr_iova2: Option<RegMrIova2>,
    rereg_mr: Option<ReregMr>,
    dereg_mr: unsafe extern "C" fn(*mut Mr) -> c_int,
}

/// A device of this machine.
#[derive(Clone)]
pub struct Hca {
    /// Its name.
    pub name: String,
    device: *mut Device,
}

// SAFETY: libibverbs lets any thread use a device of the list.
unsafe impl Sync for Hca {}

/// A protection domain on a context of its own.
pub struct Domain<'a> {
    verbs: &'a Verbs,
    context: *mut Context,
    pd: *mut Pd,
}

/// An entry point that makes a memory region.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// `ibv_reg_mr`
    RegMr,
    /// `ibv_reg_mr_iova`
    RegMrIova,
    /// `ibv_reg_mr_iova2`
    RegMrIova2,
    /// `ibv_reg_mr` and `ibv_rereg_mr`
    ReregMr,
}

impl Entry {
    /// The name of its function.
    pub fn name(self) -> &'static str {
        match self {
            Self::RegMr => "ibv_reg_mr",
            Self::RegMrIova => "ibv_reg_mr_iova",
            Self::RegMrIova2 => "ibv_reg_mr_iova2",
            Self::ReregMr => "ibv_rereg_mr",
        }
    }
}

impl Verbs {
    /// Loads libibverbs. The error is one line.
    pub fn load() -> Result<Self, String> {
        // SAFETY: libibverbs has no constructor that relies on anything here. RTLD_GLOBAL: the look-ups below must find it.
        let library = unsafe { Library::open(Some("libibverbs.so.1"), RTLD_NOW | RTLD_GLOBAL) };
        let library = library.map_err(|error| {
            format!(
                "{}: install rdma-core's libibverbs, or name its directory in LD_LIBRARY_PATH",
                reason(&error)
            )
        })?;
        // The functions stay usable until the process ends.
        mem::forget(library);
        // SAFETY: each field has the type that <infiniband/verbs.h> declares for the function of its name.
        unsafe {
            Ok(Self {
                get_device_list: needed(c"ibv_get_device_list")?,
                get_device_name: needed(c"ibv_get_device_name")?,
                open_device: needed(c"ibv_open_device")?,
                close_device: needed(c"ibv_close_device")?,
                alloc_pd: needed(c"ibv_alloc_pd")?,
                dealloc_pd: needed(c"ibv_dealloc_pd")?,
                reg_mr: needed(c"ibv_reg_mr")?,
                reg_mr_iova: found(c"ibv_reg_mr_iova").ok(),
                reg_mr_iova2: found(c"ibv_reg_mr_iova2").ok(),
                rereg_mr: found(c"ibv_rereg_mr").ok(),
                dereg_mr: needed(c"ibv_dereg_mr")?,
            })
        }
    }

    /// The devices of this machine, one at least. The error is one line.
    pub fn devices(&self) -> Result<Vec<Hca>, String> {
        let mut count = 0;
        // SAFETY: the function writes the number of devices.
        let list = unsafe { (self.get_device_list)(&mut count) };
        if list.is_null() {
            let error = io::Error::last_os_error();
            return Err(match error.raw_os_error() {
                Some(libc::ENOSYS) => NO_DRIVER.into(),
                Some(libc::EPERM | libc::EACCES) => {
                    format!("ibv_get_device_list: {error}: {MAY_NOT}")
                }
                _ => format!("ibv_get_device_list: {error}: see ibv_devices"),
            });
        }
        if count <= 0 {
            return Err(NO_DEVICE.into());
        }
        // SAFETY: the list has that many devices. It is never freed, so they stay.
        let devices = unsafe { slice::from_raw_parts(list, usize::try_from(count).unwrap_or(0)) };
        let named = devices.iter().map(|&device| {
            // SAFETY: the device is of the list; its name lives as long.
            let name = unsafe { CStr::from_ptr((self.get_device_name)(device)) };
            Hca {
                name: name.to_string_lossy().into_owned(),
                device,
            }
        });
        Ok(named.collect())
    }

    /// The entry points that this libibverbs has.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries = vec![Entry::RegMr];
        entries.extend(self.reg_mr_iova.map(|_| Entry::RegMrIova));
        entries.extend(self.reg_mr_iova2.map(|_| Entry::RegMrIova2));
        entries.extend(self.rereg_mr.map(|_| Entry::ReregMr));
        entries
    }

    /// Opens a device once more.
    pub fn open(&self, hca: &Hca) -> Result<Domain<'_>, String> {
        // SAFETY: the device is of the list.
        let context = unsafe { (self.open_device)(hca.device) };
        if context.is_null() {
            let error = io::Error::last_os_error();
            let advice = match error.raw_os_error() {
                Some(libc::EPERM | libc::EACCES) => MAY_NOT,
                Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => NO_FILE,
                _ => "see ibv_devinfo and dmesg",
            };
            return Err(format!("ibv_open_device: {error}: {advice}"));
        }
        // SAFETY: the context is open.
        let pd = unsafe { (self.alloc_pd)(context) };
        if pd.is_null() {
            return Err(last_error("ibv_alloc_pd"));
        }
        Ok(Domain {
            verbs: self,
            context,
            pd,
        })
    }
}

impl Domain<'_> {
    /// Makes a region and checks it.
    pub fn register(
        &self,
        entry: Entry,
        addr: *mut c_void,
        size: usize,
    ) -> Result<*mut Mr, String> {
        let (verbs, pd, iova) = (self.verbs, self.pd, addr as u64);
        // SAFETY: the domain is open. A wrong address is the kernel's to refuse, and nothing is transferred.
        let mr = unsafe {
            match (entry, verbs.reg_mr_iova, verbs.reg_mr_iova2) {
                (Entry::RegMrIova, Some(call), _) => call(pd, addr, size, iova, ACCESS),
                (Entry::RegMrIova2, _, Some(call)) => {
                    call(pd, addr, size, iova, ACCESS as c_uint | RELAXED_ORDERING)
                }
                _ => (verbs.reg_mr)(pd, addr, size, ACCESS),
            }
        };
        if mr.is_null() {
            let error = io::Error::last_os_error();
            let name = match entry {
                Entry::ReregMr => Entry::RegMr.name(),
                entry => entry.name(),
            };
            let advice = match error.raw_os_error() {
                Some(libc::ENOMEM) => ": see ulimit -l, or lower --size or --threads",
                Some(libc::EFAULT) => ": is nvidia_peermem loaded? (mrlock doctor)",
                _ => "",
            };
            return Err(format!("{name}: {error}{advice}"));
        }
        let mut length = size;
        if let (Entry::ReregMr, Some(call)) = (entry, verbs.rereg_mr) {
            // SAFETY: the region was just made, in this domain.
            let error = unsafe {
                let change = CHANGE_TRANSLATION | CHANGE_ACCESS;
                call(mr, change, pd, addr, size.div_ceil(2), ACCESS)
            };
            let errno = io::Error::last_os_error();
            if error == 0 {
                length = size.div_ceil(2);
            } else if errno.raw_os_error() != Some(libc::EOPNOTSUPP) {
                return Err(format!("ibv_rereg_mr: {errno}")); // not every device can
            }
        }
        self.check(mr, addr, length)
            .map_err(|wrong| format!("{}: {wrong}", entry.name()))?;
        Ok(mr)
    }

    /// The first field with a wrong value.
    fn check(&self, mr: *mut Mr, addr: *mut c_void, length: usize) -> Result<(), String> {
        // SAFETY: a region that was made and not deregistered.
        let mr = unsafe { ptr::read(mr) };
        let wrong = |field, found, wanted| {
            Err(format!(
                "the region's {field} is {found:#x}, and should be {wanted}"
            ))
        };
        let (context, pd) = (self.context, self.pd);
        if mr.context != context {
            wrong("context", mr.context as usize, format!("{context:p}"))
        } else if mr.pd != pd {
            wrong("pd", mr.pd as usize, format!("{pd:p}"))
        } else if mr.addr != addr {
            wrong("addr", mr.addr as usize, format!("{addr:p}"))
        } else if mr.length != length {
            wrong("length", mr.length, format!("{length:#x}"))
        } else if mr.lkey == 0 {
            wrong("lkey", 0, "another number".into())
        } else {
            Ok(())
        }
    }

    /// Deregisters a region.
    pub fn deregister(&self, mr: *mut Mr) -> Result<(), String> {
        // SAFETY: the region is of this domain, and this is its end.
        match unsafe { (self.verbs.dereg_mr)(mr) } {
            0 => Ok(()),
            error => Err(failed("ibv_dereg_mr", error)),
        }
    }

    /// Closes the domain and its context.
    pub fn close(self) -> Result<(), String> {
        // SAFETY: no region is left in the domain, and this is its end.
        match unsafe { (self.verbs.dealloc_pd)(self.pd) } {
            0 => {}
            error => return Err(failed("ibv_dealloc_pd", error)),
        }
        // SAFETY: no domain is left on the context, and this is its end.
        match unsafe { (self.verbs.close_device)(self.context) } {
            0 => Ok(()),
            error => Err(failed("ibv_close_device", error)),
        }
    }
}

/// A function that may be missing.
///
/// # Safety
///
/// `T` is the type of the function.
unsafe fn found<T: Copy>(name: &CStr) -> Result<T, libloading::Error> {
    // SAFETY: as the caller promises.
    let symbol = unsafe { Library::this().get::<T>(name.to_bytes_with_nul()) };
    Ok(*symbol?)
}

/// A function that must exist.
///
/// # Safety
///
/// `T` is the type of the function.
unsafe fn needed<T: Copy>(name: &CStr) -> Result<T, String> {
    // SAFETY: as the caller promises.
    unsafe { found(name) }.map_err(|error| {
        format!(
            "libibverbs.so.1: {}: install a newer rdma-core",
            reason(&error)
        )
    })
}

fn last_error(name: &str) -> String {
    format!("{name}: {}", io::Error::last_os_error())
}

fn failed(name: &str, error: c_int) -> String {
    format!("{name}: {}", io::Error::from_raw_os_error(error))
}

/// The loader's message. (libloading's own says only which function of the loader failed.)
pub fn reason(error: &libloading::Error) -> String {
    error
        .source()
        .map_or_else(|| error.to_string(), |source| source.to_string())
}
