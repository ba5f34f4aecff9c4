//! `mrlock status`: what it shows of a process from outside, while the process is inside a registration.

use crate::common::{Outcome, Program, build, client, fixtures, library, machine, mrlock, scratch};
use serde_json::Value;
use std::{
    ffi::{CString, OsStr},
    fs,
    io::{BufRead, BufReader, ErrorKind, Read as _},
    os::{
        fd::FromRawFd as _,
        unix::{ffi::OsStrExt as _, fs::symlink},
    },
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    time::Instant,
};

/// A program that waits for the end of its input, inside a registration or elsewhere. Its descendants wait for the same input.
pub struct Held {
    pub process: Child,
    pub input: Option<ChildStdin>,
}

impl Held {
    /// Returns when so many processes have printed that they wait.
    pub fn start(program: &Program, processes: usize) -> Self {
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
    pub fn seen(&self) -> Value {
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

pub fn run(arguments: &[&str]) -> Outcome {
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

/// How often an operation was called. A process that made no call may not list its operations.
pub fn calls(process: &Value, name: &str) -> u64 {
    match process["operations"].as_array() {
        Some(none) if none.is_empty() => 0,
        _ => operation(process, name)["calls"]
            .as_u64()
            .expect("a number"),
    }
}

pub fn under_way(process: &Value) -> &Vec<Value> {
    let calls = process["under_way"].as_array();
    calls.unwrap_or_else(|| panic!("no calls under way: {process:#}"))
}

fn pid(held: &Held) -> String {
    held.process.id().to_string()
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

    let [call] = &under_way(&seen)[..] else {
        panic!("not one call: {seen:#}");
    };
    assert_eq!(
        (&call["step"], &call["operation"], &call["name"]),
        (&"inside".into(), &"ibv_reg_mr".into(), &"held".into())
    );
    assert_eq!(call["length"], 131072, "{call:#}");
    assert!(
        call["address"].as_u64().is_some_and(|it| it > 0),
        "{call:#}"
    );
    assert_eq!(call["device"], "mlx5_0", "{call:#}");
    assert_eq!(call["has_ended"], false, "{call:#}");

    let table = run(&[&pid(&held)]).succeeded("a table").stdout;
    let row = table.lines().nth(1).expect("a row").split_whitespace();
    let expected = [
        &*pid(&held),
        "held",
        "on",
        "verbs,ioctl",
        "5",
        "0.0",
        "1",
        "0",
        "0.000",
        "ms",
        "0",
        "1",
    ];
    assert_eq!(row.collect::<Vec<_>>(), expected, "{table}");
    let thread = format!("thread {} (held) inside ibv_reg_mr for ", call["thread"]);
    assert!(table.contains(&thread), "{table}");
    assert!(table.contains(": mlx5_0, 131072 bytes at 0x"), "{table}");

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
        assert_eq!(self::calls(&seen, "ibv_dereg_mr"), calls, "{setting}");
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
    let processes = table.lines().filter(|line| !line.contains(" thread "));
    assert_eq!(processes.count(), 7, "{table}");
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

/// For example to a file on a full disk.
#[test]
fn an_answer_that_cannot_be_written() {
    let held = Held::start(&client("held").preloaded(), 1);
    let script = "exec \"$0\" status --check \"$1\" >/dev/full";
    let shell = Program::new("sh").args(["-c", script]);
    let outcome = shell.arg(mrlock()).arg(pid(&held)).run();
    assert_eq!(outcome.status.code(), Some(0), "{outcome:#?}");
    let expected = "mrlock: standard output: No space left on device (os error 28)\n";
    assert_eq!(outcome.stderr, expected);
}

/// The process goes on, but its id in /proc shows only that its main thread has ended.
#[test]
fn a_process_whose_main_thread_has_ended() {
    let program = |waiters| client("held").args([waiters, "leave"]);
    for (program, state) in [
        (program("1").preloaded(), "covered"),
        (program("0"), "not-covered"),
    ] {
        let held = Held::start(&program, 1);
        let file = format!("/proc/{}/stat", held.process.id());
        while !fs::read_to_string(&file)
            .expect("a process")
            .contains(") Z ")
        {
            std::thread::yield_now();
        }
        let seen = held.seen();
        assert_eq!(seen["state"], state, "{seen:#}");
        assert_eq!(seen["pid"], held.process.id());
        if state == "covered" {
            let calls = under_way(&seen);
            assert_eq!(calls.len(), 2, "{seen:#}");
            assert!(
                calls.iter().all(|call| call["has_ended"] == false),
                "{seen:#}"
            );
            let all = status(&["--all"]);
            assert!(all.iter().any(|it| it["pid"] == seen["pid"]), "{all:#?}");
        }
    }
}

/// Its clocks are ahead of this command's, or behind them.
#[test]
fn a_process_in_another_time_namespace() {
    let uptime = fs::read_to_string("/proc/uptime").expect("a time");
    let uptime = uptime.split('.').next().expect("whole seconds");
    let behind = -uptime.parse::<i64>().expect("a number") / 2;
    for offset in [1_000_000, behind] {
        let start = Instant::now();
        let namespace = Program::new("unshare")
            .args(["--user", "--map-root-user", "--fork", "--time"])
            .args(["--monotonic", &offset.to_string()])
            .args(["--boottime", &offset.to_string()]);
        let held = Held::start(&client("held").preloaded().by(namespace), 1);
        let status = held.status();
        let seen = status.last().expect("a descendant");
        // The call began at the last tick of a clock that has at least a hundred in a second.
        let longest = start.elapsed().as_nanos() + 10_000_000;
        let call = &under_way(seen)[0];
        let time = call["for_ns"].as_u64().expect("a time");
        assert!(
            0 < time && u128::from(time) <= longest,
            "{offset}: {call:#}"
        );
        assert_eq!(call["has_ended"], false, "{offset}: {call:#}");
        drop(held);
    }
}

/// A user chooses what is behind the name in LD_PRELOAD. Some devices act when they are opened: a watchdog, for example, restarts
/// the machine if nothing more is written.
#[test]
fn a_library_that_is_a_pipe_is_not_opened() {
    let directory = scratch("pipe");
    fs::create_dir(&directory).expect("a scratch directory");
    let [file, link] = ["pipe", "libmrlock.so.0"].map(|name| directory.join(name));
    let held = Held::start(&client("held").env("LD_PRELOAD", &link), 1);
    build(Command::new("mkfifo").arg(&file));
    symlink(&file, &link).expect("a symbolic link");
    let path = CString::new(file.as_os_str().as_bytes()).expect("a name");
    // SAFETY: the path is NUL-terminated, and the new descriptor has no other owner.
    let mut opened = unsafe {
        let events = libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC);
        assert!(libc::inotify_add_watch(events, path.as_ptr(), libc::IN_OPEN) >= 0);
        fs::File::from_raw_fd(events)
    };
    let seen = held.seen();
    let reason = seen["reason"].as_str().expect("a reason");
    assert!(
        reason.contains("was not there when it was started"),
        "{seen:#}"
    );
    let event = opened.read(&mut [0; 256]);
    assert!(
        event.is_err_and(|error| error.kind() == ErrorKind::WouldBlock),
        "it was opened"
    );
}

#[test]
fn a_library_for_another_processor() {
    let directory = scratch("arm64");
    fs::create_dir(&directory).expect("a scratch directory");
    let file = directory.join("libmrlock.so.0");
    let mut bytes = fs::read(library()).expect("the library");
    const MACHINE: usize = 18;
    bytes[MACHINE] = 183; // EM_AARCH64
    fs::write(&file, bytes).expect("a scratch file");
    let seen = Held::start(&client("held").env("LD_PRELOAD", &file), 1).seen();
    let expected = format!("{} is for aarch64: its loader refused it", file.display());
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
    assert_eq!(calls(&seen, "ibv_reg_mr"), 3, "{seen:#}");
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
        let is_looked_at = seen["state"] != "unknown" && seen["state"] != "unreadable";
        // The library is mapped before its record begins.
        let is_early = seen["reason"]
            .as_str()
            .is_some_and(|it| it.contains("no record"));
        assert!(is_looked_at || is_early, "{seen:#}");
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
    let watch = Program::new(mrlock()).args(["status", "--watch=0.1", "--json"]);
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
        assert_eq!(calls(&seen[0], "ibv_reg_mr"), 3);
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
        (&["1", "--watch=0"], 2, "more than 0"),
        (&["1", "--watch=1e300"], 2, "too big"),
        (&["1", "--held", "3"], 2, "--check"),
        (&["1", "--check", "--json"], 2, "--json"),
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

/// Two threads wait for the one that is inside, and a third waits to free GPU memory.
#[test]
fn the_holder_and_those_that_wait() {
    let held = Held::start(&client("held").args(["2", "free"]).preloaded(), 1);
    let seen = held.seen();
    let calls = under_way(&seen);
    let holder = &calls[0]["thread"];
    let steps: Vec<_> = calls
        .iter()
        .map(|call| (call["step"].as_str().expect("a step"), &call["waits_for"]))
        .collect();
    let waits = ("waiting", holder);
    assert_eq!(
        steps,
        [("inside", &Value::Null), waits, waits, waits],
        "{seen:#}"
    );
    let operations: Vec<_> = calls.iter().map(|call| &call["operation"]).collect();
    let expected = ["ibv_reg_mr", "ibv_reg_mr", "ibv_reg_mr", "nvidia:RM_FREE"];
    assert_eq!(operations, expected, "{seen:#}");
    let threads: Vec<_> = calls.iter().map(|call| call["thread"].as_u64()).collect();
    assert!(
        threads.is_sorted(),
        "they were started in this order: {seen:#}"
    );
    let times = calls[1..].iter().map(|call| call["for_ns"].as_u64());
    assert!(times.is_sorted_by(|one, next| one >= next), "{seen:#}");

    // A thread's id is as good as the process's.
    let of_thread = status(&[&holder.to_string()]);
    assert_eq!(of_thread[0]["pid"], held.process.id());
    let table = run(&[&pid(&held)]).succeeded("a table").stdout;
    let waits = format!(", behind thread {holder}");
    assert_eq!(table.matches(&waits).count(), 3, "{table}");
}

/// The record has the ids that the threads have in their container.
#[test]
fn a_process_in_a_container() {
    let script = fixtures().join("clients/held").display().to_string() + " 1";
    let program = Program::new("unshare").args([
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--mount-proc",
    ]);
    let program = program.args(["sh", "-c", &script]);
    let container = Held::start(&program.libibverbs("lib").preloaded(), 1);
    let all = container.status();
    let held = all.last().expect("a process");
    assert_eq!(held["program"], "held", "{all:#?}");
    let calls = under_way(held);
    for call in calls {
        let task = format!("/proc/{}/task/{}", held["pid"], call["thread"]);
        assert!(Path::new(&task).exists(), "no {task}: {held:#}");
    }
    assert_eq!(calls[1]["waits_for"], calls[0]["thread"], "{held:#}");
}

/// While the record lies in a file.
#[test]
fn a_process_that_writes_a_trace() {
    let file = scratch("trace");
    let program = client("held").preloaded().env("MRLOCK_TRACE", &file);
    let held = Held::start(&program, 1);
    let seen = held.seen();
    assert_eq!(calls(&seen, "ibv_reg_mr"), 3, "{seen:#}");
    assert_eq!(under_way(&seen)[0]["step"], "inside", "{seen:#}");
    assert_eq!(under_way(&seen)[0]["device"], "mlx5_0", "{seen:#}");
    assert_eq!(seen["devices"][0]["name"], "mlx5_0", "{seen:#}");
    fs::remove_file(file).expect("it was written");
}

/// Each finding has an exit status of its own.
#[test]
fn a_check_by_a_script() {
    let check = |arguments: &[&str]| {
        let outcome = run(&[&["--check"], arguments].concat());
        assert_eq!(outcome.stdout.lines().count(), 1, "{outcome:#?}");
        assert_eq!(outcome.stderr, "");
        (outcome.status.code().expect("a status"), outcome.stdout)
    };
    let bare = Held::start(&client("held"), 1);
    assert_eq!(check(&[&pid(&bare)]).0, 3);
    let off = Held::start(&client("held").preloaded().env("MRLOCK", "off"), 1);
    let (code, line) = check(&[&pid(&off)]);
    assert_eq!((code, line.contains("MRLOCK=off")), (3, true), "{line}");

    let held = Held::start(&client("held").preloaded(), 1);
    assert_eq!(check(&[&pid(&held)]), (0, "covered: 1 process\n".into()));
    assert_eq!(check(&["--held", "1000", &pid(&held)]).0, 0);
    while check(&["--held", "0.000001", &pid(&held)]).0 != 4 {
        std::thread::yield_now();
    }

    let client = fixtures().join("clients/held").display().to_string();
    let script = format!("exec 3<&0; {client} <&3 & env -u LD_PRELOAD {client} <&3 & wait");
    let shell = Program::new("sh").arg("-c").arg(script);
    let shell = Held::start(&shell.libibverbs("lib").preloaded(), 2);
    let (code, line) = check(&[&pid(&shell)]);
    assert_eq!(code, 5, "{line}");
    assert!(line.contains("started without LD_PRELOAD"), "{line}");
}

/// As root of a container is, which has no CAP_SYS_PTRACE.
#[test]
fn without_the_right_to_look() {
    needs!("mrlock status without CAP_SYS_PTRACE", machine::root());
    let user = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let program = Program::new("setpriv").args(user);
    let program = program.args(["sh", "-c", "echo inside; read line"]);
    let held = Held::start(&program, 1);
    let status = |arguments: &[&str]| {
        let lost = "-sys_ptrace,-sys_admin,-checkpoint_restore,-perfmon";
        let program = Program::new("setpriv").args(["--bounding-set", lost]);
        let program = program.arg(mrlock()).arg("status");
        arguments.iter().fold(program, Program::arg).run()
    };
    let (one, all) = (status(&[&pid(&held)]), status(&["--all"]));
    assert!(one.stdout.contains("CAP_SYS_PTRACE is missing"), "{one:#?}");
    let count = all
        .stdout
        .lines()
        .find(|line| line.contains(" could not be looked at: "));
    assert!(
        count.is_some_and(|line| line.contains("CAP_SYS_PTRACE")),
        "{all:#?}"
    );
    assert_eq!(status(&["--check", &pid(&held)]).status.code(), Some(6));
}

/// Two packages are installed, and a program names one while the environment names the other.
#[test]
fn two_copies_in_one_process() {
    let other = scratch("copy");
    fs::create_dir(&other).expect("a scratch directory");
    let other = other.join("libmrlock.so.0");
    fs::copy(library(), &other).expect("a copy");
    let program = client("held").env("LD_PRELOAD", &other).preloaded();
    let held = Held::start(&program, 1);
    let seen = held.seen();
    assert!(calls(&seen, "ibv_reg_mr") == 3, "{seen:#}");
    let mut files =
        [&seen["file"], &seen["other_copies"][0]].map(|it| it.as_str().expect("a file"));
    files.sort_unstable();
    let mut expected = [library(), &*other].map(|it| it.to_str().expect("text"));
    expected.sort_unstable();
    assert_eq!(files, expected);
    let table = run(&[&pid(&held)]).succeeded("a table").stdout;
    assert!(table.contains(" 2 copies of the library: "), "{table}");
}

/// A library with a record of another version, or garbage in its place, or none.
#[test]
fn a_record_that_cannot_be_read() {
    let directory = scratch("other");
    fs::create_dir(&directory).expect("a scratch directory");
    for (name, source, expected) in [
        (
            "version",
            "unsigned long mrlock_record[9999] = {0x6b636f6c726d, 99};",
            "of version 99",
        ),
        (
            "garbage",
            "unsigned long mrlock_record[9999] = {1, 2, 3};",
            "no record of mrlock",
        ),
        ("older", "int mrlock_status;", "no symbol mrlock_record"),
    ] {
        let library = directory.join(format!("libmrlock-{name}.so"));
        let file = directory.join("source.c");
        fs::write(&file, source.to_owned() + "void nothing(void) {}").expect("a scratch file");
        build(
            Command::new("cc")
                .args(["-shared", "-fPIC"])
                .arg(&file)
                .arg("-o")
                .arg(&library),
        );
        let held = Held::start(&client("held").env("LD_PRELOAD", &library), 1);
        let seen = held.seen();
        assert_eq!(seen["state"], "unreadable", "{seen:#}");
        assert!(
            seen["reason"]
                .as_str()
                .is_some_and(|it| it.contains(expected)),
            "{seen:#}"
        );
        assert_eq!(run(&["--check", &pid(&held)]).status.code(), Some(6));
    }
}

/// A parser of OpenMetrics reads the metrics, and node_exporter's format does, too.
#[test]
fn metrics() {
    needs!(
        "mrlock status --openmetrics",
        machine::fetched("metrics").map(drop)
    );
    let held = Held::start(&client("held").args(["1"]).preloaded(), 1);
    let bare = Held::start(&client("held"), 1);
    let text = run(&["--openmetrics", &pid(&held)])
        .succeeded("metrics")
        .stdout;
    let file = scratch("metrics");
    for text in [&text, &run(&["--openmetrics", &pid(&bare)]).stdout] {
        fs::write(&file, text).expect("a scratch file");
        let mut python = Command::new("python3");
        python.arg("tests/clients/metrics.py").arg(&file);
        python.env(
            "PYTHONPATH",
            machine::fetched("metrics").expect("checked above"),
        );
        build(&mut python);
    }
    let labels = format!("{{pid=\"{}\",program=\"held\"", held.process.id());
    for line in [
        format!("mrlock_calls_total{labels},operation=\"ibv_reg_mr\"}} 3\n"),
        format!("mrlock_failures_total{labels},operation=\"ibv_reg_mr\"}} 1\n"),
        format!("mrlock_threads{labels},step=\"inside\"}} 1\n"),
        format!("mrlock_threads{labels},step=\"waiting\"}} 1\n"),
        format!("mrlock_covered{labels}}} 1\n"),
        "mrlock_processes{state=\"covered\"} 1\n".into(),
    ] {
        assert!(text.contains(&line), "no {line}: {text}");
    }
    assert!(text.ends_with("# EOF\n"), "{text}");
}
