//! `mrlock timeline`: the pictures are rendered by a browser, and the tests look at the pixels that matter.

use crate::common::{
    Outcome, Program, client,
    machine::{Need, program},
    mrlock,
    record::layout as l,
    scratch,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::BufReader,
    mem::offset_of,
    ops::Range,
    path::{Path, PathBuf},
    process::Command,
};

/// The tests that are left out where there is no browser.
const PIXELS: &str = "all tests of pictures";

fn browser() -> Need {
    program("chromium", "chromium")
}

// What the picture shows

#[test]
fn a_thread_that_waits_is_pale_and_one_that_is_inside_has_the_colour_of_its_device() {
    needs!(PIXELS, browser());
    let mut trace = Trace::new("on");
    trace.inside(1, 0, 400, "mlx5_0");
    trace.waits(2, 100, 300).inside(2, 400, 400, "mlx5_1");
    for (kind, scheme) in [
        ("svg", Scheme::Light),
        ("html", Scheme::Light),
        ("svg", Scheme::Dark),
    ] {
        let picture = trace.rendered(kind, scheme);
        let page = picture.page();
        let waiting = picture.legend("waiting");
        let [first, second] = ["mlx5_0, 1 call", "mlx5_1, 1 call"].map(|name| picture.legend(name));

        assert_eq!(picture.row(1, 250), first);
        assert_eq!(picture.row(2, 250), waiting);
        assert_eq!(picture.row(2, 600), second);
        assert_ne!(first, second);

        assert!(first.saturation() > 100 && second.saturation() > 100);
        assert!(waiting.saturation() < 30, "pale: {waiting:?}");
        assert!(
            waiting.distance(page) < first.distance(page) / 2,
            "pale: {waiting:?} on {page:?}"
        );
        // Before the thread came, and after it left.
        assert!(picture.row(2, 50).distance(page) < 80);
        assert!(picture.row(1, 600).distance(page) < 80);
        match scheme {
            Scheme::Light => assert!(page.brightness() > 700),
            Scheme::Dark => assert!(page.brightness() < 100),
        }
    }
}

#[test]
fn the_strip_is_as_high_as_threads_are_inside_at_once() {
    needs!(PIXELS, browser());
    let mut trace = Trace::new("observe");
    trace
        .inside(1, 0, 400, "mlx5_0")
        .inside(1, 600, 200, "mlx5_0");
    trace
        .inside(2, 200, 400, "mlx5_1")
        .inside(3, 900, 100, "mlx5_2");
    let picture = trace.rendered("svg", Scheme::Light);
    let one = picture.strip(100);
    assert!(one > 10, "{one}");
    // Two, one, one at a time although one comes when the other leaves, none, one.
    for (time, inside) in [(300, 2), (500, 1), (700, 1), (850, 0), (950, 1)] {
        let height = picture.strip(time);
        assert!(
            height.abs_diff(one * inside) <= 1,
            "{time}: {height}, and one is {one}"
        );
    }
    // At 600, one thread leaves as the other enters.
    assert!((590..610).all(|time| picture.strip(time).abs_diff(one) <= 1));
    // An overlap has another colour than one thread alone.
    assert_ne!(
        picture.strip_colour(300, one + one / 2),
        picture.strip_colour(300, one / 2)
    );
    assert_eq!(
        picture.strip_colour(300, one / 2),
        picture.strip_colour(100, one / 2)
    );
}

#[test]
fn the_numbers_are_those_of_the_trace() {
    let mut trace = Trace::new("on");
    trace
        .inside(1, 0, 400, "mlx5_0")
        .waits(1, 500, 1500)
        .inside(1, 2000, 1000, "mlx5_0");
    trace.waits(2, 100, 300).failing(2, 400, 600);
    let (outcome, svg) = trace.drawn("svg");
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", ""));
    let texts = texts(&svg);
    for line in [
        "never more than 1 thread in the kernel at once",
        "python3 (1000) on pod-7, serialized by mrlock",
        "3 calls, 1 failed; 3 ms from the first to the last; inside for 2 ms in all; longest wait 1.5 ms",
    ] {
        assert!(texts.iter().any(|text| text == line), "{line} in {texts:?}");
    }
    for title in [
        "ibv_reg_mr_iova2 on mlx5_0, inside 400 us, 4 MiB at 0x7f0000000000",
        "waited 1.5 ms for ibv_reg_mr_iova2",
        "ibv_reg_mr_iova2, inside 600 us, failed",
    ] {
        assert!(
            svg.contains(&format!("<title>{title}</title>"))
                || texts.iter().any(|text| text == title),
            "{title}"
        );
    }
}

/// A thread within a call of its own is one thread.
#[test]
fn a_call_within_a_call_is_not_an_overlap() {
    let mut trace = Trace::new("on");
    trace
        .inside(1, 0, 400, "mlx5_0")
        .inside(1, 100, 200, "uverbs0");
    trace.inside(2, 400, 100, "mlx5_1");
    assert_eq!(
        trace.sentences("svg"),
        ["never more than 1 thread in the kernel at once"]
    );
}

/// No lock is between processes: one is inside in the first process, two in the second. The second one lives an hour later, and
/// for a hundredth of the time of the first.
#[test]
fn each_process_has_its_own_rows_numbers_strip_and_time() {
    needs!(PIXELS, browser());
    let mut trace = Trace::new("on");
    trace.inside(1, 0, 40_000, "mlx5_0");
    let hour = 3_600_000_000;
    trace.process(2000, "observe", "worker");
    trace
        .inside(2001, hour, 400, "mlx5_0")
        .inside(2002, hour + 200, 200, "mlx5_1");
    assert_eq!(
        trace.sentences("svg"),
        [
            "never more than 1 thread in the kernel at once",
            "2 threads in the kernel at once"
        ]
    );
    let (_, svg) = trace.drawn("svg");
    let texts = texts(&svg);
    for line in [
        "worker (2000) on pod-7, observed: mrlock serialized nothing",
        "2 calls; 400 us from the first to the last; inside for 600 us in all; none waited",
        "begins 3600 s after the first process",
    ] {
        assert!(texts.iter().any(|text| text == line), "{line} in {texts:?}");
    }
    assert!(!texts.iter().any(|text| text.contains("without calls")));
    let picture = trace.rendered("svg", Scheme::Light);
    let width = |thread| picture.row_runs(thread)[0].len();
    let whole = width(1);
    assert!(whole > 700, "{whole}");
    assert_eq!(width(2001), whole);
    assert!(width(2002).abs_diff(whole / 2) <= 1, "{}", width(2002));
}

/// Before and after: four times as long is four times as wide, and four at once are four times as high.
#[test]
fn two_processes_beside_each_other_have_one_scale() {
    needs!(PIXELS, browser());
    let mut trace = Trace::new("observe");
    for thread in [1, 2, 5, 6] {
        trace.inside(thread, 0, 100, "mlx5_0");
    }
    trace.process(2000, "on", "python3");
    trace.waits(4, 7000, 200).inside(3, 7000, 200, "mlx5_0");
    trace.inside(4, 7200, 200, "mlx5_1");
    trace.beside = true;
    trace.end = 400;
    let picture = trace.rendered("svg", Scheme::Light);
    let width = |thread| picture.row_runs(thread)[0].len();
    let whole = width(3) + width(4);
    assert!(whole > 700, "{whole}");
    for thread in [1, 2] {
        assert!(width(thread).abs_diff(whole / 4) <= 1, "{}", width(thread));
    }
    let plots: Vec<_> = picture.svg.match_indices("class=\"plot\"").collect();
    let [before, after] = [plots[0].0, plots[1].0].map(|at| picture.strip_of(at, 50));
    assert!(
        after > 10 && before.abs_diff(4 * after) <= 2,
        "{before} {after}"
    );
    assert_eq!(
        trace.sentences("svg"),
        [
            "4 threads in the kernel at once",
            "never more than 1 thread in the kernel at once"
        ]
    );
    // For Perfetto, each begins at 0.
    let starts = |trace: &Trace, pid: u64| -> Vec<f64> {
        let json: Value = serde_json::from_str(&trace.drawn("json").1).expect("JSON");
        let events = json["traceEvents"].as_array().expect("an array");
        let slices = events
            .iter()
            .filter(|it| it["ph"] == "X" && it["pid"] == pid);
        let starts = slices.map(|it| it["ts"].as_f64().expect("a number"));
        starts.collect()
    };
    assert_eq!(starts(&trace, 1000), [0.0; 4]);
    assert_eq!(starts(&trace, 2000), [0.0, 0.0, 200.0]);
    trace.beside = false;
    assert_eq!(starts(&trace, 1000), [0.0; 4]);
    assert_eq!(starts(&trace, 2000), [7000.0, 7000.0, 7200.0]);
}

#[test]
fn a_long_time_without_calls_is_cut_out() {
    needs!(PIXELS, browser());
    let mut trace = Trace::new("on");
    let hour = 3_600_000_000;
    trace
        .inside(1, 0, 400, "mlx5_0")
        .inside(2, hour, 600, "mlx5_1");
    let (_, svg) = trace.drawn("svg");
    assert!(
        texts(&svg)
            .iter()
            .any(|text| text.ends_with("s without calls")),
        "{svg}"
    );
    let picture = trace.rendered("svg", Scheme::Light);
    let (first, second) = (picture.row_runs(1), picture.row_runs(2));
    // 400 and 600 microseconds share the width.
    let (first, second) = (first[0].len() as f64, second[0].len() as f64);
    assert!(
        (first / second - 2.0 / 3.0).abs() < 0.01 && first + second > 680.0,
        "{first} and {second}"
    );
}

// Many calls

#[test]
fn of_64_threads_with_many_calls_the_picture_stays_small_and_hides_no_overlap() {
    needs!(PIXELS, browser());
    let mut trace = Trace::new("on");
    for call in 0..64_000 {
        let thread = call % 64 + 1;
        if call >= 64 {
            trace.waits(thread, (call - 63) * 10, 630);
        }
        trace.inside(thread, call * 10, 10, "mlx5_0");
    }
    let (_, svg) = trace.drawn("svg");
    assert!(svg.len() < 1_000_000, "{} bytes", svg.len());
    let picture = trace.rendered("svg", Scheme::Light);
    let one = picture.strip(320_000);
    assert!((1..640).all(|time| picture.strip(time * 1000) == one));
    // Inside for a 64th of the time: nearly as pale as waiting, but not the same colour.
    let (page, waiting) = (picture.page(), picture.legend("waiting"));
    let row = picture.row(32, 320_000);
    assert!(
        row != waiting && row.distance(waiting) < 120,
        "{row:?}, waiting {waiting:?}"
    );
    assert!(row.distance(page) > 30);

    // A microsecond in 640 milliseconds.
    trace.inside(65, 320_000, 1, "mlx5_1");
    let picture = trace.rendered("svg", Scheme::Light);
    assert_eq!(trace.sentences("svg"), ["2 threads in the kernel at once"]);
    let peak = (319_000..321_000)
        .step_by(100)
        .map(|time| picture.strip(time))
        .max();
    assert_eq!(peak, Some(2 * one));
}

#[test]
fn of_thousands_of_threads_the_first_are_drawn_and_all_are_counted() {
    let mut trace = Trace::new("on");
    for thread in 0..3000 {
        trace.inside(thread + 1, thread * 10, 10, "mlx5_0");
    }
    let (_, svg) = trace.drawn("svg");
    assert_eq!(svg.matches("data-thread").count(), 128);
    let texts = texts(&svg);
    assert!(
        texts.iter().any(|text| text.starts_with("3,000 calls; ")),
        "{texts:?}"
    );
    assert!(
        texts.contains(&"and 2872 more threads, which the numbers and the strip include".into()),
        "{texts:?}"
    );
}

// Traces that are not as they should be

/// The program is the demo's: its device dies when two threads are inside at once.
#[test]
fn a_crash_is_drawn_with_the_calls_that_were_under_way() {
    let file = scratch("crash.rec");
    let program = client("stress").preloaded().env("MRLOCK", "observe");
    let outcome = program.env("MRLOCK_TRACE", &file).run();
    assert!(outcome.segfaulted(), "{outcome:#?}");
    let draw = |kind: &str| {
        let output = scratch("crash").with_extension(kind);
        let command = Program::new(mrlock()).arg("timeline").arg(&file);
        command.arg("-o").arg(&output).run().succeeded("timeline");
        fs::read_to_string(&output).expect("a file")
    };
    let svg = draw("svg");
    let texts = texts(&svg);
    assert!(
        texts[0].ends_with(" threads in the kernel at once"),
        "{texts:?}"
    );
    // A hatched bar for each, and one in the legend.
    let calls = svg.matches("class=\"under-way\"").count() - 1;
    assert!(calls >= 2, "{svg}");
    let note = format!("the trace ends while {calls} calls are under way");
    assert!(texts.contains(&note), "{note}: {texts:?}");
    // For Perfetto: the same calls, names of threads, and the number inside.
    let json: Value = serde_json::from_str(&draw("json")).expect("JSON");
    let events = json["traceEvents"].as_array().expect("an array");
    let count = |is: &dyn Fn(&Value) -> bool| events.iter().filter(|event| is(event)).count();
    let under_way = |event: &Value| {
        let name = event["name"].as_str().unwrap_or_default();
        event["args"]["under_way"] == true && name.ends_with(" (under way)")
    };
    assert_eq!(count(&under_way), calls);
    let labels = |event: &Value| event["args"]["labels"].as_str().map(str::to_owned);
    let labels = events.iter().find_map(labels).expect("labels");
    assert!(labels.contains(&note), "{labels}");
    assert!(count(&|event| event["name"] == "thread_name") >= 2);
    assert!(count(&|event| event["ph"] == "C") >= 2);
}

#[test]
fn what_is_no_record_is_named_with_the_reason() {
    let mut record = fs::read(made_record()).expect("a record");
    let cut = record[..record.len() / 2].to_vec();
    let old = b"[\n{\"name\":\"process_name\",\"ph\":\"M\"},\n".to_vec();
    let garbage = b"no record at all, only text".to_vec();
    let mut version = record.clone();
    version[8] = 99;
    record.clear();
    for (bytes, why) in [
        (cut, "bytes"),
        (garbage, "no record of mrlock"),
        (old, "no record of mrlock"),
        (version, "version 99"),
        (record, "no record of mrlock"),
    ] {
        let file = scratch("damaged");
        fs::write(&file, bytes).expect("a scratch file");
        let outcome = Program::new(mrlock()).arg("timeline").arg(&file).run();
        assert_eq!(outcome.status.code(), Some(1), "{outcome:#?}");
        let line = outcome.stderr;
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(line.contains(why) && line.contains("damaged"), "{line}");
    }
}

/// A record that the library has written.
fn made_record() -> PathBuf {
    let file = scratch("made.rec");
    let program = client("stress").args(["-t", "2", "-n", "4"]).preloaded();
    let program = program.env("MRLOCK_TRACE", &file);
    program.run().succeeded("a recorded program");
    file
}

/// Standard input in each form, also beside a file.
#[test]
fn several_records_and_standard_input_are_drawn() {
    let [one, two] = [made_record(), made_record()];
    let draw = |kind: &str, files: &str| {
        let output = scratch("two").with_extension(kind);
        let script = format!(r#"exec "$0" timeline {files} -o "$1" <"$3""#);
        let command = Program::new("sh").args(["-c", &script]).arg(mrlock());
        let command = command.arg(&output).arg(&one).arg(&two);
        let outcome = command.run().succeeded(files);
        assert_eq!(outcome.stderr, "");
        fs::read_to_string(&output).expect("a picture")
    };
    for (files, many) in [
        (r#""$2" "$3""#, 2),
        ("-", 1),
        (r#""$2" -"#, 2),
        (r#"--beside - "$2""#, 2),
    ] {
        for kind in ["svg", "html"] {
            let picture = draw(kind, files);
            let sentence = "never more than 1 thread in the kernel at once";
            assert_eq!(picture.matches("class=\"plot\"").count(), many, "{files}");
            assert_eq!(picture.matches(sentence).count(), many, "{files}");
        }
        let json: Value = serde_json::from_str(&draw("json", files)).expect("JSON");
        let processes = json["otherData"]["processes"].as_array();
        assert_eq!(processes.map(Vec::len), Some(many), "{files}");
    }
}

/// Two containers on one volume, each with a process 1: with one process id, Perfetto would draw them as one process.
#[test]
fn of_two_containers_the_processes_stay_apart() {
    let mut trace = Trace::new("on");
    for (namespace, host) in [(7, "pod-a"), (8, "pod-b"), (9, "pod-c")] {
        trace.process(1, "observe", "server");
        let record = trace.records.last_mut().expect("one");
        (record.namespace, record.host) = (namespace, host.into());
        trace
            .inside(1, 0, 400, "mlx5_0")
            .inside(2, 0, 300, "mlx5_1");
    }
    trace.records.remove(0);
    let last = trace.records.last_mut().expect("one");
    last.overwritten = 1234;
    let (_, text) = trace.drawn("json");
    let json: Value = serde_json::from_str(&text).expect("JSON");
    let events = json["traceEvents"].as_array().expect("an array");
    let named = events.iter().filter(|it| it["name"] == "process_name");
    let mut names: Vec<_> = named
        .map(|it| {
            let name = it["args"]["name"].as_str().expect("a name");
            (it["pid"].as_u64().expect("a number"), name.to_owned())
        })
        .collect();
    names.sort_by(|one, other| one.1.cmp(&other.1));
    let texts: Vec<_> = names.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(
        texts,
        [
            "server (1) on pod-a, pid namespace 7",
            "server (1) on pod-b, pid namespace 8",
            "server (1) on pod-c, pid namespace 9",
        ]
    );
    assert!(names[0].0 != names[1].0 && names[1].0 != names[2].0 && names[0].0 != names[2].0);
    for (pid, _) in &names {
        // Perfetto keeps 32 bits.
        assert!(u32::try_from(*pid).is_ok());
        let calls = events
            .iter()
            .filter(|it| it["ph"] == "X" && it["pid"] == *pid);
        assert_eq!(calls.count(), 2);
        let steps = events
            .iter()
            .filter(|it| it["ph"] == "C" && it["pid"] == *pid);
        let inside: Vec<_> = steps.map(|it| it["args"]["threads"].as_u64()).collect();
        assert_eq!(inside, [Some(1), Some(2), Some(1), Some(0)]);
    }
    // What the ring lost is said, in each form.
    let others = json["otherData"]["processes"].as_array().expect("an array");
    let lost: Vec<_> = others.iter().map(|it| it["overwritten"].as_u64()).collect();
    assert_eq!(lost, [Some(0), Some(0), Some(1234)]);
    assert_eq!(text.matches("1,234 calls were overwritten").count(), 1);
    let (_, svg) = trace.drawn("svg");
    assert_eq!(svg.matches("1,234 calls were overwritten").count(), 1);
}

/// Each call is as long as one may be. Two of them are more than 64 bits of nanoseconds.
#[test]
fn times_that_have_no_sum_are_drawn() {
    let mut trace = Trace::new("observe");
    for thread in 1..=4 {
        trace.inside(thread, 0, u64::MAX / 1000, "mlx5_0");
    }
    for beside in [false, true] {
        trace.beside = beside;
        assert_eq!(trace.sentences("svg"), ["4 threads in the kernel at once"]);
    }
}

#[test]
fn names_are_text_and_never_markup() {
    needs!(PIXELS, browser());
    let mut trace = Trace::new("on");
    trace.records[0].name = "</text><rect/>&amp;\u{1}\"' ".into();
    trace.inside(1, 0, 400, "<mlx5_0>&");
    let picture = trace.rendered("svg", Scheme::Light);
    assert_eq!(
        picture.row(1, 200),
        picture.legend("&lt;mlx5_0&gt;&amp;, 1 call")
    );
}

#[test]
fn the_files_need_nothing_else() {
    let mut trace = Trace::new("on");
    trace.inside(1, 0, 400, "mlx5_0");
    for kind in ["svg", "html"] {
        let (_, text) = trace.drawn(kind);
        let text = text.replace("http://www.w3.org/2000/svg", "");
        for foreign in ["http", "url(", "@import", "<script", "src="] {
            assert!(!text.contains(foreign), "{foreign} in {text}");
        }
    }
}

#[test]
fn errors_name_the_file_and_what_to_do() {
    let mut trace = Trace::new("on");
    let empty = trace.written().remove(0);
    let line = |input: &Path, output: &Path, status: i32, parts: &[&str]| {
        let outcome = Program::new(mrlock())
            .arg("timeline")
            .arg(input)
            .arg("-o")
            .arg(output)
            .run();
        assert_eq!(outcome.status.code(), Some(status), "{outcome:#?}");
        let line = outcome.stderr;
        assert_eq!(line.lines().count(), 1, "{line}");
        for part in parts {
            assert!(line.contains(part), "{part} in {line}");
        }
    };
    let (missing, svg) = (scratch("missing"), scratch("x.svg").with_extension("svg"));
    line(
        &missing,
        &svg,
        1,
        &[missing.to_str().expect("text"), "there is no such file"],
    );
    line(&empty, &svg, 1, &["no call in it", "mrlock run --trace"]);
    trace.inside(1, 0, 400, "mlx5_0");
    let good = trace.written().remove(0);
    line(&good, Path::new("x.png"), 2, &["x.png", ".svg or .html"]);
    line(
        &good,
        Path::new("/nowhere/x.svg"),
        1,
        &["/nowhere/x.svg", "can be written"],
    );
    assert!(!svg.exists());
}

// A trace

/// Records of MRLOCK_TRACE. Times are microseconds from the beginning, threads are numbers from 1 on.
#[derive(Default)]
struct Trace {
    records: Vec<Record>,
    /// Whether --beside is given.
    beside: bool,
    /// The last time on the axis.
    end: u64,
}

/// The record of a process.
#[derive(Default)]
struct Record {
    process: u64,
    namespace: u64,
    host: String,
    name: String,
    mode: String,
    devices: Vec<String>,
    calls: Vec<Call>,
    /// Until when each thread has waited, and how long.
    waits: BTreeMap<u64, u64>,
    overwritten: u64,
}

struct Call {
    thread: u64,
    start: u64,
    length: u64,
    waited: u64,
    /// The index plus one.
    device: usize,
    flags: u64,
}

/// On CLOCK_MONOTONIC, in nanoseconds; and since 1970.
const BEGINNING: u64 = 5_000_000_000;
const DATE: u64 = 1_790_000_000_000_000_000;

impl Record {
    fn bytes(&self) -> Vec<u8> {
        let size = size_of::<l::Record>();
        let many = self.calls.len().max(1);
        let mut bytes = vec![0; size + many * size_of::<l::Event>()];
        let mut put = |offset: usize, words: &[u8]| {
            bytes[offset..offset + words.len()].copy_from_slice(words);
        };
        let written = self.overwritten + self.calls.len() as u64;
        for (offset, word) in [
            (offset_of!(l::Record, header.magic), l::MAGIC),
            (offset_of!(l::Record, header.version), l::VERSION),
            (offset_of!(l::Record, header.size), size as u64),
            (offset_of!(l::Record, header.state), l::ENDED),
            (offset_of!(l::Record, header.capacity), many as u64),
            (offset_of!(l::Record, header.events), written),
            (offset_of!(l::Record, header.process), self.process),
            (offset_of!(l::Record, header.namespace), self.namespace),
            (offset_of!(l::Record, header.monotonic), BEGINNING),
            (offset_of!(l::Record, header.realtime), DATE),
            (
                offset_of!(l::Record, operations) + offset_of!(l::Operation, kind),
                l::KIND_REGISTRATION,
            ),
        ] {
            put(offset, &word.to_ne_bytes());
        }
        put(offset_of!(l::Record, header.program), self.name.as_bytes());
        put(offset_of!(l::Record, header.host), self.host.as_bytes());
        let settings = format!("MRLOCK={} MRLOCK_CALLS=reg,dereg", self.mode);
        put(offset_of!(l::Record, settings), settings.as_bytes());
        put(offset_of!(l::Record, operations), b"ibv_reg_mr_iova2");
        for (index, name) in self.devices.iter().enumerate() {
            let at = offset_of!(l::Record, devices) + index * size_of::<l::Device>();
            put(at, name.as_bytes());
        }
        for (number, call) in (self.overwritten..).zip(&self.calls) {
            let at = size + (number as usize % many) * size_of::<l::Event>();
            for (offset, word) in [
                (offset_of!(l::Event, sequence), number + 1),
                (offset_of!(l::Event, thread), call.thread),
                (offset_of!(l::Event, since), BEGINNING + call.start * 1000),
                (offset_of!(l::Event, duration), call.length * 1000),
                (offset_of!(l::Event, waited), call.waited * 1000),
                (offset_of!(l::Event, device), call.device as u64),
                (offset_of!(l::Event, flags), call.flags),
            ] {
                put(at + offset, &word.to_ne_bytes());
            }
            if call.device > 0 {
                let memory = [0x7f00_0000_0000_u64, 4 << 20].map(u64::to_ne_bytes);
                put(at + offset_of!(l::Event, address), memory.as_flattened());
            }
        }
        bytes
    }
}

impl Trace {
    fn new(mode: &str) -> Self {
        let mut trace = Self::default();
        trace.process(1000, mode, "python3");
        trace
    }

    /// The process that the next calls belong to.
    fn process(&mut self, id: u64, mode: &str, name: &str) {
        self.records.push(Record {
            process: id,
            host: "pod-7".into(),
            name: name.into(),
            mode: mode.into(),
            ..Record::default()
        });
    }

    fn call(&mut self, thread: u64, start: u64, length: u64, device: &str, flags: u64) {
        self.end = self.end.max(start.saturating_add(length));
        let record = self.records.last_mut().expect("a process");
        let known = record.devices.iter().position(|name| name == device);
        let device = match known {
            Some(index) => index + 1,
            None if device.is_empty() => 0,
            None => {
                record.devices.push(device.into());
                record.devices.len()
            }
        };
        record.calls.push(Call {
            thread,
            start,
            length,
            waited: record.waits.remove(&thread).unwrap_or(0),
            device,
            flags,
        });
    }

    fn inside(&mut self, thread: u64, start: u64, length: u64, device: &str) -> &mut Self {
        self.call(thread, start, length, device, 0);
        self
    }

    fn failing(&mut self, thread: u64, start: u64, length: u64) -> &mut Self {
        self.call(thread, start, length, "", l::FAILED);
        self
    }

    /// Before the thread's next call.
    fn waits(&mut self, thread: u64, start: u64, length: u64) -> &mut Self {
        let record = self.records.last_mut().expect("a process");
        let earlier = record.waits.insert(thread, length);
        assert!(earlier.is_none(), "from {start} on");
        self
    }

    /// A file for each process.
    fn written(&self) -> Vec<PathBuf> {
        let write = |record: &Record| {
            let path = scratch("trace");
            fs::write(&path, record.bytes()).expect("a scratch file");
            path
        };
        self.records.iter().map(write).collect()
    }

    /// What `mrlock timeline` did, and what it drew.
    fn drawn(&self, kind: &str) -> (Outcome, String) {
        let output = scratch("picture").with_extension(kind);
        let mut command = Program::new(mrlock()).arg("timeline");
        if self.beside {
            command = command.arg("--beside");
        }
        let command = self.written().iter().fold(command, Program::arg);
        let outcome = command.arg("-o").arg(&output).run().succeeded("timeline");
        let picture = fs::read_to_string(&output).expect("a picture");
        (outcome, picture)
    }

    /// The sentence of each process.
    fn sentences(&self, kind: &str) -> Vec<String> {
        let texts = texts(&self.drawn(kind).1);
        let sentences = texts.into_iter();
        sentences
            .filter(|text| text.contains("in the kernel at once"))
            .collect()
    }

    fn rendered(&self, kind: &str, scheme: Scheme) -> Picture {
        Picture::new(&self.drawn(kind).1, kind, scheme, self.end)
    }
}

/// The texts in the picture, in their order.
fn texts(svg: &str) -> Vec<String> {
    let elements = svg.split("<text").skip(1);
    elements
        .filter_map(|element| {
            Some(
                element
                    .split_once('>')?
                    .1
                    .split_once("</text>")?
                    .0
                    .trim()
                    .to_owned(),
            )
        })
        .collect()
}

// A picture

#[derive(Clone, Copy)]
enum Scheme {
    Light,
    Dark,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Colour([u8; 3]);

impl Colour {
    fn distance(self, other: Self) -> u32 {
        let pairs = self.0.into_iter().zip(other.0);
        pairs.map(|(a, b)| u32::from(a.abs_diff(b))).sum()
    }

    fn saturation(self) -> u8 {
        self.0.iter().max().unwrap_or(&0) - self.0.iter().min().unwrap_or(&0)
    }

    fn brightness(self) -> u32 {
        self.0.iter().map(|&part| u32::from(part)).sum()
    }
}

/// A picture as the browser shows it.
struct Picture {
    svg: String,
    width: usize,
    pixels: Vec<u8>,
    /// The length of the axis, in microseconds.
    end: u64,
}

impl Picture {
    fn new(text: &str, kind: &str, scheme: Scheme, end: u64) -> Self {
        let file = scratch("rendered").with_extension(kind);
        fs::write(&file, text).expect("a scratch file");
        let (image, profile) = (
            scratch("screenshot").with_extension("png"),
            scratch("profile"),
        );
        let (width, height) = (840, number(text, "height") as usize);
        let mut browser = Command::new("timeout");
        browser.args([
            "--kill-after=5",
            "100",
            "chromium",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
        ]);
        browser.args([
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ]);
        browser.args(["--hide-scrollbars", "--force-device-scale-factor=1"]);
        browser.arg(format!(
            "--blink-settings=preferredColorScheme={}",
            match scheme {
                Scheme::Dark => 0,
                Scheme::Light => 1,
            }
        ));
        browser.arg(format!("--user-data-dir={}", profile.display()));
        browser.arg(format!("--screenshot={}", image.display()));
        browser.arg(format!("--window-size={width},{height}"));
        browser.arg(format!("file://{}", file.display()));
        let output = browser.output().expect("chromium");
        let _ = fs::remove_dir_all(&profile);
        let image = File::open(&image).unwrap_or_else(|error| {
            panic!(
                "chromium made no screenshot: {error}: {}",
                String::from_utf8_lossy(&output.stderr)
            )
        });
        let mut decoder = png::Decoder::new(BufReader::new(image));
        decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::ALPHA);
        let mut reader = decoder.read_info().expect("a PNG");
        let mut pixels = vec![0; reader.output_buffer_size().expect("a small picture")];
        let info = reader.next_frame(&mut pixels).expect("a PNG");
        assert_eq!((info.width as usize, info.height as usize), (width, height));
        assert_eq!(pixels.len(), width * height * 4);
        Self {
            svg: text.into(),
            width,
            pixels,
            end,
        }
    }

    fn at(&self, x: f64, y: f64) -> Colour {
        let start = (y as usize * self.width + x as usize) * 4;
        Colour([
            self.pixels[start],
            self.pixels[start + 1],
            self.pixels[start + 2],
        ])
    }

    /// Its background, in a corner of the plot's margin.
    fn page(&self) -> Colour {
        self.at(12.0, 60.0)
    }

    /// x, y, width, height of the frame around the strip.
    fn plot(&self) -> [f64; 4] {
        let at = self.svg.find("class=\"plot\"").expect("a plot");
        ["x", "y", "width", "height"].map(|name| number(&self.svg[at..], name))
    }

    /// Where this time is.
    fn x(&self, time: u64) -> f64 {
        let [x, _, width, _] = self.plot();
        (x + width * time as f64 / self.end as f64).min(x + width - 1.0)
    }

    /// The middle of a thread's row.
    fn row_y(&self, thread: u64) -> f64 {
        let group = format!("data-thread=\"{thread}\"");
        let at = self
            .svg
            .find(&group)
            .unwrap_or_else(|| panic!("no {group}"));
        number(&self.svg[at..], "y1") + 2.0
    }

    fn row(&self, thread: u64, time: u64) -> Colour {
        self.at(self.x(time), self.row_y(thread))
    }

    /// Where the row is neither empty nor pale.
    fn row_runs(&self, thread: u64) -> Vec<Range<usize>> {
        let (y, page) = (self.row_y(thread), self.page());
        let mut runs: Vec<Range<usize>> = Vec::new();
        for x in (0..self.width).filter(|&x| x > 104 && self.at(x as f64, y).distance(page) > 150) {
            match runs.last_mut() {
                Some(run) if run.end == x => run.end = x + 1,
                _ => runs.push(x..x + 1),
            }
        }
        runs
    }

    /// The colour of the square beside this text.
    fn legend(&self, label: &str) -> Colour {
        let at = self
            .svg
            .find(&format!(">{label}<"))
            .or_else(|| self.svg.find(&format!(">\n{label}\n<")));
        let at = at.unwrap_or_else(|| panic!("no {label} in {}", self.svg));
        let text = &self.svg[self.svg[..at].rfind("<text").expect("a text")..];
        self.at(number(text, "x") - 12.0, number(text, "y") - 4.5)
    }

    /// How high the strip is, in pixels.
    fn strip(&self, time: u64) -> usize {
        self.strip_of(0, time)
    }

    /// The same of the first plot from here on.
    fn strip_of(&self, from: usize, time: u64) -> usize {
        let at = from + self.svg[from..].find("class=\"plot\"").expect("a plot");
        let [y, height] = ["y", "height"].map(|name| number(&self.svg[at..], name));
        let page = self.page();
        let column = (1..height as usize)
            .take_while(|&up| self.at(self.x(time), y + height - up as f64).distance(page) > 100);
        column.count()
    }

    fn strip_colour(&self, time: u64, up: usize) -> Colour {
        let [_, y, _, height] = self.plot();
        self.at(self.x(time), y + height - up as f64)
    }
}

/// The value of the first attribute with this name.
fn number(svg: &str, name: &str) -> f64 {
    let start = format!(" {name}=\"");
    let at = svg
        .find(&start)
        .unwrap_or_else(|| panic!("no {name} in {svg}"))
        + start.len();
    let text = svg[at..].split('"').next().unwrap_or_default();
    text.parse().unwrap_or_else(|_| panic!("{name}={text:?}"))
}
