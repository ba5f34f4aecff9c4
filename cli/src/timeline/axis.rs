//! From times to places on the picture. Long times without any call are cut out.

use super::trace::Trace;

/// A gap is cut out if it would take more than this fraction of the picture.
const LONGEST_GAP: f64 = 0.2;
/// At most so many gaps are cut out.
const MOST_CUTS: usize = 8;
/// The width of a cut.
pub const CUT: f64 = 24.0;

/// The axis of time.
pub struct Axis {
    spans: Vec<Span>,
}

/// A time that is drawn to scale.
struct Span {
    start: u64,
    end: u64,
    x: f64,
    width: f64,
}

impl Axis {
    /// An axis with all calls of the trace, from `x` on.
    pub fn new(trace: &Trace, x: f64, width: f64) -> Self {
        let threads = trace
            .processes
            .values()
            .flat_map(|process| process.threads.values());
        let mut busy: Vec<_> = threads
            .flatten()
            .map(|slice| (slice.start, slice.end))
            .collect();
        busy.sort_unstable();
        let first = busy.first().map_or(0, |&(start, _)| start);
        let mut last = first;
        let mut gaps = Vec::new();
        for (start, end) in busy {
            if start > last {
                gaps.push((last, start));
            }
            last = last.max(end);
        }
        gaps.sort_by_key(|&(start, end)| start.abs_diff(end));
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

        let scale = (width - CUT * cuts.len() as f64) / to_scale.max(1) as f64;
        let mut spans: Vec<Span> = Vec::new();
        let ends = cuts.iter().map(|cut| cut.0).chain([last]);
        let starts = [first].into_iter().chain(cuts.iter().map(|cut| cut.1));
        for (start, end) in starts.zip(ends) {
            spans.push(Span {
                start,
                end,
                x: spans.last().map_or(x, |span| span.x + span.width + CUT),
                width: (end - start) as f64 * scale,
            });
        }
        Self { spans }
    }

    /// Where a time is drawn.
    pub fn x(&self, time: u64) -> f64 {
        let after = self.spans.partition_point(|span| span.start <= time);
        let span = &self.spans[after.saturating_sub(1)];
        let length = (span.end - span.start).max(1) as f64;
        span.x + span.width * time.saturating_sub(span.start) as f64 / length
    }

    /// Round times, about 120 pixels apart, and where they are drawn. They count from the last cut.
    pub fn ticks(&self) -> Vec<(f64, u64)> {
        let pixels: f64 = self.spans.iter().map(|span| span.width).sum();
        let length: u64 = self.spans.iter().map(|span| span.end - span.start).sum();
        let apart = length as f64 / pixels * 120.0;
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
