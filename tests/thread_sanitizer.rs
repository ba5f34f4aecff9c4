//! ThreadSanitizer finds no data race: neither in what calls do that come one after the other, nor in the library itself.
//!
//! The library is built with it, from the same sources and for release; so is a software libibverbs whose calls change a
//! variable that nothing guards but the lock around them. The clients are those of the other tests. gcc's libtsan.so.2
//! serves both: what rustc's code asks of it is the same, but for a memcpy and the like of its own, which rustc is told
//! to do without.
//!
//! It sees which plain memory the atomic accesses put in order. It does not see a thread that sleeps for ever (tests/loom
//! does), takes no account of fences, and follows no child of a process that has several threads.

mod common;

use common::{Outcome, Program, build, fixtures, target_dir};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// `libmrlock.so`, watched. Not where the other one is built: neither is ever built again because of the other.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        const TARGET: &str = "x86_64-unknown-linux-gnu"; // named, so that build scripts are built as ever
        // Allowed to mix: Rust's own core is not built with it, but what of it is generic or inline is in our code.
        const FLAGS: &str = "-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer \
             -Cllvm-args=-tsan-instrument-memintrinsics=0 -Clink-arg=-ltsan";
        let directory = target_dir().join("tsan");
        build(
            Command::new(env!("CARGO"))
                .args(["build", "--release", "--quiet", "--target", TARGET])
                .arg("--target-dir")
                .arg(&directory)
                // The compiler is a stable one, and the option is not.
                .env("RUSTC_BOOTSTRAP", "1")
                .env("RUSTFLAGS", FLAGS)
                .env("CARGO_PROFILE_RELEASE_DEBUG", "line-tables-only"),
        );
        directory.join(TARGET).join("release/libmrlock.so")
    })
}

/// A client with these libraries preloaded, behind ThreadSanitizer's own. A race is reported, and nobody dies of it.
fn watched(name: &str, arguments: &str, preloaded: &[&Path]) -> Outcome {
    let mut preload = OsString::from("LD_PRELOAD=libtsan.so.2");
    for library in preloaded {
        preload.push(":");
        preload.push(library);
    }
    // It needs certain addresses for itself, which a random layout may have taken. (`setarch` does not get the preload.)
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

/// What it writes to stderr with the library; no race in it.
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
    assert_eq!(is_clean("signals", "verbs 4 500"), "");
    assert_eq!(is_clean("signals", "ioctl 4 500"), "");
    assert_eq!(is_clean("signals", "waiter"), "");
}

#[test]
fn who_looks_after_the_thread_inside_races_with_nothing() {
    let slow = is_clean("slow_holder", "sleeps 2 8");
    assert!(slow.contains("has been inside for 1 s"), "{slow}");
    for who in ["cancel", "waiter"] {
        let gone = is_clean("thread_ends", who);
        assert!(gone.contains("the next in line goes on"), "{gone}");
    }
}
