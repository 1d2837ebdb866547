//! What the monitor tells people: how the models of channels answer, and how runs went.
//!
//! Owns the form of the rows. Amounts are told as they stand in the configuration.

use std::io;

use serde_json::{Value, json};
use weir_filters::calendar::rfc3339;
use weir_filters::price::NanoUsd;

use crate::catalog::{Kind, Refused};
use crate::channels::Channel;
use crate::config::Probe;
use crate::control::now_ms;

use super::book::{Course, Known};
use super::line::{Finished, Head, Shown};
use super::{Monitor, Schedule, millis_of};

/// Which page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// How many rows at most.
    pub limit: usize,
    /// How many come before it.
    pub skip: usize,
    /// Only channels with this in their names.
    pub q: Option<String>,
}

/// Rows of a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// Each a JSON object.
    pub rows: Vec<Value>,
    /// Where the next page begins; `None`: there is none.
    pub next: Option<usize>,
    /// How many there are in all.
    pub total: usize,
}

impl Page {
    fn of<T>(all: &[T], asked: &Asked, show: impl FnMut(&T) -> Value) -> Self {
        let end = asked.skip.saturating_add(asked.limit).min(all.len());
        let rows = all.get(asked.skip..end).unwrap_or_default().iter().map(show).collect();
        Self { rows, next: (end < all.len()).then_some(end), total: all.len() }
    }
}

impl Monitor {
    /// The channels, by name, and how their models answer.
    pub(crate) fn list(&self, asked: &Asked) -> Page {
        let live = self.inner.shared.live.load_full();
        let q = asked.q.as_deref().map(str::to_lowercase);
        let fits = |channel: &&std::sync::Arc<Channel>| {
            q.as_ref().is_none_or(|q| channel.name().to_lowercase().contains(q.as_str()))
        };
        let mut channels: Vec<_> = live.channels().iter().filter(fits).collect();
        channels.sort_by(|a, b| a.name().cmp(b.name()));
        let (book, now) = (self.inner.book(), now_ms());
        Page::of(&channels, asked, |channel| row(channel, book.of(channel.name()), now))
    }

    /// The runs of a channel, newest first.
    ///
    /// # Errors
    /// There is no such channel, or the disk does not give them.
    pub(crate) fn runs(&self, name: &str, asked: &Asked) -> Result<Page, Refused> {
        let live = self.inner.shared.live.load_full();
        if !live.channels().iter().any(|channel| **channel.name() == *name) {
            return Err(Refused::NotFound(Kind::Channel));
        }
        let (open, places) = {
            let book = self.inner.book();
            let Some(course) = book.of(name) else { return Ok(Page::default()) };
            let mut open: Vec<_> = course.open.values().cloned().collect();
            open.sort_by_key(|open| std::cmp::Reverse(open.head.begun_at));
            (open, course.runs.clone())
        };
        let all: Vec<_> = open.into_iter().map(Ok).chain(places.into_iter().rev().map(Err)).collect();
        let mut page = Page::of(&all, asked, |one| match one {
            Ok(open) => run_row(&open.head, None, "running", &open.results),
            Err(place) => match self.inner.folder.run(*place) {
                Ok(Some(Finished { run, ended_at, state, results })) => run_row(&run, Some(ended_at), &state, &results),
                // It gave way to newer ones meanwhile.
                Ok(None) => Value::Null,
                Err(e) => unreadable(&e),
            },
        });
        page.rows.retain(|row| !row.is_null());
        Ok(page)
    }
}

fn unreadable(error: &io::Error) -> Value {
    log::error!("a run cannot be read: {error}");
    Value::Null
}

fn run_row(head: &Head, ended_at: Option<u64>, state: &str, results: &[Shown]) -> Value {
    json!({
        "id": head.id,
        "begun_at": rfc3339(head.begun_at),
        "ended_at": ended_at.map(rfc3339),
        "reason": head.reason,
        "state": state,
        "results": results,
    })
}

fn row(channel: &Channel, course: Option<&Course>, now: u64) -> Value {
    let probe = channel.config().probe.as_ref();
    let last = course.and_then(|course| course.last_run);
    let spent = course.map(|course| course.spent(now)).unwrap_or_default();
    let cap = probe.map(|probe| probe.cap).unwrap_or_default();
    let models = course.filter(|_| probe.is_some()).map(|course| course.models.iter().map(model).collect::<Vec<_>>());
    json!({
        "channel": &**channel.name(),
        "state": last.map(|(_, state)| state.name()),
        "every": probe.map(|probe| crate::catalog::show::duration(probe.every)),
        "last_run_at": last.map(|(at, _)| rfc3339(at)),
        "next_run_at": probe.filter(|_| !channel.is_drained()).map(|probe| rfc3339(next(channel, probe, course, now))),
        "spent_today": { "tokens": spent.tokens, "cost_usd": NanoUsd(spent.nano_usd).written() },
        "cap": { "tokens": cap.tokens, "cost_usd": cap.nano_usd.map(|nano| NanoUsd(nano).written()) },
        "models": models.unwrap_or_default(),
    })
}

/// When the next run is due, or now, if that is past.
fn next(channel: &Channel, probe: &Probe, course: Option<&Course>, now: u64) -> u64 {
    let every_ms = millis_of(probe.every);
    let schedule = Schedule::new(channel.name(), every_ms);
    let last = course.and_then(|course| course.last_slot_of(&schedule, every_ms));
    schedule.due(schedule.next(now, last)).max(now)
}

fn model((name, known): (&String, &Known)) -> Value {
    let summary = known.series.summary();
    let ms = |us: u32| (f64::from(us) / 100.0).round() / 10.0;
    let pair = |times: Option<(u32, u32)>| (times.map(|(p50, _)| ms(p50)), times.map(|(_, p95)| ms(p95)));
    let ((first_p50, first_p95), (total_p50, total_p95)) = (pair(summary.first_token), pair(summary.total));
    let results: Vec<Value> = known
        .series
        .iter()
        .map(|point| {
            json!({
                "time": rfc3339(point.time_ms),
                "ok": point.bad.is_none(),
                "code": point.bad,
                "first_token_ms": point.first_token_us.map(ms),
                "total_ms": (point.total_us > 0).then(|| ms(point.total_us)),
            })
        })
        .collect();
    json!({
        "model": name,
        "state": known.standing.name(),
        "success_share": summary.success,
        "first_token_p50_ms": first_p50,
        "first_token_p95_ms": first_p95,
        "total_p50_ms": total_p50,
        "total_p95_ms": total_p95,
        "results": results,
    })
}
