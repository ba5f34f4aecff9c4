//! The library writes nothing to a file of the host, and no thread waits for the reader of a pipe.

use crate::common::{Program, client, fixtures, scratch};
use std::fs;

/// The descriptor `number` is `data.db` when the report is written to where the setting says.
fn leaves_the_file_alone(number: &str, report: &str) {
    let file = scratch("data.db");
    let program = client("reused_descriptor").arg(number).arg(&file);
    let program = program.env("MRLOCK_REPORT", report);
    let with = program.preloaded().env("MRLOCK_LOG", "trace").run();
    let with = with.succeeded("with the library");
    assert_eq!(fs::read_to_string(&file).expect("data.db"), "HEADER");
    // The other stream is still what it was.
    let is_traced = with.stderr.contains("trace: ibv_dereg_mr ");
    assert_eq!(is_traced, number == "1", "{with:#?}");
    assert_eq!(with.stdout, "");
}

#[test]
fn a_file_that_became_descriptor_2() {
    leaves_the_file_alone("2", "stderr");
    leaves_the_file_alone("2", "/dev/stderr");
}

#[test]
fn a_file_that_became_descriptor_1() {
    leaves_the_file_alone("1", "/dev/stdout");
}

/// A program whose standard error is a full pipe.
fn with_a_full_stderr(name: &str) -> Program {
    let program = fixtures().join("clients").join(name);
    client("full_stderr").arg(program)
}

/// The warnings come after one and two seconds. If the waiter that writes them waited for the reader, it would never get the lock.
#[test]
fn a_warning_that_is_not_read() {
    let report = scratch("report");
    let program = with_a_full_stderr("slow_holder").args(["sleeps", "3", "3"]);
    let program = program.env("GIVE_UP_AFTER", "30");
    let with = program.preloaded().env("MRLOCK_WARN_AFTER", "1");
    let with = with.env("MRLOCK_REPORT", &report).run();
    let with = with.succeeded("with the library");
    assert!(with.stdout.contains("served "), "{with:#?}");
    let report = fs::read_to_string(report).expect("a report");
    let lost = "Lines that could not be written to stderr: ";
    assert!(report.contains(lost), "{report}");
}

#[test]
fn lines_that_were_lost_are_counted_when_there_is_room_again() {
    let program = with_a_full_stderr("drained_stderr").preloaded();
    let with = program.env("MRLOCK_LOG", "trace").run();
    let with = with.succeeded("with the library");
    let lines: Vec<_> = with.stdout.lines().collect();
    let [first, lost, second] = lines[..] else {
        panic!("three lines were expected: {with:#?}");
    };
    assert!(first.contains("trace: ibv_reg_mr ("), "{with:#?}");
    assert!(second.contains("trace: ibv_dereg_mr ("), "{with:#?}");
    let (_, lost) = lost.split_once(": warning: ").expect("a warning");
    let (count, rest) = lost.split_once(' ').expect("a number and words");
    assert_eq!(rest, "lines before this were lost");
    // Of the first registration and deregistration, and of the start.
    assert!(count.parse::<u32>().expect("a number") > 2, "{with:#?}");
}

/// poll() says that a terminal takes some bytes, and a write of a line waits for room for all of it.
#[test]
fn a_terminal_that_is_not_read() {
    let program = Program::new("/usr/bin/python3").arg("tests/clients/unread_terminal.py");
    let stress = fixtures().join("clients/stress");
    let program = program.arg(stress).args(["-t", "4", "-n", "400"]);
    let program = program.libibverbs("lib").preloaded();
    program
        .env("MRLOCK_LOG", "trace")
        .run()
        .succeeded("with the library");
}

/// Nor does the report wait.
#[test]
fn a_report_that_is_not_read() {
    let program = with_a_full_stderr("exits").args(["elsewhere", "call"]);
    let program = program.preloaded().env("MRLOCK_REPORT", "stderr");
    assert_eq!(program.run().status.code(), Some(7));
}
