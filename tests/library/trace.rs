//! `MRLOCK_TRACE`: the content of the file, which can be read at any time.

use crate::common::{Program, client, scratch};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    thread,
};

/// The events, read as Chrome and Perfetto read them: an array that may end anywhere. Each line but the first is one.
fn events(file: &Path) -> Vec<Value> {
    let text =
        fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let lines = text
        .strip_prefix("[\n")
        .unwrap_or_else(|| panic!("no array: {text}"));
    let events = lines.lines().map(|line| {
        let event = line
            .strip_suffix(',')
            .unwrap_or_else(|| panic!("no comma: {line}"));
        serde_json::from_str(event).unwrap_or_else(|error| panic!("{line}: {error}"))
    });
    events.collect()
}

fn of_category<'a>(events: &'a [Value], category: &str) -> Vec<&'a Value> {
    events
        .iter()
        .filter(|event| event["cat"] == category)
        .collect()
}

/// Start and end of a slice, in nanoseconds.
fn span(event: &Value) -> (u64, u64) {
    let nanoseconds = |key: &str| {
        let number = event[key].to_string();
        let (whole, thousandths) = number.split_once('.').unwrap_or((&number, "0"));
        let thousandths: u64 = format!("{thousandths:0<3}")
            .parse()
            .expect("three decimals");
        whole.parse::<u64>().expect("a number") * 1000 + thousandths
    };
    (nanoseconds("ts"), nanoseconds("ts") + nanoseconds("dur"))
}

/// The largest number of slices at any moment.
fn overlap(slices: &[&Value]) -> i32 {
    let mut changes: Vec<_> = slices
        .iter()
        .flat_map(|slice| {
            let (start, end) = span(slice);
            // Where one ends in the nanosecond in which the next begins, they do not overlap.
            [(start, 1), (end, -1)]
        })
        .collect();
    changes.sort();
    let mut now = 0;
    let counts = changes.iter().map(|(_, change)| {
        now += change;
        now
    });
    counts.max().unwrap_or(0)
}

fn traced(program: &Program, file: &Path) -> Program {
    program.preloaded().env("MRLOCK_TRACE", file)
}

/// If calls are observed, the slices of all threads overlap. If they are serialized, none overlap, and each wait ends where its
/// call begins.
#[test]
fn each_call_is_a_slice() {
    let observed = scratch("observed");
    let program = client("inside_together").arg("8").counting();
    traced(&program, &observed)
        .env("MRLOCK", "observe")
        .run()
        .succeeded("observed");
    let observed = events(&observed);
    let inside = of_category(&observed, "inside");
    assert_eq!(overlap(&inside), 8, "{observed:#?}");
    assert_eq!(inside.len(), 16, "{observed:#?}");
    assert!(of_category(&observed, "waiting").is_empty());

    let serialized = scratch("serialized");
    let program = client("stress").args(["-t", "8", "-n", "8"]);
    let program = traced(&program, &serialized).env("MRLOCK_REPORT", "stderr");
    let outcome = program.run().succeeded("serialized");
    let serialized = events(&serialized);
    let (inside, waiting) = (
        of_category(&serialized, "inside"),
        of_category(&serialized, "waiting"),
    );
    assert_eq!(overlap(&inside), 1);
    let mut rows = BTreeMap::new();
    for event in &inside {
        *rows
            .entry(event["name"].as_str().expect("a name"))
            .or_insert(0) += 1;
    }
    for (name, calls) in rows {
        let row = outcome
            .stderr
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")));
        let row = row
            .and_then(|row| row.split_whitespace().nth(1))
            .expect("a row");
        assert_eq!(row, calls.to_string(), "{name}: {}", outcome.stderr);
    }
    assert!(!waiting.is_empty(), "eight threads did not meet");
    for wait in waiting {
        let call = inside.iter().find(|call| {
            call["tid"] == wait["tid"]
                && span(call).0 == span(wait).1
                && call["name"] == wait["args"]["for"]
        });
        assert!(call.is_some(), "no call follows {wait}");
    }
}

#[test]
fn what_an_event_says() {
    let file = scratch("trace");
    let outcome = traced(&client("outcomes"), &file)
        .run()
        .succeeded("outcomes");
    let events = events(&file);
    let process = &events[0];
    assert_eq!(
        (&process["name"], &process["ph"]),
        (&"process_name".into(), &"M".into())
    );
    assert_eq!(process["args"]["name"], "outcomes");
    assert_eq!(process["args"]["mrlock"], "on");
    let inside = of_category(&events, "inside");
    assert_eq!(
        inside.len(),
        events.len() - 1,
        "a single thread never waits"
    );
    let failed = inside
        .iter()
        .filter(|event| event["args"]["failed"] == true)
        .count();
    let failures = |start: &str, part: &str| {
        let lines = outcome
            .stdout
            .lines()
            .filter(|line| line.starts_with(start));
        lines.filter(|line| line.contains(part)).count()
    };
    assert!(
        failed >= failures("ibv_reg_mr_iova2, ", "NULL") && failed > 0,
        "{outcome:#?}"
    );
    for event in inside {
        assert_eq!(
            (&event["ph"], &event["pid"]),
            (&"X".into(), &process["pid"])
        );
        let arguments = event["args"].as_object().expect("arguments");
        assert!(
            arguments["device"]
                .as_str()
                .is_some_and(|name| name.starts_with("mlx5_")),
            "{event}"
        );
        assert!(arguments["failed"].is_boolean(), "{event}");
        // The two go together; a call on nothing has neither.
        assert_eq!(
            arguments.contains_key("address"),
            arguments.contains_key("length"),
            "{event}"
        );
    }
}

/// A call that only the ioctl hook saw has the name of the file, and a section has no device.
#[test]
fn calls_of_other_layers() {
    let file = scratch("trace");
    traced(&client("uverbs_commands"), &file)
        .run()
        .succeeded("uverbs_commands");
    let all = events(&file);
    let inside = of_category(&all, "inside");
    let registration = inside.iter().find(|event| event["name"] == "uverbs:REG_MR");
    let registration = registration.unwrap_or_else(|| panic!("{all:#?}"));
    assert!(registration["args"]["device"].is_string(), "{registration}");

    let file = scratch("trace");
    traced(&client("c_api").args(["excludes"]), &file)
        .run()
        .succeeded("excludes");
    let all = events(&file);
    let sections: Vec<_> = all
        .iter()
        .filter(|event| event["name"] == "mrlock_lock")
        .collect();
    assert!(!sections.is_empty(), "{all:#?}");
    assert!(
        sections
            .iter()
            .all(|event| event["args"]["device"].is_null()),
        "{sections:#?}"
    );
    assert!(
        of_category(&all, "waiting")
            .iter()
            .any(|event| event["args"]["for"] == "mrlock_lock")
    );
}

/// Several processes, and a forked child, append to one file. Only one of them writes its beginning.
#[test]
fn several_processes_share_a_file() {
    let file = scratch("trace");
    let program = traced(&client("fork").args(["traffic", "4"]), &file);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| program.run().succeeded("fork traffic"));
        }
    });
    let events = events(&file);
    let processes = |name: Option<&str>| {
        let events = events
            .iter()
            .filter(|event| name.is_none_or(|name| event["name"] == name));
        events
            .map(|event| event["pid"].as_u64().expect("a process id"))
            .collect::<Vec<_>>()
    };
    let named = processes(Some("process_name"));
    let all: BTreeSet<_> = processes(None).into_iter().collect();
    assert_eq!(all.len(), 4 * 5, "{all:?}");
    assert_eq!(named.len(), all.len(), "each is named once");
    assert_eq!(named.into_iter().collect::<BTreeSet<_>>(), all);
}

/// Any process that can read a file can lock it.
#[test]
fn a_file_that_another_process_has_locked() {
    let file = scratch("trace");
    let locked = fs::File::create(&file).expect("a file");
    locked.lock().expect("a lock");
    traced(&client("outcomes"), &file)
        .run()
        .succeeded("outcomes");
    assert!(!events(&file).is_empty());
}

#[test]
fn a_file_for_each_process() {
    let directory = scratch("traces");
    fs::create_dir(&directory).expect("a scratch directory");
    let program = client("fork").args(["traffic", "2"]);
    traced(&program, &directory.join("%p.json"))
        .run()
        .succeeded("fork traffic");
    let mut files = 0;
    for entry in fs::read_dir(&directory).expect("the directory") {
        let path = entry.expect("an entry").path();
        let process = path.file_stem().expect("a name").to_string_lossy();
        let process: u64 = process.parse().expect("a process id");
        assert!(
            events(&path).iter().all(|event| event["pid"] == process),
            "{process}"
        );
        files += 1;
    }
    assert_eq!(files, 3);
}

/// A process that is killed leaves all the calls that it has completed.
#[test]
fn a_process_that_is_killed() {
    let file = scratch("trace");
    let (mut process, _input) = held(&traced(&client("held"), &file));
    let before = events(&file);
    process.kill().expect("it runs");
    process.wait().expect("it was killed");
    assert_eq!(events(&file), before);
    let names: Vec<_> = before
        .iter()
        .map(|event| event["name"].as_str().expect("a name"))
        .collect();
    let expected = [
        "process_name",
        "ibv_reg_mr",
        "ibv_dereg_mr",
        "ibv_reg_mr",
        "ibv_dereg_mr",
        "ibv_reg_mr",
    ];
    assert_eq!(names, expected);
    assert_eq!(before[5]["args"]["failed"], true);
}

/// Starts the client, and returns when it is inside.
fn held(program: &Program) -> (std::process::Child, std::process::ChildStdin) {
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

/// The descriptor that the trace was written to now belongs to the host's file, which has only the host's text.
#[test]
fn a_host_that_closes_and_opens_files() {
    let (file, own) = (scratch("trace"), scratch("own"));
    let program = Program::new("/usr/bin/python3").arg("tests/clients/closes_files.py");
    let program = program.arg(crate::common::library()).arg(&own);
    traced(&program, &file)
        .run()
        .succeeded("sections in Python");
    assert_eq!(
        fs::read_to_string(&own).expect("the host's file"),
        "own\n".repeat(64)
    );
    let events = events(&file);
    assert_eq!(of_category(&events, "inside").len(), 2, "{events:#?}");
}

/// The process goes on, its exit status is its own, and one line names the variable, the file and the reason.
#[test]
fn a_trace_that_cannot_be_written() {
    for (path, why) in [
        ("/nonexistent/trace", "No such file"),
        ("/", "directory"),
        ("/dev/full", "No space left"),
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
        crate::common::library().display()
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
    assert!(events(&start.join("trace")).len() > 1);
    assert!(!other.join("trace").exists());
}
