//! The name of a device in another process, as the library finds it in its own (src/call/device.rs).

use super::host::Directory;
use std::{fs::File, os::unix::fs::FileExt, path::Path};

/// The device of a `struct ibv_pd` or `struct ibv_mr`, whose address is even; or of a file descriptor, doubled, plus one. The
/// process may be freeing the object: then the name may be wrong.
pub fn name(process: &Directory, memory: &File, bits: u64) -> Option<String> {
    /// `struct ibv_device`: two pointers and two ints come before the name.
    const NAME_AT: u64 = 24;
    let name = match bits {
        0 => return None,
        file if file % 2 == 1 => {
            let target = process.link(&format!("fd/{}", file >> 1))?;
            Path::new(&target).file_name()?.to_str()?.to_owned()
        }
        object => {
            let context = pointer(memory, object)?;
            let device = pointer(memory, context)?;
            let mut bytes = [0; 64];
            memory
                .read_exact_at(&mut bytes, device.wrapping_add(NAME_AT))
                .ok()?;
            let name = bytes.split(|&byte| byte == 0).next()?;
            str::from_utf8(name).ok()?.to_owned()
        }
    };
    // The kernel's names have only these characters. Anything else is freed memory, or not a device.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
    (!name.is_empty() && name.bytes().all(is_plain)).then_some(name)
}

fn pointer(memory: &File, address: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    memory.read_exact_at(&mut bytes, address).ok()?;
    Some(u64::from_ne_bytes(bytes)).filter(|&pointer| pointer != 0)
}
