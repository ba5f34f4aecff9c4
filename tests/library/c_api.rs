//! The promises of `mrlock.h`, in a process with the library and in one without.

use crate::common::{Program, client, compile, scratch};
use std::{collections::BTreeSet, fs, os::unix::process::ExitStatusExt};

/// `tests/clients/c_api.c` makes the checks, and prints those that fail.
fn holds(how: &str, setting: (&str, &str)) {
    let program = client("c_api").arg(how).preloaded();
    let outcome = program.env(setting.0, setting.1).run();
    assert_eq!(outcome.succeeded(how).stderr, "");
}

macro_rules! holds {
    ($($test:ident: $how:literal)*) => {
        $(#[test]
        fn $test() {
            holds($how, ("MRLOCK", "on"));
        })*
    };
}

holds! {
    functions_return_an_error_number_and_leave_errno_alone: "errors"
    a_snapshot_may_be_shorter_or_longer_than_the_library_knows: "size"
    a_section_excludes_registrations_and_other_sections: "excludes"
    a_section_that_begins_or_ends_inside_a_call: "callback"
    a_section_in_a_signal_handler_that_interrupts_the_wait_for_one: "handler"
    a_forked_child_has_the_section_of_its_own_thread_and_no_other: "fork"
}

/// Python code that holds the lock needs the GIL to continue, so a thread that waits for the lock must not keep the GIL.
#[test]
fn a_section_of_python_code() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/gil.py");
    let run = |class: &str, seconds: &str| {
        let python = Program::new("/usr/bin/python3").args([script, class, seconds]);
        python.preloaded().run()
    };
    const SIGALRM: i32 = 14;
    let keeps_it = run("PyDLL", "3");
    assert!(
        keeps_it.status.signal() == Some(SIGALRM) || keeps_it.status.code() == Some(128 + SIGALRM),
        "it should hang: {keeps_it:#?}"
    );
    let releases_it = run("CDLL", "60").succeeded("with CDLL");
    assert_eq!((&*releases_it.stdout, &*releases_it.stderr), ("done\n", ""));
}

/// `mrlock_lock` locks under every setting.
#[test]
fn a_section_excludes_others_with_mrlock_off() {
    // With MRLOCK=off, registrations do not take the lock; sections do.
    holds("sections", ("MRLOCK", "off"));
    // Nor with MRLOCK=observe, where they are counted.
    holds("sections", ("MRLOCK", "observe"));
}

/// A section serializes calls that no hook sees, too.
#[test]
fn a_section_protects_what_no_hook_sees() {
    let program = client("c_api").arg("provider");
    let without = program.run();
    assert!(
        without.segfaulted() && without.stderr.contains("race"),
        "it should die of the race: {without:#?}"
    );
    holds("provider", ("MRLOCK", "on"));
}

#[test]
fn a_thread_that_ends_inside_a_section_is_named_and_passed_over() {
    let program = client("c_api").arg("ends").env("GIVE_UP_AFTER", "10");
    let outcome = program.preloaded().run().succeeded("ends");
    let mut numbers = outcome
        .stdout
        .split_whitespace()
        .filter_map(|word| word.parse::<u32>().ok());
    let thread = numbers.next().expect("the holder's id");
    let served: BTreeSet<_> = numbers.collect();
    assert_eq!(served, [1, 2, 3].into(), "{outcome:#?}");
    let line = format!(
        ": error: mrlock_lock (address 0x0, length 0): thread {thread} ended before it was done; the next in line goes on\n",
    );
    assert!(
        outcome.stderr.ends_with(&line) && outcome.stderr.lines().count() == 1,
        "expected {line:?}: {outcome:#?}"
    );
}

/// Calls, failures and waits of every entry point: the last snapshot and the report have the same numbers.
#[test]
fn a_snapshot_says_what_the_report_says() {
    let program = client("c_api").arg("counts").preloaded();
    let report = scratch("report");
    let outcome = program.env("MRLOCK_REPORT", &report).run();
    let outcome = outcome.succeeded("counts");
    let report = fs::read_to_string(report).expect("a report");
    let mut rows = 0;
    for line in outcome.stdout.lines() {
        let words: Vec<_> = line.split(' ').collect();
        let reported = report
            .lines()
            .find(|row| row.split_whitespace().next() == Some(words[0]));
        match reported {
            Some(row) => {
                let row: Vec<_> = row.split_whitespace().take(4).collect();
                assert_eq!(row, words, "{report}");
                rows += 1;
            }
            None => assert_eq!(words[1..], ["0", "0", "0"], "{report}"),
        }
    }
    // The rows of the verbs, and the row of `mrlock_lock`.
    assert_eq!(rows, 7, "{report}");
    holds("counts", ("MRLOCK", "on"));
}

#[test]
fn a_report_without_sections_has_no_row_for_them() {
    let program = client("outcomes").preloaded();
    let outcome = program.env("MRLOCK_REPORT", "stderr").run();
    assert!(!outcome.stderr.contains("mrlock_lock"), "{outcome:#?}");
}

// Without the library

#[test]
fn without_the_library_every_function_does_nothing() {
    let outcome = client("c_api").arg("absent").run().succeeded("absent");
    assert_eq!(outcome.stderr, "");
}

/// As C and as C++, without `-lmrlock`: the same program runs with the library and without.
#[test]
fn a_program_without_a_link_dependency_finds_the_library_if_it_is_there() {
    let here = format!("1 0 0 0 3 '{}'\n", env!("CARGO_PKG_VERSION"));
    for (compiler, flags) in [
        ("cc", &["-fPIE", "-pie"][..]),
        ("cc", &["-fPIE", "-pie", "-O2", "-fno-plt"]),
        ("cc", &["-fPIC", "-no-pie"]),
        ("cc", &["-fno-pic", "-no-pie"]),
        ("cc", &["-fno-pic", "-no-pie", "-O2"]),
        ("cc", &["-fno-pic", "-no-pie", "-O2", "-flto"]),
        ("c++", &["-xc++", "-fPIE", "-pie"]),
        ("c++", &["-xc++", "-fno-pic", "-no-pie", "-O2"]),
    ] {
        let weak = compile(compiler, flags, &["tests/clients/weak_api.c"]);
        let without = weak.run().succeeded("without the library");
        assert_eq!(without.stdout, "0 0 0 38 0 ''\n", "{compiler} {flags:?}");
        let with = weak.preloaded().run().succeeded("with the library");
        assert_eq!(with.stdout, here, "{compiler} {flags:?}");
    }
}

#[test]
fn the_guard_of_cpp_holds_the_lock_for_its_scope() {
    let guard = compile("c++", &["-std=c++11"], &["tests/clients/mrlock_guard.cpp"]);
    assert_eq!(guard.run().succeeded("without").stdout, "0 0\n");
    assert_eq!(guard.preloaded().run().succeeded("with").stdout, "0 1\n");
}
