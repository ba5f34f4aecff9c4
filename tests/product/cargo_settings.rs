//! `make` finds the files that cargo has built under all of the user's cargo settings.

use crate::common::{build, make, scratch};
use std::fs;

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
