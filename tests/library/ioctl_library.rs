//! `libmrlock-ioctl.so`, which defines no function of libibverbs: a process that asks for one gets the answer that it would have
//! got, and calls are caught in `ioctl` alone.

use super::status::Held;
use crate::common::{Outcome, Program, client, fixtures, ioctl_library, library};
use std::path::Path;

/// A program that has a way by TCP asks whether there is a libibverbs.
#[test]
fn a_process_without_libibverbs_is_told_so() {
    let program = client("optional_rdma");
    let bare = program.run().succeeded("without a library");
    assert_eq!(
        bare.stdout,
        "a weak reference: no\ndlsym: no\ngoes on by TCP\n"
    );
    // What docs/coverage.md says of libmrlock.so.
    let with_verbs = program.preloaded().run();
    assert!(
        with_verbs
            .stdout
            .contains("a weak reference: yes\ndlsym: yes")
    );
    assert!(with_verbs.segfaulted(), "{with_verbs:#?}");

    assert_eq!(program.preloading(ioctl_library()).run(), bare);
    let off = program.preloading(ioctl_library()).env("MRLOCK", "off");
    assert_eq!(off.run(), bare);
}

#[test]
fn each_function_is_absent_in_a_process_without_libibverbs() {
    let program = client("without_libibverbs");
    let bare = program.run().succeeded("without a library");
    assert_eq!(bare.stdout.matches(": absent\n").count(), 5, "{bare:#?}");
    assert_eq!(program.preloading(ioctl_library()).run(), bare);
}

#[test]
fn python_finds_no_function_of_libibverbs() {
    let ask = "import ctypes; print(hasattr(ctypes.CDLL(None), 'ibv_reg_mr'))";
    let program = Program::new("/usr/bin/python3").args(["-c", ask]);
    let answer = |program: &Program| program.run().succeeded("python3").stdout;
    assert_eq!(answer(&program), "False\n");
    assert_eq!(answer(&program.preloaded()), "True\n");
    assert_eq!(answer(&program.preloading(ioctl_library())), "False\n");
}

/// `uverbs_commands` makes its requests from 8 threads, and another library counts how many are under way.
fn requests() -> Program {
    client("uverbs_commands")
        .arg("8")
        .env("LD_PRELOAD", counts())
}

fn counts() -> std::path::PathBuf {
    fixtures().join("clients/other_ioctl.so")
}

const ONE_AT_A_TIME: &str = "other ioctl: 800 calls, at most 1 at once\n";

#[test]
fn uverbs_requests_are_made_one_at_a_time() {
    let without = requests().run().succeeded("without a library");
    assert!(
        !without.stdout.contains("at most 1 at once"),
        "nothing to see without the library: {without:#?}"
    );
    let with = requests().preloading(ioctl_library()).run();
    let with = with.succeeded("with the library");
    assert_eq!((&*with.stdout, &*with.stderr), (ONE_AT_A_TIME, ""));
}

/// What it would miss: a call of libibverbs that reaches the kernel by write(), or not at all, as in the fake libibverbs.
#[test]
fn a_call_without_a_request_is_not_seen() {
    let program = client("stress").args(["-n", "20"]).counting();
    let program = program.env("FAKE_IBV_HOLD_US", "2000");
    let program = program.env("MRLOCK_REPORT", "stderr");
    let outcome = program.preloading(ioctl_library()).run();
    let outcome = outcome.succeeded("stress");
    assert!(outcome.witness.together >= 2, "{outcome:#?}");
    assert!(!outcome.stderr.contains("ibv_"), "{outcome:#?}");
}

/// One package in the image, and the other library named by the user. The first in the search order does what the settings ask
/// for, and the other one is quiet.
#[test]
fn both_libraries_in_one_process() {
    for (first, second) in [(library(), ioctl_library()), (ioctl_library(), library())] {
        let list = format!("{}:{}", second.display(), counts().display());
        let both = client("uverbs_commands").arg("8").env("LD_PRELOAD", list);
        let both = both.preloading(first);
        let outcome = both.run().succeeded("with both libraries");
        assert_eq!((&*outcome.stdout, &*outcome.stderr), (ONE_AT_A_TIME, ""));

        let said = both
            .env("MRLOCK_LOG", "info")
            .env("MRLOCK_REPORT", "stderr")
            .run()
            .stderr;
        let hooks = hooks_of(first);
        let loaded = said.lines().filter(|line| line.contains("info: loaded"));
        let loaded: Vec<_> = loaded.collect();
        assert!(
            loaded.len() == 1 && loaded[0].contains(&format!("MRLOCK_HOOKS={hooks} ")),
            "{said}"
        );
        assert_eq!(said.matches(": process ").count(), 1, "{said}");
    }
}

fn hooks_of(library: &Path) -> &'static str {
    if library == ioctl_library() {
        "ioctl"
    } else {
        "verbs,ioctl"
    }
}

#[test]
fn its_only_hook_cannot_be_left_out() {
    let program = client("uverbs_commands").preloading(ioctl_library());
    let with = |value: &str| -> Outcome {
        let program = program.clone().env("MRLOCK_HOOKS", value);
        program.run().succeeded(value)
    };
    for accepted in ["ioctl", "verbs,ioctl"] {
        assert_eq!(with(accepted).stderr, "");
    }
    let refused = with("verbs").stderr;
    assert!(
        refused.contains("MRLOCK_HOOKS=verbs: not understood, taken as ioctl; accepted: ioctl"),
        "{refused}"
    );
    assert_eq!(refused.lines().count(), 1, "{refused}");
}

#[test]
fn its_status() {
    let held = Held::start(&client("held").preloading(ioctl_library()), 1);
    let seen = held.seen();
    assert_eq!(seen["state"], "covered", "{seen:#}");
    assert_eq!(seen["hooks"], serde_json::json!(["ioctl"]));
    assert_eq!(seen["file"], ioctl_library().to_str().expect("text"));
}
