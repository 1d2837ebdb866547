//! A run: the models of a channel are asked, each once, or once more where one answer is in doubt.
//!
//! Owns the order of things: what is set aside before a probe, what is written before and after it, and what the run
//! comes to. It refuses to know when a run is due.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use weir_filters::health::Condition;
use weir_filters::monitor::{Change, RunState, Spent, most_tokens};
use weir_filters::probe::{Bad, Question};
use weir_filters::usage::Source;

use crate::channels::Channel;
use crate::config::Probe;
use crate::control::now_ms;
use crate::proxy::Snapshot;
use crate::trial::{Errand, Tells, Told};

use super::line::{Finished, Head, Line, Shown, state_of};
use super::{Inner, models};

/// Under this name what channels were asked is counted: no key has it.
pub(super) const BOOKED: &str = "(probe)";
/// Of a channel at a time: what one key bears beside its clients.
const AT_ONCE: usize = 2;
/// Between the two probes of a model whose first answer is in doubt: a hiccup is over by then.
const DOUBT: Duration = Duration::from_secs(1);

/// A run.
pub(super) struct Run {
    pub(super) inner: Arc<Inner>,
    pub(super) live: Arc<Snapshot>,
    pub(super) channel: Arc<Channel>,
    pub(super) probe: Probe,
    pub(super) head: Head,
    /// Models that had been asked before the process was another one.
    pub(super) touched: HashSet<String>,
    /// Requests of clients since the last run, and those that failed, by model.
    pub(super) served: HashMap<String, (u64, u64)>,
}

/// Nothing more can be written, or is to be begun: the run stays open.
struct Halted;

impl Run {
    /// Makes it.
    pub(super) async fn go(self) {
        self.inner.book().opens(&self.head);
        let run = Arc::new(self);
        let listed = models::of(&run.errand(), &run.probe).await;
        let models = match listed {
            Ok(models) => models,
            Err(Bad { code, message }) => {
                log::warn!("channel `{}` lists no models to be probed ({code}): {message}", run.channel.name());
                return run.end(RunState::Error, None);
            }
        };
        if models.is_empty() {
            return run.end(RunState::NoModels, Some(&models));
        }
        let (turns, mut asked) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
        for model in models.iter().filter(|model| !run.touched.contains(*model)) {
            let (run, turns, model) = (run.clone(), turns.clone(), model.clone());
            asked.spawn(async move {
                let _turn = turns.acquire_owned().await;
                run.model(&model).await
            });
        }
        let mut is_halted = false;
        while let Some(one) = asked.join_next().await {
            is_halted |= !matches!(one, Ok(Ok(())));
        }
        if is_halted {
            return;
        }
        let results = run.inner.results(&run.head);
        run.end(state_of(&results), Some(&models));
    }

    /// With the first key that does not cool down: a model is not to blame for a key that was refused.
    fn errand(&self) -> Errand {
        let now = Instant::now();
        let is_well = |key: &usize| self.channel.key_condition(*key, now) == Condition::Healthy;
        let key = (0..self.channel.config().keys.len()).find(is_well).unwrap_or_default();
        Errand {
            shared: self.inner.shared.clone(),
            live: self.live.clone(),
            channel: self.channel.clone(),
            key,
            booked: BOOKED,
            tells: Tells::Reach,
            most: self.probe.timeout,
        }
    }

    async fn model(&self, model: &str) -> Result<(), Halted> {
        let is_proven = self.served.get(model).is_some_and(|(requests, failed)| *requests > 0 && *failed == 0);
        if self.probe.pause_on_traffic && is_proven {
            self.channel.judged(model, true);
            self.show(model, true, None);
            return self.note(model, Spent::default(), Shown::by_traffic(model));
        }
        if self.ask(model).await? == Change::Doubt {
            tokio::time::sleep(DOUBT).await;
            self.ask(model).await?;
        }
        Ok(())
    }

    /// Asks once, if that still fits.
    async fn ask(&self, model: &str) -> Result<Change, Halted> {
        let _place = self.inner.across.acquire().await;
        let most = self.most(model);
        match self.inner.begin(&self.head, model, most, self.probe.cap) {
            Ok(true) => {}
            Ok(false) => {
                let has_result = self.inner.results(&self.head).iter().any(|result| result.model == *model);
                if !has_result {
                    self.note(model, Spent::default(), Shown::skipped(model, "cap"))?;
                }
                return Ok(Change::None);
            }
            Err(_) => return Err(Halted),
        }
        let config = self.channel.config();
        let upstreams = self.channel.maps(model).unwrap_or(model);
        let question = Question {
            prompt: self.probe.prompt.clone(),
            max_tokens: self.probe.max_tokens,
            ..Question::smallest(config.protocol, upstreams, config.inject_usage)
        };
        let told = self.errand().go(model, question).await;
        let used = used(&told, most);
        let change = self.channel.judged(model, told.bad.is_none());
        self.show(model, told.bad.is_none(), Some(told.total));
        self.note(model, used, Shown::asked(model, told))?;
        Ok(change)
    }

    fn show(&self, model: &str, is_good: bool, took: Option<Duration>) {
        let seconds = took.map(|took| took.as_secs_f64());
        self.inner.shared.metrics.probed(self.channel.name(), model, is_good, seconds, now_ms());
    }

    /// The most that one probe of a model uses.
    fn most(&self, model: &str) -> Spent {
        let (input, output) = (most_tokens(&self.probe.prompt), self.probe.max_tokens);
        let cost = self.live.at_most(&self.channel, model, input, output);
        Spent { tokens: input + output, nano_usd: cost.0 }
    }

    fn note(&self, model: &str, spent: Spent, result: Shown) -> Result<(), Halted> {
        let standing = self.channel.verdict(model);
        self.inner.note(&self.head, spent, standing, result).map_err(|_| Halted)
    }

    fn end(&self, state: RunState, models: Option<&[String]>) {
        let results = self.inner.results(&self.head);
        let run = Finished { run: self.head.clone(), ended_at: now_ms(), state: state.name().to_owned(), results };
        if self.inner.write(&Line::Run(run)).is_err() {
            return;
        }
        if let Some(models) = models {
            let keep = |model: &str| models.iter().any(|known| known == model);
            self.channel.forget(keep);
            self.inner.shared.metrics.keep_probes(self.channel.name(), keep);
        }
    }
}

/// What a probe has used: as it says itself, or nothing where it was refused. Where nobody says, it may have used all.
fn used(told: &Told, most: Spent) -> Spent {
    let is_refused = told.status.is_some_and(|status| status >= 300);
    if !told.was_asked {
        Spent::default()
    } else if told.usage.source == Source::Upstream || is_refused {
        Spent { tokens: told.usage.total(), nano_usd: told.cost.0 }
    } else {
        most
    }
}
