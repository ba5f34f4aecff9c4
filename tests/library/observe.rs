//! `MRLOCK=observe`: nothing is serialized, and the calls that would have been serialized are counted.

use crate::common::{
    Outcome, Program, Witness, client, fixtures, library, record::read, same_with_and_without,
    scratch,
};

fn observed(program: &Program) -> Program {
    program
        .preloaded()
        .env("MRLOCK", "observe")
        .env("MRLOCK_REPORT", "stderr")
}

fn last_line(outcome: &Outcome) -> &str {
    outcome.stderr.lines().last().expect("a report")
}

/// The number of calls in the report's row of this name; `None` if it has no such row.
fn calls(outcome: &Outcome, name: &str) -> Option<u32> {
    let mut rows = outcome
        .stderr
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|words| words.first() == Some(&name))?;
    row[1].parse().ok()
}

/// All threads of the client are inside at once, or it hangs. The library counts as many as the fake libibverbs does.
#[test]
fn as_many_are_inside_as_without_the_library() {
    for threads in [2, 5, 32] {
        let program = client("inside_together")
            .arg(threads.to_string())
            .counting();
        let without = program.run().succeeded("without the library");
        assert_eq!(without.witness.registrations.peak, threads);
        let with = observed(&program).run().succeeded("observed");
        let peak = |witness: Witness| (witness.registrations, witness.together);
        assert_eq!(peak(with.witness), peak(without.witness));
        assert_eq!(with.stdout, without.stdout);
        let expected = format!("Up to {threads} threads were inside at once.");
        assert_eq!(last_line(&with), expected, "{with:#?}");
        // A call from within a call is part of it.
        assert_eq!(calls(&with, "ibv_reg_mr"), Some(threads));
        assert_eq!(calls(&with, "ibv_reg_mr_iova2"), Some(0));
        assert_eq!(calls(&with, "ibv_dereg_mr"), Some(threads));
        // Two calls for each thread, on four devices in turn.
        let devices: Vec<_> = (0..threads.min(4))
            .map(|device| format!("mlx5_{device} {}", (threads - device).div_ceil(4) * 2))
            .collect();
        let line = with
            .stderr
            .lines()
            .find_map(|line| line.strip_prefix("Nothing was serialized. Calls of each device: "));
        let line = line.unwrap_or_else(|| panic!("{with:#?}"));
        let mut seen: Vec<_> = line.trim_end_matches('.').split(", ").collect();
        seen.sort();
        assert_eq!(seen, devices, "{with:#?}");
    }
}

/// Those that have no room in the record are not counted. The report says how many they are.
#[test]
fn more_threads_than_are_counted() {
    let program = client("inside_together").arg("300").counting();
    let outcome = observed(&program).run().succeeded("300 threads");
    assert_eq!(outcome.witness.registrations.peak, 300);
    let expected = [
        "More may have been inside: 44 threads had no room in the record.",
        "Up to 256 threads were inside at once.",
    ];
    let lines: Vec<_> = outcome.stderr.lines().collect();
    assert!(lines.ends_with(&expected), "{outcome:#?}");
    assert_eq!(calls(&outcome, "ibv_reg_mr"), Some(300));
    assert_eq!(calls(&outcome, "ibv_dereg_mr"), Some(300));
}

/// The record has room for 31 of them; the others have an entry together.
#[test]
fn more_devices_than_are_named() {
    let file = scratch("trace");
    let program = client("inside_together").arg("40").counting();
    let program = observed(&program.env("FAKE_IBV_DEVICES", "40"));
    let outcome = program.env("MRLOCK_TRACE", &file).run();
    let outcome = outcome.succeeded("40 devices");
    let start = "Nothing was serialized. Calls of each device: ";
    let mut lines = outcome.stderr.lines();
    let line = lines.find_map(|line| line.strip_prefix(start));
    let devices: Vec<_> = line.expect("a line").split(", ").collect();
    let [named @ .., others] = &devices[..] else {
        panic!("{outcome:#?}")
    };
    assert_eq!((named.len(), *others), (31, "(others) 18"), "{outcome:#?}");
    let of_one = |it: &&str| it.starts_with("mlx5_") && it.ends_with(" 2");
    assert!(named.iter().all(of_one), "{outcome:#?}");
    assert_eq!(last_line(&outcome), "Up to 40 threads were inside at once.");

    let record = read(&file);
    assert_eq!((record.unlisted, record.events.len()), (0, 80));
    let events = record.events.iter();
    let of_others = events.filter(|call| call.device == "(others)");
    assert_eq!(of_others.count(), 18);
}

/// A process that dies of the race still dies of it.
#[test]
fn it_does_not_serialize() {
    let without = client("stress").run();
    assert!(without.segfaulted(), "{without:#?}");
    client("stress").preloaded().run().succeeded("serialized");
    let with = client("stress").preloaded().env("MRLOCK", "observe").run();
    assert!(with.segfaulted(), "{with:#?}");
}

#[test]
fn a_single_thread_overlaps_no_other() {
    let outcome = observed(&client("outcomes")).run().succeeded("outcomes");
    assert_eq!(
        last_line(&outcome),
        "No two threads were ever inside at once."
    );
    let nothing = observed(&Program::new("true")).run().succeeded("no call");
    assert_eq!(nothing.stderr, "");
}

/// Each call has the same result, and its row in the report is the same as where it is serialized.
#[test]
fn results_and_counts_are_those_of_a_serialized_process() {
    let program = client("outcomes").env("MRLOCK", "observe");
    assert_eq!(same_with_and_without(&program).stderr, "");
    let serialized = client("outcomes")
        .preloaded()
        .env("MRLOCK_REPORT", "stderr");
    let serialized = serialized.run().succeeded("serialized");
    let observed = observed(&client("outcomes")).run().succeeded("observed");
    for name in [
        "ibv_reg_mr",
        "ibv_reg_mr_iova",
        "ibv_reg_mr_iova2",
        "ibv_rereg_mr",
        "ibv_dereg_mr",
    ] {
        let columns = |outcome: &Outcome| -> Vec<String> {
            let row = outcome
                .stderr
                .lines()
                .find(|line| line.starts_with(&format!("{name} ")));
            let row = row.unwrap_or_else(|| panic!("no row for {name}: {outcome:#?}"));
            row.split_whitespace().take(3).map(String::from).collect()
        };
        assert_eq!(columns(&observed), columns(&serialized), "{name}");
    }
}

/// Calls that the settings leave out are not counted either.
#[test]
fn other_settings_say_what_is_observed() {
    let program = client("inside_together").arg("3").counting();
    let outcome = observed(&program).env("MRLOCK_CALLS", "dereg").run();
    let outcome = outcome.succeeded("MRLOCK_CALLS=dereg");
    assert!(outcome.stderr.contains("not serialized"), "{outcome:#?}");
    assert_eq!(calls(&outcome, "ibv_dereg_mr"), Some(3));
    let outcome = observed(&program).env("MRLOCK_HOOKS", "ioctl").run();
    let outcome = outcome.succeeded("MRLOCK_HOOKS=ioctl");
    assert_eq!(
        last_line(&outcome),
        "No registration or deregistration was observed."
    );
}

/// The requests that the ioctl hook recognizes are counted as they are where it serializes.
#[test]
fn requests_to_the_kernel_are_observed() {
    let program = client("uverbs_commands")
        .preloaded()
        .env("MRLOCK_REPORT", "stderr");
    let rows = |outcome: Outcome| -> Vec<String> {
        let rows = outcome.stderr.lines().filter(|line| line.contains(':'));
        let rows = rows
            .skip(1)
            .map(|row| row.split_whitespace().take(3).collect::<Vec<_>>().join(" "));
        rows.filter(|row| !row.starts_with("Nothing")).collect()
    };
    let serialized = rows(program.run().succeeded("serialized"));
    assert!(
        serialized
            .iter()
            .any(|row| row.starts_with("uverbs:REG_MR ")),
        "{serialized:?}"
    );
    let observed = program.env("MRLOCK", "observe").run().succeeded("observed");
    assert_eq!(rows(observed), serialized);
}

/// A forked child counts only its own thread, which was inside when it forked.
#[test]
fn a_forked_child_counts_for_itself() {
    let program = client("inside_together").args(["2", "forks"]).counting();
    let outcome = observed(&program).run().succeeded("a child");
    let mut lines: Vec<_> = outcome
        .stderr
        .lines()
        .filter(|line| line.contains("at once"))
        .collect();
    lines.sort();
    assert_eq!(
        lines,
        [
            "No two threads were ever inside at once.",
            "Up to 2 threads were inside at once."
        ],
        "{outcome:#?}"
    );
}

/// Of the calls that its parent made before, none is counted.
#[test]
fn a_forked_child_counts_its_own_calls() {
    let program = client("fork").args(["traffic", "2"]).counting();
    let outcome = observed(&program).run().succeeded("two children");
    let reports = outcome.stderr.split("mrlock ").skip(1);
    let children: Vec<_> = reports
        .filter(|report| {
            report
                .lines()
                .next()
                .is_some_and(|it| it.ends_with("(child)"))
        })
        .collect();
    assert_eq!(children.len(), 2, "{outcome:#?}");
    for report in children {
        let rows = report.lines().map(|line| line.split_whitespace());
        let calls: Vec<_> = rows
            .filter_map(|mut row| {
                ["ibv_reg_mr", "ibv_dereg_mr"]
                    .contains(&row.next()?)
                    .then(|| row.next())?
            })
            .collect();
        assert_eq!(calls, ["6", "6"], "{outcome:#?}");
    }
}

/// They were inside one after the other, never at once.
#[test]
fn a_thread_that_ended_inside_is_not_counted_any_more() {
    let program = client("ended_inside").counting();
    program.run().succeeded("without the library");
    let outcome = observed(&program).run().succeeded("observed");
    assert_eq!(
        last_line(&outcome),
        "No two threads were ever inside at once.",
        "{outcome:#?}"
    );
}

/// What crashes with drivers before 560. The library behind frees and registers for a millisecond each.
#[test]
fn frees_that_meet_calls_on_gpu_memory_are_counted() {
    let driver = fixtures().join("clients/slow_free.so");
    let list = format!("{}:{}", library().display(), driver.display());
    let met = "Frees of GPU memory met calls on GPU memory";
    for (arguments, is_met) in [(&[][..], true), (&["-h"], false)] {
        let program = client("frees_and_registrations").counting();
        let program = arguments
            .iter()
            .fold(program, |program, it| program.arg(it));
        let program = program.env("LD_PRELOAD", &list).env("MRLOCK", "observe");
        let outcome = program.env("MRLOCK_REPORT", "stderr").run();
        let report = outcome.succeeded("observed").stderr;
        assert_eq!(report.contains(met), is_met, "{report}");
    }
}
