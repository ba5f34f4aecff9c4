//! The newest libibverbs and kernel know no way to register memory that we have not read about: their names are compared with
//! `newest_rdma.txt`.

use super::artefact::{exported, parse, read};
use crate::common::{compile, fixtures, library, machine, make};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::OnceLock,
};

const LIST: &str = "tests/product/newest_rdma.txt";

/// Each name, and what is done with it.
fn known() -> BTreeMap<&'static str, &'static str> {
    include_str!("newest_rdma.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            line.split_once(' ')
                .unwrap_or_else(|| panic!("{LIST}: {line:?} is not a name and a mark"))
        })
        .collect()
}

/// The directory with the newest packages unpacked.
fn newest() -> &'static Result<PathBuf, String> {
    static NEWEST: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    NEWEST.get_or_init(|| {
        let output = make(["newest-rdma"]).output();
        let output = output.map_err(|why| why.to_string())?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim().into())
        } else {
            let why = String::from_utf8_lossy(&output.stderr);
            Err(format!("`make newest-rdma`: {}", why.trim()))
        }
    })
}

fn newest_is_there() -> machine::Need {
    newest().as_ref().map(drop).map_err(String::clone)
}

/// The functions, with their versions. That of the private ones is each release's own: its number is left out.
fn functions(libibverbs: &Path) -> BTreeSet<String> {
    let bytes = read(libibverbs);
    let names = exported(&parse(&bytes)).into_iter();
    // The versions themselves are symbols, too.
    let names = names.filter(|name| name.contains('@') && !name.starts_with("IBVERBS_"));
    names
        .map(|name| {
            let Some((name, _)) = name.split_once("@@IBVERBS_PRIVATE_") else {
                return name.replace("@@", "@");
            };
            let name = name.trim_end_matches(|it: char| it.is_ascii_digit() || it == '_');
            format!("{name}@IBVERBS_PRIVATE")
        })
        .collect()
}

/// The names in a directory of headers that `is_wanted`.
fn names(directory: &Path, is_wanted: fn(&str) -> bool) -> BTreeSet<String> {
    let entries = fs::read_dir(directory);
    let entries = entries.unwrap_or_else(|why| panic!("{}: {why}", directory.display()));
    let mut found = BTreeSet::new();
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() {
            found.append(&mut names(&path, is_wanted));
        } else {
            let text = fs::read_to_string(path).expect("a header is text");
            let words = text.split(|it: char| !it.is_ascii_alphanumeric() && it != '_');
            found.extend(words.filter(|word| is_wanted(word)).map(String::from));
        }
    }
    found
}

/// A command or method of uverbs, or of a driver; or an attribute that may say which memory one is applied to.
fn is_request(name: &str) -> bool {
    let is_attribute = name.contains("_ATTR_")
        && ["REG_", "UMEM", "BUF", "MEM"]
            .iter()
            .any(|part| name.contains(part));
    let is_command = ["IB_USER_VERBS_CMD_", "IB_USER_VERBS_EX_CMD_"]
        .iter()
        .any(|start| name.starts_with(start));
    is_command || is_attribute || name.contains("_METHOD_")
}

/// What a caller of libibverbs may ask of a registration.
fn is_of_a_registration(name: &str) -> bool {
    ["IBV_REG_MR_", "IBV_REREG_MR_", "IBV_ACCESS_"]
        .iter()
        .any(|start| name.starts_with(start))
}

#[test]
fn every_name_is_known() {
    needs!(
        "the comparison with the newest libibverbs and kernel",
        newest_is_there()
    );
    let directory = newest().as_ref().expect("checked before");
    let packages = fs::read_dir(directory).expect("made by make");
    let packages = packages.map(|entry| entry.expect("an entry").file_name());
    let mut packages: Vec<_> = packages
        .map(|name| name.to_string_lossy().into_owned())
        .filter_map(|name| Some(name.rsplit_once('_')?.0.replace('_', " ")))
        .collect();
    packages.sort();
    let packages = packages.join(", ");
    // Not eprintln!: the test harness hides what a passing test prints with it.
    let _ = writeln!(io::stderr(), "the newest: {packages}");

    let multiarch = format!("{}-linux-gnu", std::env::consts::ARCH);
    let libibverbs = directory.join(format!("usr/lib/{multiarch}/libibverbs.so.1"));
    let mut found = functions(&libibverbs);
    let headers = directory.join("usr/include");
    found.extend(names(&headers.join("rdma"), is_request));
    found.extend(names(&headers.join("infiniband"), is_of_a_registration));

    let known = known();
    let unknown: Vec<_> = found
        .iter()
        .filter(|name| !known.contains_key(name.as_str()))
        .map(String::as_str)
        .collect();
    assert!(
        unknown.is_empty(),
        "{packages}: new is {}: read what it does, serialize it (a function: src/hook/verbs.rs, a request: src/hook/ioctl.rs) if \
         it registers memory, and add it to {LIST} with its mark",
        unknown.join(", ")
    );
    let missing: Vec<_> = known
        .iter()
        .filter(|(name, mark)| **mark == "serialized" && !found.contains(**name))
        .collect();
    assert!(
        missing.is_empty(),
        "{packages}: gone is {missing:?}: callers may register in another way now; or this test did not find all names"
    );
}

/// `struct ibv_mr_init_attr` has the layout there that src/hook/verbs.rs and the fake libibverbs know: a client that is compiled with
/// the newest header gets a dma-buf let through and a buffer of ordinary memory serialized. (What `struct ibv_buf` is, a header does not say:
/// tests/clients/registering_functions.c asks libibverbs.)
#[test]
fn a_client_built_with_the_newest_header_describes_a_buffer_as_the_library_reads_it() {
    needs!(
        "a client built with the newest libibverbs's header",
        newest_is_there()
    );
    let include = newest().as_ref().expect("checked before");
    let include = include.join("usr/include");
    let include = include.to_str().expect("a name");
    let fake = fixtures().join("lib");
    let fake = fake.to_str().expect("a name");
    let client = compile(
        "cc",
        &["-std=gnu11", "-pthread", "-isystem", include],
        &["tests/clients/buffers.c", "-L", fake, "-libverbs"],
    );
    for (dma_bufs, calls) in [("0", 2), ("1", 1)] {
        let client = client.clone().env("FAKE_IBV_DMA_BUF", dma_bufs);
        let lines = client.preloaded().run().succeeded("buffers").stdout;
        let line = format!("a buffer by its attribute: {calls} of 2\n");
        assert!(lines.contains(&line), "no {line:?} in {lines}");
    }
}

/// The marks are true of the library.
#[test]
fn the_functions_that_are_marked_as_serialized_are_those_that_the_library_defines() {
    let known = known();
    let marked = known.iter().filter(|(name, mark)| {
        assert!(
            ["serialized", "by-those", "let-through", "not-a-region", "-"].contains(mark),
            "{LIST}: {name} has the mark {mark:?}, which is none"
        );
        **mark == "serialized" && name.contains('@')
    });
    let marked: BTreeSet<_> = marked.map(|(name, _)| (*name).to_owned()).collect();
    let bytes = read(library());
    let defined = exported(&parse(&bytes)).into_iter();
    let defined = defined.filter(|name| name.contains("@@IBVERBS_"));
    let defined: BTreeSet<_> = defined.map(|name| name.replace("@@", "@")).collect();
    assert_eq!(marked, defined);
}
