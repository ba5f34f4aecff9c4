//! The .deb packages that `make dist` makes, installed, used and purged in a Debian of their own.

use crate::common::{
    PROCESSORS, dist, machine,
    root::{CLIENT, Root},
    scratch,
};
use std::{fs, process::Command};

const VERSION: &str = env!("CARGO_PKG_VERSION");
const PACKAGES: [&str; 2] = ["mrlock", "libmrlock-dev"];

fn can_run() -> machine::Need {
    machine::make_dist().and(machine::debian_roots())
}

/// Whether lintian has a word to say, except for what a package says itself that it does on purpose.
#[test]
fn lintian_finds_nothing() {
    needs!(
        "lintian on the .deb packages",
        machine::make_dist(),
        machine::program("lintian", "lintian")
    );
    let mut lintian = Command::new("lintian");
    lintian.arg("--allow-root");
    for (_, processor) in PROCESSORS {
        lintian.args(PACKAGES.map(|name| dist().join(format!("{name}_{VERSION}_{processor}.deb"))));
    }
    let output = lintian.output().expect("lintian");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.is_empty(), "{output:?}");
}

#[test]
fn what_is_installed_and_purged() {
    needs!("tests/product/deb.rs", can_run());
    let root = Root::new();
    let before = root.contents();
    for (name, expected) in PACKAGES.into_iter().zip([LIBRARY_AND_COMMAND, DEVELOPMENT]) {
        let earlier = root.contents();
        root.install(name);
        root.has_new_files(&earlier, expected);
    }
    root.run("dpkg --purge libmrlock-dev mrlock")
        .succeeded("dpkg --purge");
    assert_eq!(root.contents(), before);
    let cache = root.run("ldconfig --print-cache").succeeded("ldconfig");
    assert!(!cache.stdout.contains("mrlock"), "{cache:#?}");
}

const LIBRARY_AND_COMMAND: &[&str] = &[
    "usr/bin/mrlock -> ../lib/x86_64-linux-gnu/mrlock/mrlock",
    "usr/bin/mrlock-run -> mrlock",
    "usr/lib/x86_64-linux-gnu/libmrlock-ioctl.so.0 -> libmrlock-ioctl.so.VERSION",
    "usr/lib/x86_64-linux-gnu/libmrlock-ioctl.so.VERSION 644",
    "usr/lib/x86_64-linux-gnu/libmrlock.so.0 -> libmrlock.so.VERSION",
    "usr/lib/x86_64-linux-gnu/libmrlock.so.VERSION 644",
    "usr/lib/x86_64-linux-gnu/mrlock/mrlock 755",
    "usr/lib/x86_64-linux-gnu/mrlock/mrlock-overlap.bt 644",
    "usr/share/bash-completion/completions/mrlock 644",
    "usr/share/doc/mrlock/CHANGELOG.md 644",
    "usr/share/doc/mrlock/README.md 644",
    "usr/share/doc/mrlock/THIRD-PARTY.gz 644",
    "usr/share/doc/mrlock/changelog.gz 644",
    "usr/share/doc/mrlock/copyright 644",
    "usr/share/doc/mrlock/recipes/Dockerfile 644",
    "usr/share/doc/mrlock/recipes/README.md 644",
    "usr/share/doc/mrlock/recipes/cdi.yaml 644",
    "usr/share/doc/mrlock/recipes/init.Dockerfile 644",
    "usr/share/doc/mrlock/recipes/kubernetes-init.yaml 644",
    "usr/share/doc/mrlock/recipes/kubernetes.yaml 644",
    "usr/share/doc/mrlock/recipes/ld.so.preload 644",
    "usr/share/doc/mrlock/recipes/mpirun.sh 644",
    "usr/share/doc/mrlock/recipes/multiprocessing.py 644",
    "usr/share/doc/mrlock/recipes/ray.sh 644",
    "usr/share/doc/mrlock/recipes/slurm-task-prolog.sh 644",
    "usr/share/doc/mrlock/recipes/systemd.conf 644",
    "usr/share/fish/vendor_completions.d/mrlock.fish 644",
    "usr/share/lintian/overrides/mrlock 644",
    "usr/share/man/man1/mrlock-doctor.1.gz 644",
    "usr/share/man/man1/mrlock-env.1.gz 644",
    "usr/share/man/man1/mrlock-path.1.gz 644",
    "usr/share/man/man1/mrlock-report.1.gz 644",
    "usr/share/man/man1/mrlock-run.1.gz 644",
    "usr/share/man/man1/mrlock-status.1.gz 644",
    "usr/share/man/man1/mrlock-stress.1.gz 644",
    "usr/share/man/man1/mrlock-timeline.1.gz 644",
    "usr/share/man/man1/mrlock.1.gz 644",
    "usr/share/man/man7/mrlock.7.gz 644",
    "usr/share/zsh/vendor-completions/_mrlock 644",
];

const DEVELOPMENT: &[&str] = &[
    "usr/include/mrlock.h 644",
    "usr/lib/x86_64-linux-gnu/cmake/mrlock/mrlock-config-version.cmake 644",
    "usr/lib/x86_64-linux-gnu/cmake/mrlock/mrlock-config.cmake 644",
    "usr/lib/x86_64-linux-gnu/libmrlock.so -> libmrlock.so.0",
    "usr/lib/x86_64-linux-gnu/pkgconfig/mrlock.pc 644",
    "usr/share/doc/libmrlock-dev/changelog.gz 644",
    "usr/share/doc/libmrlock-dev/copyright 644",
];

/// The client dies alone, and finishes in each of the ways in which it can be run with the package.
#[test]
fn a_program_finishes_with_the_package() {
    needs!("tests/product/deb.rs", can_run());
    let root = Root::with_client_and_package();
    // The loader finds the library by its name alone: ldconfig knows it.
    for how in [
        "exec mrlock run --",
        "exec mrlock-run",
        "export LD_PRELOAD=libmrlock.so.0; exec",
    ] {
        let command = CLIENT.replace("exec", how);
        root.run(&command).succeeded(how);
    }
}

/// Without the package, every program of the root complains; the line says so before, and not of a library elsewhere.
#[test]
fn a_preload_list_that_names_a_purged_library() {
    needs!("tests/product/deb.rs", can_run());
    let root = Root::new();
    let library = "/usr/lib/x86_64-linux-gnu/libmrlock.so.0";
    for (list, is_named) in [
        (library, true),
        ("/usr/$LIB/libmrlock.so.0", true),
        ("/other.so:libmrlock.so.0", true),
        ("libmrlock-ioctl.so.0", true),
        ("/opt/mrlock/lib/libmrlock.so.0", false),
    ] {
        root.install("mrlock");
        let file = root.path().join("etc/ld.so.preload");
        fs::write(&file, format!("{list}\n")).expect("a scratch file");
        let purged = root.run("dpkg --purge mrlock").succeeded("dpkg --purge");
        let line = "mrlock: /etc/ld.so.preload still names the library: delete it there, or every program will print an \
             error of ld.so\n";
        assert_eq!(purged.stderr.contains(line), is_named, "{purged:#?}");
        let complains = root.run("/bin/true").stderr.contains("ERROR: ld.so");
        assert!(complains || !is_named, "it should complain now");
        fs::remove_file(file).expect("ours");
    }
}

/// glibc 2.31, 2.36 and 2.41. (Ubuntu's releases from 20.04 to 24.04 have one of 2.31 to 2.39.)
#[test]
fn installs_in_other_releases() {
    needs!("tests/product/deb.rs", can_run());
    for release in ["bullseye", "bookworm", "trixie"] {
        let root = Root::of(release);
        let look = "exec grep /libmrlock.so /proc/self/maps";
        let bare = root.run(look);
        assert_eq!(bare.status.code(), Some(1), "{release}: {bare:#?}");
        root.install("mrlock");
        let with = look.replace("exec", "exec mrlock run --gpu --");
        let outcome = root.run(&with).succeeded(release);
        assert_eq!(outcome.stderr, "", "{release}");
        // cat does not need libdl.so.2, and only a glibc before 2.34 has something in it.
        let maps = root.run("exec mrlock run -- cat /proc/self/maps");
        let maps = maps.succeeded(release).stdout;
        assert_eq!(maps.contains("/libdl"), release == "bullseye", "{maps}");
        root.run("dpkg --purge mrlock").succeeded(release);
    }
}

/// A program built with libmrlock-dev runs with the package mrlock alone.
#[test]
fn a_program_linked_with_the_development_package() {
    needs!(
        "tests/product/deb.rs",
        can_run(),
        machine::program("pkg-config", "pkg-config"),
        machine::file(
            "/usr/lib/x86_64-linux-gnu/pkgconfig/libibverbs.pc",
            "libibverbs-dev"
        )
    );
    let built = Root::with_client_and_package();
    built.install("libmrlock-dev");
    let flags = {
        let usr = built.path().join("usr");
        let mut flags = Command::new("pkg-config");
        flags.arg(format!("--define-variable=prefix={}", usr.display()));
        flags.args(["--cflags", "--libs", "mrlock"]);
        let directory = usr.join("lib/x86_64-linux-gnu/pkgconfig");
        let output = flags.env("PKG_CONFIG_PATH", directory).output();
        String::from_utf8(output.expect("pkg-config").stdout).expect("text")
    };
    let program = scratch("program");
    let mut cc = Command::new("cc");
    cc.args([
        "-Wl,--as-needed",
        "-std=gnu11",
        "-pthread",
        "-Itests/fake_libibverbs",
    ]);
    cc.args(["tests/clients/stress.c", "-L"])
        .arg(crate::common::fixtures().join("lib"));
    cc.args(flags.split_whitespace()).args(["-libverbs", "-o"]);
    crate::common::build(cc.arg(&program));
    built.copy(&program, "client/linked");
    built
        .run("dpkg --purge libmrlock-dev")
        .succeeded("dpkg --purge");
    let command = CLIENT.replace("stress", "linked");
    built.run(&command).succeeded("linked to the library");
    let _ = fs::remove_file(program);
}
