//! The picture: for each process how many threads are inside at once, and below it a row for each thread.

use super::{
    axis::{self, Axis, CUT},
    overlap,
    process::{Process, Slice, What},
    units,
};
use crate::record;
use std::{collections::BTreeMap, fmt::Write as _};
use svg::{
    Document, Node as _,
    node::element::{Group, Line, Path, Rectangle, Style, Text, Title},
};

/// As wide as a page of text: a picture that is made narrower has small letters.
const WIDTH: f64 = 840.0;
const MARGIN: f64 = 20.0;
/// Where the axis of time begins.
const LEFT: f64 = 104.0;
const PLOT_WIDTH: f64 = WIDTH - LEFT - MARGIN;
/// The height of the strip that shows how many threads are inside.
const STRIP: f64 = 64.0;
/// At most so many threads have a row. The numbers and the strip include all threads.
const MOST_ROWS: usize = 128;
/// If there are more slices, they are not drawn one by one: each pixel has a shade for the part of its time that they cover.
const MOST_SLICES: usize = 4000;
/// The number of these shades.
const SHADES: f64 = 4.0;
/// The colours of devices, in the style sheet below.
const COLOURS: usize = 8;

const STYLE: &str = "
svg{color-scheme:light dark;--page:#fff;--ink:#1d2129;--faint:#6b7280;--grid:#e6e8ec;--waiting:#d9dee7;--one:#8b95a5;--more:#d92d20;--other:#4b5563;--d0:#2a6fdb;--d1:#0f9d76;--d2:#d98e04;--d3:#7b4fd6;--d4:#d0518a;--d5:#0891a8;--d6:#8c6d3f;--d7:#6b8e12}
@media (prefers-color-scheme:dark){svg{--page:#14171c;--ink:#e8eaee;--faint:#98a1af;--grid:#2a2f38;--waiting:#3a414d;--one:#7d8796;--more:#ff6b5e;--other:#aab2bf;--d0:#5a9cf5;--d1:#2fc296;--d2:#f0b03a;--d3:#a483f2;--d4:#ee7fb0;--d5:#37bcd3;--d6:#c29c66;--d7:#9fc23a}}
text{font:12px system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,'DejaVu Sans',sans-serif;fill:var(--ink)}
.page{fill:var(--page)}.faint{fill:var(--faint)}.sentence{font-size:18px;font-weight:600}.note{font-weight:600}.tick{font-size:11px;fill:var(--faint);font-variant-numeric:tabular-nums}
.right{text-anchor:end}.middle{text-anchor:middle}.grid{stroke:var(--grid);stroke-width:1}.cut{fill:var(--page)}
.under-way{fill:none;stroke:var(--page);stroke-width:1.5}.waiting{fill:var(--waiting)}.one{fill:var(--one)}.more{fill:var(--more)}.other{fill:var(--other)}
.d0{fill:var(--d0)}.d1{fill:var(--d1)}.d2{fill:var(--d2)}.d3{fill:var(--d3)}.d4{fill:var(--d4)}.d5{fill:var(--d5)}.d6{fill:var(--d6)}.d7{fill:var(--d7)}
";

/// The processes as an SVG file that needs no other file. `beside`: on one time scale.
pub fn draw(processes: &[Process], beside: bool) -> String {
    let devices = devices(processes);
    let slices = processes.iter().map(|process| process.slices().count());
    let one_by_one = slices.sum::<usize>() <= MOST_SLICES;
    let first = processes.iter().map(|process| process.time().0).min();

    // A single thread never fills the height of the strip: one thread at a time should look low.
    let highest = |process: &Process| overlap::most(process).max(2);
    let highest_of_all = processes.iter().map(highest).max();

    let mut content = Group::new();
    let mut y = MARGIN;
    for (process, axis) in processes
        .iter()
        .zip(axis::axes(processes, LEFT, PLOT_WIDTH, beside))
    {
        let panel = Panel {
            process,
            axis,
            devices: &devices,
            one_by_one,
            highest: match beside {
                true => highest_of_all.unwrap_or(2),
                false => highest(process),
            },
            after_the_first: match beside {
                true => 0,
                false => process.time().0 - first.unwrap_or(0),
            },
        };
        y = panel.draw(&mut content, y) + 1.5 * MARGIN;
    }
    y = legend(&mut content, processes, &devices, y) + MARGIN;

    let document = Document::new()
        .set("viewBox", (0, 0, WIDTH, y.ceil()))
        .set("width", WIDTH)
        .set("height", y.ceil())
        .add(Title::new(
            "Memory registrations by thread, made by mrlock timeline",
        ))
        .add(Style::new(STYLE))
        .add(rectangle("page", 0.0, 0.0, WIDTH, y.ceil()).set("rx", 8))
        .add(content);
    format!("{document}\n")
}

/// An HTML page with the picture in it.
pub fn page(picture: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>mrlock timeline</title>\n\
         <style>:root{{color-scheme:light dark}}body{{margin:0}}svg{{display:block;margin:auto;max-width:100%;height:auto}}</style>\n\
         {picture}</html>\n"
    )
}

/// The class of each device, and how many calls it had.
type Devices<'a> = BTreeMap<Option<&'a str>, (String, u64)>;

fn devices(processes: &[Process]) -> Devices<'_> {
    let mut devices = Devices::new();
    for (_, call) in processes.iter().flat_map(Process::calls) {
        devices.entry(call.device.as_deref()).or_default().1 += 1;
    }
    let named = devices.iter_mut().filter(|(device, _)| device.is_some());
    for (index, (_, (class, _))) in named.enumerate() {
        *class = format!("d{}", index % COLOURS);
    }
    if let Some((class, _)) = devices.get_mut(&None) {
        *class = "other".into();
    }
    devices
}

/// One process.
struct Panel<'a> {
    process: &'a Process,
    axis: Axis,
    devices: &'a Devices<'a>,
    one_by_one: bool,
    /// The number of threads at the upper end of the strip.
    highest: usize,
    /// How much later than the first process it made its first call.
    after_the_first: u64,
}

impl Panel<'_> {
    /// Returns where it ends.
    fn draw(&self, content: &mut Group, top: f64) -> f64 {
        let strip = self.head(content, top) + 30.0;

        let mut rows: Vec<_> = self.process.threads.iter().collect();
        rows.sort_by_key(|(_, slices)| slices.first().map(|slice| slice.start));
        let left_out = rows.len().saturating_sub(MOST_ROWS);
        rows.truncate(MOST_ROWS);
        let pitch = (240.0 / rows.len() as f64).clamp(5.0, 18.0);
        let first = strip + STRIP + 26.0;
        let bottom = first + pitch * rows.len() as f64;

        let ticks = self.axis.ticks();
        for &(x, _) in &ticks {
            content.append(line(x, strip, x, bottom));
        }
        self.strip(content, strip);
        content.append(text("faint right", LEFT - 10.0, first - 6.0, "thread"));
        let label_each = (12.0 / pitch).ceil() as usize;
        for (index, (thread, slices)) in rows.iter().enumerate() {
            let y = first + pitch * index as f64;
            if index % label_each == 0 {
                let number = thread.to_string();
                let name = self.process.names.get(thread).unwrap_or(&number);
                // A thread that was given no name has that of the process, which tells nothing.
                let is_given = !self.process.name.starts_with(name.as_str());
                // A name of the kernel has at most 15 characters: more than the margin takes.
                let short: String = name.chars().take(13).collect();
                let short = if is_given { &short } else { &number };
                let label = text("tick right", LEFT - 10.0, y + pitch / 2.0 + 4.0, short);
                let whole = format!("{name} ({number})");
                content.append(label.add(Title::new(printable(&whole))));
            }
            let row = Group::new().set("data-thread", **thread);
            content.append(self.row(row, slices, y + pitch * 0.1, pitch * 0.8));
        }
        // A label that would overlap the one before it is left out.
        let mut free = 0.0;
        for (x, length) in self.axis.cuts() {
            content.append(rectangle("cut", x + 1.0, strip, CUT - 2.0, bottom - strip));
            let note = format!("{} without calls", units::time(length));
            let half = 3.1 * note.len() as f64;
            let middle = (x + CUT / 2.0).min(WIDTH - MARGIN - half);
            if middle - half >= free {
                content.append(text("tick middle", middle, strip - 8.0, &note));
                free = middle + half + 8.0;
            }
        }
        let mut free = 0.0;
        for (x, time) in ticks {
            if x >= free {
                let label = if time == 0 {
                    "0".into()
                } else {
                    units::time(time)
                };
                content.append(text("tick middle", x, bottom + 16.0, &label));
                free = x + 60.0;
            }
        }
        if left_out > 0 {
            let note =
                format!("and {left_out} more threads, which the numbers and the strip include");
            content.append(text("faint", LEFT, bottom + 36.0, &note));
            return bottom + 36.0;
        }
        bottom + 16.0
    }

    /// The sentence, whose calls they are, and the numbers. Returns where it ends.
    fn head(&self, content: &mut Group, top: f64) -> f64 {
        let process = self.process;
        let mut y = top + 16.0;
        content.append(text("sentence", MARGIN, y, &overlap::sentence(process)));
        let mut lines = vec![("faint", format!("{}{}", process.title(), mode(process)))];
        lines.push(("", self.numbers()));
        if self.after_the_first > 0 {
            let time = units::time(self.after_the_first);
            lines.push(("faint", format!("begins {time} after the first process")));
        }
        let notes = process.notes();
        if !notes.is_empty() {
            lines.push(("note", notes.join("; ")));
        }
        for (class, line) in lines {
            y += 18.0;
            content.append(text(class, MARGIN, y, &line));
        }
        y
    }

    fn numbers(&self) -> String {
        let calls = || self.process.calls();
        let many = calls().count() as u64;
        let mut text = match many {
            1 => "1 call".into(),
            many => format!("{} calls", units::count(many)),
        };
        let failed = calls().filter(|(_, call)| call.failed).count() as u64;
        if failed > 0 {
            text += &format!(", {} failed", units::count(failed));
        }
        let (start, end) = self.process.time();
        let inside = calls().map(|(slice, _)| slice.end - slice.start);
        text += &format!(
            "; {} from the first to the last; inside for {} in all",
            units::time(end - start),
            units::time(inside.fold(0, u64::saturating_add))
        );
        let waits = self.process.slices();
        let waits = waits.filter(|slice| matches!(slice.what, What::Waiting(_)));
        let longest_wait = waits.map(|slice| slice.end - slice.start).max();
        match longest_wait {
            None => text += "; none waited",
            Some(time) => text += &format!("; longest wait {}", units::time(time)),
        }
        text
    }

    /// What one thread did.
    fn row(&self, mut row: Group, slices: &[Slice], y: f64, height: f64) -> Group {
        row.append(line(
            LEFT,
            y + height / 2.0,
            LEFT + PLOT_WIDTH,
            y + height / 2.0,
        ));
        if self.one_by_one {
            for slice in slices {
                let (x, right) = (self.axis.x(slice.start), self.right(slice));
                let bar = rectangle(self.class(slice), x, y, (right - x).max(0.5), height);
                row.append(bar.add(Title::new(describe(slice))));
                if slice.is_under_way {
                    row.append(hatch(x, right.max(x + 3.0), y, height));
                }
            }
            return row;
        }
        let mut parts: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for slice in slices {
            let part = parts
                .entry(self.class(slice))
                .or_insert_with(|| vec![0.0; PLOT_WIDTH as usize]);
            share(
                part,
                self.axis.x(slice.start) - LEFT,
                self.right(slice) - LEFT,
            );
        }
        // The solid colours are drawn over the pale one.
        let pale = parts.remove_entry("waiting");
        for (class, part) in pale.into_iter().chain(parts) {
            for shade in 1..=SHADES as u32 {
                let data = runs(&part, shade, y, height);
                if !data.is_empty() {
                    let path = Path::new().set("class", class).set("d", data);
                    row.append(path.set("opacity", f64::from(shade) / SHADES));
                }
            }
        }
        row
    }

    /// Where it ends.
    fn right(&self, slice: &Slice) -> f64 {
        match slice.is_under_way {
            true => self.axis.end(),
            false => self.axis.x(slice.end),
        }
    }

    fn class<'s>(&'s self, slice: &'s Slice) -> &'s str {
        match &slice.what {
            What::Waiting(_) => "waiting",
            What::Inside(call) => &self.devices[&call.device.as_deref()].0,
        }
    }

    /// How many threads are inside at once: the most in each pixel's time.
    fn strip(&self, content: &mut Group, top: f64) {
        let bottom = top + STRIP;
        let mut most = vec![0; PLOT_WIDTH as usize];
        let mut raise = |x: f64, right: f64, inside: usize| {
            let (x, right) = (x - LEFT, right - LEFT);
            let first = (x as usize).min(most.len() - 1);
            let last = (right.ceil() as usize).clamp(first + 1, most.len());
            for pixel in &mut most[first..last] {
                *pixel = inside.max(*pixel);
            }
        };
        for pair in overlap::steps(self.process).windows(2) {
            let (start, end) = (self.axis.x(pair[0].time), self.axis.x(pair[1].time));
            raise(start, end, pair[0].inside);
        }
        let slices = self.process.slices();
        let under_way = slices.filter(|slice| slice.is_under_way && slice.counts());
        let under_way = under_way.count();
        if under_way > 0 {
            raise(
                self.axis.x(self.process.time().1),
                self.axis.end(),
                under_way,
            );
        }
        let unit = (STRIP - 8.0) / self.highest as f64;
        let label_each = (self.highest as f64 / 4.0).ceil() as usize;
        for number in (0..=self.highest).step_by(label_each) {
            let y = bottom - unit * number as f64;
            content.append(line(LEFT, y, LEFT + PLOT_WIDTH, y));
            content.append(text(
                "tick right",
                LEFT - 10.0,
                y + 4.0,
                &number.to_string(),
            ));
        }
        content.append(text("faint right", LEFT - 30.0, bottom - 18.0, "inside"));
        content.append(text("faint right", LEFT - 30.0, bottom - 4.0, "at once"));
        let base: Vec<_> = most.iter().map(|&inside| inside.min(1)).collect();
        content.append(
            Path::new()
                .set("class", "one")
                .set("d", area(&base, bottom, unit)),
        );
        let above: Vec<_> = most
            .iter()
            .map(|&inside| inside.saturating_sub(1))
            .collect();
        content.append(
            Path::new()
                .set("class", "more")
                .set("d", area(&above, bottom - unit, unit)),
        );
        let frame = rectangle("plot", LEFT, top, PLOT_WIDTH, STRIP).set("fill", "none");
        content.append(frame);
    }
}

/// Slanted lines over the bar of a call that was under way, which has no end.
fn hatch(x: f64, right: f64, y: f64, height: f64) -> Path {
    let mut data = String::new();
    let mut at = x;
    while at < right {
        let end = (at + height).min(right);
        let _ = write!(
            data,
            "M{at:.1} {:.1}L{end:.1} {:.1}",
            y + height,
            y + height - (end - at)
        );
        at += 5.0;
    }
    Path::new().set("class", "under-way").set("d", data)
}

/// Adds the time from `x` to `right` to the pixels that it touches.
fn share(part: &mut [f64], x: f64, right: f64) {
    for (pixel, part) in part.iter_mut().enumerate().skip(x.max(0.0) as usize) {
        let pixel = pixel as f64;
        if pixel >= right {
            break;
        }
        *part += right.min(pixel + 1.0) - x.max(pixel);
    }
}

/// The pixels of this shade, as a path.
fn runs(part: &[f64], shade: u32, y: f64, height: f64) -> String {
    let mut data = String::new();
    let mut x = 0;
    for run in part.chunk_by(|a, b| shade_of(*a) == shade_of(*b)) {
        if shade_of(run[0]) == shade {
            let (x, width) = (LEFT + x as f64, run.len());
            let _ = write!(data, "M{x} {y:.1}h{width}v{height:.1}h-{width}z");
        }
        x += run.len();
    }
    data
}

/// Any part above zero has a visible shade.
fn shade_of(part: f64) -> u32 {
    (part.min(1.0) * SHADES).ceil() as u32
}

/// The area below a curve, as a path.
fn area(heights: &[usize], bottom: f64, unit: f64) -> String {
    let mut data = String::new();
    let mut x = 0;
    for run in heights.chunk_by(|a, b| a == b) {
        if run[0] > 0 {
            let (x, width, height) = (LEFT + x as f64, run.len(), unit * run[0] as f64);
            let _ = write!(data, "M{x} {bottom:.1}v-{height:.1}h{width}v{height:.1}z");
        }
        x += run.len();
    }
    data
}

/// What mrlock did, as the end of a sentence.
fn mode(process: &Process) -> &'static str {
    match record::mode(&process.settings) {
        Some("on") => ", serialized by mrlock",
        Some("observe") => ", observed: mrlock serialized nothing",
        _ => "",
    }
}

/// The text for the pointer on a slice.
fn describe(slice: &Slice) -> String {
    let time = units::time(slice.end - slice.start);
    let text = described(slice, &time);
    if slice.is_under_way {
        return format!("{text}, under way");
    }
    text
}

fn described(slice: &Slice, time: &str) -> String {
    match &slice.what {
        What::Waiting(name) => format!("waited {time} for {}", printable(name)),
        What::Inside(call) => {
            let mut text = printable(&call.name);
            if let Some(device) = &call.device {
                text += &format!(" on {}", printable(device));
            }
            text += &format!(", inside {time}");
            if let Some((address, length)) = call.memory {
                text += &format!(", {} at {address:#x}", units::bytes(length));
            }
            if call.failed {
                text += ", failed";
            }
            text
        }
    }
}

/// The colours. Returns where it ends.
fn legend(content: &mut Group, processes: &[Process], devices: &Devices, top: f64) -> f64 {
    let mut entries: Vec<(&str, String)> = devices
        .iter()
        .map(|(device, (class, calls))| {
            let name = device.unwrap_or("device unknown");
            let plural = if *calls == 1 { "" } else { "s" };
            let calls = units::count(*calls);
            (class.as_str(), format!("{name}, {calls} call{plural}"))
        })
        .collect();
    let any = |is: fn(&Slice) -> bool| processes.iter().flat_map(Process::slices).any(is);
    if any(|slice| matches!(slice.what, What::Waiting(_))) {
        entries.push(("waiting", "waiting".into()));
    }
    const UNDER_WAY: &str = "under way";
    if any(|slice| slice.is_under_way) {
        entries.push(("one", UNDER_WAY.into()));
    }
    let (mut x, mut y) = (LEFT, top);
    for (class, label) in entries {
        let width = 44.0 + 6.8 * label.chars().count() as f64;
        if x + width > WIDTH - MARGIN && x > LEFT {
            (x, y) = (LEFT, y + 20.0);
        }
        content.append(rectangle(class, x, y, 12.0, 12.0).set("rx", 2));
        if label == UNDER_WAY {
            content.append(hatch(x, x + 12.0, y, 12.0));
        }
        content.append(text("faint", x + 18.0, y + 10.5, &label));
        x += width;
    }
    y + 12.0
}

fn rectangle(class: &str, x: f64, y: f64, width: f64, height: f64) -> Rectangle {
    Rectangle::new()
        .set("class", class)
        .set("x", round(x))
        .set("y", round(y))
        .set("width", round(width))
        .set("height", round(height))
}

fn line(x: f64, y: f64, right: f64, bottom: f64) -> Line {
    Line::new()
        .set("class", "grid")
        .set("x1", round(x))
        .set("y1", round(y))
        .set("x2", round(right))
        .set("y2", round(bottom))
}

fn text(class: &str, x: f64, y: f64, content: &str) -> Text {
    Text::new(printable(content))
        .set("class", class)
        .set("x", round(x))
        .set("y", round(y))
}

/// Hundredths of a pixel are enough.
fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// XML has no way to write most control characters.
fn printable(text: &str) -> String {
    text.replace(
        |c: char| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'),
        "?",
    )
}
