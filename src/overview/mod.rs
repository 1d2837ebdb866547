//! How the gateway is, on one page: what needs somebody, what happens now, and the last day.
//!
//! Owns what the overview shows and what it costs. It is asked for every few seconds by everybody who looks: all of it
//! comes from memory, each part is made once a second at most however many ask, and a part that is dear less often
//! ([`paced`]). It refuses to know who asks, and takes no lock that a request waits for longer than for any other.

mod conditions;
mod facts;
mod paced;
mod pulse;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::statvfs;
use serde_json::{Value, json};
use weir_filters::attention::{self, Attention};
use weir_filters::calendar;

use crate::control::{Reloaded, now_ms};
use crate::ledger::{Counters, Course};
use crate::proxy::{Shared, Snapshot};

use paced::Paced;
use pulse::Pulse;

/// What is shown, and what it is made of.
pub(crate) struct Overview {
    shared: Arc<Shared>,
    data_dir: PathBuf,
    started: Instant,
    pulse: Pulse,
    course: Paced<Arc<Value>>,
    channels: Paced<Arc<[Attention]>>,
    budgets: Paced<Arc<[Attention]>>,
    /// What the rest calls for.
    troubles: Paced<Arc<[Attention]>>,
}

impl Overview {
    /// Of a gateway that begins now.
    pub(crate) fn new(shared: Arc<Shared>, data_dir: PathBuf) -> Self {
        Self {
            pulse: Pulse::start(shared.clone()),
            shared,
            data_dir,
            started: Instant::now(),
            course: Paced::new(),
            channels: Paced::new(),
            budgets: Paced::new(),
            troubles: Paced::new(),
        }
    }

    /// The page, of a gateway whose parts `not_ready` (each with what is the matter) keep it from serving, and that was
    /// last `reloaded` so.
    pub(crate) fn show(&self, not_ready: &[(&str, &str)], reloaded: Option<&Reloaded>) -> Value {
        let (now, live) = (Instant::now(), self.shared.live.load_full());
        let mut all: Vec<Attention> =
            not_ready.iter().map(|(part, message)| attention::not_ready(part, message)).collect();
        if let Some(refused) = reloaded.filter(|reloaded| !reloaded.faults.is_empty()) {
            all.push(attention::refused(refused.faults.len(), refused.faults.first().map(|fault| &*fault.message)));
        }
        all.extend(self.troubles.get(now, || self.troubles(now).into()).iter().cloned());
        all.extend(self.channels.get(now, || facts::of_channels(&live, now).into()).iter().cloned());
        all.extend(self.budgets(now, &live).iter().cloned());
        let (all, omitted) = attention::sorted(all);
        let all: Vec<Value> = all.into_iter().map(told).collect();

        let counted = self.shared.metrics.first_tokens();
        let (rate, first_tokens) = {
            let seen = self.pulse.seen();
            (seen.rate(), seen.recent_first_tokens(&counted))
        };
        let millis = |q| first_tokens.quantile(q).map(|seconds| (seconds * 10_000.0).round() / 10.0);
        let course = self.course.get(now, || Arc::new(shown(&self.shared.ledger.course(now_ms()))));
        let mut page = json!({
            "time": calendar::rfc3339(now_ms()),
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_s": self.started.elapsed().as_secs(),
            "ready": not_ready.is_empty(),
            "attention": all,
            "attention_omitted": omitted,
            "now": {
                "requests_per_s": (rate * 100.0).round() / 100.0,
                "streams": self.shared.metrics.streams(),
                "in_flight": self.shared.in_flight.count(),
            },
            "first_token_ms": { "p50": millis(0.5), "p95": millis(0.95) },
        });
        if let (Some(page), Value::Object(course)) = (page.as_object_mut(), &*course) {
            page.extend(course.clone());
        }
        page
    }

    /// How many keys, users or channels (`subject`) have a budget that is `near` its end or `spent`. It is found as seldom
    /// as for the page: a scrape makes it no dearer.
    pub(crate) fn tight_budgets(&self) -> impl Fn(&str, &str) -> usize + use<> {
        let budgets = self.budgets(Instant::now(), &self.shared.live.load());
        move |subject, state| {
            let is_asked_for = |one: &&Attention| {
                one.kind.strip_prefix("budget_") == Some(state) && one.values.get("of").is_some_and(|of| of == subject)
            };
            budgets.iter().filter(is_asked_for).count()
        }
    }

    fn budgets(&self, now: Instant, live: &Snapshot) -> Arc<[Attention]> {
        self.budgets.get(now, || facts::of_budgets(&self.shared, live).into())
    }

    fn troubles(&self, now: Instant) -> Vec<Attention> {
        let mut all: Vec<Attention> = {
            let seen = self.pulse.seen();
            seen.courses(now).iter().flat_map(|(name, course)| attention::sink(name, course)).collect()
        };
        let status = self.shared.ledger.status();
        // Who waits for another process to leave has no store yet.
        if status.leads && !status.store_up {
            all.push(attention::store(status.fold_lag_records));
        }
        if let Ok(place) = statvfs(&self.data_dir) {
            let inodes = (place.f_files > 0).then_some(place.f_favail);
            all.extend(attention::disk(place.f_bavail.saturating_mul(place.f_frsize), inodes));
        }
        all
    }
}

fn told(attention: Attention) -> Value {
    let Attention { kind, level, subject, values } = attention;
    json!({ "kind": kind, "level": level.name(), "subject": subject, "values": values })
}

/// The figures of the last day, as the page has them.
fn shown(course: &Course) -> Value {
    let Course { today, yesterday, yesterday_whole, step_ms, pieces } = course;
    let mut until_now = today.figures();
    until_now.insert("spend_nano_usd".to_owned(), today.cost_nano_usd.into());
    let mut before = yesterday.figures();
    before.insert("whole".to_owned(), yesterday_whole.figures().into());
    let series: Vec<Value> = pieces.iter().map(|(time, counters)| piece(*time, counters)).collect();
    json!({ "today": until_now, "yesterday": before, "series_step_s": step_ms / 1000, "series": series })
}

fn piece(time: u64, counters: &Counters) -> Value {
    json!({
        "time": calendar::rfc3339(time),
        "requests": counters.requests,
        "failed": counters.failed,
        "cost_micro_usd": counters.cost_micro_usd(),
        "input_tokens": counters.input_tokens(),
        "output_tokens": counters.output,
    })
}
