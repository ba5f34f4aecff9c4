//! The symbols of ELF images that the loader or the kernel has mapped.

use core::{
    ffi::{CStr, c_int, c_void},
    ptr, slice,
};
use libc::{Elf64_Ehdr, Elf64_Phdr, Elf64_Sym, dl_phdr_info};

const DT_HASH: i64 = 4;
const DT_STRTAB: i64 = 5;
const DT_SYMTAB: i64 = 6;
const DT_GNU_HASH: i64 = 0x6fff_fef5;

/// The value of an entry of a dynamic section.
///
/// # Safety
///
/// `dynamic` is the start of a section that ends with an entry of tag 0.
unsafe fn value(mut dynamic: *const [i64; 2], wanted: i64) -> Option<u64> {
    loop {
        // SAFETY: the caller guarantees it.
        match unsafe { dynamic.read() } {
            [0, _] => return None,
            [tag, value] if tag == wanted => return Some(value as u64),
            // SAFETY: this was not the last entry.
            _ => dynamic = unsafe { dynamic.add(1) },
        }
    }
}

/// The address of a function in the image of an ELF file that is mapped in one piece.
///
/// # Safety
///
/// The image is complete and well-formed.
pub unsafe fn symbol(image: *const u8, name: &CStr) -> Option<*mut c_void> {
    // SAFETY: the caller guarantees that headers and tables are where the format says.
    unsafe {
        let header = &*image.cast::<Elf64_Ehdr>();
        let segments: *const Elf64_Phdr = image.add(header.e_phoff as usize).cast();
        let segments = slice::from_raw_parts(segments, header.e_phnum.into());
        let segment = |kind| segments.iter().find(|segment| segment.p_type == kind);
        // The image is one segment. Addresses in it are relative to where that one was linked to begin.
        let load = segment(libc::PT_LOAD)?;
        let bias = load.p_vaddr.wrapping_sub(load.p_offset) as usize;
        let at = |address: u64| image.add((address as usize).wrapping_sub(bias));
        let dynamic = at(segment(libc::PT_DYNAMIC)?.p_vaddr).cast();
        let table = |tag| value(dynamic, tag).map(at);
        let names = table(DT_STRTAB)?;
        let symbols = table(DT_SYMTAB)?.cast::<Elf64_Sym>();
        // The second word of the hash table is the number of symbols.
        let count = *table(DT_HASH)?.cast::<u32>().add(1);
        let symbol = (0..count as usize)
            .map(|index| &*symbols.add(index))
            .find(|symbol| {
                symbol.st_shndx != 0
                    && CStr::from_ptr(names.add(symbol.st_name as usize).cast()) == name
            })?;
        Some(at(symbol.st_value).cast_mut().cast())
    }
}

/// Whether a loaded object other than this library may define one of these symbols. Compares hashes alone, without the loader's
/// look-up, which allocates memory if it fails.
pub fn may_be_defined<const N: usize>(names: [&CStr; N]) -> bool {
    let hashes = names.map(hash);
    let mut hashes: &[u32] = &hashes;
    let question = (&raw mut hashes).cast();
    // SAFETY: `is_possible` has this type, and gets the pointer to `hashes`, which lives longer.
    unsafe { libc::dl_iterate_phdr(Some(is_possible), question) != 0 }
}

/// The hash that DT_GNU_HASH uses.
fn hash(name: &CStr) -> u32 {
    let bytes = name.to_bytes().iter();
    bytes.fold(5381, |hash: u32, &byte| {
        hash.wrapping_mul(33).wrapping_add(byte.into())
    })
}

/// Not 0 if this object may define a symbol with one of the hashes that `question` points to.
unsafe extern "C" fn is_possible(
    object: *mut dl_phdr_info,
    _size: usize,
    hashes: *mut c_void,
) -> c_int {
    // SAFETY: the loader describes an object that it has mapped; `may_be_defined` passes this pointer.
    let (object, hashes) = unsafe { (&*object, *hashes.cast::<&[u32]>()) };
    // SAFETY: as above.
    let segments = unsafe { slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into()) };
    let is_inside = |address: &u64| {
        segments.iter().any(|it| {
            let start = object.dlpi_addr.wrapping_add(it.p_vaddr);
            it.p_type == libc::PT_LOAD && address.wrapping_sub(start) < it.p_memsz
        })
    };
    let is_ours = is_inside(&(is_possible as *const () as u64));
    let dynamic = segments.iter().find(|it| it.p_type == libc::PT_DYNAMIC);
    let (false, Some(dynamic)) = (is_ours, dynamic) else {
        return 0;
    };
    let at = |address: u64| ptr::with_exposed_provenance::<u8>(address as usize);
    let dynamic = at(object.dlpi_addr.wrapping_add(dynamic.p_vaddr)).cast();
    // SAFETY: the loader has read this section.
    let Some(table) = (unsafe { value(dynamic, DT_GNU_HASH) }) else {
        // The kernel's own object has only the older table. It defines no symbol of a library.
        // SAFETY: the name is NUL-terminated.
        let name = unsafe { CStr::from_ptr(object.dlpi_name) };
        return (!name.to_bytes().starts_with(b"linux-vdso")).into();
    };
    // glibc has made the address absolute, but for objects whose dynamic section is read-only; musl never does. The bias may be
    // negative: an object that could not be mapped where it was linked to begin.
    let Some(table) = [table, object.dlpi_addr.wrapping_add(table)]
        .into_iter()
        .find(is_inside)
        .map(at)
    else {
        return 1;
    };
    // SAFETY: glibc and musl have read this table.
    hashes
        .iter()
        .any(|&hash| unsafe { is_in(table.cast(), hash) })
        .into()
}

/// Whether a DT_GNU_HASH table has a symbol with this hash, but for its lowest bit.
///
/// # Safety
///
/// The table is complete and well-formed.
unsafe fn is_in(table: *const u32, hash: u32) -> bool {
    // SAFETY: four numbers; a filter, which is passed over; for each bucket the index of its first symbol; and from index `first` on
    // the hash of each symbol, whose lowest bit says whether it is the last one of its bucket.
    unsafe {
        let [buckets, first, filter, _shift] = *table.cast::<[u32; 4]>();
        let bucket_of = table.add(4 + 2 * filter as usize);
        let hash_of = bucket_of.add(buckets as usize);
        let Some(bucket) = hash.checked_rem(buckets) else {
            return false;
        };
        // 0: the bucket is empty.
        let in_bucket = *bucket_of.add(bucket as usize);
        let Some(mut index) = in_bucket.checked_sub(first).filter(|_| in_bucket != 0) else {
            return false;
        };
        loop {
            let other = *hash_of.add(index as usize);
            if other | 1 == hash | 1 {
                return true;
            }
            if other & 1 != 0 {
                return false;
            }
            index += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_an_object_may_define_is_looked_up() {
        assert!(may_be_defined([c"ibv_no_such_function", c"getpid"]));
        // libgcc's.
        assert!(may_be_defined([c"_Unwind_Backtrace"]));
        assert!(!may_be_defined([
            c"ibv_no_such_function",
            c"mrlock_nor_this"
        ]));
    }
}
