//! The memory that is registered: of this process, or of a GPU.

use super::verbs::reason;
use libloading::os::unix::Library;
use std::{
    ffi::{CStr, c_char, c_int, c_uint, c_void},
    io, mem, ptr,
};

/// The kind of memory.
pub enum Source {
    /// This process.
    Host,
    /// A GPU.
    Gpu(Cuda),
}

/// Some memory, until it is freed.
pub struct Memory {
    /// Its address. The processor cannot access GPU memory at it.
    pub address: *mut c_void,
    size: usize,
}

impl Source {
    /// Before a thread allocates.
    pub fn begin_thread(&self, index: usize) -> Result<(), String> {
        match self {
            Self::Host => Ok(()),
            Self::Gpu(cuda) => cuda.begin_thread(index),
        }
    }

    /// Allocates.
    pub fn allocate(&self, size: usize, index: usize) -> Result<Memory, String> {
        let address = match self {
            Self::Host => map(size, index)?,
            Self::Gpu(cuda) => cuda.allocate(size)?,
        };
        Ok(Memory { address, size })
    }

    /// Frees.
    pub fn free(&self, memory: Memory) -> Result<(), String> {
        match self {
            // SAFETY: mapped in `map`, and this is its end.
            Self::Host => match unsafe { libc::munmap(memory.address, memory.size) } {
                0 => Ok(()),
                _ => Err(format!("munmap: {}", io::Error::last_os_error())),
            },
            Self::Gpu(cuda) => cuda.free(memory.address),
        }
    }
}

fn map(size: usize, index: usize) -> Result<*mut c_void, String> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping, at an address that the kernel chooses.
    let address = unsafe { libc::mmap(ptr::null_mut(), size, protection, flags, -1, 0) };
    if address == libc::MAP_FAILED {
        return Err(format!(
            "mmap of {size} bytes: {}",
            io::Error::last_os_error()
        ));
    }
    // SAFETY: the mapping has this size and can be written.
    unsafe { ptr::write_bytes(address.cast::<u8>(), index as u8, size) };
    Ok(address)
}

/// CUDA's driver.
pub struct Cuda {
    /// The primary context of each GPU.
    contexts: Vec<usize>,
    set_current: unsafe extern "C" fn(*mut c_void) -> c_int,
    alloc: unsafe extern "C" fn(*mut u64, usize) -> c_int,
    free: unsafe extern "C" fn(u64) -> c_int,
    error_name: unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int,
}

impl Cuda {
    /// Loads libcuda and starts it. The error is one line.
    pub fn load() -> Result<Self, String> {
        // SAFETY: libcuda has no constructor that relies on anything here.
        let library = unsafe { Library::new("libcuda.so.1") };
        let library = library.map_err(|error| {
            format!(
                "--gpu: {}: install NVIDIA's driver, or leave --gpu out",
                reason(&error)
            )
        })?;
        // SAFETY: each type is what <cuda.h> declares for the function of that name.
        let (init, count, retain, mut cuda) = unsafe {
            let init: unsafe extern "C" fn(c_uint) -> c_int = function(&library, c"cuInit")?;
            let count: unsafe extern "C" fn(*mut c_int) -> c_int =
                function(&library, c"cuDeviceGetCount")?;
            let retain: unsafe extern "C" fn(*mut *mut c_void, c_int) -> c_int =
                function(&library, c"cuDevicePrimaryCtxRetain")?;
            let cuda = Self {
                contexts: Vec::new(),
                set_current: function(&library, c"cuCtxSetCurrent")?,
                alloc: function(&library, c"cuMemAlloc_v2")?,
                free: function(&library, c"cuMemFree_v2")?,
                error_name: function(&library, c"cuGetErrorName")?,
            };
            (init, count, retain, cuda)
        };
        // The functions stay usable until the process ends.
        mem::forget(library);
        // SAFETY: 0 is the only value that cuInit takes.
        cuda.check("cuInit", unsafe { init(0) })?;
        let mut gpus = 0;
        // SAFETY: the function writes the number of GPUs.
        cuda.check("cuDeviceGetCount", unsafe { count(&mut gpus) })?;
        for gpu in 0..gpus {
            let mut context = ptr::null_mut();
            // SAFETY: the function writes the context. A CUdevice is the GPU's number.
            let error = unsafe { retain(&mut context, gpu) };
            cuda.check(&format!("cuDevicePrimaryCtxRetain of GPU {gpu}"), error)?;
            cuda.contexts.push(context as usize);
        }
        if cuda.contexts.is_empty() {
            return Err("--gpu: CUDA finds no GPU: see CUDA_VISIBLE_DEVICES and nvidia-smi".into());
        }
        Ok(cuda)
    }

    fn begin_thread(&self, index: usize) -> Result<(), String> {
        let context = self.contexts[index % self.contexts.len()] as *mut c_void;
        // SAFETY: a context that was retained and is not released.
        self.check("cuCtxSetCurrent", unsafe { (self.set_current)(context) })
    }

    fn allocate(&self, size: usize) -> Result<*mut c_void, String> {
        let mut address = 0;
        // SAFETY: the function writes the address.
        let error = unsafe { (self.alloc)(&mut address, size) };
        self.check(&format!("cuMemAlloc of {size} bytes"), error)?;
        Ok(address as *mut c_void)
    }

    fn free(&self, address: *mut c_void) -> Result<(), String> {
        // SAFETY: allocated in `allocate`, and this is its end.
        self.check("cuMemFree", unsafe { (self.free)(address as u64) })
    }

    fn check(&self, call: &str, error: c_int) -> Result<(), String> {
        if error == 0 {
            return Ok(());
        }
        let mut name = ptr::null();
        // SAFETY: the function writes a pointer to a constant, or NULL.
        let name = unsafe {
            (self.error_name)(error, &mut name);
            if name.is_null() {
                c"unknown error"
            } else {
                CStr::from_ptr(name)
            }
        };
        Err(format!("{call}: {} ({error})", name.to_string_lossy()))
    }
}

/// # Safety
///
/// `T` is the type of the function.
unsafe fn function<T: Copy>(library: &Library, name: &CStr) -> Result<T, String> {
    // SAFETY: as the caller promises.
    let symbol = unsafe { library.get::<T>(name.to_bytes_with_nul()) };
    symbol.map(|symbol| *symbol).map_err(|error| {
        format!(
            "--gpu: libcuda.so.1: {}: install a newer driver",
            reason(&error)
        )
    })
}
