//! A call reaches the function that it would have reached without the library: with several copies of libibverbs in the
//! process, with plugins that are loaded and unloaded, and before and after other preload libraries.
//!
//! A copy of the fake libibverbs ends the process when it gets a context of another copy.

use crate::common::{Outcome, Program, client, fixtures, library, same_with_and_without, scratch};
use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

fn clients(file: &str) -> PathBuf {
    fixtures().join("clients").join(file)
}

/// Linked to libibverbs.so.1.
fn plugin() -> PathBuf {
    clients("plugin.so")
}

/// The same code, linked to libibverbs-second.so.1.
fn plugin_of_the_second_copy() -> PathBuf {
    clients("plugin_second.so")
}

/// All copies of libibverbs in the process share one race detector, as they would share one kernel.
fn run_with_one_kernel(program: &Program) -> Outcome {
    let kernel = scratch("kernel");
    let outcome = program.clone().env("FAKE_IBV_KERNEL", &kernel).run();
    let _ = fs::remove_file(kernel);
    outcome
}

/// Like a Python process with two wheels, each with a libibverbs of its own.
#[test]
fn two_copies_of_libibverbs_in_use_at_once() {
    let program = client("plugin_host")
        .arg(plugin())
        .arg(plugin_of_the_second_copy())
        .counting()
        .env("FAKE_IBV_HOLD_US", "1000");
    let without = run_with_one_kernel(&program).succeeded("without the library");
    let with = run_with_one_kernel(&program.preloaded()).succeeded("with the library");
    for copy in ["plugin 0: served by copy 0", "plugin 1: served by copy 1"] {
        assert!(without.stdout.contains(copy), "{without:#?}");
    }
    assert_eq!(with.stdout, without.stdout);
    assert_eq!(with.stderr, "");

    assert!(
        without.witness.together >= 2,
        "nothing to see without the library: {without:#?}"
    );
    assert_eq!(with.witness.together, 1, "two inside at once: {with:#?}");
    // Both plugins have 8 threads, each with 50 regions.
    assert_eq!(with.witness.registrations.calls, 800);
}

/// Ubuntu 22.04 and older: `dlsym(RTLD_NEXT, "ibv_reg_mr")` returns the function of the 1.0 ABI.
#[test]
fn a_glibc_before_2_36() {
    let program = client("stress").env("LD_PRELOAD", clients("old_dlsym.so"));
    let without = program.run();
    assert!(
        without.segfaulted(),
        "it should die of the race: {without:#?}"
    );
    program.preloaded().run().succeeded("with the library");
}

/// A preload library before ours that defines dlsym(): what is next after it is our own function.
#[test]
fn a_library_before_ours_that_wraps_dlsym() {
    let wrapper = clients("wrapped_dlsym.so");
    let mut both = wrapper.clone().into_os_string();
    both.push(":");
    both.push(library());
    let linked = client("outcomes");
    let loaded_later = client("plugin_host").arg(plugin()).counting();
    for program in [client("ioctl_calls"), linked, loaded_later] {
        let without = program.clone().env("LD_PRELOAD", &wrapper).run();
        let without = without.succeeded("with the wrapper");
        let with = program
            .env("LD_PRELOAD", &both)
            .run()
            .succeeded("with both");
        assert_eq!((with.stdout, with.stderr), (without.stdout, without.stderr));
    }
    let race = client("stress").env("LD_PRELOAD", &wrapper).run();
    assert!(race.segfaulted(), "it should die of the race: {race:#?}");
    let stress = client("stress").env("LD_PRELOAD", &both);
    stress.run().succeeded("with both");
}

/// The dynamic linker looks in the global scope first, so the plugin never sees the copy that it is linked to.
#[test]
fn a_libibverbs_in_the_global_scope_comes_first() {
    let program = client("plugin_host_linked")
        .arg(plugin_of_the_second_copy())
        .env("FAKE_IBV_RACE", "count");
    let outcome = same_with_and_without(&program).succeeded("plugin_host_linked");
    assert!(outcome.stdout.contains("by copy 0"), "{outcome:#?}");
}

/// The second plugin is loaded at the address of the first, so their calls have the same return addresses. And the library
/// must not keep a plugin loaded after its host has closed it.
#[test]
fn plugins_that_are_closed_and_another_loaded_in_their_place() {
    let mut program = client("reload_plugin");
    for plugin in [
        plugin(),
        plugin(),
        plugin_of_the_second_copy(),
        plugin_of_the_second_copy(),
        plugin(),
    ] {
        program = program.arg(plugin);
    }
    let outcome = same_with_and_without(&program).succeeded("reload_plugin");
    assert_eq!(
        outcome.stdout,
        "served by copy 0, at another address, unloaded\n\
         served by copy 0, at the same address, unloaded\n\
         served by copy 1, at the same address, unloaded\n\
         served by copy 1, at the same address, unloaded\n\
         served by copy 0, at the same address, unloaded\n"
    );
}

/// Of two preload libraries, the constructor of the later one runs first.
#[test]
fn a_constructor_that_registers_before_ours_has_run() {
    let program = client("registered_before_main")
        .env("LD_PRELOAD", clients("libregister_in_constructor.so"));
    same_with_and_without(&program).succeeded("registered_before_main");

    let traced = program.preloaded().env("MRLOCK_LOG", "trace").run();
    let line = |start: &str| {
        let position = traced.stderr.find(start);
        position.unwrap_or_else(|| panic!("no {start:?} in {traced:#?}"))
    };
    assert!(
        line("trace: ibv_reg_mr ") < line("info: loaded"),
        "the order that this test is about: {traced:#?}"
    );
    assert!(line("info: loaded") < line("trace: ibv_dereg_mr "));
}

/// For example a profiler, after mrlock in LD_PRELOAD. It defines this one function only, without a version.
#[test]
fn another_library_that_interposes_ibv_reg_mr_is_still_reached() {
    let other = clients("other_reg_mr.so");
    let stress = client("stress").args(["-n", "20"]);
    for program in [stress, client("plugin_host").arg(plugin())] {
        let program = program
            .env("LD_PRELOAD", &other)
            .env("FAKE_IBV_RACE", "count");
        let outcome = same_with_and_without(&program).succeeded("with another library");
        assert!(!outcome.stdout.contains(": 0 calls"), "{outcome:#?}");
    }
}

/// The same behind a library that wraps dlsym().
#[test]
fn another_library_is_still_reached_where_one_wraps_dlsym() {
    let [wrapper, other] = ["wrapped_dlsym.so", "other_reg_mr.so"].map(clients);
    let run = |list: &[&Path]| {
        let list: Vec<_> = list.iter().map(|file| file.as_os_str()).collect();
        let stress = client("stress").args(["-n", "20"]);
        let stress = stress.env("FAKE_IBV_RACE", "count");
        stress.env("LD_PRELOAD", list.join(OsStr::new(":"))).run()
    };
    let without = run(&[&wrapper, &other]).succeeded("without the library");
    assert!(!without.stdout.contains(": 0 calls"), "{without:#?}");
    let with = run(&[&wrapper, library(), &other]).succeeded("with the library");
    assert_eq!(with.stdout, without.stdout);
}

/// Installed in two places and preloaded from both, for example by a user and by the service that starts the program.
fn with_another_copy_of_the_library(program: &Program) -> Outcome {
    let copy = scratch("libmrlock.so");
    fs::copy(library(), &copy).expect("a copy of the library");
    let twice = program.clone().env("LD_PRELOAD", &copy).preloaded();
    let outcome = twice.run().succeeded("with two copies of the library");
    // The first does what the settings ask for; the second forwards, and says nothing.
    let said = twice
        .env("MRLOCK_LOG", "info")
        .env("MRLOCK_REPORT", "stderr");
    let said = said.run().stderr;
    assert_eq!(said.matches("info: loaded").count(), 1, "{said}");
    let reports = concat!("mrlock ", env!("CARGO_PKG_VERSION"), ": process");
    assert_eq!(said.matches(reports).count(), 1, "{said}");
    let _ = fs::remove_file(copy);
    outcome
}

#[test]
fn two_copies_of_the_library() {
    let outcome = with_another_copy_of_the_library(&client("stress").args(["-n", "50"]));
    assert_eq!(outcome.stderr, "");
}

#[test]
fn two_copies_of_the_library_and_a_plugin_outside_the_global_scope() {
    let host = client("plugin_host").arg(plugin());
    let outcome = with_another_copy_of_the_library(&host);
    assert_eq!(outcome.stderr, "");
}
