//! The headers of a program, read as the kernel reads them: without the sections.

use elf::{
    abi,
    endian::LittleEndian,
    file::{Class, FileHeader, parse_ident},
    segment::{ProgramHeader, SegmentTable},
};
use std::{
    ffi::OsStr,
    fs::File,
    os::unix::{ffi::OsStrExt, fs::FileExt},
    path::PathBuf,
};

/// The header of a 64-bit x86 program; `None` if it is not one.
pub fn header(file: &File) -> Option<FileHeader<LittleEndian>> {
    let mut bytes = [0; 64];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let (ident, tail) = bytes.split_at(abi::EI_NIDENT);
    let header = FileHeader::parse_tail(parse_ident(ident).ok()?, tail).ok()?;
    (header.class == Class::ELF64 && header.e_machine == abi::EM_X86_64).then_some(header)
}

/// The program headers of a 64-bit x86 program.
pub fn segments(file: &File) -> Option<Vec<ProgramHeader>> {
    let header = header(file)?;
    let length = usize::from(header.e_phnum) * usize::from(header.e_phentsize);
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, header.e_phoff).ok()?;
    let table = SegmentTable::new(header.endianness, header.class, &bytes);
    Some(table.iter().collect())
}

/// The loader that a program with these headers names; `None` if it names none.
pub fn loader(file: &File, segments: &[ProgramHeader]) -> Option<PathBuf> {
    let segment = segments
        .iter()
        .find(|segment| segment.p_type == abi::PT_INTERP)?;
    let mut name = vec![0; segment.p_filesz.min(libc::PATH_MAX as u64) as usize];
    file.read_exact_at(&mut name, segment.p_offset).ok()?;
    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    Some(OsStr::from_bytes(name).into())
}
