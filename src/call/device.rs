//! Which device a call is for.

use crate::base::{sys, text::Text};
use core::{
    ffi::{c_int, c_void},
    fmt::Write,
    mem::offset_of,
    ptr,
};

/// Where the name of a device can be found. The look-up takes system calls, so it is made only when the name is needed.
///
/// A pointer to a `struct ibv_pd` or `struct ibv_mr`, which is even; or a file descriptor, doubled, plus one; or 0.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Device(usize);

/// See `Device::identity`. (If a device is closed and another one opened at the same addresses, they are taken for the same.)
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Identity([usize; 2]);

impl Identity {
    /// The call does not name a device.
    pub const NONE: Self = Self([0; 2]);
}

/// A device's name: "mlx5_0", or "uverbs0" where only its file is known.
pub type Name = Text<NAME_SIZE>;

/// `IBV_SYSFS_NAME_MAX` of `<infiniband/verbs.h>`, with the NUL.
const NAME_SIZE: usize = 64;

/// The first fields of `struct ibv_device`. `struct ibv_context` begins with a pointer to its device, and `struct ibv_pd` and
/// `struct ibv_mr` begin with a pointer to their context.
#[repr(C)]
struct VerbsDevice {
    operations: [usize; 2],
    node_type: c_int,
    transport_type: c_int,
    name: [u8; NAME_SIZE],
}

impl Device {
    /// The call does not name a device.
    pub const UNKNOWN: Self = Self(0);

    /// The device of an object that libibverbs made, or null.
    #[inline]
    pub fn of_object(object: *const c_void) -> Self {
        Self(object.expose_provenance())
    }

    /// The device of an open file.
    #[inline]
    pub fn of_file(descriptor: c_int) -> Self {
        Self((descriptor as u32 as usize) << 1 | 1)
    }

    /// The device as a word, for `from_bits`.
    #[inline]
    pub fn bits(self) -> usize {
        self.0
    }

    /// The device that `bits` was called on.
    #[inline]
    pub fn from_bits(bits: usize) -> Self {
        Self(bits)
    }

    /// What distinguishes the device from others, without a look-up of its name.
    #[inline]
    pub fn identity(self) -> Identity {
        match self.0 {
            0 => Identity::NONE,
            file if file & 1 == 1 => Identity([
                usize::MAX,
                sys::device_number((file >> 1) as c_int) as usize,
            ]),
            object => {
                let object: *const *const usize = ptr::with_exposed_provenance(object);
                // SAFETY: libibverbs made the object, as the function that is called requires: it begins with a pointer to its
                // context, and the context with one to its device.
                unsafe {
                    let context = object.read();
                    let device = if context.is_null() { 0 } else { context.read() };
                    Identity([context as usize, device])
                }
            }
        }
    }

    /// Its name, if it can be found. Another thread may be freeing the object: then the name may be wrong, but nothing crashes.
    #[cold]
    pub fn name(self) -> Option<Name> {
        let mut bytes = [0; NAME_SIZE];
        let name = match self.0 {
            0 => return None,
            file if file & 1 == 1 => file_name(file >> 1, &mut bytes)?,
            object => {
                let context = pointer_at(object)?;
                let device = pointer_at(context)?;
                let name = device + offset_of!(VerbsDevice, name);
                let Ok(true) = sys::copy(name, &mut bytes) else {
                    return None;
                };
                bytes.split(|&byte| byte == 0).next()?
            }
        };
        // The kernel's names have only these characters. Anything else is freed memory, or not a device.
        let is_plain = |&byte: &u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
        if name.is_empty() || !name.iter().all(is_plain) {
            return None;
        }
        let mut text = Name::new();
        for &byte in name {
            text.push(byte);
        }
        Some(text)
    }
}

/// The pointer at this address; `None` if it is null or cannot be read.
fn pointer_at(address: usize) -> Option<usize> {
    let mut bytes = [0; size_of::<usize>()];
    let is_read = sys::copy(address, &mut bytes).ok()?;
    let pointer = usize::from_ne_bytes(bytes);
    (is_read && pointer != 0).then_some(pointer)
}

/// The last part of the name of an open file.
fn file_name(descriptor: usize, bytes: &mut [u8; NAME_SIZE]) -> Option<&[u8]> {
    let mut link = Text::<32>::new();
    let _ = write!(link, "/proc/self/fd/{descriptor}\0");
    // SAFETY: the path is NUL-terminated, the buffer valid for its length.
    let length = unsafe {
        syscall!(
            SYS_readlinkat,
            libc::AT_FDCWD,
            link.as_bytes().as_ptr(),
            bytes.as_mut_ptr(),
            bytes.len(),
        )
    };
    // A longer name would be cut: no device has one.
    let length = usize::try_from(length).ok().filter(|&it| it < NAME_SIZE)?;
    bytes.get(..length)?.rsplit(|&byte| byte == b'/').next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs::File, os::fd::AsRawFd, ptr};

    fn name_of_object_of(device: &str) -> Option<Name> {
        let mut name = [0; NAME_SIZE];
        name[..device.len()].copy_from_slice(device.as_bytes());
        let device = VerbsDevice {
            operations: [0; 2],
            node_type: 1,
            transport_type: 0,
            name,
        };
        let context = &raw const device;
        let object = &raw const context;
        Device::of_object((&raw const object).cast()).name()
    }

    #[test]
    fn of_an_object() {
        let name = name_of_object_of("mlx5_0").expect("a name");
        assert_eq!(name.as_bytes(), b"mlx5_0");
        assert!(name_of_object_of("mlx5\"").is_none(), "no name of a device");
        assert!(name_of_object_of("").is_none());
    }

    #[test]
    fn of_what_is_not_there() {
        assert!(Device::UNKNOWN.name().is_none());
        assert!(
            Device::of_object(ptr::without_provenance(8))
                .name()
                .is_none()
        );
        assert!(Device::of_file(-1).name().is_none());
    }

    #[test]
    fn of_a_file() {
        let file = File::open("/dev/null").expect("/dev/null");
        let name = Device::of_file(file.as_raw_fd()).name().expect("a name");
        assert_eq!(name.as_bytes(), b"null");
    }
}
