//! `make install` and `make uninstall`, and programs built with an installed tree.

use crate::common::{
    PACKAGE, Program, TRIPLE, build, client, fixtures, install, ioctl_library, listed, machine,
    make, scratch, target_dir, unpacked,
};
use std::{
    collections::BTreeSet,
    env, fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
    time::UNIX_EPOCH,
};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Installs as a distribution does: into a DESTDIR (with a blank in its name), twice, with a umask that would make the
/// files unreadable for others.
#[test]
fn installs_what_it_should_and_uninstalls_all_of_it() {
    let destination = scratch("a destination");
    let run = |goal: &str| {
        ioctl_library();
        let make = make([goal, "CARGO=false", "PREFIX=/usr", "LIBDIR=/usr/lib/arch"]);
        let mut shell = Command::new("sh");
        shell.args(["-c", "umask 077 && exec \"$@\"", "sh", "make"]);
        shell.args(make.get_args()).arg("-j");
        shell.arg(format!("DESTDIR={}", destination.display()));
        build(&mut shell);
    };
    run("install");
    let expected = [
        "usr/bin/mrlock -> ../lib/arch/mrlock/mrlock".into(),
        "usr/bin/mrlock-run -> mrlock".into(),
        "usr/include/mrlock.h 644".into(),
        "usr/lib/arch/cmake/mrlock/mrlock-config-version.cmake 644".into(),
        "usr/lib/arch/cmake/mrlock/mrlock-config.cmake 644".into(),
        "usr/lib/arch/mrlock/mrlock 755".into(),
        "usr/lib/arch/mrlock/mrlock-overlap.bt 644".into(),
        format!("usr/lib/arch/libmrlock.so.{VERSION} 755"),
        format!("usr/lib/arch/libmrlock.so.0 -> libmrlock.so.{VERSION}"),
        "usr/lib/arch/libmrlock.so -> libmrlock.so.0".into(),
        format!("usr/lib/arch/libmrlock-ioctl.so.{VERSION} 755"),
        format!("usr/lib/arch/libmrlock-ioctl.so.0 -> libmrlock-ioctl.so.{VERSION}"),
        "usr/lib/arch/pkgconfig/mrlock.pc 644".into(),
        "usr/share/bash-completion/completions/mrlock 644".into(),
        "usr/share/fish/vendor_completions.d/mrlock.fish 644".into(),
        "usr/share/zsh/site-functions/_mrlock 644".into(),
        "usr/share/man/man1/mrlock.1 644".into(),
        "usr/share/man/man1/mrlock-doctor.1 644".into(),
        "usr/share/man/man1/mrlock-env.1 644".into(),
        "usr/share/man/man1/mrlock-path.1 644".into(),
        "usr/share/man/man1/mrlock-report.1 644".into(),
        "usr/share/man/man1/mrlock-run.1 644".into(),
        "usr/share/man/man1/mrlock-status.1 644".into(),
        "usr/share/man/man1/mrlock-stress.1 644".into(),
        "usr/share/man/man1/mrlock-timeline.1 644".into(),
        "usr/share/man/man7/mrlock.7 644".into(),
    ];
    assert_eq!(listed(&destination, false), expected.clone().into());
    let hidden = |line: &String| line.contains("/ ") && !line.ends_with("/ 755");
    let all = listed(&destination, true);
    assert!(!all.iter().any(hidden), "{all:#?}");
    // No installed file contains DESTDIR.
    let files = Command::new("grep")
        .args(["-rlF", "a destination"])
        .arg(&destination)
        .output();
    assert_eq!(files.expect("grep").stdout, b"");

    run("install");
    assert_eq!(listed(&destination, false), expected.into());

    run("uninstall");
    assert_eq!(listed(&destination, false), BTreeSet::new());
    assert!(!destination.join("usr/lib/arch/cmake/mrlock").exists());
}

/// Every program complains of a library that /etc/ld.so.preload still names.
#[test]
fn uninstall_names_a_preload_list_that_names_the_library() {
    for (list, is_named) in [
        ("/usr/lib/arch/libmrlock.so.0\n", true),
        ("/other.so /usr/lib/arch/libmrlock.so\n", true),
        ("/other.so:libmrlock.so.0", true),
        ("/usr/lib/arch/libmrlock-ioctl.so.0\n", true),
        ("/other.so\n/opt/lib/libmrlock.so.0\n", false),
        ("/usr/lib/arch/xlibmrlock.so\n", false),
        ("", false),
    ] {
        let destination = scratch("a destination");
        let file = destination.join("etc/ld.so.preload");
        fs::create_dir_all(destination.join("etc")).expect("a scratch directory");
        fs::write(&file, list).expect("a scratch file");
        let mut make = make(["uninstall", "PREFIX=/usr", "LIBDIR=/usr/lib/arch"]);
        make.arg(format!("DESTDIR={}", destination.display()));
        let output = make.output().expect("make");
        assert!(output.status.success(), "{output:#?}");
        let said = String::from_utf8_lossy(&output.stderr);
        let line = format!(
            "mrlock: {} still names the library: delete it there, or every program will print an error of ld.so\n",
            file.display()
        );
        assert_eq!(said, if is_named { &line } else { "" }, "{list}");
    }
}

/// `make install` rebuilds both libraries after a change of any of their sources, and builds nothing right after `make`.
#[test]
fn what_is_installed_is_up_to_date() {
    ioctl_library();
    let libraries = ["library", "ioctl"].map(scratch);
    for library in &libraries {
        fs::File::create(library).expect("a scratch file");
    }
    let [plain, ioctl] = libraries.each_ref().map(|library| library.display());
    let variables = [format!("LIBRARY={plain}"), format!("IOCTL_LIBRARY={ioctl}")];
    let builds = |options: &[&str]| {
        let mut make = make(["install", "--dry-run"]);
        let output = make.args(options).args(&variables).output();
        let output = String::from_utf8(output.expect("make").stdout).expect("text");
        assert!(output.contains("mv -f "), "{output}");
        let target = format!("--target-dir {}", target_dir().display());
        ["", "/ioctl --no-default-features"].map(|rest| {
            let mut lines = output.lines();
            lines.any(|line| line.ends_with(&format!("{target}{rest}")))
        })
    };
    assert_eq!(builds(&[]), [false; 2]);
    for source in ["Cargo.toml", "Cargo.lock", "build.rs", "src/lib.rs"] {
        assert_eq!(builds(&["-W", source]), [true; 2], "{source}");
    }
    // A change of this file gives cargo no reason to write the library again.
    for library in &libraries {
        let old = fs::File::options().append(true).open(library);
        let old = old.expect("a scratch file").set_modified(UNIX_EPOCH);
        old.expect("ours to set");
    }
    assert_eq!(builds(&[]), [true; 2]);
    build(make(["CARGO=true"]).args(&variables));
    assert_eq!(builds(&[]), [false; 2]);
}

/// The command and its pages, likewise. (`-W FILE`: as if FILE were newer than everything.)
#[test]
fn the_command_that_is_installed_is_up_to_date() {
    build(&mut make([]));
    let builds = |source: &str| {
        let output = make(["install", "--dry-run", "-W", source]).output();
        let output = String::from_utf8(output.expect("make").stdout).expect("text");
        ["--bin mrlock", "--example pages"].map(|part| output.contains(part))
    };
    for (source, expected) in [
        ("README.md", [false, false]),
        ("cli/src/run/library.rs", [true, false]),
        ("cli/src/arguments.rs", [true, true]),
        ("cli/examples/run.txt", [false, true]),
        ("Cargo.lock", [true, true]),
    ] {
        assert_eq!(builds(source), expected, "{source}");
    }
}

/// A user's cargo setting must not move the built files to a place where make does not look.
#[test]
fn a_target_that_the_user_has_set() {
    ioctl_library();
    let directory = scratch("target");
    fs::create_dir(&directory).expect("a scratch directory");
    let (cargo, seen) = (directory.join("cargo"), directory.join("seen"));
    let script = format!("#!/bin/sh\necho \"$@\" >>{}\n", seen.display());
    fs::write(&cargo, script).expect("a scratch file");
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).expect("ours to set");
    let mut make = make(["release"]);
    for (variable, name) in [
        ("CARGO", "cargo"),
        ("LIBRARY", "library"),
        ("IOCTL_LIBRARY", "ioctl"),
        ("COMMAND", "command"),
        ("PAGES", "pages"),
    ] {
        make.arg(format!("{variable}={}", directory.join(name).display()));
    }
    build(&mut make);
    let seen = fs::read_to_string(seen).expect("what cargo was run for");
    let lines: Vec<_> = seen.lines().collect();
    assert_eq!(
        lines.len(),
        4,
        "the libraries, the command and its pages: {seen}"
    );
    let target = format!("--target {TRIPLE} --target-dir {}", target_dir().display());
    assert!(lines.iter().all(|line| line.contains(&target)), "{seen}");
}

/// A process has the file mapped: it may be replaced, but not written to.
#[test]
fn a_library_that_is_in_use_is_replaced_and_not_written_to() {
    let prefix = scratch("prefix");
    install(&prefix);
    let file = prefix.join("lib").join(format!("libmrlock.so.{VERSION}"));
    let in_use = fs::File::open(&file).expect("the installed library");
    install(&prefix);
    let before = in_use.metadata().expect("an open file");
    let after = fs::metadata(&file).expect("the library");
    assert_ne!(after.ino(), before.ino());
    assert_eq!((after.len(), before.nlink()), (before.len(), 0));
}

/// Blanks and colons separate the entries of LD_PRELOAD; and the paths are written into files.
#[test]
fn refuses_a_place_that_no_preload_can_name() {
    for place in [
        "PREFIX=here",
        "PREFIX=/a b",
        "PREFIX=/a&b",
        "PREFIX=/a|b",
        "PREFIX=/a'b",
        "LIBDIR=/a:b",
        "LIBDIR=/a,b",
        "BINDIR=",
    ] {
        let destination = scratch("refused");
        let mut make = make(["install", place]);
        make.arg(format!("DESTDIR={}", destination.display()));
        let output = make.output().expect("make");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{place}");
        assert!(stderr.contains("an absolute path"), "{place}: {stderr}");
        assert!(!destination.exists(), "{place}");
    }
}

/// Trees to build with, away from their prefix: the one of `make install`, moved, and the one of `make dist`, where the
/// machine can make it.
fn trees() -> Vec<PathBuf> {
    let prefix = scratch("prefix");
    install(&prefix);
    let moved = scratch("moved");
    fs::rename(&prefix, &moved).expect("both are in one directory");
    let mut trees = vec![moved];
    if machine::has(
        "builds with the package of `make dist`",
        machine::make_dist(),
    ) {
        trees.push(unpacked());
    }
    trees
}

/// Compiles and runs two clients that know nothing of mrlock: one is linked to libibverbs, the other loads a plugin that is.
/// The linker drops libraries of which no function is called, as it does on Ubuntu.
fn are_serialized_when_compiled_with(flags: &str, library: PathBuf) {
    let plugin = fixtures().join("clients/plugin.so");
    for unlinked in [client("stress"), client("plugin_host").arg(&plugin)] {
        let outcome = unlinked.run();
        assert!(outcome.segfaulted(), "it should die unlinked: {outcome:#?}");
    }
    for (source, libraries, arguments) in [
        ("tests/clients/stress.c", "-libverbs", None),
        ("tests/clients/plugin_host.c", "-ldl", Some(plugin)),
    ] {
        let program = scratch("program");
        let mut cc = Command::new("cc");
        cc.args(["-Wl,--as-needed", "-std=gnu11", "-pthread"]);
        cc.args(["-Itests/fake_libibverbs", source]);
        cc.arg("-L").arg(fixtures().join("lib"));
        cc.args(flags.split_whitespace()).args([libraries, "-o"]);
        build(cc.arg(&program));
        is_serialized(
            arguments.iter().fold(Program::new(program), Program::arg),
            Some(library.clone()),
        );
    }
    let (source, example) = (scratch("example.c"), scratch("example"));
    fs::write(&source, EXAMPLE).expect("a scratch file");
    let mut cc = Command::new("cc");
    cc.args(["-xc"]).arg(source).args(flags.split_whitespace());
    build(cc.arg("-o").arg(&example));
    example_works(&example, &library);
}

/// A program that uses mrlock.h.
const EXAMPLE: &str = r#"
#include <mrlock.h>
#include <stdio.h>

int main(void)
{
	return printf("%s %s\n", mrlock_version(), mrlock_active() ? "active" : "not active") < 0;
}
"#;

fn example_works(program: &Path, library: &Path) {
    let path = env::join_paths([library, &fixtures().join("lib")]);
    let program = Program::new(program).env("LD_LIBRARY_PATH", path.expect("no colons"));
    let stdout = program.run().succeeded("the example").stdout;
    assert_eq!(stdout, format!("{VERSION} active\n"));
}

/// Without the library, the registrations of these clients overlap, and the fake libibverbs kills the process.
fn is_serialized(program: Program, library: Option<PathBuf>) {
    let path = env::join_paths(library.into_iter().chain([fixtures().join("lib")]));
    let program = program.env("LD_LIBRARY_PATH", path.expect("no colons"));
    program.run().succeeded("linked to mrlock");
}

#[test]
fn programs_built_with_cc() {
    for tree in trees() {
        let (include, library) = (tree.join("include"), tree.join("lib"));
        let flags = format!(
            "-I{} -L{} -Wl,--no-as-needed -lmrlock",
            include.display(),
            library.display()
        );
        are_serialized_when_compiled_with(&flags, library);
    }
}

#[test]
fn programs_built_with_pkg_config() {
    needs!("programs built with pkg-config", pkg_config());
    for tree in trees() {
        let library = tree.join("lib");
        let mut flags = Command::new("pkg-config");
        // The user of a moved tree gives the prefix; the package's file is relative to its own place.
        if !tree.ends_with(PACKAGE) {
            flags.arg(format!("--define-variable=prefix={}", tree.display()));
        }
        flags.args(["--cflags", "--libs"]);
        let path = env::join_paths([library.join("pkgconfig"), other_packages()]);
        flags.env("PKG_CONFIG_PATH", path.expect("no colons"));
        // In every order, mrlock comes before libibverbs.
        for packages in [
            &["mrlock", "other"][..],
            &["mrlock", "libibverbs"],
            &["libibverbs", "mrlock"],
            &["needs_verbs", "other", "mrlock"],
        ] {
            let mut flags = copy_of(&flags);
            let output = flags.args(packages).output().expect("pkg-config");
            assert!(output.status.success(), "{output:#?}");
            let flags = String::from_utf8(output.stdout).expect("flags are text");
            are_serialized_when_compiled_with(&flags, library.clone());
        }
    }
}

/// The same command, to add arguments to.
fn copy_of(command: &Command) -> Command {
    let mut copy = Command::new(command.get_program());
    copy.args(command.get_args());
    let variables = command.get_envs();
    copy.envs(variables.filter_map(|(name, value)| Some((name, value?))));
    copy
}

/// A directory with libibverbs, a package that requires it, and another package whose library must not be dropped either.
/// pkg-config prints flags that both packages have only once.
fn other_packages() -> PathBuf {
    let directory = scratch("other");
    fs::create_dir(&directory).expect("a scratch directory");
    let verbs = format!("Libs: -L{} -libverbs", fixtures().join("lib").display());
    for (name, rest) in [
        ("libibverbs", &*verbs),
        ("needs_verbs", "Requires: libibverbs"),
        (
            "other",
            "Libs: -Wl,--push-state,--no-as-needed -lm -Wl,--pop-state",
        ),
    ] {
        let text = format!("Name: {name}\nDescription: {name}\nVersion: 1\n{rest}\n");
        fs::write(directory.join(format!("{name}.pc")), text).expect("a scratch file");
    }
    directory
}

/// CMake finds the library without hints, and the order of the targets does not matter.
#[test]
fn a_program_built_with_cmake() {
    needs!("a program built with CMake", cmake());
    trees().iter().for_each(|tree| {
        built_with_cmake(FIND_PACKAGE, tree);
    });
}

/// The same with what `make install` wrote for pkg-config, where it was installed.
#[test]
fn a_program_built_with_cmake_and_pkg_config() {
    needs!(
        "a program built with CMake and pkg-config",
        cmake(),
        pkg_config()
    );
    let prefix = scratch("prefix");
    install(&prefix);
    built_with_cmake(PKG_CHECK_MODULES, &prefix);
}

fn cmake() -> machine::Need {
    machine::program("cmake", "cmake")
}

fn pkg_config() -> machine::Need {
    machine::program("pkg-config", "pkg-config")
}

/// `find` is to make a target `mrlock::mrlock`.
fn built_with_cmake(find: &str, tree: &Path) {
    let project = scratch("project");
    fs::create_dir(&project).expect("a scratch directory");
    let lists = PROJECT.replace("FIND_MRLOCK", find);
    fs::write(project.join("CMakeLists.txt"), lists).expect("a scratch file");
    fs::write(project.join("example.c"), EXAMPLE).expect("a scratch file");
    let define = |name: &str, value: &Path| format!("-D{name}={}", value.display());
    let mut cmake = Command::new("cmake");
    cmake.arg("-S").arg(&project).arg("-B").arg(&project);
    cmake.arg(define("CMAKE_PREFIX_PATH", tree));
    cmake.arg(define("REPOSITORY", Path::new(env!("CARGO_MANIFEST_DIR"))));
    cmake.arg(define("FIXTURES", fixtures()));
    cmake.env("PKG_CONFIG_PATH", other_packages());
    build(cmake.env("LDFLAGS", "-Wl,--as-needed"));
    build(Command::new("cmake").arg("--build").arg(&project));
    is_serialized(Program::new(project.join("program")), None);
    example_works(&project.join("example"), Path::new(""));
}

/// CMake does not know the size of a pointer there.
#[test]
fn a_cmake_project_without_a_language() {
    needs!(
        "a CMake project without a language",
        cmake(),
        machine::make_dist()
    );
    let project = scratch("project");
    fs::create_dir(&project).expect("a scratch directory");
    let lists = "cmake_minimum_required(VERSION 3.13)\nproject(nothing NONE)\n\
         find_package(mrlock 0.1 REQUIRED)\n";
    fs::write(project.join("CMakeLists.txt"), lists).expect("a scratch file");
    let mut cmake = Command::new("cmake");
    cmake.arg("-S").arg(&project).arg("-B").arg(&project);
    let tree = unpacked();
    build(cmake.arg(format!("-DCMAKE_PREFIX_PATH={}", tree.display())));
}

const PKG_CHECK_MODULES: &str = r#"
find_package(PkgConfig REQUIRED)
pkg_check_modules(mrlock REQUIRED IMPORTED_TARGET mrlock)
add_library(mrlock::mrlock ALIAS PkgConfig::mrlock)
"#;

const FIND_PACKAGE: &str = r#"
find_package(mrlock 0.99 QUIET)
if(mrlock_FOUND)
  message(FATAL_ERROR "found a version that is not there")
endif()
find_package(mrlock 0.1 REQUIRED)
"#;

const PROJECT: &str = r#"
cmake_minimum_required(VERSION 3.13)
project(program C)
FIND_MRLOCK
find_package(Threads REQUIRED)
add_executable(program ${REPOSITORY}/tests/clients/stress.c)
target_compile_options(program PRIVATE -std=gnu11)
target_include_directories(program PRIVATE ${REPOSITORY}/tests/fake_libibverbs)
target_link_directories(program PRIVATE ${FIXTURES}/lib)
target_link_libraries(program PRIVATE ibverbs Threads::Threads mrlock::mrlock)

add_executable(example example.c)
target_link_libraries(example PRIVATE mrlock::mrlock)
"#;

#[test]
fn the_manual_pages_are_well_formed() {
    needs!(
        "the check of the manual pages",
        machine::program("mandoc", "mandoc")
    );
    let mut mandoc = Command::new("mandoc");
    build(mandoc.args(["-Tlint", "-Wwarning", "packaging/mrlock.7"]));
    // The generated ones have more line breaks than mandoc would have.
    let prefix = scratch("prefix");
    install(&prefix);
    let pages = fs::read_dir(prefix.join("share/man/man1")).expect("the manual pages");
    let pages = pages.map(|page| page.expect("a page").path());
    let mut mandoc = Command::new("mandoc");
    build(mandoc.args(["-Tlint", "-Werror"]).args(pages));
}

/// README and mrlock(7) list the same settings, with the same values and defaults.
#[test]
fn the_manual_page_has_the_settings_of_the_readme() {
    let read = |file| fs::read_to_string(file).expect("a file of the repository");
    let (readme, manual) = (read("README.md"), read("packaging/mrlock.7"));
    let rows = readme.lines().filter(|line| line.starts_with("| `MRLOCK"));
    let mut settings = 0;
    for row in rows {
        let mut cells = row.split('|').skip(1).map(str::trim);
        let name = cells.next().expect("a name").trim_matches('`');
        let entry = manual
            .split(".It Ev ")
            .find(|entry| entry.lines().next() == Some(name));
        let entry = entry.unwrap_or_else(|| panic!("{name} is not in mrlock(7)"));
        let words: BTreeSet<_> = entry.split(|c: char| !c.is_alphanumeric()).collect();
        for value in cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)) {
            let parts = value.split(',').map(|part| part.trim_start_matches('%'));
            parts.for_each(|part| assert!(words.contains(part), "{name}: no {part:?} in {entry}"));
        }
        settings += 1;
    }
    assert_eq!(settings, 9);
    assert_eq!(manual.matches(".It Ev ").count(), settings);
}
