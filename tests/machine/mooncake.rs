//! Mooncake's wheels on the fake libibverbs, which they take for four devices: no virtual machine, and no RDMA. (tests/gpu does
//! the same with GPU memory.)

use crate::common::{Outcome, Program, fixtures, machine, scratch, target_dir};
use std::{
    env, fs,
    path::{Path, PathBuf},
};

#[test]
fn a_batch_of_mooncake_0_3_13_registers_one_at_a_time() {
    needs!(
        "Mooncake on the fake libibverbs",
        machine::virtual_machine()
    );
    let wheel = target_dir().join("vm/wheel");
    serialized(mooncake("batch").env("PYTHONPATH", wheel), [true, true]);
}

/// README says which of its ways register, or deregister, from several threads.
#[test]
fn mooncake_0_3_14_registers_one_at_a_time_in_each_of_its_ways() {
    needs!(
        "Mooncake 0.3.14 on the fake libibverbs",
        machine::real_programs()
    );
    let wheel = downloaded("mooncake-transfer-engine-cuda13==0.3.14");
    let libraries = env::join_paths([
        fixtures().join("engine"),
        wheel.join("no_gpu"),
        downloaded("nvidia-cuda-runtime==").join("nvidia/cu13/lib"),
    ])
    .expect("names without colons");
    for (script, setting, value, overlap) in [
        ("batch", "WITH_NVIDIA_PEERMEM", "1", [true, true]),
        ("batch", "WITH_NVIDIA_PEERMEM", "0", [false, true]),
        ("parallel", "MC_ENABLE_PARALLEL_REG_MR", "1", [true, true]),
        ("parallel", "MC_ENABLE_PARALLEL_REG_MR", "-1", [false, true]),
        ("eight_engines", "WITH_NVIDIA_PEERMEM", "0", [true, true]),
    ] {
        let program = mooncake(script)
            .env("PYTHONPATH", &wheel)
            .env("LD_LIBRARY_PATH", &libraries)
            .env(setting, value);
        serialized(program, overlap);
    }
}

fn mooncake(script: &str) -> Program {
    let script = format!("tests/vm/mooncake_{script}.py");
    Program::new("/usr/bin/python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(script))
        .libibverbs("engine")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("FAKE_IBV_HOLD_US", "5000")
        .counting()
}

/// Which of registrations and deregistrations overlap without the library; none do with it.
fn serialized(program: Program, overlap: [bool; 2]) {
    // Otherwise it looks for devices in /dev.
    let topology = scratch("topology");
    let devices = r#"["mlx5_0", "mlx5_1", "mlx5_2", "mlx5_3"]"#;
    fs::write(&topology, format!(r#"{{"cpu:0": [{devices}, []]}}"#)).expect("a file");
    let program = program.env("MC_CUSTOM_TOPO_JSON", &topology);
    let without = program.run().succeeded("without the library");
    let with = program.preloaded().run().succeeded("with the library");
    let _ = fs::remove_file(topology);

    let kinds = |run: &Outcome| [run.witness.registrations, run.witness.deregistrations];
    let seen = kinds(&without).map(|kind| kind.peak >= 2);
    assert_eq!(
        seen, overlap,
        "left: registrations and deregistrations overlap without the library: {without:#?}"
    );
    assert_eq!(with.witness.together, 1, "two inside at once: {with:#?}");
    assert_eq!(with.stdout, without.stdout);
    let calls = kinds(&with).map(|kind| kind.calls);
    assert_eq!(calls, kinds(&without).map(|kind| kind.calls));
    assert!(calls[0] > 0 && calls[0] == calls[1], "{with:#?}");
}

/// What tests/vm/prepare-programs has unpacked under a name that begins so.
fn downloaded(name: &str) -> PathBuf {
    let programs = target_dir().join("vm/programs");
    let entries = fs::read_dir(&programs).expect("a directory");
    let mut paths = entries.map(|entry| entry.expect("a readable directory").path());
    paths
        .find(|path| {
            path.file_name()
                .is_some_and(|file| file.to_string_lossy().starts_with(name))
        })
        .unwrap_or_else(|| panic!("no {name} in {}", programs.display()))
}
