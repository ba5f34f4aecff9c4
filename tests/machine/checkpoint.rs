//! A process and its child that CRIU has dumped with their tree and restored, while a thread of the child is inside a registration and
//! another one waits. Without the library, the two are inside at once, and the fake libibverbs ends the child. The scenarios are in
//! tests/vm/guest.

use crate::common::{
    machine::virtual_machine,
    recorded::{Run, results},
};

fn restored(scenario: &str) -> Run {
    let run = Run::of(&results("boot"), scenario, "with");
    let status = run.read("status");
    run.expects(status == "0\n", "exit status 0", run.read("stderr"));
    let stdout = run.read("stdout");
    let mut pipes = stdout
        .lines()
        .filter_map(|line| line.strip_prefix("pipe ")?.split_once(": "));
    let (before, after) = (pipes.next(), pipes.next());
    let is_another = before.is_some_and(|(_, before)| {
        before.starts_with("pipe:[") && after.is_some_and(|(_, after)| after != before)
    });
    run.expects(
        is_another,
        "another pipe after the restore, or the run is inconclusive",
        &stdout,
    );
    run
}

/// Then the waiter gets the lock, threads register one at a time, children of fork and of a clone without fork handlers find a
/// free lock, and lines and the report arrive.
#[test]
fn a_restored_process_goes_on() {
    needs!("CRIU", virtual_machine());
    let without = Run::of(&results("boot"), "checkpointed", "without");
    without.expects(
        without.read("stderr").contains("fake libibverbs: race"),
        "a race, or the run is inconclusive",
        without.read("stderr"),
    );
    let run = restored("checkpointed");
    let (stdout, stderr) = (run.read("stdout"), run.read("stderr"));
    for expected in [
        ") inside ibv_reg_mr for ",
        ") waits to enter ibv_reg_mr for ",
        "served 1\n",
    ] {
        run.expects(stdout.contains(expected), expected, &stdout);
    }
    run.expects(
        !stdout.contains("has ended"),
        "threads that have not ended",
        &stdout,
    );
    // The child: the holder, the waiter, and four threads with ten calls each. Its parent: one call before, and one after.
    for calls in ["42", " 2"] {
        let report = format!("\nibv_reg_mr                   {calls}       0 ");
        run.expects(stderr.contains(&report), &report, &stderr);
    }
    // Of these, and of the two children that were forked after the restore.
    let lines = stderr.matches(": trace: ibv_reg_mr (").count();
    run.expects(lines == 46, "46 lines about registrations", &stderr);
}

/// A pipe that the host has made after it has closed standard error is also another one after the restore, and gets no line.
#[test]
fn the_pipe_of_a_restored_host_that_became_descriptor_2() {
    needs!("CRIU", virtual_machine());
    restored("checkpointed_reused");
}
