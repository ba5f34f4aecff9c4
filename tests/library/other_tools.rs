//! Together with tools that change what a program sees.

use crate::common::{Program, client, machine, same_with_and_without};

const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// A holder stays inside for longer than it takes to notice an ended one. The clock of faketime must not matter.
#[test]
fn a_clock_that_another_library_shows() {
    needs!("a mocked clock", machine::file(FAKETIME, "libfaketime"));
    for (time, year) in [
        ("@1970-01-01 00:00:20", "1970"),
        ("@2100-01-01 00:00:00", "2100"),
    ] {
        let at = |program: Program| program.env("LD_PRELOAD", FAKETIME).env("FAKETIME", time);
        let shown = at(Program::new("date").arg("+%Y")).run();
        assert_eq!(shown.stdout.trim(), year, "the clock that the test needs");
        let program = at(client("slow_holder").args(["sleeps", "3", "3"]));
        let with = program.preloaded().run().succeeded(time);
        assert_eq!(with.stderr, "");
        let (_, served) = with
            .stdout
            .split_once("served ")
            .expect("the threads that were served");
        let mut served: Vec<_> = served.split_whitespace().collect();
        served.sort_unstable();
        assert_eq!(served, ["1", "2", "3"]);
    }
}

/// The library checks whether it may read a request in a way that valgrind does not report.
#[test]
fn valgrind() {
    needs!("valgrind", machine::program("valgrind", "valgrind"));
    for name in ["uverbs_commands", "outcomes"] {
        let program = client(name);
        let quiet = Program::new("valgrind").arg("-q").arg(program.name());
        let outcome = same_with_and_without(&quiet.libibverbs("lib"));
        assert_eq!(outcome.succeeded(name).stderr, "");
    }
}
