//! The lock works when processes fork, when threads end inside a call or stay there for long, when signal handlers interrupt
//! calls, and when calls are made at the very beginning and end of a process.
//!
//! Where it makes sense, a test first shows what happens without the library, or with a library that has a pthread mutex around
//! each call (`benches/peers/pthread.c`). A program that hangs is ended by its own alarm.

use crate::common::{Outcome, Program, client, fixtures, scratch};
use std::{fs, os::unix::process::ExitStatusExt, path::Path, thread};

/// Longer than any program here needs, unless it hangs.
const HANGS: &str = "100";

/// With the mutex preloaded, the program hangs. (It gets little time.)
fn hangs_with_a_mutex(program: &Program) {
    const SIGALRM: i32 = 14;
    let mutex = fixtures().join("peers/pthread.so");
    let program = program.clone().env("LD_PRELOAD", mutex);
    let outcome = program.env("GIVE_UP_AFTER", "2").run();
    assert!(
        outcome.status.signal() == Some(SIGALRM) || outcome.status.code() == Some(128 + SIGALRM),
        "it should hang with a mutex: {outcome:#?}"
    );
}

fn dies_without_us(program: &Program) {
    let without = program.run();
    assert!(
        without.segfaulted() && without.stderr.contains("race"),
        "it should die of the race: {without:#?}"
    );
}

/// The output of the program with the library. It must end with status 0, and stderr must be empty.
fn quiet_output(program: &Program) -> String {
    let program = program.preloaded().env("GIVE_UP_AFTER", HANGS);
    let with = program.run().succeeded("with the library");
    assert_eq!(with.stderr, "", "{with:#?}");
    with.stdout
}

/// The words of a line, after its first one.
fn words<'a>(text: &'a str, first: &str) -> Vec<&'a str> {
    let lines = text.lines().map(|line| line.split(' '));
    let mut found = lines.filter_map(|mut words| (words.next() == Some(first)).then_some(words));
    let words = found.next();
    words
        .unwrap_or_else(|| panic!("no line {first:?} in {text:?}"))
        .collect()
}

/// The numbers of the threads that were served, sorted: two threads that look at the same moment may enter in either order.
/// Another test checks how long a thread may be bypassed.
fn served(stdout: &str) -> String {
    let mut numbers = words(stdout, "served");
    numbers.sort_unstable();
    numbers.join(" ")
}

/// How many calls of this name a report counts.
fn reported(report: &str, name: &str) -> u64 {
    let mut lines = report.lines().map(str::split_whitespace);
    let row =
        lines.find_map(|mut words| words.next().filter(|word| *word == name).and(words.next()));
    row.and_then(|calls| calls.parse().ok())
        .unwrap_or_else(|| panic!("no row {name:?} in {report}"))
}

// fork

/// First, one thread stays inside and three wait until fifty children have ended: a fork() or a child that waited for the lock
/// would wait for ever. Then fifty more children are forked while the threads lock and unlock.
#[test]
fn a_hundred_children_forked_while_threads_are_inside_and_waiting() {
    dies_without_us(&client("fork").args(["traffic", "100"]));
    let program = client("fork").args(["held", "100"]);
    hangs_with_a_mutex(&program);

    let directory = scratch("reports");
    fs::create_dir_all(&directory).expect("a directory for the reports");
    let stdout = quiet_output(&program.env("MRLOCK_REPORT", directory.join("%p")));
    let [parent, "calls", calls] = words(&stdout, "parent")[..] else {
        panic!("{stdout}");
    };
    let report_of = |path: &Path| {
        let report = fs::read_to_string(path).expect("a report");
        ["ibv_reg_mr", "ibv_dereg_mr"].map(|name| reported(&report, name))
    };
    let parent = directory.join(parent);
    let calls: u64 = calls.parse().expect("a number");
    assert_eq!(report_of(&parent), [calls, calls]);
    let reports = fs::read_dir(&directory).expect("the reports");
    let children = reports.map(|entry| entry.expect("an entry").path());
    let children: Vec<_> = children.filter(|path| *path != parent).collect();
    assert_eq!(children.len(), 100);
    for child in children {
        // Two threads with three regions each, and nothing of its parent's.
        assert_eq!(report_of(&child), [6, 6], "{child:?}");
    }
    let _ = fs::remove_dir_all(directory);
}

/// The child is inside, too: it may enter again, and its second thread has to wait until it has left. It stays inside for longer
/// than it takes to notice a holder that has ended.
#[test]
fn a_fork_from_inside() {
    let program = client("fork").arg("inside");
    hangs_with_a_mutex(&program);
    assert_eq!(served(&quiet_output(&program)), "1 2");
}

/// In the child, the lock is free.
#[test]
fn a_fork_while_waiting() {
    let program = client("fork").arg("waiting");
    hangs_with_a_mutex(&program);
    assert_eq!(quiet_output(&program), "");
}

/// No fork handler runs in the child, and the thread that is inside does not exist there.
#[test]
fn a_child_without_fork_handlers() {
    let program = client("fork").arg("bare");
    hangs_with_a_mutex(&program);
    assert_eq!(quiet_output(&program), "");
}

#[test]
fn vfork_and_exec_and_posix_spawn_while_a_thread_is_inside() {
    let program = client("fork").arg("spawn");
    assert_eq!(served(&quiet_output(&program)), "1 2");
}

#[test]
fn python_multiprocessing_while_threads_register() {
    let script =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/multiprocessing_workers.py");
    for how in ["fork", "spawn"] {
        let python = Program::new("/usr/bin/python3").arg(&script).arg(how);
        let python = python.libibverbs("lib").env("FAKE_IBV_HOLD_US", "500");
        dies_without_us(&python);
        let expected = format!("{how} {:?}\n", [20; 12]);
        assert_eq!(quiet_output(&python), expected);
    }
}

// A thread that has ended

/// The other threads go on, and one line names the thread that has ended.
fn goes_on_without_the_dead(program: &Program, served: &str) -> Outcome {
    let program = program.preloaded().env("GIVE_UP_AFTER", "10");
    let outcome = program.run().succeeded("with the library");
    assert_eq!(self::served(&outcome.stdout), served);
    let [thread, "address", address, "length", length] = words(&outcome.stdout, "holder")[..]
    else {
        panic!("{outcome:#?}");
    };
    let call = match served.starts_with('1') {
        true => format!("ibv_reg_mr (address {address}, length {length})"),
        false => "waiting (address 0x0, length 0)".to_owned(),
    };
    let line = format!(
        ": error: {call}: thread {thread} ended before it was done; the next in line goes on\n"
    );
    assert!(
        outcome.stderr.ends_with(&line) && outcome.stderr.lines().count() == 1,
        "expected {line:?}: {outcome:#?}"
    );
    outcome
}

macro_rules! goes_on_after {
    ($($test:ident: $how:literal)*) => {
        $(#[test]
        fn $test() {
            let program = client("thread_ends").arg($how);
            hangs_with_a_mutex(&program);
            goes_on_without_the_dead(&program, "1 2 3");
        })*
    };
}

goes_on_after! {
    a_holder_that_is_cancelled: "cancel"
    a_holder_that_exits_in_a_signal_handler: "exit"
    a_holder_that_the_kernel_ends: "oops"
}

/// Until the process ends, the thread remains as a zombie with its id. (The fake libibverbs would take the zombie for a
/// thread inside, so it only counts here.)
#[test]
fn a_holder_that_was_the_main_thread() {
    let program = client("thread_ends")
        .arg("main")
        .env("FAKE_IBV_RACE", "count");
    goes_on_without_the_dead(&program, "1 2 3");
}

#[test]
fn a_waiter_that_is_cancelled() {
    goes_on_without_the_dead(&client("thread_ends").arg("waiter"), "2 3");
}

/// Before how many instructions this line's call was interrupted. Few may be missed: a call may take another way on a busy machine.
fn interrupted(stdout: &str, call: &str) -> u32 {
    let [interrupted, "missed", missed] = words(stdout, call)[..] else {
        panic!("{stdout}");
    };
    let [interrupted, missed] = [interrupted, missed].map(|it| it.parse().expect("a number"));
    assert!(
        missed * 100 <= interrupted,
        "too many were missed: {stdout}"
    );
    interrupted
}

/// A thread is interrupted after each single instruction of its call, each time in a new process. The number of instructions shows
/// that those of the library were among them.
fn is_served_after_any_instruction(how: &str) {
    let instructions = |program: &Program| -> u32 {
        let outcome = program.run().succeeded(how);
        // A line may report a thread that has ended; no other thread may be reported as ended.
        assert!(how == "exit" || outcome.stderr.is_empty(), "{outcome:#?}");
        interrupted(&outcome.stdout, "instructions")
    };
    let [alone, queued] = ["alone", "queued"].map(|queue| client("single_step").args([how, queue]));
    let without = instructions(&alone);
    let with = instructions(&alone.preloaded());
    assert!(with > 2 * without, "{without} without us, {with} with us");
    assert!(instructions(&queued.preloaded()) > with);
}

#[test]
fn a_thread_that_ends_after_any_instruction() {
    is_served_after_any_instruction("exit");
}

#[test]
fn a_handler_that_calls_after_any_instruction() {
    is_served_after_any_instruction("call");
}

#[test]
fn a_handler_that_forks_after_any_instruction() {
    is_served_after_any_instruction("fork");
}

/// In a process id namespace of its own, the program can set the next id.
fn with_its_id_used_again(how: &str, served: &str) {
    let own_ids = [
        "--user",
        "--map-root-user",
        "--pid",
        "--mount-proc",
        "--kill-child",
    ];
    // The first process of a namespace would not be ended by its alarm.
    let as_second = ["sh", "-c", "\"$0\" \"$1\"; exit $?"];
    let gone = fixtures().join("clients/thread_ends");
    let program = Program::new("unshare").args(own_ids).args(as_second);
    let program = program.arg(gone).arg(how);
    let program = program.libibverbs("lib").env("FAKE_IBV_RACE", "count");
    let outcome = goes_on_without_the_dead(&program, served);
    assert!(
        outcome.stdout.contains("new thread's id: the same"),
        "the case that this test is about: {outcome:#?}"
    );
}

#[test]
fn a_holder_whose_id_a_new_thread_gets_while_others_wait() {
    with_its_id_used_again("reuse", "1 2 3");
}

#[test]
fn a_holder_whose_id_and_stack_the_next_caller_gets() {
    with_its_id_used_again("newcomer", "1");
}

// A live thread

/// The holder stays for longer than it takes to notice an ended one. (All cases run at once: they sleep.)
#[test]
fn a_holder_that_is_slow_or_stopped_is_left_alone() {
    let ways = ["sleeps", "stops", "traced", "vforks"];
    thread::scope(|scope| {
        let each = |how| move || quiet_output(&client("slow_holder").args([how, "3", "3"]));
        for run in ways.map(|how| scope.spawn(each(how))) {
            let stdout = run.join().expect("it ended as it should");
            assert_eq!(served(&stdout), "1 2 3");
        }
    });
}

/// After one, two and four seconds, one line names the call, the thread and the time, for any number of waiters. The hold is 7 s.
#[test]
fn a_slow_holder_is_named_at_growing_intervals() {
    let run = |waiters, after| {
        let program = client("slow_holder")
            .args(["sleeps", "7", waiters])
            .preloaded();
        let program = program.env("MRLOCK_WARN_AFTER", after);
        move || program.run().succeeded("with the library")
    };
    let runs = [("1", "1"), ("64", "1"), ("64", "0"), ("3", "30")];
    let outcomes = thread::scope(|scope| {
        runs.map(|(waiters, after)| scope.spawn(run(waiters, after)))
            .map(|run| run.join().expect("it ended as it should"))
    });
    let [one, many, never, later] = outcomes;
    assert_eq!((&*never.stderr, &*later.stderr), ("", ""));
    for outcome in [one, many] {
        let [thread, "address", address, "length", length] = words(&outcome.stdout, "holder")[..]
        else {
            panic!("{outcome:#?}");
        };
        let start = format!(
            ": warning: ibv_reg_mr (address {address}, length {length}) on mlx5_0: \
             thread {thread} has been inside for "
        );
        let seconds = outcome.stderr.lines().map(|line| {
            let (_, rest) = line.split_once(&start)?;
            rest.strip_suffix(" s or more while others wait")?
                .parse::<u64>()
                .ok()
        });
        let seconds: Vec<_> = seconds
            .map(|seconds| seconds.unwrap_or_else(|| panic!("{outcome:#?}")))
            .collect();
        // A busy machine may be late, but not as late as the next line.
        let when: Vec<_> = seconds.iter().map(|seconds| seconds.ilog2()).collect();
        assert_eq!(when, [0, 1, 2], "{outcome:#?}");
    }
}

// Signals

/// The library counts exactly the calls of the client's threads and of its handlers.
fn counts_calls_of_handlers_too(program: &Program, rows: &[&str]) {
    let program = program.preloaded().env("MRLOCK_REPORT", "stderr");
    let outcome = program.env("GIVE_UP_AFTER", "30").run();
    let outcome = outcome.succeeded("with the library");
    let [calls, "in-handlers", in_handlers] = words(&outcome.stdout, "calls")[..] else {
        panic!("{outcome:#?}");
    };
    let [calls, in_handlers] = [calls, in_handlers].map(|number| number.parse().expect("a number"));
    assert!(in_handlers > calls / 10, "nothing to see: {outcome:#?}");
    // A handler's call inside a call is part of that call.
    for row in rows {
        let counted = reported(&outcome.stderr, row);
        assert!(
            (calls..=calls + in_handlers).contains(&counted),
            "{outcome:#?}"
        );
    }
}

#[test]
fn handlers_that_register_interrupt_registrations_anywhere() {
    let program = client("signals").args(["verbs", "4", "2000"]);
    let program = program.env("FAKE_IBV_HOLD_US", "10");
    dies_without_us(&program);
    counts_calls_of_handlers_too(&program, &["ibv_reg_mr", "ibv_dereg_mr"]);
}

/// Both are sections: a handler's section is nested in the one that it interrupted.
#[test]
fn handlers_with_sections_interrupt_sections_anywhere() {
    let program = client("signals").args(["section", "4", "2000"]);
    let program = program.env("FAKE_IBV_HOLD_US", "10");
    dies_without_us(&program);
    counts_calls_of_handlers_too(&program, &["mrlock_lock"]);
}

/// Of the library, as calls of both kinds run through it.
#[test]
fn a_handler_after_any_single_instruction() {
    let program = client("signals").arg("step").env("FAKE_IBV_HOLD_US", "0");
    let stdout = quiet_output(&program);
    for what in ["section", "call"] {
        assert!(interrupted(&stdout, what) > 50, "nothing to see: {stdout}");
    }
}

#[test]
fn handlers_that_deregister_by_ioctl_interrupt_the_same_anywhere() {
    let program = client("signals").args(["ioctl", "4", "5000"]);
    counts_calls_of_handlers_too(&program, &["uverbs:MR_DESTROY"]);
}

/// The thread's later calls must not count as a part of the one that it has left: nothing would free the lock after them.
#[test]
fn a_signal_handler_leaves_a_wait() {
    let program = client("left_wait").counting();
    let without = program.run();
    assert!(!without.status.success(), "no thread waits: {without:#?}");
    assert_eq!(quiet_output(&program), "done\n");
}

/// A signal ends a waiter's sleep, but not its wait. The handler's registration takes the waiter's place.
#[test]
fn signals_for_waiters() {
    let program = client("signals").arg("waiter");
    assert_eq!(served(&quiet_output(&program)), "1 2");
}

// Early and late

/// `registering_preload.so` is listed after mrlock: its constructor runs before ours, its destructor after ours, and a second report follows.
#[test]
fn calls_where_a_process_begins_and_ends() {
    let last = fixtures().join("clients/registering_preload.so");
    let program = client("register_in_destructors").env("LD_PRELOAD", &last);
    dies_without_us(&program);
    let expected = "registering_preload: constructor: registered\n\
         register_in_destructors: 19 calls\nregistering_preload: destructor: registered\n";
    assert_eq!(quiet_output(&program), expected);

    let program = program.preloaded().env("MRLOCK_REPORT", "stderr");
    let traced = program.env("MRLOCK_LOG", "trace").run();
    let stderr = traced.succeeded("traced").stderr;
    let ours: Vec<_> = stderr
        .lines()
        .map(|line| match line {
            _ if line.contains("info: loaded") => "constructor",
            _ if line.contains("were inside or waiting") => "report",
            _ if line.contains("trace: ibv_reg_mr (") && line.contains("length 12345") => "last",
            _ => "",
        })
        .filter(|line| !line.is_empty())
        .collect();
    assert_eq!(
        ours,
        ["last", "constructor", "report", "last", "report"],
        "{stderr}"
    );
}

// Many

/// With a mutex, threads that unlock and lock again at once can keep another thread waiting for any length of time.
#[test]
fn no_waiter_is_bypassed_for_long() {
    let program = client("bypass").args(["20", "2000"]);
    let bypassed =
        |stdout: &str| -> u32 { words(stdout, "bypassed")[0].parse().expect("a number") };
    // Four others ahead, with 2 ms each, make 40 calls of 0.2 ms.
    const BOUND: u32 = 150;
    let mutex = fixtures().join("peers/pthread.so");
    let with_a_mutex = program.clone().env("LD_PRELOAD", mutex);
    let worst = (0..50)
        .map(|_| bypassed(&with_a_mutex.run().succeeded("with a mutex").stdout))
        .find(|&bypassed| bypassed > BOUND);
    assert!(worst.is_some(), "no hazard in 50 runs with a mutex");
    let stdout = quiet_output(&program);
    assert!(bypassed(&stdout) <= BOUND, "{stdout}");
}

/// 1,001,472 calls. With FAKE_IBV_RACE=die, an overlap would kill the process.
#[test]
fn a_thousand_threads_and_a_million_calls() {
    let program = client("many_threads").args(["1024", "16", "978"]);
    let program = program.env("FAKE_IBV_HOLD_US", "0").preloaded();
    let program = program.env("FAKE_IBV_DEVICES", "16");
    let program = program
        .env("MRLOCK_REPORT", "stderr")
        .env("GIVE_UP_AFTER", HANGS);
    let outcome = program.run().succeeded("with the library");
    let [calls, "resident", early, late, "KiB"] = words(&outcome.stdout, "calls")[..] else {
        panic!("{outcome:#?}");
    };
    assert_eq!(calls, (1024 * 978).to_string());
    for row in ["ibv_reg_mr", "ibv_dereg_mr"] {
        assert_eq!(reported(&outcome.stderr, row), 1024 * 978 / 2);
    }
    let [early, late] = [early, late].map(|kib| kib.parse::<u64>().expect("a number"));
    assert!(late < early + 2048, "it grows: {outcome:#?}");
}
