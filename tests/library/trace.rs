//! `MRLOCK_TRACE`: the record in a file.

use crate::common::{
    Program, client, fixtures, library, machine, mrlock,
    record::{
        Recall, Recorded,
        layout::{ENDED, FAILED, INSIDE, RUNNING, WAITING, WAS_LET_THROUGH},
        read,
    },
    scratch,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
};

/// The largest number of calls inside at any moment.
fn overlap(events: &[Recall]) -> i32 {
    let mut changes: Vec<_> = events
        .iter()
        // Where one ends in the nanosecond in which the next begins, they do not overlap.
        .flat_map(|call| [(call.since, 1), (call.since + call.duration, -1)])
        .collect();
    changes.sort_unstable();
    let mut now = 0;
    let counts = changes.iter().map(|(_, change)| {
        now += change;
        now
    });
    counts.max().unwrap_or(0)
}

pub fn traced(program: &Program, file: &Path) -> Program {
    program.preloaded().env("MRLOCK_TRACE", file)
}

/// All records in this directory.
pub fn records(directory: &Path) -> Vec<Recorded> {
    let entries = fs::read_dir(directory).expect("the directory");
    entries
        .map(|entry| read(&entry.expect("an entry").path()))
        .collect()
}

/// If calls are observed, those of all threads overlap. If they are serialized, none overlap.
#[test]
fn each_call_is_an_event() {
    let observed = scratch("observed");
    let program = client("inside_together").arg("8").counting();
    traced(&program, &observed)
        .env("MRLOCK", "observe")
        .run()
        .succeeded("observed");
    let observed = read(&observed);
    assert_eq!(overlap(&observed.events), 8, "{observed:#?}");
    assert_eq!(observed.events.len(), 16, "{observed:#?}");
    assert!(observed.events.iter().all(|call| call.waited == 0));
    assert!(observed.inside.is_empty(), "{observed:#?}");
    assert_eq!(observed.state, ENDED);

    let serialized = scratch("serialized");
    let program = client("stress").args(["-t", "8", "-n", "8"]);
    traced(&program, &serialized).run().succeeded("serialized");
    let serialized = read(&serialized);
    assert_eq!(overlap(&serialized.events), 1);
    let mut rows = BTreeMap::new();
    for call in &serialized.events {
        *rows.entry(call.operation.clone()).or_insert(0) += 1;
    }
    let counted = serialized.operations.into_iter();
    let counted: BTreeMap<_, _> = counted.filter(|(_, calls)| *calls > 0).collect();
    assert_eq!(rows, counted, "left: events; right: counters");
    assert!(
        serialized.events.iter().any(|call| call.waited > 0),
        "eight threads did not meet"
    );
}

#[test]
fn what_an_event_says() {
    let file = scratch("trace");
    let outcome = traced(&client("outcomes"), &file)
        .run()
        .succeeded("outcomes");
    let record = read(&file);
    assert_eq!(record.program, "outcomes");
    assert!(record.settings.contains("MRLOCK=on"), "{record:#?}");
    let failed = record.events.iter().filter(|call| call.flags & FAILED != 0);
    let failed = failed.count();
    let failures = outcome
        .stdout
        .lines()
        .filter(|line| line.starts_with("ibv_reg_mr_iova2, ") && line.contains("NULL"));
    assert!(failed >= failures.count() && failed > 0, "{outcome:#?}");
    for call in &record.events {
        assert!(call.device.starts_with("mlx5_"), "{call:?}");
        assert_eq!(call.waited, 0, "a single thread never waits: {call:?}");
        assert_eq!(call.name, "outcomes", "{call:?}");
    }
}

/// A call that only the ioctl hook saw has the name of the file, and a section has no device.
#[test]
fn calls_of_other_layers() {
    let file = scratch("trace");
    traced(&client("uverbs_commands"), &file)
        .run()
        .succeeded("uverbs_commands");
    let record = read(&file);
    let mut requests = record.events.iter();
    let registration = requests.find(|call| call.operation == "uverbs:REG_MR");
    let registration = registration.unwrap_or_else(|| panic!("{record:#?}"));
    assert!(!registration.device.is_empty(), "{registration:?}");

    let file = scratch("trace");
    traced(&client("c_api").args(["excludes"]), &file)
        .run()
        .succeeded("excludes");
    let record = read(&file);
    let sections = record.events.iter();
    let sections: Vec<_> = sections
        .filter(|call| call.operation == "mrlock_lock")
        .collect();
    assert!(!sections.is_empty(), "{record:#?}");
    assert!(sections.iter().all(|call| call.device.is_empty()));
    assert!(sections.iter().any(|call| call.waited > 0));
}

/// It could not open the files any more at its end: they are opened at its first call.
#[test]
fn a_daemon_that_gives_up_root_keeps_its_report_and_its_trace() {
    needs!("a daemon that gives up root", machine::root());
    let empty = scratch("root");
    fs::create_dir(&empty).expect("a scratch directory");
    for arguments in [&[][..], &[empty.to_str().expect("a name")]] {
        let (directory, program) = (scratch("kept"), client("gives_up_root"));
        fs::create_dir(&directory).expect("a scratch directory");
        let private = fs::Permissions::from_mode(0o700);
        fs::set_permissions(&directory, private).expect("a mode");
        let program = arguments.iter().fold(program, Program::arg);
        let (trace, report) = (directory.join("trace"), directory.join("report"));
        let program = traced(&program, &trace).env("MRLOCK_REPORT", &report);
        let outcome = program.run().succeeded("a daemon");
        assert_eq!(outcome.stderr, "");
        assert_eq!(read(&trace).events.len(), 4);
        let report = fs::read_to_string(report).expect("a report");
        assert!(report.contains("ibv_reg_mr "), "{report}");
    }
}

/// The file has room for so many calls; later ones take the place of the first.
#[test]
fn the_last_calls_are_kept() {
    let file = scratch("trace");
    let program = client("stress").args(["-t", "2", "-n", "20"]);
    let program = traced(&program, &file).env("MRLOCK_EVENTS", "8");
    program.run().succeeded("eight events");
    let record = read(&file);
    assert_eq!(record.events.len(), 8, "{record:#?}");
    assert_eq!(record.capacity, 8);
    let calls: u64 = record.operations.iter().map(|(_, calls)| calls).sum();
    assert_eq!(record.written, calls);
    assert_eq!(overlap(&record.events), 1, "{record:#?}");
    // The two deregistrations at the end, at least, are among the last.
    let is_last = |it: &Recall| it.operation == "ibv_dereg_mr";
    assert!(record.events.iter().any(is_last), "{record:#?}");
}

/// Each process, and each forked child, has a file of its own, also where the name says nothing of the process.
#[test]
fn a_file_for_each_process() {
    for name in ["trace", "%p"] {
        let directory = scratch("traces");
        fs::create_dir(&directory).expect("a scratch directory");
        let program = client("fork").args(["traffic", "4"]);
        traced(&program, &directory.join(name))
            .run()
            .succeeded("fork traffic");
        let records = records(&directory);
        let mut processes: Vec<_> = records.iter().map(|record| record.process).collect();
        processes.sort_unstable();
        processes.dedup();
        assert_eq!((processes.len(), records.len()), (5, 5), "{name}");
        assert!(records.iter().all(|record| !record.events.is_empty()));
    }
}

/// A child has its parent's mapping of the parent's file. What the parent's thread does there is not the child's call.
#[test]
fn a_child_has_no_call_of_its_parent() {
    let directory = scratch("traces");
    fs::create_dir(&directory).expect("a scratch directory");
    traced(&client("forked_before"), &directory.join("trace"))
        .run()
        .succeeded("forked_before");
    let mut records = records(&directory);
    records.sort_by_key(|record| record.process);
    let [parent, child] = &records[..] else {
        panic!("two records were expected: {records:#?}")
    };
    assert_eq!((&parent.inside[..], &child.inside[..]), (&[][..], &[][..]));
    assert_eq!((parent.events.len(), child.events.len()), (4, 2));
}

/// Neither with fork handlers nor without: before its first call, the child has no file, and nothing of it is in its parent's.
#[test]
fn a_forked_child_without_a_call() {
    for (way, forks) in [("fork", "os.fork()"), ("without handlers", "libc.fork()")] {
        for (call, files) in [("pass", 1), ("section()", 2)] {
            let directory = scratch("traces");
            fs::create_dir(&directory).expect("a scratch directory");
            let file = directory.join("trace");
            // _Fork() runs no fork handlers.
            let script = format!(
                "import ctypes, os\n\
                 libc = ctypes.CDLL(None)\n\
                 libc.fork = libc._Fork\n\
                 mrlock = ctypes.CDLL('{}')\n\
                 def section(): mrlock.mrlock_lock(); mrlock.mrlock_unlock()\n\
                 def record(): return open('{}', 'rb').read()\n\
                 section()\n\
                 before = record()\n\
                 child = {forks}\n\
                 if not child:\n    {call}\n    os._exit(0)\n\
                 assert os.waitpid(child, 0) == (child, 0)\n\
                 assert record() == before\n",
                library().display(),
                file.display(),
            );
            let program = Program::new("/usr/bin/python3").arg("-c").arg(script);
            traced(&program, &file).run().succeeded(way);
            let records = records(&directory);
            assert_eq!(records.len(), files, "{way}, {call}");
            assert!(records.iter().all(|record| record.events.len() == 1));
        }
    }
}

/// They have nothing in common but the name in their environment, and may make their files at the same moment.
#[test]
fn unrelated_processes_with_one_name() {
    let directory = scratch("traces");
    fs::create_dir(&directory).expect("a scratch directory");
    let program = client("stress").args(["-t", "2", "-n", "4"]);
    let program = traced(&program, &directory.join("trace"));
    let start = |_| {
        let mut command = program.command_alone();
        command.stdout(Stdio::null()).spawn().expect("it starts")
    };
    let mut processes: Vec<_> = (0..8).map(start).collect();
    for process in &mut processes {
        assert!(process.wait().expect("it ends").success());
    }
    let mut started: Vec<_> = processes.iter().map(|it| u64::from(it.id())).collect();
    started.sort_unstable();
    let records = records(&directory);
    let mut recorded: Vec<_> = records.iter().map(|record| record.process).collect();
    recorded.sort_unstable();
    assert_eq!(recorded, started);
    for record in &records {
        assert_eq!(record.state, ENDED);
        assert_eq!(overlap(&record.events), 1, "{record:#?}");
        let calls: u64 = record.operations.iter().map(|(_, calls)| calls).sum();
        assert_eq!((record.written, record.unlisted), (calls, 0));
        // Its main thread makes no call.
        let threads: BTreeSet<_> = record.events.iter().map(|it| it.thread).collect();
        assert_eq!(threads.len(), 2, "{record:#?}");
    }
}

/// Each thread waits, is inside, and only then waits again; a wait ends where its call begins. In the picture, too.
#[test]
fn a_wait_ends_where_its_call_begins() {
    let file = scratch("trace");
    let program = client("stress").args(["-t", "8", "-n", "40"]);
    traced(&program, &file).run().succeeded("eight threads");
    let record = read(&file);
    assert_eq!(overlap(&record.events), 1);
    let mut waits = BTreeMap::<_, (u64, u64)>::new();
    let mut end_of_last = BTreeMap::new();
    for call in &record.events {
        let last = end_of_last.insert(call.thread, call.since + call.duration);
        let began = call.since - call.waited;
        assert!(last.is_none_or(|last| last <= began), "{last:?}: {call:?}");
        let (count, sum) = waits.entry(call.operation.clone()).or_default();
        *count += u64::from(call.waited > 0);
        *sum += call.waited;
    }
    let counted = record.waits.into_iter();
    let counted: BTreeMap<_, _> = counted.filter(|(_, (count, _))| *count > 0).collect();
    waits.retain(|_, (count, _)| *count > 0);
    assert!(!waits.is_empty(), "eight threads did not meet");
    assert_eq!(waits, counted, "left: events; right: counters");

    let timeline = Program::new(mrlock()).arg("timeline").arg(&file);
    let picture = scratch("trace").with_extension("json");
    timeline.arg("-o").arg(&picture).run().succeeded("timeline");
    let text = fs::read_to_string(picture).expect("a trace");
    let drawn: Value = serde_json::from_str(&text).expect("JSON");
    let drawn = drawn["traceEvents"].as_array().expect("a list");
    let ends_at = |slice: &Value| {
        let time = ["ts", "dur"].map(|key| slice[key].as_f64().expect("a number"));
        ((time[0] + time[1]) * 1e3).round() as u64
    };
    let drawn_waits: BTreeSet<_> = drawn
        .iter()
        .filter(|slice| slice["cat"] == "waiting")
        .map(|slice| (slice["tid"].as_u64(), ends_at(slice)))
        .collect();
    let waited = record.events.iter().filter(|call| call.waited > 0);
    let starts: BTreeSet<_> = waited.map(|call| (Some(call.thread), call.since)).collect();
    // The picture's times begin with its first call.
    let from_first = |times: BTreeSet<(Option<u64>, u64)>| -> BTreeSet<_> {
        let first = times.iter().map(|(_, time)| *time).min().unwrap_or(0);
        let times = times.into_iter();
        times.map(|(thread, time)| (thread, time - first)).collect()
    };
    assert_eq!(from_first(drawn_waits), from_first(starts));
}

/// A process that is killed leaves the calls that it has completed, the one that is inside, and those that wait.
#[test]
fn a_process_that_is_killed() {
    let file = scratch("trace");
    let (mut process, _input) = held(&traced(&client("held").arg("3"), &file));
    process.kill().expect("it runs");
    process.wait().expect("it was killed");
    let record = read(&file);
    assert_eq!(record.state, RUNNING);
    let names: Vec<_> = record
        .events
        .iter()
        .map(|call| call.operation.as_str())
        .collect();
    let expected = [
        "ibv_reg_mr",
        "ibv_dereg_mr",
        "ibv_reg_mr",
        "ibv_dereg_mr",
        "ibv_reg_mr",
    ];
    assert_eq!(names, expected);
    assert_ne!(record.events[4].flags & FAILED, 0);
    let of = |state| {
        let calls = record.inside.iter();
        calls.filter(move |call| call.state == state).count()
    };
    assert_eq!((of(INSIDE), of(WAITING)), (1, 3), "{record:#?}");
    for call in &record.inside {
        assert_eq!(call.operation, "ibv_reg_mr", "{call:?}");
        assert!(call.device.starts_with("mlx5_"), "{call:?}");
        assert!(call.address != 0 && call.length != 0, "{call:?}");
        assert_eq!(call.name, "held", "{call:?}");
    }
}

/// Starts the client, and returns when it is inside.
fn held(program: &Program) -> (Child, ChildStdin) {
    let mut command = program.command_alone();
    let mut process = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut line = String::new();
    let output = process.stdout.as_mut().expect("a pipe");
    BufReader::new(output).read_line(&mut line).expect("a line");
    assert_eq!(line, "inside\n");
    let input = process.stdin.take().expect("a pipe");
    (process, input)
}

/// Another process of this user must not cut the file: the next write would end the host.
#[test]
fn the_file_is_read_only_for_others() {
    let file = scratch("trace");
    traced(&client("outcomes"), &file)
        .run()
        .succeeded("outcomes");
    let mode = fs::metadata(&file).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777 & !0o444, 0, "{mode:o}");
}

/// A call on host memory that is let through is an event, too.
#[test]
fn calls_that_are_let_through() {
    let file = scratch("trace");
    let program = client("stress").args(["-t", "1", "-n", "4"]);
    traced(&program, &file)
        .env("MRLOCK_MEMORY", "device")
        .run()
        .succeeded("host memory");
    let record = read(&file);
    let flagged = record.events.iter();
    let flagged = flagged.filter(|call| call.flags & WAS_LET_THROUGH != 0);
    assert!(record.let_through > 0, "{record:#?}");
    assert_eq!(flagged.count() as u64, record.let_through);
}

/// The descriptor that the trace was written to now belongs to the host's file, which has only the host's text.
#[test]
fn a_host_that_closes_and_opens_files() {
    let (file, own) = (scratch("trace"), scratch("own"));
    let program = Program::new("/usr/bin/python3").arg("tests/clients/closes_files.py");
    let program = program.arg(library()).arg(&own);
    traced(&program, &file)
        .run()
        .succeeded("sections in Python");
    assert_eq!(
        fs::read_to_string(&own).expect("the host's file"),
        "own\n".repeat(64)
    );
    let record = read(&file);
    assert_eq!(record.events.len(), 2, "{record:#?}");
}

/// The process goes on, its exit status is its own, and one line names the variable, the file and the reason.
#[test]
fn a_trace_that_cannot_be_written() {
    for (path, why) in [
        ("/nonexistent/trace", "No such file"),
        ("/", "not a regular file"),
        ("/dev/null", "not a regular file"),
    ] {
        let outcome = traced(&client("outcomes"), Path::new(path))
            .run()
            .succeeded("a bad file");
        let lines: Vec<_> = outcome.stderr.lines().collect();
        let [line] = lines[..] else {
            panic!("one line was expected: {outcome:#?}")
        };
        for part in ["MRLOCK_TRACE", path, why] {
            assert!(line.contains(part), "no {part:?} in {line:?}");
        }
    }
}

/// As on 9p, and on some file systems of FUSE. No part of the file is left, and the line says what to do.
#[test]
fn a_trace_on_a_file_system_that_cannot_map_files() {
    let directory = scratch("unmapped");
    fs::create_dir(&directory).expect("a scratch directory");
    let without = client("outcomes").run().succeeded("without the library");
    let program = client("without_shared_mappings").arg(fixtures().join("clients/outcomes"));
    let outcome = traced(&program, &directory.join("trace"))
        .run()
        .succeeded("without mappings");
    assert_eq!(outcome.stdout, without.stdout);
    let lines: Vec<_> = outcome.stderr.lines().collect();
    let says =
        |line: &str| line.contains("MRLOCK_TRACE=") && line.contains("name a file on a local");
    assert!(lines.len() == 1 && says(lines[0]), "{outcome:#?}");
    assert_eq!(fs::read_dir(&directory).expect("it is there").count(), 0);
}

/// A write into a mapping for which the disk has no room would end the process by SIGBUS, and one beyond its size limit by
/// SIGXFSZ. It goes on, no part of the file is left, and one line names the variable, the file and the reason.
#[test]
fn a_trace_for_which_there_is_no_room() {
    let directory = scratch("full");
    fs::create_dir(&directory).expect("a scratch directory");
    let (file, outcomes) = (directory.join("trace"), fixtures().join("clients/outcomes"));
    let limited = Program::new("prlimit").arg("--fsize=100000");
    let beyond = limited.args(["fallocate", "--length=1M"]).arg(&file).run();
    assert!(beyond.ended_by(libc::SIGXFSZ), "{beyond:#?}");
    fs::remove_file(&file).expect("it was made");

    let without = client("outcomes").run().succeeded("without the library");
    let (limit, no_limit) = ("100000", "unlimited");
    let (full, too_large) = ("No space left", "File too large");
    for (system, limit, why) in [
        ("tmpfs", no_limit, full),
        ("tmpfs", limit, too_large),
        // It takes no room in advance: the library has to write it.
        ("ramfs", limit, too_large),
    ] {
        let script = format!(
            "mount -t {system} -o size=1M none {0} && prlimit --fsize={limit} {1} && ls {0}",
            directory.display(),
            outcomes.display()
        );
        let program = Program::new("unshare").args(["--user", "--map-root-user", "--mount"]);
        let program = program.args(["sh", "-c", &script]).libibverbs("lib");
        let outcome = traced(&program, &file).run().succeeded(system);
        assert_eq!(outcome.stdout, without.stdout, "{system}, {limit}");
        let line = format!("MRLOCK_TRACE={}: no record is kept", file.display());
        let is_right = |it: &str| it.contains(&line) && it.contains(why);
        let lines: Vec<_> = outcome.stderr.lines().collect();
        assert!(lines.len() == 1 && is_right(lines[0]), "{outcome:#?}");
    }
}

#[test]
fn no_call_makes_no_file() {
    let file = scratch("trace");
    let program = traced(&Program::new("true"), &file);
    assert_eq!(program.run().succeeded("no call").stderr, "");
    assert!(!file.exists());
    let off = client("outcomes")
        .preloaded()
        .env("MRLOCK_TRACE", "off")
        .run();
    assert_eq!(off.succeeded("off").stderr, "");
    assert!(!Path::new("off").exists());
}

/// The name is a relative one, and the process changes its directory before its first call.
#[test]
fn a_relative_name_is_relative_to_where_the_process_was_loaded() {
    let (start, other) = (scratch("start"), scratch("other"));
    for directory in [&start, &other] {
        fs::create_dir(directory).expect("a scratch directory");
    }
    let script = format!(
        "import ctypes, os\n\
         os.chdir('{}')\n\
         lib = ctypes.CDLL('{}')\n\
         lib.mrlock_lock(); lib.mrlock_unlock()\n",
        other.display(),
        library().display()
    );
    let program = Program::new("/usr/bin/python3").arg("-c").arg(script);
    let program = traced(&program, Path::new("trace"));
    let mut command: Command = program.command();
    assert!(
        command
            .current_dir(&start)
            .status()
            .expect("python3")
            .success()
    );
    assert_eq!(read(&start.join("trace")).events.len(), 1);
    assert!(!other.join("trace").exists());
}
