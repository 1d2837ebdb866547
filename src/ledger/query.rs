//! Owns the questions that can be asked of the totals. Refuses to know where totals come from.
//!
//! A range `[from, to)` selects the buckets that start in it. With a step the buckets are the step's
//! (a month's are its days). Without one they are the coarsest that the range's ends are whole
//! multiples of, so that the answer is exact; if buckets that fine are not kept as far back as
//! `from`, the next coarser ones that are. Days are kept for ever.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use weir_filters::price::NanoUsd;
use weir_filters::route::Operation;

use super::calendar;
use super::counters::Counters;
use super::view::{Cells, Grain, View};

/// What rows are made by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// The key's latest name.
    #[default]
    Key,
    /// The key's user.
    User,
    /// The model that the client asked for.
    Model,
    /// The channel that served.
    Channel,
    /// The route.
    Route,
    /// The day, in UTC.
    Day,
}

impl By {
    /// The name in queries and in rows.
    pub const fn name(self) -> &'static str {
        match self {
            By::Key => "key",
            By::User => "user",
            By::Model => "model",
            By::Channel => "channel",
            By::Route => "route",
            By::Day => "day",
        }
    }
}

/// The width of a row in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day of UTC.
    Day,
    /// A calendar month of UTC.
    Month,
}

/// A question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageQuery {
    /// What rows are made by.
    pub by: By,
    /// The first moment, in milliseconds since 1970-01-01 UTC.
    pub from: Option<u64>,
    /// The moment after the last.
    pub to: Option<u64>,
    /// One row for each step; without it one row in all. `By::Day` has the step of a day whatever
    /// is said here.
    pub step: Option<Step>,
    /// Only this key, by its id.
    pub key_id: Option<String>,
    /// Only this user's keys.
    pub user: Option<String>,
}

/// An answer's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRow {
    /// The value of what rows are made by; of a day its date.
    pub value: String,
    /// Where the step starts, in milliseconds since 1970-01-01 UTC.
    pub time: Option<u64>,
    /// The sums.
    pub counters: Counters,
}

impl UsageRow {
    /// The row as `/admin/api/usage` answers it.
    pub fn to_json(&self, by: By) -> Value {
        let c = &self.counters;
        let mut row = Map::new();
        row.insert(by.name().to_owned(), Value::from(self.value.as_str()));
        row.insert("time".to_owned(), self.time.map(calendar::rfc3339).into());
        for (name, value) in [
            ("requests", c.requests),
            ("failed", c.failed),
            ("events", c.events),
            ("input_tokens", c.input_tokens()),
            ("output_tokens", c.output),
            ("cache_read_tokens", c.cache_read),
            ("cache_write_tokens", c.cache_write_tokens()),
            ("reasoning_tokens", c.reasoning),
            ("cost_micro_usd", c.cost_micro_usd()),
        ] {
            row.insert(name.to_owned(), value.into());
        }
        Value::Object(row)
    }
}

/// A key's figures over all time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyTotal {
    /// The key's stable id.
    pub key_id: String,
    /// Its latest name.
    pub name: String,
    /// When its latest request arrived, in milliseconds since 1970-01-01 UTC.
    pub last_used_ms: u64,
    /// The sums.
    pub counters: Counters,
}

/// What a key has spent: from this its budgets go on after a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySpend {
    /// The key's stable id.
    pub key_id: String,
    /// On the present day of UTC.
    pub day: NanoUsd,
    /// In the present calendar month of UTC.
    pub month: NanoUsd,
    /// Ever.
    pub total: NanoUsd,
}

/// What was asked for under one operation and model, over all days.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationTotal {
    /// The operation.
    pub operation: Operation,
    /// The model that clients asked for, or empty.
    pub model: String,
    /// The sums.
    pub counters: Counters,
}

impl View {
    /// The sums of every operation and model, in that order.
    pub(crate) fn operation_totals(&self) -> Vec<OperationTotal> {
        let mut sums: BTreeMap<(&str, &str), Counters> = BTreeMap::new();
        for ((_, series), counters) in &self.cells[Grain::Day as usize] {
            let series = &self.series[*series as usize];
            sums.entry((&series.operation, &series.model)).or_default().add(counters);
        }
        let total = |((operation, model), counters): ((&str, &str), Counters)| {
            Some(OperationTotal { operation: operation.parse().ok()?, model: model.to_owned(), counters })
        };
        sums.into_iter().filter_map(total).collect()
    }

    /// The rows that answer `q`, by time, then by value.
    pub(crate) fn usage(&self, q: &UsageQuery) -> Vec<UsageRow> {
        let values: Vec<Option<&str>> = (0..self.series.len()).map(|n| self.value_of(n, q)).collect();
        let step = if q.by == By::Day { Some(Step::Day) } else { q.step };
        let grain = self.grain(q, step);
        let mut sums: BTreeMap<(Option<u64>, &str), Counters> = BTreeMap::new();
        for ((bucket, series), counters) in range(&self.cells[grain as usize], grain, q.from, q.to) {
            let Some(value) = values[*series as usize] else {
                continue;
            };
            let start = u64::from(*bucket) * grain.ms();
            let time = step.map(|step| if step == Step::Month { calendar::month_start(start) } else { start });
            sums.entry((time, value)).or_default().add(counters);
        }
        let row = |((time, value), counters): ((Option<u64>, &str), Counters)| {
            let value = match (q.by, time) {
                (By::Day, Some(day)) => calendar::date(day),
                _ => value.to_owned(),
            };
            UsageRow { value, time, counters }
        };
        sums.into_iter().map(row).collect()
    }

    /// The all-time figures of every key, by id.
    pub(crate) fn key_totals(&self) -> Vec<KeyTotal> {
        let total = |(id, key): (&std::sync::Arc<str>, &super::view::KeyState)| KeyTotal {
            key_id: id.to_string(),
            name: key.name.clone(),
            last_used_ms: key.last_used_ms,
            counters: key.counters,
        };
        self.keys.iter().map(total).collect()
    }

    /// What every key has spent, by id.
    pub(crate) fn key_spends(&self, now_ms: u64) -> Vec<KeySpend> {
        let today = u64::from(Grain::Day.bucket(now_ms)) * Grain::Day.ms();
        let mut recent: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        let month = range(&self.cells[Grain::Day as usize], Grain::Day, Some(calendar::month_start(now_ms)), None);
        for ((bucket, series), counters) in month {
            let (day, month) = recent.entry(&self.series[*series as usize].key_id).or_default();
            *month = month.saturating_add(counters.cost_nano_usd);
            if u64::from(*bucket) * Grain::Day.ms() >= today {
                *day = day.saturating_add(counters.cost_nano_usd);
            }
        }
        let spend = |(id, key): (&std::sync::Arc<str>, &super::view::KeyState)| {
            let (day, month) = recent.get(&**id).copied().unwrap_or_default();
            let total = NanoUsd(key.counters.cost_nano_usd);
            KeySpend { key_id: id.to_string(), day: NanoUsd(day), month: NanoUsd(month), total }
        };
        self.keys.iter().map(spend).collect()
    }

    /// What the series is called in the answer; `None` if the question is not about it.
    fn value_of(&self, number: usize, q: &UsageQuery) -> Option<&str> {
        let series = &self.series[number];
        let wanted = q.key_id.as_deref().is_none_or(|id| id == &*series.key_id)
            && q.user.as_deref().is_none_or(|user| user == &*series.user);
        wanted.then(|| match q.by {
            By::Key => self.keys.get(&series.key_id).map_or("", |key| key.name.as_str()),
            By::User => &series.user,
            By::Model => &series.model,
            By::Channel => &series.channel,
            By::Route => &series.route,
            By::Day => "",
        })
    }

    fn grain(&self, q: &UsageQuery, step: Option<Step>) -> Grain {
        match step {
            Some(Step::Minute) => return Grain::Minute,
            Some(Step::Hour) => return Grain::Hour,
            Some(Step::Day | Step::Month) => return Grain::Day,
            None => {}
        }
        let divides = |grain: Grain| [q.from, q.to].into_iter().flatten().all(|t| t % grain.ms() == 0);
        let finest = [Grain::Day, Grain::Hour].into_iter().find(|g| divides(*g)).unwrap_or(Grain::Minute);
        let from = q.from.unwrap_or(0);
        let kept = |grain: &Grain| *grain >= finest && from >= u64::from(self.kept_from(*grain)) * grain.ms();
        Grain::ALL.into_iter().find(kept).unwrap_or(Grain::Day)
    }
}

fn range(
    cells: &Cells,
    grain: Grain,
    from: Option<u64>,
    to: Option<u64>,
) -> impl Iterator<Item = (&(u32, u32), &Counters)> {
    let first = |time: u64| u32::try_from(time.div_ceil(grain.ms())).unwrap_or(u32::MAX);
    let from = (from.map_or(0, first), 0);
    // A range whose end is before its start would panic.
    let to = to.map_or((u32::MAX, u32::MAX), |to| (first(to), 0)).max(from);
    cells.range(from..to)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::codec::{RecordRef, encode};
    use super::super::fixtures::settlement;
    use super::super::record::Settlement;
    use super::*;

    const DAY: u64 = 86_400_000;
    const HOUR: u64 = 3_600_000;
    const MINUTE: u64 = 60_000;

    fn view(all: &[Settlement]) -> View {
        let mut view = View::default();
        for s in all {
            let mut payload = Vec::new();
            encode(s, &mut payload);
            view.apply(&RecordRef::decode(&payload).unwrap());
        }
        view
    }

    fn of_model(time_ms: u64, model: &str) -> Settlement {
        Settlement { model: model.into(), ..settlement(u128::from(time_ms), time_ms) }
    }

    fn requests(rows: &[UsageRow]) -> Vec<(&str, Option<u64>, u64)> {
        rows.iter().map(|r| (r.value.as_str(), r.time, r.counters.requests)).collect()
    }

    #[test]
    fn rows_come_by_time_then_by_value() {
        let view = view(&[of_model(DAY, "b"), of_model(DAY + 1, "a"), of_model(5, "c"), of_model(DAY + 2, "a")]);
        let query = |step| UsageQuery { by: By::Model, step, ..UsageQuery::default() };
        assert_eq!(requests(&view.usage(&query(None))), [("a", None, 2), ("b", None, 1), ("c", None, 1)]);
        assert_eq!(
            requests(&view.usage(&query(Some(Step::Day)))),
            [("c", Some(0), 1), ("a", Some(DAY), 2), ("b", Some(DAY), 1)]
        );
        let by_day = UsageQuery { by: By::Day, ..UsageQuery::default() };
        assert_eq!(requests(&view.usage(&by_day)), [("1970-01-01", Some(0), 1), ("1970-01-02", Some(DAY), 3)]);
    }

    #[test]
    fn months_are_made_of_days() {
        let view = view(&[of_model(30 * DAY, "m"), of_model(31 * DAY, "m"), of_model(58 * DAY, "m")]);
        let q = UsageQuery { by: By::Model, step: Some(Step::Month), ..UsageQuery::default() };
        assert_eq!(requests(&view.usage(&q)), [("m", Some(0), 1), ("m", Some(31 * DAY), 2)]);
    }

    #[test]
    fn a_range_takes_the_buckets_that_start_in_it() {
        let all = [of_model(DAY, "m"), of_model(DAY + MINUTE, "m"), of_model(DAY + HOUR, "m"), of_model(2 * DAY, "m")];
        let view = view(&all);
        let count = |from, to| {
            let q = UsageQuery { by: By::Model, from, to, ..UsageQuery::default() };
            view.usage(&q).first().map_or(0, |row| row.counters.requests)
        };
        assert_eq!(count(Some(DAY), Some(2 * DAY)), 3);
        assert_eq!(count(Some(DAY + MINUTE), Some(2 * DAY)), 2);
        assert_eq!(count(Some(DAY + MINUTE), Some(DAY + HOUR)), 1);
        assert_eq!(count(Some(DAY + HOUR), None), 2);
        assert_eq!(count(None, Some(DAY + 1)), 1);
        assert_eq!(count(Some(2 * DAY), Some(DAY)), 0);
        assert_eq!(count(Some(u64::MAX), Some(u64::MAX)), 0);
    }

    #[test]
    fn pruned_buckets_are_answered_from_coarser_ones() {
        let mut view = view(&[of_model(DAY, "m"), of_model(DAY + MINUTE, "m"), of_model(9 * DAY + MINUTE, "m")]);
        view.prune(9 * DAY + HOUR, Duration::from_millis(HOUR), Duration::from_millis(DAY));
        let count = |from| {
            let q =
                UsageQuery { by: By::Model, from: Some(from), to: Some(9 * DAY + 2 * MINUTE), ..UsageQuery::default() };
            view.usage(&q).first().map_or(0, |row| row.counters.requests)
        };
        assert_eq!(count(9 * DAY + MINUTE), 1, "minutes are kept");
        assert_eq!(count(8 * DAY + HOUR), 1, "hours are kept");
        assert_eq!(count(DAY), 3, "days are kept");
    }

    #[test]
    fn one_key_or_user_can_be_asked_for_and_keys_go_by_their_latest_name() {
        let mut renamed = settlement(2, 10);
        renamed.key_name = "alice-desktop".into();
        let mut other = settlement(3, 10);
        (other.key_id, other.key_name, other.user) = ("k2".into(), "bob".into(), "bob".into());
        let view = view(&[settlement(1, 5), renamed, other]);
        let all = view.usage(&UsageQuery::default());
        assert_eq!(requests(&all), [("alice-desktop", None, 2), ("bob", None, 1)]);
        let of_bob = UsageQuery { user: Some("bob".into()), by: By::Model, ..UsageQuery::default() };
        assert_eq!(requests(&view.usage(&of_bob)), [("gpt-4o", None, 1)]);
        let of_k1 = UsageQuery { key_id: Some("k1".into()), by: By::User, ..UsageQuery::default() };
        assert_eq!(requests(&view.usage(&of_k1)), [("alice", None, 2)]);
        let totals = view.key_totals();
        assert_eq!(
            (totals[0].name.as_str(), totals[0].last_used_ms, totals[1].counters.requests),
            ("alice-desktop", 10, 1)
        );
    }

    #[test]
    fn spending_is_of_today_this_month_and_ever() {
        let view =
            view(&[settlement(1, 0), settlement(2, 31 * DAY), settlement(3, 33 * DAY), settlement(4, 33 * DAY + 5)]);
        let spend = &view.key_spends(33 * DAY + HOUR)[0];
        assert_eq!((spend.day, spend.month, spend.total), (NanoUsd(14), NanoUsd(21), NanoUsd(28)));
    }

    #[test]
    fn a_row_has_the_shape_of_the_interface() {
        let counters = Counters {
            requests: 4,
            failed: 1,
            events: 9,
            input_uncached: 1,
            cache_read: 2,
            cache_write_5m: 3,
            cache_write_1h: 4,
            output: 5,
            reasoning: 2,
            cost_nano_usd: 1_500,
            ..Counters::default()
        };
        let row = UsageRow { value: "alice".into(), time: Some(0), counters };
        let expected = serde_json::json!({
            "user": "alice", "time": "1970-01-01T00:00:00.000Z", "requests": 4, "failed": 1, "events": 9,
            "input_tokens": 10, "output_tokens": 5, "cache_read_tokens": 2, "cache_write_tokens": 7,
            "reasoning_tokens": 2, "cost_micro_usd": 2
        });
        assert_eq!(row.to_json(By::User), expected);
        assert_eq!(UsageRow { time: None, ..row }.to_json(By::Day)["time"], Value::Null);
    }
}
