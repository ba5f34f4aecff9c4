//! `mrlock timeline`: the pictures are rendered by a browser, and the tests look at the pixels that matter.

use crate::common::{
    Outcome, Program, client,
    machine::{Need, program},
    mrlock, scratch,
};
use serde_json::Value;
use std::{
    fmt::Write as _,
    fs::{self, File},
    io::BufReader,
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
fn the_curve_is_as_high_as_threads_are_inside_at_once() {
    needs!(PIXELS, browser());
    let mut trace = Trace::new("observe");
    trace
        .inside(1, 0, 400, "mlx5_0")
        .inside(1, 600, 200, "mlx5_0");
    trace
        .inside(2, 200, 400, "mlx5_1")
        .inside(3, 900, 100, "mlx5_2");
    let picture = trace.rendered("svg", Scheme::Light);
    let one = picture.curve(100);
    assert!(one > 10, "{one}");
    // Two, one, one at a time although one comes when the other leaves, none, one.
    for (time, inside) in [(300, 2), (500, 1), (700, 1), (850, 0), (950, 1)] {
        let height = picture.curve(time);
        assert!(
            height.abs_diff(one * inside) <= 1,
            "{time}: {height}, and one is {one}"
        );
    }
    // At 600, one thread leaves as the other enters.
    assert!((590..610).all(|time| picture.curve(time).abs_diff(one) <= 1));
    // An overlap has another colour than one thread alone.
    assert_ne!(
        picture.curve_colour(300, one + one / 2),
        picture.curve_colour(300, one / 2)
    );
    assert_eq!(
        picture.curve_colour(300, one / 2),
        picture.curve_colour(100, one / 2)
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
    for (label, number) in [
        ("calls", "3"),
        ("failed", "1"),
        ("inside in all", "2 ms"),
        ("longest wait", "1.5 ms"),
        ("inside at once, at most", "1"),
        ("serialized by mrlock", "python3 (1000)"),
    ] {
        let before = texts
            .windows(2)
            .find(|pair| pair[1] == label)
            .map(|pair| pair[0].as_str());
        assert_eq!(before, Some(number), "{label} in {texts:?}");
    }
    for title in [
        "ibv_reg_mr_iova2 on mlx5_0, inside 400 us, 4 MiB at 0x7f0000000000",
        "waited 1.5 ms for ibv_reg_mr_iova2",
        "ibv_reg_mr, inside 600 us, failed",
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
    assert_eq!(trace.most_at_once(), ["1"]);
}

#[test]
fn each_process_has_its_own_rows_numbers_and_curve() {
    let mut trace = Trace::new("on");
    trace.inside(1, 0, 400, "mlx5_0");
    trace.process(2000, "observe", "worker");
    trace
        .inside(2001, 100, 400, "mlx5_0")
        .inside(2002, 200, 400, "mlx5_1");
    // One is inside in the first process, two in the second: no lock is between them.
    assert_eq!(trace.most_at_once(), ["1", "2"]);
    let (_, svg) = trace.drawn("svg");
    assert_eq!(svg.matches("class=\"plot\"").count(), 2);
    let texts = texts(&svg);
    assert!(texts.contains(&"worker (2000)".into()), "{texts:?}");
    assert!(
        texts.contains(&"observed: mrlock serialized nothing".into()),
        "{texts:?}"
    );
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
        (first / second - 2.0 / 3.0).abs() < 0.01 && first + second > 900.0,
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
    let one = picture.curve(320_000);
    assert!((1..640).all(|time| picture.curve(time * 1000) == one));
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
    assert_eq!(trace.most_at_once(), ["2"]);
    let peak = (319_000..321_000)
        .step_by(100)
        .map(|time| picture.curve(time))
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
    assert!(texts.contains(&"3,000".into()), "{texts:?}");
    assert!(
        texts.contains(&"and 2872 more threads, which the numbers and the curve include".into()),
        "{texts:?}"
    );
}

// Traces that are not as they should be

#[test]
fn a_trace_that_ends_within_an_event_is_drawn_up_to_there() {
    let mut trace = Trace::new("on");
    trace
        .inside(1, 0, 400, "mlx5_0")
        .inside(2, 400, 400, "mlx5_1");
    let (_, whole) = trace.drawn("svg");
    let length = trace.text.len();
    trace.inside(3, 800, 400, "mlx5_2");
    // Without ",\n" the event is whole.
    for end in length..trace.text.len() - 2 {
        let cut = Trace {
            text: trace.text[..end].into(),
            ..Trace::default()
        };
        let (outcome, svg) = cut.drawn("svg");
        assert_eq!(outcome.stderr, "");
        assert!(svg == whole, "cut after {:?}", &trace.text[length..end]);
    }
}

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
    let title = texts.iter().find(|text| text.contains("under way"));
    let title = title.unwrap_or_else(|| panic!("{texts:?}"));
    assert!(title.contains(" threads in the kernel at once"), "{title}");
    let calls = svg.matches("class=\"under-way\"").count();
    assert!(calls >= 2, "{svg}");
    // For Perfetto: a closed array, with the same calls, names of threads, and the number inside.
    let events: Value = serde_json::from_str(&draw("json")).expect("JSON");
    let events = events.as_array().expect("an array");
    let count = |is: &dyn Fn(&Value) -> bool| events.iter().filter(|event| is(event)).count();
    assert_eq!(count(&|event| event["args"]["under_way"] == true), calls);
    assert!(count(&|event| event["name"] == "thread_name") >= 2);
    assert!(count(&|event| event["ph"] == "C") >= 2);
}

#[test]
fn what_is_no_record_is_named_with_the_reason() {
    let mut record = fs::read(made_record()).expect("a record");
    let cut = record[..record.len() / 2].to_vec();
    let garbage = b"no record at all, only text".to_vec();
    let mut version = record.clone();
    version[8] = 99;
    record.clear();
    for (bytes, why) in [
        (cut, "bytes"),
        (garbage, "no record of mrlock"),
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

#[test]
fn several_records_and_standard_input_are_drawn() {
    let files = [made_record(), made_record()];
    let output = scratch("two.svg").with_extension("svg");
    let command = Program::new(mrlock()).arg("timeline");
    let command = files.iter().fold(command, Program::arg);
    command
        .arg("-o")
        .arg(&output)
        .run()
        .succeeded("two records");
    let svg = fs::read_to_string(&output).expect("a picture");
    assert_eq!(svg.matches("class=\"plot\"").count(), 2);
    assert_eq!(svg.matches("never more than 1 inside").count(), 2);
    let script = r#""$0" timeline - -o "$1" <"$2""#;
    let command = Program::new("sh").args(["-c", script]).arg(mrlock());
    let piped = command.arg(&output).arg(&files[0]);
    piped.run().succeeded("standard input");
    let svg = fs::read_to_string(&output).expect("a picture");
    assert_eq!(svg.matches("class=\"plot\"").count(), 1);
}

#[test]
fn a_closed_array_is_a_trace_as_well() {
    let mut trace = Trace::new("on");
    trace.inside(1, 0, 400, "mlx5_0");
    let (_, open) = trace.drawn("svg");
    let closed = trace.text.trim_end().trim_end_matches(',').to_owned() + "]\n";
    let (outcome, svg) = Trace {
        text: closed,
        ..Trace::default()
    }
    .drawn("svg");
    assert!(outcome.stderr.is_empty() && svg == open);
}

#[test]
fn lines_that_are_no_events_are_left_out_and_counted() {
    let mut trace = Trace::new("on");
    let wrong = [
        "garbage",
        r#"{"name":"x","cat":"inside","ph":"X","ts":-5,"dur":1,"pid":1,"tid":1},"#,
        r#"{"name":"x","cat":"inside","ph":"X","ts":1e300,"dur":1,"pid":1,"tid":1},"#,
    ];
    for line in wrong {
        trace.text += line;
        trace.text += "\n";
    }
    trace.text +=
        "{\"name\":\"another kind of event\",\"ph\":\"i\",\"ts\":1,\"pid\":1,\"tid\":1},\n";
    trace.inside(1, 0, 400, "mlx5_0");
    let (outcome, svg) = trace.drawn("svg");
    assert!(
        outcome.stderr.contains("left out 3 lines"),
        "{}",
        outcome.stderr
    );
    assert_eq!(svg.matches("data-thread").count(), 1);
}

/// Each slice is as long as one may be. Four of them are more than 64 bits of nanoseconds.
#[test]
fn times_that_have_no_sum_are_drawn() {
    let mut trace = Trace::new("on");
    for thread in 1..=4 {
        trace.text += &format!(
            "{{\"name\":\"x\",\"cat\":\"inside\",\"ph\":\"X\",\"ts\":6e15,\"dur\":6e15,\"pid\":1,\"tid\":{thread}}},\n"
        );
    }
    assert_eq!(trace.most_at_once(), ["4"]);
}

#[test]
fn names_are_text_and_never_markup() {
    needs!(PIXELS, browser());
    let mut trace = Trace::new("on");
    trace.process(1000, "on", r#"</text><rect/>&amp;\u0001\"' "#);
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
    let empty = trace.written();
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
        &[missing.to_str().expect("text"), "No such file"],
    );
    line(&empty, &svg, 1, &["no call in it", "mrlock run --trace"]);
    trace.inside(1, 0, 400, "mlx5_0");
    let good = trace.written();
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

/// What MRLOCK_TRACE writes. Times are microseconds from the beginning, threads are numbers from 1 on.
#[derive(Default)]
struct Trace {
    text: String,
    /// The process that the next slices belong to.
    process: u64,
    end: u64,
}

const BEGINNING: u64 = 5_000_000_000;

impl Trace {
    fn new(mode: &str) -> Self {
        let mut trace = Self {
            text: "[\n".into(),
            ..Self::default()
        };
        trace.process(1000, mode, "python3");
        trace
    }

    fn process(&mut self, id: u64, mode: &str, name: &str) {
        self.process = id;
        self.line(&format!(
            r#"{{"name":"process_name","ph":"M","pid":{id},"tid":{id},"args":{{"name":"{name}","mrlock":"{mode}"}}}}"#
        ));
    }

    fn line(&mut self, event: &str) -> &mut Self {
        let _ = writeln!(self.text, "{event},");
        self
    }

    fn slice(
        &mut self,
        name: &str,
        category: &str,
        thread: u64,
        start: u64,
        length: u64,
        arguments: &str,
    ) -> &mut Self {
        self.end = self.end.max(start + length);
        let process = self.process;
        self.line(&format!(
            r#"{{"name":"{name}","cat":"{category}","ph":"X","ts":{}.000,"dur":{length}.000,"pid":{process},"tid":{thread},"args":{{{arguments}}}}}"#,
            BEGINNING + start
        ))
    }

    fn inside(&mut self, thread: u64, start: u64, length: u64, device: &str) -> &mut Self {
        let arguments = format!(
            r#""device":"{device}","address":"0x7f0000000000","length":4194304,"failed":false"#
        );
        self.slice(
            "ibv_reg_mr_iova2",
            "inside",
            thread,
            start,
            length,
            &arguments,
        )
    }

    fn failing(&mut self, thread: u64, start: u64, length: u64) -> &mut Self {
        self.slice(
            "ibv_reg_mr",
            "inside",
            thread,
            start,
            length,
            r#""failed":true"#,
        )
    }

    fn waits(&mut self, thread: u64, start: u64, length: u64) -> &mut Self {
        self.slice(
            "waiting",
            "waiting",
            thread,
            start,
            length,
            r#""for":"ibv_reg_mr_iova2""#,
        )
    }

    fn written(&self) -> PathBuf {
        let path = scratch("trace");
        fs::write(&path, &self.text).expect("a scratch file");
        path
    }

    /// What `mrlock timeline` did, and what it drew.
    fn drawn(&self, kind: &str) -> (Outcome, String) {
        let output = scratch("picture").with_extension(kind);
        let command = Program::new(mrlock())
            .arg("timeline")
            .arg(self.written())
            .arg("-o")
            .arg(&output);
        let outcome = command.run().succeeded("timeline");
        let picture = fs::read_to_string(&output).expect("a picture");
        (outcome, picture)
    }

    /// The number in each process's panel.
    fn most_at_once(&self) -> Vec<String> {
        let texts = texts(&self.drawn("svg").1);
        let pairs = texts.windows(2);
        pairs
            .filter(|pair| pair[1] == "inside at once, at most")
            .map(|pair| pair[0].clone())
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
        let (width, height) = (1120, number(text, "height") as usize);
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

    /// x, y, width, height of the frame around the curve.
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

    /// How high the curve is, in pixels.
    fn curve(&self, time: u64) -> usize {
        let (page, [_, y, _, height]) = (self.page(), self.plot());
        let column = (1..height as usize)
            .take_while(|&up| self.at(self.x(time), y + height - up as f64).distance(page) > 100);
        column.count()
    }

    fn curve_colour(&self, time: u64, up: usize) -> Colour {
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
