//! Every way to make a child, in every state of the lock: threads of the child call, none waits for a thread that is not there,
//! no two are inside at once, a thread that ends inside is noticed, and the counters are the child's own.

use crate::{
    common::{Outcome, Program, client, fixtures, record::Recorded, scratch},
    trace::{records, traced},
};
use std::{
    collections::BTreeSet,
    fs,
    os::unix::process::ExitStatusExt,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// The arguments of `children`.
type Case = [&'static str; 5];

const CALLS: [&str; 2] = ["register", "free"];
const STATES: [&str; 5] = ["unused", "free", "mine", "other", "waiting"];
const WIPES: [&str; 3] = ["works", "refused", "lies"];

/// Each way to make a child that has a copy of the memory, with the thread of the child that calls first. (The fork handler
/// starts a thread that calls.)
const WAYS: [(&str, &str); 6] = [
    ("last", "other"),
    ("first", "other"),
    ("_Fork", "other"),
    ("_Fork", "main"),
    ("clone", "other"),
    ("clone", "main"),
];

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for call in CALLS {
        for (way, order) in WAYS {
            for state in STATES {
                cases.extend(WIPES.map(|wipe| [call, way, state, order, wipe]));
            }
        }
    }
    cases
}

fn program(case: Case) -> Program {
    let driver = fixtures().join("clients/calling_driver.so");
    let program = client("children").args(case);
    program
        .env("LD_PRELOAD", driver)
        .env("FAKE_IBV_RACE", "count")
        .env("FAKE_IBV_HOLD_US", "0")
        .env("GIVE_UP_AFTER", "60")
}

fn with_us(case: Case) -> Program {
    program(case).preloaded()
}

/// Runs `check` for each case; several cases at a time, because in most of them threads wait for the watchdog.
fn each(cases: &[Case], check: impl Fn(Case) -> Result<(), String> + Sync) {
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some(&case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(failure) = check(case) {
                        let failure = format!("{}: {failure}", case.join(" "));
                        failures.lock().expect("no panic").push(failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no panic");
    let (count, all) = (failures.len(), cases.len());
    assert!(count == 0, "{count} of {all}:\n{}", failures.join("\n"));
}

/// What a process of the client prints: its id, and the rest of the line.
fn line<'a>(outcome: &'a Outcome, who: &str) -> Option<(&'a str, &'a str)> {
    let mut lines = outcome.stdout.lines();
    let line = lines.find_map(|line| line.strip_prefix(who)?.strip_prefix(' '))?;
    line.split_once(": ")
}

fn expect(outcome: &Outcome, is_right: bool) -> Result<(), String> {
    match is_right {
        true => Ok(()),
        false => Err(format!("{outcome:?}")),
    }
}

/// The line about the main thread of the child, which ends inside, is the only one.
fn names_the_dead_alone(outcome: &Outcome, child: &str) -> bool {
    let line = format!(": thread {child} ended before it was done; the next in line goes on\n");
    outcome.stderr.lines().count() == 1 && outcome.stderr.ends_with(&line)
}

/// Without the library, two threads are inside at once.
#[test]
fn two_threads_of_a_child_meet_without_us() {
    let cases = WAYS.map(|(way, order)| ["register", way, "free", order, "works"]);
    each(&cases, |case| {
        let outcome = program(case).run();
        let met = line(&outcome, "child").is_some_and(|(_, rest)| rest.contains("overlaps 1,"));
        expect(&outcome, outcome.status.success() && met)
    });
}

#[test]
fn threads_of_a_child_do_not_meet_and_do_not_wait_for_threads_of_the_parent() {
    each(&cases(), |case| {
        let [_, way, state, order, wipe] = case;
        let outcome = with_us(case).run();
        let Some((child, rest)) = line(&outcome, "child") else {
            return expect(&outcome, false);
        };
        // Without fork handlers, no thread but the main thread can know that it was inside.
        let is_unknown = state == "mine" && order == "other" && !["first", "last"].contains(&way);
        let waits = state == "mine" && order == "other" && !is_unknown;
        let second = if waits { "waited" } else { "entered" };
        let overlaps = u32::from(is_unknown);
        // Where the kernel only says that it wipes the page, the calls of the main thread count for the parent until another
        // thread calls.
        let loses_calls = wipe == "lies" && order == "main" && ["free", "mine"].contains(&state);
        let calls = if loses_calls { "wrong" } else { "right" };
        let expected = format!("second {second}, overlaps {overlaps}, calls {calls}, at once ");
        let parent = line(&outcome, "parent").map(|(_, rest)| rest);
        let is_right = outcome.status.success()
            && rest.starts_with(&expected)
            && parent.is_some_and(|it| it.starts_with("second -, overlaps 0, calls right,"))
            && names_the_dead_alone(&outcome, child);
        expect(&outcome, is_right)
    });
}

/// Each thread that enters is counted: two at once are never missed, and never seen where there were none.
#[test]
fn an_observed_child_counts_its_own_threads() {
    let alone = ["_Fork", "clone"].map(|way| {
        STATES
            .iter()
            .filter(|state| **state != "mine")
            .flat_map(move |state| WIPES.map(|wipe| ["register", way, state, "alone", wipe]))
    });
    let alone: Vec<_> = alone.into_iter().flatten().collect();
    let met = cases().into_iter().filter(|case| case[0] == "register");
    let all: Vec<_> = met.chain(alone).collect();
    each(&all, |case| {
        let outcome = with_us(case).env("MRLOCK", "observe").run();
        let Some((_, rest)) = line(&outcome, "child") else {
            return expect(&outcome, false);
        };
        let most = if case[3] == "alone" { 1 } else { 2 };
        let is_right = outcome.status.success()
            && rest.ends_with(&format!("calls right, at once {most}"))
            && outcome.stderr.is_empty();
        expect(&outcome, is_right)
    });
}

/// A child without fork handlers has a file of its own, with its own calls alone, and its parent's file has its parent's alone.
/// (Where the kernel only says that it wipes the page, calls of the child's main thread may be in the parent's file.)
#[test]
fn a_child_has_a_trace_of_its_own() {
    let mut cases = Vec::new();
    for wipe in ["works", "refused"] {
        for way in ["_Fork", "clone"] {
            for state in STATES {
                let order = if state == "mine" { "main" } else { "alone" };
                cases.push(["register", way, state, order, wipe]);
            }
        }
    }
    each(&cases, |case| {
        let directory = scratch("traces");
        fs::create_dir(&directory).expect("a scratch directory");
        let program = traced(&program(case), &directory.join("trace"));
        let outcome = program.run();
        let (Some((child, _)), Some((parent, _))) =
            (line(&outcome, "child"), line(&outcome, "parent"))
        else {
            return expect(&outcome, false);
        };
        let records = records(&directory);
        let of = |process: &str| {
            let mut records = records.iter();
            records.find(|record| record.process.to_string() == process)
        };
        let (Some(child), Some(parent)) = (of(child), of(parent)) else {
            return Err(format!("{outcome:?}: {records:#?}"));
        };
        let threads = |record: &Recorded| -> BTreeSet<_> {
            let events = record.events.iter().map(|call| call.thread);
            let inside = record.inside.iter().map(|call| call.thread);
            events.chain(inside).collect()
        };
        let is_whole = |record: &Recorded| {
            let calls: u64 = record.operations.iter().map(|(_, calls)| calls).sum();
            record.written == calls && calls > 0
        };
        let is_right = records.len() == 2
            && threads(child).is_disjoint(&threads(parent))
            && threads(child).contains(&child.process)
            && threads(parent).contains(&parent.process)
            && is_whole(child)
            && is_whole(parent);
        match outcome.status.success() && is_right {
            true => Ok(()),
            false => Err(format!("{outcome:?}: {records:#?}")),
        }
    });
}

/// It shares the memory of its parent, although it has another process id: what other threads hold stays theirs.
#[test]
fn a_child_of_vfork_resets_nothing() {
    let mut cases = Vec::new();
    for call in CALLS {
        for state in ["unused", "free", "other", "waiting"] {
            for wipe in ["works", "refused", "lies", "refused-kcmp", "lies-kcmp"] {
                cases.push([call, "vfork", state, "other", wipe]);
            }
        }
    }
    each(&cases, |case| {
        let [_, _, state, _, wipe] = case;
        let outcome = with_us(case).run();
        let parent = line(&outcome, "parent").map(|(_, rest)| rest);
        // If the child is the first that calls, and the page is not used, then the generation is its own.
        let is_first = state == "unused" && wipe.starts_with("refused");
        let calls = if is_first { "wrong" } else { "right" };
        let expected = format!("second -, overlaps 0, calls {calls},");
        let is_right = outcome.status.success()
            && parent.is_some_and(|it| it.starts_with(&expected))
            && outcome.stderr.is_empty();
        expect(&outcome, is_right)
    });
}

/// With a mutex preloaded, a child without fork handlers hangs.
#[test]
fn a_child_hangs_with_a_mutex() {
    const SIGALRM: i32 = 14;
    let mutex = fixtures().join("peers/pthread.so");
    let case = ["register", "_Fork", "other", "main", "works"];
    let program = program(case).env("LD_PRELOAD", mutex);
    let outcome = program.env("GIVE_UP_AFTER", "2").run();
    let is_hung = outcome.status.signal() == Some(SIGALRM)
        || outcome.stderr.contains("the child: status 0xe");
    assert!(is_hung, "{outcome:#?}");
}
