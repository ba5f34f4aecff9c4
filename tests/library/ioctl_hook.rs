//! `ioctl()` is unchanged for requests that do not belong to verbs. The verbs requests that pin or unpin memory are made one at a
//! time.

use crate::common::{Program, client, fixtures, same_with_and_without};

/// With another preload library that has an `ioctl` of its own, after mrlock in LD_PRELOAD.
fn before_another_library(client_name: &str) -> Program {
    client(client_name).env("LD_PRELOAD", fixtures().join("clients/other_ioctl.so"))
}

/// Calls from a constructor, before all constructors, from a signal handler, from a vfork child; with good, bad and no
/// arguments; and requests that look like those of verbs, with arguments at the end of readable memory.
#[test]
fn an_unrelated_call_gets_what_it_got() {
    let outcome = same_with_and_without(&client("ioctl_calls")).succeeded("ioctl_calls");
    assert_eq!(outcome.stderr, "");
    // Without these lines, the comparison would prove nothing.
    for line in [
        "before the constructors: 0, errno 1234, value 5",
        "in a constructor: 0, errno 1234, value 5",
        "in a signal handler: 0, errno 1234, value 5",
        "in a vfork child: 0, errno 1234, value 5",
        "a closed descriptor: -1, errno 9",
        "21 rows, 77 columns",
        "uverbs: NULL: -1, errno 25",
    ] {
        assert!(outcome.stdout.contains(line), "no {line:?} in {outcome:#?}");
    }
}

#[test]
fn an_unrelated_call_gets_what_it_got_with_the_hook_or_everything_off() {
    for (name, value) in [("MRLOCK_HOOKS", "verbs"), ("MRLOCK", "off")] {
        same_with_and_without(&client("ioctl_calls").env(name, value)).succeeded(name);
        same_with_and_without(&client("uverbs_commands").env(name, value)).succeeded(name);
    }
}

#[test]
fn a_uverbs_request_gets_the_kernels_answer() {
    let outcome = same_with_and_without(&client("uverbs_commands")).succeeded("uverbs_commands");
    assert_eq!(outcome.stdout.matches(": -1, errno 25\n").count(), 17);
}

/// The rows of the report on requests: name, calls, how many of them failed, and how many waited.
fn rows(report: &str) -> Vec<Vec<&str>> {
    let rows = report
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words.first().is_some_and(|name| name.contains(':')))
        .filter(|words| words[0] != "mrlock");
    rows.map(|mut words| {
        words.truncate(4);
        words
    })
    .collect()
}

/// The client takes the numbers of the requests from the kernel's headers.
#[test]
fn the_uverbs_requests_that_pin_or_unpin_are_known_and_no_others() {
    for memory in ["any", "device"] {
        let program = client("uverbs_commands")
            .preloaded()
            .env("MRLOCK_MEMORY", memory)
            .env("MRLOCK_REPORT", "stderr");
        let outcome = program.run().succeeded("uverbs_commands");
        // Each was called once (the first also with bits that the kernel ignores), failed, and did not wait. With
        // MRLOCK_MEMORY=device, too: none says what memory it is applied to.
        let expected = [
            ("uverbs:REG_MR", "2"),
            ("uverbs:REREG_MR", "1"),
            ("uverbs:DEREG_MR", "1"),
            ("uverbs:MR_DESTROY", "1"),
            ("uverbs:MR_REG", "1"),
            ("mlx5:UMEM_REG", "1"),
            ("mlx5:UMEM_DEREG", "1"),
            ("erdma:UMEM_REG", "1"),
            ("erdma:UMEM_DEREG", "1"),
        ];
        let expected = expected.map(|(name, calls)| vec![name, calls, calls, "0"]);
        assert_eq!(rows(&outcome.stderr), expected, "{outcome:#?}");
    }
}

/// The client prints the regions that it asks for, and the log shows which of them are serialized.
#[test]
fn the_memory_that_a_uverbs_request_names_decides() {
    let run = |kind, memory| {
        let program = client("uverbs_commands").arg(kind).preloaded();
        let program = program
            .env("MRLOCK_MEMORY", memory)
            .env("MRLOCK_LOG", "trace");
        program.run().succeeded(kind)
    };
    for (kind, memory, requests, are_serialized) in [
        ("host", "any", 3, true),
        ("host", "device", 3, false),
        ("gpu", "any", 3, true),
        ("gpu", "device", 3, true),
        ("dma-buf", "any", 2, false),
        ("dma-buf", "device", 2, false),
    ] {
        let outcome = run(kind, memory);
        let regions: Vec<_> = outcome.stdout.lines().collect();
        assert_eq!(regions.len(), requests, "{outcome:#?}");
        for region in regions {
            assert_eq!(
                outcome.stderr.contains(&format!("{region}: failed")),
                are_serialized,
                "{region}, {memory}: {outcome:#?}"
            );
        }
        let serialized = outcome.stderr.matches(": failed, waited").count();
        let expected = if are_serialized { requests } else { 0 };
        assert_eq!(serialized, expected, "{kind}, {memory}: {outcome:#?}");
    }
}

/// Its memory is unknown: it is host memory, but it is serialized.
#[test]
fn a_request_of_which_the_memory_cannot_be_read_is_serialized() {
    let program = client("uverbs_commands").arg("unreadable").preloaded();
    let program = program
        .env("MRLOCK_MEMORY", "device")
        .env("MRLOCK_REPORT", "stderr");
    let outcome = program.run().succeeded("uverbs_commands");
    let rows: Vec<_> = rows(&outcome.stderr)
        .into_iter()
        .map(|words| words[..2].to_vec())
        .collect();
    for row in [
        ["uverbs:REG_MR", "2"],
        ["uverbs:MR_REG", "1"],
        ["mlx5:UMEM_REG", "1"],
    ] {
        assert!(
            rows.iter().any(|found| found[..] == row),
            "no {row:?}: {outcome:#?}"
        );
    }
}

#[test]
fn uverbs_requests_are_made_one_at_a_time() {
    let program = before_another_library("uverbs_commands").arg("8");
    let without = program.run().succeeded("without the library");
    let with = program.preloaded().run().succeeded("with the library");
    assert!(
        !without.stdout.contains("at most 1 at once"),
        "nothing to see without the library: {without:#?}"
    );
    assert_eq!(with.stdout, "other ioctl: 800 calls, at most 1 at once\n");
    assert_eq!(with.stderr, "");
}

/// The other library answers for descriptor -1 itself, leaves errno alone, and counts calls.
#[test]
fn another_library_that_interposes_ioctl_is_still_reached() {
    let outcome = same_with_and_without(&before_another_library("uverbs_commands"))
        .succeeded("uverbs_commands");
    assert!(
        outcome.stdout.contains("other ioctl: 17 calls"),
        "{outcome:#?}"
    );
    let late = before_another_library("ioctl_calls").arg("late");
    let outcome = same_with_and_without(&late).succeeded("ioctl late");
    assert!(
        outcome.stdout.contains("NULL: 4711, errno 1234"),
        "{outcome:#?}"
    );
}
