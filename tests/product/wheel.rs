//! The wheel that `make dist` makes, installed by pip into a new virtual environment, without a network.

use crate::common::{
    PROCESSORS, Program, build, client, dist, machine, scratch,
    venv::{environment, install, library, new_environment, pip, python, wheel},
};
use std::{collections::BTreeSet, fs, os::unix::fs::symlink, path::Path};

fn files(directory: &Path) -> BTreeSet<String> {
    let files = crate::common::listed(directory, false).into_iter();
    files.filter(|line| !line.contains(".pyc ")).collect()
}

#[test]
fn what_pip_installs_and_uninstalls() {
    needs!("tests/product/wheel.rs", machine::make_dist());
    let environment = new_environment();
    let before = files(&environment);
    install(&environment);
    let after = files(&environment);
    let package = |line: &&String| line.contains("/site-packages/");
    let installed: BTreeSet<_> = after.difference(&before).collect();
    let expected = [
        "bin/mrlock 755",
        "bin/mrlock-run 755",
        "include/mrlock.h 644",
        "lib/libmrlock-ioctl.so.0 755",
        "lib/libmrlock.so.0 755",
        "lib/mrlock-overlap.bt 644",
        "share/bash-completion/completions/mrlock 644",
        "share/fish/vendor_completions.d/mrlock.fish 644",
        "share/man/man1/mrlock-doctor.1 644",
        "share/man/man1/mrlock-env.1 644",
        "share/man/man1/mrlock-path.1 644",
        "share/man/man1/mrlock-report.1 644",
        "share/man/man1/mrlock-run.1 644",
        "share/man/man1/mrlock-status.1 644",
        "share/man/man1/mrlock-stress.1 644",
        "share/man/man1/mrlock-timeline.1 644",
        "share/man/man1/mrlock.1 644",
        "share/man/man7/mrlock.7 644",
        "share/zsh/site-functions/_mrlock 644",
    ];
    let outside: Vec<_> = installed.iter().filter(|line| !package(line)).collect();
    assert_eq!(outside, expected.iter().collect::<Vec<_>>());
    let inside = installed.iter().filter(|line| package(line));
    let modules = inside.filter(|line| !line.contains(".dist-info/"));
    let modules: Vec<_> = modules
        .filter_map(|line| line.split("/site-packages/").nth(1))
        .collect();
    assert_eq!(modules, ["mrlock/__init__.py 644", "mrlock/py.typed 644"]);

    build(pip(&environment).args(["uninstall", "--yes", "mrlock"]));
    assert_eq!(files(&environment), before);
}

#[test]
fn its_name_says_where_it_runs() {
    needs!("tests/product/wheel.rs", machine::make_dist());
    for (processor, _) in PROCESSORS {
        let said = dist().join(processor).join("wheel/auditwheel");
        let said = fs::read_to_string(said).expect("what it said");
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        let tag = format!("manylinux_2_17_{processor}");
        assert!(said.contains(&format!("-{tag}.whl is")), "{said}");
        let confirmed = format!("is consistent with the following platform tag: \"{tag}\".");
        assert!(said.contains(&confirmed), "{said}");
    }
}

/// The command, by its two names, through PATH.
#[test]
fn a_program_finishes_under_the_installed_command() {
    needs!("tests/product/wheel.rs", machine::make_dist());
    let bare = client("stress").run();
    assert!(bare.segfaulted(), "it should die alone: {bare:#?}");
    let stress = client("stress").name().to_owned();
    for command in ["mrlock run --", "mrlock-run --"] {
        let line = format!("PATH=$1:$PATH; exec {command} \"$2\"");
        let program = Program::new("sh").args(["-c", &line, "sh"]);
        let program = program.arg(environment().join("bin")).arg(&stress);
        program.libibverbs("lib").run().succeeded(command);
    }
}

#[test]
fn the_installed_command_finds_the_script_for_bpftrace() {
    needs!("tests/product/wheel.rs", machine::make_dist());
    let doctor = Program::new(environment().join("bin/mrlock")).arg("doctor");
    let outcome = doctor.run();
    let script = environment().join("lib/mrlock-overlap.bt");
    let named = format!("bpftrace {} counts", script.display());
    assert!(outcome.stdout.contains(&named), "{outcome:#?}");
}

#[test]
fn a_child_started_with_env_finishes() {
    needs!("tests/product/wheel.rs", machine::make_dist());
    let start = |environment: &str| {
        let code = format!(
            "import mrlock, os, subprocess, sys\n\
             sys.exit(abs(subprocess.run(sys.argv[1:], env={environment}).returncode))"
        );
        let program = python().args(["-c", &code]).arg(client("stress").name());
        program.libibverbs("lib").run()
    };
    let bare = start("os.environ");
    assert_eq!(bare.status.code(), Some(11), "it should die: {bare:#?}");
    start("mrlock.env()").succeeded("with mrlock.env()");
}

#[test]
fn what_the_module_says() {
    needs!("tests/product/wheel.rs", machine::make_dist());
    let code = "import mrlock; print(mrlock.library())";
    let stdout = python()
        .args(["-c", code])
        .run()
        .succeeded("library()")
        .stdout;
    assert_eq!(stdout.trim_end(), library().to_str().expect("text"));

    // All else is as it was, and this process too.
    let code = "import mrlock, os\n\
                before = dict(os.environ)\n\
                env = mrlock.env()\n\
                assert dict(os.environ) == before\n\
                print(env.pop('LD_PRELOAD'))\n\
                before.pop('LD_PRELOAD', None)\n\
                assert env == before, (env, before)";
    let ours = library().display().to_string();
    // One that is there: the loader complains of others.
    let other = crate::common::fixtures().join("clients/other_ioctl.so");
    let other = other.display();
    for (given, expected) in [
        (None, ours.clone()),
        (Some(String::new()), ours.clone()),
        (Some(ours.clone()), ours.clone()),
        (Some(format!("{other}")), format!("{ours}:{other}")),
        (Some(format!("{other} {ours}")), format!("{ours}:{other}")),
    ] {
        let program = given
            .iter()
            .fold(python().args(["-c", code]), |program, given| {
                program.env("LD_PRELOAD", given)
            });
        let outcome = program.run().succeeded("env()");
        assert_eq!(outcome.stdout.lines().next(), Some(&*expected), "{given:?}");
    }
}

/// A blank, a colon and a dollar sign mean something in LD_PRELOAD. (Python's venv refuses a colon.)
#[test]
fn a_place_that_no_preload_can_name() {
    needs!("tests/product/wheel.rs", machine::make_dist());
    let bare = client("stress").run();
    assert!(bare.segfaulted(), "it should die alone: {bare:#?}");
    let temporary = scratch("tmp");
    fs::create_dir(&temporary).expect("a scratch directory");
    for place in ["my env", "my$LIB"] {
        let environment = scratch(place);
        fs::rename(new_environment(), &environment).expect("both are in one directory");
        let link = scratch("link");
        symlink(&environment, &link).expect("a symbolic link");
        install(&environment);
        let code = "import mrlock, subprocess, sys\n\
                    sys.exit(abs(subprocess.run(sys.argv[1:], env=mrlock.env()).returncode))";
        for prefix in [&environment, &link] {
            let bin = |name: &str| Program::new(prefix.join("bin").join(name));
            for start in [
                bin("mrlock").arg("run"),
                bin("mrlock-run"),
                bin("python").args(["-c", code]),
            ] {
                let program = start.arg(client("stress").name()).libibverbs("lib");
                let program = program.env("TMPDIR", &temporary).env("MRLOCK_LOG", "warn");
                let outcome = program.run().succeeded(place);
                assert_eq!(outcome.stderr, "");
            }
        }
        let _ = fs::remove_dir_all(environment);
    }
}

/// pip leaves the library out when it is told a target directory.
#[test]
fn what_the_module_says_where_the_library_is_missing() {
    needs!("tests/product/wheel.rs", machine::make_dist());
    let environment = new_environment();
    let target = scratch("target");
    let mut pip = pip(&environment);
    pip.args(["install", "--no-index", "--target"]).arg(&target);
    build(pip.arg(wheel()));
    let program = Program::new(environment.join("bin/python"));
    let program = program.args(["-c", "import mrlock; mrlock.env()"]);
    let outcome = program.env("PYTHONPATH", &target).run();
    assert_eq!(outcome.status.code(), Some(1));
    let last = outcome.stderr.lines().last().unwrap_or_default();
    assert!(
        last.ends_with("is missing: install mrlock again, and without pip's --target"),
        "{outcome:#?}"
    );
    let _ = fs::remove_dir_all(target);
}
