//! `mrlock status`: what it shows of a process from outside, while the process is inside a registration.

use crate::common::{Outcome, Program, build, client, fixtures, library, machine, mrlock, scratch};
use serde_json::Value;
use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader},
    os::unix::{ffi::OsStrExt as _, fs::symlink},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
};

/// A program that waits for the end of its input, inside a registration or elsewhere. Its descendants wait for the same input.
struct Held {
    process: Child,
    input: Option<ChildStdin>,
}

impl Held {
    /// Returns when so many processes have printed that they wait.
    fn start(program: &Program, processes: usize) -> Self {
        // Not while the program waits: it gives up after a minute.
        mrlock();
        let mut command = program.command_alone();
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("it starts");
        let output = process.stdout.as_mut().expect("a pipe");
        let lines = BufReader::new(output).lines().take(processes);
        lines.for_each(|line| assert_eq!(line.expect("a line"), "inside"));
        let input = process.stdin.take();
        Self { process, input }
    }

    fn status(&self) -> Vec<Value> {
        status(&[&self.process.id().to_string()])
    }

    /// The status of the program itself.
    fn seen(&self) -> Value {
        self.status().remove(0)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(arguments: &[&str]) -> Outcome {
    let program = Program::new(mrlock()).arg("status");
    arguments.iter().fold(program, Program::arg).run()
}

fn status(arguments: &[&str]) -> Vec<Value> {
    let json = run(&[arguments, &["--json"]].concat())
        .succeeded("mrlock status")
        .stdout;
    serde_json::from_str(&json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

fn operation<'a>(process: &'a Value, name: &str) -> &'a Value {
    let operations = process["operations"].as_array();
    let operations = operations.unwrap_or_else(|| panic!("no counters: {process:#}"));
    let operation = operations
        .iter()
        .find(|operation| operation["name"] == name);
    operation.unwrap_or_else(|| panic!("no {name}: {process:#}"))
}

#[test]
fn the_counters_of_a_process_that_is_inside() {
    let bare = Held::start(&client("held"), 1);
    let seen = bare.seen();
    assert_eq!(
        (&seen["state"], &seen["reason"]),
        (&"not-covered".into(), &"started without LD_PRELOAD".into())
    );

    let program = client("held").preloaded().env("MRLOCK_WARN_AFTER", "7");
    let mut held = Held::start(&program, 1);
    let seen = held.seen();
    assert_eq!(seen["state"], "covered", "{seen:#}");
    assert_eq!(seen["pid"], held.process.id());
    assert_eq!(seen["program"], "held");
    assert_eq!(seen["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(Path::new(seen["file"].as_str().expect("a name")), library());
    assert_eq!(seen["hooks"], serde_json::json!(["verbs", "ioctl"]));
    assert_eq!(seen["most_at_once"], 1);
    let settings = seen["settings"].as_str().expect("the settings");
    assert!(
        settings.starts_with("MRLOCK=on MRLOCK_CALLS=reg,dereg,free "),
        "{settings}"
    );
    assert!(settings.contains("MRLOCK_WARN_AFTER=7 "), "{settings}");
    for (name, calls, failures) in [
        ("ibv_reg_mr", 3, 1),
        ("ibv_dereg_mr", 2, 0),
        ("ibv_reg_mr_iova2", 0, 0),
    ] {
        let operation = operation(&seen, name);
        assert_eq!(
            (&operation["calls"], &operation["failures"]),
            (&calls.into(), &failures.into()),
            "{name}"
        );
    }

    let table = run(&[&held.process.id().to_string()])
        .succeeded("a table")
        .stdout;
    let row = table.lines().nth(1).expect("a row").split_whitespace();
    let pid = held.process.id().to_string();
    let expected = [
        &*pid,
        "held",
        "on",
        "verbs,ioctl",
        "5",
        "1",
        "0",
        "0.000",
        "ms",
        "1",
    ];
    assert_eq!(row.collect::<Vec<_>>(), expected, "{table}");
    assert!(table.lines().all(|line| line.len() <= 120), "{table}");

    // The last call is counted when it is over. Then the process ends by a signal, and has written nothing.
    held.process.kill().expect("it runs");
    let status = held.process.wait().expect("it has ended");
    assert!(!status.success());
}

/// The status agrees with the settings of the process.
#[test]
fn the_settings_of_the_process() {
    let both = &["verbs", "ioctl"][..];
    // The third is how often ibv_dereg_mr was counted, the last is how many threads were inside at once. A call on no memory,
    // which fails, is of a kind that may be GPU memory.
    for (variable, value, hooks, calls, most) in [
        ("MRLOCK", "observe", both, 2, 1),
        ("MRLOCK", "off", &[], 0, 0),
        ("MRLOCK_HOOKS", "ioctl", &["ioctl"], 0, 0),
        ("MRLOCK_MEMORY", "device", both, 0, 1),
    ] {
        let held = Held::start(&client("held").preloaded().env(variable, value), 1);
        let seen = held.seen();
        let setting = format!("{variable}={value}");
        let settings = seen["settings"].as_str().expect("the settings");
        assert!(settings.split(' ').any(|it| it == setting), "{settings}");
        assert_eq!(seen["hooks"], serde_json::json!(hooks), "{setting}");
        assert_eq!(
            operation(&seen, "ibv_dereg_mr")["calls"],
            calls,
            "{setting}"
        );
        assert_eq!(seen["most_at_once"], most, "{setting}");
    }
}

/// A process and its descendants: some do not have the library, each for another reason.
#[test]
fn descendants_that_are_not_covered() {
    let (held, waits) = (fixtures().join("clients/held"), scratch("waits"));
    let source = scratch("source");
    let text = "#include <stdio.h>\n#include <unistd.h>\n\
         int main(void) { char c; puts(\"inside\"); fflush(stdout); while (read(0, &c, 1) > 0); return 0; }\n";
    fs::write(&source, text).expect("a scratch file");
    let mut cc = Command::new("cc");
    build(
        cc.args(["-static", "-xc"])
            .arg(source)
            .arg("-o")
            .arg(&waits),
    );
    let (held, waits) = (held.display(), waits.display());
    // A shell gives what runs in its background no input of its own.
    let script = format!(
        "exec 3<&0; {held} <&3 & env -u LD_PRELOAD {held} <&3 & env LD_PRELOAD=libm.so.6 {held} <&3 & \
         env LD_PRELOAD=/no/libmrlock.so.0 {held} <&3 2>/dev/null & {waits} <&3 & wait"
    );
    let program = Program::new("sh")
        .arg("-c")
        .arg(script)
        .libibverbs("lib")
        .preloaded();
    let shell = Held::start(&program, 5);
    let all = shell.status();
    assert_eq!(
        (&all[0]["program"], &all[0]["state"]),
        (&"sh".into(), &"covered".into()),
        "{all:#?}"
    );
    let mut seen: Vec<_> = all[1..]
        .iter()
        .map(|process| {
            assert_eq!(process["parent"], shell.process.id());
            let text = |key: &str| process[key].as_str().unwrap_or("").to_owned();
            (text("state"), text("reason"))
        })
        .collect();
    seen.sort();
    let expected = [
        ("covered", ""),
        ("not-covered", "/no/libmrlock.so.0 is not there"),
        (
            "not-covered",
            "started with LD_PRELOAD=libm.so.6, which does not name the library",
        ),
        ("not-covered", "started without LD_PRELOAD"),
        ("not-covered", "statically linked: there is no loader"),
    ];
    let expected = expected.map(|(state, reason)| (state.to_owned(), reason.to_owned()));
    assert_eq!(seen, expected, "{all:#?}");
    let table = run(&[&shell.process.id().to_string()])
        .succeeded("a table")
        .stdout;
    assert_eq!(table.lines().count(), 7, "{table}");
    assert_eq!(
        table.matches("  held ").count(),
        4,
        "children are indented: {table}"
    );
}

/// For example in a container into which the library was not mounted.
#[test]
fn a_descendant_in_another_mount_namespace() {
    let directory = scratch("hidden");
    fs::create_dir(&directory).expect("a scratch directory");
    let library = directory.join("libmrlock.so.0");
    fs::copy(crate::common::library(), &library).expect("a copy");
    let script = format!(
        "mount -t tmpfs none {} && exec {}",
        directory.display(),
        fixtures().join("clients/held").display()
    );
    let program =
        Program::new("unshare").args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
    let program = program
        .arg(script)
        .libibverbs("lib")
        .env("LD_PRELOAD", &library);
    let seen = Held::start(&program, 1).seen();
    let expected = format!(
        "in another mount namespace, where {} is not there",
        library.display()
    );
    assert_eq!(seen["reason"], expected, "{seen:#}");
}

/// After an update, running processes still map the old file, which has no name any more.
#[test]
fn a_library_that_was_replaced() {
    let directory = scratch("replaced");
    fs::create_dir(&directory).expect("a scratch directory");
    let library = directory.join("libmrlock.so.0");
    fs::copy(crate::common::library(), &library).expect("a copy");
    let held = Held::start(&client("held").env("LD_PRELOAD", &library), 1);
    fs::remove_file(&library).expect("ours to remove");
    fs::write(&library, "another").expect("a scratch file");
    let seen = held.seen();
    if machine::is_root() {
        assert_eq!(operation(&seen, "ibv_reg_mr")["calls"], 3);
    } else {
        assert_eq!(seen["state"], "unreadable", "{seen:#}");
        assert!(
            seen["reason"]
                .as_str()
                .is_some_and(|it| it.contains("was replaced")),
            "{seen:#}"
        );
    }
}

/// The file may have any name that begins with the library's, and may be reached through links.
#[test]
fn a_library_of_another_name() {
    let directory = scratch("wheel");
    fs::create_dir(&directory).expect("a scratch directory");
    let file = directory.join("libmrlock-1de1263b.so");
    fs::copy(library(), &file).expect("a copy");
    let link = directory.join("preload.so");
    symlink(&file, &link).expect("a symbolic link");
    for name in [&file, &link] {
        let held = Held::start(&client("held").env("LD_PRELOAD", name), 1);
        assert_eq!(held.seen()["state"], "covered", "{}", name.display());
    }
}

/// A name in the list of mappings may be any bytes.
#[test]
fn a_program_whose_name_is_no_text() {
    let directory = scratch("bin");
    fs::create_dir(&directory).expect("a scratch directory");
    let program = directory.join(OsStr::from_bytes(b"\xff"));
    fs::copy("/bin/cat", &program).expect("a copy");
    let held = Command::new(&program)
        .env("LD_PRELOAD", library())
        .stdin(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut held = Held {
        process: held,
        input: None,
    };
    held.input = held.process.stdin.take();
    // std returns when the program is run, which is before the loader has loaded the library.
    let is_covered = || {
        let seen = held.seen();
        assert_ne!(seen["state"], "unknown", "{seen:#}");
        seen["state"] == "covered"
    };
    while !is_covered() {
        std::thread::yield_now();
    }
}

/// Control characters are not printed: any user can give a process a name with them, and a terminal obeys them.
#[test]
fn a_program_with_a_control_character_in_its_name() {
    let program = scratch("bin").with_file_name("a\x1b[31m");
    fs::copy("/bin/cat", &program).expect("a copy");
    let mut process = Command::new(&program)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    let outcome = run(&[&process.id().to_string()]);
    drop(process.stdin.take());
    process.wait().expect("it ends");
    let outcome = outcome.succeeded("mrlock status");
    assert!(outcome.stdout.contains("a?[31m "), "{outcome:#?}");
}

#[test]
fn all_processes_that_have_the_library() {
    let (with, without) = (
        Held::start(&client("held").preloaded(), 1),
        Held::start(&client("held"), 1),
    );
    let all = status(&["--all"]);
    let is_there = |held: &Held| {
        all.iter()
            .any(|process| process["pid"] == held.process.id())
    };
    assert!(is_there(&with), "{all:#?}");
    assert!(!is_there(&without), "{all:#?}");
}

/// The command prints again and again, and ends when the process has ended.
#[test]
fn watching_a_process_until_it_ends() {
    let held = Held::start(&client("held").preloaded(), 1);
    let watch = Program::new(mrlock()).args(["status", "--watch", "--json"]);
    let watch = watch.arg(held.process.id().to_string());
    let mut watch = watch
        .command()
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let output = watch.stdout.take().expect("a pipe");
    let mut lines = BufReader::new(output).lines();
    for _ in 0..2 {
        let line = lines.next().expect("a line").expect("text");
        let seen: Vec<Value> = serde_json::from_str(&line).expect("JSON");
        assert_eq!(operation(&seen[0], "ibv_reg_mr")["calls"], 3);
    }
    drop(held);
    lines.for_each(drop);
    assert!(watch.wait().expect("it has ended").success());
}

#[test]
fn what_cannot_be_shown() {
    for (arguments, status, why) in [
        (&["4194304"][..], 1, "4194304: no process has this id"),
        (&["0"], 2, "0 is not in 1.."),
        (&["self"], 2, "'self'"),
        (&[], 2, "PID"),
        (&["1", "--all"], 2, "--all"),
    ] {
        let outcome = run(arguments);
        assert_eq!(outcome.status.code(), Some(status), "{outcome:#?}");
        assert_eq!(
            (&*outcome.stdout, outcome.stderr.lines().count()),
            ("", 1),
            "{outcome:#?}"
        );
        assert!(outcome.stderr.starts_with("mrlock: "), "{outcome:#?}");
        assert!(outcome.stderr.contains(why), "no {why:?}: {outcome:#?}");
    }
}
