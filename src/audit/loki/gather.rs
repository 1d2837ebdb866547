//! Records on their way into frames: as many as are pushed at once, or those that came in a time.
//!
//! Owns where a frame ends and where each record comes in its stream. Refuses to know what becomes of a frame.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_filters::loki::{Class, Entry, Frame, Labels, MAX_LINE, MAX_PUSH, Streams, cost, read, stream_cost};
use weir_filters::record::fit;

use super::super::batch::{self, Batch};
use super::super::queue::SinkStats;
use super::Seldom;

/// A frame that is not full yet.
pub(super) struct Gather {
    max_bytes: usize,
    wait: Duration,
    labels: Labels,
    streams: Streams,
    stats: Arc<SinkStats>,
    frame: Frame,
    cost: usize,
    seen: HashSet<(String, Class)>,
    /// When its first record came.
    since: Option<Instant>,
    notes: Seldom,
}

impl Gather {
    pub(super) fn new(max_bytes: usize, wait: Duration, labels: Labels, stats: Arc<SinkStats>) -> Self {
        Self {
            max_bytes: max_bytes.min(MAX_PUSH),
            wait,
            labels,
            streams: Streams::default(),
            stats,
            frame: Frame::default(),
            cost: 0,
            seen: HashSet::new(),
            since: None,
            notes: Seldom::default(),
        }
    }

    /// No record comes before what an earlier process has left.
    pub(super) fn not_before(&mut self, time_ns: u64) {
        self.streams.not_before(time_ns);
    }

    /// Adds records, and puts the frames that are full.
    pub(super) fn add(&mut self, batch: &Batch, now: Instant, mut put: impl FnMut(Frame)) {
        for (entry, line) in batch.iter() {
            let line = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line));
            let Some(line) = fit(&line, MAX_LINE) else {
                self.stats.fail(1);
                if self.notes.is_time() {
                    log::warn!("a record of {} bytes is too long for Loki, even without its bodies", line.len());
                }
                continue;
            };
            if let Some(full) = self.add_line(entry, &line) {
                put(full);
            }
            self.since.get_or_insert(now);
        }
    }

    /// When the frame is to be pushed as it is.
    pub(super) fn due(&self) -> Option<Instant> {
        self.since.map(|since| since + self.wait)
    }

    /// The frame as it is, if it has records.
    pub(super) fn take(&mut self) -> Option<Frame> {
        self.since = None;
        self.cost = 0;
        self.seen.clear();
        Some(std::mem::take(&mut self.frame)).filter(|frame| !frame.is_empty())
    }

    /// Adds a record; the frame before it if that has no room for it.
    fn add_line(&mut self, entry: &batch::Entry, line: &str) -> Option<Frame> {
        let seen = read(line);
        let class = Class::of(entry.status);
        let end_ns = entry.time_ms.saturating_mul(1_000_000).saturating_add(seen.duration_ns);
        let (route, time_ns) = self.streams.place(&seen.route, class, end_ns);
        let stream = (route.to_owned(), class);
        let cost = cost(line);
        let of_stream = stream_cost(route, class, &self.labels);
        let cost_here = cost + if self.seen.contains(&stream) { 0 } else { of_stream };
        // Routes are not shared in a frame as they are in a push.
        let bytes = self.frame.as_bytes().len() + route.len() + line.len();
        let is_full = self.cost + cost_here > self.max_bytes || bytes > MAX_PUSH;
        let full = if is_full { self.take() } else { None };
        if self.seen.insert(stream) {
            self.cost += of_stream;
        }
        self.cost += cost;
        self.frame.push(Entry { time_ns, class, route, line });
        full
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::super::super::batch::batch_of;
    use super::*;

    fn gather(max_bytes: usize) -> Gather {
        let stats = Arc::new(SinkStats::default());
        stats.find(100);
        Gather::new(max_bytes, Duration::from_secs(1), Labels::default(), stats)
    }

    fn added(gather: &mut Gather, lines: &[&str], now: Instant) -> Vec<usize> {
        let mut full = Vec::new();
        let batch = batch_of(lines.iter().enumerate().map(|(n, line)| (*line, n as u128)));
        gather.add(&batch, now, |frame| full.push(frame.len()));
        full
    }

    const LINE: &str = r#"{"route":"/v1","duration_ms":2}"#;

    #[test]
    fn a_frame_ends_before_the_record_that_has_no_room() {
        let now = Instant::now();
        let three = stream_cost("/v1", Class::of(200), &Labels::default()) + 3 * cost(LINE);
        let mut exact = gather(three);
        assert_eq!(added(&mut exact, &[LINE; 7], now), [3, 3]);
        assert_eq!(exact.take().map(|frame| frame.len()), Some(1));
        let mut short = gather(three - 1);
        assert_eq!(added(&mut short, &[LINE; 7], now), [2, 2, 2]);
        let mut tiny = gather(1);
        assert_eq!(added(&mut tiny, &[LINE; 3], now), [1, 1], "one record always has room");
    }

    #[test]
    fn a_frame_is_due_a_while_after_its_first_record() {
        let (mut gather, now) = (gather(1 << 20), Instant::now());
        assert_eq!((gather.due(), gather.take()), (None, None));
        added(&mut gather, &[LINE], now);
        added(&mut gather, &[LINE], now + Duration::from_millis(500));
        assert_eq!(gather.due(), Some(now + Duration::from_secs(1)));
        assert_eq!(gather.take().map(|frame| frame.len()), Some(2));
        assert_eq!(gather.due(), None);
    }

    #[test]
    fn a_record_has_its_stream_its_end_and_its_line() {
        let mut gather = gather(1 << 20);
        gather.not_before(1_764_000_000_003_000_000);
        added(&mut gather, &[LINE, r#"{"route":"/v2","duration_ms":2.5}"#, LINE], Instant::now());
        let frame = gather.take().unwrap();
        let entries: Vec<_> = frame.entries().map(|entry| (entry.route, entry.class.name(), entry.time_ns)).collect();
        let expected = [
            ("/v1", "2xx", 1_764_000_000_003_000_000),
            ("/v2", "2xx", 1_764_000_000_003_500_000),
            ("/v1", "2xx", 1_764_000_000_004_000_000),
        ];
        assert_eq!(entries, expected);
        assert_eq!(frame.entries().next().unwrap().line, LINE);
    }

    #[test]
    fn what_is_too_long_for_loki_goes_without_its_bodies_or_is_refused_at_once() {
        let mut gather = gather(1 << 20);
        let body = format!(r#"{{"route":"/v1","request_body":{{"text":"{}"}}}}"#, "x".repeat(MAX_LINE));
        let route = format!(r#"{{"route":"{}"}}"#, "x".repeat(MAX_LINE));
        added(&mut gather, &[&body, &route, LINE], Instant::now());
        let frame = gather.take().unwrap();
        let lines: Vec<_> = frame.entries().map(|entry| entry.line).collect();
        assert_eq!(lines, [r#"{"route":"/v1","request_body":null}"#, LINE]);
        let figures = [&gather.stats.failed, &gather.stats.waiting].map(|figure| figure.load(Ordering::Relaxed));
        assert_eq!(figures, [1, 99]);
    }
}
