//! Linked instead of preloaded: the order of the libraries decides which hooks are active, and `mrlock_active` says which.
//!
//! The fake libibverbs checks each answer: it counts the threads that are inside at once.

use crate::common::{Program, compile, fixtures, library, scratch};
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

const VERBS: u32 = 1;
const IOCTL: u32 = 2;

/// What an object of `tests/clients/linked_register.c` is linked to, in this order.
const RIGHT: [&str; 3] = ["-Wl,--no-as-needed", "-lmrlock", "-libverbs"];
const WRONG: [&str; 3] = ["-Wl,--no-as-needed", "-libverbs", "-lmrlock"];
const WITHOUT: [&str; 1] = ["-libverbs"];

/// Where the linker and the loader find the library, as in an installed tree.
fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let directory = scratch("lib");
        fs::create_dir(&directory).expect("a scratch directory");
        for name in ["libmrlock.so", "libmrlock.so.0"] {
            symlink(library(), directory.join(name)).expect("a link");
        }
        directory
    })
}

fn link(flags: &[&str], sources: &[&str], libraries: &[&str]) -> Program {
    // -rpath-link: a shared object among the sources needs a libibverbs, too, and the system may have none.
    let paths = [directory(), &fixtures().join("lib")]
        .map(|path| format!("-L{0} -Wl,-rpath-link,{0}", path.display()));
    let rest: Vec<_> = sources
        .iter()
        .copied()
        .chain(paths.iter().flat_map(|path| path.split(' ')))
        .chain(libraries.iter().copied())
        .collect();
    let own = ["-std=gnu11", "-pthread", "-Itests/fake_libibverbs"];
    let program = compile("cc", &[&own, flags].concat(), &rest);
    program.env(
        "LD_LIBRARY_PATH",
        format!(
            "{}:{}",
            directory().display(),
            fixtures().join("lib").display()
        ),
    )
}

const LINKED: &str = "tests/clients/linked_register.c";
const MAIN: &str = "tests/clients/linked_register_main.c";

fn executable(flags: &[&str], libraries: &[&str]) -> Program {
    link(flags, &[LINKED, MAIN], libraries)
}

/// `linked_register.c` as a shared object, for `linked_register_main`.
fn plugin(libraries: &[&str]) -> String {
    let plugin = link(&["-shared", "-fPIC"], &[LINKED], libraries);
    plugin.name().to_str().expect("a name").to_owned()
}

/// `mrlock_active` returns `active`, and the threads behave accordingly: they overlap unless they pass the verbs hooks. (The fake
/// libibverbs never calls ioctl.)
#[track_caller]
fn is_active(program: &Program, active: u32) {
    let program = program.clone().counting().env("FAKE_IBV_HOLD_US", "2000");
    let outcome = program.run().succeeded("linked_register");
    assert_eq!(outcome.stdout, format!("active {active}\n"));
    assert_eq!(outcome.stderr, "");
    let together = outcome.witness.together;
    assert_eq!(together == 1, active & VERBS != 0, "{together} at once");
}

#[test]
fn an_executable() {
    is_active(&executable(&[], &WITHOUT), 0);
    is_active(&executable(&[], &RIGHT), VERBS | IOCTL);
}

#[test]
fn an_executable_with_the_libraries_in_the_wrong_order() {
    is_active(&executable(&[], &WRONG), IOCTL);
}

/// Such an executable has undefined symbols with an address, which are not definitions.
#[test]
fn an_executable_that_is_not_position_independent() {
    let flags = ["-fno-pic", "-no-pie"];
    is_active(&executable(&flags, &WITHOUT), 0);
    is_active(&executable(&flags, &RIGHT), VERBS | IOCTL);
    is_active(&executable(&flags, &WRONG), IOCTL);
    is_active(&executable(&flags, &WRONG).env("MRLOCK_HOOKS", "verbs"), 0);
    is_active(&executable(&flags, &WITHOUT).preloaded(), VERBS | IOCTL);
}

/// Ubuntu's default. The linker drops mrlock where `libibverbs` comes first, and keeps it where mrlock comes first.
#[test]
fn an_executable_linked_as_needed() {
    is_active(
        &executable(&["-Wl,--as-needed"], &RIGHT[1..]),
        VERBS | IOCTL,
    );
    is_active(&executable(&["-Wl,--as-needed"], &WRONG[1..]), 0);
}

/// The executable's libc comes before mrlock in the search order, so the ioctl hook is not active.
#[test]
fn a_shared_library_that_the_executable_is_linked_to() {
    let flags = ["-Wl,--no-as-needed"];
    let with = |libraries: &[&str], more: &[&str]| link(&flags, &[MAIN, &plugin(libraries)], more);
    is_active(&with(&WITHOUT, &[]), 0);
    is_active(&with(&RIGHT, &[]), VERBS);
    is_active(&with(&WRONG, &[]), 0);
    // With the executable's libibverbs before mrlock, the verbs hooks are not active either.
    is_active(&with(&RIGHT, &["-libverbs"]), 0);
    is_active(&with(&WITHOUT, &RIGHT), VERBS | IOCTL);
}

#[test]
fn a_plugin_that_is_opened_with_dlopen() {
    let host = link(&[], &[MAIN], &["-ldl"]);
    is_active(&host.clone().arg(plugin(&WITHOUT)), 0);
    is_active(&host.clone().arg(plugin(&RIGHT)), VERBS);
    is_active(&host.clone().arg(plugin(&WRONG)), 0);
    is_active(&host.arg(plugin(&RIGHT)).preloaded(), VERBS | IOCTL);
    // The global scope comes before the plugin's dependencies.
    let host = link(&[], &[MAIN], &["-Wl,--no-as-needed", "-libverbs", "-ldl"]);
    is_active(&host.arg(plugin(&RIGHT)), 0);
}

/// The loader recognises the library by its soname, and loads it once.
#[test]
fn linked_and_preloaded() {
    is_active(&executable(&[], &RIGHT).preloaded(), VERBS | IOCTL);
    is_active(&executable(&[], &WRONG).preloaded(), VERBS | IOCTL);
}

#[test]
fn settings_decide_what_is_active() {
    let program = executable(&[], &RIGHT);
    for (name, value, active) in [
        ("MRLOCK", "off", 0),
        ("MRLOCK_CALLS", "dereg", 0),
        ("MRLOCK_HOOKS", "ioctl", IOCTL),
    ] {
        is_active(&program.clone().env(name, value), active);
    }
    let program = program.env("MRLOCK_HOOKS", "verbs").run();
    assert_eq!(program.stdout, "active 1\n");
}

/// Runs the compile line and the example of the README unchanged.
#[test]
fn the_readme_is_right() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).expect("README.md");
    let between = |start: &str, end: &str| {
        let (_, rest) = readme.split_once(start)?;
        Some(rest.split_once(end)?.0)
    };
    let example = between("```c\n", "```").expect("an example in C");
    let line = between("\ncc app.c", "\n").expect("a line that compiles app.c");

    let directory_of_app = scratch("app");
    fs::create_dir(&directory_of_app).expect("a scratch directory");
    fs::write(directory_of_app.join("app.c"), example).expect("a scratch file");
    // An installed library would need none of these options.
    let headers = [root.join("include"), root.join("tests/fake_libibverbs")];
    let libraries = [directory().to_owned(), fixtures().join("lib")];
    let join = |paths: &[PathBuf]| std::env::join_paths(paths).expect("no colon in a path");
    let compiled = Command::new("sh")
        .args(["-ec", &format!("cc -Wall -Wextra -Werror app.c{line}")])
        .current_dir(&directory_of_app)
        .env("CPATH", join(&headers))
        .env("LIBRARY_PATH", join(&libraries))
        .output()
        .expect("a shell");
    assert!(compiled.status.success(), "{compiled:#?}");
    let app = Program::new(directory_of_app.join("app"));
    let outcome = app.env("LD_LIBRARY_PATH", join(&libraries)).run();
    assert_eq!(
        outcome.succeeded("app").stdout,
        format!("mrlock {}, active 3\n", env!("CARGO_PKG_VERSION"))
    );
}
