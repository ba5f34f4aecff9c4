//! The library as it lies in a process's memory: an ELF image. It is not read from its file, which may have been replaced.

use elf::{
    abi,
    endian::NativeEndian,
    file::{Class, FileHeader, parse_ident},
    hash::GnuHashTable,
    parse::ParsingTable,
    segment::SegmentTable,
    string_table::StringTable,
    symbol::SymbolTable,
};

/// A larger library is not ours.
pub const LARGEST: usize = 64 << 20;

/// The offset of a symbol from the start of the image, which begins at the address `start`.
pub fn symbol(image: &[u8], start: u64, name: &str) -> Option<u64> {
    let endian = NativeEndian;
    let (ident, tail) = image.get(..64)?.split_at(abi::EI_NIDENT);
    let header = FileHeader::<NativeEndian>::parse_tail(parse_ident(ident).ok()?, tail).ok()?;
    if header.class != Class::ELF64 {
        return None;
    }
    let length = usize::from(header.e_phnum).checked_mul(usize::from(header.e_phentsize))?;
    let headers = part(image, header.e_phoff)?.get(..length)?;
    let segments = SegmentTable::new(endian, Class::ELF64, headers);
    let first = segments
        .iter()
        .find(|segment| segment.p_type == abi::PT_LOAD)?;
    let dynamic = segments
        .iter()
        .find(|segment| segment.p_type == abi::PT_DYNAMIC)?;
    let at = dynamic.p_vaddr.checked_sub(first.p_vaddr)?;
    let length = usize::try_from(dynamic.p_memsz).ok()?;
    let dynamic = part(image, at)?.get(..length)?;
    let entries = || {
        ParsingTable::<NativeEndian, elf::dynamic::Dyn>::new(endian, Class::ELF64, dynamic)
            .iter()
            .take_while(|entry| entry.d_tag != abi::DT_NULL)
    };
    let value = |tag| Some(entries().find(|entry| entry.d_tag == tag)?.d_val());
    // glibc adds the start to the addresses in the dynamic section; musl does not.
    let table = |tag| {
        let value = value(tag)?;
        let offset = match value >= start {
            true => value - start,
            false => value.checked_sub(first.p_vaddr)?,
        };
        part(image, offset)
    };
    let symbols = SymbolTable::new(endian, Class::ELF64, table(abi::DT_SYMTAB)?);
    let names = table(abi::DT_STRTAB)?;
    let length = usize::try_from(value(abi::DT_STRSZ)?).ok()?;
    let names = StringTable::new(names.get(..length)?);
    let hashes = GnuHashTable::new(endian, Class::ELF64, table(abi::DT_GNU_HASH)?).ok()?;
    let (_, symbol) = hashes.find(name.as_bytes(), &symbols, &names).ok()??;
    (!symbol.is_undefined())
        .then_some(symbol.st_value)?
        .checked_sub(first.p_vaddr)
}

fn part(image: &[u8], offset: u64) -> Option<&[u8]> {
    image.get(usize::try_from(offset).ok()?..)
}

/// An image that begins at address 0x1000 and has the symbol `mrlock_record` at offset 0x180, for tests.
#[cfg(any(test, fuzzing))]
pub fn sample() -> Vec<u8> {
    let mut image = vec![0; 0x200];
    let mut put = |offset: usize, bytes: &[u8]| {
        image[offset..offset + bytes.len()].copy_from_slice(bytes);
    };
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &3u16.to_ne_bytes());
    put(20, &1u32.to_ne_bytes());
    put(32, &64u64.to_ne_bytes()); // e_phoff
    put(54, &[56, 0, 2, 0]); // e_phentsize, e_phnum
    put(64, &abi::PT_LOAD.to_ne_bytes());
    put(120, &abi::PT_DYNAMIC.to_ne_bytes());
    put(120 + 16, &0xb0u64.to_ne_bytes()); // p_vaddr
    put(120 + 40, &0x50u64.to_ne_bytes()); // p_memsz
    // glibc has added the start to two of the addresses.
    let dynamic: [i64; 8] = [
        abi::DT_SYMTAB,
        0x1100,
        abi::DT_STRTAB,
        0x1130,
        abi::DT_STRSZ,
        0x10,
        abi::DT_GNU_HASH,
        0x140,
    ];
    for (index, word) in dynamic.into_iter().enumerate() {
        put(0xb0 + 8 * index, &word.to_ne_bytes());
    }
    put(0x118, &1u32.to_ne_bytes()); // st_name
    put(0x11e, &1u16.to_ne_bytes()); // st_shndx
    put(0x120, &0x180u64.to_ne_bytes()); // st_value
    put(0x131, b"mrlock_record");
    let hash = elf::hash::gnu_hash(b"mrlock_record");
    for (index, word) in [1, 1, 1, 0, u32::MAX, u32::MAX, 1, hash | 1]
        .into_iter()
        .enumerate()
    {
        put(0x140 + 4 * index, &word.to_ne_bytes());
    }
    image
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbol() {
        let image = sample();
        assert_eq!(symbol(&image, 0x1000, "mrlock_record"), Some(0x180));
        assert_eq!(symbol(&image, 0x1000, "mrlock_status"), None);
    }

    #[test]
    fn an_image_that_is_cut() {
        let image = sample();
        for length in 0..0x160 {
            assert_eq!(symbol(&image[..length], 0x1000, "mrlock_record"), None);
        }
    }
}
