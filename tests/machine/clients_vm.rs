//! Real programs on a real kernel with four Soft-RoCE devices, first without and then with the library. The witness is the
//! kernel, as in tests/machine/vm.rs: the calls of the functions that pin memory and release it that are under way at once in one process.
//!
//! `tests/vm/boot-programs` starts the machine, once for all tests here; `tests/vm/programs` runs in it; this file judges the
//! records. `tests/vm/prepare-programs` fetches what is missing.

use crate::common::{
    kernel_trace::KernelWitness,
    machine::real_programs,
    recorded::{Run, results},
};
use std::{
    collections::BTreeMap,
    io::{self, Write as _},
};

/// The tests that are left out where the virtual machine cannot boot.
const VM: &str = "all tests of real programs";

// Programs that register from several threads at once

#[test]
fn eight_ucx_contexts_register_one_at_a_time_with_the_default_memory_hooks() {
    needs!(VM, real_programs());
    is_serialized("ucx_contexts_bistro").counted_by_the_library();
}

#[test]
fn eight_ucx_contexts_register_one_at_a_time_without_memory_hooks() {
    needs!(VM, real_programs());
    is_serialized("ucx_contexts_no_hooks").counted_by_the_library();
}

#[test]
fn six_nixl_agents_register_one_at_a_time() {
    needs!(VM, real_programs());
    is_serialized("nixl");
}

/// nixl's wheel has a libibverbs of its own; Mooncake uses the system's.
#[test]
fn nixl_and_mooncake_in_one_process_register_one_at_a_time() {
    needs!(VM, real_programs());
    let runs = is_serialized("nixl_and_mooncake");
    let loaded = runs.with.read("stdout");
    for library in ["libibverbs-", "libibverbs.so.1"] {
        let found = loaded.lines().any(|line| {
            line.starts_with("libibverbs ") && line.split(' ').any(|file| file.starts_with(library))
        });
        runs.with
            .expects(found, &format!("{library}* in the process"), &loaded);
    }
}

#[test]
fn one_layer_of_hooks_is_enough_for_nixl_and_mooncake() {
    needs!(VM, real_programs());
    let without = run("nixl_and_mooncake", "without");
    for scenario in [
        "nixl_and_mooncake_verbs_hooks",
        "nixl_and_mooncake_ioctl_hook",
    ] {
        let with = run(scenario, "with");
        with.ends_as(&without, str::to_owned);
        let peak = with.peak();
        with.expects(peak == 1, "one thread inside at a time", peak);
    }
}

#[test]
fn six_agents_of_nixl_for_cuda_13_register_one_at_a_time() {
    needs!(VM, real_programs());
    is_serialized("nixl_cu13");
}

/// Also in a batch, which registers in threads where nvidia-peermem is loaded: the guest has a directory of that name in /sys/module.
#[test]
fn mooncake_0_3_14_for_cuda_13_registers_one_at_a_time() {
    needs!(VM, real_programs());
    let batch = is_serialized("mooncake_cuda13_batch");
    batch.counted_by_the_library();
    let registering = batch.without.most(|seen| seen.registrations_at_once);
    batch.without.expects(
        registering >= 2,
        "registrations at once, beside the deregistrations",
        registering,
    );
    for scenario in ["parallel", "eight_engines", "pre_touch"] {
        is_serialized(&format!("mooncake_cuda13_{scenario}")).counted_by_the_library();
    }
}

/// Its registrations do not overlap without the library either; its deregistrations do.
#[test]
fn a_batch_of_mooncake_0_3_14_without_nvidia_peermem_deregisters_one_at_a_time() {
    needs!(VM, real_programs());
    let runs = is_serialized("mooncake_cuda13_without_peermem");
    runs.counted_by_the_library();
    let registering = runs.without.most(|seen| seen.registrations_at_once);
    runs.without.expects(
        registering == 1,
        "one registration at a time, or README is wrong",
        registering,
    );
}

#[test]
fn nccls_own_calls_come_one_at_a_time() {
    needs!(VM, real_programs());
    is_serialized("nccl").counted_by_the_library();
}

#[test]
fn nvshmems_own_calls_come_one_at_a_time() {
    needs!(VM, real_programs());
    is_serialized("nvshmem").counted_by_the_library();
}

/// sideway, which has the functions of libibverbs from a handle, and two crates that are linked to it.
#[test]
fn the_python_package_ibverbs_registers_one_at_a_time() {
    needs!(VM, real_programs());
    is_serialized("python_ibverbs").counted_by_the_library();
}

#[test]
fn rust_crates_register_one_at_a_time() {
    needs!(VM, real_programs());
    for name in ["sideway", "rdma-sys", "ibverbs"] {
        is_serialized(name).counted_by_the_library();
    }
}

// Programs that register from one thread only: without the library, too, the kernel sees one at a time. The tests show that
// the library changes nothing.

#[test]
fn ucx_info_prints_what_it_prints_without() {
    needs!(VM, real_programs());
    is_unchanged("ucx_info", str::to_owned).counted_by_the_library();
}

#[test]
fn ucx_perftest_ends_as_without() {
    needs!(VM, real_programs());
    for transport in ["ucx_perftest_rc", "ucx_perftest_ud"] {
        let runs = is_unchanged(transport, without_numbers);
        runs.serve_alike();
        runs.counted_by_the_library();
    }
}

#[test]
fn mooncakes_store_ends_as_without() {
    needs!(VM, real_programs());
    is_unchanged("mooncake_store", str::to_owned).counted_by_the_library();
}

/// They fork, and so the report lacks the children that end by `_exit`. One of them fails on Soft-RoCE, without the library
/// too: its atomic write.
#[test]
fn rdma_cores_own_tests_end_as_without() {
    needs!(VM, real_programs());
    let runs = is_unchanged("rdma_core_tests", without_numbers);
    let results = |run: &Run| {
        let stderr = run.read("stderr");
        let results = stderr.lines().filter(|line| {
            [" ... ok", " ... skipped", "... ERROR", "... FAIL"]
                .iter()
                .any(|end| line.contains(end))
        });
        results.map(str::to_owned).collect::<Vec<_>>()
    };
    let (without, with) = (results(&runs.without), results(&runs.with));
    let passed = without.iter().filter(|line| line.ends_with(" ok")).count();
    runs.without
        .expects(passed >= 90, "at least 90 tests that pass", passed);
    runs.with
        .expects(with == without, &format!("{without:#?}"), &with);
}

#[test]
fn perftest_ends_as_without() {
    needs!(VM, real_programs());
    for program in ["ib_send_bw", "ib_read_bw", "ib_write_lat", "ib_atomic_bw"] {
        let runs = is_unchanged(program, without_numbers);
        runs.serve_alike();
        runs.counted_by_the_library();
    }
}

#[test]
fn the_pingpongs_of_libibverbs_end_as_without() {
    needs!(VM, real_programs());
    for program in ["ibv_uc_pingpong", "ibv_ud_pingpong", "ibv_srq_pingpong"] {
        let runs = is_unchanged(program, without_numbers);
        runs.serve_alike();
        runs.counted_by_the_library();
    }
}

#[test]
fn the_programs_of_librdmacm_end_as_without() {
    needs!(VM, real_programs());
    for program in ["rping", "ucmatose", "udaddy"] {
        let runs = is_unchanged(program, str::to_owned);
        runs.serve_alike();
        runs.counted_by_the_library();
    }
    let runs = is_unchanged("rstream", without_numbers);
    runs.serve_alike();
    runs.counted_by_the_library();
}

#[test]
fn four_ranks_of_open_mpi_and_of_mpich_on_ucx_end_as_without() {
    needs!(VM, real_programs());
    for mpi in ["openmpi", "mpich"] {
        let runs = ends_as_without(mpi, str::to_owned);
        // UCX registers another chunk when many messages are under way, so two runs may differ by some calls.
        for run in [&runs.without, &runs.with] {
            let calls @ [registrations, deregistrations] = run.calls();
            run.expects(
                registrations == deregistrations && registrations > 0,
                "as many deregistrations as registrations",
                calls,
            );
        }
        runs.counted_by_the_library();
        let ranks = runs.with.witnesses().len();
        runs.with
            .expects(ranks == 4, "four processes that register", ranks);
    }
}

#[test]
fn fi_pingpong_of_datagrams_ends_as_without() {
    needs!(VM, real_programs());
    let runs = is_unchanged("fi_pingpong_dgram", without_numbers);
    runs.serve_alike();
    runs.counted_by_the_library();
}

#[test]
fn fios_rdma_engine_ends_as_without() {
    needs!(VM, real_programs());
    // "3;fio-3.33;job;GROUP;ERROR;KIB_READ;..."; the 47th field: KIB_WRITTEN.
    let transferred = |terse: &str| {
        let fields = terse.lines().last().unwrap_or_default().split(';');
        let fields = fields.collect::<Vec<_>>();
        let field = |number: usize| fields.get(number - 1).copied().unwrap_or("nothing");
        format!(
            "error {}, {} KiB read, {} KiB written",
            field(5),
            field(6),
            field(47)
        )
    };
    let runs = is_unchanged("fio", transferred);
    runs.with.expects(
        transferred(&runs.with.read("stdout")) == "error 0, 0 KiB read, 4096 KiB written",
        "4 MiB written",
        runs.with.read("stdout"),
    );
    // It leaves its regions to the kernel, which releases them at exit.
    let expected = [runs.with.calls()[0], 0];
    let [registered, deregistered, _] = runs.with.reported();
    let reported = [registered, deregistered];
    runs.with.expects(
        reported == expected,
        &format!("a report of {expected:?} registrations and deregistrations"),
        reported,
    );
}

// Programs that cannot run here

/// One line for each on standard error.
#[test]
fn says_which_programs_cannot_run_and_why() {
    needs!(VM, real_programs());
    for (program, reason) in [
        (
            "the transfers of NCCL and NVSHMEM",
            "they need a GPU with an RDMA device",
        ),
        (
            "UCX's relocated memory hooks",
            "UCX 1.13 can hang with them on its own",
        ),
        ("Mooncake's TENT", "its wheel ignores MC_USE_TENT"),
        ("libfabric's fabtests", "no Debian package has them"),
        ("ibv_xsrq_pingpong", "Soft-RoCE has no XRC"),
        (
            "fi_pingpong -p verbs;ofi_rxm",
            "it cannot enable its endpoint on Soft-RoCE",
        ),
    ] {
        // Not eprint!: the test harness hides what a passing test prints with it.
        let _ = writeln!(io::stderr(), "left out: {program}, because {reason}");
    }
    // Those that are installed say so themselves, without the library too.
    for scenario in ["ibv_xsrq_pingpong", "fi_pingpong_rdm"] {
        for which in ["without", "with"] {
            let run = run(scenario, which);
            let status = run.read("status");
            run.expects(
                !status.is_empty() && status.trim() != "0",
                "a failure, or the program can have a test of its own",
                status,
            );
        }
    }
}

// How a scenario is judged

/// Both runs of a scenario.
struct Runs {
    without: Run,
    with: Run,
}

/// Calls overlap in one process without the library and do not with it; the calls are as many, and the output is the same.
fn is_serialized(scenario: &str) -> Runs {
    let runs = Runs::of(scenario, str::to_owned);
    let (alone, together) = (runs.without.peak(), runs.with.peak());
    runs.without.expects(
        alone >= 2,
        "two threads inside at once, or the run is inconclusive",
        alone,
    );
    runs.with
        .expects(together == 1, "one thread inside at a time", together);
    println!("{scenario}: {alone} at once without, {together} with");
    runs.call_alike();
    runs
}

/// One call at a time in each process without and with the library, and as many calls; the output is the same, once
/// `comparable` has removed what differs from run to run.
fn is_unchanged(scenario: &str, comparable: fn(&str) -> String) -> Runs {
    let runs = ends_as_without(scenario, comparable);
    runs.call_alike();
    runs
}

/// The same, for a program that does not always make as many calls.
fn ends_as_without(scenario: &str, comparable: fn(&str) -> String) -> Runs {
    let runs = Runs::of(scenario, comparable);
    for run in [&runs.without, &runs.with] {
        let peak = run.peak();
        run.expects(peak == 1, "one thread inside at a time", peak);
    }
    println!("{scenario}: 1 at once without and with");
    runs
}

impl Runs {
    fn of(scenario: &str, comparable: fn(&str) -> String) -> Self {
        let (without, with) = (run(scenario, "without"), run(scenario, "with"));
        with.ends_as(&without, comparable);
        Self { without, with }
    }

    /// The kernel counts as many calls in both runs.
    fn call_alike(&self) {
        let (alone, together) = (self.without.calls(), self.with.calls());
        self.with.expects(
            together == alone,
            &format!("{alone:?} registrations and deregistrations"),
            together,
        );
    }

    /// The servers of both runs wrote the same, but for the numbers.
    fn serve_alike(&self) {
        let [without, with] =
            [&self.without, &self.with].map(|run| without_numbers(&run.read("server")));
        self.with
            .expects(with == without, &format!("of the server: {without}"), &with);
    }

    /// The library's reports agree with the kernel.
    fn counted_by_the_library(&self) {
        let seen = self.with.calls();
        let [registered, deregistered, _] = self.with.reported();
        let reported = [registered, deregistered];
        self.with.expects(
            reported == seen,
            &format!("a report of {seen:?} registrations and deregistrations"),
            reported,
        );
    }
}

/// Measured times and counts, process ids, queue pair numbers, addresses; and the spaces that align them.
fn without_numbers(text: &str) -> String {
    let is_part = |letter: char| letter.is_ascii_hexdigit() || matches!(letter, '.' | 'x' | ':');
    let mut output = String::new();
    for line in text.lines() {
        for word in line.split_whitespace() {
            let mut rest = word;
            while let Some(start) = rest.find(|letter: char| letter.is_ascii_digit()) {
                output += &rest[..start];
                output.push('#');
                rest = rest[start..].trim_start_matches(is_part);
            }
            output += rest;
            output.push(' ');
        }
        output.push('\n');
    }
    output
}

fn run(scenario: &str, which: &str) -> Run {
    Run::of(&results("boot-programs"), scenario, which)
}

impl Run {
    /// The same exit status and output as the other run. rdma-core's tests alone end with another status than 0.
    fn ends_as(&self, other: &Self, comparable: fn(&str) -> String) {
        let last = |run: &Self| run.read("status").lines().last().map(str::to_owned);
        let expected = if self.name.starts_with("rdma_core_tests") {
            "1"
        } else {
            "0"
        };
        for run in [other, self] {
            let status = last(run);
            run.expects(
                status.as_deref() == Some(expected),
                &format!("exit status {expected}"),
                status,
            );
        }
        let [expected, seen] = [other, self].map(|run| comparable(&run.read("stdout")));
        self.expects(seen == expected, &format!("on stdout: {expected}"), &seen);
    }

    /// What the kernel saw of each process that registered.
    fn witnesses(&self) -> BTreeMap<u32, KernelWitness> {
        self.judged(of_each_process(&self.read("trace")))
    }

    /// The most calls at once in one process.
    fn peak(&self) -> usize {
        self.most(|seen| seen.overlap)
    }

    /// The largest count of one process.
    fn most(&self, count: fn(&KernelWitness) -> usize) -> usize {
        self.witnesses().values().map(count).max().unwrap_or(0)
    }

    /// The registrations and deregistrations of one try, in all processes.
    fn calls(&self) -> [usize; 2] {
        let tries = self.tries();
        let sum = |count: fn(&KernelWitness) -> usize| -> usize {
            self.witnesses().values().map(count).sum()
        };
        [
            sum(|seen| seen.registrations) / tries,
            sum(|seen| seen.deregistrations) / tries,
        ]
    }
}

/// Splits the trace by process, and judges each part.
fn of_each_process(trace: &str) -> Result<BTreeMap<u32, KernelWitness>, String> {
    let mut comments = String::new();
    let mut parts = BTreeMap::<u32, String>::new();
    for line in trace.lines().filter(|line| !line.trim().is_empty()) {
        if line.starts_with('#') {
            comments += line;
            comments.push('\n');
            continue;
        }
        // "TASK-THREAD (PROCESS) [CPU] FLAGS TIME: NAME: (PLACE)...". TASK may hold anything.
        let (task, process, rest) = line
            .rsplit_once(") [")
            .and_then(|(head, rest)| {
                let (task, process) = head.rsplit_once('(')?;
                Some((task, process.trim().parse().ok()?, rest))
            })
            .ok_or_else(|| format!("no process in: {line}"))?;
        let part = parts.entry(process).or_default();
        *part += &format!("{task} [{rest}\n");
    }
    KernelWitness::of(&comments)?;
    let parts = parts.into_iter();
    parts
        .map(|(process, part)| Ok((process, KernelWitness::of(&part)?)))
        .collect()
}
