//! The input is a request, as it lies in memory, at the end of what can be read.

use crate::{
    base::sys::page_size,
    call::operation::Memory,
    hook::{ioctl, serialize::LAST},
};
use std::{ptr, slice, sync::OnceLock};

/// The longest request that a header can announce.
const LONGEST: usize = 1 << 16;

/// The end of the readable memory.
fn end_of_readable() -> usize {
    static END: OnceLock<usize> = OnceLock::new();
    *END.get_or_init(|| {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let all = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses; the second call changes its last page.
        unsafe {
            let start = libc::mmap(ptr::null_mut(), LONGEST + page_size(), all, flags, -1, 0);
            assert_ne!(start, libc::MAP_FAILED);
            assert_eq!(
                libc::mprotect(start.byte_add(LONGEST), page_size(), libc::PROT_NONE),
                0
            );
            start as usize + LONGEST
        }
    })
}

/// The library recognizes the same requests as simple code on a slice, and never reads unreadable memory.
pub fn check(input: &[u8]) {
    if input.len() > LONGEST {
        return;
    }
    let start = end_of_readable() - input.len();
    // SAFETY: the part of the mapping that can be read and written; there is one thread.
    let request = unsafe { slice::from_raw_parts_mut(start as *mut u8, input.len()) };
    request.copy_from_slice(input);
    place_structures(request);
    let expected = recognize(request);
    LAST.set(None);
    ioctl::enter(start as *mut _);
    let found = LAST.take().map(|(name, memory)| (name, described(memory)));
    assert_eq!(found, expected);
}

const HEADER: usize = 24;
const ATTRIBUTE: usize = 16;

/// The attribute with id 0 has the address of a command's structure. A small number in the input becomes an address within the
/// request; any other number becomes an address that cannot be read.
fn place_structures(request: &mut [u8]) {
    let start = request.as_ptr() as u64;
    let length = request.len() as u64;
    for attribute in request
        .iter_mut()
        .skip(HEADER)
        .collect::<Vec<_>>()
        .chunks_exact_mut(ATTRIBUTE)
    {
        if *attribute[0] == 0 && *attribute[1] == 0 {
            let data: [u8; 8] = std::array::from_fn(|index| *attribute[8 + index]);
            let data = u64::from_ne_bytes(data);
            let data = if data <= length {
                start + data
            } else {
                data | 1 << 63
            };
            for (to, from) in attribute[8..].iter_mut().zip(data.to_ne_bytes()) {
                **to = from;
            }
        }
    }
}

/// The name of a command; and the address and length of its memory, and whether it is on demand, or a word for the kind of memory.
type Found = (&'static str, Result<(u64, u64, bool), &'static str>);

fn described(memory: Memory) -> Result<(u64, u64, bool), &'static str> {
    match memory {
        Memory::At(region) => Ok((region.address as u64, region.length as u64, false)),
        Memory::OnDemand(region) => Ok((region.address as u64, region.length as u64, true)),
        Memory::DmaBuf => Err("dma-buf"),
        Memory::Unknown => Err("unknown"),
        Memory::Moved(..) => panic!("no request moves a region"),
    }
}

/// IB_UVERBS_ACCESS_ON_DEMAND
fn is_on_demand(access: u64) -> bool {
    access & 1 << 6 != 0
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let mut number = [0; 8];
    number[..N].copy_from_slice(bytes.get(at..)?.get(..N)?);
    Some(u64::from_ne_bytes(number))
}

fn recognize(request: &[u8]) -> Option<Found> {
    let length = number::<2>(request, 0)? as usize;
    let object = number::<2>(request, 2)?;
    let method = number::<2>(request, 4)?;
    let count = number::<2>(request, 6)? as usize;
    let driver = number::<4>(request, 16)?;
    if length != HEADER + count * ATTRIBUTE || length > request.len() || request.len() < HEADER {
        return None;
    }
    let attributes = request[HEADER..length].chunks_exact(ATTRIBUTE);
    let attribute = |id| {
        attributes
            .clone()
            .find(|attribute| number::<2>(attribute, 0) == Some(id))
    };
    let data = |id| number::<8>(attribute(id)?, 8);
    let unknown = Err("unknown");
    let region = |address, length, access, dma_buf| match attribute(dma_buf) {
        Some(_) => Err("dma-buf"),
        None => data(address)
            .zip(data(length))
            .map(|(address, length)| (address, length, is_on_demand(data(access).unwrap_or(0))))
            .ok_or("unknown"),
    };
    match (object, method) {
        (0, 0) => match data(2)? {
            9 => {
                let structure = || {
                    let attribute = attribute(0)?;
                    let at = data(0)?.checked_sub(request.as_ptr() as u64)? as usize;
                    let structure = request.get(at..)?.get(..40)?;
                    (number::<2>(attribute, 2)? >= 40).then_some(structure)
                };
                let region = structure().map(|structure| {
                    (
                        number::<8>(structure, 8).unwrap(),
                        number::<8>(structure, 16).unwrap(),
                        is_on_demand(number::<4>(structure, 36).unwrap()),
                    )
                });
                Some(("uverbs:REG_MR", region.ok_or("unknown")))
            }
            11 => Some(("uverbs:REREG_MR", unknown)),
            13 => Some(("uverbs:DEREG_MR", unknown)),
            _ => None,
        },
        (7, 1) => Some(("uverbs:MR_DESTROY", unknown)),
        (7, 5) => Some(("uverbs:MR_REG", region(4, 5, 6, 7))),
        (0x1002, 0x1000) if driver == 1 => {
            Some(("mlx5:UMEM_REG", region(0x1001, 0x1002, 0x1003, 0x1006)))
        }
        (0x1002, 0x1001) if driver == 1 => Some(("mlx5:UMEM_DEREG", unknown)),
        (0x1002, 0x1000) if driver == 19 => Some(("erdma:UMEM_REG", unknown)),
        (0x1002, 0x1001) if driver == 19 => Some(("erdma:UMEM_DEREG", unknown)),
        _ => None,
    }
}
