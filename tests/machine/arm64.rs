//! The library for arm64, cross-compiled, does what tests/library asks: the tests named here run once more, with the library and the
//! clients of arm64 on a processor that qemu-user simulates, also with pages of 16 and 64 KiB. And the library and the command in the
//! packages of `make dist` for arm64 do there what those for x86_64 do.
//!
//! What qemu-user (7.2) cannot do is left to a real kernel (`vm` boots Debian's for arm64): it has no process_vm_readv(), so that the
//! memory of a call is never known to be the host's; madvise() does nothing, also where it should fail or wipe a page in a forked
//! child; a child that was forked from among several threads cannot start a thread; vfork() is fork(); /proc is the real
//! processor's; and with pages larger than the real ones, the loader fails where two libraries are preloaded. It keeps loads and
//! stores in the order of an x86_64 processor: what an arm64 processor may reorder is for loom.

use crate::common::{ARM64, Program, build, machine, make, scratch, target_dir, unpacked_for};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// With each of the sizes of a page.
const TESTS: &[&str] = &[
    "serialization::callers_linked_to_libibverbs",
    "serialization::callers_whose_libibverbs_is_not_in_the_global_scope",
    "serialization::eight_threads_whose_first_call_is_simultaneous",
    "ioctl_hook::the_uverbs_requests_that_pin_or_unpin_are_known_and_no_others",
    "survival::a_fork_while_waiting",
    "survival::a_child_without_fork_handlers",
    "trace::each_call_is_an_event",
    "trace::the_last_calls_are_kept",
];

/// With pages of 4 KiB only.
const MORE_TESTS: &[&str] = &[
    "serialization::more_threads_than_cores_or_devices",
    "forwarding::a_constructor_that_registers_before_ours_has_run",
    "forwarding::a_glibc_before_2_36",
    "forwarding::another_library_is_still_reached_where_one_wraps_dlsym",
    "forwarding::another_library_that_interposes_ibv_reg_mr_is_still_reached",
    "forwarding::two_copies_of_libibverbs_in_use_at_once",
    "forwarding::two_copies_of_the_library",
    "ioctl_hook::an_unrelated_call_gets_what_it_got_with_the_hook_or_everything_off",
    "ioctl_hook::another_library_that_interposes_ioctl_is_still_reached",
    "ioctl_hook::uverbs_requests_are_made_one_at_a_time",
    "serialization::callers_of_a_libibverbs_that_binds_its_inner_calls_itself",
    "survival::a_holder_that_exits_in_a_signal_handler",
    "survival::a_holder_that_is_cancelled",
    "survival::a_holder_that_the_kernel_ends",
    "survival::a_waiter_that_is_cancelled",
    "c_api::functions_return_an_error_number_and_leave_errno_alone",
    "c_api::a_snapshot_may_be_shorter_or_longer_than_the_library_knows",
    "c_api::a_section_excludes_registrations_and_other_sections",
    "c_api::a_section_that_begins_or_ends_inside_a_call",
    "c_api::a_section_in_a_signal_handler_that_interrupts_the_wait_for_one",
    "c_api::a_section_protects_what_no_hook_sees",
    "gpu_memory::a_free_does_not_wait_for_a_section",
    "gpu_memory::gpu_memory_is_serialized",
    "slots::a_handler_registers_while_its_thread_waits",
    "trace::a_child_has_no_call_of_its_parent",
    "trace::unrelated_processes_with_one_name",
    "transparency::a_libibverbs_without_ibv_reg_mr_iova2",
    "transparency::a_null_protection_domain",
];

/// Runs tests of tests/library for arm64.
fn pass(page_size: u32, tests: &[&str]) {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--test", "library", "--", "--exact"]);
    cargo.args(tests).current_dir(env!("CARGO_MANIFEST_DIR"));
    cargo.env("MRLOCK_TEST_ARM64", "1");
    cargo.env("QEMU_PAGESIZE", page_size.to_string());
    let output = cargo.output().expect("cargo");
    let [said, errors] =
        [output.stdout, output.stderr].map(|it| String::from_utf8_lossy(&it).into_owned());
    for test in tests {
        assert!(
            said.contains(&format!("test {test} ... ok\n")),
            "{test}, with pages of {page_size} bytes:\n{said}\n{errors}"
        );
    }
}

fn can_run() -> machine::Need {
    machine::program("qemu-aarch64", "qemu-user")
        .and(machine::program(
            "aarch64-linux-gnu-gcc",
            "gcc-aarch64-linux-gnu",
        ))
        .and(machine::file(
            "/usr/aarch64-linux-gnu/include/stdio.h",
            "libc6-dev-arm64-cross",
        ))
        .and(machine::rust_target("aarch64-unknown-linux-gnu"))
}

/// The clients and the fake libibverbs for arm64.
fn fixtures() -> &'static Path {
    static FIXTURES: OnceLock<PathBuf> = OnceLock::new();
    FIXTURES.get_or_init(|| {
        build(&mut make(["fixtures", ARM64]));
        target_dir().join("fixtures-aarch64")
    })
}

#[test]
fn the_tests_of_the_library_on_arm64() {
    needs!("the library's tests on arm64", can_run());
    fixtures();
    pass(4096, &[TESTS, MORE_TESTS].concat());
    for page_size in [16384, 65536] {
        pass(page_size, TESTS);
    }
}

/// qemu-user, which runs the program for arm64 that is added next, with these libraries preloaded.
fn qemu(preloads: &[PathBuf]) -> Program {
    let libraries = fixtures().join("lib").display().to_string();
    let preloads = preloads.iter().map(|file| file.display().to_string());
    let preloads = preloads.collect::<Vec<_>>().join(":");
    let program = Program::new("qemu-aarch64").args(["-L", "/usr/aarch64-linux-gnu"]);
    [("LD_LIBRARY_PATH", libraries), ("LD_PRELOAD", preloads)]
        .into_iter()
        .fold(program, |program, (name, value)| {
            program.arg("-E").arg(format!("{name}={value}"))
        })
}

/// A client that dies alone.
fn stress() -> PathBuf {
    let stress = fixtures().join("clients/stress");
    let bare = qemu(&[]).arg(&stress).run();
    assert!(bare.segfaulted(), "it should die alone: {bare:#?}");
    stress
}

#[test]
fn the_library_of_the_package_for_arm64() {
    needs!("the packages for arm64", machine::make_dist(), can_run());
    let library = unpacked_for("aarch64").join("lib/libmrlock.so.0");
    let with = qemu(&[library]).arg(stress());
    assert_eq!(with.run().succeeded("with the library").stderr, "");
}

#[test]
fn the_command_of_the_package_for_arm64() {
    needs!("the packages for arm64", machine::make_dist(), can_run());
    let tree = unpacked_for("aarch64");
    let command = |preloads: &[PathBuf]| qemu(preloads).arg(tree.join("bin/mrlock"));
    let library = fs::canonicalize(tree.join("lib/libmrlock.so.0")).expect("the library");

    let path = command(&[]).arg("path").run().succeeded("mrlock path");
    let named = fs::canonicalize(path.stdout.trim_end()).expect("a file");
    assert_eq!(named, library);

    // What it says of this host is what the command for x86_64 says, but for its own place. The kernel's log grows.
    let doctor = |program: Program| {
        let said = program.arg("doctor").run().succeeded("mrlock doctor");
        assert_eq!(said.stderr, "");
        let text = said.stdout.replace("-x86_64-", "-aarch64-");
        let lines = text.lines().filter(|line| !line.starts_with("log: "));
        lines.map(String::from).collect::<Vec<_>>()
    };
    let arm64 = doctor(command(&[]));
    assert!(arm64[0].starts_with("mrlock: "), "{arm64:#?}");
    let x86_64 = Program::new(unpacked_for("x86_64").join("bin/mrlock"));
    assert_eq!(arm64, doctor(x86_64.clone()));

    // The kernel starts no program for arm64: the preloaded library starts qemu-user with it.
    let record = scratch("record");
    let run = command(&[fixtures().join("clients/exec_by_qemu.so")])
        .args(["run", "--trace"])
        .arg(&record)
        .arg(stress());
    assert_eq!(run.run().succeeded("mrlock run").stderr, "");
    let report = command(&[]).arg("report").arg(&record);
    let report = report.run().succeeded("mrlock report").stdout;
    assert!(report.contains("ibv_reg_mr"), "{report}");
    let by_the_other = x86_64.arg("report").arg(&record).run();
    assert_eq!(by_the_other.stdout, report, "left: by the one for x86_64");
}

/// Of the two commands, each with the library of the other.
#[test]
fn the_library_of_the_other_package() {
    needs!("the packages for arm64", machine::make_dist(), can_run());
    for (own, other) in [("x86_64", "aarch64"), ("aarch64", "x86_64")] {
        let directory = scratch("mixed");
        fs::create_dir(&directory).expect("a scratch directory");
        let library = unpacked_for(other).join("lib/libmrlock.so.0");
        fs::copy(library, directory.join("libmrlock.so.0")).expect("a copy");
        let command = directory.join("mrlock");
        fs::copy(unpacked_for(own).join("bin/mrlock"), &command).expect("a copy");
        let start = if own == "x86_64" {
            Program::new(&command)
        } else {
            qemu(&[]).arg(&command)
        };
        let refused = start.args(["run", "true"]).run();
        let reason = format!("libmrlock.so.0: for {other}, and ");
        assert_eq!(refused.status.code(), Some(125), "{refused:#?}");
        assert!(refused.stderr.contains(&reason), "{refused:#?}");
    }
}
