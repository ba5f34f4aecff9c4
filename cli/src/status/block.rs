//! The block `mrlock_status` of the library (src/record/published.rs), in another process.

use elf::{ElfBytes, abi, endian::AnyEndian};
use procfs::process::{MMapPath, MemoryMap, Process};
use serde::Serialize;
use std::{
    fs,
    io::Read as _,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

/// The layout that is read here.
const MAGIC: [u8; 8] = *b"mrlock\0\0";
const VERSION: u64 = 1;
const WORDS: usize = 13;
const HOOKS: [&str; 2] = ["verbs", "ioctl"];
/// No text or table of the library is longer. A larger length, which is wrong, is cut to this.
const LONGEST: u64 = 4096;

/// The content of the block.
#[derive(Serialize)]
pub struct Library {
    /// Its file.
    pub file: PathBuf,
    /// Its version.
    pub version: String,
    /// Its settings: variables and values.
    pub settings: String,
    /// The hooks that a call by name reaches.
    pub hooks: Vec<&'static str>,
    /// The largest number of threads that were inside or waiting at once; while calls are observed, of threads inside.
    pub most_at_once: u64,
    /// The counters.
    pub operations: Vec<Operation>,
}

/// The counters of one entry point, in the order of the library's `Counters`.
#[derive(Serialize)]
pub struct Operation {
    /// Its name.
    pub name: String,
    pub calls: u64,
    pub failures: u64,
    pub waits: u64,
    pub wait_ns: u64,
    pub longest_wait_ns: u64,
    pub inside_ns: u64,
    pub longest_inside_ns: u64,
}

impl Library {
    /// The value of `MRLOCK`.
    pub fn mode(&self) -> &str {
        let mode = self
            .settings
            .split(' ')
            .find_map(|setting| setting.strip_prefix("MRLOCK="));
        mode.unwrap_or("?")
    }

    /// Reads the block of the library whose first mapping this is. The error says why that cannot be done.
    pub fn read(process: &Process, mapping: &MemoryMap) -> Result<Self, String> {
        let MMapPath::Path(file) = &mapping.pathname else {
            return Err("no file is mapped".into());
        };
        let offset = symbol(&contents(process, mapping, file)?)
            .ok_or_else(|| format!("{} has no symbol mrlock_status", file.display()))?;
        let memory = Memory(
            process
                .mem()
                .map_err(|error| explained(&error.to_string()))?,
        );
        // Numbers from another process are not trusted: an address that wraps around cannot be read.
        let words: [u64; WORDS] = memory.words(mapping.address.0.wrapping_add(offset))?;
        let [
            magic,
            version,
            _size,
            is_ready,
            hooks,
            most_serialized,
            most_observed,
            ranges @ ..,
        ] = words;
        if magic.to_ne_bytes() != MAGIC || version != VERSION {
            return Err(format!(
                "the library has another layout ({version}) than this command knows ({VERSION})"
            ));
        }
        if is_ready != 1 {
            return Err("the library is being loaded".into());
        }
        let [
            library,
            library_length,
            settings,
            settings_length,
            rows,
            row_count,
        ] = ranges;
        let settings = memory.text(settings, settings_length)?;
        let is_observed = settings.starts_with("MRLOCK=observe ");
        let [most_at_once] = memory.words(if is_observed {
            most_observed
        } else {
            most_serialized
        })?;
        let operations =
            (0..row_count.min(LONGEST)).map(|row| memory.operation(rows.wrapping_add(24 * row)));
        Ok(Self {
            file: file.clone(),
            version: memory.text(library, library_length)?,
            settings,
            hooks: (0..)
                .zip(HOOKS)
                .filter(|(bit, _)| hooks >> bit & 1 == 1)
                .map(|(_, name)| name)
                .collect(),
            most_at_once,
            operations: operations.collect::<Result<_, _>>()?,
        })
    }
}

/// Another process's memory. Reading /proc/PID/mem needs the same permission as process_vm_readv(2).
struct Memory(fs::File);

impl Memory {
    fn bytes(&self, address: u64, length: u64) -> Result<Vec<u8>, String> {
        let mut bytes = vec![0; length.min(LONGEST) as usize];
        let read = self.0.read_exact_at(&mut bytes, address);
        read.map_err(|error| explained(&error.to_string()))?;
        Ok(bytes)
    }

    fn words<const N: usize>(&self, address: u64) -> Result<[u64; N], String> {
        let bytes = self.bytes(address, 8 * N as u64)?;
        let mut words = [0; N];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
        Ok(words)
    }

    fn text(&self, address: u64, length: u64) -> Result<String, String> {
        Ok(String::from_utf8_lossy(&self.bytes(address, length)?).into_owned())
    }

    fn operation(&self, row: u64) -> Result<Operation, String> {
        let [name, length, counters] = self.words(row)?;
        let [
            calls,
            failures,
            waits,
            wait_ns,
            longest_wait_ns,
            inside_ns,
            longest_inside_ns,
        ] = self.words(counters)?;
        Ok(Operation {
            name: self.text(name, length)?,
            calls,
            failures,
            waits,
            wait_ns,
            longest_wait_ns,
            inside_ns,
            longest_inside_ns,
        })
    }
}

fn explained(error: &str) -> String {
    format!("its memory cannot be read ({error}): run this as root")
}

/// The contents of the mapped file. They are read through the mapping itself, which takes privileges and also works for a file that
/// was replaced, or by the file's name in the process's own file system.
fn contents(process: &Process, mapping: &MemoryMap, file: &Path) -> Result<Vec<u8>, String> {
    let (start, end) = mapping.address;
    let proc = PathBuf::from(format!("/proc/{}", process.pid()));
    if let Ok(file) = fs::File::open(proc.join(format!("map_files/{start:x}-{end:x}"))) {
        return start_of(file);
    }
    let name = proc
        .join("root")
        .join(file.strip_prefix("/").unwrap_or(file));
    let is_it = fs::metadata(&name).is_ok_and(|metadata| metadata.ino() == mapping.inode);
    match fs::File::open(name) {
        Ok(file) if is_it => start_of(file),
        _ => Err(format!(
            "{} was replaced, or is hidden: run this as root",
            file.display()
        )),
    }
}

/// The first 64 MiB of a file. Our library is smaller; another file with its name may be endless.
fn start_of(file: fs::File) -> Result<Vec<u8>, String> {
    const LARGEST: u64 = 64 << 20;
    let mut bytes = Vec::new();
    file.take(LARGEST)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("its file cannot be read ({error})"))?;
    Ok(bytes)
}

/// The offset of the block from the start of the library.
fn symbol(library: &[u8]) -> Option<u64> {
    let file = ElfBytes::<AnyEndian>::minimal_parse(library).ok()?;
    let start = file
        .segments()?
        .iter()
        .find(|segment| segment.p_type == abi::PT_LOAD)?
        .p_vaddr;
    let (symbols, names) = file.dynamic_symbol_table().ok()??;
    let symbol = symbols.iter().find(|symbol| {
        !symbol.is_undefined() && names.get(symbol.st_name as usize).ok() == Some("mrlock_status")
    })?;
    symbol.st_value.checked_sub(start)
}
