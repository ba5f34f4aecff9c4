//! `MRLOCK_MEMORY=device` lets host memory through and serializes GPU memory; `MRLOCK_CALLS=free` keeps frees of GPU memory
//! and registrations apart. (tests/gpu shows the same on a real GPU.)
//!
//! The fake libibverbs takes memory that allows no access for GPU memory, and counts the threads inside.

mod common;

use common::{Outcome, Program, client, fixtures, library};

fn stress(memory: &[&str]) -> Program {
    let stress = client("stress").arg("-n").arg("20");
    let stress = memory
        .iter()
        .fold(stress, |stress, option| stress.arg(option));
    stress.counting().env("FAKE_IBV_HOLD_US", "2000")
}

fn on_device_memory(program: &Program) -> Program {
    program.preloaded().env("MRLOCK_MEMORY", "device")
}

#[test]
fn host_memory_is_let_through() {
    let serialized = stress(&[]).preloaded().run().succeeded("by default");
    assert_eq!(serialized.witness.together, 1, "{serialized:#?}");
    let through = on_device_memory(&stress(&[]))
        .run()
        .succeeded("let through");
    assert!(through.witness.together >= 2, "{through:#?}");
    assert_eq!(through.stdout, serialized.stdout);
    assert_eq!(through.stderr, "");
}

#[test]
fn gpu_memory_is_serialized() {
    let without = stress(&["-g"]).run().succeeded("without the library");
    assert!(without.witness.together >= 2, "{without:#?}");
    let with = on_device_memory(&stress(&["-g"]))
        .run()
        .succeeded("with the library");
    assert_eq!(with.witness.together, 1, "{with:#?}");
    assert_eq!(with.stdout, without.stdout);
}

/// Behind mrlock stands a library whose free and whose registration take a millisecond, and which sees whether they meet.
fn frees(setting: Option<&str>, arguments: &[&str]) -> Outcome {
    let driver = fixtures().join("clients/slow_free.so");
    let driver = driver.to_str().expect("a name");
    let program = client("frees_and_registrations").counting();
    let program = arguments
        .iter()
        .fold(program, |program, argument| program.arg(argument));
    let program = match setting {
        None => program.env("LD_PRELOAD", driver),
        Some(calls) => program
            .env("LD_PRELOAD", format!("{}:{driver}", library().display()))
            .env("MRLOCK_CALLS", calls),
    };
    program.run().succeeded("frees and registrations")
}

#[test]
fn gpu_memory_is_not_freed_during_a_registration() {
    assert_eq!(frees(None, &[]).stdout, "met: yes\n");
    assert_eq!(frees(Some("reg,dereg"), &[]).stdout, "met: yes\n");
    assert_eq!(frees(Some("reg,dereg,free"), &[]).stdout, "met: no\n");
}

/// libcuda frees with a mutex of its own held, for which a thread in a section may wait.
#[test]
fn a_free_does_not_wait_for_a_section() {
    assert_eq!(frees(Some("reg,dereg,free"), &["-s"]).stdout, "met: no\n");
}

/// The interrupted thread frees with libcuda's mutex and our lock of the frees held; a registration of another thread waits for
/// the latter.
#[test]
fn a_signal_handler_that_interrupts_a_free_may_register() {
    let default = frees(Some("reg,dereg"), &["-f"]).stdout;
    assert_eq!(default, "sections refused: none\nmet: yes\n");
    let with = frees(Some("reg,dereg,free"), &["-f"]).stdout;
    // The free that it has interrupted is its own.
    assert_eq!(with, "sections refused: some\nmet: yes\n");
}

/// Also while the interrupted registration waits.
#[test]
fn a_signal_handler_that_interrupts_a_registration_meets_no_free() {
    let default = frees(Some("reg,dereg"), &["-r"]).stdout;
    assert_eq!(default, "sections refused: none\nmet: yes\n");
    let with = frees(Some("reg,dereg,free"), &["-r"]).stdout;
    assert_eq!(with, "sections refused: none\nmet: no\n");
}

/// What a registration of host memory lets through is its own request, not those of a signal handler, nor what comes after a
/// siglongjmp() out of it.
#[test]
fn only_the_request_of_a_call_that_was_let_through_is_let_through() {
    let program = client("let_through")
        .counting()
        .env("FAKE_IBV_HOLD_US", "10000000");
    let with = on_device_memory(&program).env("MRLOCK_REPORT", "stderr");
    let report = with.run().succeeded("let through").stderr;
    let row = report
        .lines()
        .find(|line| line.starts_with("uverbs:MR_REG"));
    let row = row.unwrap_or_else(|| panic!("no request was serialized: {report}"));
    assert_eq!(row.split_whitespace().nth(1), Some("20"), "{report}");
    assert!(
        report.contains("One call on host memory was let through."),
        "{report}"
    );
}

#[test]
fn a_setting_under_which_frees_are_not_kept_apart_says_so() {
    for (name, value, lines) in [
        ("MRLOCK_CALLS", "free", 1),
        ("MRLOCK_CALLS", "reg,free", 1),
        ("MRLOCK_CALLS", "reg,dereg,free", 0),
    ] {
        let program = Program::new("true").preloaded();
        let stderr = program.env(name, value).run().stderr;
        let said = stderr.matches("kept apart only from what is in the list");
        assert_eq!(said.count(), lines, "{value}: {stderr}");
    }
    let program = Program::new("true").preloaded();
    let program = program.env("MRLOCK_CALLS", "reg,dereg,free");
    let stderr = program.env("MRLOCK_HOOKS", "verbs").run().stderr;
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("MRLOCK_HOOKS"), "{stderr}");
}
