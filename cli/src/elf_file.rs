//! The headers of a program, read as the kernel reads them: without the sections.

use elf::{
    abi,
    endian::LittleEndian,
    file::{Class, FileHeader, parse_ident},
    segment::{ProgramHeader, SegmentTable},
};
use std::{
    env,
    ffi::OsStr,
    fs::File,
    os::unix::{ffi::OsStrExt, fs::FileExt},
    path::PathBuf,
};

/// The processor that this command is for, and so the library beside it.
pub const OWN_PROCESSOR: &str = env::consts::ARCH;

/// The processor that a 64-bit program or library is for, by its name in `OWN_PROCESSOR`; `None` if it is not one of a processor
/// that the library may be for.
pub fn processor(file: &File) -> Option<&'static str> {
    match header(file)?.e_machine {
        abi::EM_X86_64 => Some("x86_64"),
        abi::EM_AARCH64 => Some("aarch64"),
        _ => None,
    }
}

/// The header of a 64-bit program or library; `None` if it is not one.
fn header(file: &File) -> Option<FileHeader<LittleEndian>> {
    let mut bytes = [0; 64];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let (ident, tail) = bytes.split_at(abi::EI_NIDENT);
    let header = FileHeader::parse_tail(parse_ident(ident).ok()?, tail).ok()?;
    (header.class == Class::ELF64).then_some(header)
}

/// The program headers of a 64-bit program.
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
