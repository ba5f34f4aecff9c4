//! The calls in progress: more threads than the record has slots for, threads that follow each other, a handler's call within a
//! call that waits.

use crate::{
    common::{
        Program, client,
        record::{
            Recall, Recorded,
            layout::{ENDED, INSIDE, THREADS, WAITING},
            read,
        },
        scratch,
    },
    status::{Held, calls, run, under_way},
    trace::traced,
};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdout, Stdio},
};

fn counted(record: &Recorded, name: &str) -> u64 {
    let mut operations = record.operations.iter();
    let row = operations.find(|(operation, _)| operation == name);
    row.unwrap_or_else(|| panic!("no {name}: {record:#?}")).1
}

/// The operations of each thread, in their order.
fn by_thread(record: &Recorded) -> BTreeMap<u64, Vec<&str>> {
    let mut threads = BTreeMap::<_, Vec<_>>::new();
    for call in &record.events {
        let calls = threads.entry(call.thread).or_default();
        calls.push(call.operation.as_str());
    }
    threads
}

/// One is inside, and 299 wait. The calls of the main thread, which has a slot, are over.
#[test]
fn more_threads_than_slots() {
    const WAITERS: usize = 299;
    let without_slot = (1 + 1 + WAITERS - THREADS) as u64;
    let file = scratch("trace");
    let program = client("held").arg(WAITERS.to_string());
    let program = traced(&program, &file).env("GIVE_UP_AFTER", "110");
    let mut held = Held::start(&program.env("MRLOCK_WARN_AFTER", "0"), 1);

    let seen = held.seen();
    assert_eq!(seen["threads_not_shown"], without_slot, "{seen:#}");
    assert_eq!(under_way(&seen).len(), THREADS - 1);
    assert_eq!(calls(&seen, "ibv_reg_mr"), 3);
    let table = run(&[&held.process.id().to_string()]).succeeded("a table");
    let line = format!("{without_slot} more threads had no room in the record\n");
    assert!(table.stdout.contains(&line), "{}", table.stdout);

    drop(held.input.take());
    assert!(held.process.wait().expect("it ends").success());
    let record = read(&file);
    assert_eq!(record.state, ENDED);
    assert_eq!(record.unlisted, without_slot);
    assert_eq!(record.most_at_once, 1 + WAITERS as u64);
    assert!(record.inside.is_empty(), "{record:#?}");
    let expected = [("ibv_reg_mr", 3 + 1 + 299), ("ibv_dereg_mr", 2 + 1 + 299)];
    for (name, expected) in expected {
        assert_eq!(counted(&record, name), expected, "{name}");
    }
    // Each event names its thread, also if that has no slot.
    let threads = by_thread(&record);
    let pair = ["ibv_reg_mr", "ibv_dereg_mr"];
    let pairs = threads.values().filter(|calls| **calls == pair);
    assert_eq!((threads.len(), pairs.count()), (2 + WAITERS, 1 + WAITERS));
}

/// Each thread gets the slot of one that has ended.
#[test]
fn more_threads_one_after_another_than_slots() {
    let threads = 2 * THREADS + 100;
    for mode in ["on", "observe"] {
        let file = scratch("trace");
        let program = client("one_after_another").arg(threads.to_string());
        let program = traced(&program, &file).env("MRLOCK", mode);
        assert_eq!(program.run().succeeded(mode).stderr, "");
        let record = read(&file);
        let counts = ["ibv_reg_mr", "ibv_dereg_mr"].map(|name| counted(&record, name));
        assert_eq!(counts, [threads as u64; 2], "{mode}");
        assert_eq!((record.unlisted, record.most_at_once), (0, 1), "{mode}");
        assert!(record.inside.is_empty(), "{:#?}", record.inside);
        let of_each = by_thread(&record);
        assert_eq!(of_each.len(), threads, "{mode}");
        let pair = ["ibv_reg_mr", "ibv_dereg_mr"];
        let is_pair = |calls: &Vec<&str>| *calls == pair;
        assert!(of_each.values().all(is_pair), "{mode}: {of_each:#?}");
        let name = "one_after_anoth"; // the kernel cuts it
        assert!(record.events.iter().all(|call| call.name == name));
    }
}

/// While the handler's call is there, the record shows that one; afterwards, it shows the waiting call again, since when it waits.
#[test]
fn a_handler_registers_while_its_thread_waits() {
    let without = client("interrupted_wait").counting().run();
    assert!(!without.status.success(), "no thread waits: {without:#?}");

    let file = scratch("trace");
    let mut process = Interrupted::start(&traced(&client("interrupted_wait"), &file));
    let line = process.line();
    let thread = line.strip_prefix("waiting ").map(str::parse);
    let thread: u64 = thread.and_then(Result::ok).expect("a thread");
    let of_thread = |record: &Recorded| -> Vec<Recall> {
        let calls = record.inside.iter().filter(|call| call.thread == thread);
        calls.cloned().collect()
    };
    let waiting = read(&file);
    let [outer] = &of_thread(&waiting)[..] else {
        panic!("one call was expected: {waiting:#?}");
    };
    assert_eq!((outer.state, outer.length), (WAITING, 131072));
    assert_eq!(waiting.inside.len(), 2, "{waiting:#?}");
    assert!(waiting.inside.iter().any(|call| call.state == INSIDE));

    process.goes_on_until("handler waits");
    let interrupted = read(&file);
    let [inner] = &of_thread(&interrupted)[..] else {
        panic!("one call was expected: {interrupted:#?}");
    };
    assert_eq!((inner.state, inner.length), (WAITING, 4096));

    process.goes_on_until("handled");
    let handled = read(&file);
    let outer = std::slice::from_ref(outer);
    assert_eq!(handled.inside, outer, "the waiting call alone");
    assert_eq!(handled.events.len(), 3, "{handled:#?}");

    process.goes_on_until("done");
    assert!(process.process.wait().expect("it ends").success());
    let record = read(&file);
    assert!(record.inside.is_empty(), "{record:#?}");
    let counts = ["ibv_reg_mr", "ibv_dereg_mr"].map(|name| counted(&record, name));
    assert_eq!(counts, [3, 2]);
    let calls: Vec<_> = record
        .events
        .iter()
        .filter(|call| call.thread == thread)
        .map(|call| (call.operation.as_str(), call.length, call.waited > 0))
        .collect();
    let expected = [
        ("ibv_reg_mr", 4096, true),
        ("ibv_dereg_mr", 4096, false),
        ("ibv_reg_mr", 131072, true),
        ("ibv_dereg_mr", 131072, false),
    ];
    assert_eq!(calls, expected, "{record:#?}");
    assert_eq!(record.waits["ibv_reg_mr"].0, 2);
}

/// The client, which stops after each line that it prints.
struct Interrupted {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Interrupted {
    fn start(program: &Program) -> Self {
        let mut command = program.command_alone();
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("it starts");
        let output = BufReader::new(process.stdout.take().expect("a pipe"));
        Self { process, output }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    fn goes_on_until(&mut self, expected: &str) {
        let input = self.process.stdin.as_mut().expect("a pipe");
        input.write_all(b"\n").expect("it reads");
        assert_eq!(self.line(), expected);
    }
}
