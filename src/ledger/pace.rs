//! Owns how often something large is written: as often as is worth while, and never so often that
//! the writing itself becomes a load. Refuses to know what is written.

use std::ops::Range;
use std::time::{Duration, Instant};

/// Writing takes one part in this many of the time, however much there is to write.
const SHARE: u32 = 100;

/// When something is next due.
#[derive(Debug)]
pub(crate) struct Pace {
    /// The least time from one to the next, and the most.
    every: Range<Duration>,
    took: Duration,
    at: Option<Instant>,
}

impl Pace {
    /// Due at once.
    pub(crate) fn new(every: Range<Duration>) -> Self {
        Self { every, took: Duration::ZERO, at: None }
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let wait = self.took.saturating_mul(SHARE).clamp(self.every.start, self.every.end);
        self.at.is_none_or(|at| now.saturating_duration_since(at) >= wait)
    }

    /// Notes that it was done at `now` and took so long.
    pub(crate) fn done(&mut self, now: Instant, took: Duration) {
        (self.at, self.took) = (Some(now), took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_is_done_seldom_within_bounds() {
        let second = Duration::from_secs(1);
        for (took_ms, wait) in [(0, 5), (50, 5), (100, 10), (10_000, 60)] {
            let (mut pace, now) = (Pace::new(5 * second..60 * second), Instant::now());
            assert!(pace.is_due(now));
            pace.done(now, Duration::from_millis(took_ms));
            assert!(!pace.is_due(now + (wait * second).saturating_sub(Duration::from_millis(1))), "{took_ms} ms");
            assert!(pace.is_due(now + wait * second), "{took_ms} ms");
        }
    }
}
