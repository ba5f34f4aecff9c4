//! No two threads are ever inside at once, for every function and every way to look it up.
//!
//! The fake libibverbs checks this: it counts the threads inside, or kills the process as the kernel's race would.

use crate::common::{Program, client, fixtures};

/// Calls that take so long that the calls of two running threads overlap.
const HOLD_US: &str = "2000";

/// Runs `program` without and with the library: without, calls overlap; with, they never do.
fn overlaps_only_without_us(program: Program) {
    let program = program.counting().env("FAKE_IBV_HOLD_US", HOLD_US);
    let without = program.run().succeeded("without the library");
    let with = program.preloaded().run().succeeded("with the library");

    assert!(
        without.witness.together >= 2,
        "nothing to see without the library: {without:#?}"
    );
    assert_eq!(with.witness.together, 1, "two inside at once: {with:#?}");
    assert_eq!(with.stdout, without.stdout);
    assert_eq!(with.stderr, without.stderr);
    // No call was lost or made twice.
    assert_eq!(
        with.witness.registrations.calls,
        without.witness.registrations.calls
    );
    assert_eq!(
        with.witness.deregistrations.calls,
        without.witness.deregistrations.calls
    );
}

fn short_stress() -> Program {
    client("stress").arg("-n").arg("20")
}

/// With the library, on a libibverbs that counts overlapping calls and does not kill the process.
fn counted_stress() -> Program {
    short_stress()
        .counting()
        .env("FAKE_IBV_HOLD_US", HOLD_US)
        .preloaded()
}

#[test]
fn a_process_that_dies_of_the_race_lives_with_the_library() {
    let without = client("stress").run();
    assert!(
        without.segfaulted(),
        "it should die without the library: {without:#?}"
    );
    assert!(
        without.stderr.contains("race"),
        "it should die of the race: {without:#?}"
    );

    let with = client("stress")
        .preloaded()
        .run()
        .succeeded("with the library");
    assert_eq!(with.stderr, "");
}

#[test]
fn callers_linked_to_libibverbs() {
    overlaps_only_without_us(short_stress());
}

/// Ubuntu's build: the inner call from `ibv_reg_mr` to `ibv_reg_mr_iova2` does not pass through a hook.
#[test]
fn callers_of_a_libibverbs_that_binds_its_inner_calls_itself() {
    overlaps_only_without_us(short_stress().libibverbs("bsymbolic"));
}

/// A Python process: an extension module has loaded libibverbs, outside the global scope (`dlsym(RTLD_NEXT)` is NULL).
#[test]
fn callers_whose_libibverbs_is_not_in_the_global_scope() {
    overlaps_only_without_us(client("plugin_host").arg(fixtures().join("clients/plugin.so")));
}

/// Every thread makes its first call, before any has looked the functions up.
#[test]
fn eight_threads_whose_first_call_is_simultaneous() {
    for _ in 0..20 {
        let with = client("stress").arg("-n").arg("1").preloaded().run();
        let with = with.succeeded("with the library");
        assert_eq!(with.stderr, "");
    }
}

#[test]
fn more_threads_than_cores_or_devices() {
    overlaps_only_without_us(client("stress").args(["-t", "64", "-n", "2"]));
}

#[test]
fn switched_off_it_only_forwards() {
    let program = counted_stress();
    let off = program.env("MRLOCK", "off").run().succeeded("MRLOCK=off");
    assert!(
        off.witness.together >= 2,
        "MRLOCK=off must not serialize: {off:#?}"
    );
    assert_eq!(off.stderr, "");
}

#[test]
fn only_registrations_if_so_asked() {
    let program = counted_stress();
    let reg = program
        .env("MRLOCK_CALLS", "reg")
        .run()
        .succeeded("MRLOCK_CALLS=reg");
    assert_eq!(
        reg.witness.registrations.peak, 1,
        "registrations met: {reg:#?}"
    );
    assert!(
        reg.witness.deregistrations.peak >= 2,
        "deregistrations should be free: {reg:#?}"
    );
}

#[test]
fn only_deregistrations_if_so_asked() {
    let program = counted_stress();
    let dereg = program
        .env("MRLOCK_CALLS", "dereg")
        .run()
        .succeeded("MRLOCK_CALLS=dereg");
    assert_eq!(
        dereg.witness.deregistrations.peak, 1,
        "deregistrations met: {dereg:#?}"
    );
    assert!(
        dereg.witness.registrations.peak >= 2,
        "registrations should be free: {dereg:#?}"
    );
}
