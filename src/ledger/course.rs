//! Owns the sums over all that there is: of today, of yesterday, and of the last twenty-four hours piece by piece.
//! Refuses to know who used what.
//!
//! They are the sums of what [`super::query`] answers for the same times, without its rows: each part of a time is read
//! from the coarsest cells that fit it.

use weir_filters::calendar;

use super::counters::Counters;
use super::view::{Grain, View};

/// So many pieces of five minutes are a day.
const PIECES: u64 = 288;
const FIVE_MINUTES: u64 = 300_000;
const HOURS: u64 = 24;
/// With more cells of minutes than these the pieces are hours: the answer is asked for every few seconds.
const MAX_CELLS: usize = 50_000;

/// The figures of a gateway over time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Course {
    /// Since midnight, UTC.
    pub today: Counters,
    /// Of the day before, up to and with the minute that it is now.
    pub yesterday: Counters,
    /// Of all of the day before.
    pub yesterday_whole: Counters,
    /// The width of the pieces, in milliseconds.
    pub step_ms: u64,
    /// The last twenty-four hours, without holes: where each piece starts, in milliseconds since 1970-01-01 UTC, and its
    /// sums. The last one is not over.
    pub pieces: Vec<(u64, Counters)>,
}

impl View {
    /// The course up to `now_ms`.
    pub(crate) fn course(&self, now_ms: u64) -> Course {
        let day = Grain::Day.ms();
        let midnight = now_ms - now_ms % day;
        let before = midnight.saturating_sub(day);
        let (step_ms, pieces) = self.pieces(now_ms);
        Course {
            today: self.sum(Grain::Day, midnight, midnight + day),
            yesterday: if before < midnight { self.since(before, now_ms - day) } else { Counters::default() },
            yesterday_whole: self.sum(Grain::Day, before, midnight),
            step_ms,
            pieces,
        }
    }

    /// What was counted from `from`, which begins a day, to the end of the minute of `to`, on the same day.
    fn since(&self, from: u64, to: u64) -> Counters {
        let (hour, minute) = (Grain::Hour.ms(), Grain::Minute.ms());
        let last_hour = to - to % hour;
        let mut sum = self.sum(Grain::Hour, from, last_hour);
        // What is not kept that finely is told as well as it can be.
        let grain =
            if Grain::Minute.bucket(last_hour) >= self.kept_from(Grain::Minute) { Grain::Minute } else { Grain::Hour };
        sum.add(&self.sum(grain, last_hour, to.div_ceil(minute) * minute));
        sum
    }

    fn pieces(&self, now_ms: u64) -> (u64, Vec<(u64, Counters)>) {
        let first = |step: u64, count: u64| (now_ms - now_ms % step).saturating_sub((count - 1) * step);
        let from = first(FIVE_MINUTES, PIECES);
        let are_kept = Grain::Minute.bucket(from) >= self.kept_from(Grain::Minute);
        let (grain, step, count, from) = if are_kept && self.cells[Grain::Minute as usize].len() <= MAX_CELLS {
            (Grain::Minute, FIVE_MINUTES, PIECES, from)
        } else {
            let hour = Grain::Hour.ms();
            (Grain::Hour, hour, HOURS, first(hour, HOURS))
        };
        let mut pieces: Vec<(u64, Counters)> = (0..count).map(|n| (from + n * step, Counters::default())).collect();
        let cells = self.cells[grain as usize].range((grain.bucket(from), 0)..(grain.bucket(from + count * step), 0));
        for ((bucket, _), counters) in cells {
            let at = usize::try_from((u64::from(*bucket) * grain.ms() - from) / step).unwrap_or(usize::MAX);
            if let Some((_, sum)) = pieces.get_mut(at) {
                sum.add(counters);
            }
        }
        (step, pieces)
    }

    /// The sum of the buckets that start in `[from, to)`.
    fn sum(&self, grain: Grain, from: u64, to: u64) -> Counters {
        let bucket = |time: u64| (grain.bucket(time.div_ceil(grain.ms()) * grain.ms()), 0);
        let mut sum = Counters::default();
        // A range whose end is before its start would panic.
        let cells = self.cells[grain as usize].range(bucket(from)..bucket(to).max(bucket(from)));
        cells.for_each(|(_, counters)| sum.add(counters));
        sum
    }
}

const _: () = assert!(PIECES * FIVE_MINUTES == calendar::DAY_MS);

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::codec::{RecordRef, encode};
    use super::super::fixtures::settlement;
    use super::super::query::{By, Step, UsageQuery};
    use super::*;

    const DAY: u64 = 86_400_000;
    const MINUTE: u64 = 60_000;
    /// Some afternoon: 15:42:07.
    const NOW: u64 = 20_000 * DAY + 15 * 3_600_000 + 42 * MINUTE + 7_000;

    fn view(times: &[u64]) -> View {
        let mut view = View::default();
        for (id, time) in (0..).zip(times) {
            let mut payload = Vec::new();
            let mut record = settlement(id, *time);
            record.model = format!("m{}", id % 3).into();
            encode(&record, &mut payload);
            view.apply(&RecordRef::decode(&payload).unwrap());
        }
        view
    }

    fn asked(view: &View, from: u64, to: u64) -> Counters {
        let query = UsageQuery { by: By::Channel, from: Some(from), to: Some(to), ..UsageQuery::default() };
        let mut sum = Counters::default();
        view.usage(&query).iter().for_each(|row| sum.add(&row.counters));
        sum
    }

    #[test]
    fn the_sums_are_those_of_the_queries_for_the_same_times() {
        let (midnight, before) = (NOW - NOW % DAY, NOW - NOW % DAY - DAY);
        let at = NOW - DAY;
        let times = [
            midnight,
            NOW,
            NOW - 1,
            midnight - 1,
            before,
            before - 1,
            at,
            at - MINUTE,
            at - at % MINUTE,
            at + MINUTE,
            at + 3_600_000,
            before + 3 * 3_600_000 + 5,
            NOW - 5 * 3_600_000,
            NOW + DAY,
        ];
        let view = view(&times);
        let course = view.course(NOW);
        assert_eq!(course.today, asked(&view, midnight, midnight + DAY));
        assert_eq!(course.yesterday_whole, asked(&view, before, midnight));
        assert_eq!(course.yesterday, asked(&view, before, at));
        let counts = [course.today, course.yesterday, course.yesterday_whole].map(|counters| counters.requests);
        assert_eq!(
            counts,
            [4, 5, 8],
            "the day before ends with this minute, and what is ahead of the clock is not today's"
        );
        let from = course.pieces[0].0;
        let mut all = Counters::default();
        course.pieces.iter().for_each(|(_, counters)| all.add(counters));
        assert_eq!(all, asked(&view, from, NOW));
        let query = UsageQuery { by: By::Channel, from: Some(from), step: Some(Step::Minute), ..UsageQuery::default() };
        let of_minutes =
            view.usage(&query).into_iter().filter(|row| row.time.is_some_and(|time| time / 300_000 == NOW / 300_000));
        let last: u64 = of_minutes.map(|row| row.counters.requests).sum();
        assert_eq!(course.pieces[287].1.requests, last);
    }

    #[test]
    fn pieces_have_no_holes_and_end_now() {
        let course = view(&[]).course(NOW);
        assert_eq!((course.step_ms, course.pieces.len()), (300_000, 288));
        assert!(course.pieces.windows(2).all(|pair| pair[1].0 - pair[0].0 == 300_000));
        assert_eq!(course.pieces[287].0, NOW - NOW % 300_000);
    }

    #[test]
    fn where_minutes_are_not_kept_pieces_are_hours() {
        let mut view = view(&[NOW - 5 * 3_600_000, NOW - DAY, NOW - DAY - 30 * MINUTE, NOW]);
        view.prune(NOW, Duration::from_secs(3600), Duration::from_secs(35 * 86_400));
        let course = view.course(NOW);
        assert_eq!((course.step_ms, course.pieces.len()), (3_600_000, 24));
        let busy: Vec<_> = (0..).zip(&course.pieces).filter(|(_, (_, c))| c.requests > 0).map(|(n, _)| n).collect();
        assert_eq!(busy, [18, 23]);
        assert_eq!(course.yesterday, asked(&view, NOW - NOW % DAY - DAY, NOW - DAY));
        assert_eq!(course.yesterday.requests, 2, "the hour as a whole");
    }

    #[test]
    fn a_clock_at_its_beginning_has_no_yesterday() {
        let course = view(&[5]).course(10);
        assert_eq!((course.today.requests, course.yesterday.requests, course.yesterday_whole.requests), (1, 0, 0));
    }

    #[test]
    #[ignore = "tells what a course costs with ten thousand keys in every hour"]
    fn what_a_course_costs() {
        let mut view = View::default();
        for key in 0..10_000_u128 {
            for hour in 0..48 {
                let mut payload = Vec::new();
                let mut record = settlement(key << 8 | u128::from(hour), NOW - hour * 3_600_000);
                record.key_id = format!("k{key}").into();
                encode(&record, &mut payload);
                view.apply(&RecordRef::decode(&payload).unwrap());
            }
        }
        let begun = Instant::now();
        (0..10).for_each(|_| assert_eq!(view.course(NOW).pieces.len(), 24));
        println!("{:?}", begun.elapsed() / 10);
    }
}
