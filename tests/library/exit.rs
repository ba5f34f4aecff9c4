//! A process ends as without the library, wherever it calls exit(), also if there is a report to write.

use crate::common::{Program, client, fixtures};

const REQUEST: &str = "uverbs:MR_DESTROY";

/// The exit status is the program's own, 7. `call`: whether it makes a request that the report has to show.
fn exits(how: &str, call: bool) {
    let program = client("exits").arg(how);
    let program = if call { program.arg("call") } else { program };
    let ends = |program: &Program| {
        let outcome = program.run();
        assert_eq!(outcome.status.code(), Some(7), "{how}: {outcome:#?}");
        outcome
    };
    let without = ends(&program);
    assert_eq!(ends(&program.preloaded()), without);
    let reported = ends(&program.preloaded().env("MRLOCK_REPORT", "stderr"));
    assert_eq!(reported.stderr.matches(REQUEST).count(), usize::from(call));
    assert_eq!(reported.stderr.is_empty(), !call, "{reported:#?}");
}

#[test]
fn in_a_thread_with_a_small_stack() {
    exits("small-stack", false);
    exits("small-stack", true);
}

#[test]
fn in_a_handler_on_a_small_stack() {
    exits("small-handler", false);
    exits("small-handler", true);
}

/// The library may not allocate there, nor call functions that allocate, such as the loader's.
#[test]
fn in_a_handler_that_interrupts_malloc() {
    exits("in-malloc", false);
    exits("in-malloc", true);
}

/// If there is no report to write, the library makes no system call at exit.
#[test]
fn in_a_process_that_may_only_write() {
    exits("filtered", false);
}

/// The destructor of `registering_preload.so` runs after ours: there is a report before it, and one after it.
#[test]
fn a_report_has_the_calls_of_later_destructors() {
    let last = fixtures().join("clients/registering_preload.so");
    let program = client("outcomes").env("LD_PRELOAD", last).preloaded();
    let report = program.env("MRLOCK_REPORT", "stderr").run();
    let report = report.succeeded("registers in a destructor").stderr;
    let sections = report.lines().filter(|row| row.starts_with("mrlock_lock "));
    let counts: Vec<_> = sections
        .filter_map(|row| row.split_whitespace().nth(1))
        .collect();
    assert_eq!(counts, ["1", "2"], "{report}");
}
