//! Under all of the user's cargo settings, `make` finds the files that cargo has built, and the library has its versions.

use crate::common::{TRIPLE, build, make, scratch};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

#[test]
fn another_target_and_another_target_directory() {
    let [target, elsewhere, root] = ["target", "elsewhere", "root"].map(scratch);
    let mut install = make(["install", "PREFIX=/usr"]);
    install.arg(format!("TARGET={}", target.display()));
    install.arg(format!("DESTDIR={}", root.display()));
    // Where the files are does not depend on how well they are compiled.
    install.env("CARGO_PROFILE_RELEASE_LTO", "off");
    install.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0");
    // The library does not support this target, and a build for it would fail.
    install.env("CARGO_BUILD_TARGET", "x86_64-unknown-linux-musl");
    install.env("CARGO_BUILD_TARGET_DIR", &elsewhere);
    build(install.env_remove("CARGO_TARGET_DIR"));
    let installed = fs::metadata(root.join("usr/lib/libmrlock.so.0")).expect("the library");
    assert!(installed.is_file());
    assert!(!elsewhere.exists());
    for directory in [target, root] {
        let _ = fs::remove_dir_all(directory);
    }
}

/// A debug build of the library alone, with these flags of rustc.
fn cargo_build(target: &Path, flags: &str, linker: Option<&Path>) -> Output {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--target", TRIPLE, "--target-dir"]);
    cargo.arg(target).env("RUSTFLAGS", flags);
    if let Some(linker) = linker {
        cargo.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER", linker);
    }
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    cargo.output().expect("cargo")
}

/// The dynamic symbols that the library defines, with their versions.
fn symbols(target: &Path) -> String {
    let library = target.join(TRIPLE).join("debug/libmrlock.so");
    let mut nm = Command::new("nm");
    nm.args(["--dynamic", "--defined-only", "--with-symbol-versions"]);
    nm.args(["--format=just-symbols"]).arg(library);
    let output = nm.output().expect("nm");
    String::from_utf8(output.stdout).expect("text")
}

/// GNU ld refuses our version script beside that of rustc, so lld links the library also where the user's settings, or
/// a distribution's toolchain, name GNU ld.
#[test]
fn another_linker() {
    let target = scratch("target");
    let mut all = vec![];
    for flags in ["", "-Clinker-features=-lld", "-Clink-arg=-fuse-ld=bfd"] {
        let output = cargo_build(&target, flags, None);
        assert!(output.status.success(), "{flags}: {output:#?}");
        all.push(symbols(&target));
    }
    assert!(all[0].contains("ibv_reg_mr@@IBVERBS_1.1"), "{}", all[0]);
    assert_eq!([&all[1], &all[2]], [&all[0]; 2]);
    let _ = fs::remove_dir_all(target);
}

#[test]
fn a_linker_that_cannot_link_the_library() {
    let [target, linker] = ["target", "linker"].map(scratch);
    // The C compiler of a machine without lld.
    let script = "#!/bin/bash\nexec cc \"${@/-fuse-ld=lld/-fuse-ld=bfd}\"\n";
    fs::write(&linker, script).expect("a scratch file");
    fs::set_permissions(&linker, fs::Permissions::from_mode(0o755)).expect("ours to set");
    let output = cargo_build(&target, "", Some(&linker));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    let lines: Vec<_> = said.lines().filter(|line| !line.is_empty()).collect();
    let [line, end] = lines[..] else {
        panic!("one line and cargo's own were expected: {said}")
    };
    assert!(
        line.starts_with("error: mrlock@")
            && line.contains("GNU ld")
            && line.contains("install lld"),
        "{line}"
    );
    assert!(end.starts_with("error: build script"), "{end}");
    let _ = fs::remove_dir_all(target);
}
