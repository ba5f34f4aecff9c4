//! A real kernel with four Soft-RoCE devices and real clients, first without and then with the library. The witness is
//! the kernel: probes on entry and return of the functions that a registration pins memory with (`ib_umem_get`; in Linux 7.2
//! `__ib_umem_get_va`) or makes an on-demand region with (`ib_umem_odp_get`), of `ib_umem_release` (a deregistration unpins it), and of
//! `ioctl` on a device that stands in for the NVIDIA driver (a free of GPU memory).
//!
//! `tests/vm/boot` starts the machine, once for all tests of a system; `tests/vm/guest` runs in it and records what happened; this
//! file judges the records. `tests/vm/prepare` and `prepare-releases` fetch what is missing. All of it is kept under `target/vm`.

use crate::common::{
    kernel_trace::{KernelWitness, event, is_without_loss},
    machine::{Need, other_systems, virtual_machine},
    recorded::{Run, results},
};
use std::{collections::BTreeMap, fs};

/// The tests that are left out where the virtual machine cannot boot.
const VM: &str = "all tests with a real kernel";

/// A release of Debian for x86_64 or arm64: its kernel, libibverbs, libc and Python.
#[derive(Clone, Copy)]
struct System {
    /// What starts it, and where its records are: see `results`.
    boot: &'static str,
    has: fn() -> Need,
}

const DEBIAN_12: System = System {
    boot: "boot",
    has: virtual_machine,
};
const DEBIAN_13: System = System {
    boot: "boot trixie",
    has: other_systems,
};
const SID: System = System {
    boot: "boot sid",
    has: other_systems,
};
/// Debian 12 on a simulated arm64 processor.
const ARM64: System = System {
    boot: "boot arm64",
    has: other_systems,
};

// What the library promises in every system. In the releases of Debian for x86_64 the clients are the same files, built on Debian 12.

macro_rules! tests_in {
    ($module:ident, $system:expr) => {
        mod $module {
            use super::*;

            #[test]
            fn mooncake_registers_a_batch_of_buffers_one_at_a_time() {
                needs!(VM, ($system.has)());
                // Debian's sid loses a Python when it has two newer ones.
                if has_no_python($system) {
                    return;
                }
                is_serialized_in($system, "mooncake_batch");
            }

            #[test]
            fn mrlock_stress_overlaps_alone_and_registers_one_at_a_time_with_the_library() {
                needs!(VM, ($system.has)());
                for scenario in ["stress", "stress_free"] {
                    is_serialized_with_the_same_stderr($system, scenario);
                }
            }

            #[test]
            fn a_c_client_gets_the_same_from_every_entry_point_one_at_a_time() {
                needs!(VM, ($system.has)());
                is_serialized_with_the_same_stderr($system, "mr_check");
            }

            #[test]
            fn a_client_of_the_1_0_abi_registers_one_at_a_time() {
                needs!(VM, ($system.has)());
                is_serialized_with_the_same_stderr($system, "mr_check_1_0");
            }

            #[test]
            fn every_function_that_registers_does_so_one_at_a_time() {
                needs!(VM, ($system.has)());
                is_serialized_with_the_same_stderr($system, "registering_functions");
                has_seen_on_demand_regions($system);
                has_seen_a_driver_s_own_request($system);
            }

            #[test]
            fn the_ioctl_hook_alone_sees_every_function_that_registers() {
                needs!(VM, ($system.has)());
                let with = run_in($system, "registering_functions_ioctl_hook", "with");
                let without = run_in($system, "registering_functions", "without");
                is_what_the_ioctl_hook_sees(&without, &with);
            }

            #[test]
            fn a_caller_of_rdma_reg_msgs_registers_one_at_a_time() {
                needs!(VM, ($system.has)());
                is_serialized_with_the_same_stderr($system, "rdma_reg_msgs");
            }

            /// As NCCL does.
            #[test]
            fn a_caller_that_binds_by_dlvsym_on_a_handle_registers_one_at_a_time() {
                needs!(VM, ($system.has)());
                is_serialized_with_the_same_stderr($system, "dlvsym");
            }

            /// As Mooncake's TENT does.
            #[test]
            fn a_caller_that_binds_by_dlsym_on_a_handle_registers_one_at_a_time() {
                needs!(VM, ($system.has)());
                is_serialized_with_the_same_stderr($system, "dlsym");
            }
        }
    };
}

tests_in!(debian_12, DEBIAN_12);
tests_in!(debian_13, DEBIAN_13);
tests_in!(sid, SID);
tests_in!(debian_12_aarch64, ARM64);

// What it promises in Debian 12, on both processors

macro_rules! tests_on {
    ($module:ident, $system:expr) => {
        mod $module {
            use super::*;

            #[test]
            fn a_program_with_libibverbs_linked_in_registers_one_at_a_time() {
                needs!(VM, ($system.has)());
                is_serialized_with_the_same_stderr($system, "mr_check_static");
            }

            /// One at a time in each process; parent and child do not wait for each other.
            #[test]
            fn a_forked_child_registers_on_devices_that_it_opens_itself() {
                needs!(VM, ($system.has)());
                forks_in($system);
            }
        }
    };
}

tests_on!(x86_64, DEBIAN_12);
tests_on!(aarch64, ARM64);

// What it promises in Debian 12

/// With what pip installed, in an environment beside Mooncake's wheel.
#[test]
fn mooncake_under_the_wheels_command_registers_one_at_a_time() {
    needs!(VM, virtual_machine());
    is_serialized("mooncake_wheel");
}

/// Two servers run before bpftrace starts, one without the library and one with it. They register at the same time.
#[test]
fn the_script_for_bpftrace_counts_the_threads_of_each_process() {
    needs!(VM, virtual_machine());
    let run = run("overlap", "without_and_with");
    assert_eq!(run.read("bare"), run.read("preloaded"));
    let counted = run.read("stdout");
    // "@at_once[170, bare]: 4"
    let number = |map: &str, process: &str| -> usize {
        let (before, after) = (format!("@{map}["), format!(", {process}]: "));
        let rows = counted.lines().filter_map(|line| {
            let (_, number) = line.strip_prefix(&before)?.split_once(&after)?;
            number.parse().ok()
        });
        let rows: Vec<usize> = rows.collect();
        let expected = format!("one row {before}...{after}");
        run.expects(rows.len() == 1, &expected, &counted);
        rows[0]
    };
    for process in ["bare", "preloaded"] {
        let witness = run.witness_of(process);
        let calls = witness.registrations + witness.deregistrations;
        run.expects(
            number("calls", process) == calls,
            &format!("{calls} calls of {process}"),
            &counted,
        );
    }
    let (alone, together) = (number("at_once", "bare"), number("at_once", "preloaded"));
    run.expects(
        alone >= 2,
        "two threads inside at once without the library, or the run is inconclusive",
        alone,
    );
    run.expects(
        together == 1,
        "one thread at a time with the library",
        together,
    );
    println!(
        "overlap: {alone} at once without ({} by the kernel's own probes), {together} with",
        run.witness_of("bare").overlap
    );
}

#[test]
fn mooncake_registers_on_several_devices_one_at_a_time() {
    needs!(VM, virtual_machine());
    is_serialized("mooncake_parallel");
}

/// Mooncake does so under all settings of its own, from several threads on one device.
#[test]
fn mooncake_registers_the_parts_of_a_large_buffer_one_at_a_time() {
    needs!(VM, virtual_machine());
    is_serialized("mooncake_pre_touch");
}

#[test]
fn eight_mooncake_engines_register_one_at_a_time() {
    needs!(VM, virtual_machine());
    is_serialized("mooncake_eight_engines");
}

#[test]
fn a_c_client_linked_to_the_library_registers_one_at_a_time() {
    needs!(VM, virtual_machine());
    let (without, with) = is_serialized("linked_right");
    with.writes_to_stderr_what(&without);
    let reports = with.reports();
    with.expects(
        !reports.contains("uverbs:"),
        "every call seen by the verbs hooks",
        &reports,
    );
}

/// After libibverbs in the search order: only the ioctl hook sees a call.
#[test]
fn a_c_client_linked_in_the_wrong_order_registers_one_at_a_time() {
    needs!(VM, virtual_machine());
    let (without, with) = is_serialized("linked_wrong");
    with.writes_to_stderr_what(&without);
    let reports = with.reports();
    with.expects(
        reports.contains("uverbs:REG_MR"),
        "calls seen by the ioctl hook",
        &reports,
    );
}

#[test]
fn all_callers_in_one_process_register_one_at_a_time() {
    needs!(VM, virtual_machine());
    let (without, _) = is_serialized("all_callers");
    // Without the library, threads of different libraries overlap, and not only threads of one.
    let mixed_names = without.witness().mixed_names;
    for user in ALL_CALLERS {
        without.expects(
            mixed_names.contains(user),
            &format!("{user} inside beside another user, or the run is inconclusive"),
            &mixed_names,
        );
    }
}

#[test]
fn two_copies_of_libibverbs_keep_to_their_own_contexts_one_at_a_time() {
    needs!(VM, virtual_machine());
    let (without, with) = is_serialized("two_copies");
    for run in [without, with] {
        keeps_copies_apart(&run);
    }
}

/// A function that was taken from a handle passes no verbs hook, but its inner call does. And the caller is in a module that is
/// not linked to a libibverbs.
#[test]
fn two_copies_by_handle_keep_to_their_own_contexts_one_at_a_time() {
    needs!(VM, virtual_machine());
    let (without, with) = is_serialized("two_copies_by_handle");
    for run in [without, with] {
        keeps_copies_apart(&run);
    }
}

#[test]
fn the_verbs_hooks_alone_miss_a_caller_that_binds_by_a_handle() {
    needs!(VM, virtual_machine());
    let with = run("verbs_hooks", "with");
    let overlap = with.witness().overlap;
    with.expects(overlap >= 2, "an overlap", overlap);
}

#[test]
fn the_ioctl_hook_alone_sees_every_caller() {
    needs!(VM, virtual_machine());
    is_what_the_ioctl_hook_sees(&run("all_callers", "without"), &run("ioctl_hook", "with"));
}

/// In particular, if the kernel returns EFAULT, the hook must not crash when it reads the bad address first.
#[test]
fn a_request_that_is_not_as_it_should_be_gets_the_kernels_own_answer() {
    needs!(VM, virtual_machine());
    let (without, with) = (
        run("malformed_ioctl", "without"),
        run("malformed_ioctl", "with"),
    );
    with.prints_what(&without);
    with.writes_to_stderr_what(&without);
}

#[test]
fn ibv_rc_pingpong_ends_as_without() {
    needs!(VM, virtual_machine());
    let (without, with) = is_unharmed("ibv_rc_pingpong");
    with.writes_to_stderr_what(&without);
}

#[test]
fn fi_pingpong_ends_as_without() {
    needs!(VM, virtual_machine());
    let (without, with) = is_unharmed("fi_pingpong");
    with.writes_to_stderr_what(&without);
}

/// A measured time proves little on a shared machine. The report shows that the only calls that entered the library are the
/// registrations of one buffer at each end, although many writes followed.
#[test]
fn the_data_path_of_ib_write_bw_never_enters_the_library() {
    needs!(VM, virtual_machine());
    let (without, with) = is_unharmed("ib_write_bw");
    with.writes_to_stderr_what(&without);
    let registrations = with.witness().registrations;
    with.expects(registrations == 2, "one buffer at each end", registrations);
    println!(
        "ib_write_bw: {} MB/s without, {} MB/s with",
        without.bandwidth(),
        with.bandwidth()
    );
}

#[test]
fn with_calls_reg_deregistrations_may_overlap_and_registrations_never() {
    needs!(VM, virtual_machine());
    let (without, with) = (run("calls_reg", "without"), run("calls_reg", "with"));
    let alone = without.witness().registrations_at_once;
    without.expects(
        alone >= 2,
        "registrations at once, or the run is inconclusive",
        alone,
    );
    let witness = with.witness();
    with.expects(
        witness.registrations_at_once == 1,
        "one registration at a time",
        witness.registrations_at_once,
    );
    with.expects(
        witness.overlap >= 2,
        "a deregistration beside something else",
        witness.overlap,
    );
    with.prints_what(&without);
}

/// No call of Mooncake takes the lock, neither as it enters libibverbs nor as it enters the kernel.
#[test]
fn with_memory_device_mooncake_registers_host_memory_as_without() {
    needs!(VM, virtual_machine());
    let (without, with) = (run("mooncake_batch", "without"), run("device_host", "with"));
    let overlap = with.witness().overlap;
    with.expects(overlap >= 2, "an overlap", overlap);
    with.prints_what(&without);
    with.expects(
        calls(&with) == calls(&without),
        &format!("{:?} registrations and deregistrations", calls(&without)),
        calls(&with),
    );
    // Each call is let through once: the request within it is part of it.
    let [registrations, deregistrations] = calls(&without);
    let number = registrations + deregistrations;
    let reports = with.reports();
    let through = format!("{number} calls on host memory were let through.");
    with.expects(
        with.reported() == [0, 0, 0] && (with.tries() > 1 || reports.contains(&through)),
        &format!("{through:?} and no other calls"),
        reports,
    );
}

#[test]
fn with_memory_device_memory_that_cannot_be_pinned_is_registered_one_at_a_time() {
    needs!(VM, virtual_machine());
    let (without, with) = is_serialized("device_unpinnable");
    with.writes_to_stderr_what(&without);
}

#[test]
fn no_gpu_memory_is_freed_while_gpu_memory_is_registered() {
    needs!(VM, virtual_machine());
    let (without, with) = (run("frees", "without"), run("frees", "with"));
    for (run, expected) in [(&without, true), (&with, false)] {
        let meetings = run.witness().meetings;
        run.expects(
            (meetings > 0) == expected,
            if expected {
                "a free beside a registration, or the run is inconclusive"
            } else {
                "no free beside a registration"
            },
            meetings,
        );
        // Two threads with 100 frees each.
        let frees = run.witness().frees;
        run.expects(frees == 200 * run.tries(), "200 frees", frees);
    }
    counts_what_the_kernel_counts(&without, &with);
    println!(
        "frees: {} meetings without, 0 with",
        without.witness().meetings
    );
}

#[test]
fn a_free_of_gpu_memory_does_not_wait_for_host_memory() {
    needs!(VM, virtual_machine());
    let with = run("host_frees", "with");
    let meetings = with.witness().meetings;
    with.expects(meetings > 0, "a free beside a registration", meetings);
    reports_what_the_kernel_saw(&with);
}

/// The names of the threads in the scenario `all_callers`.
const ALL_CALLERS: [&str; 5] = ["mooncake", "linked", "static", "dlvsym", "dlsym"];

// How a scenario is judged.

fn is_serialized(scenario: &str) -> (Run, Run) {
    is_serialized_in(DEBIAN_12, scenario)
}

/// Calls overlap without the library and do not with it; everything else is the same.
fn is_serialized_in(system: System, scenario: &str) -> (Run, Run) {
    let (without, with) = (
        run_in(system, scenario, "without"),
        run_in(system, scenario, "with"),
    );
    let (alone, together) = (without.witness().overlap, with.witness().overlap);
    without.expects(
        alone >= 2,
        "two threads inside at once, or the run is inconclusive",
        alone,
    );
    with.expects(together == 1, "one thread inside at a time", together);
    with.prints_what(&without);
    println!("{scenario}: {alone} at once without, {together} with");
    counts_what_the_kernel_counts(&without, &with);
    (without, with)
}

fn is_serialized_with_the_same_stderr(system: System, scenario: &str) {
    let (without, with) = is_serialized_in(system, scenario);
    with.writes_to_stderr_what(&without);
}

/// One at a time, and the same calls, with `libmrlock-ioctl.so`.
fn is_what_the_ioctl_hook_sees(without: &Run, with: &Run) {
    let overlap = with.witness().overlap;
    with.expects(overlap == 1, "one thread inside at a time", overlap);
    with.prints_what(without);
    let reports = with.reports();
    with.expects(
        reports.contains("uverbs:REG_MR") && !reports.contains("ibv_"),
        "the ioctl hook alone at work",
        &reports,
    );
    counts_what_the_kernel_counts(without, with);
}

/// A process and its children register.
fn forks_in(system: System) {
    let [without, with] = ["without", "with"].map(|which| run_in(system, "fork", which));
    let alone = without.witness_of("parent").overlap;
    without.expects(
        alone >= 2,
        "two threads of the parent inside at once, or the run is inconclusive",
        alone,
    );
    for process in ["parent", "child"] {
        let overlap = with.witness_of(process).overlap;
        with.expects(overlap == 1, "one thread of a process at a time", overlap);
    }
    // Twenty children with two threads, each with three regions.
    let witness = with.witness_of("child");
    let calls = (witness.registrations, witness.deregistrations);
    with.expects(calls == (120, 120), "the calls of twenty children", calls);
    let mixed_names = with.witness().mixed_names;
    with.expects(
        mixed_names.contains("child"),
        "a child inside beside its parent",
        mixed_names,
    );
    reports_what_the_kernel_saw(&with);
    with.writes_to_stderr_what(&without);
}

/// If the device pages on demand, the kernel's function for such regions was called.
fn has_seen_on_demand_regions(system: System) {
    for which in ["without", "with"] {
        let run = run_in(system, "registering_functions", which);
        let (stdout, seen) = (run.read("stdout"), run.witness().on_demand);
        run.expects(
            stdout.contains("on demand: called") == (seen > 0),
            "calls of ib_umem_odp_get, if the client makes on-demand regions",
            (stdout, seen),
        );
    }
}

/// If libibverbs has the function for it, and then in Linux 6.17 and later, the request was MR_REG, and not REG_MR in its place.
fn has_seen_a_driver_s_own_request(system: System) {
    let run = run_in(system, "registering_functions", "with");
    let (stdout, reports) = (run.read("stdout"), run.reports());
    run.expects(
        stdout.contains("ibv_cmd_reg_mr_ex: called") == reports.contains("\nuverbs:MR_REG  "),
        "requests MR_REG, if the client makes them",
        (stdout, reports),
    );
}

/// Whether the release has no Python that Mooncake's wheel is built for. Its record says so, and so does this.
fn has_no_python(system: System) -> bool {
    let versions = results(system.boot).join("versions");
    let absent = fs::read_to_string(versions).is_ok_and(|versions| versions.contains("absent"));
    if absent {
        println!("{}: no Python for Mooncake's wheel", system.boot);
    }
    absent
}

/// Status 0 both times, and the same calls.
fn is_unharmed(scenario: &str) -> (Run, Run) {
    let (without, with) = (run(scenario, "without"), run(scenario, "with"));
    counts_what_the_kernel_counts(&without, &with);
    (without, with)
}

/// The kernel counts as many registrations and deregistrations as without the library, and the library counted them all.
fn counts_what_the_kernel_counts(without: &Run, with: &Run) {
    without.expects(
        calls(without).iter().all(|calls| *calls > 0),
        "registrations and deregistrations at the probes",
        calls(without),
    );
    with.expects(
        calls(with) == calls(without),
        &format!("{:?} registrations and deregistrations", calls(without)),
        calls(with),
    );
    reports_what_the_kernel_saw(with);
}

/// How many registrations and deregistrations the kernel counted in one try.
fn calls(run: &Run) -> [usize; 2] {
    let witness = run.witness();
    [witness.registrations, witness.deregistrations].map(|calls| calls / run.tries())
}

/// The library's report agrees with the kernel, whichever hook saw a call first.
fn reports_what_the_kernel_saw(run: &Run) {
    let witness = run.witness();
    let reported = run.reported();
    run.expects(
        reported
            == [
                witness.registrations,
                witness.deregistrations,
                witness.frees,
            ],
        &format!(
            "a report of {} registrations, {} deregistrations and failures, {} frees",
            witness.registrations, witness.deregistrations, witness.frees
        ),
        reported,
    );
}

/// Both copies of libibverbs were called, and neither got a context that the other had opened.
fn keeps_copies_apart(run: &Run) {
    let trace = run.read("copies");
    let mut owners = BTreeMap::new();
    let mut calls = BTreeMap::<&str, usize>::new();
    for line in trace.lines().filter(|line| !line.trim().is_empty()) {
        if let Some(comment) = line.strip_prefix('#') {
            let complete = is_without_loss(comment);
            run.expects(complete.is_ok(), "a trace without a gap", complete);
            continue;
        }
        // The event is "first_opens", "second_ibv_reg_mr" or the like; the line ends with " context=0x7f28d800d510".
        let found = event(line).and_then(|event| {
            let (copy, what) = event.name.split_once('_')?;
            Some((copy, what, line.rsplit_once(" context=")?.1))
        });
        let Some((copy, what, context)) = found else {
            panic!("{}: not an event of ours: {line}", run.name);
        };
        match what {
            "opens" => _ = owners.insert(context, copy),
            // The other copy's next context may lie at the same address.
            "closes" => _ = owners.remove(context),
            _ => {
                let owner = owners.get(context);
                run.expects(owner == Some(&copy), "the owner of the context", line);
                *calls.entry(copy).or_default() += 1;
            }
        }
    }
    let copies: Vec<_> = calls.keys().copied().collect();
    run.expects(copies == ["first", "second"], "calls of both copies", calls);
}

fn run(scenario: &str, which: &str) -> Run {
    run_in(DEBIAN_12, scenario, which)
}

/// The run, after checking that it took place and that every try ended with status 0.
fn run_in(system: System, scenario: &str, which: &str) -> Run {
    let run = Run::of(&results(system.boot), scenario, which);
    let status = run.read("status");
    run.expects(
        !status.is_empty() && status.lines().all(|line| line == "0"),
        "exit status 0",
        status.trim(),
    );
    run
}

impl Run {
    fn witness(&self) -> KernelWitness {
        self.judge(&self.read("trace"))
    }

    /// Of the threads of this name only.
    fn witness_of(&self, task: &str) -> KernelWitness {
        let trace = self.read("trace");
        let its_own = trace
            .lines()
            .filter(|line| event(line).is_none_or(|event| event.task == task));
        self.judge(&its_own.collect::<Vec<_>>().join("\n"))
    }

    #[track_caller]
    fn prints_what(&self, other: &Self) {
        let expected = other.read("stdout");
        self.expects(
            !expected.is_empty() && self.read("stdout") == expected,
            &format!("on stdout: {expected}"),
            self.read("stdout"),
        );
    }

    #[track_caller]
    fn writes_to_stderr_what(&self, other: &Self) {
        self.expects(
            self.read("stderr") == other.read("stderr"),
            &format!("on stderr: {:?}", other.read("stderr")),
            self.read("stderr"),
        );
    }

    /// ib_write_bw's average: the fourth word of the line that starts with the message size.
    fn bandwidth(&self) -> String {
        let stdout = self.read("stdout");
        let mut lines = stdout.lines().map(str::split_whitespace);
        let average = lines.find_map(|mut words| {
            words.next().filter(|first| *first == "65536")?;
            words.nth(2)
        });
        average.unwrap_or("unknown").to_owned()
    }
}

// Tests of the judge itself

const HEAD: &str = "\
# tracer: nop
#
# entries-in-buffer/entries-written: 4/4   #P:4
#
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
#              | |         |   |||||     |         |
";

fn trace_of(events: &str) -> Result<KernelWitness, String> {
    KernelWitness::of(&format!("{HEAD}{events}# profile:   enter_get   2   0\n"))
}

#[test]
fn judge_sees_one_at_a_time() {
    let witness = trace_of(
        "
   python3-171     [001] .....    12: enter_get: (ib_umem_get+0x0/0x340 [ib_uverbs])
   python3-171     [002] .....    13: leave_get: (rxe_mr_init_user+0x45/0x230 [rdma_rxe] <- ib_umem_get)
   a-b [c]-172     [001] .....    14: enter_release: (ib_umem_release+0x0/0xa0 [ib_uverbs])
   a-b [c]-172     [001] .....    15: leave_release: (rxe_mr_cleanup+0x5a/0xb0 [rdma_rxe] <- ib_umem_release)
",
    );
    let expected = KernelWitness {
        registrations: 1,
        deregistrations: 1,
        registrations_at_once: 1,
        overlap: 1,
        ..KernelWitness::default()
    };
    assert_eq!(witness, Ok(expected));
}

#[test]
fn judge_sees_an_overlap() {
    let witness = trace_of(
        "
   python3-171     [001] .....    12: enter_get: (ib_umem_get+0x0/0x340 [ib_uverbs])
   python3-172     [002] .....    13: enter_get: (ib_umem_get+0x0/0x340 [ib_uverbs])
   a-b [c]-173     [003] .....    14: enter_release: (ib_umem_release+0x0/0xa0 [ib_uverbs])
   python3-172     [002] .....    15: leave_get: (rxe_mr_init_user+0x45/0x230 [rdma_rxe] <- ib_umem_get)
   a-b [c]-173     [003] .....    16: leave_release: (rxe_mr_cleanup+0x5a/0xb0 [rdma_rxe] <- ib_umem_release)
   python3-171     [001] .....    17: leave_get: (rxe_mr_init_user+0x45/0x230 [rdma_rxe] <- ib_umem_get)
",
    );
    let expected = KernelWitness {
        registrations: 2,
        deregistrations: 1,
        registrations_at_once: 2,
        overlap: 3,
        mixed_names: ["a-b [c]", "python3"].map(String::from).into(),
        ..KernelWitness::default()
    };
    assert_eq!(witness, Ok(expected));
}

/// In Linux 7.2. One of the two pins nothing yet.
#[test]
fn judge_sees_an_on_demand_region_beside_a_registration() {
    let witness = trace_of(
        "
   python3-171     [001] .....    12: enter_get: (__ib_umem_get_va+0x4/0x4d0 [ib_core])
   python3-172     [002] .....    13: enter_odp_get: (ib_umem_odp_get+0x4/0x160 [ib_core])
   python3-172     [002] .....    15: leave_odp_get: (rxe_odp_mr_init_user+0x70/0x300 [rdma_rxe] <- ib_umem_odp_get)
   python3-171     [001] .....    17: leave_get: (ib_umem_get_desc+0xc4/0x130 [ib_core] <- __ib_umem_get_va)
",
    );
    let expected = KernelWitness {
        registrations: 2,
        on_demand: 1,
        registrations_at_once: 2,
        overlap: 2,
        ..KernelWitness::default()
    };
    assert_eq!(witness, Ok(expected));
}

#[test]
fn judge_sees_a_free_beside_a_registration() {
    let get = "  a-1 [001] ..... 1: enter_get: (ib_umem_get+0x0/0x340)\n";
    let got = "  a-1 [001] ..... 2: leave_get: (f+0x45/0x230 <- ib_umem_get)\n";
    let free = "  b-2 [002] ..... 3: enter_free: (cuse_file_ioctl+0x0/0x40) request=0xc0104629\n";
    let freed = "  b-2 [002] ..... 4: leave_free: (__x64_sys_ioctl+0x90/0xd0 <- cuse_file_ioctl)\n";
    for (order, meetings) in [
        ([get, got, free, freed], 0),
        ([free, freed, get, got], 0),
        ([get, free, got, freed], 1),
        ([get, free, freed, got], 1),
        ([free, get, freed, got], 1),
    ] {
        let witness = trace_of(&order.concat()).expect("a whole trace");
        let seen = (witness.meetings, witness.frees, witness.overlap);
        assert_eq!(seen, (meetings, 1, 1), "{order:#?}");
    }
}

#[test]
fn judge_refuses_a_trace_with_a_gap() {
    let lost = "CPU:2 [LOST 3 EVENTS]\n";
    let open = "  python3-171  [001] .....  12: enter_get: (ib_umem_get+0x0/0x340)\n";
    let stray = "  python3-171  [001] .....  12: leave_get: (f+0x45/0x230 <- ib_umem_get)\n";
    for gap in [
        lost,
        open,
        stray,
        "# entries-in-buffer/entries-written: 4/9   #P:4\n",
        "# profile:   leave_get   2   1\n",
    ] {
        assert!(trace_of(gap).is_err(), "accepted: {gap}");
    }
}
