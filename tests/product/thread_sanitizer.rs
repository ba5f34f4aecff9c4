//! ThreadSanitizer finds no data race: neither between serialized calls, nor in the library itself.
//!
//! The library is built with ThreadSanitizer from the same sources, in release mode. So is a fake libibverbs, whose calls
//! change a variable that only mrlock's lock guards. The clients are those of the other tests. gcc's libtsan.so.2 serves
//! both: code from rustc calls the same functions, except for memcpy and similar ones, which a flag of rustc turns off.
//!
//! ThreadSanitizer checks that atomic accesses order the accesses to plain memory. It does not detect a thread that sleeps
//! for ever (tests/loom does), ignores fences, and does not follow a forked child of a process with several threads.

use crate::common::{Outcome, Program, build, fixtures, target_dir};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// `libmrlock.so` with ThreadSanitizer. It has its own target directory: otherwise each of the two builds would undo the other.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        const TARGET: &str = "x86_64-unknown-linux-gnu"; // with --target, build scripts are built without RUSTFLAGS
        // The mismatch is allowed: core is built without the sanitizer, but its generic and inline code is compiled here.
        const FLAGS: &str = "-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer \
             -Cllvm-args=-tsan-instrument-memintrinsics=0 -Clink-arg=-ltsan";
        let directory = target_dir().join("tsan");
        build(
            Command::new(env!("CARGO"))
                .args(["build", "--release", "--quiet", "--target", TARGET])
                .arg("--target-dir")
                .arg(&directory)
                // Lets a stable compiler accept an unstable option.
                .env("RUSTC_BOOTSTRAP", "1")
                .env("RUSTFLAGS", FLAGS)
                .env("CARGO_PROFILE_RELEASE_DEBUG", "line-tables-only"),
        );
        directory.join(TARGET).join("release/libmrlock.so")
    })
}

/// A client with ThreadSanitizer's library and then these preloaded. A race is reported, and does not end the process.
fn watched(name: &str, arguments: &str, preloaded: &[&Path]) -> Outcome {
    let mut preload = OsString::from("LD_PRELOAD=libtsan.so.2");
    for library in preloaded {
        preload.push(":");
        preload.push(library);
    }
    // ThreadSanitizer needs fixed addresses, which a random layout may occupy. (LD_PRELOAD is not set for `setarch`.)
    let program = Program::new("setarch").args(["-R", "env"]).arg(preload);
    let program = program.arg(fixtures().join("clients").join(name));
    let program = arguments.split(' ').fold(program, Program::arg);
    program
        .libibverbs("tsan")
        .env("FAKE_IBV_RACE", "count")
        .env("FAKE_IBV_HOLD_US", "10")
        .env("MRLOCK_REPORT", "/dev/null")
        .env("MRLOCK_WARN_AFTER", "1")
        .env("TSAN_OPTIONS", "")
        .run()
}

const FOUND: &str = "ThreadSanitizer: data race";

/// Returns what the client writes to stderr with the library, after checking that it reports no race.
fn is_clean(name: &str, arguments: &str) -> String {
    let with = watched(name, arguments, &[library()]);
    let with = with.succeeded("with the library");
    assert!(!with.stderr.contains("ThreadSanitizer"), "{with:#?}");
    with.stderr
}

#[test]
fn what_one_call_has_done_is_seen_by_the_next() {
    for (name, arguments) in [("stress", "-n 200"), ("many_threads", "64 16 200")] {
        let without = watched(name, arguments, &[]);
        assert!(
            without.stderr.contains(FOUND) && without.stderr.contains("verbs.c"),
            "nothing to see without the library: {without:#?}"
        );
        assert_eq!(is_clean(name, arguments), "");
    }
}

#[test]
fn handlers_that_register_race_with_nothing() {
    for arguments in ["verbs 4 500", "ioctl 4 500", "waiter"] {
        let said = is_clean("signals", arguments);
        // On a busy machine, a thread may lose its processor inside.
        let is_slow = |line: &&str| line.contains(" has been inside for ");
        let other: Vec<_> = said.lines().filter(|line| !is_slow(line)).collect();
        assert!(other.is_empty(), "{other:#?}");
    }
}

#[test]
fn checks_of_a_slow_or_ended_holder_race_with_nothing() {
    let slow = is_clean("slow_holder", "sleeps 2 8");
    assert!(slow.contains("has been inside for 1 s"), "{slow}");
    for how in ["cancel", "waiter"] {
        let gone = is_clean("thread_ends", how);
        assert!(gone.contains("the next in line goes on"), "{gone}");
    }
}
