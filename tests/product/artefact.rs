//! The built `libmrlock.so` and `libmrlock-ioctl.so`, read as a loader reads them: those of `cargo build --release`, and those of
//! `make dist`, which another linker made. (A toolchain can drop symbol versions without an error.)

use crate::common::{PROCESSORS, ioctl_library, library, machine, unpacked_for};
use elf::{
    ElfBytes, abi, endian::LittleEndian, gnu_symver::SymbolVersionTable, string_table::StringTable,
    symbol::SymbolTable,
};
use std::{collections::BTreeSet, fs, path::Path};

pub type Elf<'data> = ElfBytes<'data, LittleEndian>;

pub fn read(file: &Path) -> Vec<u8> {
    fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// A library of `cargo build --release` and, where they can be made, those of `make dist`.
fn builds_of(library: &Path) -> Vec<Vec<u8>> {
    let mut builds = vec![read(library)];
    if machine::has("the libraries of `make dist`", machine::make_dist()) {
        let name = library.file_stem().expect("a file").display();
        for (processor, _) in PROCESSORS {
            builds.push(read(
                &unpacked_for(processor).join(format!("lib/{name}.so.0")),
            ));
        }
    }
    builds
}

/// Both libraries.
fn builds() -> Vec<Vec<u8>> {
    [library(), ioctl_library()].map(builds_of).concat()
}

pub fn parse(bytes: &[u8]) -> Elf<'_> {
    Elf::minimal_parse(bytes).expect("an ELF file")
}

fn dynamic_symbols<'data>(
    file: &Elf<'data>,
) -> (SymbolTable<'data, LittleEndian>, StringTable<'data>) {
    let table = file.dynamic_symbol_table().expect("readable");
    table.expect("dynamic symbols")
}

fn versions<'data>(file: &Elf<'data>) -> SymbolVersionTable<'data, LittleEndian> {
    let table = file.symbol_version_table().expect("readable");
    table.expect("symbol versions")
}

/// The dynamic symbols that the library defines: `name@@version` for a default version, `name@version` for another, and
/// `name` for one without.
pub fn exported(file: &Elf) -> BTreeSet<String> {
    let (symbols, names) = dynamic_symbols(file);
    let versions = versions(file);
    let defined = symbols
        .iter()
        .enumerate()
        .filter(|(_, symbol)| !symbol.is_undefined());
    defined
        .map(|(index, symbol)| {
            let name = names.get(symbol.st_name as usize).expect("a name");
            match versions.get_definition(index).expect("readable") {
                Some(mut definition) if definition.flags & abi::VER_FLG_BASE == 0 => {
                    let version = definition.names.next().expect("a version has a name");
                    let at = if definition.hidden { "@" } else { "@@" };
                    format!("{name}{at}{}", version.expect("readable"))
                }
                _ => name.to_owned(),
            }
        })
        .collect()
}

/// The values of the entries with `tag` in the dynamic section.
fn dynamic(file: &Elf, tag: i64) -> Vec<u64> {
    let section = file
        .dynamic()
        .expect("readable")
        .expect("a dynamic section");
    section
        .iter()
        .filter(|entry| entry.d_tag == tag)
        .map(|entry| entry.d_val())
        .collect()
}

/// The names in the entries with `tag` in the dynamic section.
fn named<'data>(file: &Elf<'data>, tag: i64) -> Vec<&'data str> {
    let (_, names) = dynamic_symbols(file);
    dynamic(file, tag)
        .iter()
        .map(|&name| names.get(name as usize).expect("a name"))
        .collect()
}

/// The versions of glibc that the file needs: `GLIBC_2.2.5` is `[2, 2, 5]`.
fn needed_versions(file: &Elf) -> Vec<Vec<u32>> {
    let (symbols, _) = dynamic_symbols(file);
    let versions = versions(file);
    (0..symbols.len())
        .filter_map(|index| versions.get_requirement(index).expect("readable"))
        .map(|requirement| {
            let numbers = requirement.name.strip_prefix("GLIBC_");
            let numbers = numbers.unwrap_or_else(|| panic!("{requirement:?} is not glibc's"));
            let number = |number: &str| number.parse().expect("a number");
            numbers.split('.').map(number).collect()
        })
        .collect()
}

#[test]
fn exports_the_entry_points_with_their_versions_and_nothing_else() {
    let verbs = [
        "ibv_reg_mr@@IBVERBS_1.1",
        "ibv_reg_mr_iova@@IBVERBS_1.7",
        "ibv_reg_mr_iova2@@IBVERBS_1.8",
        "ibv_reg_mr_ex@@IBVERBS_1.15",
        "ibv_rereg_mr@@IBVERBS_1.1",
        "ibv_dereg_mr@@IBVERBS_1.1",
    ];
    let others = [
        "ioctl",
        "mrlock_active@@MRLOCK_0.1",
        "mrlock_lock@@MRLOCK_0.1",
        "mrlock_record@@MRLOCK_0.1",
        "mrlock_stats@@MRLOCK_0.1",
        "mrlock_unlock@@MRLOCK_0.1",
        "mrlock_version@@MRLOCK_0.1",
    ];
    let [verbs, others]: [BTreeSet<_>; 2] =
        [&verbs[..], &others].map(|names| names.iter().map(|&name| name.to_owned()).collect());
    for (library, expected) in [
        (library(), &verbs | &others),
        (ioctl_library(), others.clone()),
    ] {
        for bytes in builds_of(library) {
            assert_eq!(exported(&parse(&bytes)), expected);
        }
    }
}

/// Each file more is mapped by every process. What is linked for an old glibc must not need libdl.so.2.
#[test]
fn needs_libc_and_nothing_else() {
    for bytes in builds() {
        assert_eq!(named(&parse(&bytes), abi::DT_NEEDED), ["libc.so.6"]);
    }
}

#[test]
fn what_make_dist_makes_needs_nothing_newer_than_glibc_2_17() {
    needs!("the glibc versions of `make dist`", machine::make_dist());
    for (processor, _) in PROCESSORS {
        for file in [
            "lib/libmrlock.so.0",
            "lib/libmrlock-ioctl.so.0",
            "bin/mrlock",
        ] {
            let bytes = read(&unpacked_for(processor).join(file));
            let newest = needed_versions(&parse(&bytes)).into_iter().max();
            let newest = newest.expect("it needs some version of glibc");
            assert!(
                newest <= vec![2, 17],
                "{processor}, {file}: needs glibc {newest:?}"
            );
        }
    }
}

/// Programs linked to the library record this name, and the base version has it.
#[test]
fn has_a_soname() {
    for (library, name) in [
        (library(), "libmrlock.so.0"),
        (ioctl_library(), "libmrlock-ioctl.so.0"),
    ] {
        for bytes in builds_of(library) {
            assert_eq!(named(&parse(&bytes), abi::DT_SONAME), [name]);
        }
    }
}

/// A thread may be asleep in a hook at any time, so the library must never be unloaded.
#[test]
fn is_never_unloaded() {
    for bytes in builds() {
        let flags = dynamic(&parse(&bytes), abi::DT_FLAGS_1);
        assert!(
            flags
                .iter()
                .any(|flags| flags & abi::DF_1_NODELETE as u64 != 0),
            "{flags:x?}"
        );
    }
}

/// The loader reads this note (NT_GNU_PROPERTY_TYPE_0: x86 feature: SHSTK) in a segment that is aligned to 8.
#[test]
fn leaves_a_shadow_stack_on() {
    let note: Vec<u8> = [
        4,
        16,
        5,
        u32::from_le_bytes(*b"GNU\0"),
        0xc000_0002,
        4,
        2,
        0,
    ]
    .into_iter()
    .flat_map(u32::to_le_bytes)
    .collect();
    for bytes in builds() {
        let file = parse(&bytes);
        if file.ehdr.e_machine != abi::EM_X86_64 {
            continue;
        }
        let segments = file.segments().expect("program headers");
        let mut notes = segments
            .iter()
            .filter(|it| it.p_type == abi::PT_NOTE && it.p_align == 8);
        assert!(notes.any(|it| file.segment_data(&it).is_ok_and(|data| data == note)));
    }
}

/// On aarch64: `bti c`. Where no page is guarded, nothing else would notice that it is missing. (The library has no mark that says
/// that all its code has it, and the tests in tests/machine/arm64.rs would die with a false one: qemu-user guards the pages then.)
#[test]
fn an_indirect_call_may_land_on_each_exported_function() {
    const BTI_C: [u8; 4] = 0xd503_245f_u32.to_le_bytes();
    needs!(
        "the library of `make dist` for aarch64",
        machine::make_dist()
    );
    let bytes = read(&unpacked_for("aarch64").join("lib/libmrlock.so.0"));
    let file = parse(&bytes);
    let (symbols, names) = dynamic_symbols(&file);
    let functions = symbols
        .iter()
        .filter(|it| !it.is_undefined() && it.st_symtype() == abi::STT_FUNC);
    let mut seen = 0;
    for function in functions {
        let name = names.get(function.st_name as usize).expect("a name");
        let segments = file.segments().expect("program headers");
        let code = segments.iter().find(|it| {
            (it.p_vaddr..it.p_vaddr + it.p_filesz).contains(&function.st_value)
                && it.p_type == abi::PT_LOAD
        });
        let code = code.unwrap_or_else(|| panic!("{name} is in no segment"));
        let at = (function.st_value - code.p_vaddr + code.p_offset) as usize;
        assert_eq!(bytes[at..at + 4], BTI_C, "{name}");
        seen += 1;
    }
    assert_eq!(seen, exported(&file).len() - 1, "mrlock_record is data");
}

/// What is written at start is in two pages of 4 KiB: what the loader fills in and then protects, and the small statics with the
/// beginning of the record.
#[test]
fn is_small_and_laid_out_for_a_short_start() {
    for bytes in builds() {
        let file = parse(&bytes);
        let section = |name| {
            let header = file.section_header_by_name(name).expect("readable");
            header.unwrap_or_else(|| panic!("no section {name}"))
        };
        let code = section(".text").sh_size;
        // The same source is longer in instructions of four bytes each.
        let is_aarch64 = file.ehdr.e_machine == abi::EM_AARCH64;
        let most = if is_aarch64 { 66 } else { 64 } * 1024;
        assert!(code < most, "{code} bytes of code");
        let pages = |start: u64, end: u64| start / 4096..end.div_ceil(4096);
        let protected = pages(
            section(".init_array")
                .sh_addr
                .min(section(".fini_array").sh_addr),
            section(".got").sh_addr + section(".got").sh_size,
        );
        let statics = pages(
            section(".data").sh_addr,
            section(".bss").sh_addr + section(".bss").sh_size,
        );
        assert_eq!(protected.count(), 1, "what the loader fills in");
        assert_eq!(statics.clone().count(), 1, "the small statics");
        // The record's first words; see `export_zeroed!`.
        let record = section(".sbss").sh_addr / 4096;
        assert_eq!(record, statics.start, "the beginning of the record");
    }
}

#[test]
fn is_hardened() {
    builds().iter().for_each(|bytes| hardened(&parse(bytes)));
}

#[test]
fn the_packed_command_is_hardened() {
    needs!("the command of `make dist`", machine::make_dist());
    for (processor, _) in PROCESSORS {
        let bytes = read(&unpacked_for(processor).join("bin/mrlock"));
        let file = parse(&bytes);
        hardened(&file);
        assert_eq!(file.ehdr.e_type, abi::ET_DYN, "always at the same address");
        let position_independent = dynamic(&file, abi::DT_FLAGS_1);
        assert!(
            position_independent
                .iter()
                .any(|flags| flags & abi::DF_1_PIE as u64 != 0)
        );
        let build_id = file.section_header_by_name(".note.gnu.build-id");
        assert!(build_id.expect("readable").is_some(), "no build id");
    }
}

fn hardened(file: &Elf) {
    let now = dynamic(file, abi::DT_FLAGS_1);
    assert!(
        now.iter().any(|flags| flags & abi::DF_1_NOW as u64 != 0),
        "not bound at load"
    );
    assert!(
        dynamic(file, abi::DT_TEXTREL).is_empty(),
        "text relocations"
    );
    let segments: Vec<_> = file.segments().expect("program headers").iter().collect();
    assert!(
        segments
            .iter()
            .any(|segment| segment.p_type == abi::PT_GNU_RELRO),
        "no RELRO"
    );
    let stack = segments
        .iter()
        .find(|segment| segment.p_type == abi::PT_GNU_STACK);
    assert!(
        stack.is_some_and(|stack| stack.p_flags & abi::PF_X == 0),
        "an executable stack"
    );
    let writable_code = abi::PF_W | abi::PF_X;
    assert!(
        segments
            .iter()
            .all(|segment| segment.p_flags & writable_code != writable_code)
    );
}

/// Code that can panic (a checked index, an `unwrap`) calls one of core's panic functions. The only one in the library is
/// `panic_fmt`: `spin::Once` calls it in a state that only an earlier panic could cause.
#[test]
fn has_no_panic_of_its_own() {
    let mut builds = [library(), ioctl_library()].map(read).to_vec();
    if machine::has("the libraries of `make dist`", machine::make_dist()) {
        for (processor, _) in PROCESSORS {
            for name in ["libmrlock", "libmrlock-ioctl"] {
                let version = env!("CARGO_PKG_VERSION");
                let debug = format!("lib/.debug/{name}.so.{version}.debug");
                builds.push(read(&unpacked_for(processor).join(debug)));
            }
        }
    }
    for bytes in builds {
        let panics = panics(&parse(&bytes));
        assert!(
            panics.iter().all(|name| name.contains("panic_fmt")),
            "{panics:#?}"
        );
    }
}

fn panics(file: &Elf) -> BTreeSet<String> {
    let (symbols, names) = file
        .symbol_table()
        .expect("readable")
        .expect("it is not stripped");
    let names = symbols
        .iter()
        .map(|symbol| names.get(symbol.st_name as usize).expect("a name"));
    let panics = names.filter(|name| {
        ["panicking", "unwrap_failed", "expect_failed", "index_fail"]
            .iter()
            .any(|part| name.contains(part))
    });
    panics.map(String::from).collect()
}
