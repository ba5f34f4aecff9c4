//! `MRLOCK_MEMORY=device` lets host memory through and serializes GPU memory; `MRLOCK_CALLS=free` keeps frees of GPU memory
//! and registrations apart. (tests/gpu shows the same on a real GPU.)
//!
//! The fake libibverbs takes memory that allows no access for GPU memory, and counts the threads inside.

use crate::common::{Outcome, Program, client, fixtures, library, machine};

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

/// The real library's request to the kernel is part of a call, also where it carries a handle only.
#[test]
fn a_call_that_is_let_through_is_let_through_on_its_way_into_the_kernel() {
    let program = stress(&["-t", "4"]).env("FAKE_IBV_IOCTL", "1");
    let report = |memory| {
        let program = program.preloaded().env("MRLOCK_REPORT", "stderr");
        let program = program.env("MRLOCK_MEMORY", memory);
        program.run().succeeded(memory).stderr
    };
    // The same requests, where no verbs hook is before them.
    let requests = program.preloaded().env("MRLOCK_HOOKS", "ioctl");
    let requests = requests.env("MRLOCK_REPORT", "stderr").run().stderr;
    for name in ["uverbs:REG_MR", "uverbs:DEREG_MR"] {
        assert!(requests.contains(name), "{requests}");
        assert!(!report("any").contains(name));
    }
    let through = report("device");
    assert!(through.contains("No call was serialized."), "{through}");
    // Four threads with 20 calls each, of which every fourth also re-registers, and 20 deregistrations.
    let calls = 4 * (20 + 5 + 20);
    let line = format!("{calls} calls on host memory were let through.");
    assert!(through.contains(&line), "{through}");
}

/// The first page and the last page decide. A region of which nothing can be learned is serialized.
#[test]
fn the_settings_decide_which_memory_takes_the_lock() {
    let counts = |memory| {
        let program = client("which_memory").preloaded();
        let outcome = program.env("MRLOCK_MEMORY", memory).run();
        let lines = outcome.succeeded(memory).stdout;
        lines.lines().map(String::from).collect::<Vec<_>>()
    };
    let any = [
        "host memory: 2 of 2",
        "one byte of it: 2 of 2",
        "GPU memory: 2 of 2",
        "one byte of it: 2 of 2",
        "host, GPU: 2 of 2",
        "GPU, host: 2 of 2",
        "host, GPU, host: 2 of 2",
        "from host to host: 1 of 1",
        "from host to GPU: 1 of 1",
        "from GPU to host: 1 of 1",
        "no length: 1 of 1",
        "beyond the last address: 1 of 1",
        "implicit on-demand: 2 of 2",
    ];
    assert_eq!(counts("any"), any);
    let mut device = any;
    device[0] = "host memory: 0 of 2";
    device[1] = "one byte of it: 0 of 2";
    device[6] = "host, GPU, host: 0 of 2";
    device[7] = "from host to host: 0 of 1";
    // It pins nothing. What a deregistration unpins, it does not say.
    device[12] = "implicit on-demand: 1 of 2";
    assert_eq!(counts("device"), device);
}

/// The calls that race in nvidia-peermem. For these pairs only, the fake libibverbs kills the process.
#[test]
fn each_pair_of_calls_that_kills_a_process_is_harmless_with_the_library() {
    let pair = |calls: &[&str]| {
        let driver = fixtures().join("clients/fake_driver.so");
        let program = client("pairs").env("LD_PRELOAD", driver);
        let program = program.env("FAKE_IBV_RACE", "device");
        let program = program.env("FAKE_IBV_HOLD_US", "1000");
        calls
            .iter()
            .fold(program, |program, argument| program.arg(argument))
    };
    let calls = |name| match name {
        "reg" => "ibv_reg_mr",
        "dereg" => "ibv_dereg_mr",
        _ => "fake_gpu_free",
    };
    for [first, second] in [
        ["reg", "reg"],
        ["reg", "dereg"],
        ["dereg", "dereg"],
        ["reg", "free"],
        ["dereg", "free"],
    ] {
        let program = pair(&[first, second]);
        let without = program.run();
        assert!(without.segfaulted(), "{first}, {second}: {without:#?}");
        let (came_in, was_inside) = without
            .stderr
            .split_once(" came in while ")
            .unwrap_or_else(|| panic!("{first}, {second}: not of the race: {without:#?}"));
        let [a, b] = [first, second].map(calls);
        assert!(
            came_in.contains(a) && was_inside.contains(b)
                || came_in.contains(b) && was_inside.contains(a),
            "{first}, {second}: {without:#?}"
        );

        for (settings, program) in [
            ("by default", program.preloaded()),
            ("with MRLOCK_MEMORY=device", on_device_memory(&program)),
        ] {
            let with = program.run().succeeded(settings);
            assert_eq!(with.stderr, "");
        }
        if second == "free" {
            let lone = program.preloaded().env("MRLOCK_CALLS", "reg,dereg");
            let died = lone.run();
            assert!(died.segfaulted(), "{first}, {second}: {died:#?}");
        }

        pair(&[first, second, "host"])
            .run()
            .succeeded("host memory");
    }
    pair(&["free", "free"]).run().succeeded("frees alone");
}

/// An on-demand registration pins nothing. Its pages are not asked either: the question would bring them in.
#[test]
fn the_pages_of_an_on_demand_region_are_not_asked() {
    let settings = ["", "any", "device"];
    for arguments in [&[][..], &["pager"]] {
        // The kernel's own accesses wait for a pager too, for which root is needed.
        if !arguments.is_empty() && !machine::has("on-demand memory with a pager", machine::root())
        {
            continue;
        }
        let program = arguments
            .iter()
            .fold(client("on_demand"), |program, it| program.arg(it))
            .counting();
        let without = program.run().succeeded("without the library");
        assert_eq!(without.stdout, "0 pages\n");
        for memory in settings {
            for hooks in ["verbs,ioctl", "ioctl"] {
                let program = program.preloaded().env("MRLOCK_MEMORY", memory);
                let program = program.env("FAKE_IBV_IOCTL", "1");
                let with = program.env("MRLOCK_HOOKS", hooks).run();
                assert_eq!(with.succeeded(memory).stdout, "0 pages\n", "{memory}");
            }
        }
    }
}

/// Preloads, behind mrlock, a library whose free and whose registration take a millisecond. It prints whether they overlapped.
/// `setting`: `None` without mrlock; otherwise MRLOCK_CALLS, which is not set if it is empty.
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
    assert_eq!(frees(Some(""), &[]).stdout, "met: no\n");
}

/// A free must not wait for the seconds that the registration of a large host segment takes.
#[test]
fn host_memory_and_frees_do_not_wait_for_each_other() {
    assert_eq!(frees(None, &["-h"]).stdout, "met: yes\n");
    assert_eq!(frees(Some(""), &["-h"]).stdout, "met: yes\n");
}

/// libcuda holds a mutex of its own while it frees, and a thread in a section may wait for that mutex.
#[test]
fn a_free_does_not_wait_for_a_section() {
    assert_eq!(frees(Some(""), &["-s"]).stdout, "met: no\n");
}

/// The interrupted thread frees with libcuda's mutex and our lock of the frees held; a registration of another thread waits for
/// the latter.
#[test]
fn a_signal_handler_that_interrupts_a_free_may_register() {
    let default = frees(Some("reg,dereg"), &["-f"]).stdout;
    assert_eq!(default, "sections refused: none\nmet: yes\n");
    let with = frees(Some(""), &["-f"]).stdout;
    // The interrupted free belongs to the same thread.
    assert_eq!(with, "sections refused: some\nmet: yes\n");
}

/// Also while the interrupted registration waits.
#[test]
fn a_signal_handler_that_interrupts_a_registration_meets_no_free() {
    let default = frees(Some("reg,dereg"), &["-r"]).stdout;
    assert_eq!(default, "sections refused: none\nmet: yes\n");
    let with = frees(Some(""), &["-r"]).stdout;
    assert_eq!(with, "sections refused: none\nmet: no\n");
}

/// A registration of host memory lets only its own request through, not those of a signal handler, nor those after a
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
        ("MRLOCK_CALLS", "", 0),
        ("MRLOCK_CALLS", "reg,dereg", 0),
    ] {
        let program = Program::new("true").preloaded();
        let stderr = program.env(name, value).run().stderr;
        let said = stderr.matches("kept apart only from what is in the list");
        assert_eq!(said.count(), lines, "{value}: {stderr}");
    }
    let program = Program::new("true").preloaded();
    let program = program.env("MRLOCK_HOOKS", "verbs");
    assert_eq!(program.run().stderr, "");
    let asked = program.env("MRLOCK_CALLS", "reg,dereg,free");
    let stderr = asked.run().stderr;
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("MRLOCK_HOOKS"), "{stderr}");
}
