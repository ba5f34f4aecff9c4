//! `mrlock report`: it shows of a record what the report at exit shows, also where there is no such report.

use crate::common::{Outcome, Program, client, library, mrlock, record, scratch};
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader},
    mem::offset_of,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};

fn report<T: AsRef<OsStr>>(records: &[T]) -> Outcome {
    let program = Program::new(mrlock()).arg("report");
    records.iter().fold(program, Program::arg).run()
}

/// The report of these, which are all shown.
fn shown<T: AsRef<OsStr>>(records: &[T]) -> String {
    let outcome = report(records).succeeded("mrlock report");
    assert_eq!(outcome.stderr, "");
    outcome.stdout
}

fn traced(program: &Program, file: &Path) -> Program {
    program.preloaded().env("MRLOCK_TRACE", file)
}

/// The calls in the rows of a table that are not zero.
fn calls(table: &str) -> BTreeMap<String, u64> {
    // Calls under way are indented.
    let rows = table.lines().filter(|line| !line.starts_with(' '));
    let rows = rows.filter_map(|line| {
        let mut words = line.split_whitespace();
        let (name, calls) = (words.next()?, words.next()?.parse().ok()?);
        // Behind the numbers are times with units.
        (words.count() >= 6 && calls > 0).then(|| (name.to_owned(), calls))
    });
    rows.collect()
}

/// Of tests/clients/held: it waits, inside a registration, for the end of its input.
struct Held {
    process: Child,
    _input: ChildStdin,
}

impl Held {
    fn start(program: &Program) -> Self {
        // Not while the program waits: it gives up after a minute.
        mrlock();
        let mut command = program.command_alone();
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("it starts");
        let mut line = String::new();
        let output = process.stdout.as_mut().expect("a pipe");
        BufReader::new(output).read_line(&mut line).expect("a line");
        assert_eq!(line, "inside\n");
        let _input = process.stdin.take().expect("a pipe");
        Self { process, _input }
    }

    fn kill(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it was killed");
    }

    fn pid(&self) -> String {
        self.process.id().to_string()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What `held 3` had done, and was doing.
fn is_of_held(text: &str) {
    let expected = [("ibv_reg_mr", 3), ("ibv_dereg_mr", 2)];
    let expected = expected.map(|(name, calls)| (name.to_owned(), calls));
    assert_eq!(calls(text), BTreeMap::from(expected), "{text}");
    let lines = text.lines().filter(|it| it.starts_with("  thread "));
    let lines: Vec<_> = lines.collect();
    let [inside, waiting @ ..] = &lines[..] else {
        panic!("no call under way: {text}");
    };
    let thread = inside.split_whitespace().nth(1).expect("an id");
    let starts = format!("  thread {thread} (held) inside ibv_reg_mr since 20");
    assert!(inside.starts_with(&starts), "{text}");
    assert!(inside.contains(": mlx5_0, 131072 bytes at 0x"), "{text}");
    assert_eq!(waiting.len(), 3, "{text}");
    for line in waiting {
        assert!(
            line.contains("(held) waits to enter ibv_reg_mr since 20"),
            "{text}"
        );
        assert!(
            line.contains(&format!(", behind thread {thread}: mlx5_")),
            "{text}"
        );
    }
    // Only one was ever inside.
    let at_once = "Up to 4 threads were inside or waiting at once: without mrlock, up to 4 inside.";
    assert!(text.contains(at_once), "{text}");
}

#[test]
fn it_is_the_report_at_exit() {
    let stress = || client("stress").args(["-t", "8", "-n", "8"]).counting();
    for (variable, value) in [
        ("MRLOCK", "on"),
        ("MRLOCK", "observe"),
        ("MRLOCK_MEMORY", "device"),
        ("MRLOCK_CALLS", "reg"),
    ] {
        let (file, at_exit) = (scratch("trace"), scratch("report"));
        let program = traced(&stress(), &file).env("MRLOCK_REPORT", &at_exit);
        let outcome = program.env(variable, value).run().succeeded(value);
        let at_exit = fs::read_to_string(at_exit).expect("a report");
        let text = shown(&[&file]);
        let of_record: Vec<_> = text.lines().collect();
        let of_exit: Vec<_> = at_exit.lines().collect();
        assert_eq!(of_record[0], of_exit[0]);
        assert_eq!(
            of_record[3..],
            of_exit[1..],
            "left: {text}\nright: {at_exit}"
        );

        let place = of_record[1];
        let name = fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
        let starts = format!("{}: on {}, in pid namespace ", file.display(), name.trim());
        assert!(place.starts_with(&starts), "{place}");
        assert!(place.ends_with(", ended normally"), "{place}");
        assert!(
            of_record[2].contains(&format!("{variable}={value}")),
            "{text}"
        );
        if value == "on" {
            let witness = outcome.witness;
            let rows = calls(&text);
            let deregistrations = rows["ibv_dereg_mr"];
            let registrations = rows.values().sum::<u64>() - deregistrations;
            assert_eq!(
                registrations,
                u64::from(witness.registrations.calls),
                "{text}"
            );
            assert_eq!(
                deregistrations,
                u64::from(witness.deregistrations.calls),
                "{text}"
            );
        }
    }
}

/// SIGKILL leaves no report at exit.
#[test]
fn a_process_that_is_killed() {
    let (file, at_exit) = (scratch("trace"), scratch("report"));
    let program = traced(&client("held").arg("3"), &file).env("MRLOCK_REPORT", &at_exit);
    let mut held = Held::start(&program);
    let running = shown(&[&file]);
    assert!(running.contains(", still runs\n"), "{running}");
    assert!(running.contains("\n4 calls are under way:\n"), "{running}");
    is_of_held(&running);
    // A copy of the file is of the same process; an older one is of a process that had the same id.
    let (copy, older) = (scratch("copy"), scratch("older"));
    let mut bytes = fs::read(&file).expect("a record");
    fs::write(&copy, &bytes).expect("a copy");
    bytes[offset_of!(record::layout::Header, realtime)] ^= 1;
    fs::write(&older, &bytes).expect("a copy");
    assert!(shown(&[&copy]).contains(", still runs\n"));
    assert!(shown(&[&older]).contains(", was killed or crashed, "));

    held.kill();
    assert_eq!(fs::read(at_exit).expect("it was opened"), b"");
    let killed = shown(&[&file]);
    assert!(
        killed.contains(", was killed or crashed, or ended by _exit or execve\n"),
        "{killed}"
    );
    let ended = "\nThe process ended while 4 calls were under way:\n";
    assert!(killed.contains(ended), "{killed}");
    is_of_held(&killed);
}

/// The race that mrlock is for, simulated: the program dies while two threads are inside.
#[test]
fn a_process_that_crashes_inside() {
    let (file, at_exit) = (scratch("trace"), scratch("report"));
    let program = client("inside_together").arg("8");
    assert!(program.run().segfaulted());
    let program = traced(&program, &file).env("MRLOCK_REPORT", &at_exit);
    assert!(program.env("MRLOCK", "observe").run().segfaulted());
    assert_eq!(fs::read(at_exit).expect("it was opened"), b"");
    let text = shown(&[&file]);
    assert!(text.contains(", was killed or crashed"), "{text}");
    let inside = text.matches(" inside ibv_").count();
    assert!(inside >= 2, "{text}");
    let under_way = format!("\nThe process ended while {inside} calls were under way:\n");
    assert!(text.contains(&under_way), "{text}");
    let at_once = text
        .lines()
        .find(|line| line.ends_with(" threads were inside at once."));
    let most = at_once.and_then(|line| line.split(' ').nth(2)?.parse().ok());
    // A thread is shown before it is counted: the crash may have come between the two.
    assert!(most.is_some_and(|most: usize| most >= 2), "{text}");
}

/// As the processes of Python's multiprocessing end; and in the middle of a section.
#[test]
fn a_process_that_leaves_by_exit_without_its_destructors() {
    for (end, sections, ending) in [
        ("os._exit(0)", 3, ""),
        (
            "lib.mrlock_lock(); os._exit(0)",
            4,
            "\nThe process ended while 1 call was under way:\n",
        ),
    ] {
        let (file, at_exit) = (scratch("trace"), scratch("report"));
        let script = format!(
            "import ctypes, os\nlib = ctypes.CDLL('{}')\n\
             for i in range(3): lib.mrlock_lock(); lib.mrlock_unlock()\n{end}\n",
            library().display()
        );
        let program = Program::new("/usr/bin/python3").arg("-c").arg(script);
        let program = traced(&program, &file).env("MRLOCK_REPORT", &at_exit);
        program.run().succeeded(end);
        assert_eq!(fs::read(at_exit).expect("it was opened"), b"");
        let text = shown(&[&file]);
        assert_eq!(calls(&text)["mrlock_lock"], sections, "{text}");
        assert!(text.contains(", was killed or crashed, or ended by _exit or execve\n"));
        assert_eq!(
            text.contains("The process ended while"),
            !ending.is_empty(),
            "{text}"
        );
        assert!(text.contains(ending), "{text}");
    }
}

/// From its memory, without a file.
#[test]
fn a_process_that_runs() {
    let held = Held::start(&client("held").arg("3").preloaded());
    let text = shown(&[held.pid()]);
    let starts = format!(
        "mrlock {}: process {} (held)\n",
        env!("CARGO_PKG_VERSION"),
        held.pid()
    );
    assert!(text.starts_with(&starts), "{text}");
    assert!(text.contains(", still runs\n"), "{text}");
    is_of_held(&text);

    // By both names, it is one process.
    let file = scratch("trace");
    let held = Held::start(&traced(&client("held").arg("3"), &file));
    let both = report(&[file.as_os_str(), OsStr::new(&held.pid())]).succeeded("both");
    assert_eq!(both.stdout, shown(&[&file]));
    let line = format!(
        "mrlock: report: {}: the same process as {}: it is shown once\n",
        held.pid(),
        file.display()
    );
    assert_eq!(both.stderr, line);

    // Without the library, the reason is that of `mrlock status`.
    let held = Held::start(&client("held"));
    is_refused(
        &held.pid(),
        "the library is not in it: started without LD_PRELOAD",
    );
    is_refused("99999999999", "no process has this id");
}

/// It has the library, and nothing was registered.
#[test]
fn a_process_that_made_no_call() {
    let mut command = Program::new("cat").preloaded().command_alone();
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut cat = command.spawn().expect("it starts");
    let mut input = cat.stdin.take().expect("a pipe");
    let mut line = String::new();
    std::io::Write::write_all(&mut input, b"runs\n").expect("a pipe");
    let output = cat.stdout.take().expect("a pipe");
    BufReader::new(output).read_line(&mut line).expect("a line");
    let id = cat.id().to_string();
    let text = shown(&[&id]);
    drop(input);
    cat.wait().expect("it ends");
    let starts = format!(
        "mrlock {}: process {id} (cat): no call was made.\n{id}: still runs\nMRLOCK=on ",
        env!("CARGO_PKG_VERSION")
    );
    assert!(text.starts_with(&starts), "{text}");
    assert_eq!(text.lines().count(), 3, "{text}");
}

/// A process and its children, each with a file: blocks, and their sum.
#[test]
fn several_processes_are_one_node() {
    let directory = scratch("traces");
    fs::create_dir(&directory).expect("a scratch directory");
    let program = client("fork").args(["traffic", "4"]).counting();
    let program = traced(&program, &directory.join("%p")).env("MRLOCK_EVENTS", "8");
    program.run().succeeded("fork traffic");
    let entries = fs::read_dir(&directory).expect("the directory");
    let files: Vec<PathBuf> = entries.map(|it| it.expect("an entry").path()).collect();
    assert_eq!(files.len(), 5);
    let text = shown(&files);
    let (blocks, total) = text.split_once("\nIn total: ").expect("a total");
    assert!(total.starts_with("5 processes on "), "{text}");

    let records: Vec<_> = files.iter().map(|file| record::read(file)).collect();
    let mut sums = BTreeMap::new();
    for record in &records {
        let heading = format!(": process {} ({})\n", record.process, record.program);
        assert_eq!(blocks.matches(&heading).count(), 1, "{text}");
        for (name, calls) in record.operations.iter().filter(|(_, calls)| *calls > 0) {
            *sums.entry(name.clone()).or_insert(0) += calls;
        }
    }
    assert_eq!(calls(total), sums, "left: the report; right: the records");
    let overwritten = records
        .iter()
        .map(|it| it.written.saturating_sub(it.capacity));
    let overwritten: u64 = overwritten.sum();
    assert!(overwritten > 0, "{records:#?}");
    let line = format!("The times of {overwritten} earlier calls");
    assert_eq!(text.matches(&line).count(), 1, "{text}");
    assert_eq!(text.matches("were overwritten").count(), 1, "{text}");
}

/// `mrlock report` printed one line with the reason, and nothing else.
fn is_refused(given: &str, why: &str) {
    let outcome = report(&[given]);
    assert_eq!(
        (outcome.status.code(), &*outcome.stdout),
        (Some(1), ""),
        "{outcome:#?}"
    );
    let starts = format!("mrlock: report: {given}: {why}");
    assert!(outcome.stderr.starts_with(&starts), "{outcome:#?}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:#?}");
}

/// The others are shown nevertheless.
#[test]
fn what_is_no_record() {
    let good = scratch("trace");
    traced(&client("outcomes"), &good)
        .run()
        .succeeded("outcomes");
    let bytes = fs::read(&good).expect("a record");
    let changed = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = bytes.clone();
        change(&mut bytes);
        let file = scratch(name);
        fs::write(&file, bytes).expect("a scratch file");
        file.to_str().expect("a name").to_owned()
    };
    let version = offset_of!(record::layout::Header, version);
    let cut = changed("cut", &|bytes| bytes.truncate(bytes.len() - 1));
    is_refused(&cut, "it is cut: it has ");
    is_refused(
        &changed("version", &|it| it[version] += 1),
        "it is a record of version ",
    );
    is_refused(
        &changed("garbage", &|it| it.fill(b'x')),
        "it is no record of mrlock",
    );
    is_refused(&changed("empty", &Vec::clear), "it is no record of mrlock");
    is_refused("/no/such/file", "there is no such file");
    is_refused("/", "it is no regular file");
    let fifo = scratch("fifo");
    crate::common::build(Command::new("mkfifo").arg(&fifo));
    is_refused(fifo.to_str().expect("a name"), "it is no regular file");

    let good = good.to_str().expect("a name");
    let outcome = report(&[&cut, good, "/no/such/file"]);
    assert_eq!(outcome.status.code(), Some(1), "{outcome:#?}");
    assert_eq!(outcome.stdout, shown(&[good]));
    assert_eq!(outcome.stderr.lines().count(), 2, "{outcome:#?}");
    // A name of digits is a process id, unless it is a path.
    let directory = scratch("numbers");
    fs::create_dir(&directory).expect("a scratch directory");
    fs::copy(good, directory.join("1234567")).expect("a copy");
    let named = |name: &str| {
        let mut command = Program::new(mrlock()).args(["report", name]).command();
        command.current_dir(&directory).output().expect("it runs")
    };
    assert!(named("./1234567").status.success());
    assert!(!named("1234567").status.success());

    // On another host, nobody knows whether a process still runs.
    let far = changed("far", &|bytes| {
        bytes[offset_of!(record::layout::Header, host)] ^= 1;
        bytes[offset_of!(record::layout::Header, state)] = record::layout::RUNNING as u8;
    });
    assert!(shown(&[far]).contains(": whether it still runs is not known here\n"));
}
