//! Two ways to load the library that survive a parent which replaces LD_PRELOAD in the processes that it starts.

use crate::common::{Program, client, fixtures, library, machine, scratch};
use std::{fs, path::Path, process::Command};

/// In a container, root can do this. Here it is done in a copy of /etc that only the test's processes see.
#[test]
fn by_ld_so_preload() {
    let etc = scratch("etc");
    fs::create_dir(&etc).expect("a scratch directory");
    fs::copy("/etc/ld.so.cache", etc.join("ld.so.cache")).expect("a copy of the loader's cache");
    let list = format!("{}\n", library().display());
    fs::write(etc.join("ld.so.preload"), list).expect("the copy is writable");
    let script = "mount --bind \"$0\" /etc && exec env LD_PRELOAD= \"$@\"";
    let own_mounts = ["--user", "--map-root-user", "--mount", "bash", "-c", script];
    let program = Program::new("unshare").args(own_mounts).arg(&etc);
    let stress = fixtures().join("clients/stress");
    let program = program.arg(stress).libibverbs("lib");

    let without = client("stress").run();
    assert!(without.segfaulted(), "it should die: {without:#?}");
    let with = program.run().succeeded("with /etc/ld.so.preload");
    assert_eq!(with.stderr, "");
    let _ = fs::remove_dir_all(etc);
}

/// `patchelf --add-needed libmrlock.so.0` on a copy of the interpreter.
#[test]
fn by_an_interpreter_that_needs_it() {
    needs!(
        "an interpreter that needs the library",
        machine::program("patchelf", "patchelf")
    );
    let directory = scratch("needed");
    fs::create_dir(&directory).expect("a scratch directory");
    fs::copy(library(), directory.join("libmrlock.so.0")).expect("a copy of the library");
    let python = directory.join("python3");
    fs::copy("/usr/bin/python3", &python).expect("a copy of the interpreter");
    let mut patchelf = Command::new("patchelf");
    crate::common::build(
        patchelf
            .args(["--add-needed", "libmrlock.so.0"])
            .arg(&python),
    );

    let script =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/multiprocessing_workers.py");
    let mut path = directory.clone().into_os_string();
    path.push(":");
    path.push(fixtures().join("lib"));
    for how in ["fork", "spawn"] {
        let run = |python: &Path| {
            let program = Program::new(python).arg(&script).arg(how);
            let program = program.env("LD_LIBRARY_PATH", &path).env("LD_PRELOAD", "");
            program.env("FAKE_IBV_HOLD_US", "500").run()
        };
        let without = run(Path::new("/usr/bin/python3"));
        assert!(without.segfaulted(), "it should die: {without:#?}");
        let with = run(&python).succeeded("with an interpreter that needs it");
        assert_eq!(with.stderr, "");
    }
    let _ = fs::remove_dir_all(directory);
}
