//! gVisor, a kernel in user space that containers may run on: each client dies there without the library, and ends well with it.

use crate::common::{Outcome, Program, client, fixtures, machine, make};
use std::{path::PathBuf, sync::OnceLock};

/// The ways in which gVisor catches the calls of a program.
const PLATFORMS: [&str; 2] = ["systrap", "ptrace"];

/// Its command.
fn runsc() -> Result<&'static PathBuf, String> {
    static RUNSC: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let made = RUNSC.get_or_init(|| {
        machine::debian_roots()?;
        let output = make(["gvisor"]).output().map_err(|why| why.to_string())?;
        let path = String::from_utf8_lossy(&output.stdout);
        if output.status.success() {
            Ok(path.trim_end().into())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    });
    made.as_ref().map_err(String::clone)
}

/// Runs the program there, with its environment.
fn run(platform: &str, program: &Program) -> Outcome {
    let sandbox =
        Program::new(runsc().expect("checked before")).args(["--network=none", "--ignore-cgroups"]);
    let platform = format!("--platform={platform}");
    program
        .by(sandbox.args([&platform, "do", "-force-overlay=false"]))
        .run()
}

fn dies_without_us(program: &Program, with: &[(&str, &str)]) {
    needs!("gVisor", runsc().map(drop));
    for platform in PLATFORMS {
        let without = run(platform, program);
        assert!(
            !without.status.success(),
            "{platform}: no race: {without:#?}"
        );
        let preloaded = with
            .iter()
            .fold(program.preloaded(), |program, (name, value)| {
                program.env(name, value)
            });
        run(platform, &preloaded).succeeded(platform);
    }
}

#[test]
fn pairs() {
    for pair in [["reg", "reg"], ["reg", "dereg"], ["dereg", "dereg"]] {
        dies_without_us(&client("pairs").args(pair), &[("MRLOCK_MEMORY", "device")]);
    }
}

#[test]
fn several_threads() {
    dies_without_us(&client("stress").args(["-t", "4", "-n", "50"]), &[]);
}

#[test]
fn forks() {
    dies_without_us(&client("fork").args(["traffic", "4"]), &[]);
}

/// The queue goes on when a holder ends inside.
#[test]
fn a_thread_that_ends_inside() {
    dies_without_us(&client("thread_ends").arg("exit"), &[]);
}

/// gVisor's poll() says that the pipe can be written to. A write would wait for a reader.
#[test]
fn a_report_that_is_not_read() {
    needs!("gVisor", runsc().map(drop));
    let program = fixtures().join("clients/stress");
    let program = client("full_stderr")
        .arg(program)
        .args(["-t", "4", "-n", "4"]);
    let program = program.preloaded().env("MRLOCK_REPORT", "stderr");
    for platform in PLATFORMS {
        run(platform, &program).succeeded(platform);
    }
}
