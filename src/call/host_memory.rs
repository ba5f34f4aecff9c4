//! Whether a memory region can be GPU memory.
//!
//! The kernel calls nvidia-peermem only for memory that it cannot pin in the ordinary way (inbox kernels, and OFED from 5.1
//! on). process_vm_readv(2), applied to our own process, pins a page with the same kernel function as a registration. So it
//! answers the question without CUDA. (It pins for reading only. Memory that can be read but not pinned for writing is taken
//! for host memory: the kernel then asks nvidia-peermem, which refuses it.)
//!
//! Measured on an H100 (driver 580, Linux 6.18): the call fails with EFAULT for every kind of GPU memory, mapped, reserved or
//! freed, and for device registers, which it does not access. It succeeds for host memory, pinned by CUDA or not, and for
//! managed memory. It takes 0.5 us for a page.

use crate::{base::sys, call::operation::Region};
use core::sync::atomic::{AtomicBool, Ordering};

/// Whether this process has freed GPU memory.
static HAS_FREED: AtomicBool = AtomicBool::new(false);

/// Notes that GPU memory is freed: from now on, it matters which memory is the host's.
pub fn note_free() {
    // Relaxed, both: a thread that does not see it yet waits for frees without need.
    HAS_FREED.store(true, Ordering::Relaxed);
}

/// Whether GPU memory was freed before.
pub fn is_any_freed() -> bool {
    HAS_FREED.load(Ordering::Relaxed)
}

/// Whether this process has registered memory on demand.
static HAS_ON_DEMAND: AtomicBool = AtomicBool::new(false);

/// Notes that memory is registered on demand.
pub fn note_on_demand() {
    // Relaxed, both: a thread that deregisters a region has got it from the thread that registered it, and sees its writes.
    HAS_ON_DEMAND.store(true, Ordering::Relaxed);
}

/// Whether a region of this process may have been registered on demand. (A `struct ibv_mr` does not say.)
pub fn is_any_on_demand() -> bool {
    HAS_ON_DEMAND.load(Ordering::Relaxed)
}

/// Whether the region is memory that the kernel can pin in the ordinary way. The first and the last page decide. (If a page
/// between them is GPU memory, the registration fails: nvidia-peermem takes a whole region or none.) The present mapping
/// decides: if host memory was mapped where GPU memory was registered, the deregistration counts as one of host memory.
///
/// `false` if the pages tell nothing about a region: an empty one, one that wraps around, the implicit on-demand region
/// (address 0, length SIZE_MAX), and any region where process_vm_readv() is forbidden, as by old seccomp profiles.
pub fn is_host(region: Region) -> bool {
    let first = region.address as usize;
    let Some(last) = region
        .length
        .checked_sub(1)
        .and_then(|distance| first.checked_add(distance))
    else {
        return false;
    };
    sys::are_readable([first, last]) == Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::ptr;

    fn region(address: usize, length: usize) -> Region {
        Region {
            address: ptr::without_provenance(address),
            length,
        }
    }

    /// Two pages that are host memory, and after them two that no process can read.
    fn two_and_two() -> usize {
        let page = sys::page_size();
        // SAFETY: new mappings, at an address that the kernel chooses; the second call changes half of the first's.
        unsafe {
            let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let start = libc::mmap(ptr::null_mut(), 4 * page, libc::PROT_READ, private, -1, 0);
            assert_ne!(start, libc::MAP_FAILED);
            let rest = start.byte_add(2 * page);
            assert_eq!(libc::mprotect(rest, 2 * page, libc::PROT_NONE), 0);
            start as usize
        }
    }

    #[test]
    fn the_first_and_the_last_page_decide() {
        let (start, page) = (two_and_two(), sys::page_size());
        for (offset, length, expected) in [
            (0, 1, true),
            (0, 2 * page, true),
            (page, page, true),
            (0, 2 * page + 1, false),
            (2 * page - 1, 2, false),
            (2 * page, 1, false),
            (2 * page, 2 * page, false),
        ] {
            let is_host = is_host(region(start + offset, length));
            assert_eq!(is_host, expected, "{length} bytes at {offset}");
        }
    }

    #[test]
    fn a_region_of_which_nothing_is_known_is_not_host_memory() {
        let start = two_and_two();
        assert!(!is_host(region(start, 0)));
        assert!(!is_host(region(0, usize::MAX)));
        assert!(!is_host(region(start, usize::MAX)));
        assert!(!is_host(region(0, 1)));
    }
}
