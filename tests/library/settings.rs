//! The MRLOCK_* variables: their effects, and the line about a value that is not understood.

use crate::common::{Program, client, compile, fixtures, library, listed, machine, scratch};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown, lchown, symlink},
    path::Path,
};

fn quiet_program() -> Program {
    client("outcomes").preloaded()
}

/// With each bad value, the process goes on, serialized, and one line names the variable, the value and the accepted values.
#[test]
fn a_value_that_is_not_understood() {
    let too_long = "x".repeat(4096);
    let stress = client("stress").args(["-n", "40"]).preloaded();
    for (name, value, accepted) in [
        ("MRLOCK", "maybe", "on, off, observe"),
        ("MRLOCK_MEMORY", "gpu", "any, device"),
        ("MRLOCK_CALLS", "reg,derge", "reg, dereg"),
        ("MRLOCK_HOOKS", "verbs;ioctl", "verbs, ioctl"),
        ("MRLOCK_WARN_AFTER", "30s", "seconds"),
        ("MRLOCK_LOG", "loud", "off, error, warn, info, debug, trace"),
        ("MRLOCK_REPORT", &too_long, "a file name"),
        ("MRLOCK_TRACE", &too_long, "a file name"),
        ("MRLOCK_TRACE", "on", "a file name"),
        ("MRLOCK_TRACE", "stderr", "a file name"),
        ("MRLOCK_TRACE", "stdrr", "write ./stdrr"),
        ("MRLOCK_TRACE", "of", "did you mean off?"),
        (
            "MRLOCK_REPORT",
            "stdrr",
            "did you mean stderr? For a file of this name write ./stdrr",
        ),
        ("MRLOCK_REPORT", "STDOT", "did you mean stdout?"),
        ("MRLOCK_REPORT", "onn", "did you mean on?"),
        ("MRLOCK_EVENTS", "0", "1 to 16777216"),
        ("MRLOCK_EVENTS", "16777217", "1 to 16777216"),
    ] {
        let stress = stress.clone().env(name, value).run();
        let stress = stress.succeeded("a bad value must leave the process serialized");
        let lines: Vec<_> = stress.stderr.lines().collect();
        let [line] = lines[..] else {
            panic!("{name}: one line was expected: {stress:#?}")
        };
        let shown = &value[..value.len().min(100)];
        for part in ["warning", name, shown, accepted] {
            assert!(line.contains(part), "{name}: no {part:?} in {line:?}");
        }
    }
}

#[test]
fn bytes_that_are_no_text_are_shown_escaped() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let outcome = quiet_program()
        .env("MRLOCK", OsStr::from_bytes(b"\xff\n\x1b[2J"))
        .run();
    let outcome = outcome.succeeded("a value that is no text");
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:#?}");
    assert!(
        outcome.stderr.contains(r"MRLOCK=\xff\n\x1b[2J"),
        "{outcome:#?}"
    );
}

#[test]
fn empty_means_unset() {
    let mut program = quiet_program();
    for name in [
        "MRLOCK",
        "MRLOCK_MEMORY",
        "MRLOCK_CALLS",
        "MRLOCK_HOOKS",
        "MRLOCK_WARN_AFTER",
        "MRLOCK_LOG",
        "MRLOCK_REPORT",
        "MRLOCK_TRACE",
        "MRLOCK_EVENTS",
    ] {
        program = program.env(name, "");
    }
    assert_eq!(program.run().succeeded("empty values").stderr, "");
}

#[test]
fn blanks_in_a_list_do_no_harm() {
    let outcome = quiet_program().env("MRLOCK_CALLS", " reg , dereg").run();
    assert_eq!(outcome.succeeded("MRLOCK_CALLS").stderr, "");
}

#[test]
fn the_log_says_what_its_level_asks_for() {
    let lines = |level: &str, kind: &str| {
        let outcome = quiet_program()
            .env("MRLOCK_LOG", level)
            .run()
            .succeeded(level);
        outcome.stderr.matches(kind).count()
    };
    assert_eq!(
        lines("off", ""),
        1,
        "an empty string has one match for the empty pattern"
    );
    assert_eq!(lines("warn", ": "), 0);
    assert_eq!(
        lines(
            "info",
            "info: loaded: MRLOCK=on MRLOCK_CALLS=reg,dereg,free MRLOCK_MEMORY=any MRLOCK_HOOKS=verbs,ioctl MRLOCK_WARN_AFTER=30 MRLOCK_REPORT=off MRLOCK_TRACE=off MRLOCK_EVENTS=65536"
        ),
        1
    );
    assert_eq!(lines("info", "debug: "), 0);
    assert!(lines("debug", "calls go to") > 0);
    assert_eq!(lines("debug", "trace: "), 0);
    assert!(lines("trace", "trace: ibv_dereg_mr ") > 0);
}

#[test]
fn no_report_unless_asked_for() {
    assert_eq!(quiet_program().run().succeeded("defaults").stderr, "");
}

#[test]
fn the_report_says_what_happened() {
    let program = client("stress").args(["-t", "8", "-n", "50"]).preloaded();
    let outcome = program
        .env("MRLOCK_REPORT", "stderr")
        .run()
        .succeeded("MRLOCK_REPORT=stderr");
    let row = |name: &str| {
        let mut words = outcome
            .stderr
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|words| words.first() == Some(&name))
            .unwrap_or_else(|| panic!("no row for {name}: {outcome:#?}"));
        words.remove(0);
        words
            .iter()
            .map(|word| word.to_string())
            .collect::<Vec<_>>()
    };
    let calls = |name: &str| row(name)[0].parse::<u32>().expect("a number of calls");
    // Eight threads with fifty regions each: each region is registered by one of three functions, and deregistered.
    assert_eq!(calls("ibv_dereg_mr"), 400);
    let registered = calls("ibv_reg_mr") + calls("ibv_reg_mr_iova") + calls("ibv_reg_mr_iova2");
    assert_eq!(registered, 400, "{outcome:#?}");
    assert!(calls("ibv_rereg_mr") > 0);
    assert_eq!(row("ibv_dereg_mr")[1], "0", "nothing failed");
    let waited: u32 = row("ibv_dereg_mr")[2].parse().expect("a number of waits");
    assert!(waited > 0 && waited <= 400, "{outcome:#?}");
    assert!(outcome.stderr.contains("Up to 8 threads"), "{outcome:#?}");
}

#[test]
fn the_report_counts_failures_and_an_inner_call_once() {
    let outcome = quiet_program()
        .env("MRLOCK_REPORT", "stderr")
        .run()
        .succeeded("outcomes");
    let counted = |name: &str, column: usize| {
        let line = outcome
            .stderr
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")));
        let word = line.and_then(|line| line.split_whitespace().nth(column).map(str::to_owned));
        word.and_then(|word| word.parse::<usize>().ok())
            .expect("a row of numbers")
    };
    let printed = |start: &str, part: &str| {
        let lines = outcome
            .stdout
            .lines()
            .filter(|line| line.starts_with(start));
        lines.filter(|line| line.contains(part)).count()
    };
    // ibv_reg_mr calls ibv_reg_mr_iova2 through the PLT: that is one registration, not two.
    for name in [
        "ibv_reg_mr",
        "ibv_reg_mr_iova",
        "ibv_reg_mr_iova2",
        "ibv_dereg_mr",
    ] {
        assert!(
            counted(name, 1) >= printed(&format!("{name}:"), ""),
            "{name} in {outcome:#?}"
        );
    }
    assert_eq!(
        counted("ibv_reg_mr_iova2", 2),
        printed("ibv_reg_mr_iova2, ", "NULL"),
        "{outcome:#?}"
    );
    assert_eq!(
        counted("ibv_dereg_mr", 2),
        printed("ibv_dereg_mr, ", "errno 22"),
        "{outcome:#?}"
    );
    assert!(outcome.stderr.contains("No two threads"), "{outcome:#?}");
}

/// Otherwise it would look as if the library were not there. Nothing is said of a process without libibverbs.
#[test]
fn a_report_of_a_process_that_made_no_call() {
    let libibverbs = fixtures().join("lib/libibverbs.so.1");
    let reported = |program: &Program, value: &str| {
        let without = program.run().succeeded("without the library");
        assert_eq!(without.stderr, "");
        let program = program.preloaded().env("MRLOCK_REPORT", value);
        let outcome = program.run().succeeded("no call");
        assert_eq!(outcome.stdout, without.stdout);
        outcome.stderr
    };
    let linked = Program::new("true").env("LD_PRELOAD", libibverbs);
    let line = reported(&linked, "stderr");
    let version = env!("CARGO_PKG_VERSION");
    let is_right = line.starts_with(&format!("mrlock {version}: process "))
        && line.ends_with(" (true): no call was made.\n")
        && line.lines().count() == 1;
    assert!(is_right, "{line:?}");
    assert_eq!(reported(&linked, "off"), "");
    assert_eq!(reported(&Program::new("true"), "stderr"), "");
}

#[test]
fn a_report_names_what_is_not_serialized() {
    let program = quiet_program()
        .env("MRLOCK_REPORT", "stderr")
        .env("MRLOCK_CALLS", "reg");
    let outcome = program.run().succeeded("MRLOCK_CALLS=reg");
    let line = outcome
        .stderr
        .lines()
        .find(|line| line.starts_with("ibv_dereg_mr"));
    assert!(
        line.is_some_and(|line| line.contains("not serialized")),
        "{outcome:#?}"
    );
}

#[test]
fn a_report_in_a_file_is_appended_to_it() {
    let directory = scratch("reports");
    fs::create_dir(&directory).expect("a scratch directory");
    let program = quiet_program().env("MRLOCK_REPORT", directory.join("report-%p.txt"));
    for _ in 0..2 {
        assert_eq!(program.run().succeeded("a report file").stderr, "");
    }
    let names: Vec<_> = fs::read_dir(&directory)
        .expect("the directory")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("a name")
        })
        .collect();
    assert_eq!(names.len(), 2, "one file a process: {names:?}");
    for name in names {
        let process = name
            .strip_prefix("report-")
            .and_then(|name| name.strip_suffix(".txt"));
        let process = process.expect("the name with the process id in it");
        let text = fs::read_to_string(directory.join(&name)).expect("a report");
        assert!(text.contains(&format!("process {process} ")), "{text}");
    }

    let shared = directory.join("shared");
    let program = quiet_program().env("MRLOCK_REPORT", &shared);
    program.run().succeeded("first");
    program.run().succeeded("second");
    let text = fs::read_to_string(shared).expect("a report");
    assert_eq!(text.matches("mrlock ").count(), 2, "{text}");
}

/// The process goes on, its exit status is its own, and one line names the variable, the file and the reason.
#[test]
fn a_report_that_cannot_be_written() {
    let around = scratch("around");
    symlink(&around, &around).expect("a symbolic link to itself");
    let fifo = scratch("fifo");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .expect("mkfifo")
            .success()
    );
    for (path, why) in [
        ("/nonexistent/report".into(), "No such file"),
        ("/".into(), "directory"),
        (around, "symbolic links"),
        (fifo, "No such device"),
        ("/dev/full".into(), "No space left"),
    ] {
        let outcome = quiet_program()
            .env("MRLOCK_REPORT", &path)
            .run()
            .succeeded("a bad report file");
        let lines: Vec<_> = outcome.stderr.lines().collect();
        let [line] = lines[..] else {
            panic!("one line was expected: {outcome:#?}")
        };
        for part in ["MRLOCK_REPORT", path.to_str().expect("a name"), why] {
            assert!(line.contains(part), "no {part:?} in {line:?}");
        }
    }
}

/// The kernel sends SIGXFSZ, which would end the process; its exit status stays its own.
#[test]
fn a_report_beyond_the_size_limit() {
    let report = scratch("report");
    for limit in ["--fsize=0", "--fsize=100"] {
        let outcomes = fixtures().join("clients/outcomes");
        let program = Program::new("prlimit").arg(limit).arg(outcomes);
        let program = program.libibverbs("lib").preloaded();
        let outcome = program.env("MRLOCK_REPORT", &report).run();
        let outcome = outcome.succeeded(limit);
        assert!(outcome.stderr.contains("File too large"), "{outcome:#?}");
        assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:#?}");
    }
}

#[test]
fn a_report_in_a_file_behind_a_symbolic_link() {
    let (link, behind) = (scratch("link"), scratch("behind"));
    symlink(&behind, &link).expect("a symbolic link");
    let outcome = quiet_program().env("MRLOCK_REPORT", &link).run();
    assert_eq!(outcome.succeeded("a link").stderr, "");
    let report = fs::read_to_string(behind).expect("a report");
    assert!(report.contains("ibv_reg_mr"), "{report}");
}

/// In a directory such as /tmp, it could lead to any file of the user that runs the process.
#[test]
fn a_report_is_not_written_behind_another_user_s_symbolic_link() {
    const NOBODY: u32 = 65534;
    needs!("another user's symbolic link", machine::root());
    let (link, behind) = (scratch("link"), scratch("behind"));
    symlink(&behind, &link).expect("a symbolic link");
    lchown(&link, Some(NOBODY), Some(NOBODY)).expect("root may do this");
    let outcome = quiet_program().env("MRLOCK_REPORT", &link).run();
    let stderr = outcome.succeeded("another user's link").stderr;
    assert!(
        stderr.contains("a symbolic link of another user (65534)") && stderr.lines().count() == 1,
        "{stderr}"
    );
    assert!(!behind.exists());
}

#[test]
fn a_report_to_a_stream_by_its_file_name() {
    let report = |name: &str| {
        let outcome = quiet_program().env("MRLOCK_REPORT", name).run();
        let outcome = outcome.succeeded(name);
        [outcome.stdout, outcome.stderr].map(|text| text.contains("ibv_rereg_mr   "))
    };
    for name in ["/dev/stderr", "/dev/fd/2", "/proc/self/fd/2"] {
        assert_eq!(report(name), [false, true], "{name}");
    }
    for name in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        assert_eq!(report(name), [true, false], "{name}");
    }
}

/// The user who starts such a program must not choose a file that it writes. One line for each variable says so.
#[test]
fn a_set_uid_program_writes_no_file() {
    const NOBODY: u32 = 65534;
    needs!("a set-uid program", machine::root());
    // Nobody can read what is in this directory, and may write to it.
    let directory = std::env::temp_dir().join(scratch("set-uid").file_name().expect("a name"));
    fs::create_dir(&directory).expect("a directory");
    let everything = fs::Permissions::from_mode(0o777);
    fs::set_permissions(&directory, everything).expect("ours to set");
    let libraries = [library(), &fixtures().join("lib/libibverbs.so.1")];
    for (library, name) in libraries.iter().zip(["libmrlock.so.0", "libibverbs.so.1"]) {
        fs::copy(library, directory.join(name)).expect("a copy");
    }
    let [own, theirs] = ["libmrlock.so.0", "libibverbs.so.1"].map(|it| directory.join(it));
    let path = format!("-Wl,--no-as-needed,-rpath,{}", directory.display());
    let flags = ["-std=gnu11", "-Itests/fake_libibverbs", &path];
    let sources = ["tests/clients/outcomes.c"].map(Path::new);
    let rest = sources.iter().copied().chain([&*own, &*theirs]);
    let rest: Vec<_> = rest.map(|it| it.to_str().expect("text")).collect();
    let compiled = compile("cc", &flags, &rest);
    let program = directory.join("program");
    fs::copy(compiled.name(), &program).expect("a copy");
    chown(&program, Some(NOBODY), None).expect("root may do this");

    let [trace, report] = ["trace", "report"].map(|it| directory.join(it));
    let run = |mode| {
        fs::set_permissions(&program, fs::Permissions::from_mode(mode)).expect("ours to set");
        let program = Program::new(&program).env("MRLOCK_TRACE", &trace);
        let outcome = program.env("MRLOCK_REPORT", &report).run();
        outcome.succeeded("outcomes")
    };
    let plain = run(0o755);
    assert_eq!(plain.stderr, "");
    for file in [&trace, &report] {
        fs::remove_file(file).expect("a program that is not set-uid writes it");
    }
    let set_uid = run(0o4755);
    assert_eq!(set_uid.stdout, plain.stdout);
    let names = ["MRLOCK_TRACE", "MRLOCK_REPORT"];
    for line in set_uid.stderr.lines() {
        let is_named = names.iter().any(|name| line.contains(name));
        assert!(is_named && line.contains("set-uid"), "{line}");
    }
    assert_eq!(set_uid.stderr.lines().count(), 2, "{set_uid:#?}");
    assert_eq!(
        listed(&directory, true).len(),
        3,
        "two libraries, a program"
    );
    fs::remove_dir_all(directory).expect("ours to remove");
}

/// docker compose and helm write YAML's words for on and off. None of them is a file name.
#[test]
fn yaml_s_words_for_on_and_off() {
    let directory = scratch("words");
    fs::create_dir(&directory).expect("a scratch directory");
    let report = |name: &str, value: &str| {
        let outcomes = fixtures().join("clients/outcomes");
        let program = Program::new("env").arg("-C").arg(&directory).arg(outcomes);
        let program = program.libibverbs("lib").preloaded();
        // With MRLOCK=off, the report says that nothing is serialized.
        let program = match name {
            "MRLOCK" => program.env("MRLOCK_REPORT", "stderr"),
            _ => program,
        };
        program.env(name, value).run().succeeded(value).stderr
    };
    for value in ["on", "true", "yes", "1", "True", "YES"] {
        assert!(!report("MRLOCK", value).contains("not serialized"));
        assert!(report("MRLOCK_REPORT", value).contains("ibv_reg_mr"));
    }
    for value in ["off", "false", "no", "0", "False", "OFF"] {
        assert!(
            report("MRLOCK", value).contains("ibv_reg_mr            forwarded, not serialized")
        );
        assert_eq!(report("MRLOCK_REPORT", value), "");
    }
    let files = fs::read_dir(&directory).expect("the directory").count();
    assert_eq!(files, 0);
}

/// As docker --env-file, files with CRLF and people write them. None of them is a file name.
#[test]
fn quotes_blanks_and_upper_case() {
    let directory = scratch("values");
    fs::create_dir(&directory).expect("a scratch directory");
    let run = |name: &str, value: &str| {
        let outcomes = fixtures().join("clients/outcomes");
        let program = Program::new("env").arg("-C").arg(&directory).arg(outcomes);
        let program = program.libibverbs("lib").preloaded().env(name, value);
        program.run().succeeded(value)
    };
    for value in [
        "\"stderr\"",
        "'stderr'",
        "stderr\r",
        "stderr ",
        "STDERR",
        "\"on\"\r",
    ] {
        let stderr = run("MRLOCK_REPORT", value).stderr;
        assert!(stderr.contains("ibv_rereg_mr   "), "{value:?}: {stderr}");
    }
    for value in ["stdout", "\"STDOUT\""] {
        let stdout = run("MRLOCK_REPORT", value).stdout;
        assert!(stdout.contains("ibv_rereg_mr   "), "{value:?}: {stdout}");
    }
    for (name, value) in [
        ("MRLOCK", "OBSERVE"),
        ("MRLOCK_CALLS", "\"REG,Dereg\""),
        ("MRLOCK_MEMORY", "Device\r"),
        ("MRLOCK_HOOKS", "VERBS,ioctl"),
        ("MRLOCK_LOG", "'WARN'"),
        ("MRLOCK_WARN_AFTER", "\"5\"\r"),
        ("MRLOCK_REPORT", "\"\""),
        ("MRLOCK_TRACE", "OFF"),
        ("MRLOCK_EVENTS", " 100 "),
    ] {
        assert_eq!(run(name, value).stderr, "", "{name}={value:?}");
    }
    // What is not understood is asked back, and makes no file either.
    run("MRLOCK_REPORT", "stdrr");
    run("MRLOCK_TRACE", "stderr");
    assert_eq!(listed(&directory, true).len(), 0);
    run("MRLOCK_REPORT", "'./Stdrr'");
    assert_eq!(listed(&directory, true).len(), 1);
    assert!(directory.join("Stdrr").exists());
}

#[test]
fn an_unknown_variable_is_named_once() {
    let stderr = |variables: &[(&str, &str)]| {
        let add = |program: Program, &(name, value): &(&str, &str)| program.env(name, value);
        let program = variables.iter().fold(quiet_program(), add);
        program.run().succeeded("unknown variables").stderr
    };
    let said = stderr(&[("MRLOCK_MEMROY", "device")]);
    let expected = "MRLOCK_MEMROY: unknown, ignored; did you mean MRLOCK_MEMORY?";
    assert!(
        said.contains(expected) && said.lines().count() == 1,
        "{said}"
    );
    let said = stderr(&[
        ("MRLOCK_MODE", "off"),
        ("MRLOCK_log", "off"),
        ("MRLOCKS", "1"),
    ]);
    for part in [
        "MRLOCK_MODE: unknown, ignored; man 7 mrlock",
        "did you mean MRLOCK_LOG?",
    ] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(said.lines().count(), 2, "{said}");
    let many = ["A", "B", "C", "D", "E", "F"].map(|end| format!("MRLOCK_{end}"));
    let said = stderr(&many.each_ref().map(|name| (name.as_str(), "")));
    assert_eq!(said.lines().count(), 5, "{said}");
    assert!(said.contains("more unknown variables"), "{said}");
    assert_eq!(
        stderr(&[("MRLOCK_MODE", "off"), ("MRLOCK_LOG", "error")]),
        ""
    );
    // A service of Kubernetes that is named mrlock.
    let service = [
        ("MRLOCK_SERVICE_HOST", "10.0.0.1"),
        ("MRLOCK_PORT_80_TCP", "x"),
    ];
    assert_eq!(stderr(&service), "");
}

#[test]
fn placeholders_in_a_file_name() {
    let directory = scratch("placeholders");
    fs::create_dir(&directory).expect("a scratch directory");
    let program = quiet_program().env("MRLOCK_REPORT", directory.join("%h-100%%-%%p-%x%"));
    assert_eq!(program.run().succeeded("placeholders").stderr, "");
    let host = fs::read_to_string("/proc/sys/kernel/hostname").expect("the host's name");
    let file = directory.join(format!("{}-100%-%p-%x%", host.trim_end()));
    assert!(file.exists(), "{:?}", listed(&directory, true));
}

/// The host changes to another directory before it ends.
#[test]
fn a_relative_report_name_is_relative_to_where_the_process_started() {
    let directory = scratch("100%p");
    fs::create_dir(&directory).expect("a scratch directory");
    let exits = fixtures().join("clients/exits");
    let program = Program::new("env").arg("-C").arg(&directory).arg(exits);
    let program = program.args(["elsewhere", "call"]).preloaded();
    let outcome = program.env("MRLOCK_REPORT", "r-%p.txt").run();
    assert_eq!((outcome.status.code(), &*outcome.stderr), (Some(7), ""));
    let names = listed(&directory, false);
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let [name] = names[..] else {
        panic!("one report was expected: {names:?}")
    };
    let digits = name
        .strip_prefix("r-")
        .and_then(|name| name.split_once(".txt "));
    assert!(
        digits.is_some_and(|(digits, _mode)| digits.parse::<u32>().is_ok()),
        "{name}"
    );
}
