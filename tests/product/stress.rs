//! `mrlock stress`: it provokes the race without the library, and not with it. It detects wrong results.

use crate::common::{Program, fixtures, machine::program, mrlock, scratch};
use std::{env, fs, path::PathBuf};

/// On the fake libibverbs, with 20 regions for each of the eight threads.
fn stress() -> Program {
    Program::new(mrlock())
        .arg("stress")
        .args(["--calls", "20"])
        .libibverbs("lib")
}

/// The same on GPU memory, which a libcuda in software allocates.
fn gpu_stress() -> Program {
    let directories = ["lib", "cuda"].map(|name| fixtures().join(name));
    let path = env::join_paths(directories).expect("names without colons");
    stress().arg("--gpu").env("LD_LIBRARY_PATH", path)
}

/// With calls that take so long that they overlap.
fn meeting(program: &Program) -> Program {
    program.clone().counting().env("FAKE_IBV_HOLD_US", "2000")
}

// The race

#[test]
fn it_provokes_alone_and_not_with_the_library() {
    for stress in [
        stress(),
        stress().arg("--free"),
        gpu_stress(),
        gpu_stress().arg("--free"),
    ] {
        let alone = stress.clone().env("FAKE_IBV_HOLD_US", "2000").run();
        assert!(alone.segfaulted(), "{alone:#?}");
        let with = stress.preloaded().run().succeeded("with the library");
        assert_eq!(with.stderr, "");
    }
}

#[test]
fn all_entry_points_are_serialized() {
    let alone = meeting(&stress()).run().succeeded("alone");
    assert!(alone.witness.together >= 2, "{alone:#?}");
    let with = meeting(&stress())
        .preloaded()
        .env("MRLOCK_REPORT", "stderr")
        .run()
        .succeeded("with the library");
    assert_eq!(with.witness.together, 1, "{with:#?}");
    // Eight threads, each with twenty regions, five by each entry point; ibv_rereg_mr changes one that ibv_reg_mr made.
    for (name, calls) in [
        ("ibv_reg_mr", 80),
        ("ibv_reg_mr_iova", 40),
        ("ibv_reg_mr_iova2", 40),
        ("ibv_rereg_mr", 40),
        ("ibv_dereg_mr", 160),
    ] {
        let words = |line: &str| {
            line.split_whitespace()
                .take(2)
                .map(String::from)
                .collect::<Vec<_>>()
        };
        let row = [name.to_owned(), calls.to_string()];
        assert!(
            with.stderr.lines().any(|line| words(line) == row),
            "{row:?} in {}",
            with.stderr
        );
    }
}

#[test]
fn a_libibverbs_without_ibv_reg_mr_iova2_is_enough() {
    let old = meeting(&stress())
        .libibverbs("old")
        .run()
        .succeeded("rdma-core 25");
    assert_eq!(old.witness.deregistrations.calls, 160);
    meeting(&stress())
        .libibverbs("old")
        .preloaded()
        .run()
        .succeeded("with the library");
}

// What it registers

#[test]
fn threads_use_the_devices_that_were_named_in_turn() {
    let one = stress()
        .args(["--devices", "mlx5_2"])
        .env("FAKE_IBV_HOLD_US", "2000")
        .run();
    assert!(one.segfaulted(), "{one:#?}");
    assert_eq!(one.stderr.matches("on mlx5_2").count(), 2, "{}", one.stderr);
    let two = stress()
        .args(["--devices", "mlx5_3,mlx5_1", "--threads", "2"])
        .preloaded();
    let two = two.env("MRLOCK_LOG", "off").run().succeeded("two devices");
    assert!(
        two.stdout
            .contains("2 threads on mlx5_3,mlx5_1: 40 memory regions of 65536 bytes"),
        "{}",
        two.stdout
    );
}

#[test]
fn sizes_have_units() {
    for (size, bytes) in [
        ("4097", "4097"),
        ("1", "1"),
        ("8K", "8192"),
        ("2M", "2097152"),
    ] {
        let outcome = stress()
            .args(["--size", size])
            .counting()
            .run()
            .succeeded(size);
        assert!(
            outcome
                .stdout
                .contains(&format!("160 memory regions of {bytes} bytes")),
            "{}",
            outcome.stdout
        );
    }
}

#[test]
fn it_ends_when_its_time_is_over() {
    let program = Program::new(mrlock())
        .args(["stress", "--seconds", "0.2"])
        .libibverbs("lib")
        .counting();
    let outcome = program.run().succeeded("a fifth of a second");
    assert!(outcome.witness.deregistrations.calls > 0);
}

#[test]
fn gpu_memory_is_what_is_serialized_where_only_that_is() {
    let device = |program: Program| meeting(&program).preloaded().env("MRLOCK_MEMORY", "device");
    let host = device(stress()).run().succeeded("host memory");
    assert!(host.witness.registrations.peak >= 2, "{host:#?}");
    let gpu = device(gpu_stress()).run().succeeded("GPU memory");
    assert_eq!(gpu.witness.registrations.peak, 1, "{gpu:#?}");
}

#[test]
fn with_free_the_memory_of_each_region_is_freed() {
    let counts = |program: Program| {
        let witness = scratch("cuda");
        program
            .counting()
            .env("FAKE_CUDA_WITNESS", &witness)
            .run()
            .succeeded("GPU memory");
        fs::read_to_string(witness).expect("libcuda was loaded")
    };
    assert_eq!(counts(gpu_stress()), "8 allocations, 8 frees\n");
    assert_eq!(
        counts(gpu_stress().arg("--free")),
        "168 allocations, 168 frees\n"
    );
}

// What it notices

#[test]
fn a_call_that_fails_is_named() {
    // Room for one region, and many at once.
    let outcome = meeting(&stress()).env("FAKE_IBV_MAX_MR", "1").run();
    assert_eq!(outcome.status.code(), Some(1), "{outcome:#?}");
    assert!(
        outcome
            .stderr
            .contains("threads failed, the first: thread ")
            && outcome.stderr.contains(": ibv_reg_mr"),
        "{}",
        outcome.stderr
    );
    assert!(
        outcome.stderr.contains(
            "Cannot allocate memory (os error 12): see ulimit -l, or lower --size or --threads"
        ),
        "{}",
        outcome.stderr
    );
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.lines().count()),
        ("", 1)
    );
}

#[test]
fn a_region_that_is_not_what_was_asked_for_is_named() {
    let wrong = fixtures().join("clients/wrong_region.so");
    let one = || stress().args(["--threads", "1"]).env("LD_PRELOAD", &wrong);
    let length = one().run();
    assert_eq!(length.status.code(), Some(1), "{length:#?}");
    let line = "1 of 1 threads failed, the first: thread 0, region 4, mlx5_0: ibv_reg_mr: \
                the region's length is 0xffff, and should be 0x10000";
    assert!(length.stderr.contains(line), "{}", length.stderr);
    let lkey = one().env("WRONG", "lkey").run();
    assert_eq!(lkey.status.code(), Some(1), "{lkey:#?}");
    assert!(
        lkey.stderr.contains("ibv_reg_mr: the region's lkey is 0x0"),
        "{}",
        lkey.stderr
    );
}

#[test]
fn what_is_missing_is_named_and_has_a_status_of_its_own() {
    for (program, parts) in [
        (
            stress().args(["--devices", "mlx5_0,mlx5_9"]),
            [
                "--devices mlx5_9: no such device",
                "mlx5_0,mlx5_1,mlx5_2,mlx5_3",
            ],
        ),
        (
            stress().env("FAKE_IBV_DEVICES", "0"),
            ["no RDMA device", "ibv_devices"],
        ),
        (
            gpu_stress().env("FAKE_CUDA_GPUS", "0"),
            ["--gpu: CUDA finds no GPU", "nvidia-smi"],
        ),
        (
            gpu_stress().env("FAKE_CUDA_GPUS", "99"),
            ["cuInit: CUDA_ERROR_INVALID_VALUE (1)", "stress"],
        ),
        (
            stress().args(["--threads", "0"]),
            ["--threads", "at least 1"],
        ),
        (stress().args(["--size", "12Q"]), ["--size", "12Q"]),
        (
            stress().args(["--size", "99999999999G"]),
            ["--size", "too many bytes"],
        ),
        (stress().args(["--seconds", "1"]), ["--seconds", "--calls"]),
    ] {
        let outcome = program.run();
        assert_eq!(outcome.status.code(), Some(2), "{outcome:#?}");
        for part in parts {
            assert!(
                outcome.stderr.contains(part),
                "{part} in {}",
                outcome.stderr
            );
        }
        assert_eq!(
            (outcome.stdout.as_str(), outcome.stderr.lines().count()),
            ("", 1),
            "{outcome:#?}"
        );
    }
}

/// As rdma-core fails: ENOSYS without ib_uverbs, and the error of the device's file.
#[test]
fn a_device_that_cannot_be_used_is_named_with_what_to_do() {
    let broken = |name: &str, error: i32| {
        stress()
            .env("LD_PRELOAD", fixtures().join("clients/no_device.so"))
            .env(name, error.to_string())
    };
    for (program, parts) in [
        (
            broken("LIST", libc::ENOSYS),
            ["no RDMA device: ib_uverbs is not loaded", "modprobe"],
        ),
        (
            broken("LIST", libc::EPERM),
            ["ibv_get_device_list: Operation not permitted", "as root"],
        ),
        (
            broken("LIST", libc::ENOMEM),
            ["ibv_get_device_list: Cannot allocate memory", "ibv_devices"],
        ),
        (
            broken("OPEN", libc::EACCES),
            ["mlx5_0: ibv_open_device: Permission denied", "as root"],
        ),
        (
            broken("OPEN", libc::ENOENT),
            ["mlx5_0: ibv_open_device: No such file", "--device="],
        ),
        (
            broken("OPEN", libc::EIO),
            ["mlx5_0: ibv_open_device: Input/output error", "dmesg"],
        ),
        (
            stress().env("LD_LIBRARY_PATH", without_libibverbs()),
            ["libibverbs.so.1: ", "install rdma-core's libibverbs"],
        ),
    ] {
        let outcome = program.run();
        assert_eq!(outcome.status.code(), Some(2), "{outcome:#?}");
        let line = format!("{parts:?} in {}", outcome.stderr);
        assert!(
            parts.iter().all(|part| outcome.stderr.contains(part)),
            "{line}"
        );
        assert_eq!(
            (outcome.stdout.as_str(), outcome.stderr.lines().count()),
            ("", 1),
            "{outcome:#?}"
        );
    }
}

/// A directory that hides a libibverbs of the system behind a file that is none.
fn without_libibverbs() -> PathBuf {
    let directory = scratch("without");
    fs::create_dir(&directory).expect("a scratch directory");
    fs::write(directory.join("libibverbs.so.1"), "no library").expect("a scratch file");
    directory
}

// What it prints

#[test]
fn it_prints_one_line_and_shows_progress_only_on_a_terminal() {
    let run = stress().preloaded();
    let outcome = run.run().succeeded("no terminal");
    assert_eq!(
        (outcome.stdout.lines().count(), outcome.stderr.as_str()),
        (1, "")
    );
    needs!("progress on a terminal", program("script", "bsdutils"));
    let library = fixtures().join("lib");
    let command = format!(
        "env LD_LIBRARY_PATH={} FAKE_IBV_RACE=count {} stress --seconds 1",
        library.display(),
        mrlock().display()
    );
    let outcome = Program::new("script")
        .args(["-qec", &command, "/dev/null"])
        .run();
    let outcome = outcome.succeeded("on a terminal");
    assert!(
        outcome.stdout.contains(" memory regions in 0 s"),
        "{}",
        outcome.stdout
    );
    assert!(
        outcome.stdout.contains("registered, checked, deregistered"),
        "{}",
        outcome.stdout
    );
}
