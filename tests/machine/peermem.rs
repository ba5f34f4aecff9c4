//! NVIDIA's own nvidia-peermem.c and nv-p2p.c, unmodified, of three releases, on a real kernel: programs register GPU memory
//! and free it, first without and then with the library. The witness (`tests/vm/peermem/witness.c`) counts how often NVIDIA's
//! code uses a page table that it has freed, or frees it again. It keeps what is freed, so nothing crashes.
//!
//! The rest of the driver, the GPU and the peer memory of vendors' kernels are stand-ins: `rm.c` and `peercore.c` there say what
//! they copy, and what they cannot show. `tests/vm/boot-peermem` builds the modules and starts the machine, once for all tests
//! here; `tests/vm/peermem/guest` runs in it; this file judges the records. `tests/vm/prepare-peermem` fetches what is missing.

use crate::common::{
    machine::nvidia_sources,
    recorded::{Run, results},
};
use std::fs;

/// The tests that are left out where the virtual machine cannot boot, or NVIDIA's sources are missing.
const VM: &str = "all tests with NVIDIA's own nvidia-peermem";

const RELEASES: [&str; 3] = ["470.256.02", "535.216.03", "550.163.01"];

/// What `gpureg.c` does: no thread frees what another one registers or deregisters. The first with each release, the second and
/// `MRLOCK_MEMORY=device` with one.
const CONTROLS: [(&str, &[&str]); 4] = [
    ("regreg_470.256.02", &[""]),
    ("regreg_535.216.03", &["", "_gpu"]),
    ("ownfree_535.216.03", &["", "_gpu"]),
    ("regreg_550.163.01", &[""]),
];

/// What `gpureg.c` does: a block is freed while it is registered, or while it is deregistered.
const RACES: [&str; 2] = ["regfree", "deregfree"];

#[test]
fn without_the_library_nvidias_code_uses_what_it_has_freed() {
    needs!(VM, nvidia_sources());
    for_each_race(|mode, release| {
        // Nothing is delayed there: up to 2000 rounds.
        for widened in ["", "_widened"] {
            let run = run(&format!("{mode}_{release}{widened}"), "without");
            let seen = seen(&run);
            run.expects(seen.used > 0, "a use of freed memory", &seen);
        }
    });
}

/// Nor does it free anything twice, nor does a registration end otherwise than with the memory there, or gone.
#[test]
fn preloaded_it_never_does() {
    needs!(VM, nvidia_sources());
    for_each_race(|mode, release| {
        for setting in ["", "_widened"] {
            is_never_used(&format!("{mode}_{release}{setting}"));
        }
    });
}

#[test]
fn with_memory_device_it_never_does() {
    needs!(VM, nvidia_sources());
    for_each_race(|mode, release| {
        is_never_used(&format!("{mode}_{release}_widened_gpu"));
    });
}

/// The tests above could fail: frees are what has to be kept apart.
#[test]
fn with_registrations_and_deregistrations_alone_serialized_it_does() {
    needs!(VM, nvidia_sources());
    for_each_race(|mode, release| {
        let run = run(&format!("{mode}_{release}_widened_reg_dereg"), "with");
        let seen = seen(&run);
        run.expects(seen.used > 0, "a use of freed memory", &seen);
    });
}

#[test]
fn where_nothing_is_freed_by_another_thread_it_never_does_and_the_caller_gets_the_same() {
    needs!(VM, nvidia_sources());
    for (name, settings) in CONTROLS {
        let without = run(name, "without");
        let seen = seen(&without);
        without.expects(seen.is_clean(), "no use of freed memory", &seen);
        let expected = without.read("stdout");
        for setting in settings {
            let with = is_never_used(&format!("{name}{setting}"));
            let stdout = with.read("stdout");
            with.expects(stdout == expected, &expected, stdout);
        }
    }
}

/// Prints the table, too. The numbers vary from run to run, but not which of them are 0.
#[test]
fn the_table_of_the_documents_is_what_was_seen() {
    needs!(VM, nvidia_sources());
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/drivers.md");
    let document = fs::read_to_string(document).expect("docs/drivers.md");
    let rows = RELEASES.map(|release| (release, row_of(release)));
    for (release, row) in rows {
        println!("| {release} | {} |", row.map(|n| n.to_string()).join(" | "));
    }
    for (release, row) in rows {
        let start = format!("| {release} | ");
        let shown = document.lines().find_map(|line| line.strip_prefix(&start));
        let shown = shown.unwrap_or_else(|| panic!("docs/drivers.md has no row for {release}"));
        let shown = shown.trim_end_matches(" |").split(" | ");
        let are_zero: Vec<_> = shown.map(|cell| cell.trim_matches('*') == "0").collect();
        assert_eq!(
            are_zero,
            row.map(|n| n == 0),
            "which cells of {release} in docs/drivers.md are 0; seen: {row:?}"
        );
    }
}

/// Uses of freed memory and second frees: while nothing is freed; and, with the windows widened, of each race without the library, with
/// it, and with `MRLOCK_CALLS=reg,dereg`.
fn row_of(release: &str) -> [usize; 7] {
    let count = |name: &str, which: &str| {
        let seen = seen(&run(name, which));
        seen.used + seen.double_frees
    };
    let alone = ["without", "with"].map(|which| count(&format!("regreg_{release}"), which));
    let [registering, deregistering] = RACES.map(|mode| {
        let name = format!("{mode}_{release}_widened");
        let other = format!("{name}_reg_dereg");
        [
            count(&name, "without"),
            count(&name, "with"),
            count(&other, "with"),
        ]
    });
    let [a, b, c] = registering;
    let [d, e, f] = deregistering;
    [alone.iter().sum(), a, b, c, d, e, f]
}

// How a run is judged

fn for_each_race(judge: impl Fn(&str, &str)) {
    for release in RELEASES {
        for mode in RACES {
            judge(mode, release);
        }
    }
}

/// With the library; returns the run.
fn is_never_used(name: &str) -> Run {
    let run = run(name, "with");
    let seen = seen(&run);
    run.expects(seen.is_clean(), "no use of freed memory", &seen);
    // NVIDIA's line before each of its crashes: the memory is freed between two steps of its registration.
    let invalid = run.read("dmesg").matches("invalid dma_mapping").count();
    run.expects(invalid == 0, "no free during a registration", invalid);
    let calls = called(&run);
    run.expects(
        calls.otherwise_refused == 0,
        "memory there or gone at each registration",
        &calls,
    );
    let failed = calls.refused;
    let expected = [
        calls.registered + failed,
        calls.deregistered + failed,
        calls.freed,
    ];
    let reported = run.reported();
    run.expects(
        reported == expected,
        &format!("a report of {expected:?} registrations, deregistrations and failures, frees"),
        reported,
    );
    run
}

/// What the witness counted.
#[derive(Debug)]
struct Seen {
    used: usize,
    registered: usize,
    double_frees: usize,
}

impl Seen {
    fn is_clean(&self) -> bool {
        (self.used, self.registered, self.double_frees) == (0, 0, 0)
    }
}

/// Fails the test if the witness was blind.
fn seen(run: &Run) -> Seen {
    let counters = run.read("counters");
    let counter = |name: &str| -> usize {
        let words = counters.lines().filter_map(|line| line.split_once(' '));
        let mut values = words.filter(|(found, _)| *found == name);
        values
            .next()
            .and_then(|(_, value)| value.parse().ok())
            .unwrap_or_else(|| panic!("{}: no counter {name} in {counters:?}", run.name))
    };
    run.expects(counter("checks") > 0, "a witness that looks", &counters);
    run.expects(
        counter("quarantined") > 0,
        "frees that the witness sees",
        &counters,
    );
    run.expects(
        (counter("missed"), counter("foreign_frees")) == (0, 0),
        "a witness that misses nothing",
        &counters,
    );
    Seen {
        used: counter("used"),
        registered: counter("registered"),
        double_frees: counter("double_frees"),
    }
}

/// How the calls of `gpureg.c` ended, in all its runs.
#[derive(Debug, Default)]
struct Calls {
    registered: usize,
    refused: usize,
    otherwise_refused: usize,
    deregistered: usize,
    freed: usize,
}

fn called(run: &Run) -> Calls {
    let mut calls = Calls::default();
    for part in run.read("stdout").split([',', '\n']) {
        let Some((name, number)) = part.trim().rsplit_once(' ') else {
            continue;
        };
        let number: usize = number.parse().expect("a number of calls");
        *match name {
            "registered" => &mut calls.registered,
            "refused" => &mut calls.refused,
            "otherwise refused" => &mut calls.otherwise_refused,
            "deregistered" => &mut calls.deregistered,
            "freed" => &mut calls.freed,
            _ => panic!("{}: what is {name}?", run.name),
        } += number;
    }
    calls
}

/// The run, after checking that it took place, that gpureg did all its calls, and that the kernel had nothing to say.
fn run(name: &str, which: &str) -> Run {
    let run = Run::of(&results("boot-peermem"), name, which);
    let status = run.read("status");
    run.expects(
        !status.is_empty() && status.lines().all(|line| line == "0"),
        "exit status 0",
        run.read("stderr"),
    );
    let calls = called(&run);
    run.expects(
        calls.registered > 0 && calls.deregistered == calls.registered && calls.freed > 0,
        "a deregistration of each registered block, and frees",
        &calls,
    );
    let dmesg = run.read("dmesg");
    run.expects(
        dmesg
            .lines()
            .next()
            .is_some_and(|line| line.ends_with(" begins")),
        "the kernel's messages from the beginning",
        dmesg.lines().next(),
    );
    let warning = dmesg.lines().find(|line| {
        [
            "WARNING:",
            "BUG",
            "Oops",
            "general protection",
            "blocked for more than",
            "refcount_t",
            "corruption",
        ]
        .iter()
        .any(|sign| line.contains(sign))
    });
    run.expects(warning.is_none(), "no warning of the kernel", warning);
    run
}
