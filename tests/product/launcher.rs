//! `mrlock run`, also by its name `mrlock-run`: the command runs with the library and is otherwise what it would have been, or is not run at all.

use crate::common::{
    Outcome, Program, build, client, fixtures, install, installed,
    machine::{self, is_root},
    make, scratch, unpacked,
};
use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

fn library() -> PathBuf {
    installed().join("lib/libmrlock.so.0")
}

fn launcher() -> Program {
    Program::new(installed().join("bin/mrlock-run"))
}

/// A client that dies when two of its registrations overlap.
fn stress(launcher: impl AsRef<OsStr>) -> Program {
    Program::new(launcher)
        .arg(fixtures().join("clients/stress"))
        .libibverbs("lib")
}

#[test]
fn the_command_runs_with_the_library() {
    let without = client("stress").run();
    assert!(without.segfaulted(), "{without:#?}");
    let with = stress(installed().join("bin/mrlock-run")).run();
    assert_eq!(with.succeeded("with the library").stderr, "");
}

#[test]
fn it_finds_the_library_from_the_unpacked_package() {
    needs!("the launcher of `make dist`", machine::make_dist());
    stress(unpacked().join("bin/mrlock-run"))
        .run()
        .succeeded("unpacked");
}

#[test]
fn it_finds_the_library_through_links_and_path() {
    let directory = scratch("links");
    fs::create_dir_all(directory.join("more")).expect("a scratch directory");
    let link = directory.join("mrlock-run");
    symlink(installed().join("bin/mrlock-run"), &link).expect("a symbolic link");
    stress(&link).run().succeeded("a link");
    let link_to_link = directory.join("more/mrlock-run");
    symlink("../mrlock-run", &link_to_link).expect("a symbolic link");
    stress(&link_to_link).run().succeeded("a relative link");
    let path = installed().join("bin").into_os_string();
    let by_path = stress("mrlock-run").env("PATH", path);
    by_path.run().succeeded("by PATH");
}

#[test]
fn it_finds_the_library_where_a_distribution_puts_it() {
    let prefix = scratch("prefix");
    let mut install = make(["install"]);
    install.arg(format!("PREFIX={}", prefix.display()));
    build(install.arg(format!("LIBDIR={}/lib/some-arch", prefix.display())));
    stress(prefix.join("bin/mrlock-run"))
        .run()
        .succeeded("installed");
}

/// The launcher and the library in one directory.
#[test]
fn it_finds_the_library_beside_itself() {
    let directory = copy_of_launcher();
    fs::copy(library(), directory.join("libmrlock.so.0")).expect("a copy");
    let show = Program::new(directory.join("mrlock-run")).args(["sh", "-c", "echo $LD_PRELOAD"]);
    let shown = show.run().succeeded("beside");
    let directory = fs::canonicalize(directory).expect("it is there");
    assert_eq!(
        Path::new(shown.stdout.trim()),
        directory.join("libmrlock.so.0")
    );
}

/// The launcher alone, in a directory of its own.
fn copy_of_launcher() -> PathBuf {
    let directory = scratch("launcher");
    fs::create_dir(&directory).expect("a scratch directory");
    let copy = directory.join("mrlock-run");
    fs::copy(installed().join("bin/mrlock-run"), copy).expect("a copy");
    directory
}

#[test]
fn arguments_are_passed_on_as_they_are() {
    let command = [
        "printf",
        "%s|",
        "a b",
        "",
        "new\nline",
        "*",
        "--report",
        "--",
        "$HOME",
    ];
    let outcome = launcher().args(command).run().succeeded("printf");
    assert_eq!(outcome.stdout, "a b||new\nline|*|--report|--|$HOME|");
    let outcome = launcher().args(["--", "echo", "-n"]).run();
    assert_eq!(outcome.succeeded("echo").stdout, "");
}

/// Containers often have variables with names that a shell cannot have; a shell script would drop them.
#[test]
fn the_environment_is_otherwise_the_same() {
    let settings = [
        "dotted.name=1",
        "dashed-name=2",
        "EMPTY=",
        "PATH=/usr/bin:/bin",
    ];
    let clean = Program::new("env").arg("-i").args(settings);
    let without = clean.clone().args(["env", "-0"]).run().stdout;
    let with = clean
        .arg(installed().join("bin/mrlock-run"))
        .args(["env", "-0"]);
    let with = with.run().succeeded("env").stdout;
    let ours = format!("LD_PRELOAD={}\0", library().display());
    assert_eq!(with, without + &ours);
}

#[test]
fn what_is_preloaded_already_stays_behind_ours() {
    let other = fixtures().join("clients/other_reg_mr.so");
    let show = launcher().args(["sh", "-c", "echo $LD_PRELOAD"]);
    let shown = show.env("LD_PRELOAD", &other).run().succeeded("sh").stdout;
    let expected = format!("{}:{}\n", library().display(), other.display());
    assert_eq!(shown, expected);
}

/// A sanitizer's runtime ends the process unless it is the first library.
#[test]
fn a_sanitizers_runtime_stays_in_front() {
    let other = fixtures().join("clients/other_reg_mr.so");
    let (library, other) = (library(), other.display());
    let library = library.display();
    // The loader passes over a file that is not there.
    for (list, expected) in [
        (
            "/no/libasan.so.8".into(),
            format!("/no/libasan.so.8:{library}"),
        ),
        (
            format!("/no/libtsan.so.2:{other}"),
            format!("/no/libtsan.so.2:{library}:{other}"),
        ),
        (
            format!("{other} libtsan.so"),
            format!("{other} libtsan.so:{library}"),
        ),
    ] {
        let show = launcher().args(["sh", "-c", "echo $LD_PRELOAD"]);
        let shown = show.env("LD_PRELOAD", list).run().succeeded("sh").stdout;
        assert_eq!(shown, expected + "\n");
    }

    let runtime = Command::new("cc")
        .arg("-print-file-name=libasan.so")
        .output();
    let runtime = String::from_utf8(runtime.expect("cc").stdout).expect("a name");
    let runtime = fs::canonicalize(runtime.trim()).expect("gcc's AddressSanitizer");
    let command = compiled(&["-fsanitize=address"]);
    let both = format!("{library}:{}", runtime.display());
    let by_hand = Program::new(&command).env("LD_PRELOAD", both).run();
    assert!(
        by_hand.stderr.contains("does not come first"),
        "{by_hand:#?}"
    );
    let by_us = launcher().arg(command).env("LD_PRELOAD", runtime);
    by_us.run().succeeded("behind AddressSanitizer");
}

#[test]
fn the_exit_status_is_the_commands_own() {
    for script in ["exit 37", "exit 125", "kill -TERM $$", "kill -KILL $$"] {
        let command = ["bash", "-c", script];
        let without = Program::new("env").args(command).run();
        assert!(!without.status.success());
        assert_eq!(launcher().args(command).run(), without);
    }
}

#[test]
fn each_option_sets_a_variable() {
    let options = [
        "--report",
        "--calls",
        "reg",
        "--hooks=verbs",
        "--log=error",
        "--warn-after",
        "7",
        "--memory=device",
        "--observe",
        "--trace=/tmp/trace",
    ];
    let program = launcher()
        .args(options)
        .args(["sh", "-c", "env | grep ^MRLOCK | sort"]);
    let expected = "MRLOCK=observe\nMRLOCK_CALLS=reg\nMRLOCK_HOOKS=verbs\nMRLOCK_LOG=error\nMRLOCK_MEMORY=device\n\
        MRLOCK_REPORT=stderr\nMRLOCK_TRACE=/tmp/trace\nMRLOCK_WARN_AFTER=7\n";
    let outcome = program.env("MRLOCK_CALLS", "dereg").run();
    assert_eq!(outcome.succeeded("env").stdout, expected);

    let report = scratch("report");
    let option = format!("--report={}", report.display());
    let program = launcher()
        .arg(option)
        .arg(fixtures().join("clients/stress"));
    program.libibverbs("lib").run().succeeded("stress");
    let report = fs::read_to_string(report).expect("a report");
    assert!(report.contains("Up to 8 threads"), "{report}");
}

/// `--hooks=ioctl` takes the library that does nothing else.
#[test]
fn the_library_for_the_hooks() {
    let show = ["sh", "-c", "echo $LD_PRELOAD $MRLOCK_HOOKS"];
    for (options, library) in [
        (&["--hooks=ioctl"][..], "libmrlock-ioctl.so.0 ioctl"),
        (&["--hooks=ioctl,ioctl"], "libmrlock-ioctl.so.0 ioctl,ioctl"),
        (&["--hooks=verbs,ioctl"], "libmrlock.so.0 verbs,ioctl"),
        (&["--hooks=verbs"], "libmrlock.so.0 verbs"),
    ] {
        let program = options.iter().fold(launcher(), Program::arg).args(show);
        let shown = program.run().succeeded("sh").stdout;
        let expected = installed().join("lib").join(library);
        assert_eq!(shown.trim_end(), expected.display().to_string());
    }

    let program = || Program::new(fixtures().join("clients/optional_rdma"));
    let bare = program().run().succeeded("without the library");
    let with = launcher().arg("--hooks=ioctl").arg(program().name());
    assert_eq!(with.run(), bare);
    // Also where a command that runs this one has preloaded the other library.
    assert_eq!(with.env("LD_PRELOAD", library()).run(), bare);
}

/// `--gpu` sets a variable, and a more specific option takes precedence.
#[test]
fn an_option_for_gpu_memory() {
    for (options, expected) in [
        (&["--gpu"][..], "MRLOCK_MEMORY=device\n"),
        (
            &["--gpu", "--calls=reg"],
            "MRLOCK_CALLS=reg\nMRLOCK_MEMORY=device\n",
        ),
        (&["--memory=any", "--gpu"], "MRLOCK_MEMORY=any\n"),
    ] {
        let program = options.iter().fold(launcher(), Program::arg);
        let program = program.args(["sh", "-c", "env | grep ^MRLOCK | sort"]);
        assert_eq!(program.run().succeeded("env").stdout, expected);
    }
}

/// The command may change its directory. Words that are not file names are not changed.
#[test]
fn file_names_are_made_absolute() {
    let here = std::env::current_dir().expect("a directory");
    let here = here.display();
    for (option, expected) in [
        ("--report=src/b", format!("MRLOCK_REPORT={here}/src/b\n")),
        (
            "--report=./stderr",
            format!("MRLOCK_REPORT={here}/stderr\n"),
        ),
        ("--report=off", "MRLOCK_REPORT=off\n".into()),
        ("--trace=t-%p", format!("MRLOCK_TRACE={here}/t-%p\n")),
    ] {
        let program = launcher()
            .arg(option)
            .args(["sh", "-c", "env | grep ^MRLOCK"]);
        assert_eq!(program.run().succeeded("env").stdout, expected);
    }
}

/// Standard error may be a file on a full disk.
#[test]
fn a_message_that_cannot_be_written() {
    let launcher = installed().join("bin/mrlock-run");
    for (command, status, stdout) in [
        // It is warned of, and runs.
        (&["env", "-i", "/bin/echo", "ran"][..], 0, "ran\n"),
        (&["/no/such/command"], 127, ""),
        (&["--log=loud"], 125, ""),
    ] {
        let shell = Program::new("sh").args(["-c", "exec \"$@\" 2>/dev/full", "sh"]);
        let program = command.iter().fold(shell.arg(&launcher), Program::arg);
        let outcome = program.run();
        let seen = (outcome.status.code(), &*outcome.stdout);
        assert_eq!(seen, (Some(status), stdout), "{command:?}");
    }
}

/// In the name of a directory, a per cent sign is no placeholder.
#[test]
fn file_names_in_a_directory_with_per_cent_signs() {
    let directory = scratch("100%p 50%h %%");
    fs::create_dir(&directory).expect("a scratch directory");
    let shell = Program::new("sh").args(["-c", "cd \"$0\" && exec \"$@\""]);
    let program = shell
        .arg(&directory)
        .arg(installed().join("bin/mrlock-run"))
        .args(["--report=report-%%", "--trace=trace"])
        .arg(fixtures().join("clients/stress"))
        .libibverbs("lib");
    program.run().succeeded("mrlock run");
    for file in ["report-%", "trace"] {
        assert!(directory.join(file).exists(), "{file}");
    }
}

#[test]
fn a_value_that_is_not_understood() {
    for (option, why) in [
        ("--calls=reg,derge", "'derge'"),
        ("--memory=gpu", "any, device"),
        ("--hooks=verbs;ioctl", "verbs, ioctl"),
        ("--log=loud", "off, error, warn, info, debug, trace"),
        ("--warn-after=30s", "'30s'"),
        ("--report", "--nonsense"),
    ] {
        let program = launcher().arg(option);
        let program = if why == "--nonsense" {
            program.arg(why)
        } else {
            program
        };
        is_refused(program.arg("true").run(), 125, why);
    }
}

/// The library would say so at the end only, or never. What can be made is not made.
#[test]
fn a_file_that_cannot_be_written() {
    let directory = scratch("files");
    fs::create_dir(&directory).expect("a scratch directory");
    let shown = directory.display();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    fs::create_dir(directory.join(host.trim())).expect("a scratch directory");
    for (name, why) in [
        ("no/report", Some("no: No such file or directory")),
        ("%p/report", Some("No such file or directory")),
        ("no%h/report", Some("No such file or directory")),
        ("%%h/report", Some("%h: No such file or directory")),
        (".", Some("Is a directory")),
        ("%h", Some("Is a directory")),
        ("%h/report.%p", None),
        ("report.%p.%%.%", None),
    ] {
        let file = format!("{shown}/{name}");
        for program in [
            launcher().arg(format!("--report={file}")),
            launcher().arg(format!("--trace={file}")),
            launcher().env("MRLOCK_REPORT", &file),
            launcher().env("MRLOCK_TRACE", &file),
        ] {
            let outcome = program.arg("true").run();
            match why {
                Some(why) => is_refused(outcome, 125, why),
                None => drop(outcome.succeeded(name)),
            }
        }
    }
    assert_eq!(crate::common::listed(&directory, false).len(), 0);
    // A file that is there may be added to, and keeps what it has.
    let file = directory.join("report");
    fs::write(&file, "old\n").expect("a scratch file");
    let option = format!("--report={}", file.display());
    launcher()
        .arg(&option)
        .arg("true")
        .run()
        .succeeded("a file");
    assert!(fs::read_to_string(&file).expect("it").starts_with("old\n"));
    // Other words are no files, nor are these the same in another process.
    for option in ["--report", "--report=off", "--report=/dev/stdout"] {
        launcher().arg(option).arg("true").run().succeeded(option);
    }
    let overridden = launcher().env("MRLOCK_REPORT", "/no/report");
    let overridden = overridden.args(["--report=off", "true"]);
    overridden.run().succeeded("another report");
}

#[test]
fn a_file_that_this_user_may_not_write() {
    let installed = directory_for_all();
    let directory = installed.join("files");
    fs::create_dir(&directory).expect("a scratch directory");
    let file = directory.join("report");
    fs::write(&file, "").expect("a scratch file");
    for (path, mode) in [(&file, 0o444), (&directory, 0o555)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours to set");
    }
    for name in ["report", "another"] {
        let option = format!("--trace={}/{name}", directory.display());
        let program = as_unprivileged().arg(installed.join("bin/mrlock-run"));
        is_refused(
            program.arg(option).arg("true").run(),
            125,
            "Permission denied",
        );
    }
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("ours to set");
    fs::remove_dir_all(installed).expect("ours to remove");
}

/// The launcher loads the library, and so does the command; only the one in the command writes messages.
#[test]
fn one_process_speaks() {
    let outcome = launcher().args(["--log", "info", "true"]).run();
    assert_eq!(
        outcome.stderr.matches("info: loaded").count(),
        1,
        "{outcome:#?}"
    );
    let outcome = launcher()
        .env("MRLOCK_LOG", "info")
        .arg("/nonexistent")
        .run();
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:#?}");
}

#[test]
fn it_explains_itself() {
    let version = launcher().arg("--version").run().succeeded("--version");
    let expected = concat!("mrlock-run ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(version.stdout, expected);
    let help = launcher().arg("--help").run().succeeded("--help").stdout;
    let by_other_name = Program::new(installed().join("bin/mrlock")).args(["run", "--help"]);
    assert_eq!(by_other_name.run().succeeded("--help").stdout, help);
    assert!(help.lines().count() <= 24, "it fits a screen: {help}");
    assert!(help.lines().all(|line| line.len() <= 80), "{help}");
    let manual = fs::read_to_string(installed().join("share/man/man1/mrlock-run.1"));
    let manual = manual.expect("the manual page");
    let options = help
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("--"));
    let options: Vec<_> = options
        .map(|option| option.split(['[', ',']).next().expect("a part"))
        .collect();
    assert_eq!(options.len(), 11, "{help}");
    for option in options {
        let option = option.replace('-', "\\-");
        assert!(manual.contains(&format!("\\-\\-{option}")), "{option}");
    }
    is_refused(launcher().run(), 125, "no COMMAND");
    is_refused(
        launcher().arg("--nonsense").arg("true").run(),
        125,
        "--nonsense",
    );
    let mrlock = || Program::new(installed().join("bin/mrlock"));
    for (arguments, status, help) in [
        (&["run", "--bogus"][..], 125, "mrlock run --help"),
        (&["status", "abc"], 2, "mrlock status --help"),
        (&["status"], 2, "mrlock status --help"),
        (&["doctor", "--bogus"], 2, "mrlock doctor --help"),
        (&["stress", "--size", "12Q"], 2, "mrlock stress --help"),
        (&["report"], 2, "mrlock report --help"),
        (&["timeline"], 2, "mrlock timeline --help"),
        (&["bogus"], 2, "mrlock --help"),
        (&["--bogus", "run"], 2, "mrlock --help"),
    ] {
        let outcome = arguments.iter().fold(mrlock(), Program::arg).run();
        is_refused(outcome, status, &format!("; see {help}"));
    }
    is_refused(
        launcher().arg("--bogus").run(),
        125,
        "; see mrlock run --help",
    );
}

/// The launcher printed one line with the reason, and did not run the command.
fn is_refused(outcome: Outcome, status: i32, why: &str) {
    assert_eq!(outcome.status.code(), Some(status), "{outcome:#?}");
    assert_eq!(outcome.stdout, "");
    let lines: Vec<_> = outcome.stderr.lines().collect();
    let [line] = lines[..] else {
        panic!("one line was expected: {outcome:#?}")
    };
    assert!(line.starts_with("mrlock: "), "{line}");
    assert!(line.contains(why), "no {why:?} in {line:?}");
}

#[test]
fn a_command_that_is_not_there() {
    for missing in ["no-such-command", "/no/such/command", ""] {
        is_refused(launcher().arg(missing).run(), 127, "No such file");
    }
    let script = executable("script", b"#!/no/such/interpreter\n");
    is_refused(
        launcher().arg(script).run(),
        127,
        "/no/such/interpreter: No such file",
    );
}

#[test]
fn a_command_that_cannot_be_run() {
    let file = scratch("file");
    fs::write(&file, "no program\n").expect("a scratch file");
    is_refused(launcher().arg(&file).run(), 126, "Permission denied");
    let name = file.file_name().expect("a name");
    let directory = file.parent().expect("a directory");
    is_refused(
        launcher().arg(name).env("PATH", directory).run(),
        126,
        "Permission denied",
    );
    is_refused(launcher().arg(directory).run(), 126, "Is a directory");
}

fn executable(name: &str, contents: &[u8]) -> PathBuf {
    let file = scratch(name);
    fs::write(&file, contents).expect("a scratch file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("its owner's to set");
    file
}

/// With LD_PRELOAD set by hand, the command runs without the library. `start` ends with `env`.
fn would_run_without(start: Program, command: &Path) {
    let preload = format!("LD_PRELOAD={}", library().display());
    let by_hand = start.arg(preload).arg("MRLOCK_LOG=info").arg(command);
    let outcome = by_hand.arg("--version").run();
    assert!(!outcome.stderr.contains("info: loaded"), "{outcome:#?}");
}

/// For example an init process for containers: it passes the environment on.
#[test]
fn a_command_without_a_loader_that_starts_one_with() {
    let source = "#include <unistd.h>\n\
         int main(int argc, char **argv) { return argc < 2 || execvp(argv[1], argv + 1); }";
    for flag in ["-static", "-static-pie"] {
        let wrapper = scratch("wrapper");
        build(c_compiler(source).arg(flag).arg("-o").arg(&wrapper));
        would_run_without(Program::new("env"), &wrapper);
        let script = executable(
            "script",
            format!("#! {} sh\n", wrapper.display()).as_bytes(),
        );
        let script_of_script = executable("script", format!("#!{}\n", script.display()).as_bytes());
        let stress = fixtures().join("clients/stress");
        for command in [
            [&wrapper, &stress],
            [&script, &stress],
            [&script_of_script, &stress],
        ] {
            runs_with_a_warning(command);
        }
    }
    let loader = PathBuf::from("/lib64/ld-linux-x86-64.so.2");
    runs_with_a_warning([&loader, &fixtures().join("clients/stress")]);
}

fn runs_with_a_warning(command: [&PathBuf; 2]) {
    let launcher = command.iter().fold(launcher(), Program::arg);
    let outcome = launcher
        .libibverbs("lib")
        .run()
        .succeeded("with the library");
    let lines: Vec<_> = outcome.stderr.lines().collect();
    let [line] = lines[..] else {
        panic!("one line was expected: {outcome:#?}")
    };
    assert!(line.starts_with("mrlock: warning: "), "{line}");
    assert!(line.contains("statically linked"), "{line}");
}

/// A C program that does nothing.
fn compiled(flags: &[&str]) -> PathBuf {
    let program = scratch("nothing");
    let mut cc = c_compiler("int main(void) { return 0; }");
    build(cc.args(flags).arg("-o").arg(&program));
    program
}

/// The command that compiles `source`; arguments may follow.
fn c_compiler(source: &str) -> Command {
    let file = scratch("source");
    fs::write(&file, source).expect("a scratch file");
    let mut cc = Command::new("cc");
    cc.arg("-xc").arg(file).arg("-xnone");
    cc
}

/// Where a program says which processor it is for.
const MACHINE: usize = 18;
const EM_AARCH64: u8 = 183;

#[test]
fn a_library_for_another_processor() {
    let directory = scratch("arm64");
    fs::create_dir(&directory).expect("a scratch directory");
    let mut bytes = fs::read(library()).expect("the library");
    bytes[MACHINE] = EM_AARCH64;
    fs::write(directory.join("libmrlock.so.0"), bytes).expect("a scratch file");
    let command = directory.join("mrlock");
    fs::copy(crate::common::mrlock(), &command).expect("a copy");
    let start = Program::new(command).args(["run", "true"]);
    is_refused(start.run(), 125, "libmrlock.so.0: for aarch64, and");
}

#[test]
fn a_command_of_another_kind() {
    let mut bytes = fs::read(compiled(&[])).expect("a program");
    const CLASS: usize = 4;
    bytes[CLASS] = 1; // ELFCLASS32
    is_refused(
        launcher().arg(executable("elf32", &bytes)).run(),
        125,
        "no 64-bit program for x86_64",
    );
    let mut bytes = fs::read(compiled(&[])).expect("a program");
    bytes[MACHINE] = EM_AARCH64;
    is_refused(
        launcher().arg(executable("arm64", &bytes)).run(),
        125,
        "a program for aarch64, and",
    );
    let musl = compiled(&["-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1"]);
    is_refused(
        launcher().arg(musl).run(),
        125,
        "its loader is /lib/ld-musl-x86_64.so.1",
    );
    is_refused(
        launcher().arg(executable("elf", b"\x7fELF")).run(),
        125,
        "no 64-bit program for x86_64",
    );
}

/// By a name with the version of glibc, as in Debian 11, or of the Linux Standard Base.
#[test]
fn a_command_that_calls_glibcs_loader_by_another_name() {
    for name in ["ld-2.31.so", "ld-lsb-x86-64.so.3"] {
        let directory = scratch("loader");
        fs::create_dir(&directory).expect("a scratch directory");
        let loader = directory.join(name);
        symlink("/lib64/ld-linux-x86-64.so.2", &loader).expect("a symbolic link");
        let flag = format!("-Wl,--dynamic-linker={}", loader.display());
        runs_with_the_library(launcher(), &compiled(&[&flag]));
    }
}

/// A program with a libc of its own, which is older than what the library needs, and with the loader that belongs to it. Here
/// it is the machine's libc, whose versions have other names from the newest that the library needs on.
#[test]
fn a_command_with_an_older_libc() {
    let bundle = scratch("bundle");
    fs::create_dir(&bundle).expect("a scratch directory");
    let loader = bundle.join("ld-linux-x86-64.so.2");
    fs::copy("/lib64/ld-linux-x86-64.so.2", &loader).expect("a copy of the loader");
    let source = "__attribute__((force_align_arg_pointer)) void _start(void) { extern void _exit(int); _exit(0); }";
    let command = bundle.join("command");
    let mut cc = c_compiler(source);
    cc.args(["-nostartfiles", "-Wl,--disable-new-dtags"]);
    cc.arg(format!("-Wl,--dynamic-linker={}", loader.display()));
    build(
        cc.arg(format!("-Wl,-rpath,{}", bundle.display()))
            .arg("-o")
            .arg(&command),
    );
    runs_with_the_library(launcher(), &command);

    let libc = "/lib/x86_64-linux-gnu/libc.so.6";
    let mut bytes = fs::read(libc).expect("Debian's libc");
    let newest = newest_version_of_glibc_needed_by(&library());
    let places = bytes.windows(newest.len()).enumerate();
    let places: Vec<_> = places
        .filter(|(_, window)| *window == newest.as_bytes())
        .map(|(place, _)| place)
        .collect();
    places.iter().for_each(|&place| bytes[place] = b'X');
    fs::write(bundle.join("libc.so.6"), bytes).expect("a scratch file");

    Program::new(&command)
        .run()
        .succeeded("without the library");
    let by_hand = Program::new(&command).env("LD_PRELOAD", library()).run();
    assert!(!by_hand.status.success(), "{by_hand:#?}");
    is_refused(
        launcher().arg(&command).run(),
        125,
        newest.trim_end_matches('\0'),
    );
}

/// With the NUL that ends it.
fn newest_version_of_glibc_needed_by(library: &Path) -> String {
    let mut readelf = Command::new("readelf");
    let output = readelf.args(["--version-info"]).arg(library).output();
    let output = String::from_utf8(output.expect("readelf").stdout).expect("text");
    let versions = output
        .split_whitespace()
        .filter(|word| word.starts_with("GLIBC_2."));
    let minor = |version: &&str| {
        version
            .split('.')
            .nth(1)
            .and_then(|minor| minor.parse::<u32>().ok())
    };
    format!("{}\0", versions.max_by_key(minor).expect("a version"))
}

/// The launcher itself prints nothing. Not every command knows `--version`.
fn runs_with_the_library(launcher: Program, command: &Path) {
    let outcome = launcher
        .env("MRLOCK_LOG", "info")
        .arg(command)
        .arg("--version");
    let outcome = outcome.run();
    assert!(outcome.stderr.contains("info: loaded"), "{outcome:#?}");
    assert!(!outcome.stderr.contains("mrlock:"), "{outcome:#?}");
}

/// Commands for which the loader ignores LD_PRELOAD, and commands for which it does not.
#[test]
fn a_set_uid_or_set_gid_command() {
    let with_mode = |mode| {
        let program = compiled(&[]);
        move |owner: Option<u32>, group: Option<u32>| {
            chown(&program, owner, group).expect("as root, any owner will do");
            fs::set_permissions(&program, fs::Permissions::from_mode(mode)).expect("ours to set");
            program.clone()
        }
    };
    let foreign = match is_root() {
        true => vec![
            with_mode(0o4755)(Some(NOBODY), None),
            with_mode(0o2755)(None, Some(NOBODY)),
        ],
        false => vec!["/usr/bin/su".into(), "/usr/bin/chage".into()],
    };
    for command in foreign {
        would_run_without(Program::new("env"), &command);
        is_refused(
            launcher().arg(&command).arg("--version").run(),
            125,
            "set-uid or set-gid",
        );
        // With no-new-privs, the kernel ignores the set-uid bit.
        let container = Program::new("setpriv").arg("--no-new-privs");
        runs_with_the_library(container.arg(launcher().name()), &command);
    }
    let group = is_root().then_some(NOBODY);
    for own in [
        with_mode(0o4755)(None, None),
        with_mode(0o2755)(None, None),
        // Set-gid without group execution used to mean mandatory locking.
        with_mode(0o2745)(None, group),
    ] {
        runs_with_the_library(launcher(), &own);
    }
}

/// For example sudo in some distributions.
#[test]
fn a_command_that_may_be_run_but_not_read() {
    needs!(
        "a command that may be run but not read",
        has_another_group()
    );
    let directory = directory_for_all();
    let launcher = directory.join("bin/mrlock-run");
    let command = |mode| {
        let command = directory.join(format!("nothing-{mode:o}"));
        fs::copy(compiled(&[]), &command).expect("a copy");
        if !is_root() {
            chown(&command, None, another_group()).expect("a group of ours");
        }
        fs::set_permissions(&command, fs::Permissions::from_mode(mode)).expect("ours to set");
        command
    };
    // Root can read every file, so the command is set-uid root and is run as nobody.
    let (set_id, plain) = match is_root() {
        true => (command(0o4111), command(0o111)),
        false => (command(0o2111), command(0o111)),
    };
    would_run_without(as_unprivileged(), &set_id);
    let outcome = as_unprivileged().arg(&launcher).arg(&set_id).run();
    is_refused(outcome, 125, "set-uid or set-gid");
    runs_with_the_library(as_unprivileged().arg(&launcher), &plain);
    fs::remove_dir_all(directory).expect("ours to remove");
}

#[test]
fn a_command_with_file_capabilities() {
    needs!(
        "a command with file capabilities",
        machine::file(SETCAP, "libcap2-bin"),
        // A file that gets them in a user namespace has none outside.
        machine::root()
    );
    let directory = directory_for_all();
    let command = directory.join("nothing");
    fs::copy(compiled(&[]), &command).expect("a copy");
    build(Command::new(SETCAP).arg("cap_ipc_lock+ep").arg(&command));

    would_run_without(as_unprivileged(), &command);
    let launcher = directory.join("bin/mrlock-run");
    let outcome = as_unprivileged().arg(&launcher).arg(&command).run();
    is_refused(outcome, 125, "has file capabilities");
    // Root has all capabilities, and gains none.
    runs_with_the_library(Program::new(launcher), &command);
    fs::remove_dir_all(directory).expect("ours to remove");
}

/// `make install` into a directory that every user can reach. The caller removes it.
fn directory_for_all() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let (process, count) = (std::process::id(), COUNT.fetch_add(1, Relaxed));
    let directory = std::env::temp_dir().join(format!("mrlock-launcher-{process}-{count}"));
    install(&directory);
    directory
}

/// Runs the command that follows as a user that is not root.
fn as_unprivileged() -> Program {
    match is_root() {
        true => Program::new("setpriv").args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "env",
        ]),
        false => Program::new("env"),
    }
}

const SETCAP: &str = "/usr/sbin/setcap";

fn another_group() -> Option<u32> {
    let mut groups = [0; 64];
    // SAFETY: it writes at most as many groups as there is room for, and getegid() has no preconditions.
    let (count, own) = unsafe { (libc::getgroups(64, groups.as_mut_ptr()), libc::getegid()) };
    let groups = groups.iter().take(count.try_into().unwrap_or(0));
    groups.into_iter().copied().find(|&group| group != own)
}

fn has_another_group() -> machine::Need {
    if is_root() || another_group().is_some() {
        Ok(())
    } else {
        Err("the user has one group only: run it as root, or as a user with a second group".into())
    }
}

const NOBODY: u32 = 65534;

#[test]
fn a_library_that_is_not_there() {
    let directory = copy_of_launcher();
    let launcher = || Program::new(directory.join("mrlock-run")).arg("true");
    is_refused(launcher().run(), 125, "no libmrlock.so.0");
    fs::copy(library(), directory.join("libmrlock.so.0")).expect("a copy");
    let launcher = Program::new(directory.join("mrlock-run")).arg("--hooks=ioctl");
    is_refused(launcher.arg("true").run(), 125, "no libmrlock-ioctl.so.0");
}

/// The loader would print a message and then run the command without the library, or not run it.
#[test]
fn a_library_that_cannot_be_loaded() {
    let directory = copy_of_launcher();
    let library = directory.join("libmrlock.so.0");
    let launcher = || Program::new(directory.join("mrlock-run")).arg("true");
    fs::write(&library, "no library").expect("a scratch file");
    is_refused(launcher().run(), 125, "file too short");

    // A library that was built with a newer glibc.
    let (map, libc) = (scratch("map"), scratch("libc.so"));
    fs::write(&map, "GLIBC_9.99 { global: future; };").expect("a scratch file");
    let shared = ["-shared", "-fPIC", "-nostdlib"];
    let mut cc = c_compiler("void future(void) { }");
    cc.args(shared).arg("-Wl,-soname,libc.so.6");
    cc.arg(format!("-Wl,--version-script={}", map.display()));
    build(cc.arg("-o").arg(&libc));
    let mut cc = c_compiler("void future(void); void now(void) { future(); }");
    build(cc.args(shared).arg(libc).arg("-o").arg(&library));
    is_refused(launcher().run(), 125, "version `GLIBC_9.99' not found");
}

/// A virtual environment in a directory with a blank, for example: the loader takes a blank, a colon and a dollar sign for its own.
/// Each is the launcher and the library in one directory.
fn unnameable() -> Vec<PathBuf> {
    let names = ["my env", "my:env", "my$ORIGIN", "my  ${LIB} \u{e9}"];
    let copies = names.map(|name| {
        let directory = scratch(name);
        fs::rename(copy_of_launcher(), &directory).expect("both are in one directory");
        fs::copy(library(), directory.join("libmrlock.so.0")).expect("a copy");
        directory
    });
    copies.into()
}

#[test]
fn a_library_that_no_preload_can_name() {
    let temporary = scratch("tmp");
    fs::create_dir(&temporary).expect("a scratch directory");
    let preload = |directory: &Path, program: Program| {
        // By hand, the loader complains, and goes on without it.
        let by_hand = client("stress").env("LD_PRELOAD", directory.join("libmrlock.so.0"));
        assert!(by_hand.run().segfaulted(), "{}", directory.display());
        let stress = program.clone().arg(fixtures().join("clients/stress"));
        let outcome = stress.libibverbs("lib").run().succeeded("a path");
        assert_eq!(outcome.stderr, "");
        // Only LD_PRELOAD is changed.
        let shown = program.args(["sh", "-c", "echo \"${LD_LIBRARY_PATH-none} $LD_PRELOAD\""]);
        let shown = shown.run().succeeded("sh").stdout;
        let preload = shown
            .trim()
            .strip_prefix("none ")
            .expect("no other variable");
        PathBuf::from(preload)
    };
    let mut links = std::collections::BTreeSet::new();
    for directory in unnameable() {
        let program = || {
            let program = Program::new(directory.join("mrlock-run"));
            program.env("TMPDIR", &temporary)
        };
        let link = preload(&directory, program());
        assert!(link.starts_with(&temporary), "{}", link.display());
        let library = fs::canonicalize(directory.join("libmrlock.so.0")).expect("it is there");
        assert_eq!(fs::read_link(&link).expect("a link"), library);
        // It stays, for what the command has started, and the next run finds it.
        assert_eq!(preload(&directory, program()), link);
        links.insert(link);

        // A link of the user's own is better than one of ours.
        let own = scratch("link");
        symlink(&directory, &own).expect("a symbolic link");
        let by_link = Program::new(own.join("mrlock-run")).env("TMPDIR", &temporary);
        assert_eq!(preload(&directory, by_link), own.join("libmrlock.so.0"));
    }
    assert_eq!(links.len(), 4, "one for each library");
    let made = fs::read_dir(&temporary).expect("a directory").count();
    assert_eq!(made, 4);
}

/// Another user must not be able to put a library of his own there.
#[test]
fn a_link_that_another_user_could_replace() {
    let directory = &unnameable()[0];
    let temporary = scratch("tmp");
    fs::create_dir(&temporary).expect("a scratch directory");
    let launcher = || {
        let program = Program::new(directory.join("mrlock-run"));
        program.env("TMPDIR", &temporary)
    };
    let preload = launcher().args(["sh", "-c", "echo $LD_PRELOAD"]);
    let preload = || PathBuf::from(preload.run().succeeded("sh").stdout.trim());
    let link = preload();
    assert!(link.starts_with(&temporary));
    let made = link.parent().expect("its directory");
    let set_mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours to set");
    };
    assert_eq!(fs::metadata(made).expect("it").mode() & 0o7777, 0o755);

    // Then it is made in /tmp.
    let is_elsewhere = |why: &str| assert!(preload().starts_with("/tmp"), "{why}");
    set_mode(made, 0o775);
    is_elsewhere("the group may write to it");
    set_mode(made, 0o755);
    assert_eq!(preload(), link);
    set_mode(&temporary, 0o777);
    is_elsewhere("everyone may rename it");
    set_mode(&temporary, 0o1777);
    assert_eq!(preload(), link);
    if is_root() {
        chown(made, Some(NOBODY), None).expect("as root, any owner will do");
        is_elsewhere("it is another user's");
        chown(made, Some(0), None).expect("as root, any owner will do");
    }
    fs::remove_file(&link).expect("ours");
    symlink(library(), &link).expect("a link");
    is_elsewhere("it leads to another library");
    fs::remove_dir_all(made).expect("ours");
    symlink("/", made).expect("a link");
    is_elsewhere("it is a link");
    fs::remove_file(made).expect("ours");

    // There is none in /tmp either.
    let in_tmp = Path::new("/tmp").join(made.file_name().expect("a name"));
    fs::remove_dir_all(&in_tmp).expect("ours");
    symlink("/", &in_tmp).expect("a link");
    set_mode(&temporary, 0o777);
    is_refused(launcher().arg("true").run(), 125, "set TMPDIR");
    fs::remove_file(&in_tmp).expect("ours");
}

/// The names of a PATH of programs that do nothing.
fn programs(names: &str) -> String {
    let directory = scratch("bin");
    fs::create_dir(&directory).expect("a scratch directory");
    for name in names.split_whitespace() {
        let file = directory.join(name);
        fs::write(&file, "#!/bin/sh\n").expect("a scratch file");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("ours to set");
    }
    symlink(directory.join("kubectl"), directory.join("k")).expect("a link");
    format!("{}:/usr/bin:/bin", directory.display())
}

/// They end with status 0, and what they were given runs without the library. One line says it, and the command is run.
#[test]
fn a_command_that_is_handed_to_a_server() {
    let path = programs(
        "tmux docker podman kubectl systemd-run srun sbatch ssh screen at batch sudo ray gdb nsenter numactl systemctl",
    );
    for (name, command) in [
        ("tmux", "tmux new-window server"),
        ("screen", "screen -X screen server"),
        ("docker", "docker run image server"),
        ("podman", "podman --log-level debug exec image server"),
        ("systemd-run", "systemd-run --user server"),
        ("systemctl", "systemctl start server"),
        ("srun", "srun -N 2 server"),
        ("sbatch", "sbatch --wrap server"),
        ("kubectl", "kubectl exec pod -- server"),
        ("kubectl", "k run pod --image=image"),
        ("ssh", "ssh host server"),
        ("at", "at now"),
        ("batch", "batch"),
        ("sudo", "sudo -u user server"),
        ("ray", "ray job submit -- server"),
        // Through what runs them.
        ("docker", "env -u C A=b docker run image"),
        ("docker", "nice -n 5 docker run image"),
        ("docker", "nohup timeout -k 5 10 docker run image"),
        ("docker", "setsid numactl --cpunodebind 0 docker run image"),
        ("docker", "gdb --args docker run image"),
        ("docker", "nsenter -t 1 -m docker run image"),
        ("docker", "sh -c 'exec docker run image'"),
        (
            "docker",
            "bash -uec 'cd / && A=\"b c\" exec docker run image'",
        ),
        (
            "docker",
            "bash -ec 'if true; then (nice docker run image) fi'",
        ),
        ("docker", "sh -c \"sh -c 'docker run image'\""),
        // The environment does not go through.
        ("env", "env -i PATH=/usr/bin true"),
        ("env", "env - true"),
        ("env", "env -u LD_PRELOAD true"),
        ("env", "env LD_PRELOAD= true"),
        ("sh", "sh -c 'LD_PRELOAD= true'"),
        ("setpriv", "setpriv --reset-env true"),
    ] {
        let outcome = run_by_shell(command, &path);
        let lines: Vec<_> = outcome.stderr.lines().collect();
        let [line] = lines[..] else {
            panic!("{command}: one line was expected: {outcome:#?}")
        };
        assert!(
            line.starts_with(&format!("mrlock: warning: {name}: "))
                && line.contains("without the library")
                || line.contains("with the library only if"),
            "{command}: {line}"
        );
        assert!(
            line.ends_with(&format!(
                ": put mrlock run in front of the command itself: {name} ... mrlock run COMMAND"
            )),
            "{line}"
        );
    }
}

/// What has the library, and what is only mentioned.
#[test]
fn a_command_that_is_not_handed_over() {
    let path = programs("tmux docker kubectl systemd-run ray server");
    for command in [
        "server docker run image",
        "nice server --with docker",
        "sh -c 'server docker'",
        "sh -c 'server \"a; docker run image\"'",
        "sh -c 'server # (docker)'",
        "env -u OTHER server",
        "systemd-run --scope server",
        "ray start --head",
        // The user knows.
        "docker run image mrlock run server",
        "docker run image /opt/bin/mrlock-run server",
        "docker run -e LD_PRELOAD=/lib/libmrlock.so.0 image",
        "tmux new-window 'mrlock run server'",
        "sh -c 'docker run image mrlock run server'",
    ] {
        assert_eq!(run_by_shell(command, &path).stderr, "", "{command}");
    }
}

/// `mrlock run COMMAND`, with the words as a shell splits them.
fn run_by_shell(command: &str, path: &str) -> Outcome {
    let line = format!("exec \"$0\" {command}");
    let program = Program::new("/bin/sh").args(["-c", &line]);
    let program = program.arg(installed().join("bin/mrlock-run"));
    program.env("PATH", path).run().succeeded(command)
}

/// The server was started without the library.
#[test]
fn a_running_server_of_tmux() {
    needs!("a server of tmux", machine::program("tmux", "tmux"));
    let directory = scratch("tmux");
    fs::create_dir(&directory).expect("a scratch directory");
    let socket = format!("mrlock-{}", std::process::id());
    // It ends when its windows have ended. `wait-for` returns when the command has.
    let window = |launcher: &str, maps: &Path| {
        let line = format!(
            "{launcher} tmux -L {socket} new-window 'cat /proc/self/maps >{}; tmux -L {socket} wait-for -S done' && \
             tmux -L {socket} wait-for done",
            maps.display()
        );
        let program = Program::new("sh").args(["-c", &line]);
        let program = program
            .env("TMUX_TMPDIR", &directory)
            .env("TERM", "dumb")
            .env("SHELL", "/bin/sh");
        let outcome = program.run().succeeded("tmux new-window");
        let maps = fs::read_to_string(maps).expect("the command was run");
        (outcome, maps.contains("libmrlock.so"))
    };
    let tmux = |arguments: &str| {
        let line = format!("tmux -L {socket} -f /dev/null {arguments}");
        let program = Program::new("sh").args(["-c", &line]);
        let program = program
            .env("TMUX_TMPDIR", &directory)
            .env("TERM", "dumb")
            .env("SHELL", "/bin/sh");
        program.run().succeeded("tmux")
    };
    tmux("new-session -d");
    let launcher = installed().join("bin/mrlock-run");
    let launcher = launcher.to_str().expect("a name");
    let (outcome, has_library) = window(launcher, &directory.join("maps"));
    assert!(!has_library, "then the line is wrong");
    assert!(
        outcome.stderr.contains("mrlock: warning: tmux: "),
        "{outcome:#?}"
    );
    tmux("kill-server");
}

/// The second record would get another name, and `mrlock timeline` would draw the first.
#[test]
fn the_record_of_an_earlier_run_is_not_taken_for_the_new_one() {
    let file = scratch("trace");
    let program = launcher().arg("--trace").arg(&file).arg("--");
    let program = program.arg(fixtures().join("clients/stress"));
    let program = program.libibverbs("lib");
    program.run().succeeded("the first run");
    let outcome = program.run();
    assert_eq!(outcome.status.code(), Some(125), "{outcome:#?}");
    let said = "it holds the record of an earlier run: remove it, or name another file";
    assert!(outcome.stderr.contains(said), "{outcome:#?}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:#?}");
    // A command within the recorded one inherits the variable.
    let inner = launcher().env("MRLOCK_TRACE", &file).arg("true");
    inner.run().succeeded("a run within a run");
}
