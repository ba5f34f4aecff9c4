use super::{
    chrome, overlap, picture,
    process::{Call, Process, Slice, What},
};
use crate::record::{
    Record, layout as l,
    sample::{event, put, sample, thread, write},
};
use serde_json::Value;
use std::{collections::BTreeMap, mem::offset_of};

fn recorded(bytes: &[u8]) -> Process {
    let record = Record::in_bytes(bytes).expect("a record");
    Process::recorded(&record).expect("calls")
}

/// A process whose threads are inside at these times.
fn process(id: u64, times: &[(u32, u64, u64)]) -> Process {
    let mut threads = BTreeMap::<u32, Vec<Slice>>::new();
    for &(thread, start, end) in times {
        let call = Call {
            name: "ibv_reg_mr".into(),
            device: None,
            memory: None,
            failed: false,
            counts: true,
        };
        threads.entry(thread).or_default().push(Slice {
            start,
            end,
            is_under_way: false,
            what: What::Inside(call),
        });
    }
    Process {
        id,
        threads,
        ..Process::default()
    }
}

fn json(processes: &[Process], beside: bool) -> Value {
    serde_json::from_str(&chrome::written(processes, beside)).expect("JSON")
}

#[test]
fn a_record_with_a_call_under_way() {
    let mut bytes = sample();
    // Four calls of another thread before it.
    for index in 0..4 {
        put(&mut bytes, event(index) + offset_of!(l::Event, thread), 79);
        let since = offset_of!(l::Event, since);
        put(&mut bytes, event(index) + since, 100 * index as u64);
    }
    put(&mut bytes, thread(3) + offset_of!(l::Thread, waited), 600);
    let process = recorded(&bytes);
    assert_eq!(process.title(), "server (77)");
    assert_eq!(
        overlap::sentence(&process),
        "never more than 1 thread in the kernel at once"
    );
    assert_eq!(
        process.notes(),
        [
            "the trace ends while 1 call is under way",
            "2 calls were overwritten"
        ]
    );
    // It has no end: its process's last sign of life is drawn. It has waited before.
    let slices: Vec<_> = process.threads[&78]
        .iter()
        .map(|slice| (slice.start, slice.end, slice.is_under_way))
        .collect();
    assert_eq!(slices, [(400, 1000, false), (1000, 2000, true)]);
    let waiting = offset_of!(l::Thread, state);
    put(&mut bytes, thread(3) + waiting, l::WAITING);
    assert_eq!(
        recorded(&bytes).notes()[0],
        "the trace ends while 1 call waits"
    );
    // Another thread is inside.
    let (from, to) = (thread(3), thread(4));
    bytes.copy_within(from..to, to);
    put(&mut bytes, to + offset_of!(l::Thread, thread), 80);
    put(&mut bytes, to + waiting, l::INSIDE);
    assert_eq!(
        recorded(&bytes).notes()[0],
        "the trace ends while 1 call is under way and 1 waits"
    );
}

#[test]
fn the_host_is_in_the_title_if_it_has_a_name() {
    for (host, title) in [("pod-7", "server (77) on pod-7"), ("(none)", "server (77)")] {
        let mut bytes = sample();
        write(&mut bytes, offset_of!(l::Record, header.host), host);
        assert_eq!(recorded(&bytes).title(), title);
    }
}

/// The clocks of two hosts count from other moments.
#[test]
fn records_of_two_hosts_are_put_in_the_order_of_their_dates() {
    let of = |monotonic: u64, realtime: u64| {
        let mut bytes = sample();
        put(
            &mut bytes,
            offset_of!(l::Record, header.monotonic),
            monotonic,
        );
        put(&mut bytes, offset_of!(l::Record, header.realtime), realtime);
        put(
            &mut bytes,
            thread(3) + offset_of!(l::Thread, state),
            l::OUTSIDE,
        );
        for index in 0..4 {
            let at = event(index) + offset_of!(l::Event, since);
            put(&mut bytes, at, monotonic + 10);
        }
        recorded(&bytes).time().0
    };
    assert_eq!(of(500_000, 7_000_000), 7_000_010);
    assert_eq!(of(300, 7_000_000), 7_000_010);
}

#[test]
fn a_process_id_is_used_once_in_the_json() {
    let times = [(1, 0, 10)];
    let processes = [1, 1, 5, 1].map(|id| process(id, &times));
    let json = json(&processes, false);
    let others = json["otherData"]["processes"].as_array().expect("an array");
    let ids: Vec<_> = others.iter().map(|it| it["pid"].as_u64()).collect();
    let largest = 1 << 22;
    let ids_expected = [1, largest + 2, 5, largest + 4].map(Some);
    assert_eq!(ids, ids_expected);
    let own: Vec<_> = others.iter().map(|it| it["process"].as_u64()).collect();
    assert_eq!(own, [1, 1, 5, 1].map(Some));
}

#[test]
fn a_leave_comes_before_an_enter_at_the_same_time() {
    let process = process(1, &[(1, 0, 10), (2, 10, 20), (3, 15, 25)]);
    let steps = overlap::steps(&process);
    let steps: Vec<_> = steps.iter().map(|step| (step.time, step.inside)).collect();
    assert_eq!(steps, [(0, 1), (10, 0), (10, 1), (15, 2), (20, 1), (25, 0)]);
}

/// Each word of the record in turn is what no library writes.
#[test]
fn wrong_words_are_drawn() {
    let good = sample();
    let slot = thread(3)..thread(4);
    let words = (0..offset_of!(l::Record, settings))
        .chain(slot)
        .chain(event(0)..event(1))
        .step_by(8);
    let mut drawn = 0;
    for word in words {
        for value in [0, 1, u64::MAX / 2, u64::MAX] {
            let mut bytes = good.clone();
            put(&mut bytes, word, value);
            let Ok(record) = Record::in_bytes(&bytes) else {
                continue;
            };
            let Some(process) = Process::recorded(&record) else {
                continue;
            };
            let processes = [recorded(&good), process];
            for beside in [false, true] {
                assert!(picture::draw(&processes, beside).ends_with("</svg>\n"));
                let json = json(&processes, beside);
                assert_eq!(json["otherData"]["processes"][0]["pid"], 77);
            }
            drawn += 1;
        }
    }
    assert!(drawn > 150, "{drawn}");
}
