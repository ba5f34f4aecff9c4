//! From times to places on the picture. Long times without any call are cut out.

use super::process::Process;

/// A gap is cut out if it would take more than this fraction of the picture.
const LONGEST_GAP: f64 = 0.2;
/// At most so many gaps are cut out.
const MOST_CUTS: usize = 8;
/// The width of a cut.
pub const CUT: f64 = 24.0;
/// A call that is under way goes on for this fraction of the picture after its process's last sign of life, so that one that had just
/// begun is seen.
const UNDER_WAY: f64 = 0.025;
/// The least number of pixels from one tick to the next.
const APART: f64 = 100.0;

/// The axis of time of one process.
pub struct Axis {
    spans: Vec<Span>,
    /// Pixels for a nanosecond.
    scale: f64,
    /// Where a call that is under way ends.
    end: f64,
}

/// A time that is drawn to scale.
struct Span {
    start: u64,
    end: u64,
    x: f64,
    width: f64,
}

/// The axes of these processes, from `x` on. Each process has the whole width for its own time; or, on one scale, that with the
/// longest time.
pub fn axes(processes: &[Process], x: f64, width: f64, on_one_scale: bool) -> Vec<Axis> {
    let times: Vec<_> = processes.iter().map(times_to_scale).collect();
    let scale = |times: &Vec<(u64, u64)>| {
        let length: u64 = times.iter().map(|(start, end)| end - start).sum();
        (width - CUT * (times.len() - 1) as f64) / length.max(1) as f64
    };
    let least = times.iter().map(scale).fold(f64::INFINITY, f64::min);
    times
        .iter()
        .map(|times| {
            let scale = if on_one_scale { least } else { scale(times) };
            Axis::new(times, x, width, scale)
        })
        .collect()
}

/// From the first call to the last one, without the gaps that are cut out. There is one at least.
fn times_to_scale(process: &Process) -> Vec<(u64, u64)> {
    let mut busy: Vec<_> = process
        .slices()
        .map(|slice| (slice.start, slice.end))
        .collect();
    busy.sort_unstable();
    let (first, last) = process.time();
    let mut until = first;
    let mut gaps = Vec::new();
    for (start, end) in busy {
        if start > until {
            gaps.push((until, start));
        }
        until = until.max(end);
    }
    gaps.sort_by_key(|&(start, end)| end - start);
    let mut to_scale = last - first;
    let mut cuts = Vec::new();
    while let Some((start, end)) = gaps.pop()
        && (end - start) as f64 > to_scale as f64 * LONGEST_GAP
        && cuts.len() < MOST_CUTS
    {
        to_scale -= end - start;
        cuts.push((start, end));
    }
    cuts.sort_unstable();
    let last = match process.slices().any(|slice| slice.is_under_way) {
        true => last.saturating_add((to_scale as f64 * UNDER_WAY) as u64),
        false => last,
    };
    let starts = [first].into_iter().chain(cuts.iter().map(|cut| cut.1));
    let ends = cuts.iter().map(|cut| cut.0).chain([last]);
    starts.zip(ends).collect()
}

impl Axis {
    fn new(times: &[(u64, u64)], x: f64, width: f64, scale: f64) -> Self {
        let mut spans: Vec<Span> = Vec::new();
        for &(start, end) in times {
            spans.push(Span {
                start,
                end,
                x: spans.last().map_or(x, |span| span.x + span.width + CUT),
                width: (end - start) as f64 * scale,
            });
        }
        let end = spans.last().map_or(x, |span| span.x + span.width);
        // After the last call, time goes on to the edge.
        if let Some(last) = spans.last_mut() {
            let rest = (x + width - end).max(0.0);
            last.width += rest;
            last.end = last.end.saturating_add((rest / scale) as u64);
        }
        Self { spans, scale, end }
    }

    /// Where a time is drawn.
    pub fn x(&self, time: u64) -> f64 {
        let after = self.spans.partition_point(|span| span.start <= time);
        let span = &self.spans[after.saturating_sub(1)];
        let length = (span.end - span.start).max(1) as f64;
        span.x + span.width * time.saturating_sub(span.start) as f64 / length
    }

    /// Where a call that is under way ends.
    pub fn end(&self) -> f64 {
        self.end
    }

    /// Round times, and where they are drawn. They count from the last cut.
    pub fn ticks(&self) -> Vec<(f64, u64)> {
        let apart = APART / self.scale;
        let power = 10f64.powf(apart.max(1.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|factor| factor * power)
            .into_iter()
            .find(|&step| step >= apart)
            .unwrap_or(power * 10.0) as u64;
        self.spans
            .iter()
            .flat_map(|span| {
                (span.start..=span.end)
                    .step_by(step as usize)
                    .map(|time| (self.x(time), time - span.start))
            })
            .collect()
    }

    /// Where time is cut out, and how much.
    pub fn cuts(&self) -> impl Iterator<Item = (f64, u64)> {
        self.spans
            .windows(2)
            .map(|pair| (pair[0].x + pair[0].width, pair[1].start - pair[0].end))
    }
}
