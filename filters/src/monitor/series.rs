//! The last results of a model at a channel, and what they say together.

use std::collections::VecDeque;

/// So many are kept: two days, once in an hour and a bit of doubt.
const KEPT: usize = 60;

/// One result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// When it was known, in milliseconds since 1970.
    pub time_ms: u64,
    /// Why it is no good answer; `None`: it is one.
    pub bad: Option<&'static str>,
    /// From the request to the first token.
    pub first_token_us: Option<u32>,
    /// From the beginning of the connection to the end of the answer.
    pub total_us: u32,
}

/// The last of them, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Series(VecDeque<Point>);

/// What they say together. Times are those of good answers, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// The share of good answers; `None`: there was no result.
    pub success: Option<f64>,
    /// The middle of the times to the first token, and what nineteen of twenty are below.
    pub first_token: Option<(u32, u32)>,
    /// The same of the times in all.
    pub total: Option<(u32, u32)>,
}

impl Series {
    /// One more.
    pub fn push(&mut self, point: Point) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(point);
    }

    /// Those that are kept, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Point> + ExactSizeIterator {
        self.0.iter()
    }

    /// The newest.
    pub fn last(&self) -> Option<&Point> {
        self.0.back()
    }

    /// What they say together.
    pub fn summary(&self) -> Summary {
        let good = || self.0.iter().filter(|point| point.bad.is_none());
        let count = self.0.len();
        #[expect(clippy::cast_precision_loss, reason = "at most a few dozen")]
        let success = (count > 0).then(|| good().count() as f64 / count as f64);
        Summary {
            success,
            first_token: quantiles(good().filter_map(|point| point.first_token_us).collect()),
            total: quantiles(good().map(|point| point.total_us).collect()),
        }
    }
}

/// The median and the 95th percentile, by the nearest rank.
fn quantiles(mut times: Vec<u32>) -> Option<(u32, u32)> {
    times.sort_unstable();
    let rank = |hundredths: usize| times.get((times.len() * hundredths).div_ceil(100).saturating_sub(1)).copied();
    Some((rank(50)?, rank(95)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(us: u32) -> Point {
        Point { time_ms: u64::from(us), bad: None, first_token_us: Some(us), total_us: us * 2 }
    }

    #[test]
    fn nothing_says_nothing() {
        assert_eq!(Series::default().summary(), Summary::default());
    }

    #[test]
    fn times_are_those_of_good_answers() {
        let mut series = Series::default();
        (1..=19).for_each(|us| series.push(good(us)));
        series.push(Point { time_ms: 99, bad: Some("timeout"), first_token_us: None, total_us: 9_999 });
        let summary = series.summary();
        assert_eq!(summary.success, Some(0.95));
        assert_eq!((summary.first_token, summary.total), (Some((10, 19)), Some((20, 38))));
    }

    #[test]
    fn the_oldest_gives_way() {
        let mut series = Series::default();
        (0..100).for_each(|us| series.push(good(us)));
        assert_eq!((series.iter().len(), series.iter().next().map(|point| point.total_us)), (KEPT, Some(80)));
        assert_eq!(series.last().map(|point| point.total_us), Some(198));
    }
}
