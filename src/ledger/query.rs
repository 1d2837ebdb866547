//! Owns the questions that can be asked of the totals. Refuses to know where totals come from.
//!
//! A range `[from, to)` selects the buckets that start in it. With a step the buckets are the step's
//! (a month's are its days). Without one they are the coarsest that the range's ends are whole
//! multiples of, so that the answer is exact; if buckets that fine are not kept as far back as
//! `from`, the next coarser ones that are. Days are kept for ever.

mod served;
#[cfg(test)]
mod tests;
mod top;

use std::collections::{BTreeMap, HashMap};

pub use top::{TooManyRows, Top};

use serde_json::{Map, Value};
use weir_filters::calendar;
use weir_filters::limits::{Past, Spent, Taken};
use weir_filters::price::NanoUsd;
use weir_filters::route::Operation;

use super::counters::Counters;
use super::view::{Cells, Grain, Series, View};

/// Rows of one answer. Each is some 350 bytes of JSON: all of them are 35 MB, which are made in less than a second.
pub const MAX_ROWS: usize = 100_000;

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
    /// Every one.
    pub const ALL: [By; 6] = [By::Key, By::User, By::Model, By::Channel, By::Route, By::Day];

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

impl Step {
    /// Every one.
    pub const ALL: [Step; 4] = [Step::Minute, Step::Hour, Step::Day, Step::Month];

    /// The name in queries.
    pub const fn name(self) -> &'static str {
        match self {
            Step::Minute => "minute",
            Step::Hour => "hour",
            Step::Day => "day",
            Step::Month => "month",
        }
    }
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
        let mut row = Map::new();
        row.insert(by.name().to_owned(), Value::from(self.value.as_str()));
        row.insert("time".to_owned(), self.time.map(calendar::rfc3339).into());
        row.extend(self.counters.figures());
        Value::Object(row)
    }
}

impl Counters {
    /// The sums under the names that they have in every answer.
    pub fn figures(&self) -> Map<String, Value> {
        let figures = [
            ("requests", self.requests),
            ("failed", self.failed),
            ("events", self.events),
            ("input_tokens", self.input_tokens()),
            ("output_tokens", self.output),
            ("cache_read_tokens", self.cache_read),
            ("cache_write_tokens", self.cache_write_tokens()),
            ("reasoning_tokens", self.reasoning),
            ("cost_micro_usd", self.cost_micro_usd()),
            ("cost_nano_usd", self.cost_nano_usd),
            ("unpriced", self.unpriced),
        ];
        figures.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect()
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

/// What was used by now: from this limits go on after a restart. By the ids of keys, the names of users and
/// those of channels.
///
/// Requests are those that did not fail: a refusal is a record too, and took nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spends {
    /// By key.
    pub keys: HashMap<String, Past>,
    /// By user; empty names: keys without a user.
    pub users: HashMap<String, Past>,
    /// By channel; empty names: requests that no channel served.
    pub channels: HashMap<String, Past>,
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
        if is_all_of_a_key(q) {
            return self.all_of_a_key(q);
        }
        let mut sums: BTreeMap<(Option<u64>, &str), Counters> = BTreeMap::new();
        for (time, value, counters) in self.counted(q) {
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

    /// The same of the values that cost most, so many, with what the others come to.
    pub(crate) fn top(&self, q: &UsageQuery, most: Option<usize>) -> Result<Top, TooManyRows> {
        let most = most.unwrap_or(usize::MAX);
        if q.by == By::Day || is_all_of_a_key(q) {
            // A day is a value of its own, and those of a century are few.
            let rows = self.usage(q);
            return Top::of(|| rows.iter().map(|row| (row.time, row.value.as_str(), &row.counters)), most, MAX_ROWS);
        }
        Top::of(|| self.counted(q), most, MAX_ROWS)
    }

    /// A key's sum over all time is kept: whoever has the key may ask for it, and need not have all days gone through.
    fn all_of_a_key(&self, q: &UsageQuery) -> Vec<UsageRow> {
        let key = q.key_id.as_deref().and_then(|id| self.keys.get(id));
        let row =
            |key: &super::keys::KeyState| UsageRow { value: key.name.clone(), time: None, counters: key.counters };
        key.map(row).into_iter().collect()
    }

    /// What `q` is about, each with the step and the value that it is counted under.
    fn counted<'v>(&'v self, q: &UsageQuery) -> impl Iterator<Item = (Option<u64>, &'v str, &'v Counters)> + use<'v> {
        let values: Vec<Option<&str>> = (0..self.series.len()).map(|n| self.value_of(n, q)).collect();
        let step = if q.by == By::Day { Some(Step::Day) } else { q.step };
        let grain = self.grain(q, step);
        range(&self.cells[grain as usize], grain, q.from, q.to).filter_map(move |((bucket, series), counters)| {
            let value = values[*series as usize]?;
            let start = u64::from(*bucket) * grain.ms();
            let time = step.map(|step| if step == Step::Month { calendar::month_start(start) } else { start });
            Some((time, value, counters))
        })
    }

    /// The all-time figures of every key, by id.
    pub(crate) fn key_totals(&self) -> Vec<KeyTotal> {
        let total = |(id, key): (&std::sync::Arc<str>, &super::keys::KeyState)| KeyTotal {
            key_id: id.to_string(),
            name: key.name.clone(),
            last_used_ms: key.last_used_ms,
            counters: key.counters,
        };
        self.keys.iter().map(total).collect()
    }

    /// What was spent by `now_ms`. The keys' sums over all time are kept apart; the others' are those of all
    /// days, which are kept for ever.
    pub(crate) fn spends(&self, now_ms: u64) -> Spends {
        let today = Grain::Day.bucket(now_ms);
        let month = Grain::Day.bucket(calendar::month_start(now_ms));
        let mut spends = Spends::default();
        for ((bucket, series), counters) in &self.cells[Grain::Day as usize] {
            let series = &self.series[*series as usize];
            let cost = |counts| NanoUsd(if counts { counters.cost_nano_usd } else { 0 });
            let spent = Spent { day: cost(*bucket == today), month: cost(*bucket >= month), total: cost(true) };
            // A record from ahead of the clock is spent all the same.
            spends.add(series, &Past { spent, ..Past::default() });
        }
        let minute = Grain::Minute.bucket(now_ms);
        for ((bucket, series), counters) in self.cells[Grain::Minute as usize].range((minute.saturating_sub(1), 0)..) {
            let tokens = counters.input_tokens().saturating_add(counters.output);
            let taken = Taken { requests: counters.requests.saturating_sub(counters.failed), tokens };
            let minutes = if *bucket >= minute { [taken, Taken::default()] } else { [Taken::default(), taken] };
            spends.add(&self.series[*series as usize], &Past { minutes, ..Past::default() });
        }
        spends
    }

    /// What the series is called in the answer; `None` if the question is not about it.
    fn value_of(&self, number: usize, q: &UsageQuery) -> Option<&str> {
        let series = &self.series[number];
        let wanted = q.key_id.as_deref().is_none_or(|id| id == &*series.key_id)
            && q.user.as_deref().is_none_or(|user| user == &*series.user);
        wanted.then(|| match q.by {
            By::Key => self.keys.at(series.key).name.as_str(),
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

/// Whether one key's use over all time is asked for, and nothing else.
fn is_all_of_a_key(q: &UsageQuery) -> bool {
    let UsageQuery { by, from, to, step, key_id, user } = q;
    *by == By::Key && key_id.is_some() && user.is_none() && (from, to, step) == (&None, &None, &None)
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

impl Spends {
    fn add(&mut self, series: &Series, more: &Past) {
        for (of, name) in
            [(&mut self.keys, &series.key_id), (&mut self.users, &series.user), (&mut self.channels, &series.channel)]
        {
            if let Some(sum) = of.get_mut(&**name) {
                add(sum, more);
            } else {
                of.insert(name.to_string(), *more);
            }
        }
    }
}

fn add(sum: &mut Past, more: &Past) {
    let Past { spent, minutes } = sum;
    let sums = [&mut spent.day.0, &mut spent.month.0, &mut spent.total.0];
    for (sum, more) in sums.into_iter().zip([more.spent.day.0, more.spent.month.0, more.spent.total.0]) {
        *sum = sum.saturating_add(more);
    }
    for (sum, more) in minutes.iter_mut().zip(more.minutes) {
        sum.requests = sum.requests.saturating_add(more.requests);
        sum.tokens = sum.tokens.saturating_add(more.tokens);
    }
}
